//! PURE. Bytes from the kernel to samples; jiffies and sequence numbers end here.
//!
//! **Invariant:** any bytes give samples or an error, never a panic.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use detector_ebpf::{
    AF_INET, AF_INET6, GATEWAY_ON_LINK, KIND_ACTIVE, KIND_CLOSED, KIND_SUSPICIOUS, KIND_TIMEOUT,
    RawCounts, RawFlow, RawHolder, RawNextHop, RawSock,
};
use zerocopy::FromBytes;

use super::uplinks::Flow;
use crate::{
    model::{ConnectionId, Counts, IfIndex, Input, NetnsId, NextHop, Origin, Sample, TcpState},
    time::Time,
};

/// `ICSK_TIME_PROBE0`, `include/net/inet_connection_sock.h`.
const TIMER_PROBE: u8 = 3;
/// `TCP_RTO_MAX` in seconds, `include/net/tcp.h`: from there on the backoff does not double.
const RTO_MAX: u64 = 120;

/// The kernel wrote something that is not a record.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Wrong length.
    #[error("the kernel wrote {got} bytes where a multiple of {want} was expected")]
    Torn {
        /// Size of a record.
        want: usize,
        /// What came.
        got: usize,
    },
    /// Unknown kind.
    #[error("the kernel wrote a record of the unknown kind {0}")]
    Kind(u8),
}

/// Turns one event of the ring into an input.
///
/// # Errors
/// When it is not a record.
pub fn event(bytes: &[u8], hz: u64) -> Result<Input, DecodeError> {
    let raw = RawSock::read_from_bytes(bytes).map_err(|_| DecodeError::Torn {
        want: size_of::<RawSock>(),
        got: bytes.len(),
    })?;
    match raw.kind {
        KIND_CLOSED => Ok(Input::Closed(ConnectionId(raw.cookie))),
        KIND_TIMEOUT => Ok(Input::Timeout(sample(&raw, hz)?)),
        other => Err(DecodeError::Kind(other)),
    }
}

/// Turns everything that a sweep wrote into samples.
///
/// # Errors
/// When it is not a row of records.
pub fn records(bytes: &[u8], hz: u64) -> Result<Vec<Sample>, DecodeError> {
    let rows = rows::<RawSock>(bytes)?;
    let mut samples = Vec::with_capacity(rows.len());
    for raw in rows {
        samples.push(sample(&raw, hz)?);
    }
    Ok(samples)
}

/// Turns everything that a walk over open files wrote into inodes and processes.
///
/// # Errors
/// When it is not a row of records.
pub fn holders(bytes: &[u8]) -> Result<Vec<(u64, u32)>, DecodeError> {
    let rows = rows::<RawHolder>(bytes)?;
    Ok(rows.map(|raw| (raw.inode, raw.pid)).collect())
}

/// A row of records of one size.
fn rows<T: FromBytes>(bytes: &[u8]) -> Result<impl ExactSizeIterator<Item = T>, DecodeError> {
    let size = size_of::<T>();
    if !bytes.len().is_multiple_of(size) {
        return Err(DecodeError::Torn {
            want: size,
            got: bytes.len(),
        });
    }
    let rows = bytes.chunks_exact(size);
    Ok(rows.map(|row| T::read_from_bytes(row).unwrap_or_else(|_| T::new_zeroed())))
}

/// One record, in our units.
///
/// # Errors
/// When it is of an unknown kind.
pub(super) fn sample(raw: &RawSock, hz: u64) -> Result<Sample, DecodeError> {
    let origin = match raw.kind {
        KIND_SUSPICIOUS => Origin::Suspicious,
        KIND_ACTIVE => Origin::Active,
        KIND_TIMEOUT => Origin::Timeout,
        other => return Err(DecodeError::Kind(other)),
    };
    let clock = Clock {
        at: Time(raw.observed_ns),
        jiffies: raw.jiffies,
        hz: hz.max(1),
    };
    Ok(Sample {
        id: ConnectionId(raw.cookie),
        at: clock.at,
        origin,
        netns: NetnsId(raw.netns),
        local: SocketAddr::new(address(raw.local), raw.local_port),
        remote: SocketAddr::new(address(raw.remote), raw.remote_port),
        tcp_state: tcp_state(raw.state),
        next_hop: gateway(raw.gateway, raw.gateway_family).and_then(|gateway| {
            let interface = IfIndex(raw.ifindex);
            (raw.ifindex != 0).then_some(NextHop {
                netns: NetnsId(raw.netns),
                interface,
                gateway,
            })
        }),
        mark: raw.mark,
        device: (raw.bound_dev_if != 0).then_some(IfIndex(raw.bound_dev_if)),
        uid: raw.uid,
        inode: (raw.inode != 0).then_some(raw.inode),
        snd_una: raw.snd_una,
        unacked: raw.snd_nxt.wrapping_sub(raw.snd_una),
        unsent: raw.write_seq.wrapping_sub(raw.snd_nxt),
        packets_out: raw.packets_out,
        timeouts: raw.retransmits,
        probes: raw.probes_out,
        persist: raw.pending == TIMER_PROBE,
        backoff: raw.backoff,
        peer_window: raw.snd_wnd,
        mss: raw.mss_cache,
        head: (raw.head_len != 0).then_some(raw.head_len),
        rto: clock.span(u64::from(raw.rto)),
        srtt: (raw.srtt_us != 0).then(|| Duration::from_micros(u64::from(raw.srtt_us >> 3))),
        stuck_since: stuck_since(raw, clock),
        sent_at: clock.moment(raw.lsndtime),
        acked_at: acked_at(raw, clock),
        heard_at: clock.moment(raw.rcv_tstamp),
        bytes_acked: raw.bytes_acked,
        segments_out: raw.data_segs_out,
        retransmissions: raw.total_retrans,
        send_error: raw.err.checked_neg().filter(|errno| *errno > 0),
        user_timeout: (raw.user_timeout != 0)
            .then(|| Duration::from_millis(u64::from(raw.user_timeout))),
        duplicates: raw.dsack_dups,
        unreachable: (raw.err_soft > 0).then_some(raw.err_soft),
        next_try: (raw.pending != 0).then(|| clock.ahead(raw.timer_expires)),
        rcv_nxt: raw.rcv_nxt,
        received_at: clock.moment(raw.lrcvtime),
        bytes_received: raw.bytes_received,
        hole: raw.hole != 0,
        memory: (raw.memory != 0).then_some(raw.memory),
    })
}

/// A next hop at which a sweep counted; `None` without a cached route.
pub fn next_hop(raw: &RawNextHop) -> Option<NextHop> {
    let family = u16::try_from(raw.gateway_family).unwrap_or(u16::MAX);
    let gateway = gateway(raw.gateway, family).filter(|_| raw.ifindex != 0)?;
    Some(NextHop {
        netns: NetnsId(raw.netns),
        interface: IfIndex(raw.ifindex),
        gateway,
    })
}

/// The addresses between which a sweep counted.
pub fn flow(raw: &RawFlow) -> Flow {
    Flow {
        netns: NetnsId(raw.next_hop.netns),
        local: address(raw.local),
        remote: address(raw.remote),
        gateway: next_hop(&raw.next_hop).and_then(|hop| hop.gateway),
        device: None,
    }
}

/// What a sweep counted.
pub fn counts(raw: &RawCounts) -> Counts {
    Counts {
        suspicious: raw.suspicious,
        busy: raw.busy,
        app_limited: raw.app_limited,
        waiting: raw.waiting,
        idle: raw.idle,
        handshakes: raw.handshakes,
        receiving: raw.receiving,
        fell_silent: raw.fell_silent,
    }
}

/// When data was last acknowledged, or shortly after.
///
/// The earlier of two upper bounds: when a segment with an acknowledgement last arrived, which may be data
/// of the peer and acknowledge nothing new (a peer that does not hear us repeats what it sent); and when
/// the newest segment was acknowledged, which is not known without selective acknowledgements.
fn acked_at(raw: &RawSock, clock: Clock) -> Time {
    let heard = clock.moment(raw.rcv_tstamp);
    match raw.delivered_us {
        0 => heard,
        delivered => heard.min(Time(delivered.saturating_mul(1000))),
    }
}

/// When outstanding data began to wait, as far as the kernel's timers tell.
///
/// In order; the earlier of the first two counts, since each is a lower bound of the age:
/// 1. after n doublings the first copy was sent `rto·(2ⁿ−1)/2ⁿ` before the last one
///    (RFC 6298 §5.5); useless once the timeout has reached its limit
/// 2. the first repetition of this episode, unless an acknowledgement came after it
/// 3. the first unanswered window probe, unless an acknowledgement came after it
fn stuck_since(raw: &RawSock, clock: Clock) -> Option<Time> {
    let rto = u64::from(raw.rto);
    let sent_at = clock.moment(raw.lsndtime);
    if raw.retransmits > 0 {
        let backoff = u32::from(raw.backoff).min(30);
        let base = rto >> backoff;
        let by_backoff = (rto < RTO_MAX.saturating_mul(clock.hz))
            .then(|| sent_at.before(clock.span(base * ((1 << backoff) - 1))));
        let first = clock
            .stamp(raw.retrans_stamp)
            .map(|at| at.before(clock.span(base)));
        let by_stamp = first.filter(|first| clock.moment(raw.rcv_tstamp) <= *first);
        return [by_backoff, by_stamp].into_iter().flatten().min();
    }
    if raw.pending == TIMER_PROBE && raw.probes_out > 0 && raw.probes_tstamp != 0 {
        // The stamp outlives its episode when the application sends before a probe is due.
        let first = clock.moment(raw.probes_tstamp);
        return (clock.moment(raw.rcv_tstamp) <= first).then(|| first.before(clock.span(rto)));
    }
    None
}

/// The kernel's clocks at one moment.
#[derive(Clone, Copy)]
struct Clock {
    at: Time,
    jiffies: u64,
    hz: u64,
}

impl Clock {
    fn span(self, jiffies: u64) -> Duration {
        Duration::from_nanos(jiffies.saturating_mul(1_000_000_000 / self.hz))
    }

    /// A moment of the past that the kernel holds as the low half of the jiffies.
    fn moment(self, low: u32) -> Time {
        let ago = (self.jiffies as u32).wrapping_sub(low);
        // A moment slightly ahead is now: the two clocks were not read at the same instant.
        let ago = if ago > u32::MAX / 2 { 0 } else { ago };
        self.at.before(self.span(u64::from(ago)))
    }

    /// A moment in full jiffies, of the past or the future.
    fn ahead(self, jiffies: u64) -> Time {
        if jiffies >= self.jiffies {
            self.at.after(self.span(jiffies - self.jiffies))
        } else {
            self.at.before(self.span(self.jiffies - jiffies))
        }
    }

    /// A moment of the past in milliseconds of the TCP clock (`tcp_clock_ms`); 0 is none.
    fn stamp(self, milliseconds: u32) -> Option<Time> {
        let ago = ((self.at.0 / 1_000_000) as u32).wrapping_sub(milliseconds);
        (milliseconds != 0 && ago < u32::MAX / 2)
            .then(|| self.at.before(Duration::from_millis(u64::from(ago))))
    }
}

fn address(bytes: [u8; 16]) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
}

/// `None`: not known. `Some(None)`: on the link.
fn gateway(bytes: [u8; 16], family: u16) -> Option<Option<IpAddr>> {
    match family {
        GATEWAY_ON_LINK => Some(None),
        AF_INET => {
            let [a, b, c, d, ..] = bytes;
            Some(Some(IpAddr::V4(Ipv4Addr::new(a, b, c, d))))
        }
        AF_INET6 => Some(Some(address(bytes))),
        _ => None,
    }
}

/// `include/net/tcp_states.h`.
fn tcp_state(raw: u8) -> TcpState {
    match raw {
        1 => TcpState::Established,
        4 => TcpState::FinWait1,
        5 => TcpState::FinWait2,
        8 => TcpState::CloseWait,
        9 => TcpState::LastAck,
        11 => TcpState::Closing,
        _ => TcpState::Other,
    }
}

#[cfg(test)]
mod tests;

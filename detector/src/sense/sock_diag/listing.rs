//! PURE. What netlink tells of connections, put into the records that the programs write, with a jiffy
//! of a millisecond, so that the same code reads both. It is `struct inet_diag_msg` with
//! `struct tcp_info`: `include/uapi/linux/inet_diag.h`, `include/uapi/linux/tcp.h`.

use std::{collections::BTreeMap, io, net::IpAddr};

use anyhow::ensure;
use detector_ebpf::{GATEWAY_UNKNOWN, KIND_ACTIVE, KIND_SUSPICIOUS, LOOPBACK, RawSock, Settings};
use netlink_packet_sock_diag::{
    SockDiagMessage,
    inet::{InetResponse, InetResponseHeader, Timer, nlas::Nla},
};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use zerocopy::{FromBytes, FromZeros as _, Immutable, IntoBytes, KnownLayout};

use crate::{
    model::{Counts, Destination, IfIndex, NetnsId, Sample, TcpState},
    sense::{decode, settings, sweep::Seen, uplinks::Flow},
    time::Time,
};

/// Jiffies per second of the records made here.
const HZ: u64 = 1000;
/// `ICSK_TIME_RETRANS` and `ICSK_TIME_PROBE0`, `include/net/inet_connection_sock.h`.
const TIMER_RETRANSMIT: u8 = 1;
const TIMER_PROBE: u8 = 3;
/// `TCP_SYN_SENT`, `include/net/tcp_states.h`.
const SYN_SENT: u8 = 2;

/// `struct tcp_info` as far as it is used. Older kernels end sooner: what they lack is zero.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Info {
    state: u8,
    ca_state: u8,
    retransmits: u8,
    probes: u8,
    backoff: u8,
    bits: [u8; 3],
    rto_us: u32,
    ato: u32,
    snd_mss: u32,
    rcv_mss: u32,
    unacked: u32,
    unused1: [u32; 4],
    last_data_sent: u32,
    last_ack_sent: u32,
    last_data_recv: u32,
    last_ack_recv: u32,
    unused2: [u32; 2],
    rtt_us: u32,
    unused3: [u32; 7],
    total_retrans: u32,
    unused4: [u64; 2],
    bytes_acked: u64,
    bytes_received: u64,
    unused5: [u32; 2],
    notsent_bytes: u32,
    unused6: [u32; 2],
    data_segs_out: u32,
    unused7: [u64; 4],
    unused8: [u32; 2],
    unused9: [u64; 2],
    dsack_dups: u32,
    unused10: [u32; 2],
    snd_wnd: u32,
}
const _: () = assert!(size_of::<Info>() == 232);
const _: () = assert!(core::mem::offset_of!(Info, total_retrans) == 100);
const _: () = assert!(core::mem::offset_of!(Info, data_segs_out) == 156);

/// One moment on the clock of the records.
#[derive(Debug, Clone, Copy)]
struct Moment {
    at: Time,
    jiffies: u64,
}

impl Moment {
    fn of(at: Time) -> Self {
        // Far from zero, so that nothing lies before the beginning.
        let jiffies = at.0 / (1_000_000_000 / HZ) + u64::from(u32::MAX);
        Self { at, jiffies }
    }

    fn ago(self, milliseconds: u32) -> u32 {
        (self.jiffies as u32).wrapping_sub(milliseconds)
    }
}

/// What is told of all connections.
#[derive(Debug)]
pub struct Listing {
    netns: NetnsId,
    settings: Settings,
    samples: Vec<Sample>,
    /// Of each pair of addresses, on each interface that connections are bound to.
    flows: BTreeMap<(IpAddr, IpAddr, Option<IfIndex>), (Flow, Counts)>,
    /// Samples at work of each destination, by where they come from.
    at_work: BTreeMap<(IpAddr, Option<IfIndex>, Destination), u32>,
}

impl Listing {
    /// Of nothing yet, for a network namespace.
    pub fn new(netns: NetnsId) -> Self {
        Self {
            netns,
            settings: settings::of(netns, HZ, settings::Abilities::default()),
            samples: Vec::new(),
            flows: BTreeMap::new(),
            at_work: BTreeMap::new(),
        }
    }

    /// Takes what the kernel has sent at once, read at some time; whether that was the end.
    ///
    /// # Errors
    /// When the kernel says that it failed, or what it sent cannot be read.
    pub fn take(&mut self, datagram: &[u8], at: Time) -> anyhow::Result<bool> {
        let moment = Moment::of(at);
        let mut rest = datagram;
        while !rest.is_empty() {
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest)?;
            let length = message.header.length as usize;
            match message.payload {
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                    self.add(&response, moment);
                }
                // A walk that fails in the kernel ends so, too.
                NetlinkPayload::Done(done) if done.code < 0 => {
                    return Err(failure(done.code).into());
                }
                NetlinkPayload::Done(_) => return Ok(true),
                NetlinkPayload::Error(error) => return Err(failure(error.raw_code()).into()),
                _ => {}
            }
            ensure!(length > 0, "netlink has sent a message without a length");
            // Messages begin at multiples of four (`NLMSG_ALIGNTO`).
            let next = length.next_multiple_of(4);
            rest = rest.get(next..).unwrap_or_default();
        }
        Ok(false)
    }

    fn add(&mut self, response: &InetResponse, moment: Moment) {
        let Some((info, mark)) = details(response) else {
            return;
        };
        let mut raw = record(&response.header, &info, self.netns, moment);
        raw.mark = mark;
        let loopback = response.header.socket_id.interface_id == LOOPBACK;
        if loopback
            || (raw.state == SYN_SENT
                && u32::from(raw.retransmits) < self.settings.handshake_timeouts)
        {
            return;
        }
        let counts = count(&raw, &info, &self.settings);
        raw.kind = if counts.suspicious > 0 {
            KIND_SUSPICIOUS
        } else {
            KIND_ACTIVE
        };
        let Ok(sample) = decode::sample(&raw, HZ) else {
            return;
        };
        let flow = Flow::from(&sample);
        let key = (flow.local, flow.remote, flow.device);
        let (_, sum) = self.flows.entry(key).or_insert((flow, Counts::default()));
        sum.add(&counts);
        // Everything that looks wrong, and a few of those at work for each destination.
        let destination = Destination::of(flow.remote);
        let at_work = (flow.local, flow.device, destination);
        let count = self.at_work.entry(at_work).or_default();
        if counts.suspicious > 0 {
            self.samples.push(sample);
        } else if counts.active() > 0 && *count < self.settings.samples_per_destination {
            *count += 1;
            self.samples.push(sample);
        }
    }

    /// All of it.
    pub fn seen(self) -> Seen {
        let mut seen = Seen::default();
        seen.sweep.samples = self.samples;
        seen.flows = self.flows.into_values().collect();
        seen
    }
}

/// One connection that was asked for, read at some time; `None` for what is none, a listener for instance.
pub fn sample(response: &InetResponse, netns: NetnsId, at: Time) -> Option<Sample> {
    let (info, mark) = details(response)?;
    let mut raw = record(&response.header, &info, netns, Moment::of(at));
    raw.mark = mark;
    raw.kind = KIND_SUSPICIOUS;
    let sample = decode::sample(&raw, HZ).ok()?;
    (sample.tcp_state != TcpState::Other).then_some(sample)
}

/// What a negative error number of the kernel's says. Its own conversion in
/// `netlink-packet-core` 0.9 overflows for the smallest number.
pub fn failure(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code.saturating_abs())
}

/// The attributes that are used.
fn details(response: &InetResponse) -> Option<(Info, u32)> {
    let mut info = None;
    let mut mark = 0;
    for nla in &response.nlas {
        match nla {
            Nla::TcpInfo(bytes) => {
                let mut whole = [0; size_of::<Info>()];
                let length = bytes.len().min(whole.len());
                whole[..length].copy_from_slice(&bytes[..length]);
                info = Info::read_from_bytes(&whole).ok();
                // Of 5.3 and before nobody learns the window; a closed one is told by the timer.
                if let Some(info) = info.as_mut().filter(|_| length < whole.len()) {
                    info.snd_wnd = u32::MAX;
                }
            }
            Nla::Mark(value) => mark = *value,
            _ => {}
        }
    }
    Some((info?, mark))
}

/// The record that a program would write of the same connection, as far as netlink tells.
fn record(header: &InetResponseHeader, info: &Info, netns: NetnsId, moment: Moment) -> RawSock {
    let id = &header.socket_id;
    let mapped = |address: IpAddr| match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    };
    // What was acknowledged moves as the sequence numbers do, which are not told.
    let snd_una = info.bytes_acked as u32;
    let unsent = info.notsent_bytes.min(header.send_queue);
    let (pending, expires) = match &header.timer {
        Some(Timer::Retransmit(expires, _)) => (TIMER_RETRANSMIT, Some(expires)),
        Some(Timer::Probe(expires)) => (TIMER_PROBE, Some(expires)),
        _ => (0, None),
    };
    let expires = expires.map_or(0, |it| u64::try_from(it.as_millis()).unwrap_or(0));
    let mut raw = RawSock::new_zeroed();
    raw.cookie = u64::from_ne_bytes(id.cookie);
    raw.observed_ns = moment.at.0;
    raw.jiffies = moment.jiffies;
    raw.bytes_acked = info.bytes_acked;
    raw.bytes_received = info.bytes_received;
    raw.timer_expires = moment.jiffies + expires;
    raw.inode = header.inode.into();
    raw.local = mapped(id.source_address);
    raw.remote = mapped(id.destination_address);
    raw.netns = netns.0;
    raw.uid = header.uid;
    raw.snd_una = snd_una;
    raw.write_seq = snd_una.wrapping_add(header.send_queue);
    raw.snd_nxt = raw.write_seq.wrapping_sub(unsent);
    raw.rcv_nxt = info.bytes_received as u32;
    raw.snd_wnd = match info.snd_wnd {
        u32::MAX if pending == TIMER_PROBE => 0,
        told => told,
    };
    raw.packets_out = info.unacked;
    raw.dsack_dups = info.dsack_dups;
    raw.mss_cache = info.snd_mss;
    raw.rto = info.rto_us / 1000;
    raw.srtt_us = info.rtt_us.saturating_mul(8);
    raw.lsndtime = moment.ago(info.last_data_sent);
    raw.rcv_tstamp = moment.ago(info.last_ack_recv);
    raw.lrcvtime = moment.ago(info.last_data_recv);
    raw.data_segs_out = info.data_segs_out;
    raw.total_retrans = info.total_retrans;
    raw.bound_dev_if = id.interface_id;
    raw.local_port = id.source_port;
    raw.remote_port = id.destination_port;
    raw.gateway_family = GATEWAY_UNKNOWN;
    raw.state = header.state;
    raw.retransmits = info.retransmits;
    raw.backoff = info.backoff;
    raw.pending = pending;
    raw.probes_out = info.probes;
    raw
}

/// One connection, counted as the program that sweeps counts it (`place` in
/// `detector-ebpf/src/main.rs`), without streams that fell silent.
fn count(raw: &RawSock, info: &Info, settings: &Settings) -> Counts {
    let mut counts = Counts::default();
    let outstanding = raw.write_seq != raw.snd_una;
    let late = u32::from(raw.retransmits) >= settings.report_timeouts
        || raw.backoff > 0
        || (raw.pending == TIMER_PROBE && raw.probes_out > 0);
    let place = if raw.state == SYN_SENT {
        &mut counts.handshakes
    } else if outstanding && late {
        &mut counts.suspicious
    } else if outstanding {
        &mut counts.busy
    } else if raw.data_segs_out == 0 {
        &mut counts.idle
    } else if info.last_data_sent <= settings.active_jiffies {
        &mut counts.app_limited
    } else if info.last_data_sent < info.last_data_recv {
        &mut counts.waiting
    } else {
        &mut counts.idle
    };
    *place = 1;
    let receives = raw.bytes_received > 0 && info.last_data_recv <= settings.receiving_jiffies;
    counts.receiving = u32::from(receives && raw.state != SYN_SENT);
    counts
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use netlink_packet_sock_diag::{constants::AF_INET, inet::SocketId};

    use super::*;
    use crate::model::Origin;

    const NETNS: NetnsId = NetnsId(7);

    fn info(change: impl Fn(&mut Info)) -> Info {
        let mut info = Info::new_zeroed();
        info.rto_us = 204_000;
        info.snd_mss = 1448;
        info.rtt_us = 300;
        info.bytes_acked = 5000;
        info.data_segs_out = 9;
        info.last_data_sent = 1000;
        info.last_ack_recv = 1200;
        info.last_data_recv = 1100;
        change(&mut info);
        info
    }

    fn response(info: &Info, queue: u32, timer: Option<Timer>) -> InetResponse {
        let mut socket_id = SocketId::new_v4();
        socket_id.source_port = 40_000;
        socket_id.destination_port = 25;
        socket_id.source_address = [192, 0, 2, 1].into();
        socket_id.destination_address = [198, 51, 100, 7].into();
        socket_id.cookie = 77_u64.to_ne_bytes();
        InetResponse {
            header: InetResponseHeader {
                family: AF_INET,
                state: 1,
                timer,
                socket_id,
                recv_queue: 0,
                send_queue: queue,
                uid: 1000,
                inode: 4711,
            },
            nlas: [Nla::TcpInfo(info.as_bytes().to_vec())]
                .into_iter()
                .collect(),
        }
    }

    fn listed(responses: &[InetResponse]) -> Seen {
        let mut listing = Listing::new(NETNS);
        for response in responses {
            listing.add(response, Moment::of(at()));
        }
        listing.seen()
    }

    fn at() -> Time {
        Time(86_400_000_000_000)
    }

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn a_connection_that_hangs_is_told_as_the_programs_tell_it() {
        let hanging = info(|it| {
            (it.retransmits, it.backoff, it.unacked) = (3, 3, 1);
            it.rto_us = 1_632_000;
            it.notsent_bytes = 100;
        });
        let timer = Timer::Retransmit(ms(600), 3);
        let seen = listed(&[response(&hanging, 600, Some(timer))]);
        let [sample] = &seen.sweep.samples[..] else {
            panic!("{seen:?}");
        };
        assert_eq!(sample.origin, Origin::Suspicious);
        assert_eq!((sample.id.0, sample.netns), (77, NETNS));
        assert_eq!(sample.local.to_string(), "192.0.2.1:40000");
        assert_eq!(sample.remote.to_string(), "198.51.100.7:25");
        assert_eq!((sample.unacked, sample.unsent), (500, 100));
        assert_eq!((sample.timeouts, sample.backoff), (3, 3));
        assert_eq!(sample.sent_at, at().before(ms(1000)));
        assert_eq!(sample.acked_at, at().before(ms(1200)));
        assert_eq!(sample.heard_at, at().before(ms(1200)));
        assert_eq!(sample.next_try, Some(at().after(ms(600))));
        // Three doublings: 204 + 408 + 816 ms before the last copy.
        assert_eq!(sample.stuck_since, Some(at().before(ms(1000 + 1428))));
        assert_eq!((sample.next_hop, sample.head), (None, None));
        assert_eq!(sample.inode, Some(4711));
        assert_eq!(seen.flows[0].1.suspicious, 1);
    }

    #[test]
    fn each_connection_is_in_one_column() {
        let column = |change: &dyn Fn(&mut Info), queue, timer| {
            let seen = listed(&[response(&info(change), queue, timer)]);
            let counts = seen.flows[0].1;
            assert_eq!(counts.established(), 1, "{counts:?}");
            counts
        };
        let retransmit = || Some(Timer::Retransmit(ms(100), 0));
        assert_eq!(column(&|_| (), 500, retransmit()).busy, 1);
        assert_eq!(column(&|_| (), 0, None).app_limited, 1);
        let old = |it: &mut Info| (it.last_data_sent, it.last_data_recv) = (9000, 9500);
        assert_eq!(column(&old, 0, None).waiting, 1);
        let answered = |it: &mut Info| (it.last_data_sent, it.last_data_recv) = (9000, 8000);
        assert_eq!(column(&answered, 0, None).idle, 1);
        assert_eq!(column(&|it| it.data_segs_out = 0, 0, None).idle, 1);
        let probed = |it: &mut Info| it.probes = 1;
        assert_eq!(
            column(&probed, 500, Some(Timer::Probe(ms(9)))).suspicious,
            1
        );
        assert_eq!(
            column(&probed, 500, retransmit()).busy,
            1,
            "of another timer"
        );
        let receiving = |it: &mut Info| (it.bytes_received, it.last_data_recv) = (9, 100);
        assert_eq!(column(&receiving, 0, None).receiving, 1);
    }

    #[test]
    fn a_closed_window_is_told_by_the_timer_where_the_kernel_does_not_tell_its_size() {
        let window = |size, length: usize, timer| {
            let info = info(|it| it.snd_wnd = size);
            let mut response = response(&info, 500, Some(timer));
            let bytes = info.as_bytes()[..length].to_vec();
            response.nlas = [Nla::TcpInfo(bytes)].into_iter().collect();
            listed(&[response]).sweep.samples[0].peer_window
        };
        let retransmit = || Timer::Retransmit(ms(9), 0);
        assert_eq!(window(3000, 232, retransmit()), 3000);
        assert_eq!(
            window(0, 232, retransmit()),
            0,
            "closed over data in flight"
        );
        assert_eq!(window(0, 228, retransmit()), u32::MAX, "not known");
        assert_eq!(window(0, 228, Timer::Probe(ms(9))), 0);
    }

    #[test]
    fn an_older_kernel_tells_less_and_no_attribute_nothing() {
        let mut old = response(&info(|_| ()), 0, None);
        // Until `tcpi_total_retrans`, as in 2.6.
        let bytes = info(|_| ()).as_bytes()[..104].to_vec();
        old.nlas = [Nla::TcpInfo(bytes)].into_iter().collect();
        let seen = listed(&[old.clone()]);
        assert_eq!(seen.flows[0].1.idle, 1, "{seen:?}");
        old.nlas = [Nla::TcpInfo(Vec::new())].into_iter().collect();
        assert_eq!(listed(&[old.clone()]).flows.len(), 1);
        old.nlas.clear();
        assert!(listed(&[old]).flows.is_empty());
    }

    #[test]
    fn of_each_destination_a_few_at_work_are_shown_and_all_in_trouble() {
        let fine = response(&info(|_| ()), 500, None);
        let stuck = info(|it| it.retransmits = 2);
        let stuck = response(&stuck, 500, Some(Timer::Retransmit(ms(9), 2)));
        let all = [vec![fine; 9], vec![stuck; 9]].concat();
        let seen = listed(&all);
        let of = |origin| {
            let samples = seen.sweep.samples.iter();
            samples.filter(|it| it.origin == origin).count()
        };
        assert_eq!((of(Origin::Active), of(Origin::Suspicious)), (4, 9));
        let [(_, counts)] = &seen.flows[..] else {
            panic!("{seen:?}");
        };
        assert_eq!((counts.busy, counts.suspicious), (9, 9));
    }

    #[test]
    fn handshakes_count_after_some_repetitions_and_loopback_never() {
        let opening = |retransmits| {
            let mut it = response(&info(|it| it.retransmits = retransmits), 0, None);
            it.header.state = SYN_SENT;
            listed(&[it])
        };
        assert!(opening(1).flows.is_empty());
        assert_eq!(opening(2).flows[0].1.handshakes, 1);
        let mut within = response(&info(|_| ()), 500, None);
        within.header.socket_id.interface_id = LOOPBACK;
        assert!(listed(&[within]).flows.is_empty());
    }
    #[test]
    fn what_the_kernel_refuses_is_said_whatever_its_number_is() {
        let refusal = |code: i32| {
            // Length, NLMSG_ERROR, no flags, sequence, port, then the number (netlink(7)).
            let mut message = [20, 2, 0, 0, 0].map(u32::to_ne_bytes);
            message[4] = code.to_ne_bytes();
            let taken = Listing::new(NETNS).take(message.as_flattened(), at());
            taken.unwrap_err().to_string()
        };
        assert!(refusal(-1).contains("not permitted"), "{}", refusal(-1));
        assert!(refusal(i32::MIN).contains(&i32::MAX.to_string()));
    }
}

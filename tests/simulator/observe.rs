//! What the kernel's figures say of a connection, as the sensors would hand them on.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use detector::{
    model::{ConnectionId, IfIndex, NetnsId, NextHop, Origin, Sample, TcpState},
    time::Time,
};

use super::{
    Nanos, SECOND,
    connection::{Connection, Life},
    sender::{MSS, Sender, Timer},
};

/// The namespace in which everything happens.
pub const NETNS: NetnsId = NetnsId(4_026_531_840);
/// `tcp_retries1` and one more: from so many timeouts on the kernel has no cached route.
const ROUTE_FORGOTTEN: u8 = 4;
/// What a peer offers that reads.
const OPEN_WINDOW: u32 = 65_535;
/// `TCP_RTO_MAX`.
const RTO_MAX: Nanos = 120 * SECOND;

/// The next hop of an upstream.
pub fn next_hop(upstream: usize) -> NextHop {
    NextHop {
        netns: NETNS,
        interface: IfIndex(10 + upstream as u32),
        gateway: Some(IpAddr::V4(Ipv4Addr::new(10, 0, upstream as u8, 1))),
    }
}

/// Address of a peer: the destination's prefix lies in the prefix of its site.
pub fn address(site: usize, destination: usize, id: u64) -> SocketAddr {
    let host = (id % 200) as u8 + 1;
    let (a, b) = (100 + (site >> 8) as u8, site as u8);
    SocketAddr::from(([a, b, destination as u8, host], 25))
}

/// The route that the kernel keeps with the socket.
pub fn cached(connection: &Connection) -> Option<NextHop> {
    (connection.sender.timeouts < ROUTE_FORGOTTEN).then(|| next_hop(connection.plan.upstream))
}

/// A sample of `connection`, caught up with `now`.
pub fn sample(
    connection: &Connection,
    remote: SocketAddr,
    now: Nanos,
    origin: Origin,
    error: Option<i32>,
) -> Sample {
    let sender = &connection.sender;
    let count = connection.under_way(now);
    let (unacked, packets_out, head) = if count > 0 {
        let (bytes, segments, head) = connection.sizes(count);
        (bytes, segments as u32, Some(head))
    } else {
        let (bytes, segments) = sender.in_flight();
        (bytes, segments, sender.head())
    };
    let fresh = if count > 0 { u64::from(packets_out) } else { 0 };
    let sent_at = if count > 0 {
        connection.sent_before(count)
    } else {
        sender.sent_at
    };
    let id = connection.id;
    // Sequence numbers wrap now and then.
    let isn = (id as u32).wrapping_mul(0x9e37_79b9);
    let received = (sender.una as f64 * connection.plan.answer) as u64;
    Sample {
        id: ConnectionId(id),
        at: Time(now),
        origin,
        netns: NETNS,
        local: SocketAddr::from(([192, 0, 2, 1], 1024 + (id % 60_000) as u16)),
        remote,
        tcp_state: tcp_state(connection),
        next_hop: cached(connection),
        mark: 0,
        device: None,
        uid: 1000,
        inode: (connection.life == Life::Open).then_some(10_000 + id),
        snd_una: isn.wrapping_add(1).wrapping_add(sender.una as u32),
        unacked: unacked as u32,
        unsent: sender.unsent() as u32,
        packets_out,
        timeouts: sender.timeouts,
        probes: sender.probes,
        persist: sender.persists(),
        backoff: sender.backoff,
        peer_window: if sender.window_open { OPEN_WINDOW } else { 0 },
        mss: MSS,
        head,
        rto: Duration::from_nanos(sender.rto),
        srtt: Some(Duration::from_nanos(sender.srtt)),
        stuck_since: stuck_since(sender).map(Time),
        sent_at: Time(sent_at),
        acked_at: Time(sender.acked_at),
        heard_at: Time(sender.heard_at),
        bytes_acked: 1 + sender.una,
        segments_out: (sender.segments_out + fresh) as u32,
        retransmissions: sender.repeats as u32,
        send_error: error,
        user_timeout: None,
        duplicates: sender.duplicates,
        unreachable: None,
        next_try: sender.timer.map(|(at, _)| Time(at)),
        rcv_nxt: isn.wrapping_add(received as u32),
        received_at: Time(sender.acked_at),
        bytes_received: received,
        hole: false,
        memory: None,
    }
}

fn tcp_state(connection: &Connection) -> TcpState {
    match connection.life {
        Life::Orphan => TcpState::FinWait1,
        Life::Opening(_) | Life::Open | Life::Gone => TcpState::Established,
    }
}

/// When data began to wait, in the same way as `detector::sense::decode` works it out.
pub fn stuck_since(sender: &Sender) -> Option<Nanos> {
    if sender.timeouts > 0 {
        let base = sender.rto >> sender.backoff.min(30);
        let doublings = (1_u64 << sender.backoff.min(30)) - 1;
        let by_backoff =
            (sender.rto < RTO_MAX).then(|| sender.sent_at.saturating_sub(base * doublings));
        let first = sender.repeated_at.map(|at| at.saturating_sub(base));
        let by_stamp = first.filter(|first| sender.heard_at <= *first);
        return [by_backoff, by_stamp].into_iter().flatten().min();
    }
    let probing = matches!(sender.timer, Some((_, Timer::WindowProbe))) && sender.probes > 0;
    let first = sender.probed_at.filter(|_| probing)?;
    (sender.heard_at <= first).then(|| first.saturating_sub(sender.rto))
}

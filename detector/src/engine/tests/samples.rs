//! A sample for tests that care about some of its fields only.

use std::{net::SocketAddr, time::Duration};

use super::world;
use crate::{
    model::{ConnectionId, Origin, Sample, TcpState},
    time::Time,
};

/// An untroubled connection with nothing outstanding, a day after the host came up.
pub(crate) fn any() -> Sample {
    let at = Time(86_400_000_000_000);
    Sample {
        id: ConnectionId(1),
        at,
        origin: Origin::Suspicious,
        netns: world::NETNS,
        local: SocketAddr::from(([192, 0, 2, 1], 40_000)),
        remote: SocketAddr::from(([198, 51, 100, 7], 25)),
        tcp_state: TcpState::Established,
        next_hop: Some(world::hop(0)),
        mark: 0,
        device: None,
        uid: 0,
        inode: None,
        snd_una: 1,
        unacked: 0,
        unsent: 0,
        packets_out: 0,
        timeouts: 0,
        probes: 0,
        persist: false,
        backoff: 0,
        peer_window: 65_535,
        mss: 1448,
        head: None,
        rto: Duration::from_millis(200),
        srtt: None,
        stuck_since: None,
        sent_at: at,
        acked_at: at,
        heard_at: at,
        bytes_acked: 1,
        segments_out: 0,
        retransmissions: 0,
        send_error: None,
        user_timeout: None,
        duplicates: 0,
        unreachable: None,
        next_try: None,
        rcv_nxt: 1,
        received_at: at,
        bytes_received: 0,
        hole: false,
        memory: None,
    }
}

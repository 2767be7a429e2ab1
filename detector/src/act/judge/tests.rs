use netlink_packet_sock_diag::{
    constants::{AF_INET, AF_INET6},
    inet::{InetResponseHeader, Timer},
};

use super::*;
use crate::{
    act::tests::{info, target},
    model::TcpState,
};

const NEW: &str = "6.18.44";
const LISTEN: u8 = 10;
const TIME_WAIT: u8 = 6;
const CLOSE: u8 = 7;
const SYN_SENT: u8 = 2;

/// What netlink says of [`target`] while nothing has changed.
fn unchanged() -> InetResponse {
    let target = target();
    InetResponse {
        header: InetResponseHeader {
            family: AF_INET,
            state: 1,
            timer: Some(Timer::Retransmit(std::time::Duration::from_secs(1), 5)),
            socket_id: SocketId {
                source_port: target.stall.local.port(),
                destination_port: target.stall.remote.port(),
                source_address: target.stall.local.ip(),
                destination_address: target.stall.remote.ip(),
                interface_id: 0,
                cookie: target.cookie.unwrap().to_ne_bytes(),
            },
            recv_queue: 0,
            send_queue: target.stall.unacked_bytes + target.stall.unsent_bytes,
            uid: 101,
            inode: u32::try_from(target.inode.unwrap()).unwrap(),
        },
        nlas: [info(
            5,
            0,
            target.stall.acked_bytes,
            target.stall.received_bytes,
        )]
        .into_iter()
        .collect(),
    }
}

fn fate(target: &Target, found: &InetResponse, kernel: &str) -> Fate {
    match verdict(target, found, kernel) {
        Verdict::Reset(socket) => {
            assert_eq!(socket, found.header.socket_id, "as the kernel names it");
            Fate::Reset
        }
        Verdict::Leave(left) => left.fate,
    }
}

fn fate_of(found: &InetResponse) -> Fate {
    fate(&target(), found, NEW)
}

fn changed(change: impl Fn(&mut InetResponse)) -> InetResponse {
    let mut found = unchanged();
    change(&mut found);
    found
}

/// With another `tcp_info`: timeouts, probes, bytes acknowledged and received.
fn with_info(timeouts: u8, probes: u8, acked: u64, received: u64) -> InetResponse {
    changed(|it| {
        it.nlas = [info(timeouts, probes, acked, received)]
            .into_iter()
            .collect()
    })
}

#[test]
fn what_is_as_stuck_as_it_was_is_reset() {
    assert_eq!(fate_of(&unchanged()), Fate::Reset);
    let Target { stall, .. } = target();
    let (acked, received) = (stall.acked_bytes, stall.received_bytes);
    // It goes on failing, and what the peer sends is no progress of ours.
    assert_eq!(fate_of(&with_info(7, 0, acked, received)), Fate::Reset);
    assert_eq!(fate_of(&with_info(5, 0, acked, received + 9)), Fate::Reset);
    let more = changed(|it| it.header.send_queue += 4000);
    assert_eq!(fate_of(&more), Fate::Reset);
}

#[test]
fn a_socket_of_ipv6_with_addresses_of_ipv4_is_the_same() {
    let mapped = changed(|it| {
        it.header.family = AF_INET6;
        let id = &mut it.header.socket_id;
        for address in [&mut id.source_address, &mut id.destination_address] {
            if let std::net::IpAddr::V4(v4) = address {
                *address = v4.to_ipv6_mapped().into();
            }
        }
    });
    assert_eq!(fate_of(&mapped), Fate::Reset);
}

#[test]
fn what_has_recovered_is_left_alone() {
    let Target { stall, .. } = target();
    let (acked, received) = (stall.acked_bytes, stall.received_bytes);
    for found in [
        with_info(5, 0, acked + 1, received),
        with_info(0, 0, acked + 90_000, received),
        changed(|it| it.header.send_queue = 0),
        changed(|it| {
            it.nlas = [info(0, 0, acked, received)].into_iter().collect();
            it.header.timer = Some(Timer::Retransmit(std::time::Duration::ZERO, 0));
        }),
    ] {
        assert_eq!(fate_of(&found), Fate::Recovered, "{found:?}");
    }
}

#[test]
fn a_peer_that_does_not_read_is_still_probed() {
    let mut target = target();
    target.stall.cause = Cause::ZeroWindow;
    (target.stall.retransmits, target.stall.probes) = (0, 1);
    let (acked, received) = (target.stall.acked_bytes, target.stall.received_bytes);
    let probe = Some(Timer::Probe(std::time::Duration::from_secs(1)));
    let mut found = with_info(0, 0, acked, received);
    found.header.timer = probe;
    assert_eq!(fate(&target, &found, NEW), Fate::Reset);
    // It reads again: all that was left is on its way, and nothing has failed.
    found.header.timer = Some(Timer::Retransmit(std::time::Duration::ZERO, 0));
    assert_eq!(fate(&target, &found, NEW), Fate::Recovered);
}

#[test]
fn one_that_waits_for_the_peer_is_told_by_what_arrives() {
    let mut target = target();
    target.stall.cause = Cause::ReceiveHole;
    let (acked, received) = (target.stall.acked_bytes, target.stall.received_bytes);
    let mut quiet = with_info(0, 0, acked + 5, received);
    quiet.header.send_queue = 0;
    assert_eq!(fate(&target, &quiet, NEW), Fate::Reset);
    let mut filled = with_info(0, 0, acked, received + 1448);
    filled.header.send_queue = 0;
    assert_eq!(fate(&target, &filled, NEW), Fate::Recovered);
}

#[test]
fn listeners_and_other_sockets_are_never_touched() {
    for state in [LISTEN, TIME_WAIT, CLOSE, SYN_SENT, 3, 12, 0, 255] {
        let found = changed(|it| it.header.state = state);
        assert_eq!(fate_of(&found), Fate::Gone, "state {state}");
    }
    let other = changed(|it| it.header.socket_id.cookie = 1_u64.to_ne_bytes());
    assert_eq!(fate_of(&other), Fate::Gone);
    let nameless = changed(|it| it.nlas.clear());
    assert_eq!(fate_of(&nameless), Fate::Gone);
}

#[test]
fn without_cookies_the_inode_tells() {
    let mut target = target();
    target.cookie = None;
    assert_eq!(fate(&target, &unchanged(), NEW), Fate::Reset);
    let other = changed(|it| it.header.inode += 1);
    assert_eq!(fate(&target, &other, NEW), Fate::Gone);
    let orphan = changed(|it| it.header.inode = 0);
    assert_eq!(fate(&target, &orphan, NEW), Fate::Gone);
}

#[test]
fn what_no_process_holds_is_reset_where_the_kernel_then_ends_it() {
    let mut target = target();
    target.stall.tcp_state = TcpState::FinWait1;
    let orphan = changed(|it| (it.header.state, it.header.inode) = (4, 0));
    for (kernel, expected) in [
        ("6.18.44", Fate::Reset),
        ("6.11.0-rc7", Fate::Reset),
        ("7.0", Fate::Reset),
        ("6.10.14", Fate::Refused),
        ("6.1.0-28-amd64", Fate::Refused),
        ("5.10.0", Fate::Refused),
        ("unheard of", Fate::Refused),
        ("", Fate::Refused),
    ] {
        assert_eq!(fate(&target, &orphan, kernel), expected, "{kernel}");
        // One that a process holds is another matter.
        assert_eq!(fate(&target, &unchanged(), kernel), Fate::Reset);
    }
}

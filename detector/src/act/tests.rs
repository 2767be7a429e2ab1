use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
};

use netlink_packet_sock_diag::inet::nlas::Nla;

use super::*;
use crate::{
    model::{IfIndex, Phase},
    sense::sock_diag,
    serve::{Filter, example, json},
    time::Time,
};

/// A connection that the daemon has called stalled.
pub(super) fn target() -> Target {
    let (snapshot, facts) = (example::snapshot(), example::facts());
    let targets = json::targets(&snapshot, &facts, &Filter::default());
    let (_, mut target) = targets
        .into_iter()
        .find(|(_, it)| !it.stall.orphan)
        .unwrap();
    (target.stall.retransmits, target.stall.probes) = (5, 0);
    target
}

/// `struct tcp_info` with timeouts, probes, and bytes acknowledged and received.
pub(super) fn info(timeouts: u8, probes: u8, acked: u64, received: u64) -> Nla {
    let mut bytes = vec![0; 232];
    (bytes[0], bytes[2], bytes[3], bytes[4]) = (1, timeouts, probes, timeouts.saturating_sub(1));
    bytes[120..128].copy_from_slice(&acked.to_ne_bytes());
    bytes[128..136].copy_from_slice(&received.to_ne_bytes());
    Nla::TcpInfo(bytes)
}

/// Both ends of a connection, and what the daemon would say of the first if it hung.
fn connected(listener: &TcpListener) -> (TcpStream, TcpStream, Target) {
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (theirs, _) = listener.accept().unwrap();
    let mut target = target();
    target.stall.netns = namespaces::own().unwrap();
    target.stall.local = ours.local_addr().unwrap();
    target.stall.remote = ours.peer_addr().unwrap();
    target.device = None;
    // As the kernel names it.
    target.cookie = None;
    let mut asker = Asker::open().unwrap();
    let Found::Socket(found) = asker.look(&target).unwrap() else {
        panic!("our own connection is not found");
    };
    target.cookie = Some(u64::from_ne_bytes(found.header.socket_id.cookie));
    target.inode = Some(found.header.inode.into());
    (ours, theirs, target)
}

/// Waits until something holds.
fn until(mut holds: impl FnMut() -> bool) {
    for _ in 0..250 {
        if holds() {
            return;
        }
        thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("it does not come true");
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// What is left alone by `reset` goes on as before.
fn goes_on(ours: &mut TcpStream, theirs: &mut TcpStream) {
    ours.write_all(b"word").unwrap();
    let mut word = [0; 4];
    theirs.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"word");
}

#[test]
fn a_connection_that_does_well_is_left_alone_and_said_so() {
    let listener = listener();
    let (mut ours, mut theirs, target) = connected(&listener);
    let done = reset(std::slice::from_ref(&target));
    assert_eq!(done.len(), 1);
    assert_eq!(done[0].outcome, Fate::Recovered, "{done:?}");
    assert_eq!(done[0].id, target.stall.id);
    assert!(done[0].because.is_some());
    goes_on(&mut ours, &mut theirs);
}

#[test]
fn another_socket_at_the_same_place_is_left_alone() {
    let listener = listener();
    let (mut ours, mut theirs, mut target) = connected(&listener);
    target.cookie = target.cookie.map(|it| it + 1);
    let done = reset(std::slice::from_ref(&target));
    assert_eq!(done[0].outcome, Fate::Gone, "{done:?}");
    // Nor is the listener, which answers for all that is not there.
    target.stall.remote = target.stall.local;
    target.stall.local = listener.local_addr().unwrap();
    target.stall.remote.set_port(1);
    for cookie in [None, target.cookie] {
        target.cookie = cookie;
        let done = reset(std::slice::from_ref(&target));
        assert_eq!(done[0].outcome, Fate::Gone, "{done:?}");
    }
    goes_on(&mut ours, &mut theirs);
    drop(connected(&listener));
}

#[test]
fn what_has_ended_is_said_to_be_gone() {
    let listener = listener();
    let (ours, theirs, target) = connected(&listener);
    drop(theirs);
    drop(ours);
    // The last acknowledgements may still be under way.
    until(|| reset(std::slice::from_ref(&target))[0].outcome == Fate::Gone);
}

#[test]
fn each_has_its_answer_in_the_order_given() {
    let listener = listener();
    let (_ours, _theirs, here) = connected(&listener);
    let mut elsewhere = here.clone();
    elsewhere.stall.netns = NetnsId(1);
    elsewhere.stall.id = "c-1".to_owned();
    elsewhere.device = Some(IfIndex(7));
    let done = reset(&[elsewhere.clone(), here.clone(), elsewhere]);
    let fates: Vec<_> = done.iter().map(|it| it.outcome).collect();
    assert_eq!(fates, [Fate::Refused, Fate::Recovered, Fate::Refused]);
    let because = done[0].because.as_deref().unwrap();
    assert!(
        because.contains("namespace 1 is not to be found"),
        "{because}"
    );
    assert!(reset(&[]).is_empty());
}

/// The one that takes effect: on a connection of ours to ourselves, whose peer does not read.
#[test]
fn one_that_is_stuck_is_reset_by_root_and_by_nobody_else() {
    let listener = listener();
    let (mut ours, theirs, mut target) = connected(&listener);
    ours.set_nonblocking(true).unwrap();
    while ours.write(&[0; 65_536]).is_ok() {}
    target.stall.phase = Phase::Stalled;
    (target.stall.retransmits, target.stall.backoff) = (0, 0);
    let mut asker = Asker::open().unwrap();
    let mut done = Vec::new();
    until(|| {
        let Found::Socket(found) = asker.look(&target).unwrap() else {
            panic!("our own connection is not found");
        };
        let now = sock_diag::sample(&found, target.stall.netns, Time::default());
        target.stall.acked_bytes = now.unwrap().bytes_acked;
        done = reset(std::slice::from_ref(&target));
        // An acknowledgement may have been under way.
        done[0].outcome != Fate::Recovered
    });
    let ended = ours.write(&[0; 1]).unwrap_err();
    if rustix::process::geteuid().is_root() {
        assert_eq!(done[0].outcome, Fate::Reset, "{done:?}");
        assert_eq!(done[0].because, None);
        assert_eq!(ended.kind(), std::io::ErrorKind::ConnectionAborted);
        let again = reset(&[target]);
        assert_eq!(again[0].outcome, Fate::Gone, "{again:?}");
    } else {
        assert_eq!(done[0].outcome, Fate::Refused, "{done:?}");
        assert!(done[0].because.as_deref().unwrap().contains("root"));
        assert_eq!(ended.kind(), std::io::ErrorKind::WouldBlock);
    }
    drop(theirs);
}

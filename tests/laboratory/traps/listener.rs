//! A host that others connect to.

use std::time::Duration;

use lab::{Direction, Fault, Load, Partial, Plan, Traffic, server::Server};

use super::{in_full, turns_bad};
use crate::world::{RECOVERY, SOON, World, all_quiet, it_works, others_are_fine};

/// Clients, each at a place of its own.
const CLIENTS: u8 = 16;

/// A listening host that sends to clients behind its second upstream, and nothing else through it.
fn listening() -> Option<(World, (Server, Vec<Traffic>))> {
    listening_with(&[])
}

/// The same with these kernel parameters set.
fn listening_with(settings: &[(&str, &str)]) -> Option<(World, (Server, Vec<Traffic>))> {
    let mut world = World::new(2)?;
    it_works(world.lab.host.sysctl(settings));
    let server = it_works(Server::start(&world.lab.host));
    world.traffic(0, 0..20, Load::STEADY);
    let upstream = &world.lab.upstreams[1];
    let clients = (0..CLIENTS).map(|number| {
        let place = upstream.destination(number, lab::Family::V4);
        let plan = Plan::to([upstream.local.into()], Load::Downloads(2)).from(place);
        it_works(Traffic::start(&world.lab.net, &plan))
    });
    let clients = clients.collect();
    world.watch();
    world.all_ok();
    Some((world, (server, clients)))
}

/// Trap: scanners, half-open connections, clients that walk away: a listening host, whose clients
/// go each for itself.
#[test]
fn clients_that_vanish_one_by_one_are_nobodys_fault() {
    let Some((world, _others)) = listening() else {
        return;
    };
    // In full, more than would be forgiven if they were gone at once.
    let (count, pause) = if in_full() { (6, 12) } else { (4, 3) };
    for number in 0..count {
        world.also_break(1, Partial::PeerGone(number));
        world.hold(Duration::from_secs(pause), "one more is gone", all_quiet);
    }
    world.until(SOON, "the first are listed", |_| {
        world.stalls(&["--upstream", "provider-b"]).len() >= 4
    });
    // They have run out of the window; the others go on.
    let stalls = world.stalls(&["--upstream", "provider-b"]);
    assert!(
        stalls.iter().all(|it| it.local.ends_with(":19")),
        "{stalls:?}"
    );
}

/// Trap: scanners, half-open connections, clients that walk away: all at once are another matter.
#[test]
fn clients_that_vanish_all_at_once_are_the_upstream() {
    let Some((world, _others)) = listening() else {
        return;
    };
    world.break_(1, Fault::Blackhole(Direction::Both));
    turns_bad(&world, "provider-b", "blackhole");
    world.repair(1);
    world.until(RECOVERY, "it is ok again", |status| {
        others_are_fine(status, "provider-b");
        status.state == "ok"
    });
}

/// Connections that the host has made from cookies so far.
fn from_cookies(world: &World) -> u32 {
    let counters = world.lab.host.output("cat", &["/proc/net/netstat"]);
    let text = String::from_utf8_lossy(&it_works(counters).stdout).into_owned();
    let mut rows = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (Some(names), Some(values)) = (rows.next(), rows.next()) else {
        panic!("the kernel counts: {text}");
    };
    let values = values.split_whitespace();
    let mut both = names.split_whitespace().zip(values);
    let received = both.find(|(name, _)| *name == "SyncookiesRecv");
    received
        .and_then(|(_, value)| value.parse().ok())
        .expect("cookies are counted")
}

/// Trap: time-wait and request sockets: with cookies there is no request socket at all.
#[test]
fn connections_made_from_cookies_are_connections_like_any_other() {
    let Some((world, _others)) = listening_with(&[("ipv4/tcp_syncookies", "2")]) else {
        return;
    };
    let all = 2 * u32::from(CLIENTS);
    assert_eq!(from_cookies(&world), all);
    world.hold(Duration::from_secs(4), "each is counted once", |status| {
        let upstream = status.upstream("provider-b");
        all_quiet(status) && upstream.is_some_and(|it| it.connections.established == all)
    });
    world.break_(1, Fault::Blackhole(Direction::Both));
    turns_bad(&world, "provider-b", "blackhole");
}

//! Peers that take back what they have offered.

use std::time::Duration;

use lab::{Direction, Fault, Load};

use super::{excluded, ss, tc};
use crate::world::{SOON, World, all_quiet, it_works};

/// Forty connections of the second upstream whose peers close their windows while much is on its
/// way to them.
fn windows_shrink() -> Option<World> {
    let mut world = World::new(2)?;
    let net = &world.lab.net;
    it_works(net.sysctl(&[("ipv4/tcp_shrink_window", "1")]));
    // A slow link with room for all of it: whoever sends has much on its way.
    let router = &world.lab.upstreams[1].router;
    tc(
        router,
        "qdisc add dev core root tbf rate 20mbit burst 10k limit 4m",
    );
    world.traffic(0, 0..20, Load::STEADY);
    let overfed = world.traffic(1, 0..20, Load::Overfed(40));
    world.watch();
    world.until_traffic(SOON, "all are connected", |world| {
        world.counters(overfed).connected() == 40
    });
    Some(world)
}

/// Trap: windows that close over data in flight: the repetitions are probes.
#[test]
fn windows_that_shrink_with_data_in_flight_are_never_held_against_the_upstream() {
    let Some(world) = windows_shrink() else {
        return;
    };
    world.hold(Duration::from_secs(8), "nobody is blamed", all_quiet);
    // That is the trap: without data in flight it would be an ordinary closed window.
    let sockets = ss(&world.lab.host, &["-Htni", "dport", "=", ":82"]);
    let repeats = |it: &&String| it.contains("unacked:") && it.contains("backoff:");
    let repeating = sockets.iter().filter(repeats).count();
    assert!(repeating >= 20, "only {repeating} repeat: {sockets:#?}");
}

/// Trap: windows that close over data in flight: who is left out is said to be.
#[test]
fn windows_that_shrink_with_data_in_flight_are_shown_as_left_out() {
    let Some(world) = windows_shrink() else {
        return;
    };
    world.until(SOON, "the closed windows are shown", |status| {
        excluded(status, "provider-b", "zero-window") >= 20
    });
}

/// Trap: tarpits, slow greetings: peers that read a byte a second.
#[test]
fn tarpits_are_never_held_against_the_upstream() {
    let Some(mut world) = World::new(2) else {
        return;
    };
    world.traffic(0, 0..20, Load::STEADY);
    let stuck = world.traffic(1, 0..20, Load::Tarpits(40));
    world.watch();
    world.until_traffic(SOON, "all are connected", |world| {
        world.counters(stuck).connected() == 40
    });
    world.hold(Duration::from_secs(8), "nobody is blamed", all_quiet);
    let status = world.until(SOON, "they are shown as left out", |status| {
        excluded(status, "provider-b", "zero-window") >= 36
    });
    assert_ne!(status.state_of("provider-b"), "absent");
}

/// Trap: tarpits, slow greetings: among them a black hole is found.
#[test]
fn tarpits_do_not_hide_a_black_hole() {
    let Some(mut world) = World::new(2) else {
        return;
    };
    world.traffic(0, 0..20, Load::STEADY);
    world.traffic(1, 0..20, Load::STEADY);
    world.traffic(1, 0..20, Load::Tarpits(40));
    world.watch();
    world.all_ok();
    world.break_(1, Fault::Blackhole(Direction::Both));
    world.is_blamed(1, "blackhole");
    world.recovers(1);
}

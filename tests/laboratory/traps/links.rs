//! The host's own link: switched off and on, full, or with a queue that refuses.

use std::{thread, time::Duration};

use lab::{Direction, Fault, Load, Upstream};

use super::{in_full, tc, turns_bad};
use crate::world::{RECOVERY, SOON, World, it_works, others_are_fine};

/// Two upstreams that do well.
fn two() -> Option<World> {
    let mut world = World::new(2)?;
    world.traffic(0, 0..20, Load::STEADY);
    world.traffic(1, 0..20, Load::STEADY);
    world.watch();
    world.all_ok();
    Some(world)
}

/// Switches the second upstream's interface off, and on after `time`. Meanwhile `holds`.
fn switch_off(world: &World, time: Duration, holds: impl Fn(&lab::status::Status) -> bool) {
    let Upstream {
        interface, gateway, ..
    } = &world.lab.upstreams[1];
    let (range, _) = world.lab.upstreams[1].aggregates();
    let host = &world.lab.host;
    it_works(host.ip(&format!("link set {interface} down\n")));
    world.hold(time, "nothing but the host is blamed", holds);
    // Routes go with the link.
    it_works(host.ip(&format!(
        "link set {interface} up\n\
         route add {range} via {gateway}\n\
         route add default via {gateway} table 101\n"
    )));
}

/// Trap: link flaps: the interface is gone for a second, twice.
#[test]
fn a_link_that_is_off_for_a_second_is_the_hosts_affair_and_soon_forgotten() {
    let Some(world) = two() else {
        return;
    };
    let at_home = |status: &lab::status::Status| {
        others_are_fine(status, "provider-b");
        matches!(status.state_of("provider-b"), "ok" | "idle")
            || status.cause_of("provider-b") == Some("local")
    };
    for _ in 0..2 {
        switch_off(&world, Duration::from_secs(1), at_home);
        world.hold(Duration::from_secs(2), "it comes back", at_home);
    }
    world.until(RECOVERY, "it is ok", |status| {
        at_home(status) && status.state == "ok"
    });
}

/// Trap: link flaps: the interface stays away.
#[test]
fn a_link_that_stays_off_is_called_local() {
    let Some(world) = two() else {
        return;
    };
    it_works(world.lab.host.ip("link set wan2 down\n"));
    turns_bad(&world, "provider-b", "local");
    switch_off(&world, Duration::from_secs(1), |status| {
        status.cause_of("provider-b") == Some("local")
    });
    world.until(RECOVERY, "it is ok again", |status| status.state == "ok");
}

/// Two upstreams, of which the second one's link is narrow and always full: everything waits in a
/// long queue.
fn saturated() -> Option<World> {
    let mut world = World::new(2)?;
    world.traffic(0, 0..20, Load::STEADY);
    let large = Load::Steady {
        connections: 2,
        bytes: 100_000,
        every: Duration::from_millis(100),
    };
    world.traffic(1, 0..20, large);
    world.watch();
    world.all_ok();
    tc(
        &world.lab.upstreams[1].router,
        "qdisc add dev core root tbf rate 10mbit burst 10k limit 1m",
    );
    Some(world)
}

/// Trap: a full uplink: round trips take a thousand times as long.
#[test]
fn a_link_that_is_full_is_slow_and_not_broken() {
    let Some(world) = saturated() else {
        return;
    };
    let time = if in_full() { 60 } else { 12 };
    world.hold(Duration::from_secs(time), "it is slow at most", |status| {
        others_are_fine(status, "provider-b");
        status.state_of("provider-b") != "failing"
            && status.cause_of("provider-b") != Some("blackhole")
    });
}

/// Trap: a full uplink: it is full, and then it is dead.
#[test]
fn a_link_that_is_full_and_dies_is_a_black_hole() {
    let Some(world) = saturated() else {
        return;
    };
    thread::sleep(Duration::from_secs(5));
    world.break_(1, Fault::Blackhole(Direction::Both));
    world.until(2 * SOON, "the black hole is found", |status| {
        others_are_fine(status, "provider-b");
        status.is_failing("provider-b", "blackhole")
    });
}

/// Trap: a firewall or a queue on the host: whatever is large does not even leave.
#[test]
fn a_queue_that_drops_all_that_is_large_is_local() {
    let Some(world) = two() else {
        return;
    };
    // What is larger than the bucket never fits.
    tc(
        &world.lab.host,
        "qdisc add dev wan2 root tbf rate 100mbit burst 600 limit 1m",
    );
    turns_bad(&world, "provider-b", "local");
    tc(&world.lab.host, "qdisc del dev wan2 root");
    world.until(RECOVERY, "it is ok again", |status| status.state == "ok");
}

/// Trap: a firewall or a queue on the host: now and then it is full.
#[test]
fn a_queue_that_is_full_now_and_then_is_no_event() {
    let Some(world) = two() else {
        return;
    };
    tc(
        &world.lab.host,
        "qdisc add dev wan2 root tbf rate 50mbit burst 3k limit 6k",
    );
    world.hold(Duration::from_secs(8), "nobody is blamed", |status| {
        status.state == "ok"
    });
}

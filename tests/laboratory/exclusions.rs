//! What makes no progress and is nobody's fault: or at least not the upstream's.

use std::time::Duration;

use lab::{Direction, Fault, Load};

use crate::world::{SOON, World, all_quiet};

const A_WHILE: Duration = Duration::from_secs(10);

/// Trap: idle connections, long polls: they wait beside those that work.
#[test]
fn idle_connections_long_polls_and_slow_readers_stay_quiet() {
    let Some(mut world) = World::new(2) else {
        return;
    };
    world.traffic(0, 0..20, Load::STEADY);
    world.traffic(1, 0..20, Load::STEADY);
    let idle = world.traffic(1, 0..20, Load::Idle(300));
    let polls = world.traffic(1, 0..20, Load::LongPoll(100));
    let slow = world.traffic(1, 0..20, Load::SlowReaders(20));
    world.watch();
    world.all_ok();
    world.until_traffic(SOON, "all of them are connected", |world| {
        world.counters(idle).messages() == 300
            && world.counters(polls).messages() == 100
            && world.counters(slow).connected() == 20
    });
    world.hold(A_WHILE, "provider-b is ok", |status| {
        status.state_of("provider-b") == "ok"
    });
    // They are seen, and said to be left out.
    world.until(SOON, "the exclusions are shown", |status| {
        let Some(upstream) = status.upstream("provider-b") else {
            return false;
        };
        let excluded = |reason| upstream.excluded.get(reason).copied().unwrap_or(0);
        upstream.connections.established >= 440
            && excluded("idle") + excluded("waiting") >= 390
            && excluded("zero-window") >= 18
    });
}

/// Trap: slow readers, zero windows: forty of them.
#[test]
fn a_peer_that_does_not_read_is_never_held_against_the_upstream() {
    let Some(mut world) = World::new(2) else {
        return;
    };
    world.traffic(0, 0..20, Load::STEADY);
    let slow = world.traffic(1, 0..20, Load::SlowReaders(40));
    world.watch();
    world.until_traffic(SOON, "all are connected", |world| {
        world.counters(slow).connected() == 40
    });
    world.hold(A_WHILE, "nobody is blamed", all_quiet);
    let status = world.until(SOON, "the zero windows are shown", |status| {
        let Some(upstream) = status.upstream("provider-b") else {
            return false;
        };
        upstream
            .excluded
            .get("zero-window")
            .is_some_and(|&count| count >= 36)
    });
    assert!(
        matches!(status.state_of("provider-b"), "ok" | "idle"),
        "{}",
        status.summary()
    );
    for stall in world.stalls(&["--upstream", "provider-b"]) {
        assert_eq!(stall.cause, "zero-window", "{stall:?}");
    }
}

/// Trap: slow readers, zero windows: they stand before a black hole.
#[test]
fn slow_readers_do_not_hide_a_black_hole() {
    let Some(mut world) = World::new(2) else {
        return;
    };
    world.traffic(0, 0..20, Load::STEADY);
    world.traffic(1, 0..20, Load::STEADY);
    world.traffic(1, 0..20, Load::SlowReaders(40));
    world.traffic(1, 0..20, Load::Idle(200));
    world.watch();
    world.all_ok();
    world.break_(1, Fault::Blackhole(Direction::Both));
    world.is_blamed(1, "blackhole");
    world.recovers(1);
}

/// Trap: one dead destination: it has most of the connections.
#[test]
fn one_dead_destination_with_200_connections_is_not_the_upstream() {
    let Some(mut world) = World::new(2) else {
        return;
    };
    world.traffic(0, 0..20, Load::STEADY);
    world.traffic(1, 0..20, Load::STEADY);
    let big = Load::Steady {
        connections: 200,
        bytes: 4000,
        every: Duration::from_millis(500),
    };
    let big = world.traffic(1, 20..21, big);
    world.watch();
    world.all_ok();
    world.break_(1, Fault::OneDestination(20));
    world.until_traffic(SOON, "its connections hang", |world| {
        world.counters(big).hanging() >= 200
    });
    world.hold(A_WHILE, "provider-b is ok", |status| {
        status.state_of("provider-b") == "ok"
    });
    let prefix = world.lab.upstreams[1].prefix(20, lab::Family::V4);
    let stalls = world.stalls(&["--upstream", "provider-b", "--limit", "1000"]);
    assert!(stalls.len() >= 190, "only {} are listed", stalls.len());
    assert!(
        stalls.iter().all(|stall| stall.destination == prefix),
        "{stalls:?}"
    );
    assert!(
        stalls
            .iter()
            .all(|stall| stall.excluded.as_deref() == Some("one-destination"))
    );
    let table = world
        .daemon()
        .cli_ok(&["stalls", "--by", "destination"])
        .expect("it groups");
    assert!(table.contains(&prefix), "{table}");
    world.repair(1);
    world.until(
        Duration::from_secs(30),
        "nothing is stalled any more",
        |status| {
            status
                .upstreams
                .iter()
                .all(|it| it.connections.stalled == 0)
        },
    );
}

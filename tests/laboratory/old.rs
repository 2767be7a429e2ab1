//! Trouble that is older than the detector.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use lab::{Direction, Fault, Load, daemon::emulated, status::Stall};
use rustix::process::Signal;

use crate::world::{SOON, START, World, it_works, others_are_fine};

/// Trap: forgotten routes: past six seconds the kernel has none for what is stuck.
#[test]
fn connections_stuck_before_the_start_are_found_with_their_age_and_their_upstream() {
    let Some(mut world) = World::new(3) else {
        return;
    };
    let loads: Vec<_> = (0..3)
        .map(|upstream| world.traffic(upstream, 0..20, Load::STEADY))
        .collect();
    world.until_traffic(SOON, "all talk", |world| {
        loads
            .iter()
            .all(|&load| world.counters(load).messages() >= 40)
    });
    world.break_(1, Fault::Blackhole(Direction::Both));
    let broken = Instant::now();
    // The age is the point: past six seconds the kernel forgets the route of what is stuck.
    thread::sleep(Duration::from_secs(10));
    assert_eq!(
        world.counters(loads[1]).hanging(),
        20,
        "all of provider-b's connections hang"
    );
    world.watch();
    world.until(START, "provider-b is failing", |status| {
        others_are_fine(status, "provider-b");
        status.state_of("provider-b") == "failing"
    });
    let stalls = world.stalls(&["--upstream", "provider-b"]);
    assert!(
        stalls.len() >= 18,
        "only {} of 20 are attributed",
        stalls.len()
    );
    let most = broken.elapsed().as_secs_f64() + 1.0;
    for stall in &stalls {
        assert!(
            (9.0..most).contains(&stall.stalled_seconds),
            "{stall:?}, at most {most}"
        );
        assert_eq!(stall.phase, "stalled", "{stall:?}");
        assert_eq!(
            stall.nexthop,
            Some(world.lab.upstreams[1].gateway.to_string()),
            "{stall:?}"
        );
        assert_eq!(stall.pid, Some(std::process::id()), "{stall:?}");
    }
}

#[test]
fn a_detector_that_starts_among_healthy_connections_says_so() {
    let Some(mut world) = World::new(3) else {
        return;
    };
    for upstream in 0..3 {
        let load = world.traffic(upstream, 0..20, Load::STEADY);
        world.until_traffic(SOON, "all talk", |world| {
            world.counters(load).messages() >= 40
        });
    }
    world.watch();
    let status = world.all_ok();
    assert!(world.stalls(&[]).is_empty(), "nothing is stuck");
    for upstream in status
        .upstreams
        .iter()
        .filter(|it| it.name.starts_with("provider-"))
    {
        assert_eq!(upstream.connections.established, 20, "{upstream:?}");
    }
}

/// Killed among thousands of stalls, it has the same picture after its first sweep, and the same verdict
/// with the second.
#[test]
fn after_kill_9_the_picture_is_the_same_with_ages_and_upstreams() {
    let Some(mut world) = World::new(2) else {
        return;
    };
    let many = if emulated() { 500 } else { 5000 };
    world.traffic(0, 0..20, Load::STEADY);
    let storm = world.traffic(1, 0..20, Load::Reports(many));
    world.watch();
    world.until_traffic(Duration::from_secs(60), "all are connected", |world| {
        world.counters(storm).connected() == u64::from(many)
    });
    world.all_ok();
    world.break_(1, Fault::Blackhole(Direction::Both));
    world.is_blamed(1, "blackhole");
    // Past six seconds the kernel forgets the routes.
    thread::sleep(Duration::from_secs(10));
    let picture = |world: &World| {
        let one = |it: Stall| {
            let since = Instant::now() - Duration::from_secs_f64(it.stalled_seconds);
            (
                (it.local, it.remote),
                (it.upstream, it.nexthop, it.cause, since),
            )
        };
        let stalls = world.stalls(&["--upstream", "provider-b"]);
        stalls.into_iter().map(one).collect::<BTreeMap<_, _>>()
    };
    let before = picture(&world);
    assert_eq!(before.len(), usize::from(many));
    let mut daemon = world.take_daemon();
    it_works(daemon.signal(Signal::KILL));
    it_works(daemon.wait(SOON));
    world.watch();
    let soon = if emulated() { SOON } else { SOON / 3 };
    world.until(soon, "all are told again", |status| {
        others_are_fine(status, "provider-b");
        let upstream = status.upstream("provider-b");
        upstream.is_some_and(|it| it.connections.stalled == u32::from(many))
    });
    let after = picture(&world);
    for (ends, (upstream, nexthop, cause, since)) in &before {
        let same = after.get(ends).expect("it is told");
        assert_eq!((upstream, nexthop, cause), (&same.0, &same.1, &same.2));
        let apart = same.3.max(*since) - same.3.min(*since);
        assert!(apart < Duration::from_secs(2), "{ends:?}: {apart:?}");
    }
    world.is_blamed(1, "blackhole");
}

//! Trouble that is older than the detector.

use std::{
    thread,
    time::{Duration, Instant},
};

use lab::{Direction, Fault, Load};

use crate::world::{SOON, START, World, others_are_fine};

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

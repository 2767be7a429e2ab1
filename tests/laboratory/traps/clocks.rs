//! Hosts whose timers run at another pace than usual.

use std::{thread, time::Duration};

use lab::{Direction, Fault, Load};

use super::{ss, turns_bad};
use crate::world::{RECOVERY, SOON, World, all_quiet, it_works};

/// Sets the shortest timeout of the second upstream's routes.
fn shortest_timeout(world: &World, span: &str) {
    let upstream = &world.lab.upstreams[1];
    let ((range, _), gateway) = (upstream.aggregates(), upstream.gateway);
    // Once its address is chosen, a socket's route comes from the upstream's own table.
    it_works(world.lab.host.ip(&format!(
        "route change {range} via {gateway} rto_min {span}\n\
         route change default via {gateway} table 101 rto_min {span}\n"
    )));
}

/// Two upstreams that do well; the shortest timeout at the second is this.
fn with_timeouts_of(span: &str) -> Option<World> {
    let mut world = World::new(2)?;
    shortest_timeout(&world, span);
    world.traffic(0, 0..20, Load::STEADY);
    let slow = world.traffic(1, 0..20, Load::STEADY);
    world.watch();
    world.all_ok();
    super::round_trips_are_known(&world, slow, 20);
    Some(world)
}

/// Timeouts that sockets of the second upstream have, in milliseconds.
fn timeouts(world: &World) -> Vec<f64> {
    let sockets = ss(&world.lab.host, &["-Htni", "dst", "198.18.64.0/18"]);
    let words = sockets.iter().flat_map(|it| it.split_whitespace());
    words
        .filter_map(|it| it.strip_prefix("rto:")?.parse().ok())
        .collect()
}

/// Trap: clocks of routes and sockets: with `rto_min` of two seconds, two timeouts take six.
#[test]
fn a_slow_clock_delays_the_verdict_and_hides_nothing() {
    let Some(world) = with_timeouts_of("2s") else {
        return;
    };
    assert!(timeouts(&world).iter().all(|it| *it >= 2000.0));
    world.break_(1, Fault::RandomLoss(3));
    world.hold(Duration::from_secs(4), "3 % are nothing", all_quiet);
    world.break_(1, Fault::Blackhole(Direction::Both));
    world.until(2 * SOON, "the black hole is found", |status| {
        crate::world::others_are_fine(status, "provider-b");
        status.is_failing("provider-b", "blackhole")
    });
}

/// Trap: clocks of routes and sockets: with `rto_min` of 20 ms, two timeouts take a moment.
#[test]
fn a_fast_clock_makes_no_alarm_of_a_lost_packet() {
    let Some(world) = with_timeouts_of("20ms") else {
        return;
    };
    assert!(timeouts(&world).iter().any(|it| *it < 100.0));
    world.break_(1, Fault::RandomLoss(3));
    world.hold(Duration::from_secs(8), "3 % are nothing", all_quiet);
    world.break_(1, Fault::Blackhole(Direction::Both));
    turns_bad(&world, "provider-b", "blackhole");
}

/// Trap: clocks of routes and sockets: the back-off ends at a second (`tcp_rto_max_ms`).
#[test]
fn where_timeouts_do_not_grow_the_age_of_a_stall_is_known_all_the_same() {
    let Some(mut world) = World::new(2) else {
        return;
    };
    it_works(world.lab.host.sysctl(&[("ipv4/tcp_rto_max_ms", "1000")]));
    world.traffic(0, 0..20, Load::STEADY);
    let traffic = world.traffic(1, 0..20, Load::STEADY);
    super::round_trips_are_known(&world, traffic, 20);
    world.break_(1, Fault::Blackhole(Direction::Both));
    let broken = std::time::Instant::now();
    thread::sleep(Duration::from_secs(8));
    assert!(timeouts(&world).iter().all(|it| *it <= 1000.0));
    world.watch();
    turns_bad(&world, "provider-b", "blackhole");
    let stalls = world.stalls(&["--upstream", "provider-b"]);
    assert!(stalls.len() >= 18, "only {}", stalls.len());
    let most = broken.elapsed().as_secs_f64() + 1.0;
    for stall in stalls {
        assert!((7.0..most).contains(&stall.stalled_seconds), "{stall:?}");
    }
    world.repair(1);
    world.until(RECOVERY, "it is ok again", |status| status.state == "ok");
}

//! What happens at the far end, to one destination or to many.

use std::time::Duration;

use lab::{Direction, Family, Fault, Load, Partial, Plan};

use super::{excluded, in_full, round_trips_are_known, steady, turns_bad};
use crate::world::{SOON, World, all_quiet, others_are_fine};

/// Trap: tiny samples, nights: one of one is 100 %.
#[test]
fn two_dead_destinations_are_too_little_to_judge_and_four_are_enough() {
    let Some(mut world) = World::new(3) else {
        return;
    };
    world.traffic(0, 0..20, Load::STEADY);
    world.traffic(1, 0..2, Load::STEADY);
    world.traffic(2, 0..4, Load::STEADY);
    world.watch();
    world.until(SOON, "those that can be judged are ok", |status| {
        status.state_of("provider-a") == "ok" && status.state_of("provider-c") == "ok"
    });
    world.break_(1, Fault::Blackhole(Direction::Both));
    world.break_(2, Fault::Blackhole(Direction::Both));
    world.until(SOON, "four of four are enough", |status| {
        others_are_fine(status, "provider-c");
        status.is_failing("provider-c", "blackhole")
    });
    world.until(SOON, "both of the two are seen to stall", |status| {
        let upstream = status.upstream("provider-b");
        upstream.is_some_and(|it| it.destinations.stalled == 2)
    });
    world.hold(Duration::from_secs(5), "two of two say nothing", |status| {
        status.state_of("provider-b") == "idle"
    });
}

/// Two upstreams that do well, and eight destinations that are dead through both of them.
fn a_popular_remote_is_down() -> Option<World> {
    let mut world = World::new(2)?;
    world.traffic(0, 0..20, Load::STEADY);
    world.traffic(1, 0..20, Load::STEADY);
    let popular = 20..28;
    let direct = Plan::new(&world.lab.upstreams[0], popular.clone(), Load::STEADY);
    let around = direct.clone().via(&world.lab.upstreams[1]);
    let both = [world.plan(&direct), world.plan(&around)];
    world.watch();
    world.all_ok();
    // Or else one way notices later than the other.
    for traffic in both {
        round_trips_are_known(&world, traffic, 8);
    }
    for number in popular {
        world.also_break(0, Partial::PeerGone(number));
    }
    Some(world)
}

/// Trap: a popular site that is down: everybody talks to it.
#[test]
fn destinations_dead_through_every_upstream_are_nobodys_fault() {
    let Some(world) = a_popular_remote_is_down() else {
        return;
    };
    world.hold(Duration::from_secs(8), "nobody is blamed", all_quiet);
    world.until(SOON, "they are said to be dead elsewhere too", |status| {
        excluded(status, "provider-a", "elsewhere") >= 8
            && excluded(status, "provider-b", "elsewhere") >= 8
    });
}

/// Trap: a popular site that is down: then one of the upstreams dies, and what was excused by it
/// stays excused.
#[test]
fn destinations_dead_through_every_upstream_hide_no_black_hole_and_make_none() {
    let Some(world) = a_popular_remote_is_down() else {
        return;
    };
    world.hold(Duration::from_secs(4), "nobody is blamed", all_quiet);
    world.break_(1, Fault::Blackhole(Direction::Both));
    turns_bad(&world, "provider-b", "blackhole");
    world.hold(Duration::from_secs(6), "it alone is blamed", |status| {
        status.state_of("provider-a") == "ok"
    });
}

/// Trap: scanners, half-open connections, clients that walk away: they stay stalled for a quarter
/// of an hour.
#[test]
fn peers_that_walk_away_one_by_one_are_no_event_and_as_many_at_once_are() {
    let Some(mut world) = World::new(2) else {
        return;
    };
    world.traffic(0, 0..40, Load::STEADY);
    world.traffic(1, 0..40, Load::STEADY);
    world.watch();
    world.all_ok();
    let (count, pause) = if in_full() { (16, 5) } else { (6, 3) };
    for number in 0..count {
        world.also_break(1, Partial::PeerGone(number));
        world.hold(Duration::from_secs(pause), "one more is gone", all_quiet);
    }
    let gone = world.lab.upstreams[1].prefix(0, Family::V4);
    let stalls = world.stalls(&["--upstream", "provider-b"]);
    assert!(
        stalls.iter().any(|stall| stall.destination == gone),
        "the first is listed: {stalls:?}"
    );
    for number in 0..8 {
        world.also_break(0, Partial::PeerGone(number));
    }
    turns_bad(&world, "provider-a", "blackhole");
}

/// Trap: one of several paths behind the router: it is dead, and every destination is reached all
/// the same.
#[test]
fn one_dead_path_of_four_behind_the_router_is_found() {
    let Some(mut world) = World::new(2) else {
        return;
    };
    world.traffic(0, 0..12, steady(8));
    let traffic = world.traffic(1, 0..12, steady(8));
    world.watch();
    world.all_ok();
    round_trips_are_known(&world, traffic, 96);
    world.also_break(1, Partial::OnePathOfFour);
    let status = turns_bad(&world, "provider-b", "blackhole");
    let upstream = status.upstream("provider-b").expect("it is listed");
    let hanging = upstream.connections.suspect + upstream.connections.stalled;
    assert!(2 * hanging < 96, "most do well: {}", status.summary());
}

/// Trap: one of several paths behind the router: single connections that hang while their siblings
/// do well.
#[test]
fn two_connections_that_hang_are_not_a_path() {
    let Some(mut world) = World::new(2) else {
        return;
    };
    world.traffic(0, 0..12, steady(8));
    world.traffic(1, 0..12, steady(8));
    for (destination, port) in [(3, 4003), (7, 4007)] {
        let only = destination..destination + 1;
        let mut plan =
            Plan::new(&world.lab.upstreams[1], only, Load::STEADY).via(&world.lab.upstreams[1]);
        plan.from
            .as_mut()
            .expect("it comes from somewhere")
            .set_port(port);
        world.plan(&plan);
    }
    world.watch();
    world.all_ok();
    world.also_break(1, Partial::FromPort(4003));
    world.also_break(1, Partial::FromPort(4007));
    world.hold(Duration::from_secs(8), "nobody is blamed", all_quiet);
    let stalls = world.stalls(&["--upstream", "provider-b"]);
    let ports: Vec<_> = stalls
        .iter()
        .filter_map(|stall| stall.local.rsplit(':').next())
        .collect();
    assert_eq!(ports.len(), 2, "{stalls:?}");
    assert!(
        ports.contains(&"4003") && ports.contains(&"4007"),
        "{stalls:?}"
    );
}

//! What the sensors get wrong must not matter.

use std::time::Duration;

use proptest::prelude::*;

use super::{
    samples,
    world::{World, hop},
};
use crate::{
    engine::{Engine, Settings},
    model::{ConnectionId, Input, LOOPBACK, NextHop, Sample, State, Sweep, Transition},
};

fn outage(configure: impl Fn(&mut World)) -> World {
    let mut world = World::new();
    configure(&mut world);
    world
        .open("a", 0..20, 2)
        .open("b", 0..20, 2)
        .run(60)
        .hang("b", 0..20)
        .run(20)
        .heal("b")
        .run(60)
}

fn states(world: &World) -> Vec<String> {
    world
        .story()
        .iter()
        .map(|line| line.split_once(' ').unwrap().1.to_owned())
        .collect()
}

/// Trap: a walk that is no snapshot.
#[test]
fn entries_that_come_twice_or_not_at_all_change_nothing() {
    assert_eq!(
        states(&outage(|world| world.blurred = true)),
        states(&outage(|_| ()))
    );
}

/// Trap: lost events.
#[test]
fn lost_events_cost_latency_and_nothing_else() {
    assert_eq!(
        states(&outage(|world| world.deaf = true)),
        states(&outage(|_| ()))
    );
}

#[test]
fn events_older_than_the_sweep_are_harmless() {
    let late = outage(|world| world.slow_ring = true);
    assert_eq!(states(&late), states(&outage(|_| ())));
    assert!(late.stalls().is_empty());
}

#[test]
fn an_old_event_does_not_undo_progress() {
    let mut world = World::new()
        .open("b", 0..20, 1)
        .run(30)
        .hang("b", 0..20)
        .run(2);
    let old = world.look(1).unwrap();
    world = world.heal("b").run(20);
    assert!(world.stalls().is_empty());
    world.inject(Input::Timeout(old));
    assert!(
        world.stalls().is_empty(),
        "a connection that moved on is not stuck"
    );
}

#[test]
fn a_sweep_that_shows_nothing_does_not_panic_and_twice_is_needed() {
    let mut world = World::new()
        .open("b", 0..20, 1)
        .run(30)
        .hang("b", 0..20)
        .run(5);
    world.inject(Input::Sweep(Sweep::default()));
    assert_eq!(world.stalls().len(), 20);
    world.inject(Input::Sweep(Sweep::default()));
    assert!(world.stalls().is_empty());
}

#[test]
fn the_end_of_an_unknown_connection_is_nothing() {
    let mut world = World::new();
    world.inject(Input::Closed(ConnectionId(7)));
    assert!(world.log.is_empty());
}

#[test]
fn connections_without_a_known_route_are_asked_for_and_told() {
    let mut world = World::new()
        .open("b", 0..20, 1)
        .run(30)
        .hang("b", 0..20)
        .run(20);
    world.looks_up_routes = false;
    let mut world = world.restart().run(5);
    assert!(
        world
            .stalls()
            .iter()
            .all(|stall| stall.upstream == "unknown")
    );
    world.looks_up_routes = true;
    let world = world.run(5).expect_state("b", State::Failing);
    assert!(world.stalls().iter().all(|stall| stall.upstream == "b"));
}

#[test]
fn what_stays_within_the_host_is_asked_for_once() {
    let stuck = Sample {
        unacked: 500,
        packets_out: 1,
        timeouts: 5,
        next_hop: None,
        ..samples::any()
    };
    let settings = Settings {
        stall_after: Duration::from_secs(3),
        ignore: Vec::new(),
        rules: Vec::new(),
    };
    let mut engine = Engine::new(settings, stuck.at);
    // Whether it is asked for after a sweep that shows it like this.
    let mut asked_for = |seconds, next_hop| {
        let at = stuck.at.after(Duration::from_secs(seconds));
        let samples = vec![Sample {
            at,
            next_hop,
            ..stuck.clone()
        }];
        let sweep = Sweep {
            samples,
            ..Sweep::default()
        };
        engine.handle(at, Input::Sweep(sweep));
        let asked = engine.without_route().count() > 0;
        if asked {
            let loopback = NextHop {
                interface: LOOPBACK,
                gateway: None,
                ..hop(0)
            };
            engine.handle(at, Input::Route(stuck.id, loopback));
        }
        asked
    };
    assert!(asked_for(0, None));
    for seconds in 1..20 {
        assert!(!asked_for(seconds, None), "the answer is remembered");
    }
    assert!(!asked_for(20, Some(hop(0))), "it has a route, and leaves");
    assert!(!asked_for(21, None), "which is remembered as well");
}

#[test]
fn the_same_inputs_give_the_same_story() {
    outage(|_| ()).assert_replays();
    outage(|world| world.blurred = true).assert_replays();
}

#[test]
fn time_alone_moves_a_suspect_to_stalled() {
    let mut world = World::new()
        .open("b", 0..20, 1)
        .run(30)
        .hang("b", 0..20)
        .run(2);
    assert!(
        world
            .stalls()
            .iter()
            .all(|stall| stall.phase.word() == "suspect")
    );
    world.later(Duration::from_secs(2));
    assert!(
        world
            .stalls()
            .iter()
            .all(|stall| stall.phase.word() == "stalled")
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn the_order_within_a_sweep_does_not_matter(seed in any::<u64>()) {
        let sorted = |world: &World| {
            let mut log: Vec<_> = world.log.iter().map(|it| (it.0, format!("{:?}", it.1))).collect();
            log.sort();
            log
        };
        let usual = outage(|_| ());
        let shuffled = outage(|world| world.shuffled = Some(seed));
        prop_assert_eq!(sorted(&usual), sorted(&shuffled));
        prop_assert_eq!(usual.snapshot().upstreams, shuffled.snapshot().upstreams);
    }
}

#[test]
fn timeouts_are_counted_once() {
    let world = World::new()
        .open("b", 0..20, 1)
        .run(30)
        .hang("b", 0..20)
        .run(10);
    let counted: u64 = world
        .log
        .iter()
        .map(|(_, transition)| match transition {
            Transition::Timeouts { count, .. } => *count,
            _ => 0,
        })
        .sum();
    let happened: u64 = (1..=20)
        .map(|id| u64::from(world.look(id).unwrap().timeouts))
        .sum();
    assert_eq!(counted, happened);
}

#[test]
fn every_stall_begins_once_and_ends_once() {
    let world = outage(|_| ());
    let count = |wanted: fn(&Transition) -> bool| {
        world
            .log
            .iter()
            .filter(|(_, transition)| wanted(transition))
            .count()
    };
    assert_eq!(count(|it| matches!(it, Transition::StallBegan { .. })), 40);
    assert_eq!(count(|it| matches!(it, Transition::StallEnded { .. })), 40);
}

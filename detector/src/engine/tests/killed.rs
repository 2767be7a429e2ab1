//! Connections that somebody resets are counted as such, whether an event tells of their end or not, and
//! no others are.

use std::collections::BTreeMap;

use super::world::World;
use crate::model::{ConnectionId, Input, Outcome, Transition};

/// Two upstreams with 20 connections each, all of which hang.
fn stuck() -> World {
    World::new()
        .open("a", 0..20, 1)
        .open("b", 0..20, 1)
        .run(30)
        .hang("a", 0..20)
        .hang("b", 0..20)
        .run(10)
}

/// Somebody resets the connections of `b`, whose numbers come second.
fn kill_b(world: &mut World) {
    world.inject(Input::Killed((21..=40).map(ConnectionId).collect()));
}

/// How many stalls ended in which way, by upstream.
fn ended(world: &World) -> BTreeMap<(String, Outcome), usize> {
    let mut ended = BTreeMap::new();
    for (_, transition) in &world.log {
        if let Transition::StallEnded {
            upstream, outcome, ..
        } = transition
        {
            *ended.entry((upstream.clone(), *outcome)).or_default() += 1;
        }
    }
    ended
}

fn counts(of: &[(&str, Outcome, usize)]) -> BTreeMap<(String, Outcome), usize> {
    of.iter()
        .map(|(upstream, outcome, count)| (((*upstream).to_owned(), *outcome), *count))
        .collect()
}

#[test]
fn what_was_reset_is_counted_as_such_when_an_event_tells_of_its_end() {
    let mut world = stuck();
    kill_b(&mut world);
    let world = world.close("a", 0..20).close("b", 0..20).run(5);
    let expected = [("a", Outcome::Closed, 20), ("b", Outcome::Killed, 20)];
    assert_eq!(ended(&world), counts(&expected));
    world.assert_replays();
}

#[test]
fn what_was_reset_is_counted_as_such_when_only_sweeps_miss_it() {
    let mut world = stuck();
    world.deaf = true;
    kill_b(&mut world);
    let world = world.close("a", 0..20).close("b", 0..20).run(10);
    let expected = [("a", Outcome::Recovered, 20), ("b", Outcome::Killed, 20)];
    assert_eq!(ended(&world), counts(&expected));
}

/// Between the answer and the look at the socket data got through again.
#[test]
fn what_has_recovered_first_was_not_reset() {
    let mut world = stuck();
    kill_b(&mut world);
    let world = world.heal("b").run(120);
    assert_eq!(
        ended(&world),
        counts(&[("b", Outcome::Recovered, 20)]),
        "{:?}",
        world.story()
    );
    // Nor is it when it ends afterwards.
    let world = world.hang("b", 0..20).run(10).close("b", 0..20).run(5);
    let expected = [("b", Outcome::Recovered, 20), ("b", Outcome::Closed, 20)];
    assert_eq!(ended(&world), counts(&expected));
}

/// The kernel has refused, or whoever asked has gone away.
#[test]
fn what_was_not_reset_after_all_is_forgotten() {
    let mut world = stuck();
    kill_b(&mut world);
    let world = world.run(130).close("b", 0..20).run(5);
    assert_eq!(ended(&world), counts(&[("b", Outcome::Closed, 20)]));
}

#[test]
fn numbers_that_nobody_knows_are_not_remembered() {
    let mut world = World::new().open("b", 0..20, 1).run(30);
    world.inject(Input::Killed((1000..2000).map(ConnectionId).collect()));
    assert!(world.engine.killed.is_empty());
    assert!(ended(&world.run(10)).is_empty());
}

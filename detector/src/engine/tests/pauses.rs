//! Links that pause now and then, and links that are dead.

use super::world::World;
use crate::model::State;

/// Twenty destinations through a link that has paused for so many seconds, so often, ten minutes apart.
fn paused(seconds: u64, times: u32) -> World {
    let mut world = World::new().open("b", 0..20, 2).run(600);
    for _ in 0..times {
        world = world.hang("b", 0..20).run(seconds).heal("b").run(600);
    }
    world
}

/// When that is over.
fn ends(seconds: u64, times: u64) -> u64 {
    600 + times * (seconds + 600)
}

#[test]
fn a_link_that_has_paused_three_times_may_pause_again() {
    let world = paused(3, 3);
    assert_eq!(world.story().len(), 7, "told thrice: {:#?}", world.story());
    let again = paused(3, 9);
    assert_eq!(again.story(), world.story());
}

#[test]
fn longer_pauses_are_excused_as_far_as_they_are_usual() {
    let world = paused(5, 3);
    let again = world.clone().hang("b", 0..20).run(5).heal("b").run(600);
    assert_eq!(again.story(), world.story());
    let longer = world.clone().hang("b", 0..20).run(14).heal("b").run(600);
    assert_eq!(longer.story().len(), world.story().len() + 2);
}

#[test]
fn a_black_hole_at_a_link_that_pauses_is_told_when_it_lasts_longer_than_they_do() {
    let world = paused(3, 3).hang("b", 0..20).run(30);
    let found = world.delay("b", State::Failing, ends(3, 3));
    assert!((6.0..9.0).contains(&found), "{found}: {:#?}", world.story());
}

#[test]
fn what_is_known_of_pauses_survives_a_restart() {
    let world = paused(3, 3);
    let learned = world.learned();
    let restarted = world.restart_with(learned).run(120);
    let story = restarted.story();
    let again = restarted.hang("b", 0..20).run(3).heal("b").run(60);
    assert_eq!(again.story(), story);
}

#[test]
fn outages_that_follow_each_other_within_a_minute_are_no_habit() {
    let mut world = World::new().open("b", 0..20, 2).run(600);
    for _ in 0..10 {
        world = world.hang("b", 0..20).run(4).heal("b").run(20);
    }
    let bad = world
        .story()
        .iter()
        .filter(|it| it.contains("Ok->Failing"))
        .count();
    assert!(bad >= 9, "{:#?}", world.story());
}

#[test]
fn an_outage_of_a_minute_is_no_pause_however_often_it_comes() {
    let world = paused(60, 4);
    let again = world.hang("b", 0..20).run(30);
    let found = again.delay("b", State::Failing, ends(60, 4));
    assert!(found < 2.5, "{found}");
}

#[test]
fn part_of_a_link_that_pauses_does_not_hide_behind_it() {
    let world = paused(3, 3).hang("b", 0..8).run(30);
    let found = world.delay("b", State::Degraded, ends(3, 3));
    assert!(found < 9.0, "{found}: {:#?}", world.story());
}

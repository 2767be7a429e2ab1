//! What must not be held against an upstream.

use super::world::World;
use crate::model::{Cause, Excluded};

#[test]
fn nothing_is_said_about_a_quiet_day() {
    World::new()
        .open("a", 0..30, 2)
        .run(3600)
        .expect(&["3s a Idle->Ok"]);
}

#[test]
fn idle_connections_and_long_polls_are_not_stalled() {
    let world = World::new()
        .open("a", 0..30, 1)
        .idle("a", 0..100, 3)
        .long_poll("a", 100..200, 1)
        .run(3600)
        .expect(&["3s a Idle->Ok"]);
    assert!(world.stalls().is_empty());
    let a = world.upstream("a");
    assert_eq!(a.excluded.get(&Excluded::Idle), Some(&300));
    assert_eq!(a.excluded.get(&Excluded::Waiting), Some(&100));
    assert_eq!(a.active_destinations, 30);
}

#[test]
fn idle_connections_behind_a_dead_link_say_nothing_about_it() {
    World::new()
        .idle("b", 0..100, 3)
        .run(60)
        .hang("b", 0..100)
        .run(600)
        .expect(&[]);
}

#[test]
fn slow_readers_are_the_peers_doing() {
    let world = World::new()
        .open("a", 0..10, 1)
        .slow_readers("a", 10..110, 2, 0)
        .slow_readers("a", 110..210, 1, 500)
        .run(1800)
        .expect(&["3s a Idle->Ok"]);
    let stalls = world.stalls();
    assert_eq!(stalls.len(), 300);
    assert!(stalls.iter().all(|stall| stall.cause == Cause::ZeroWindow));
    assert!(
        stalls
            .iter()
            .all(|stall| stall.excluded == Some(Excluded::ZeroWindow))
    );
    assert_eq!(
        world.upstream("a").excluded.get(&Excluded::ZeroWindow),
        Some(&300)
    );
    assert_eq!(world.upstream("a").stalled_connections(), 0);
}

#[test]
fn slow_readers_alone_are_too_little_to_judge() {
    World::new()
        .slow_readers("a", 0..100, 3, 0)
        .run(600)
        .expect(&[]);
}

#[test]
fn one_dead_server_with_500_connections_is_not_the_upstream() {
    let world = World::new()
        .open("a", 0..30, 1)
        .open("a", 7..8, 500)
        .run(60)
        .hang("a", 7..8)
        .run(3600)
        .expect(&["3s a Idle->Ok"]);
    let stalls = world.stalls();
    assert_eq!(stalls.len(), 501);
    assert!(
        stalls
            .iter()
            .all(|stall| stall.excluded == Some(Excluded::OneDestination))
    );
}

#[test]
fn two_dead_servers_of_forty_are_not_the_upstream() {
    World::new()
        .open("a", 0..40, 2)
        .run(60)
        .hang("a", 3..5)
        .run(3600)
        .expect(&["3s a Idle->Ok"]);
}

#[test]
fn two_of_two_is_too_little() {
    World::new()
        .open("a", 0..2, 50)
        .run(60)
        .hang("a", 0..2)
        .run(600)
        .expect(&[]);
}

#[test]
fn one_dead_server_of_three_is_not_the_upstream() {
    World::new()
        .open("a", 0..3, 5)
        .run(60)
        .hang("a", 0..1)
        .run(600)
        .expect(&["3s a Idle->Ok"]);
}

#[test]
fn ordinary_congestion_is_silent() {
    World::new()
        .open("a", 0..40, 2)
        .run(10)
        .lossy("a", 0..40, 5)
        .run(1800)
        .expect(&["3s a Idle->Ok"]);
}

/// Trap: a link that pauses.
#[test]
fn a_hiccup_of_half_a_second_is_forgiven() {
    let mut world = World::new().open("a", 0..40, 2).run(60);
    for _ in 0..20 {
        world = world.hang("a", 0..40);
        world.skip_milliseconds(500);
        world = world.heal("a").run(30);
    }
    world.expect(&["3s a Idle->Ok"]);
}

/// Trap: senders with nothing to send.
#[test]
fn a_connection_that_speaks_rarely_has_no_vote_meanwhile() {
    let world = World::new().open_paced("a", 0..20, 1, 60).run(600);
    assert!(world.upstream("a").active_destinations < 10);
    assert!(world.stalls().is_empty());
}

#[test]
fn a_minute_of_trouble_at_the_sibling_changes_nothing_here() {
    let world = World::new()
        .open("a", 0..30, 1)
        .open("b", 0..30, 1)
        .run(60)
        .hang("b", 0..30)
        .run(60);
    let about_a = world
        .story()
        .into_iter()
        .filter(|line| line.contains(" a "))
        .count();
    assert_eq!(about_a, 1);
}

#[test]
fn an_hour_with_530_connections_of_all_kinds() {
    World::new()
        .open("a", 0..30, 1)
        .idle("a", 0..100, 3)
        .slow_readers("a", 200..300, 1, 0)
        .long_poll("a", 300..400, 1)
        .run(3600)
        .expect(&["3s a Idle->Ok"]);
}

#[test]
fn peers_that_walk_away_one_by_one_are_not_the_upstream() {
    let mut world = World::new().open("b", 0..105, 1).run(60);
    for number in 0..45 {
        world = world.hang("b", number..number + 1).run(20);
    }
    world.expect(&["3s b Idle->Ok"]);
}

//! What must be noticed, how fast, and what it is called.

use super::world::World;
use crate::model::{Cause, Scope, State};

/// Two upstreams at work for a minute.
fn two() -> World {
    World::new().open("a", 0..20, 2).open("b", 0..20, 2).run(60)
}

#[test]
fn a_black_hole_is_named_within_two_seconds_while_its_sibling_stays_ok() {
    let world = two().hang("b", 0..20).run(30);
    assert!(
        world.delay("b", State::Failing, 60) < 2.0,
        "{:?}",
        world.story()
    );
    world.expect(&[
        "3s a Idle->Ok",
        "3s b Idle->Ok",
        "61s b Ok->Failing blackhole",
    ]);
}

#[test]
fn the_evidence_says_how_many_destinations_and_how_they_do_elsewhere() {
    let world = two().hang("b", 0..18).run(5);
    let b = world.upstream("b");
    assert_eq!(
        (b.active_destinations, b.stalled_destinations.len()),
        (20, 18)
    );
    assert_eq!((b.elsewhere, b.fine_elsewhere), (18, 18));
    assert_eq!(b.stalled_connections(), 36);
    assert!(b.confidence > 0.99);
    assert_eq!(world.upstream("a").stalled_destinations, []);
    assert_eq!(world.stalls().len(), 36);
}

#[test]
fn connections_stay_counted_when_the_kernel_has_dropped_their_routes() {
    let before = two().upstream("b").counts();
    let during = two().hang("b", 0..20).run(30).upstream("b").counts();
    assert_eq!(during.established(), before.established());
    assert_eq!((during.suspicious, during.active()), (40, 40));
}

#[test]
fn without_events_the_sweeps_find_it_some_seconds_later() {
    let mut world = two();
    world.deaf = true;
    let world = world.hang("b", 0..20).run(30);
    assert!(
        world.delay("b", State::Failing, 60) < 6.0,
        "{:?}",
        world.story()
    );
    world.expect_state("a", State::Ok);
}

#[test]
fn three_destinations_are_enough() {
    let world = World::new()
        .open("b", 0..3, 1)
        .run(60)
        .hang("b", 0..3)
        .run(10);
    assert!(world.delay("b", State::Failing, 60) < 2.0);
}

#[test]
fn when_only_large_segments_vanish_it_is_the_mtu_for_as_long_as_it_lasts() {
    let world = World::new()
        .open("a", 0..20, 2)
        .open_sized("b", 0..20, 1, 4000)
        .open_sized("b", 0..20, 1, 120)
        .run(60)
        .hang_large("b", 1000)
        .run(600);
    assert!(world.delay("b", State::Failing, 60) < 3.0);
    let b = world.upstream("b");
    assert_eq!(
        (b.state, b.cause),
        (State::Failing, Some(Cause::Mtu)),
        "{:?}",
        world.story()
    );
    assert!(
        !world
            .story()
            .iter()
            .any(|line| line.contains("Failing->Ok"))
    );
    world.expect_state("a", State::Ok);
}

#[test]
fn when_small_segments_vanish_too_it_is_not_the_mtu() {
    World::new()
        .open_sized("b", 0..20, 1, 4000)
        .open_sized("b", 0..20, 1, 120)
        .run(60)
        .hang("b", 0..20)
        .run(60)
        .expect(&["3s b Idle->Ok", "61s b Ok->Failing blackhole"]);
}

#[test]
fn a_gateway_that_does_not_answer_is_named_as_the_neighbour() {
    let world = two().silent_gateway("b").run(20);
    assert!(world.delay("b", State::Failing, 60) < 2.0);
    let b = world.upstream("b");
    assert_eq!(b.cause, Some(Cause::Neighbour));
    assert!(
        world
            .stalls()
            .iter()
            .all(|stall| stall.cause == Cause::Neighbour)
    );
    world.expect_state("a", State::Ok);
}

#[test]
fn a_firewall_on_this_host_is_named_as_local_although_no_event_tells_of_it() {
    let world = two().firewall("b").run(20);
    assert!(
        world.delay("b", State::Failing, 60) < 7.0,
        "{:?}",
        world.story()
    );
    assert_eq!(world.upstream("b").cause, Some(Cause::Local));
    world.expect_state("a", State::Ok);
}

#[test]
fn the_smaller_part_is_degraded_and_the_larger_failing() {
    let world = World::new()
        .open("b", 0..20, 1)
        .run(60)
        .hang("b", 0..5)
        .run(10)
        .expect_state("b", State::Degraded)
        .hang("b", 5..15)
        .run(5)
        .expect_state("b", State::Failing);
    // Others get through, so that a third timeout is waited for.
    assert!(world.delay("b", State::Degraded, 60) < 3.0);
    assert!(world.delay("b", State::Failing, 70) < 2.0);
}

#[test]
fn trouble_at_every_upstream_at_once_is_common() {
    let world = two().hang("a", 0..20).hang("b", 0..20).run(10);
    assert_eq!(world.snapshot().scope, Some(Scope::Common));
    assert_eq!(world.upstream("a").scope, Some(Scope::Common));
    assert_eq!(world.upstream("b").scope, Some(Scope::Common));
}

#[test]
fn trouble_at_the_only_upstream_is_not_common() {
    let world = World::new()
        .open("b", 0..20, 1)
        .run(60)
        .hang("b", 0..20)
        .run(10);
    assert_eq!(world.upstream("b").scope, Some(Scope::Upstream));
}

#[test]
fn trouble_beside_an_idle_upstream_is_not_common() {
    let world = World::new()
        .open("b", 0..20, 1)
        .idle("a", 0..20, 1)
        .run(60)
        .hang("b", 0..20)
        .run(10)
        .expect_state("a", State::Idle);
    assert_eq!(world.upstream("b").scope, Some(Scope::Upstream));
}

#[test]
fn heavy_loss_is_noticed() {
    let world = two().lossy("b", 0..20, 70).run(60);
    assert!(
        world.delay("b", State::Failing, 60) < 20.0,
        "{:#?}",
        world.story()
    );
    world.expect_state("a", State::Ok);
}

#[test]
fn a_dead_path_behind_closed_windows_is_noticed_all_the_same() {
    let world = World::new()
        .open("a", 0..20, 1)
        .slow_readers("b", 0..20, 1, 0)
        .run(5)
        .hang("b", 0..20)
        .run(60);
    assert_eq!(
        world.upstream("b").state,
        State::Failing,
        "{:#?}",
        world.story()
    );
}

#[test]
fn a_restarted_daemon_is_right_again_after_one_sweep() {
    let world = two().hang("b", 0..20).run(30).restart().run(5);
    let b = world.upstream("b");
    assert_eq!((b.state, b.cause), (State::Failing, Some(Cause::Blackhole)));
    // The kernel remembers since when.
    assert!(
        world
            .stalls()
            .iter()
            .all(|stall| world.snapshot().at.since(stall.since).as_secs() >= 33)
    );
    world.expect_state("a", State::Ok);
}

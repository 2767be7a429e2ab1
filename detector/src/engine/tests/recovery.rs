//! The way back, and what stays when nothing gets better.

use super::world::World;
use crate::model::{Cause, State};

#[test]
fn after_ten_seconds_of_outage_it_is_ok_within_fifteen() {
    let world = World::new()
        .open("b", 0..20, 2)
        .run(60)
        .hang("b", 0..20)
        .run(10)
        .heal("b")
        .run(60);
    assert!(
        world.delay("b", State::Ok, 70) < 15.0,
        "{:?}",
        world.story()
    );
    assert_eq!(world.story().len(), 3, "{:?}", world.story());
}

#[test]
fn after_five_minutes_of_outage_it_is_ok_as_soon_as_new_connections_say_so() {
    let world = World::new()
        .open("b", 0..20, 2)
        .run(60)
        .hang("b", 0..20)
        .run(300)
        .heal("b")
        .open("b", 0..20, 1)
        .run(60);
    assert!(
        world.delay("b", State::Ok, 360) < 15.0,
        "{:?}",
        world.story()
    );
    assert_eq!(world.story().len(), 3, "{:?}", world.story());
}

#[test]
fn new_connections_to_half_of_the_destinations_are_enough() {
    let world = World::new()
        .open("b", 0..20, 2)
        .run(60)
        .hang("b", 0..20)
        .run(300)
        .heal("b")
        .open("b", 0..10, 1)
        .run(60);
    assert!(
        world.delay("b", State::Ok, 360) < 15.0,
        "{:?}",
        world.story()
    );
}

#[test]
fn it_stays_failing_as_long_as_nothing_gets_through() {
    World::new()
        .open("b", 0..20, 2)
        .run(60)
        .hang("b", 0..20)
        .run(1800)
        .expect(&["3s b Idle->Ok", "61s b Ok->Failing blackhole"]);
}

#[test]
fn partial_trouble_stays_as_long_as_it_lasts() {
    World::new()
        .open("b", 0..20, 2)
        .run(60)
        .hang("b", 0..6)
        .run(600)
        .expect(&["3s b Idle->Ok", "62s b Ok->Degraded blackhole"]);
}

#[test]
fn trouble_of_the_larger_part_stays_as_long_as_it_lasts() {
    World::new()
        .open("b", 0..20, 2)
        .run(60)
        .hang("b", 0..15)
        .run(600)
        .expect(&["3s b Idle->Ok", "62s b Ok->Failing blackhole"]);
}

#[test]
fn partial_trouble_ends_when_it_is_repaired() {
    let world = World::new()
        .open("b", 0..20, 1)
        .run(60)
        .hang("b", 0..6)
        .run(20)
        .heal("b")
        .run(60);
    assert!(
        world.delay("b", State::Ok, 80) < 20.0,
        "{:?}",
        world.story()
    );
}

#[test]
fn a_dead_server_that_stays_behind_does_not_hold_the_state() {
    let world = World::new()
        .open("b", 0..20, 2)
        .run(60)
        .hang("b", 0..20)
        .run(30)
        .heal_only("b", 1..20)
        .run(60)
        .expect_state("b", State::Ok);
    assert_eq!(world.stalls().len(), 2);
}

#[test]
fn an_upstream_that_everybody_left_becomes_idle_after_five_minutes_and_never_ok() {
    let world = World::new()
        .open("b", 0..20, 2)
        .run(60)
        .hang("b", 0..20)
        .run(10)
        .close("b", 0..20)
        .run(200)
        .expect_state("b", State::Failing)
        .run(200);
    assert!(
        (300.0..310.0).contains(&world.delay("b", State::Idle, 70)),
        "{:?}",
        world.story()
    );
    assert_eq!(world.story().len(), 3);
}

#[test]
fn whoever_hangs_up_at_once_does_not_say_that_all_is_well() {
    for seconds in [3, 4, 6, 9] {
        let world = World::new()
            .open("b", 0..20, 2)
            .run(60)
            .hang("b", 0..20)
            .run(seconds)
            .expect_state("b", State::Failing)
            .close("b", 0..20)
            .run(200)
            .expect_state("b", State::Failing);
        assert_eq!(world.story().len(), 2, "{:?}", world.story());
        let world = world.heal("b").open("b", 0..20, 1).run(20);
        assert_eq!(world.story().len(), 3, "{:?}", world.story());
        world.expect_state("b", State::Ok);
    }
}

#[test]
fn an_upstream_that_fell_silent_while_well_becomes_idle_after_half_a_minute() {
    let world = World::new()
        .open("b", 0..20, 2)
        .run(60)
        .close("b", 0..20)
        .run(60);
    assert!(
        (30.0..45.0).contains(&world.delay("b", State::Idle, 60)),
        "{:?}",
        world.story()
    );
}

#[test]
fn the_mtu_hole_is_over_when_large_segments_pass_again() {
    let world = World::new()
        .open_sized("b", 0..20, 1, 4000)
        .open_sized("b", 0..20, 1, 120)
        .run(60)
        .hang_large("b", 1000)
        .run(10)
        .heal("b")
        .run(60);
    assert!(
        world.delay("b", State::Ok, 70) < 20.0,
        "{:?}",
        world.story()
    );
}

#[test]
fn after_a_change_of_route_the_stall_stays_with_the_old_gateway() {
    let world = World::new()
        .open("a", 50..70, 1)
        .open("b", 0..20, 1)
        .run(60)
        .hang("b", 0..20)
        .run(8)
        .reroute("b", "a");
    let at_once = world.clone().run(1);
    assert!(at_once.stalls().iter().all(|stall| stall.upstream == "b"));
    assert!(!at_once.stalls().is_empty());
    let later = world.run(60);
    assert!(later.stalls().is_empty());
    assert_eq!(later.upstream("b").cause, Some(Cause::Blackhole));
    assert_ne!(
        later.upstream("b").state,
        State::Ok,
        "nobody has tried it since"
    );
    assert_eq!(later.upstream("a").active_destinations, 40);
    assert_eq!(
        later
            .story()
            .iter()
            .filter(|line| line.contains(" a "))
            .count(),
        1
    );
}

#[test]
fn a_flapping_link_is_not_told_ten_times_a_minute() {
    let mut world = World::new().open("b", 0..20, 2).run(60);
    for _ in 0..10 {
        world = world.hang("b", 0..20).run(3).heal("b").run(3);
    }
    let changes = world.story().len();
    assert!(changes <= 5, "{:#?}", world.story());
}

#[test]
fn a_late_repetition_after_the_repair_is_no_new_trouble() {
    // Timers of the stuck ones run out long after the state is ok again; a sweep is asked for
    // before their timeouts are believed.
    World::new()
        .open("b", 0..20, 2)
        .run(60)
        .hang("b", 0..20)
        .run(300)
        .heal("b")
        .open("b", 0..20, 5)
        .run(300)
        .expect(&[
            "3s b Idle->Ok",
            "61s b Ok->Failing blackhole",
            "364s b Failing->Ok",
        ]);
}

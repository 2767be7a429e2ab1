//! Loss, partial trouble, and what looks like trouble and is not.

use std::{net::SocketAddr, time::Duration};

use super::{
    samples,
    world::{NETNS, World, hop},
};
use crate::{
    config::Rule,
    engine::{Engine, Settings},
    model::{Cause, ConnectionId, Counts, Excluded, Input, Sample, State, Sweep},
};

fn two() -> World {
    World::new().open("a", 0..20, 2).open("b", 0..20, 2).run(60)
}

#[test]
fn a_fifth_lost_is_noticed_within_a_minute_and_called_loss() {
    let world = two().lossy("b", 0..20, 20).run(60);
    let (state, cause) = (world.upstream("b").state, world.upstream("b").cause);
    assert_ne!(state, State::Ok, "{:#?}", world.story());
    assert_eq!(cause, Some(Cause::Loss), "{:#?}", world.story());
    let lost = world.upstream("b").evidence.lost.unwrap();
    assert!((0.1..0.3).contains(&lost), "{lost}");
    world.expect_state("a", State::Ok);
}

#[test]
fn a_third_lost_is_noticed_within_fifteen_seconds() {
    let world = two().lossy("b", 0..20, 30).run(15);
    assert_eq!(world.upstream("b").cause, Some(Cause::Loss));
}

#[test]
fn five_in_a_hundred_lost_is_ordinary() {
    two()
        .lossy("b", 0..20, 5)
        .run(3600)
        .expect(&["3s a Idle->Ok", "3s b Idle->Ok"]);
}

#[test]
fn loss_is_over_when_it_is_over() {
    let world = two().lossy("b", 0..20, 30).run(60).heal("b").run(60);
    assert!(
        world.delay("b", State::Ok, 120) < 30.0,
        "{:#?}",
        world.story()
    );
    world.expect_state("b", State::Ok);
}

#[test]
fn a_short_outage_is_not_loss_afterwards() {
    let world = two().hang("b", 0..20).run(10).heal("b").run(60);
    assert!(
        world.delay("b", State::Ok, 70) < 15.0,
        "{:#?}",
        world.story()
    );
    world.expect_state("b", State::Ok);
}

#[test]
fn at_night_peers_that_walk_away_are_not_the_upstream() {
    // Four destinations at work, one of which walks away every five minutes; another comes.
    let mut world = World::new().open("a", 0..4, 1).run(60);
    for number in 0..12 {
        world = world
            .hang("a", number..number + 1)
            .open("a", number + 4..number + 5, 1)
            .run(300);
    }
    let bad = world
        .story()
        .into_iter()
        .filter(|line| line.contains("->Failing") || line.contains("->Degraded"));
    assert_eq!(bad.count(), 0, "{:#?}", world.story());
}

#[test]
fn three_of_the_last_four_that_walk_away_within_half_a_minute_are_not_the_upstream() {
    let mut world = World::new().open("a", 0..4, 1).run(60);
    for number in 0..3 {
        world = world.hang("a", number..number + 1).run(8);
    }
    let world = world.run(60);
    let bad = world.story().into_iter();
    let bad = bad.filter(|line| line.contains("->Failing") || line.contains("->Degraded"));
    assert_eq!(bad.count(), 0, "{:#?}", world.story());
}

#[test]
fn three_of_the_last_four_that_hang_at_once_are_the_upstream() {
    let world = World::new()
        .open("a", 0..4, 1)
        .run(60)
        .hang("a", 0..3)
        .run(10);
    assert!(
        world.delay("a", State::Failing, 60) < 3.0,
        "{:#?}",
        world.story()
    );
}

#[test]
fn the_last_four_of_the_night_all_dead_at_once_are_the_upstream() {
    let world = World::new()
        .open("a", 0..4, 1)
        .run(60)
        .hang("a", 0..4)
        .run(10);
    assert!(
        world.delay("a", State::Failing, 60) < 3.0,
        "{:#?}",
        world.story()
    );
}

#[test]
fn a_destination_that_is_stalled_everywhere_is_the_far_end() {
    let world = two().hang("a", 0..8).hang("b", 0..8).run(120);
    assert_eq!(world.story().len(), 2, "{:#?}", world.story());
    let stalls = world.stalls();
    assert_eq!(stalls.len(), 32);
    assert!(
        stalls
            .iter()
            .all(|it| it.excluded == Some(Excluded::Elsewhere))
    );
    assert_eq!(
        world.upstream("a").excluded.get(&Excluded::Elsewhere),
        Some(&16)
    );
}

#[test]
fn what_is_excused_stays_so_when_the_other_side_gets_into_trouble() {
    let world = two()
        .hang("a", 0..8)
        .hang("b", 0..8)
        .run(60)
        .hang("b", 8..20)
        .run(60)
        .expect_state("a", State::Ok)
        .expect_state("b", State::Failing);
    assert_eq!(world.story().len(), 3, "{:#?}", world.story());
}

#[test]
fn the_same_destinations_dead_on_one_side_only_are_that_upstream() {
    let world = two().hang("b", 0..8).run(120);
    world
        .expect_state("b", State::Degraded)
        .expect_state("a", State::Ok);
}

#[test]
fn a_site_that_is_down_is_not_the_upstream() {
    World::new()
        .open("a", 0..10, 1)
        .open("a", 256..266, 1)
        .open("a", 512..522, 1)
        .run(60)
        .hang("a", 256..266)
        .run(600)
        .expect(&["3s a Idle->Ok"]);
}

#[test]
fn some_of_each_site_down_is_the_upstream() {
    World::new()
        .open("a", 0..10, 1)
        .open("a", 256..266, 1)
        .open("a", 512..522, 1)
        .run(60)
        .hang("a", 256..261)
        .hang("a", 512..517)
        .run(60)
        .expect_state("a", State::Degraded);
}

/// Trap: suspended hosts, clocks that are set.
#[test]
fn what_began_to_wait_before_a_suspension_is_nobodys_fault() {
    let mut world = two();
    world.later(Duration::from_secs(1));
    world = world.hang("b", 0..20);
    world.skip_milliseconds(300);
    world.inject(Input::Suspended(Duration::from_secs(3600)));
    let world = world
        .run(600)
        .expect(&["3s a Idle->Ok", "3s b Idle->Ok", "101s b Ok->Idle"]);
    assert_eq!(
        world.upstream("b").excluded.get(&Excluded::Suspended),
        Some(&40)
    );
}

#[test]
fn what_begins_to_wait_after_a_suspension_is_told() {
    let mut world = two();
    world.inject(Input::Suspended(Duration::from_secs(3600)));
    let world = world.run(5).hang("b", 0..20).run(10);
    assert!(
        world.delay("b", State::Failing, 65) < 3.0,
        "{:#?}",
        world.story()
    );
}

#[test]
fn old_events_alone_are_not_believed() {
    // The daemon was stopped while others lost a second; all their events come at once.
    let mut world = two();
    world.slow_ring = true;
    world = world.hang("b", 0..20);
    world.skip_milliseconds(1500);
    world = world.heal("b").run(60);
    assert_eq!(world.story().len(), 2, "{:#?}", world.story());
}

#[test]
fn what_is_usual_is_learned_and_survives_a_restart() {
    let mut world = World::new().open("a", 0..40, 1).run(60);
    for number in 0..30 {
        world = world
            .hang("a", number % 40..number % 40 + 1)
            .run(20)
            .heal("a")
            .run(20);
    }
    let learned = world.learned();
    let a = learned.get("a").copied().unwrap_or_default();
    assert!(a.seconds > 500.0, "{a:?}");
    assert!(a.stalled > 0.001 && a.stalled < 0.05, "{a:?}");
    let world = world.restart_with(learned.clone()).run(5);
    assert_eq!(
        world.learned().get("a").map(|it| it.stalled > 0.0),
        Some(true)
    );
}

#[test]
fn an_outage_is_not_learned() {
    let before = two().run(600);
    let known = before.learned();
    let after = before.hang("b", 0..20).run(3600).learned();
    assert!(after["b"].stalled <= known["b"].stalled + 1e-3, "{after:?}");
}

/// Both routers belong to one upstream.
fn two_routers() -> World {
    let wan = Rule {
        name: "wan".to_owned(),
        netns: Some(NETNS.0),
        ..Rule::default()
    };
    World::with_rules(vec![wan])
        .open("a", 0..20, 2)
        .open("b", 0..20, 2)
        .run(60)
}

#[test]
fn of_two_routers_of_an_upstream_the_dead_one_is_named() {
    let world = two_routers().hang("b", 0..20).run(30);
    assert!(
        world.delay("wan", State::Failing, 60) < 2.5,
        "{:#?}",
        world.story()
    );
    assert_eq!(world.upstream("wan").evidence.leg, Some(hop(1)));
}

#[test]
fn of_two_dead_routers_none_is_named() {
    let world = two_routers().hang("a", 0..20).hang("b", 0..20).run(30);
    let wan = world.upstream("wan");
    assert_eq!((wan.state, wan.evidence.leg), (State::Failing, None));
}

#[test]
fn two_routers_that_do_well_are_one_upstream_that_does_well() {
    two_routers().run(600).expect(&["3s wan Idle->Ok"]);
}

#[test]
fn one_of_several_paths_behind_the_router_is_the_upstream_and_called_a_black_hole() {
    // A quarter of the connections hang for good, whatever their destination.
    let world = World::new()
        .open("b", 0..20, 3)
        .open("b", 0..20, 1)
        .run(60)
        .hang_connections("b", |id| id > 60)
        .run(120);
    let b = world.upstream("b");
    assert_eq!(
        (b.state, b.cause),
        (State::Failing, Some(Cause::Blackhole)),
        "{:#?}",
        world.story()
    );
    assert!(
        world.delay("b", State::Failing, 60) < 6.0,
        "{:#?}",
        world.story()
    );
}

#[test]
fn two_connections_that_hang_among_many_are_not() {
    World::new()
        .open("b", 0..20, 4)
        .run(60)
        .hang_connections("b", |id| id > 78)
        .run(120)
        .expect(&["3s b Idle->Ok"]);
}

/// A host that only receives; data of `holes` destinations waits behind holes, and `receiving`
/// connections do well.
fn receiving(holes: u16, receiving: u32) -> Option<(State, Option<Cause>)> {
    let settings = Settings {
        stall_after: Duration::from_secs(3),
        ignore: Vec::new(),
        rules: Vec::new(),
    };
    let start = samples::any().at;
    let mut engine = Engine::new(settings, start);
    for tick in 0..40 {
        let now = start.after(Duration::from_millis(500 * tick));
        let samples = (0..holes).map(|number| Sample {
            id: ConnectionId(u64::from(number)),
            at: now,
            remote: SocketAddr::from(([100, number as u8, 0, 1], 443)),
            hole: true,
            ..samples::any()
        });
        let counts = Counts {
            suspicious: u32::from(holes),
            receiving,
            ..Counts::default()
        };
        engine.handle(
            now,
            Input::Sweep(Sweep {
                samples: samples.collect(),
                counts: [(Some(hop(0)), counts)].into(),
            }),
        );
    }
    let snapshot = engine.snapshot(start.after(Duration::from_secs(20)));
    let upstream = snapshot.upstreams.into_iter().next()?;
    Some((upstream.state, upstream.cause))
}

#[test]
fn holes_in_what_everybody_sends_are_the_upstream() {
    assert_eq!(
        receiving(10, 2),
        Some((State::Failing, Some(Cause::ReceiveHole)))
    );
}

#[test]
fn holes_of_a_few_senders_among_many_are_not() {
    assert_eq!(receiving(5, 200), Some((State::Ok, None)));
    assert_eq!(receiving(2, 0), Some((State::Idle, None)));
}

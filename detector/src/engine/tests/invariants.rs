//! What holds whatever happens.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::world::World;
use crate::model::{ConnectionId, Counts, State, Transition};

/// Something that happens to the host.
#[derive(Debug, Clone)]
enum Event {
    Open(usize, u16, u32),
    OpenSized(usize, u16, u64),
    SlowReaders(usize, u16),
    Hang(usize, u16, u16),
    HangLarge(usize),
    Lossy(usize, u64),
    Silent(usize),
    Firewall(usize),
    Heal(usize),
    Close(usize, u16),
    Reroute(usize, usize),
    Restart,
    Run(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let upstream = 0_usize..3;
    prop_oneof![
        (upstream.clone(), 1_u16..12, 1_u32..3).prop_map(|(a, b, c)| Event::Open(a, b, c)),
        (upstream.clone(), 1_u16..12, 1_u64..5000).prop_map(|(a, b, c)| Event::OpenSized(a, b, c)),
        (upstream.clone(), 1_u16..6).prop_map(|(a, b)| Event::SlowReaders(a, b)),
        (upstream.clone(), 0_u16..12, 0_u16..12).prop_map(|(a, b, c)| Event::Hang(a, b, c)),
        upstream.clone().prop_map(Event::HangLarge),
        (upstream.clone(), 1_u64..100).prop_map(|(a, b)| Event::Lossy(a, b)),
        upstream.clone().prop_map(Event::Silent),
        upstream.clone().prop_map(Event::Firewall),
        upstream.clone().prop_map(Event::Heal),
        (upstream.clone(), 1_u16..12).prop_map(|(a, b)| Event::Close(a, b)),
        (upstream.clone(), upstream).prop_map(|(a, b)| Event::Reroute(a, b)),
        Just(Event::Restart),
        (1_u64..40).prop_map(Event::Run),
        (1_u64..40).prop_map(Event::Run),
        (1_u64..40).prop_map(Event::Run),
    ]
}

fn happen(world: World, event: &Event) -> World {
    let name = |index: usize| ["a", "b", "c"][index];
    match *event {
        Event::Open(up, to, each) => world.open(name(up), 0..to, each),
        Event::OpenSized(up, to, bytes) => world.open_sized(name(up), 0..to, 1, bytes),
        Event::SlowReaders(up, to) => world.slow_readers(name(up), 0..to, 1, 0),
        Event::Hang(up, from, to) => world.hang(name(up), from.min(to)..from.max(to)),
        Event::HangLarge(up) => world.hang_large(name(up), 1000),
        Event::Lossy(up, percent) => world.lossy(name(up), 0..12, percent),
        Event::Silent(up) => world.silent_gateway(name(up)),
        Event::Firewall(up) => world.firewall(name(up)),
        Event::Heal(up) => world.heal(name(up)),
        Event::Close(up, to) => world.close(name(up), 0..to),
        Event::Reroute(from, to) => world.reroute(name(from), name(to)),
        Event::Restart => world.restart(),
        Event::Run(seconds) => world.run(seconds),
    }
}

/// At any moment at most one change of an upstream, and it starts where the last one ended.
fn check_story(world: &World, restarted: bool) -> Result<(), TestCaseError> {
    let mut states: BTreeMap<&str, (crate::time::Time, State)> = BTreeMap::new();
    for (at, transition) in &world.log {
        if let Transition::Upstream {
            upstream,
            from,
            to,
            scope,
            cause,
            confidence,
            ..
        } = transition
        {
            let before = states.insert(upstream, (*at, *to));
            if !restarted {
                prop_assert_eq!(before.map_or(State::Idle, |it| it.1), *from);
                prop_assert!(before.is_none_or(|it| it.0 < *at), "two steps at once");
            }
            let bad = matches!(to, State::Degraded | State::Failing);
            prop_assert_eq!(scope.is_some(), bad);
            prop_assert_eq!(cause.is_some(), bad);
            prop_assert!((0.0..=1.0).contains(confidence));
        }
    }
    Ok(())
}

/// A stall begins before it ends, and ends once.
fn check_stalls(world: &World, restarted: bool) -> Result<(), TestCaseError> {
    let mut open: BTreeMap<ConnectionId, u32> = BTreeMap::new();
    for (_, transition) in &world.log {
        match transition {
            Transition::StallBegan { id, .. } => {
                let count = open.entry(*id).or_default();
                *count += 1;
                prop_assert!(restarted || *count == 1, "{} began twice", id);
            }
            Transition::StallEnded { id, .. } => {
                let count = open.entry(*id).or_default();
                prop_assert!(*count > 0, "{} ended without having begun", id);
                *count -= 1;
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_snapshot(world: &World) -> Result<(), TestCaseError> {
    let snapshot = world.snapshot();
    for upstream in &snapshot.upstreams {
        prop_assert!(upstream.stalled_destinations.len() <= upstream.active_destinations as usize);
        prop_assert!(upstream.fine_elsewhere <= upstream.elsewhere);
        prop_assert!(upstream.elsewhere as usize <= upstream.stalled_destinations.len());
        let mut sum = Counts::default();
        for counts in upstream.next_hops.values() {
            sum.add(counts);
        }
        prop_assert_eq!(sum, upstream.counts());
        prop_assert!(sum.active() <= sum.established());
    }
    prop_assert!(snapshot.stalls.is_sorted_by_key(|stall| stall.since));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_happens_the_story_is_whole(events in prop::collection::vec(event(), 1..25)) {
        let mut world = World::new();
        let mut restarted = false;
        for event in &events {
            world = happen(world, event);
            restarted |= matches!(event, Event::Restart);
            check_snapshot(&world)?;
        }
        world = world.run(20);
        check_story(&world, restarted)?;
        check_stalls(&world, restarted)?;
        if !restarted {
            world.assert_replays();
        }
    }

    #[test]
    fn more_stalled_destinations_never_lower_the_confidence(few in 3_u16..19, more in 1_u16..10) {
        let sure = |stuck: u16| {
            World::new().open("b", 0..20, 1).run(20).hang("b", 0..stuck).run(4).upstream("b")
        };
        let (less, rather) = (sure(few), sure((few + more).min(20)));
        let rank = |state: State| match state {
            State::Idle | State::Ok => 0,
            State::Degraded => 1,
            State::Failing => 2,
        };
        prop_assert!(rank(rather.state) >= rank(less.state));
        if rank(less.state) > 0 {
            prop_assert!(rather.confidence >= less.confidence - 1e-9);
        }
    }
}

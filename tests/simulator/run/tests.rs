//! Runs as a whole.

use std::path::Path;

use super::*;

fn scenario(text: &str) -> Scenario {
    let head = "name = \"it\"\nabout = \"it\"\n";
    Scenario::parse(Path::new("it.toml"), &format!("{head}{text}")).unwrap()
}

fn blackhole() -> Scenario {
    scenario("[world]\n[fault]\nkind = \"blackhole\"\nlasts = \"20s\"\n")
}

#[test]
fn a_black_hole_is_found_and_nobody_else_is_blamed() {
    let scenario = blackhole();
    let broken = scenario.fault.clone().unwrap();
    let outcomes: Vec<_> = (0..5)
        .map(|seed| with_fault(&scenario, &broken, seed, false))
        .collect();
    for outcome in outcomes {
        assert!(outcome.found.is_some_and(|it| it < 10.0), "{outcome:?}");
        assert!(!outcome.wrong, "{outcome:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_outcome() {
    let scenario = blackhole();
    let broken = scenario.fault.clone().unwrap();
    let run = |seed| with_fault(&scenario, &broken, seed, false);
    assert_eq!(run(7), run(7));
    assert_ne!(run(7).found, run(8).found);
}

#[test]
fn peace_without_traps_stays_peaceful() {
    let peace = in_peace(&scenario("[world]\n"), 1, 300 * SECOND, false);
    assert_eq!(peace.alarms, []);
    assert_eq!(peace.upstream_seconds, 900.0);
}

#[test]
fn what_turns_mean() {
    let turn = |at: u64, upstream, from, to, cause| Turn {
        at: at * SECOND,
        upstream,
        from,
        to,
        cause,
        scope: None,
        votes: (0, 0),
    };
    let (hole, mtu) = (Some(Cause::Blackhole), Some(Cause::Mtu));
    let story = [
        turn(1, 0, State::Idle, State::Ok, None),
        turn(12, 0, State::Ok, State::Degraded, hole),
        turn(14, 0, State::Degraded, State::Failing, mtu),
        turn(35, 0, State::Failing, State::Ok, None),
    ];
    let outcome = judged(&story, &[0], 10 * SECOND, 30 * SECOND);
    assert_eq!((outcome.found, outcome.failing), (Some(2.0), Some(4.0)));
    assert_eq!((outcome.cause, outcome.cause_later), (hole, mtu));
    assert_eq!((outcome.recovered, outcome.wrong), (Some(5.0), false));
    assert!(
        judged(&story, &[1], 10 * SECOND, 30 * SECOND).wrong,
        "another"
    );
    assert!(
        judged(&story, &[0], 13 * SECOND, 30 * SECOND).wrong,
        "too early"
    );
}

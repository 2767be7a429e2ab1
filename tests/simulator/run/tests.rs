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

#[test]
fn the_simpler_rules_alarm_in_a_black_hole_and_not_in_peace() {
    let scenario = blackhole();
    let broken = scenario.fault.clone().unwrap();
    let outcome = with_fault(&scenario, &broken, 1, false);
    assert!(
        outcome.rules[0].is_some_and(|it| (3.0..5.0).contains(&it)),
        "{outcome:?}"
    );
    assert!(outcome.rules[1].is_some_and(|it| it < 5.0), "{outcome:?}");
    assert_eq!(outcome.rules_wrong, [false; 2]);
    let peace = in_peace(&scenario, 1, 300 * SECOND, false);
    assert_eq!(peace.rules, [0, 0]);
}

#[test]
fn each_trap_can_be_set_and_the_host_lives_on() {
    for trap in trap::ALL {
        let word = format!("{trap:?}");
        let kebab: String = word
            .char_indices()
            .flat_map(|(place, letter)| {
                let dash = (place > 0 && letter.is_uppercase()).then_some('-');
                dash.into_iter().chain(letter.to_lowercase())
            })
            .collect();
        let scenario = scenario(&format!("[world]\ntraps = [\"{kebab}\"]\n"));
        let mut world = population::build(&scenario, 3);
        // Long before its time, and twice.
        for second in [30, 60] {
            world.plan(START + second * SECOND, Happening::Trap(trap, nanos(1e6)));
        }
        world.run_until(START + 120 * SECOND);
        let snapped = world.snapped.iter().filter(|it| it.1 == trap).count();
        assert!(snapped >= 2, "{trap:?}");
        let sent: u64 = world.slots.iter().map(|it| it.connection.sender.una).sum();
        assert!(sent > 100_000, "{trap:?}");
    }
}

#[test]
fn a_dead_destination_is_seen_and_nobody_is_blamed() {
    let scenario = scenario("[world]\ndestinations = 20\nshared = 0.0\n");
    let mut world = population::build(&scenario, 3);
    world.plan(START + 30 * SECOND, Happening::Dead(0, true));
    world.run_until(START + 60 * SECOND);
    let stalls = world
        .watcher
        .engine()
        .snapshot(detector::time::Time(world.now))
        .stalls;
    assert!(!stalls.is_empty());
    assert!(
        stalls
            .iter()
            .all(|stall| stall.destination == stalls[0].destination)
    );
    assert!(world.watcher.turns.iter().all(|turn| !is_bad(turn.to)));
}

#[test]
fn a_pause_moves_the_clock_and_a_suspension_does_not() {
    let scenario = scenario("[world]\n");
    let mut world = population::build(&scenario, 3);
    world.run_until(START + 10 * SECOND);
    world.pause(100 * SECOND, true);
    assert_eq!(world.now, START + 10 * SECOND);
    world.pause(100 * SECOND, false);
    assert_eq!(world.now, START + 110 * SECOND);
    world.run_until(START + 200 * SECOND);
    assert!(
        world
            .slots
            .iter()
            .all(|slot| !slot.connection.looks_wrong() || slot.connection.sender.timeouts < 3)
    );
}

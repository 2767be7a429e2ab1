//! One run of a scenario, and what it says of the judgement.

use detector::model::{Cause, Scope, State};

use super::{
    Nanos, SECOND,
    fault::Fault,
    nanos, population,
    random::{Random, mix},
    scenario::{Break, Scenario},
    seconds,
    trap::{self, Happening, Trap},
    watcher::Turn,
    world::{START, World},
};

/// Healthy at first, so many seconds.
pub const WARM_UP: (f64, f64) = (20.0, 60.0);
/// A daemon in peace is there for so long already: it knows how often peers walk away.
const ACQUAINTED: Nanos = 600 * SECOND;
/// The cause may still become clearer for so long.
pub const CLEARER: Nanos = 10 * SECOND;
/// After the repair the run goes on for so long.
const AFTERWARDS: Nanos = 60 * SECOND;

/// What a run with a fault says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outcome {
    /// Repeats the run.
    pub seed: u64,
    /// Seconds from the fault to the first bad word about an upstream at fault.
    pub found: Option<f64>,
    /// Seconds from the fault to `failing`.
    pub failing: Option<f64>,
    /// The cause that was named first.
    pub cause: Option<Cause>,
    /// The cause ten seconds later.
    pub cause_later: Option<Cause>,
    /// A healthy upstream was called bad, or this one before the fault.
    pub wrong: bool,
    /// It was said that all upstreams are concerned.
    pub common: bool,
    /// Seconds from the repair to `ok`.
    pub recovered: Option<f64>,
    /// Seconds from the fault to the alarm of each simpler rule.
    pub rules: [Option<f64>; 2],
    /// Whether each simpler rule blamed a healthy upstream, or this one before the fault.
    pub rules_wrong: [bool; 2],
    /// Time that was simulated, for all upstreams together.
    pub upstream_seconds: f64,
}

/// What a run without a fault says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Peace {
    /// Repeats the run.
    pub seed: u64,
    /// The bad words, and the trap that may have provoked each.
    pub alarms: Vec<(Turn, Option<Trap>)>,
    /// Alarms of the simpler rules.
    pub rules: [usize; 2],
    /// Time that was simulated, for all upstreams together.
    pub upstream_seconds: f64,
}

/// What breaks in a run, and when.
#[derive(Debug, Clone, PartialEq)]
pub struct Trouble {
    /// After the start.
    pub after: Nanos,
    /// At which upstreams.
    pub faults: Vec<(usize, Fault)>,
}

impl Trouble {
    /// Draws it. What it hits does not depend on what the population has drawn.
    pub fn draw(broken: &Break, world: &World, seed: u64, warm_up: (f64, f64)) -> Self {
        let mut random = Random::new(mix(seed));
        let after = nanos(random.between(warm_up.0, warm_up.1));
        let faulty = if broken.everywhere {
            (0..world.upstreams.len()).collect()
        } else {
            vec![random.below(world.upstreams.len())]
        };
        let faults = faulty.into_iter().map(|upstream| {
            let mut fault = broken.draw(&mut random);
            fault.hit_exactly(&world.reachable[upstream]);
            (upstream, fault)
        });
        Self {
            after,
            faults: faults.collect(),
        }
    }

    /// The upstreams that break.
    pub fn faulty(&self) -> Vec<usize> {
        self.faults.iter().map(|(upstream, _)| *upstream).collect()
    }
}

/// Runs a scenario with its fault.
pub fn with_fault(scenario: &Scenario, broken: &Break, seed: u64, trace: bool) -> Outcome {
    after(WARM_UP, scenario, broken, seed, trace)
}

/// The same, healthy for so many seconds at first.
pub fn after(
    warm_up: (f64, f64),
    scenario: &Scenario,
    broken: &Break,
    seed: u64,
    trace: bool,
) -> Outcome {
    let mut world = population::build(scenario, seed);
    (world.trace, world.watcher.trace) = (trace, trace);
    let trouble = Trouble::draw(broken, &world, seed, warm_up);
    let (onset, faulty) = (START + trouble.after, trouble.faulty());
    let repair = onset + broken.lasts.0;
    for (upstream, fault) in trouble.faults {
        world.plan(onset, Happening::Fault(upstream, Some(fault)));
        world.plan(repair, Happening::Fault(upstream, None));
    }
    let end = repair + AFTERWARDS;
    world.run_until(end);
    let mut outcome = judged(&world.watcher.turns, &faulty, onset, repair);
    outcome.seed = seed;
    for alarm in &world.baselines.alarms {
        if faulty.contains(&alarm.upstream) && alarm.at >= onset {
            let found = &mut outcome.rules[alarm.rule];
            if alarm.at <= repair {
                found.get_or_insert(seconds(alarm.at - onset));
            }
        } else {
            outcome.rules_wrong[alarm.rule] = true;
        }
    }
    outcome.upstream_seconds = seconds(end - START) * world.upstreams.len() as f64;
    outcome
}

/// What the turns of the upstreams mean when those at `faulty` were broken from `onset` to `repair`.
pub fn judged(turns: &[Turn], faulty: &[usize], onset: Nanos, repair: Nanos) -> Outcome {
    let mut outcome = Outcome::default();
    let mut bad_until_repair = false;
    for turn in turns {
        let bad = is_bad(turn.to);
        if bad && (!faulty.contains(&turn.upstream) || turn.at < onset) {
            outcome.wrong = true;
            continue;
        }
        if !faulty.contains(&turn.upstream) || turn.at < onset {
            continue;
        }
        let after = seconds(turn.at - onset);
        outcome.common |= bad && turn.scope == Some(Scope::Common);
        if turn.at <= repair {
            bad_until_repair = bad;
            if bad && outcome.found.is_none() {
                (outcome.found, outcome.cause) = (Some(after), turn.cause);
            }
            if turn.to == State::Failing && outcome.failing.is_none() {
                outcome.failing = Some(after);
            }
            let clear_at = nanos(outcome.found.unwrap_or(after)) + CLEARER;
            if bad && turn.at - onset <= clear_at {
                outcome.cause_later = turn.cause;
            }
        } else if bad_until_repair && turn.to == State::Ok {
            outcome
                .recovered
                .get_or_insert(seconds(turn.at.saturating_sub(repair)));
        }
    }
    outcome
}

/// Runs a scenario without a fault for so long.
pub fn in_peace(scenario: &Scenario, seed: u64, span: Nanos, trace: bool) -> Peace {
    let mut world = population::build(scenario, seed);
    (world.trace, world.watcher.trace) = (trace, trace);
    let from = world.counts_from.max(START + ACQUAINTED);
    world.run_until(from + span);
    let alarms: Vec<_> = world
        .watcher
        .turns
        .iter()
        .filter(|turn| turn.at >= from && is_bad(turn.to) && !is_bad(turn.from))
        .filter(|turn| !world.is_about_the_unknown(turn.upstream, turn.at))
        .map(|turn| (turn.clone(), trap::culprit(&world.snapped, turn.at)))
        .collect();
    let mut rules = [0; 2];
    for alarm in world.baselines.alarms.iter().filter(|it| it.at >= from) {
        rules[alarm.rule] += 1;
    }
    Peace {
        seed,
        alarms,
        rules,
        upstream_seconds: seconds(span) * world.upstreams.len() as f64,
    }
}

/// Whether a state is held against an upstream.
pub fn is_bad(state: State) -> bool {
    match state {
        State::Degraded | State::Failing => true,
        State::Ok | State::Idle => false,
    }
}

#[cfg(test)]
mod tests;

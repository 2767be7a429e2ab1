//! What a file expects, of a single run.

use std::time::Duration;

use crate::simulator::{run::Outcome, scenario::Scenario};

/// A share of the runs that is at least this is expected of each single one.
const NEARLY_ALL: f64 = 0.95;

/// What is otherwise than the file expects, in words. Shares of many runs become "always" or "never"
/// when they are nearly that; times may be longer by `tolerance`.
pub fn missed(scenario: &Scenario, outcome: &Outcome, tolerance: Duration) -> Vec<String> {
    let expect = &scenario.expect;
    let mut missed = Vec::new();
    let limits = [expect.within, expect.p99].into_iter().flatten();
    let lasts = scenario.fault.as_ref().map_or(u64::MAX, |it| it.lasts.0);
    let limit = Duration::from_nanos(limits.min().map_or(lasts, |it| it.0)) + tolerance;
    if expect.found.is_some_and(|share| share >= NEARLY_ALL)
        && outcome
            .found
            .is_none_or(|found| found > limit.as_secs_f64())
    {
        missed.push(format!("found {:?}, {limit:?} expected", outcome.found));
    }
    let named = [outcome.cause, outcome.cause_later];
    if expect.cause.is_some() && outcome.found.is_some() && !named.contains(&expect.cause) {
        missed.push(format!("called {named:?}, {:?} expected", expect.cause));
    }
    if expect.wrong_upstream.is_some() && outcome.wrong {
        missed.push("another upstream was blamed, or this one before it broke".to_owned());
    }
    if expect.never_failing && outcome.failing.is_some() {
        missed.push("called failing, and never expected to be".to_owned());
    }
    if expect.common && !outcome.common {
        missed.push("all upstreams are concerned, and nobody said so".to_owned());
    }
    missed
}

#[cfg(test)]
mod tests {
    use detector::model::Cause;

    use super::*;

    #[test]
    fn one_run_is_held_against_the_file() {
        let scenario = Scenario::named("loss-30").unwrap();
        let good = Outcome {
            found: Some(14.0),
            failing: Some(15.0),
            cause: Some(Cause::Blackhole),
            cause_later: Some(Cause::Loss),
            ..Outcome::default()
        };
        let missed = |outcome: &Outcome| super::missed(&scenario, outcome, Duration::from_secs(5));
        assert_eq!(missed(&good), [""; 0]);
        let late = Outcome {
            found: Some(20.5),
            ..good.clone()
        };
        assert_eq!(missed(&late).len(), 1, "{:?}", missed(&late));
        let wrong = Outcome {
            cause_later: None,
            wrong: true,
            ..good
        };
        assert_eq!(missed(&wrong).len(), 2, "{:?}", missed(&wrong));
        assert_eq!(missed(&Outcome::default()).len(), 1, "never found");
    }

    #[test]
    fn what_is_not_an_outage_is_never_called_one() {
        let scenario = Scenario::named("loss-03").unwrap();
        let failing = Outcome {
            failing: Some(3.0),
            ..Outcome::default()
        };
        assert_eq!(
            missed(&scenario, &Outcome::default(), Duration::ZERO),
            [""; 0]
        );
        assert_eq!(missed(&scenario, &failing, Duration::ZERO).len(), 1);
    }
}

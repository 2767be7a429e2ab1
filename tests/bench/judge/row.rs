//! What many runs say together: shares, times, and whether they are as expected.

use std::{collections::BTreeMap, time::Duration};

use lab::simulator::{
    run::{Outcome, Peace},
    scenario::Scenario,
    trap::Trap,
    watcher,
};

/// Runs that are shown to be repeated, of each kind.
const EXAMPLES: usize = 3;

/// What one scenario has shown.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) scenario: Scenario,
    pub(crate) figures: Figures,
    /// What was expected and is not so, with runs that show it.
    pub(crate) missed: Vec<String>,
    pub(crate) upstream_seconds: f64,
    /// Processor time of all threads.
    pub(crate) cpu: Duration,
}

/// The figures.
#[derive(Debug)]
pub(crate) enum Figures {
    /// With a fault.
    Outage(Outage),
    /// Without one.
    Peace(Quiet),
}

/// Runs with a fault.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    pub(crate) runs: usize,
    /// Seconds until it was found, in order; the runs in which it was not are left out.
    pub(crate) found: Vec<f64>,
    pub(crate) failing: usize,
    pub(crate) right_cause: usize,
    /// What was named, how often.
    pub(crate) causes: BTreeMap<&'static str, usize>,
    pub(crate) wrong: usize,
    pub(crate) recovered: Vec<f64>,
    /// The same as `found`, for the simpler rules.
    pub(crate) rules: [Vec<f64>; 2],
    pub(crate) rules_wrong: [usize; 2],
}

/// Runs without a fault.
#[derive(Debug, Default)]
pub(crate) struct Quiet {
    pub(crate) days: f64,
    pub(crate) alarms: usize,
    pub(crate) rules: [usize; 2],
    /// Alarms by the trap that may have provoked them.
    pub(crate) culprits: BTreeMap<String, usize>,
}

/// Says at once what went wrong in peace: days of it take an hour.
pub(crate) fn tell(scenario: &str, peace: &Peace) {
    for alarm in describe(peace) {
        eprintln!("{scenario}: {alarm}");
    }
}

/// The alarms of a run, and how to see them again.
fn describe(peace: &Peace) -> impl Iterator<Item = String> {
    peace.alarms.iter().map(|(alarm, culprit)| {
        let seconds = alarm.at as f64 / 1e9 - 86_400.0;
        let (who, votes) = (watcher::name(alarm.upstream), alarm.votes);
        format!(
            "seed {} at {seconds:.1} s, {who} {}, {} of {} destinations, after {}",
            peace.seed,
            alarm.to,
            votes.0,
            votes.1,
            name_of(*culprit)
        )
    })
}

fn name_of(culprit: Option<Trap>) -> String {
    culprit.map_or("nothing seldom".to_owned(), |it| format!("{it:?}"))
}

impl Row {
    /// Of runs with a fault.
    pub(crate) fn of_outcomes(scenario: &Scenario, outcomes: Vec<Outcome>) -> Self {
        let expect = &scenario.expect;
        let within = expect.within.map_or(f64::MAX, |it| it.0 as f64 / 1e9);
        let mut outage = Outage {
            runs: outcomes.len(),
            ..Outage::default()
        };
        for outcome in &outcomes {
            outage.found.extend(outcome.found);
            outage.failing += usize::from(outcome.failing.is_some());
            outage.wrong += usize::from(outcome.wrong);
            outage.recovered.extend(outcome.recovered);
            if let Some(cause) = outcome.cause_later {
                *outage.causes.entry(cause.word()).or_default() += 1;
                let named = [outcome.cause, outcome.cause_later];
                outage.right_cause += usize::from(named.contains(&expect.cause));
            }
            for rule in 0..2 {
                outage.rules[rule].extend(outcome.rules[rule]);
                outage.rules_wrong[rule] += usize::from(outcome.rules_wrong[rule]);
            }
        }
        for times in [&mut outage.found, &mut outage.recovered] {
            times.sort_by(f64::total_cmp);
        }
        outage
            .rules
            .iter_mut()
            .for_each(|it| it.sort_by(f64::total_cmp));
        let upstream_seconds = outcomes.iter().map(|it| it.upstream_seconds).sum();
        Self {
            missed: missed_outage(scenario, &outage, &outcomes, within),
            scenario: scenario.clone(),
            figures: Figures::Outage(outage),
            upstream_seconds,
            cpu: Duration::ZERO,
        }
    }

    /// Of runs without a fault.
    pub(crate) fn of_peace(scenario: &Scenario, runs: Vec<Peace>) -> Self {
        let upstream_seconds: f64 = runs.iter().map(|it| it.upstream_seconds).sum();
        let mut quiet = Quiet {
            days: upstream_seconds / 86_400.0,
            ..Quiet::default()
        };
        let mut examples = Vec::new();
        for run in &runs {
            quiet.alarms += run.alarms.len();
            for rule in 0..2 {
                quiet.rules[rule] += run.rules[rule];
            }
            for (_, culprit) in &run.alarms {
                *quiet.culprits.entry(name_of(*culprit)).or_default() += 1;
            }
            examples.extend(describe(run));
        }
        let mut missed = Vec::new();
        let limit = scenario.expect.false_alarms;
        let rate = 1000.0 * quiet.alarms as f64 / quiet.days;
        if let Some(limit) = limit.filter(|limit| rate > *limit) {
            examples.truncate(2 * EXAMPLES);
            let culprits = quiet
                .culprits
                .iter()
                .map(|(trap, count)| format!("{count} after {trap}"));
            missed.push(format!(
                "{rate:.0} false alarms in 1000 days of one upstream, at most {limit} expected: \
                 {}; {}",
                culprits.collect::<Vec<_>>().join(", "),
                examples.join("; ")
            ));
        }
        Self {
            scenario: scenario.clone(),
            figures: Figures::Peace(quiet),
            missed,
            upstream_seconds,
            cpu: Duration::ZERO,
        }
    }

    /// The processor time that it took.
    pub(crate) fn took(mut self, cpu: Duration) -> Self {
        self.cpu = cpu;
        self
    }

    /// Whether all is as expected.
    pub(crate) fn is_met(&self) -> bool {
        self.missed.is_empty()
    }
}

impl Outage {
    /// Share of the runs in which it was found within so many seconds.
    pub(crate) fn share(&self, within: f64) -> f64 {
        share_within(&self.found, within, self.runs)
    }
}

/// Share of `runs` of which the sorted `times` are at most so long.
pub(crate) fn share_within(times: &[f64], within: f64, runs: usize) -> f64 {
    times.partition_point(|it| *it <= within) as f64 / runs.max(1) as f64
}

/// The smallest of sorted values of which `share` are not larger, when `runs` were to give one.
pub(crate) fn quantile(times: &[f64], share: f64, runs: usize) -> Option<f64> {
    let rank = (share * runs as f64).ceil() as usize;
    times.get(rank.saturating_sub(1)).copied()
}

fn missed_outage(
    scenario: &Scenario,
    outage: &Outage,
    outcomes: &[Outcome],
    within: f64,
) -> Vec<String> {
    let expect = &scenario.expect;
    let mut missed = Vec::new();
    let seeds = |is: &dyn Fn(&Outcome) -> bool| {
        let seeds = outcomes.iter().filter(|it| is(it)).take(EXAMPLES);
        let seeds: Vec<_> = seeds.map(|it| it.seed.to_string()).collect();
        format!("seeds {}", seeds.join(", "))
    };
    let late = |limit: f64| move |it: &Outcome| it.found.is_none_or(|found| found > limit);
    let found = outage.share(within);
    if expect.found.is_some_and(|least| found < least) {
        let (found, least) = (percent(found), percent(expect.found.unwrap_or(0.0)));
        let examples = seeds(&late(within));
        missed.push(format!("found {found}, {least} expected: {examples}"));
    }
    for (name, share, limit) in [("median", 0.5, expect.median), ("p99", 0.99, expect.p99)] {
        let Some(limit) = limit.map(|it| it.0 as f64 / 1e9) else {
            continue;
        };
        let time = quantile(&outage.found, share, outage.runs);
        if time.is_none_or(|time| time > limit) {
            let examples = seeds(&late(limit));
            let time = shown(time);
            missed.push(format!("{name} {time}, {limit} s expected: {examples}"));
        }
    }
    let share = |count: usize, of: usize| count as f64 / of.max(1) as f64;
    let wrong_cause = share(outage.found.len() - outage.right_cause, outage.found.len());
    if expect.wrong_cause.is_some_and(|most| wrong_cause > most) {
        let is = |it: &Outcome| {
            it.found.is_some() && ![it.cause, it.cause_later].contains(&expect.cause)
        };
        let (wrong, examples) = (percent(wrong_cause), seeds(&is));
        let named: Vec<_> = outage
            .causes
            .iter()
            .map(|(word, count)| format!("{count} {word}"))
            .collect();
        missed.push(format!(
            "wrong cause {wrong} ({}): {examples}",
            named.join(", ")
        ));
    }
    let wrong = share(outage.wrong, outage.runs);
    if expect.wrong_upstream.is_some_and(|most| wrong > most) {
        let (wrong, examples) = (percent(wrong), seeds(&|it| it.wrong));
        missed.push(format!("wrong upstream {wrong}: {examples}"));
    }
    if expect.never_failing && outage.failing > 0 {
        let (failing, examples) = (outage.failing, seeds(&|it| it.failing.is_some()));
        missed.push(format!("called failing in {failing} runs: {examples}"));
    }
    if expect.common && !outcomes.iter().all(|it| it.common) {
        let examples = seeds(&|it| !it.common);
        missed.push(format!("not called common: {examples}"));
    }
    missed
}

/// A share for people.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// A time for people.
pub(crate) fn shown(time: Option<f64>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| format!("{time:.1} s"))
}

/// Upper bound of a rate that is not exceeded with 95 % certainty when so many events were seen in
/// `days`, per thousand days (Poisson; Wilson and Hilferty's approximation of chi-squared).
pub(crate) fn upper_bound(events: usize, days: f64) -> f64 {
    let freedom = 2.0 * (events as f64 + 1.0);
    let part = 2.0 / (9.0 * freedom);
    let quantile = freedom * (1.0 - part + 1.644_854 * part.sqrt()).powi(3);
    1000.0 * quantile / 2.0 / days
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_count_what_was_not_found_as_later() {
        let times = [1.0, 2.0, 3.0];
        assert_eq!(quantile(&times, 0.5, 3), Some(2.0));
        assert_eq!(quantile(&times, 0.5, 6), Some(3.0));
        assert_eq!(quantile(&times, 0.5, 8), None);
        assert_eq!(share_within(&times, 2.0, 4), 0.5);
    }

    #[test]
    fn nothing_seen_in_three_thousand_days_is_at_most_one_in_a_thousand() {
        assert!(
            (upper_bound(0, 2996.0) - 1.0).abs() < 0.01,
            "{}",
            upper_bound(0, 2996.0)
        );
        // From tables: 4 seen, at most 9.15.
        assert!((upper_bound(4, 1000.0) - 9.15).abs() < 0.02);
    }
}

//! How far two distributions are apart, and how that is shown.

use crate::judge::{
    row::{Figures, Outage, Row, percent, quantile, share_within},
    table,
};

/// The heads of the columns.
pub(crate) const TIMES: [&str; 9] = [
    "fault",
    "in",
    "runs",
    "found",
    "median",
    "p95",
    "max",
    "cause",
    "wrong upstream",
];
/// The same for how far they are apart.
pub(crate) const APART: [&str; 4] = [
    "fault",
    "laboratory's median is later by",
    "Kolmogorov-Smirnov distance",
    "as far or further by chance",
];

/// One scenario in both worlds.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) laboratory: Row,
    pub(crate) simulator: Row,
}

impl Pair {
    /// Whether what the file expects has been met in both.
    pub(crate) fn is_met(&self) -> bool {
        self.laboratory.is_met() && self.simulator.is_met()
    }

    pub(crate) fn name(&self) -> &str {
        &self.laboratory.scenario.name
    }

    /// Both, the laboratory first.
    pub(crate) fn sides(&self) -> [(&'static str, &Outage); 2] {
        [
            ("laboratory", outage(&self.laboratory)),
            ("simulator", outage(&self.simulator)),
        ]
    }

    /// A row for each world.
    pub(crate) fn times(&self) -> [[String; 9]; 2] {
        self.sides().map(|(place, outage)| {
            let time = |share| shown(quantile(&outage.found, share, outage.runs));
            let share = |count: usize, of: usize| percent(count as f64 / of.max(1) as f64);
            [
                self.name().to_owned(),
                place.to_owned(),
                outage.runs.to_string(),
                share(outage.found.len(), outage.runs),
                time(0.5),
                time(0.95),
                time(1.0),
                share(outage.right_cause, outage.found.len()),
                share(outage.wrong, outage.runs),
            ]
        })
    }

    /// How far they are apart.
    pub(crate) fn apart(&self) -> [String; 4] {
        let [(_, laboratory), (_, simulator)] = self.sides();
        let median = |it: &Outage| quantile(&it.found, 0.5, it.runs);
        let later = median(laboratory)
            .zip(median(simulator))
            .map(|(here, there)| here - there);
        let distance = distance(laboratory, simulator);
        let chance = by_chance(distance, laboratory.runs, simulator.runs);
        [
            self.name().to_owned(),
            shown(later),
            format!("{distance:.2}"),
            percent(chance),
        ]
    }
}

fn outage(row: &Row) -> &Outage {
    match &row.figures {
        Figures::Outage(outage) => outage,
        Figures::Peace(_) => unreachable!("only scenarios with a fault are compared"),
    }
}

/// Hundredths of a second: the differences are as small as that.
fn shown(time: Option<f64>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| format!("{time:.2} s"))
}

/// The largest difference between the shares that were found until some moment. Runs in which it was
/// not found count as later than all others.
fn distance(one: &Outage, other: &Outage) -> f64 {
    let share = |it: &Outage, at| share_within(&it.found, at, it.runs);
    let moments = one.found.iter().chain(&other.found);
    moments
        .map(|at| (share(one, *at) - share(other, *at)).abs())
        .fold(0.0, f64::max)
}

/// How often two samples of these sizes from the same distribution are as far apart or further
/// (Kolmogorov's distribution with Stephens' correction for small samples).
fn by_chance(distance: f64, one: usize, other: usize) -> f64 {
    let (one, other) = (one as f64, other as f64);
    let root = (one * other / (one + other)).sqrt();
    let scaled = (root + 0.12 + 0.11 / root) * distance;
    if scaled < 0.2 {
        return 1.0;
    }
    let term = |k: i32| {
        let sign = if k % 2 == 1 { 2.0 } else { -2.0 };
        sign * (-2.0 * f64::from(k * k) * scaled * scaled).exp()
    };
    (1..=100).map(term).sum::<f64>().clamp(0.0, 1.0)
}

/// Prints all of it.
pub(crate) fn print(pairs: &[Pair]) {
    let mut times = vec![TIMES.map(str::to_owned)];
    let mut apart = vec![APART.map(str::to_owned)];
    for pair in pairs {
        times.extend(pair.times());
        apart.push(pair.apart());
    }
    table::columns(&times);
    table::columns(&apart);
    for pair in pairs {
        for row in [&pair.laboratory, &pair.simulator] {
            for missed in &row.missed {
                println!("MISSED {}: {missed}", row.scenario.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(times: &[f64], runs: usize) -> Outage {
        Outage {
            runs,
            found: times.to_vec(),
            ..Outage::default()
        }
    }

    #[test]
    fn the_distance_is_the_largest_difference_of_the_shares() {
        let one = found(&[1.0, 2.0, 3.0, 4.0], 4);
        assert_eq!(distance(&one, &one), 0.0);
        assert_eq!(distance(&one, &found(&[1.0, 2.0, 3.0, 14.0], 4)), 0.25);
        assert_eq!(distance(&one, &found(&[5.0, 6.0], 2)), 1.0);
        assert_eq!(
            distance(&one, &found(&[1.0, 2.0], 4)),
            0.5,
            "half not found"
        );
    }

    #[test]
    fn what_happens_by_chance_is_as_in_the_tables() {
        // Critical values of two samples of 20 and many: 1.358 / sqrt(n) at 5 %, 1.628 at 1 %.
        let critical = |factor: f64, share: f64| {
            let n: f64 = 400.0 * 400.0 / 800.0;
            let chance = by_chance(factor / n.sqrt(), 400, 400);
            assert!((chance - share).abs() < 0.2 * share, "{chance} {share}");
        };
        critical(1.358, 0.05);
        critical(1.628, 0.01);
        assert_eq!(by_chance(0.0, 20, 2000), 1.0);
        assert!(by_chance(1.0, 20, 2000) < 1e-6);
    }
}

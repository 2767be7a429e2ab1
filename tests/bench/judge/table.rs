//! What many runs say together, in columns.

use std::time::Duration;

use super::row::{Figures, Outage, Quiet, Row, percent, quantile, shown, upper_bound};

/// The heads of the columns, and whether they hold numbers.
pub(crate) const OUTAGE: [&str; 12] = [
    "fault",
    "runs",
    "found",
    "median",
    "p99",
    "failing",
    "cause",
    "wrong upstream",
    "ok again",
    "half stalled",
    "5 % repeated",
    "expected",
];
/// The same for runs without a fault.
pub(crate) const QUIET: [&str; 8] = [
    "peace",
    "days",
    "alarms",
    "in 1000 days",
    "surely below",
    "half stalled",
    "5 % repeated",
    "expected",
];

/// The cells of a row with a fault.
pub(crate) fn outage_cells(row: &Row, outage: &Outage) -> [String; 12] {
    let share = |count: usize, of: usize| percent(count as f64 / of.max(1) as f64);
    let rule = |rule: usize| {
        let found = share(outage.rules[rule].len(), outage.runs);
        let median = shown(quantile(&outage.rules[rule], 0.5, outage.runs));
        format!("{found} {median}")
    };
    let cause = match row.scenario.expect.cause {
        Some(_) => share(outage.right_cause, outage.found.len()),
        None => outage
            .causes
            .iter()
            .max_by_key(|(_, count)| **count)
            .map_or("-".to_owned(), |(word, _)| (*word).to_owned()),
    };
    [
        row.scenario.name.clone(),
        outage.runs.to_string(),
        share(outage.found.len(), outage.runs),
        shown(quantile(&outage.found, 0.5, outage.runs)),
        shown(quantile(&outage.found, 0.99, outage.runs)),
        share(outage.failing, outage.runs),
        cause,
        share(outage.wrong, outage.runs),
        shown(quantile(&outage.recovered, 0.5, outage.recovered.len())),
        rule(0),
        rule(1),
        row.word().to_owned(),
    ]
}

/// The cells of a row without a fault.
pub(crate) fn quiet_cells(row: &Row, quiet: &Quiet) -> [String; 8] {
    let rate = |count: usize| format!("{:.1}", 1000.0 * count as f64 / quiet.days);
    [
        row.scenario.name.clone(),
        format!("{:.1}", quiet.days),
        quiet.alarms.to_string(),
        rate(quiet.alarms),
        format!("{:.1}", upper_bound(quiet.alarms, quiet.days)),
        rate(quiet.rules[0]),
        rate(quiet.rules[1]),
        row.word().to_owned(),
    ]
}

impl Row {
    fn word(&self) -> &'static str {
        let expect = &self.scenario.expect;
        if !self.is_met() {
            "MISSED"
        } else if *expect == lab::simulator::scenario::Expectation::default() {
            "-"
        } else {
            "met"
        }
    }
}

/// Prints all of it.
pub(crate) fn print(rows: &[Row], took: Duration) {
    let mut outages = vec![OUTAGE.map(str::to_owned)];
    let mut quiets = vec![QUIET.map(str::to_owned)];
    for row in rows {
        match &row.figures {
            Figures::Outage(outage) => outages.push(outage_cells(row, outage)),
            Figures::Peace(quiet) => quiets.push(quiet_cells(row, quiet)),
        }
    }
    columns(&outages);
    columns(&quiets);
    for row in rows {
        for missed in &row.missed {
            println!("MISSED {}: {missed}", row.scenario.name);
        }
    }
    let simulated: f64 = rows.iter().map(|row| row.upstream_seconds).sum();
    let busy: f64 = rows.iter().map(|row| row.cpu.as_secs_f64()).sum();
    println!(
        "{:.1} days of one upstream in {:.0} s; {:.0} seconds of one in a second of a processor",
        simulated / 86_400.0,
        took.as_secs_f64(),
        simulated / busy.max(1e-9)
    );
}

/// Prints rows in columns, the first of them the head.
pub(crate) fn columns<const N: usize>(rows: &[[String; N]]) {
    if rows.len() < 2 {
        return;
    }
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in rows {
        let mut line = format!("{:<width$}", row[0], width = widths[0]);
        for (cell, width) in row.iter().zip(widths).skip(1) {
            line.push_str(&format!("  {cell:>width$}"));
        }
        println!("{}", line.trim_end());
    }
    println!();
}

//! Curves for the documentation, as SVG.

use std::path::Path;

use anyhow::Result;
use lab::simulator::scenario::FaultKind;
use plotters::chart::SeriesLabelPosition;

use super::row::{Figures, Outage, Row, share_within};
use crate::picture::{Axes, Curve, lines};

/// Scenarios whose times are drawn.
const TIMED: [&str; 7] = [
    "blackhole",
    "mtu",
    "neighbour",
    "blackhole-quarter-of-paths",
    "return-path-50",
    "loss-50",
    "loss-30",
];
/// Seconds that are drawn.
const SPAN: f64 = 15.0;
/// Whoever is found later than this is not found.
const LATEST: f64 = 60.0;

/// Draws both pictures into a folder.
pub(crate) fn draw(rows: &[Row], folder: &Path) -> Result<()> {
    let times = TIMED.iter().filter_map(|name| {
        let row = rows.iter().find(|row| row.scenario.name == *name)?;
        Some(Curve {
            name: (*name).to_owned(),
            points: steps(outage(row)?),
        })
    });
    let times: Vec<_> = times.collect();
    lines(
        &folder.join("judgement-time.svg"),
        "How soon a fault is found",
        &Axes::shares(SPAN),
        &times,
        SeriesLabelPosition::MiddleRight,
    )?;
    let axes = Axes {
        across: ("% of the packets that vanish", 70.0),
        ..Axes::shares(SPAN)
    };
    lines(
        &folder.join("judgement-loss.svg"),
        "How much loss is found within a minute",
        &axes,
        &by_severity(rows),
        SeriesLabelPosition::LowerRight,
    )
}

fn outage(row: &Row) -> Option<&Outage> {
    match &row.figures {
        Figures::Outage(outage) => Some(outage),
        Figures::Peace(_) => None,
    }
}

/// Share of the runs in which it was found, over time.
fn steps(outage: &Outage) -> Vec<(f64, f64)> {
    let places = (0..=300).map(|step| SPAN * f64::from(step) / 300.0);
    places.map(|at| (at, 100.0 * outage.share(at))).collect()
}

/// Share of the runs in which loss was found, over how much there was: here and by simpler rules.
fn by_severity(rows: &[Row]) -> Vec<Curve> {
    let mut points: Vec<(f64, &Outage)> = rows
        .iter()
        .filter_map(|row| {
            let broken = row.scenario.fault.as_ref()?;
            let severity = broken.severity.filter(|_| broken.kind == FaultKind::Loss)?;
            Some((100.0 * severity, outage(row)?))
        })
        .collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let names = [
        "tcpstall",
        "half of the connections stalled",
        "5 % of the segments repeated",
    ];
    let share = |outage: &Outage, name: usize| {
        let times = match name {
            0 => &outage.found,
            rule => &outage.rules[rule - 1],
        };
        100.0 * share_within(times, LATEST, outage.runs)
    };
    let curve = |name| {
        points
            .iter()
            .map(|(at, it)| (*at, share(it, name)))
            .collect()
    };
    (0..3)
        .map(|name| Curve {
            name: names[name].to_owned(),
            points: curve(name),
        })
        .collect()
}

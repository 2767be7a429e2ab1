//! Curves for the documentation, as SVG.

use std::path::Path;

use anyhow::{Result, anyhow};
use lab::simulator::scenario::FaultKind;
use plotters::prelude::*;

use super::row::{Figures, Outage, Row, share_within};

/// Width and height.
const SIZE: (u32, u32) = (860, 460);
/// Told apart by those who see few colours, too (Okabe and Ito).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];
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
        Some(((*name).to_owned(), steps(outage(row)?)))
    });
    let times: Vec<_> = times.collect();
    curves(
        &folder.join("judgement-time.svg"),
        "How soon a fault is found",
        ("seconds after the fault", "% of the runs"),
        SPAN,
        &times,
        false,
    )?;
    curves(
        &folder.join("judgement-loss.svg"),
        "How much loss is found within a minute",
        ("% of the packets that vanish", "% of the runs"),
        70.0,
        &by_severity(rows),
        true,
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
fn by_severity(rows: &[Row]) -> Vec<(String, Vec<(f64, f64)>)> {
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
        .map(|name| (names[name].to_owned(), curve(name)))
        .collect()
}

fn curves(
    path: &Path,
    title: &str,
    (across, up): (&str, &str),
    width: f64,
    curves: &[(String, Vec<(f64, f64)>)],
    dots: bool,
) -> Result<()> {
    let failed = |error: &dyn std::fmt::Display| anyhow!("{}: {error}", path.display());
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE).map_err(|error| failed(&error))?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 20))
        .margin(14)
        .margin_right(28)
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..width, 0.0..102.0)
        .map_err(|error| failed(&error))?;
    chart
        .configure_mesh()
        .x_desc(across)
        .y_desc(up)
        .light_line_style(WHITE)
        .bold_line_style(RGBColor(225, 225, 225))
        .x_label_formatter(&|value| format!("{value:.0}"))
        .y_label_formatter(&|value| format!("{value:.0}"))
        .label_style(("sans-serif", 14))
        .draw()
        .map_err(|error| failed(&error))?;
    for ((name, points), colour) in curves.iter().zip(COLOURS) {
        let line = LineSeries::new(points.iter().copied(), colour.stroke_width(2));
        let line = if dots { line.point_size(3) } else { line };
        chart
            .draw_series(line)
            .map_err(|error| failed(&error))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(if dots {
            SeriesLabelPosition::LowerRight
        } else {
            SeriesLabelPosition::MiddleRight
        })
        .background_style(WHITE.mix(0.9))
        .border_style(RGBColor(180, 180, 180))
        .label_font(("sans-serif", 14))
        .draw()
        .map_err(|error| failed(&error))?;
    area.present().map_err(|error| failed(&error))
}

//! Curves for the documentation, as SVG.

use std::path::Path;

use anyhow::{Result, anyhow};
use lab::simulator::scenario::FaultKind;
use plotters::{coord::Shift, prelude::*};

use super::row::{Figures, Outage, Row, share_within};

/// Width and height.
const SIZE: (u32, u32) = (860, 460);
/// Height of charts side by side.
const PANEL_HEIGHT: u32 = 340;
/// A shorter axis has a digit after the point.
const FINE: f64 = 5.0;
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
        Some(Curve {
            name: (*name).to_owned(),
            points: steps(outage(row)?),
        })
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

/// A line, by its points.
#[derive(Debug)]
pub(crate) struct Curve {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// One of several charts of shares over time, side by side.
#[derive(Debug)]
pub(crate) struct Panel {
    pub(crate) title: String,
    /// Seconds that are drawn.
    pub(crate) span: f64,
    pub(crate) curves: Vec<Curve>,
}

/// Draws charts beside each other.
pub(crate) fn panels(path: &Path, panels: &[Panel]) -> Result<()> {
    let area = SVGBackend::new(path, (SIZE.0, PANEL_HEIGHT)).into_drawing_area();
    let result = area.fill(&WHITE);
    result.map_err(|error| failed(path, &error))?;
    for (part, panel) in area.split_evenly((1, panels.len())).iter().zip(panels) {
        let look = Look {
            title: &panel.title,
            axes: ("seconds after the fault", "% of the runs"),
            width: panel.span,
            dots: false,
            labels: SeriesLabelPosition::UpperLeft,
        };
        chart(part, &look, &panel.curves).map_err(|error| failed(path, &error))?;
    }
    area.present().map_err(|error| failed(path, &error))
}

fn curves(
    path: &Path,
    title: &str,
    axes: (&str, &str),
    width: f64,
    curves: &[Curve],
    dots: bool,
) -> Result<()> {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE).map_err(|error| failed(path, &error))?;
    let labels = if dots {
        SeriesLabelPosition::LowerRight
    } else {
        SeriesLabelPosition::MiddleRight
    };
    let look = Look {
        title,
        axes,
        width,
        dots,
        labels,
    };
    chart(&area, &look, curves).map_err(|error| failed(path, &error))?;
    area.present().map_err(|error| failed(path, &error))
}

fn failed(path: &Path, error: &dyn std::fmt::Display) -> anyhow::Error {
    anyhow!("{}: {error}", path.display())
}

/// What a chart looks like around its curves.
#[derive(Debug)]
struct Look<'a> {
    title: &'a str,
    /// What is told across, and upwards.
    axes: (&'a str, &'a str),
    /// Where the axis across ends.
    width: f64,
    dots: bool,
    labels: SeriesLabelPosition,
}

fn chart<D: DrawingBackend>(
    area: &DrawingArea<D, Shift>,
    look: &Look<'_>,
    curves: &[Curve],
) -> Result<(), DrawingAreaErrorKind<D::ErrorType>> {
    let mut chart = ChartBuilder::on(area)
        .caption(look.title, ("sans-serif", 20))
        .margin(14)
        .margin_right(28)
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..look.width, 0.0..102.0)?;
    let digits = usize::from(look.width < FINE);
    chart
        .configure_mesh()
        .x_desc(look.axes.0)
        .y_desc(look.axes.1)
        .light_line_style(WHITE)
        .bold_line_style(RGBColor(225, 225, 225))
        .x_labels(if look.width < FINE { 5 } else { 10 })
        .x_label_formatter(&|value| format!("{value:.digits$}"))
        .y_label_formatter(&|value| format!("{value:.0}"))
        .label_style(("sans-serif", 14))
        .draw()?;
    for (curve, colour) in curves.iter().zip(COLOURS) {
        let line = LineSeries::new(curve.points.iter().copied(), colour.stroke_width(2));
        let line = if look.dots { line.point_size(3) } else { line };
        chart
            .draw_series(line)?
            .label(&curve.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(look.labels.clone())
        .background_style(WHITE.mix(0.9))
        .border_style(RGBColor(180, 180, 180))
        .label_font(("sans-serif", 14))
        .draw()
}

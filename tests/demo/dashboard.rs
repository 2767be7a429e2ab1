//! The dashboard that is shipped, drawn from what a real Prometheus answers to it.
//!
//! Grafana itself is in no distribution. This draws the same panels in the same places: what is asked is
//! what the dashboard asks, what is shown is the answer.

use std::{fs, path::Path};

use anyhow::{Context, Result, anyhow};
use lab::{
    monitoring::{Monitoring, Series, shipped},
    palette::COLOURS,
};
use plotters::{coord::Shift, prelude::*};
use serde_json::Value;

/// Columns of the dashboard's grid, and pixels of a step in it.
const COLUMNS: u32 = 24;
const STEP: (u32, u32) = (50, 30);
const GREY: RGBColor = RGBColor(120, 120, 120);
/// What Grafana puts in for the rate of a short time.
const RATE_INTERVAL: &str = "10s";
/// Rows of a table that fit.
const ROWS: usize = 6;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

/// A panel of the dashboard.
struct Panel {
    kind: String,
    title: String,
    /// Across, down, width and height, in steps.
    place: [u32; 4],
    /// Expression and legend.
    asks: Vec<(String, String)>,
    unit: String,
}

/// Draws all panels over a span of time, in seconds since 1970.
pub(crate) fn draw(path: &Path, monitoring: &Monitoring, span: (f64, f64)) -> Result<()> {
    let panels = panels()?;
    let height = panels.iter().map(|it| it.place[1] + it.place[3]).max();
    let size = (COLUMNS * STEP.0, height.unwrap_or(1) * STEP.1);
    let area = SVGBackend::new(path, size).into_drawing_area();
    let failed = |error: &dyn std::fmt::Display| anyhow!("{}: {error}", path.display());
    area.fill(&WHITE).map_err(|error| failed(&error))?;
    for panel in &panels {
        let [x, y, width, height] = panel.place;
        let part = area.clone().shrink(
            ((x * STEP.0) as i32 + 4, (y * STEP.1) as i32 + 4),
            (width * STEP.0 - 8, height * STEP.1 - 8),
        );
        let mut answers = Vec::new();
        for (expression, legend) in &panel.asks {
            let series = if panel.kind == "table" {
                monitoring.instant(expression)?
            } else {
                monitoring.range(expression, span)?
            };
            answers.extend(series.into_iter().map(|it| (named(legend, &it), it)));
        }
        let drawn = match panel.kind.as_str() {
            "row" => heading(&part, &panel.title),
            "table" => table(&part, &panel.title, &answers),
            "state-timeline" => states(&part, &panel.title, &answers, span),
            _ => lines(&part, panel, &answers, span),
        };
        drawn.map_err(|error| failed(&error))?;
    }
    area.present().map_err(|error| failed(&error))
}

fn panels() -> Result<Vec<Panel>> {
    let file = shipped().join("../grafana/tcpstall.json");
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(file)?)?;
    let panels = dashboard["panels"].as_array().context("no panels")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let number = |value: &Value| value.as_u64().unwrap_or_default() as u32;
    let filled = |expression: String| {
        expression
            .replace("$instance", ".*")
            .replace("$upstream", ".*")
            .replace("$__rate_interval", RATE_INTERVAL)
    };
    Ok(panels
        .iter()
        .map(|panel| Panel {
            kind: text(&panel["type"]),
            title: text(&panel["title"]),
            place: ["x", "y", "w", "h"].map(|it| number(&panel["gridPos"][it])),
            asks: panel["targets"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|it| (filled(text(&it["expr"])), text(&it["legendFormat"])))
                .collect(),
            unit: text(&panel["fieldConfig"]["defaults"]["unit"]),
        })
        .collect())
}

/// "{{upstream}} on {{instance}}" with the labels of a series.
fn named(legend: &str, series: &Series) -> String {
    let mut name = legend.to_owned();
    for (label, value) in &series.labels {
        name = name.replace(&format!("{{{{{label}}}}}"), value);
    }
    name
}

fn words(
    area: &Area<'_>,
    text: &str,
    at: (i32, i32),
    size: i32,
    colour: RGBColor,
) -> Drawn<'static> {
    let font = ("sans-serif", size).into_font().color(&colour);
    area.draw(&Text::new(text.to_owned(), at, font))
}

fn frame(area: &Area<'_>, title: &str) -> Drawn<'static> {
    let (width, height) = area.dim_in_pixel();
    let edges = [(0, 0), (width as i32 - 1, height as i32 - 1)];
    area.draw(&Rectangle::new(edges, RGBColor(210, 210, 210)))?;
    words(area, title, (8, 6), 15, BLACK)
}

fn heading(area: &Area<'_>, title: &str) -> Drawn<'static> {
    words(area, title, (2, 2), 18, BLACK)
}

/// A row per series: its labels and its value.
fn table(area: &Area<'_>, title: &str, answers: &[(String, Series)]) -> Drawn<'static> {
    frame(area, title)?;
    if answers.is_empty() {
        return words(area, "empty", (10, 34), 13, GREY);
    }
    for (row, (_, series)) in (0..).zip(answers.iter().take(ROWS)) {
        let labels = series.labels.iter();
        let shown = labels.filter(|(name, _)| !matches!(name.as_str(), "__name__" | "job"));
        let mut text: Vec<_> = shown
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        if let Some((_, value)) = series.values.last() {
            text.push(format!("= {value}"));
        }
        words(area, &text.join("   "), (10, 34 + 22 * row), 13, BLACK)?;
    }
    Ok(())
}

/// A band per series, in the colour of each state.
fn states(
    area: &Area<'_>,
    title: &str,
    answers: &[(String, Series)],
    (start, end): (f64, f64),
) -> Drawn<'static> {
    const LEFT: i32 = 220;
    frame(area, title)?;
    let (width, height) = area.dim_in_pixel();
    let room = f64::from(width as i32 - LEFT - 20);
    let place = |at: f64| LEFT + ((at - start) / (end - start) * room) as i32;
    let band = (height as i32 - 50) / (answers.len().max(1) as i32);
    for (row, (name, series)) in (0..).zip(answers) {
        let top = 36 + row * band;
        words(area, name, (10, top + band / 2 - 8), 13, BLACK)?;
        let next = series.values.iter().skip(1).map(|it| it.0).chain([end]);
        for ((from, value), to) in series.values.iter().zip(next) {
            let edges = [(place(*from), top), (place(to), top + band - 6)];
            area.draw(&Rectangle::new(edges, of_state(*value).filled()))?;
        }
    }
    Ok(())
}

/// As the dashboard maps them.
fn of_state(value: f64) -> RGBColor {
    match value as u8 {
        0 => RGBColor(142, 142, 142),
        1 => RGBColor(115, 191, 105),
        2 => RGBColor(255, 152, 48),
        _ => RGBColor(224, 47, 68),
    }
}

fn lines(
    area: &Area<'_>,
    panel: &Panel,
    answers: &[(String, Series)],
    (start, end): (f64, f64),
) -> Drawn<'static> {
    frame(area, &panel.title)?;
    let values = answers.iter().flat_map(|(_, series)| &series.values);
    let highest = values.map(|it| it.1).filter(|it| it.is_finite());
    let highest = highest.fold(0.0, f64::max);
    let top = if highest > 0.0 { highest * 1.1 } else { 1.0 };
    let legend = 18 * (answers.len().div_ceil(3) as i32).max(1);
    let mut chart = ChartBuilder::on(area)
        .margin_top(28)
        .margin_bottom(legend)
        .margin_right(12)
        .x_label_area_size(20)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..end - start, 0.0..top)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(RGBColor(230, 230, 230))
        .x_labels(6)
        .y_labels(4)
        .x_label_formatter(&|it| format!("{it:.0} s"))
        .y_label_formatter(&|it| with_unit(*it, &panel.unit))
        .label_style(("sans-serif", 12))
        .draw()?;
    let (_, height) = area.dim_in_pixel();
    for (place, (name, series)) in (0..).zip(answers) {
        let colour = COLOURS[place as usize % COLOURS.len()];
        let points = series.values.iter().filter(|it| it.1.is_finite());
        let points = points.map(|(at, value)| (at - start, *value));
        chart.draw_series(LineSeries::new(points, colour.stroke_width(2)))?;
        let width = area.dim_in_pixel().0 as i32 / 3 - 4;
        let at = (
            10 + place % 3 * width,
            height as i32 - legend - 2 + 18 * (place / 3),
        );
        words(area, &format!("— {name}"), at, 12, colour)?;
    }
    Ok(())
}

fn with_unit(value: f64, unit: &str) -> String {
    match unit {
        "bytes" if value >= 1e6 => format!("{:.1} MB", value / 1e6),
        "bytes" => format!("{:.0} kB", value / 1e3),
        "s" if value < 1.0 => format!("{:.1} ms", value * 1e3),
        "s" => format!("{value:.0} s"),
        "ops" => format!("{value:.0}/s"),
        "percentunit" => format!("{:.1} %", value * 100.0),
        _ => format!("{value:.0}"),
    }
}

//! Charts for the documentation, as SVG.

use std::path::Path;

use anyhow::{Result, anyhow};
use lab::palette::COLOURS;
use plotters::{coord::Shift, prelude::*};

/// Width and height.
const SIZE: (u32, u32) = (860, 460);
/// Height of charts side by side, and how many fit.
const PANEL_HEIGHT: u32 = 340;
const ABREAST: usize = 3;
/// A shorter axis has a digit after the point.
const FINE: f64 = 5.0;
/// So few points are shown as such.
const DOTS: usize = 20;
/// A line, by its points.
#[derive(Debug)]
pub(crate) struct Curve {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// What is told across and upwards, and where the axes end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Axes {
    pub(crate) across: (&'static str, f64),
    pub(crate) upwards: (&'static str, f64),
}

impl Axes {
    /// Shares of runs over so many seconds.
    pub(crate) fn shares(span: f64) -> Self {
        Self {
            across: ("seconds after the fault", span),
            upwards: ("% of the runs", 102.0),
        }
    }
}

/// One of several charts of shares over time, side by side.
#[derive(Debug)]
pub(crate) struct Panel {
    pub(crate) title: String,
    /// Seconds that are drawn.
    pub(crate) span: f64,
    pub(crate) curves: Vec<Curve>,
}

/// Draws charts beside each other, and in rows when there are many.
pub(crate) fn panels(path: &Path, panels: &[Panel]) -> Result<()> {
    let columns = if panels.len() > ABREAST {
        2
    } else {
        panels.len()
    };
    let rows = panels.len().div_ceil(columns.max(1));
    let size = (SIZE.0, PANEL_HEIGHT * rows as u32);
    let area = SVGBackend::new(path, size).into_drawing_area();
    let result = area.fill(&WHITE);
    result.map_err(|error| failed(path, &error))?;
    for (part, panel) in area.split_evenly((rows, columns)).iter().zip(panels) {
        let look = Look {
            title: &panel.title,
            axes: Axes::shares(panel.span),
            // Shares rise to the upper right in the end.
            labels: SeriesLabelPosition::LowerRight,
        };
        chart(part, &look, &panel.curves).map_err(|error| failed(path, &error))?;
    }
    area.present().map_err(|error| failed(path, &error))
}

/// Draws one chart.
pub(crate) fn lines(
    path: &Path,
    title: &str,
    axes: &Axes,
    curves: &[Curve],
    labels: SeriesLabelPosition,
) -> Result<()> {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE).map_err(|error| failed(path, &error))?;
    let look = Look {
        title,
        axes: *axes,
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
    axes: Axes,
    labels: SeriesLabelPosition,
}

fn chart<D: DrawingBackend>(
    area: &DrawingArea<D, Shift>,
    look: &Look<'_>,
    curves: &[Curve],
) -> Result<(), DrawingAreaErrorKind<D::ErrorType>> {
    let Axes { across, upwards } = look.axes;
    let mut chart = ChartBuilder::on(area)
        .caption(look.title, ("sans-serif", 20))
        .margin(14)
        .margin_right(28)
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..across.1, 0.0..upwards.1)?;
    let digits = usize::from(across.1 < FINE);
    chart
        .configure_mesh()
        .x_desc(across.0)
        .y_desc(upwards.0)
        .light_line_style(WHITE)
        .bold_line_style(RGBColor(225, 225, 225))
        .x_labels(if across.1 < FINE { 5 } else { 10 })
        .x_label_formatter(&|value| format!("{value:.digits$}"))
        .y_label_formatter(&|value| format!("{value:.0}"))
        .label_style(("sans-serif", 14))
        .draw()?;
    for (curve, colour) in curves.iter().zip(COLOURS) {
        let line = LineSeries::new(curve.points.iter().copied(), colour.stroke_width(2));
        let few = curve.points.len() <= DOTS;
        let line = if few { line.point_size(3) } else { line };
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

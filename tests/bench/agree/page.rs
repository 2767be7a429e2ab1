//! The part of `docs/judgement.md` that shows both worlds side by side.

use std::path::Path;

use anyhow::Result;

use crate::{
    judge::{
        page::{Part, lines},
        row::Outage,
    },
    picture::{Curve, Panel, panels},
};

use super::compare::{APART, Pair, TIMES};

/// The part that is written here.
const PART: Part = Part {
    page: "judgement.md",
    begin: "<!-- generated: cargo xtask bench agree -->",
};
/// Steps of a curve.
const STEPS: u32 = 400;

/// Puts the figures into the page and draws the picture beside it.
pub(crate) fn write(pairs: &[Pair], about: &str, folder: &Path) -> Result<()> {
    let drawn: Vec<_> = pairs.iter().map(panel).collect();
    panels(&folder.join("judgement-agree.svg"), &drawn)?;
    let times = pairs.iter().flat_map(Pair::times);
    let times: Vec<_> = times.map(|cells| cells.to_vec()).collect();
    let apart: Vec<_> = pairs.iter().map(|pair| pair.apart().to_vec()).collect();
    let text = format!(
        "Seeds from 0 on; {about}.\n\n{}\n![Share of the runs in which it was found, over time](judgement-agree.svg)\n\n{}",
        lines(&TIMES, &times),
        lines(&APART, &apart)
    );
    PART.write(folder, &text)
}

/// One fault: two curves.
fn panel(pair: &Pair) -> Panel {
    let sides = pair.sides();
    let latest = sides.iter().filter_map(|(_, it)| it.found.last());
    let span = latest.copied().fold(1.0, f64::max).ceil();
    let curve = |(name, outage): (&str, &Outage)| Curve {
        name: name.to_owned(),
        points: (0..=STEPS)
            .map(|step| span * f64::from(step) / f64::from(STEPS))
            .map(|at| (at, 100.0 * outage.share(at)))
            .collect(),
    };
    Panel {
        title: pair.name().to_owned(),
        span,
        curves: sides.map(curve).into(),
    }
}

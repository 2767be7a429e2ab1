//! How results are written: distributions and limits.

use std::{
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;

use crate::{judge::page::Part, picture::Curve};

/// Places at which a curve is drawn.
const STEPS: u32 = 300;

/// Measured times of one kind.
#[derive(Debug, Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn add(&mut self, time: Duration) {
        let place = self.0.partition_point(|other| *other <= time);
        self.0.insert(place, time);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The smallest of which `share` (0 to 1) are not larger.
    pub(crate) fn quantile(&self, share: f64) -> Option<Duration> {
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).copied()
    }

    /// Percent of `runs` that took no longer, over time.
    pub(crate) fn curve(&self, name: &str, runs: usize, span: f64) -> Curve {
        let share = |at: f64| {
            let limit = Duration::from_secs_f64(at);
            let count = self.0.partition_point(|time| *time <= limit);
            100.0 * count as f64 / runs.max(1) as f64
        };
        let places = (0..=STEPS).map(|step| span * f64::from(step) / f64::from(STEPS));
        Curve {
            name: name.to_owned(),
            points: places.map(|at| (at, share(at))).collect(),
        }
    }

    /// `name`, smallest, median, 95 %, largest and a remark, in columns.
    pub(crate) fn row(&self, name: &str, remark: &str) -> String {
        let cell = |share| match self.quantile(share) {
            Some(time) => format!("{:.2} s", time.as_secs_f64()),
            None => "-".to_owned(),
        };
        let cells = [0.0, 0.5, 0.95, 1.0]
            .map(cell)
            .map(|cell| format!("{cell:>9}"))
            .concat();
        format!("{name:<26}{cells}   {remark}")
    }
}

/// The heading above rows of [`Times`].
pub(crate) fn heading() -> String {
    format!(
        "{:<26}{:>9}{:>9}{:>9}{:>9}   {}",
        "", "min", "median", "p95", "max", "limit"
    )
}

/// What a measurement finds, line by line: shown at once, and kept for a page.
#[derive(Debug, Default)]
pub(crate) struct Sheet {
    text: String,
    missed: bool,
}

impl Sheet {
    pub(crate) fn line(&mut self, words: &str) {
        let words = words.trim_end();
        println!("{words}");
        self.text += words;
        self.text += "\n";
    }

    /// Notes whether a limit is met, and says so.
    pub(crate) fn verdict(&mut self, met: bool) -> &'static str {
        self.missed |= !met;
        verdict(met)
    }

    /// Whether all limits are met; with `write` the lines go into `docs/performance.md`.
    pub(crate) fn finish(self, subject: &'static str, write: bool) -> Result<bool> {
        if write {
            let part = Part {
                page: "performance.md",
                begin: subject,
            };
            part.write(&docs(), &format!("\n```text\n{}```\n\n", self.text))?;
        }
        Ok(!self.missed)
    }
}

/// Where pages and pictures are.
pub(crate) fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("docs")
}

/// `met` or `MISSED`.
pub(crate) fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}

/// One line that replaces the last on a terminal, and follows it elsewhere.
pub(crate) fn progress(words: &str) {
    let mut out = std::io::stderr().lock();
    let end = if out.is_terminal() { "\r" } else { "\n" };
    // Progress that cannot be shown is no reason to stop measuring.
    let _ = write!(out, "{words:<100}{end}");
    let _ = out.flush();
}

/// Ends the line of [`progress`].
pub(crate) fn progress_done() {
    if std::io::stderr().is_terminal() {
        eprintln!();
    }
}

/// Kernel and processors, without which a time means little.
pub(crate) fn machine() -> String {
    let uname = rustix::system::uname();
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "Linux {}, {processors} processors",
        uname.release().to_string_lossy()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let mut times = Times::default();
        assert_eq!(times.quantile(0.5), None);
        for seconds in [3, 1, 2, 4] {
            times.add(Duration::from_secs(seconds));
        }
        let at = |share| times.quantile(share).map(|time| time.as_secs());
        assert_eq!(
            [at(0.0), at(0.5), at(0.95), at(1.0)],
            [Some(1), Some(2), Some(4), Some(4)]
        );
    }
}

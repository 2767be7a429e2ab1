//! How results are written: distributions and limits.

use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

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

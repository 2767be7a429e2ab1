//! PURE. What is usual at an upstream.
//!
//! **Invariant:** a bad day is never usual: nothing is learned while anything looks wrong, and what
//! was learned is believed within limits only.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::pauses;

/// Share of destinations that is stalled at any moment although nothing is wrong with the
/// upstream, at least: dead servers, walked-away peers. Measured: none up to 10 % loss, 2 % at 20 %.
pub const STALLED: f64 = 0.02;
/// The same at most, whatever was learned.
const STALLED_AT_MOST: f64 = 0.10;
/// Share of transmissions that is lost although nothing is wrong, at least.
pub const LOST: f64 = 0.06;
/// The same at most.
const LOST_AT_MOST: f64 = 0.12;
/// Destinations per second that begin to stall although nothing is wrong, at most.
const ONSETS_AT_MOST: f64 = 1.0;
/// What was learned is believed with this much to spare.
const MARGIN: f64 = 2.0;
/// So many pauses of a link are a habit; a little less, since they are forgotten slowly.
const PAUSES: f64 = 2.5;
/// The longest that was seen is believed with this much to spare.
const PAUSE_MARGIN: f64 = 2.0;
/// The same at most.
const PAUSE_AT_MOST: Duration = Duration::from_secs(12);
/// How long it takes to get used to something.
const HALF_DAY: Duration = Duration::from_secs(12 * 3600);
/// Between two looks at most; a longer gap says nothing of what was in it.
const GAP: f64 = 30.0;

/// What is usual at an upstream, as far as it was learned.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Baseline {
    /// Mean share of active destinations that were stalled.
    pub stalled: f64,
    /// Mean share of transmissions that were lost.
    pub lost: f64,
    /// Seconds during which it was learned, at most half a day.
    pub seconds: f64,
    /// Seconds that a pause of the link lasted at most.
    #[serde(default)]
    pub pause: f64,
    /// How many there were; half of them are forgotten after half a day.
    #[serde(default)]
    pub pauses: f64,
    /// Mean number of destinations per second that began to stall and did not recover.
    #[serde(default)]
    pub onsets: f64,
}

/// How it is at a moment at which nothing is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Moment {
    /// Share of active destinations that are stalled.
    pub stalled: f64,
    /// Share of transmissions that was lost lately, where enough was sent to tell.
    pub lost: Option<f64>,
    /// Destinations per second that began to stall lately and did not recover.
    pub onsets: f64,
}

impl Baseline {
    /// Learns from a `moment` at which nothing is wrong, `elapsed` after the one before: a mean at
    /// first, a sliding one after half a day.
    pub fn learn(&mut self, elapsed: Duration, moment: Moment) {
        let elapsed = elapsed.as_secs_f64().min(GAP);
        self.seconds = (self.seconds + elapsed).min(HALF_DAY.as_secs_f64());
        if self.seconds <= 0.0 {
            return;
        }
        self.pauses *= (-elapsed / HALF_DAY.as_secs_f64()).exp2();
        if self.pauses < 0.5 {
            (self.pause, self.pauses) = (0.0, 0.0);
        }
        let weight = elapsed / self.seconds;
        self.stalled += weight * (moment.stalled - self.stalled);
        self.onsets += weight * (moment.onsets - self.onsets);
        if let Some(lost) = moment.lost {
            self.lost += weight * (lost - self.lost);
        }
    }

    /// Learns that the link stood still for so long and went on by itself.
    pub fn learn_pause(&mut self, length: Duration) {
        self.pauses += 1.0;
        self.pause = self.pause.max(length.as_secs_f64());
    }

    /// How long the link usually pauses at most; nothing as long as too few pauses are known.
    pub fn usual_pause(&self) -> Duration {
        if self.pauses < PAUSES {
            return Duration::ZERO;
        }
        let longest = self.pause.min(pauses::LONGEST.as_secs_f64());
        let spared = Duration::try_from_secs_f64(PAUSE_MARGIN * longest).unwrap_or_default();
        spared.min(PAUSE_AT_MOST)
    }

    /// Number of destinations that would have begun to stall within `span`, and seconds that this is
    /// worth: no more than were looked at.
    pub fn expected_onsets(&self, span: Duration) -> (f64, f64) {
        let seconds = self.seconds.min(span.as_secs_f64()).max(0.0);
        let count = seconds * self.onsets.clamp(0.0, ONSETS_AT_MOST);
        if count.is_finite() {
            (count, seconds)
        } else {
            (0.0, 0.0)
        }
    }

    /// Share of destinations that must be expected to be stalled.
    pub fn expected_stalled(&self) -> f64 {
        believed(self.stalled, STALLED, STALLED_AT_MOST)
    }

    /// Share of transmissions that must be expected to be lost.
    pub fn expected_lost(&self) -> f64 {
        believed(self.lost, LOST, LOST_AT_MOST)
    }
}

/// What was learned, within limits; a file can hold anything.
fn believed(learned: f64, least: f64, most: f64) -> f64 {
    let share = MARGIN * learned;
    if share.is_finite() {
        share.clamp(least, most)
    } else {
        least
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const ALL: Moment = Moment {
        stalled: 1.0,
        lost: Some(1.0),
        onsets: 1000.0,
    };

    #[test]
    fn it_learns_a_mean_and_gets_used_to_changes_within_a_day() {
        let mut baseline = Baseline::default();
        for _ in 0..3600 {
            let moment = Moment {
                stalled: 0.04,
                lost: Some(0.01),
                onsets: 0.05,
            };
            baseline.learn(SECOND, moment);
        }
        assert!((baseline.stalled - 0.04).abs() < 1e-9);
        assert!((baseline.expected_stalled() - 0.08).abs() < 1e-9);
        assert_eq!(baseline.expected_lost(), LOST);
        let (count, seconds) = baseline.expected_onsets(Duration::from_secs(120));
        assert!((count - 6.0).abs() < 1e-9 && seconds == 120.0);
        for _ in 0..24 * 3600 {
            baseline.learn(SECOND, Moment::default());
        }
        assert!(baseline.onsets < 0.02);
        assert!(baseline.stalled < 0.01);
        assert!(
            (baseline.lost - 0.01).abs() < 1e-9,
            "nothing was said of it"
        );
    }

    #[test]
    fn whatever_was_learned_a_black_hole_is_not_usual() {
        let mut baseline = Baseline::default();
        baseline.learn(Duration::from_secs(86_400), ALL);
        let (count, _) = baseline.expected_onsets(Duration::from_secs(10));
        assert_eq!(count, 10.0);
        assert_eq!(baseline.expected_stalled(), STALLED_AT_MOST);
        assert_eq!(baseline.expected_lost(), LOST_AT_MOST);
        for wrong in [f64::NAN, f64::INFINITY, -1.0] {
            let baseline = Baseline {
                stalled: wrong,
                lost: wrong,
                seconds: wrong,
                pause: wrong,
                pauses: 9.0,
                onsets: wrong,
            };
            let (count, seconds) = baseline.expected_onsets(Duration::from_secs(10));
            assert!((0.0..=10.0).contains(&count) && (0.0..=10.0).contains(&seconds));
            assert!(baseline.usual_pause() <= PAUSE_AT_MOST);
            assert_eq!(baseline.expected_stalled(), STALLED);
            assert_eq!(baseline.expected_lost(), LOST);
        }
    }

    #[test]
    fn three_pauses_are_usual_until_they_are_forgotten() {
        let mut baseline = Baseline::default();
        for length in [2000, 4000, 3000] {
            assert_eq!(baseline.usual_pause(), Duration::ZERO);
            baseline.learn_pause(Duration::from_millis(length));
        }
        assert_eq!(baseline.usual_pause(), Duration::from_secs(8));
        for _ in 0..3 * 3600 {
            baseline.learn(SECOND, Moment::default());
        }
        assert_eq!(
            baseline.usual_pause(),
            Duration::from_secs(8),
            "after three hours"
        );
        for _ in 0..3 * 3600 {
            baseline.learn(SECOND, Moment::default());
        }
        assert_eq!(baseline.usual_pause(), Duration::ZERO, "after six");
        for _ in 0..36 * 3600 {
            baseline.learn(SECOND, Moment::default());
        }
        assert_eq!((baseline.pause, baseline.pauses), (0.0, 0.0));
    }

    #[test]
    fn nothing_is_learned_in_no_time() {
        let mut baseline = Baseline::default();
        baseline.learn(Duration::ZERO, ALL);
        assert_eq!(baseline, Baseline::default());
    }
}

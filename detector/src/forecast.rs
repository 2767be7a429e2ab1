//! When something that is being used up will run out.
//!
//! **Invariant:** pure; says nothing rather than something that the past does not bear out.

use std::time::Duration;

use crate::time::Time;

/// Looks without which nothing is said, and the time that they must span.
pub const LEAST: usize = 6;
const SPAN: Duration = Duration::from_secs(5);
/// A trend must be this much larger than what the looks differ from it.
const CLEARLY: f64 = 4.0;
/// And at least so large, whole and as a share of the limit: less is the usual to and fro.
const GROWTH: f64 = 8.0;
const GROWTH_SHARE: f64 = 0.02;
/// Farther ahead nobody believes a straight line.
const HORIZON: Duration = Duration::from_secs(24 * 3600);

/// How long until `limit` is reached, if what was seen goes on as a straight line; counted from the last
/// look. `None` when it does not grow clearly, or not within a day.
///
/// The line is that of least squares; it is moved to begin at the last look, which is what is known best.
/// What has begun lately is in the newer looks alone: the newer half and the newest quarter are asked, too,
/// and the soonest of the answers is the one that counts.
pub fn runs_out(looks: &[(Time, u64)], limit: u64) -> Option<Duration> {
    let half = looks.len() / 2;
    let quarter = looks.len() / 4;
    let parts = [looks.len(), half, quarter].map(|it| &looks[looks.len() - it..]);
    let ends = parts
        .iter()
        .filter_map(|part| runs_out_straight(part, limit));
    ends.min()
}

fn runs_out_straight(looks: &[(Time, u64)], limit: u64) -> Option<Duration> {
    let (first, last) = (looks.first()?, looks.last()?);
    let span = last.0.since(first.0);
    if looks.len() < LEAST || span < SPAN {
        return None;
    }
    let points = looks.iter().map(|(at, used)| {
        let seconds = at.since(first.0).as_secs_f64();
        (seconds, *used as f64)
    });
    let points: Vec<_> = points.collect();
    let count = points.len() as f64;
    let mean_x = points.iter().map(|it| it.0).sum::<f64>() / count;
    let mean_y = points.iter().map(|it| it.1).sum::<f64>() / count;
    let spread: f64 = points.iter().map(|it| (it.0 - mean_x).powi(2)).sum();
    let products = points.iter().map(|it| (it.0 - mean_x) * (it.1 - mean_y));
    // The looks span some seconds, so that the spread is not zero.
    let slope = products.sum::<f64>() / spread;
    let off = |it: &(f64, f64)| (it.1 - mean_y - slope * (it.0 - mean_x)).powi(2);
    let error = (points.iter().map(off).sum::<f64>() / count).sqrt();
    let grown = slope * span.as_secs_f64();
    let least = GROWTH.max(GROWTH_SHARE * limit as f64);
    if grown < least || grown < CLEARLY * error {
        return None;
    }
    let left = limit.saturating_sub(last.1) as f64 / slope;
    let left = Duration::try_from_secs_f64(left).ok()?;
    (left <= HORIZON).then_some(left)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn looks(used: &[u64], every: u64) -> Vec<(Time, u64)> {
        let at = |number: usize| Time::default().after(Duration::from_secs(number as u64 * every));
        let each = used.iter().enumerate();
        each.map(|(number, it)| (at(number), *it)).collect()
    }

    #[test]
    fn a_steady_leak_runs_out_when_arithmetic_says_so() {
        let steady = looks(&[100, 110, 120, 130, 140, 150], 2);
        // 5 a second, 850 are left.
        assert_eq!(runs_out(&steady, 1000), Some(Duration::from_secs(170)));
        assert_eq!(runs_out(&steady, 150), Some(Duration::ZERO));
    }

    #[test]
    fn an_unsteady_one_runs_out_about_then() {
        let unsteady = looks(&[100, 108, 122, 129, 141, 149], 2);
        let left = runs_out(&unsteady, 1000).expect("it grows").as_secs_f64();
        assert!((left - 170.0).abs() < 15.0, "{left}");
    }

    #[test]
    fn one_that_has_just_begun_is_not_made_light_of() {
        // Half a minute of calm, then five a second.
        let mut used = vec![100; 15];
        used.extend((1..=12).map(|look| 100 + look * 10));
        let left = runs_out(&looks(&used, 2), 400)
            .expect("it grows")
            .as_secs_f64();
        assert!((left - 36.0).abs() < 8.0, "{left}");
    }

    #[test]
    fn what_does_not_clearly_grow_has_no_end() {
        for used in [
            &[100, 100, 100, 100, 100, 100, 100][..],
            &[150, 140, 130, 120, 110, 100],
            // To and fro.
            &[100, 140, 95, 150, 90, 145, 110],
            &[500, 523, 488, 511, 495, 530, 502, 517],
            // Too little.
            &[100, 100, 100, 101, 101, 101],
            // Too short a past.
            &[100, 200, 300, 400, 500],
            &[],
        ] {
            assert_eq!(runs_out(&looks(used, 2), 1000), None, "{used:?}");
        }
        let quick = [100, 200, 300, 400, 500, 600];
        assert_eq!(
            runs_out(&looks(&quick, 1), 1000),
            Some(Duration::from_secs(4))
        );
        assert_eq!(runs_out(&looks(&quick, 0), 1000), None, "all at once");
        let slow: Vec<_> = (0..60).collect();
        assert_eq!(runs_out(&looks(&slow, 60), 1_000_000), None, "in two years");
    }

    proptest! {
        #[test]
        fn any_past_is_no_trouble(
            used in prop::collection::vec(any::<u64>(), 0..50),
            every in 0_u64..1000,
            limit in any::<u64>(),
        ) {
            let left = runs_out(&looks(&used, every), limit);
            prop_assert!(left.is_none_or(|it| it <= HORIZON));
        }
    }
}

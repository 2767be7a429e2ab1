//! PURE. When destinations began to stall: together, which is one event, or one by one, which is
//! what peers that walk away look like.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::baseline::Baseline;
use crate::{model::Destination, time::Time};

/// What begins within this time of each other began together.
pub const TOGETHER: Duration = Duration::from_secs(3);
/// So many must begin together at least.
const FEWEST: usize = 3;
/// By chance so many begin together at most this often, per second: once in twelve days.
const DOUBT: f64 = 1e-6;
/// How far back the usual rate is looked for.
const MEMORY: Duration = Duration::from_secs(600);
/// Less than this says little of what is usual.
const SHORT: Duration = Duration::from_secs(120);
/// In pieces of this length.
const PIECE: u64 = 10_000_000_000;
/// An outage is not usual: a piece counts twice the median at most, or this where that is more.
const FEW: u32 = 2;
/// Onsets that are remembered at most.
const CAPACITY: usize = 1024;
/// Onsets at one destination within this time are one.
const AGAIN: Duration = Duration::from_secs(30);

/// When destinations of one upstream began to stall, and did not recover.
#[derive(Debug, Clone, Default)]
pub struct Onsets {
    /// Of destinations that are stalled now: when their connections began to, oldest first.
    now: BTreeMap<Destination, Vec<Time>>,
    /// All, oldest first.
    times: Vec<Onset>,
    /// Of those that ended without recovery, and where.
    past: VecDeque<(Time, Destination)>,
    /// When it was first looked.
    since: Option<Time>,
}

/// A destination began to stall, or further connections to it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Onset {
    at: Time,
    /// The one before at the same destination.
    before: Option<Time>,
}

impl Onsets {
    /// A connection that began to stall then has gone away without recovery.
    pub fn gone(&mut self, destination: Destination, began: Time) {
        // A dead server is tried again and again.
        let again = |it: &(Time, Destination)| {
            it.1 == destination && began.since(it.0).max(it.0.since(began)) < AGAIN
        };
        if !self.past.iter().any(again) {
            self.past.push_back((began, destination));
        }
        while self.past.len() > CAPACITY {
            self.past.pop_front();
        }
    }

    /// Takes in which destinations are stalled now, and since when connections to them are.
    pub fn update(&mut self, stalled: BTreeMap<Destination, Vec<Time>>, now: Time) {
        self.since.get_or_insert(now);
        let horizon = now.before(MEMORY);
        self.past.retain(|(began, _)| *began >= horizon);
        self.now = stalled;
        let past = self.past.iter().map(|(at, _)| (*at, None));
        let now = self.now.values().flat_map(|onsets| {
            let before = std::iter::once(None).chain(onsets.iter().copied().map(Some));
            onsets.iter().copied().zip(before)
        });
        self.times = past
            .chain(now)
            .map(|(at, before)| Onset { at, before })
            .collect();
        self.times.sort_unstable();
    }

    /// When connections to a destination that is stalled now began to, oldest first.
    pub fn of(&self, destination: Destination) -> &[Time] {
        self.now.get(&destination).map_or(&[], Vec::as_slice)
    }

    /// Onsets per second before `until`, as usual: what sticks out is cut off. Who has just started to
    /// look knows only of those that have lasted, and of what was learned before.
    pub fn rate(&self, until: Time, learned: &Baseline) -> f64 {
        let pieces = usize::try_from(MEMORY.as_nanos() / u128::from(PIECE)).unwrap_or(1);
        let mut counts = vec![0_u32; pieces];
        let from = until.before(MEMORY);
        for onset in self.between(from, until) {
            let piece = usize::try_from((onset.at.0 - from.0) / PIECE).unwrap_or(0);
            if let Some(count) = counts.get_mut(piece) {
                *count += 1;
            }
        }
        counts.sort_unstable();
        let most = counts.get(pieces / 2).map_or(FEW, |it| (2 * it).max(FEW));
        let sum: u32 = counts.iter().map(|it| it.min(&most)).sum();
        let oldest = self.times.first().map(|it| it.at);
        let known_since = self.since.into_iter().chain(oldest).min();
        let known = known_since.map_or(MEMORY, |since| until.since(since));
        let (expected, seconds) = learned.expected_onsets(SHORT);
        let known = known.min(MEMORY).as_secs_f64() + seconds;
        (f64::from(sum) + expected) / known.max(SHORT.as_secs_f64())
    }

    /// Whether what began at `began` is one event with others, when `rate` of them begin each second
    /// anyway: a scan statistic (Naus 1965) over a window of twice [`TOGETHER`]. Each onset is the
    /// middle of such a window, so that chance makes an event `rate` times as often as one window is
    /// one.
    pub fn is_event(&self, began: Time, rate: f64) -> bool {
        let (from, until) = (began.before(TOGETHER), began.after(TOGETHER));
        let near = self.between(from, until).iter();
        // Each destination once.
        let near = near.filter(|it| it.before < Some(from)).count();
        let expected = rate * 2.0 * TOGETHER.as_secs_f64();
        near >= FEWEST && rate * poisson_tail(near - 1, expected) < DOUBT
    }

    fn between(&self, from: Time, until: Time) -> &[Onset] {
        let begin = self.times.partition_point(|it| it.at < from);
        let end = self.times.partition_point(|it| it.at <= until);
        self.times.get(begin..end).unwrap_or_default()
    }
}

/// When the trouble that `began` is part of had surely begun: when a third of those that began
/// within a moment had, or at `began` itself if that was earlier. `sorted` holds them all.
pub fn shared(sorted: &[Time], began: Time) -> Time {
    let from = sorted.partition_point(|it| *it < began.before(TOGETHER));
    let to = sorted.partition_point(|it| *it <= began.after(TOGETHER));
    sorted
        .get(from + (to - from) / 3)
        .map_or(began, |third| began.min(*third))
}

/// The chance that `k` or more come when `mean` are expected.
pub fn poisson_tail(k: usize, mean: f64) -> f64 {
    if k == 0 {
        return 1.0;
    }
    if mean <= 0.0 {
        return 0.0;
    }
    // The lower part summed up, in logarithms: e^-mean leaves the range of a float at 700.
    let mut term = -mean;
    let mut below = 0.0;
    for i in 0..k {
        if i > 0 {
            term += mean.ln() - (i as f64).ln();
        }
        below += term.exp();
    }
    (1.0 - below).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::world::destination;

    const NOW: Time = Time(5_000_000_000_000);

    fn ago(milliseconds: u64) -> Time {
        NOW.before(Duration::from_millis(milliseconds))
    }

    /// The rate where nothing was learned.
    fn rate_of(onsets: &Onsets, until: Time) -> f64 {
        onsets.rate(until, &Baseline::default())
    }

    fn onsets(times: impl IntoIterator<Item = Time>) -> Onsets {
        let mut onsets = Onsets::default();
        let times = times.into_iter().map(|at| vec![at]);
        let stalled = (0..).map(destination).zip(times).collect();
        onsets.update(stalled, NOW);
        onsets
    }

    #[test]
    fn three_at_once_are_an_event_where_nothing_ever_happens() {
        let three = onsets([ago(1000), ago(2000), ago(3000)]);
        assert!(three.is_event(ago(2000), rate_of(&three, ago(30_000))));
        assert!(!onsets([ago(1000), ago(2000)]).is_event(ago(1000), 0.0));
        let apart = onsets([ago(1000), ago(5000), ago(9000)]);
        assert!(!apart.is_event(ago(5000), 0.0));
    }

    #[test]
    fn a_destination_that_has_a_past_counts_again_and_only_once() {
        let mut onsets = Onsets::default();
        let at = |times: &[u64]| times.iter().map(|it| ago(*it)).collect::<Vec<_>>();
        let mut now = BTreeMap::from([
            (destination(1), at(&[60_000, 2000])),
            (destination(2), at(&[2000])),
            (destination(3), at(&[90_000, 30_000, 2500])),
        ]);
        onsets.update(now.clone(), NOW);
        assert!(onsets.is_event(ago(2000), 0.0));
        assert!(!onsets.is_event(ago(60_000), 0.0));
        now.insert(destination(3), at(&[90_000]));
        now.insert(destination(2), at(&[4900, 1800]));
        onsets.update(now, NOW);
        assert!(!onsets.is_event(ago(2000), 0.0), "two, one of them twice");
        assert_eq!(onsets.of(destination(3)), [ago(90_000)]);
    }

    #[test]
    fn where_one_walks_away_each_second_six_at_once_are_no_event_and_fifty_are() {
        let usual = (1..600).map(|it| ago(it * 1000));
        let busy = onsets(usual.clone());
        let rate = rate_of(&busy, NOW);
        assert!((0.8..1.1).contains(&rate), "{rate}");
        assert!(!busy.is_event(ago(30_000), rate));
        let broken = onsets(usual.chain((0..50).map(|it| ago(2000 + it * 10))));
        let rate = rate_of(&broken, NOW);
        assert!(rate < 1.1, "{rate}: an outage is not usual");
        assert!(broken.is_event(ago(2000), rate));
    }

    #[test]
    fn who_has_just_started_to_look_does_not_take_ten_minutes_for_granted() {
        let walked_away = |seconds: [u64; 6]| onsets(seconds.map(|it| ago(it * 1000)));
        let fresh = walked_away([10, 20, 30, 40, 50, 60]);
        assert_eq!(rate_of(&fresh, NOW), 6.0 / 120.0);
        let old = walked_away([10, 20, 30, 40, 50, 600]);
        assert_eq!(rate_of(&old, NOW), 6.0 / 600.0);
        let mut watched = fresh.clone();
        watched.since = Some(ago(300_000));
        assert_eq!(rate_of(&watched, NOW), 6.0 / 300.0);
        let learned = Baseline {
            seconds: 600.0,
            onsets: 0.1,
            ..Baseline::default()
        };
        assert_eq!(watched.rate(NOW, &learned), (6.0 + 12.0) / 420.0);
        assert_eq!(Onsets::default().rate(NOW, &learned), 12.0 / 720.0);
    }

    #[test]
    fn who_goes_away_is_remembered_once_for_each_destination_and_for_ten_minutes() {
        let mut onsets = Onsets::default();
        for at in [100_000, 80_000, 60_000, 75_000] {
            onsets.gone(destination(1), ago(at));
        }
        onsets.gone(destination(2), ago(100_000));
        assert_eq!(onsets.past.len(), 3);
        onsets.update(BTreeMap::new(), NOW);
        assert_eq!(onsets.times.len(), 3);
        onsets.update(BTreeMap::new(), NOW.after(MEMORY));
        assert_eq!(onsets.past.len(), 0);
    }

    #[test]
    fn trouble_had_begun_when_a_third_of_it_had() {
        let sorted = [ago(9000), ago(3900), ago(3800), ago(2000), ago(1000)];
        assert_eq!(shared(&sorted, ago(1000)), ago(3800));
        assert_eq!(shared(&sorted, ago(3900)), ago(3900));
        assert_eq!(shared(&sorted, ago(9000)), ago(9000));
        assert_eq!(shared(&[], ago(1000)), ago(1000));
    }

    #[test]
    fn the_tail_is_that_of_the_textbook() {
        assert!((poisson_tail(1, 1.0) - 0.632_120_6).abs() < 1e-6);
        assert!((poisson_tail(3, 0.1) - 0.000_154_7).abs() < 1e-6);
        assert_eq!(poisson_tail(0, 3.0), 1.0);
        assert_eq!(poisson_tail(3, 0.0), 0.0);
        assert!(poisson_tail(2000, 1000.0) < 1e-6);
        assert!(poisson_tail(500, 1000.0) > 0.999);
    }
}

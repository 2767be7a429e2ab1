//! PURE. Which sizes of segments got through lately.
//!
//! The kernel does not say how large an acknowledged segment was. Between two samples of a
//! connection it says how many bytes and how many segments were sent, which bounds the largest:
//! at least the mean, at most all bytes but one in each of the others.

use std::{collections::BTreeMap, time::Duration};

use super::classify::Passed;
use crate::{
    model::{Destination, NetnsId, Sample},
    time::Time,
};

/// How long a pass is remembered.
pub const MEMORY: Duration = Duration::from_secs(60);
/// Segments up to which the mean over a connection's whole life is taken for that of now.
const LIFE: u32 = 100;
/// A connection that is seen for the first time was likely opened after the sweep before.
const FIRST_SEEN: Duration = Duration::from_secs(1);
/// How many passes of each destination are remembered.
const CAPACITY: usize = 16;

/// Data was acknowledged: proof that segments of some size got through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    /// When the newest acknowledgement came.
    pub at: Time,
    /// All of them came later than this.
    pub after: Time,
    /// Where it came from.
    pub destination: Destination,
    /// The network namespace that heard of it.
    pub netns: NetnsId,
    /// The largest segment had at least this many bytes.
    pub at_least: u32,
    /// The largest segment had at most this many bytes.
    pub at_most: u32,
}

impl Pass {
    /// What the difference between two samples of a connection proves; without an `earlier` one,
    /// what its whole life until now proves. `None` when nothing was acknowledged.
    pub fn between(
        earlier: Option<&Sample>,
        later: &Sample,
        destination: Destination,
    ) -> Option<Self> {
        let acked_before = earlier.map_or(0, |sample| sample.bytes_acked);
        let bytes = later.bytes_acked.saturating_sub(acked_before);
        // The byte that stands for SYN is counted as acknowledged.
        let bytes = if earlier.is_none() {
            bytes.saturating_sub(1)
        } else {
            bytes
        };
        if bytes == 0 {
            return None;
        }
        let sent_before = earlier.map_or(0, |sample| sample.segments_out);
        let repeated = earlier.map_or(0, |sample| sample.retransmissions);
        let in_flight_before = earlier.map_or(0, |sample| sample.packets_out);
        let sent = later
            .segments_out
            .wrapping_sub(sent_before)
            .wrapping_add(in_flight_before);
        let repeated = later.retransmissions.wrapping_sub(repeated);
        let segments = sent
            .saturating_sub(repeated)
            .saturating_sub(later.packets_out)
            .max(1);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let largest = bytes.saturating_sub(segments - 1).max(1);
        // A long life says little of the moment of the last acknowledgement.
        let says_much = earlier.is_some() || segments <= LIFE;
        let mean = if says_much {
            bytes.div_ceil(segments)
        } else {
            1
        };
        Some(Self {
            at: later.acked_at,
            after: earlier.map_or(later.at.before(FIRST_SEEN), |sample| sample.at),
            destination,
            netns: later.netns,
            at_least: mean.min(later.mss),
            at_most: largest.min(later.mss),
        })
    }

    /// The size that the largest segment hardly had more than: four times the mean, where that is
    /// known. Many small messages between two samples could hide a large one, and rarely do.
    fn hardly_above(&self) -> u32 {
        if self.at_least > 1 {
            self.at_most.min(self.at_least.saturating_mul(4))
        } else {
            self.at_most
        }
    }

    /// Whether everything that `other` says of large segments, this one says of a later moment.
    fn says_more_than(&self, other: &Self) -> bool {
        let as_uncertain = self.at_least < self.at_most || other.at_least == other.at_most;
        self.after >= other.after && self.at_least >= other.at_least && as_uncertain
    }

    /// Whether a segment as large as `head` surely, or nearly so, got through. Nearly, since a
    /// message rarely fills its last segment: 4,000 bytes in three have a mean of 1,334.
    pub fn carries(&self, head: Option<u32>) -> bool {
        head.is_none_or(|head| u64::from(self.at_least) * 10 >= u64::from(head) * 9)
    }
}

/// The passes of one upstream.
#[derive(Debug, Clone, Default)]
pub struct Passes {
    /// By destination, oldest first.
    all: BTreeMap<Destination, Vec<Pass>>,
    /// Made from all of them when somebody asks, and kept until they change.
    reach: Option<Reach>,
}

impl Passes {
    /// Remembers one; of each destination the newest are kept.
    pub fn add(&mut self, pass: Pass) {
        self.reach = None;
        let passes = self.all.entry(pass.destination).or_default();
        let place = passes.partition_point(|other| other.at <= pass.at);
        passes.insert(place, pass);
        if passes.len() > CAPACITY {
            passes.remove(0);
        }
    }

    /// Forgets what is too old.
    pub fn forget(&mut self, now: Time) {
        let horizon = now.before(MEMORY);
        let old = |passes: &Vec<Pass>| passes.first().is_none_or(|pass| pass.at < horizon);
        if !self.all.values().any(old) {
            return;
        }
        self.reach = None;
        self.all.retain(|_, passes| {
            passes.drain(..passes.partition_point(|pass| pass.at < horizon));
            !passes.is_empty()
        });
    }

    /// Destinations from which something came later than `since`.
    pub fn heard_after(&self, since: Time) -> impl Iterator<Item = Destination> {
        self.all
            .iter()
            .filter(move |(_, passes)| passes.last().is_some_and(|pass| pass.at > since))
            .map(|(destination, _)| *destination)
    }

    /// When something last came from each destination, newest first.
    pub fn last(&self) -> Vec<Time> {
        let newest = self.all.values().filter_map(|passes| passes.last());
        let mut times: Vec<_> = newest.map(|pass| pass.at).collect();
        times.sort_unstable_by_key(|at| std::cmp::Reverse(*at));
        times
    }

    /// When something first came from each destination later than `since`, oldest first.
    pub fn first_after(&self, since: Time) -> Vec<Time> {
        let first = |passes: &Vec<Pass>| {
            let from = passes.partition_point(|pass| pass.at <= since);
            passes.get(from).map(|pass| pass.at)
        };
        let mut times: Vec<_> = self.all.values().filter_map(first).collect();
        times.sort_unstable();
        times
    }

    /// Whether a segment as large as `head` got through to `destination` later than `since`.
    pub fn carried(&self, destination: Destination, since: Time, head: Option<u32>) -> bool {
        self.newer(destination, since)
            .any(|pass| pass.carries(head))
    }

    /// The same between two moments.
    pub fn carried_between(
        &self,
        destination: Destination,
        (since, until): (Time, Time),
        head: Option<u32>,
    ) -> bool {
        self.newer(destination, since)
            .any(|pass| pass.at < until && pass.carries(head))
    }

    /// Whether a segment as large as `head` got through to `destination` and was surely acknowledged
    /// later than `since`, in a namespace that counts.
    pub fn surely_carried(
        &self,
        destination: Destination,
        since: Time,
        head: Option<u32>,
        counts: impl Fn(NetnsId) -> bool,
    ) -> bool {
        self.newer(destination, since)
            .any(|pass| pass.after > since && pass.carries(head) && counts(pass.netns))
    }

    /// Destinations to which a segment as large as `head` got through later than `since`.
    pub fn carried_to(&self, since: Time, head: Option<u32>) -> impl Iterator<Item = Destination> {
        let destinations = self.all.keys().copied();
        destinations.filter(move |destination| self.carried(*destination, since, head))
    }

    /// The largest segment that surely got through later than `since`, bytes.
    pub fn largest(&self, since: Time) -> Option<u32> {
        let newer = self.all.keys().flat_map(|it| self.newer(*it, since));
        newer.map(|pass| pass.at_least).max()
    }

    /// Whether nothing got through lately.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Passes later than `since`, newest first.
    fn newer(&self, destination: Destination, since: Time) -> impl Iterator<Item = &Pass> {
        let passes = self.all.get(&destination).map_or(&[][..], Vec::as_slice);
        passes.iter().rev().take_while(move |pass| pass.at > since)
    }

    /// Everything, in a form in which one question costs little.
    pub fn reach(&mut self) -> &Reach {
        self.reach
            .get_or_insert_with(|| Reach::of(self.all.values()))
    }
}

/// What got through an upstream after any moment.
#[derive(Debug, Clone)]
pub struct Reach {
    /// By when the last of it got through: none of it was larger.
    small: Suffixes,
    /// By when the first of it can have got through: some of it was as large.
    large: Suffixes,
}

/// The extremes from any moment on.
#[derive(Debug, Clone)]
struct Suffixes {
    /// Oldest first.
    times: Vec<Time>,
    /// The extremes from each of these moments on.
    suffixes: Vec<Extremes>,
}

impl Suffixes {
    fn of(mut passes: Vec<(Time, &Pass)>) -> Self {
        passes.sort_unstable_by_key(|(at, _)| *at);
        let mut suffixes = Vec::with_capacity(passes.len());
        let mut so_far = Extremes::default();
        for (_, pass) in passes.iter().rev() {
            so_far.take(pass);
            suffixes.push(so_far);
        }
        suffixes.reverse();
        let times = passes.into_iter().map(|(at, _)| at).collect();
        Self { times, suffixes }
    }

    fn later_than(&self, since: Time) -> Extremes {
        let from = self.times.partition_point(|at| *at <= since);
        self.suffixes.get(from).copied().unwrap_or_default()
    }
}

/// The sizes that say most.
#[derive(Debug, Clone, Copy, Default)]
struct Extremes {
    /// The largest that surely got through.
    largest: u32,
    /// The two destinations to which the smallest got through.
    smallest: Two<std::cmp::Reverse<u32>>,
    /// The two destinations with the largest means that are not certain.
    probable: Two<u32>,
}

impl Extremes {
    fn take(&mut self, pass: &Pass) {
        self.largest = self.largest.max(pass.at_least);
        self.smallest
            .add(pass.destination, std::cmp::Reverse(pass.hardly_above()));
        if pass.at_least < pass.at_most {
            self.probable.add(pass.destination, pass.at_least);
        }
    }
}

/// The best of two different destinations.
#[derive(Debug, Clone, Copy)]
struct Two<T> {
    best: Option<(T, Destination)>,
    second: Option<(T, Destination)>,
}

impl<T> Default for Two<T> {
    fn default() -> Self {
        Self {
            best: None,
            second: None,
        }
    }
}

impl<T: Ord + Copy> Two<T> {
    fn add(&mut self, destination: Destination, value: T) {
        let beats = |place: Option<(T, Destination)>| place.is_none_or(|(held, _)| value > held);
        let is_best = self.best.is_some_and(|(_, holder)| holder == destination);
        if beats(self.best) {
            if !is_best {
                self.second = self.best;
            }
            self.best = Some((value, destination));
        } else if !is_best && beats(self.second) {
            self.second = Some((value, destination));
        }
    }

    fn values(self) -> impl Iterator<Item = T> {
        [self.best, self.second]
            .into_iter()
            .flatten()
            .map(|(value, _)| value)
    }
}

impl Reach {
    /// Of each destination only those count that no newer one makes superfluous: a handful.
    fn of<'a>(destinations: impl ExactSizeIterator<Item = &'a Vec<Pass>>) -> Self {
        let few = 4 * destinations.len();
        let (mut small, mut large) = (Vec::with_capacity(few), Vec::with_capacity(few));
        for passes in destinations {
            let mut smallest = u32::MAX;
            for (place, pass) in passes.iter().enumerate().rev() {
                if pass.hardly_above() < smallest {
                    smallest = pass.hardly_above();
                    small.push((pass.at, pass));
                }
                let mut newer = passes[place + 1..].iter().rev();
                if !newer.any(|other| other.says_more_than(pass)) {
                    large.push((pass.after, pass));
                }
            }
        }
        Self {
            small: Suffixes::of(small),
            large: Suffixes::of(large),
        }
    }

    /// What got through since a segment of `head` bytes began to wait.
    ///
    /// In order:
    /// 1. a segment as large surely did
    /// 2. smaller ones surely did, to two destinations: those count
    /// 3. to two destinations the mean was above half of it: probably as large
    pub fn since(&self, since: Time, head: u32) -> Passed {
        let small = self.small.later_than(since);
        let large = self.large.later_than(since);
        let smaller = small.smallest.values().filter(|it| it.0 < head).count();
        let probable = |mean: &u32| u64::from(*mean) * 2 > u64::from(head);
        let sure = u64::from(large.largest) * 10 >= u64::from(head) * 9;
        let as_large =
            sure || (smaller < 2 && large.probable.values().filter(probable).count() >= 2);
        Passed { smaller, as_large }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::tests::{
        samples,
        world::{NETNS, destination},
    };

    const AT: Time = Time(500_000_000_000);

    fn pass(number: u16, at_least: u32, at_most: u32) -> Pass {
        Pass {
            at: AT,
            after: AT,
            destination: destination(number),
            netns: NETNS,
            at_least,
            at_most,
        }
    }

    fn counted(
        bytes_acked: u64,
        segments_out: u32,
        retransmissions: u32,
        packets_out: u32,
    ) -> Sample {
        Sample {
            bytes_acked,
            segments_out,
            retransmissions,
            packets_out,
            ..samples::any()
        }
    }

    #[test]
    fn what_two_samples_prove() {
        let between = |earlier: Option<&Sample>, later: &Sample| {
            Pass::between(earlier, later, destination(1)).map(|it| (it.at_least, it.at_most))
        };
        let before = counted(1001, 10, 2, 1);
        for (name, later, then) in [
            ("nothing acknowledged", counted(1001, 12, 4, 1), None),
            (
                "the one in flight",
                counted(1101, 10, 2, 0),
                Some((100, 100)),
            ),
            ("it and another", counted(1301, 11, 2, 0), Some((150, 299))),
            (
                "repeats are not further segments",
                counted(1101, 13, 5, 0),
                Some((100, 100)),
            ),
            (
                "who is in flight now proves nothing",
                counted(1101, 15, 2, 5),
                Some((100, 100)),
            ),
            (
                "at most a full segment",
                counted(21_001, 25, 2, 0),
                Some((1250, 1448)),
            ),
            (
                "more than can be",
                counted(1_000_001, 11, 2, 0),
                Some((1448, 1448)),
            ),
        ] {
            assert_eq!(between(Some(&before), &later), then, "{name}");
        }
        assert_eq!(between(None, &counted(1, 0, 0, 0)), None, "SYN is not data");
        assert_eq!(between(None, &counted(101, 1, 0, 0)), Some((100, 100)));
        assert_eq!(between(None, &counted(0, 0, 0, 0)), None);
    }

    #[test]
    fn counters_of_the_kernel_wrap() {
        let before = counted(1001, u32::MAX - 1, u32::MAX, 0);
        let later = counted(1301, 2, 0, 0);
        let pass = Pass::between(Some(&before), &later, destination(1)).unwrap();
        assert_eq!(
            (pass.at_least, pass.at_most),
            (100, 298),
            "four sent, one of them a repeat"
        );
    }

    #[test]
    fn a_pass_carries_what_is_at_most_a_tenth_larger() {
        assert!(pass(1, 900, 1448).carries(Some(1000)));
        assert!(!pass(1, 899, 1448).carries(Some(1000)));
        assert!(pass(1, 1, 1).carries(None), "of unknown size");
    }

    #[test]
    fn what_got_through_since() {
        let since = |passes: &[Pass]| {
            let mut all = Passes::default();
            passes.iter().for_each(|pass| all.add(*pass));
            let passed = all.reach().since(AT.before(Duration::from_secs(1)), 1000);
            (passed.smaller, passed.as_large)
        };
        assert_eq!(since(&[]), (0, false));
        assert_eq!(
            since(&[pass(1, 50, 100), pass(1, 50, 100)]),
            (1, false),
            "by destination"
        );
        assert_eq!(since(&[pass(1, 50, 999), pass(2, 50, 999)]), (2, false));
        assert_eq!(
            since(&[pass(1, 250, 1000), pass(2, 1, 1000)]),
            (0, false),
            "it may have been as large"
        );
        assert_eq!(
            since(&[pass(1, 249, 1000), pass(2, 249, 1000)]),
            (2, false),
            "hardly as large"
        );
        assert_eq!(since(&[pass(1, 50, 100), pass(2, 1000, 1448)]), (1, true));
        let probable = [pass(1, 501, 1448), pass(2, 501, 1448)];
        assert_eq!(since(&probable), (0, true), "probably as large");
        assert_eq!(since(&probable[..1]), (0, false), "to one destination only");
        let twice = [pass(1, 501, 1448), pass(1, 502, 1448)];
        assert_eq!(since(&twice), (0, false), "the same destination twice");
        let less = [pass(1, 500, 1448), pass(2, 501, 1448)];
        assert_eq!(since(&less), (0, false), "half of it is not more than half");
        let surely_smaller = [pass(1, 50, 100), pass(2, 50, 100), probable[0], probable[1]];
        assert_eq!(since(&surely_smaller), (2, false), "what is sure counts");
        let early = Pass {
            after: AT.before(Duration::from_secs(2)),
            ..pass(1, 1000, 1448)
        };
        assert_eq!(since(&[early]), (0, false), "perhaps at first");
        let mut all = Passes::default();
        all.add(pass(1, 50, 100));
        assert_eq!(all.reach().since(AT, 1000), Passed::default(), "not later");
    }

    #[test]
    fn memory_ends() {
        let mut all = Passes::default();
        for seconds in [3, 1, 2] {
            all.add(Pass {
                at: Time(seconds * 1_000_000_000),
                ..pass(seconds as u16, 1, 1)
            });
        }
        assert_eq!(all.heard_after(Time(1_000_000_000)).count(), 2);
        all.forget(Time(2_000_000_000).after(MEMORY));
        assert_eq!(all.heard_after(Time(0)).count(), 2);
        all.forget(Time(4_000_000_000).after(MEMORY));
        assert_eq!(all.heard_after(Time(0)).count(), 0);
        for _ in 0..3 * CAPACITY {
            all.add(pass(1, 1, 1));
        }
        assert_eq!(all.all[&destination(1)].len(), CAPACITY);
    }

    #[test]
    fn what_was_carried_later() {
        let mut all = Passes::default();
        all.add(pass(1, 1000, 1448));
        let earlier = AT.before(Duration::from_nanos(1));
        assert!(all.carried(destination(1), earlier, Some(1000)));
        assert!(!all.carried(destination(1), AT, Some(1000)), "not later");
        assert!(
            !all.carried(destination(1), earlier, Some(1448)),
            "too small"
        );
        assert!(
            !all.carried(destination(2), earlier, Some(1000)),
            "elsewhere"
        );
    }

    proptest! {
        /// The largest segment that was acknowledged lies within the bounds, whatever was in
        /// flight before, is in flight now, or was sent more than once.
        #[test]
        fn bounds_bind(
            sizes in prop::collection::vec(1_u32..=1448, 1..60),
            cuts in any::<[prop::sample::Index; 4]>(),
            repeats in (0_u32..9, 0_u32..9),
        ) {
            // acknowledged before ≤ sent before, acknowledged later ≤ sent later
            let mut cuts = cuts.map(|cut| cut.index(sizes.len() + 1));
            cuts.sort_unstable();
            let [acked, b, c, sent_later] = cuts;
            for (sent, acked_later) in [(b, c), (c, b)] {
                let bytes = |upto: usize| sizes[..upto].iter().map(|size| u64::from(*size)).sum::<u64>();
                let count = |from: usize, to: usize| (to - from) as u32;
                let earlier = counted(1 + bytes(acked), sent as u32 + repeats.0, repeats.0, count(acked, sent));
                let later = counted(
                    1 + bytes(acked_later),
                    sent_later as u32 + repeats.0 + repeats.1,
                    repeats.0 + repeats.1,
                    count(acked_later, sent_later),
                );
                let largest = |from: usize| sizes[from..acked_later].iter().max().copied();
                for (earlier, from) in [(Some(&earlier), acked), (None, 0)] {
                    let pass = Pass::between(earlier, &later, destination(1));
                    prop_assert_eq!(pass.is_some(), largest(from).is_some());
                    if let (Some(pass), Some(largest)) = (pass, largest(from)) {
                        prop_assert!(pass.at_least <= largest && largest <= pass.at_most);
                    }
                }
            }
        }

        #[test]
        fn any_counters_give_bounds_in_order(
            a in any::<(u64, u32, u32, u32)>(),
            b in any::<(u64, u32, u32, u32)>(),
            mss in any::<u32>(),
        ) {
            let earlier = counted(a.0, a.1, a.2, a.3);
            let later = Sample { mss, ..counted(b.0, b.1, b.2, b.3) };
            for earlier in [None, Some(&earlier)] {
                if let Some(pass) = Pass::between(earlier, &later, destination(1)) {
                    prop_assert!(pass.at_least <= pass.at_most && pass.at_most <= mss);
                }
            }
        }
    }
}

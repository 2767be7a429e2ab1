//! PURE. Which sizes of segments got through lately.
//!
//! The kernel does not say how large an acknowledged segment was. Between two samples of a
//! connection it says how many bytes and how many segments were sent, which bounds the largest:
//! at least the mean, at most all bytes but one in each of the others.

use std::{collections::BTreeSet, time::Duration};

use super::classify::Passed;
use crate::{
    model::{Destination, Sample},
    time::Time,
};

/// How long a pass is remembered.
pub const MEMORY: Duration = Duration::from_secs(60);
/// How many passes an upstream remembers.
const CAPACITY: usize = 4096;

/// Data was acknowledged: proof that segments of some size got through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    /// When the acknowledgement came.
    pub at: Time,
    /// Where it came from.
    pub destination: Destination,
    /// The largest segment had at least this many bytes.
    pub at_least: u32,
    /// The largest segment had at most this many bytes.
    pub at_most: u32,
}

impl Pass {
    /// What the difference between two samples of a connection proves; without an `earlier` one,
    /// what its whole life until now proves. `None` when nothing was acknowledged.
    pub fn between(earlier: Option<&Sample>, later: &Sample, destination: Destination) -> Option<Self> {
        let acked_before = earlier.map_or(0, |sample| sample.bytes_acked);
        let bytes = later.bytes_acked.saturating_sub(acked_before);
        // The byte that stands for SYN is counted as acknowledged.
        let bytes = if earlier.is_none() { bytes.saturating_sub(1) } else { bytes };
        if bytes == 0 {
            return None;
        }
        let sent_before = earlier.map_or(0, |sample| sample.segments_out);
        let repeated = earlier.map_or(0, |sample| sample.retransmissions);
        let in_flight_before = earlier.map_or(0, |sample| sample.packets_out);
        let sent = later.segments_out.wrapping_sub(sent_before).wrapping_add(in_flight_before);
        let repeated = later.retransmissions.wrapping_sub(repeated);
        let segments = sent.saturating_sub(repeated).saturating_sub(later.packets_out).max(1);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let largest = bytes.saturating_sub(segments - 1).max(1);
        Some(Self {
            at: later.acked_at,
            destination,
            at_least: bytes.div_ceil(segments).min(later.mss),
            at_most: largest.min(later.mss),
        })
    }

    /// Whether a segment as large as `head` surely, or nearly so, got through.
    pub fn carries(&self, head: Option<u32>) -> bool {
        head.is_none_or(|head| u64::from(self.at_least) * 20 >= u64::from(head) * 19)
    }
}

/// The passes of one upstream, oldest first.
#[derive(Debug, Clone, Default)]
pub struct Passes(Vec<Pass>);

impl Passes {
    /// Remembers one.
    pub fn add(&mut self, pass: Pass) {
        let place = self.0.partition_point(|other| other.at <= pass.at);
        self.0.insert(place, pass);
        if self.0.len() > CAPACITY {
            self.0.drain(..CAPACITY / 4);
        }
    }

    /// Forgets what is too old.
    pub fn forget(&mut self, now: Time) {
        let horizon = now.before(MEMORY);
        let old = self.0.partition_point(|pass| pass.at < horizon);
        self.0.drain(..old);
    }

    /// All later than `since`.
    pub fn after(&self, since: Time) -> &[Pass] {
        let from = self.0.partition_point(|pass| pass.at <= since);
        &self.0[from..]
    }

    /// What got through since a segment of `head` bytes began to wait.
    pub fn since(&self, since: Time, head: Option<u32>) -> Passed {
        let Some(head) = head else { return Passed::default() };
        let mut smaller = BTreeSet::new();
        let mut doubtful = BTreeSet::new();
        for pass in self.after(since) {
            if pass.carries(Some(head)) {
                return Passed { smaller: smaller.len(), as_large: true };
            }
            if pass.at_most < head {
                smaller.insert(pass.destination);
            } else if u64::from(pass.at_least) * 2 > u64::from(head) {
                doubtful.insert(pass.destination);
            }
        }
        Passed { smaller: smaller.len(), as_large: doubtful.len() > smaller.len() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::tests::{samples, world::destination};

    const AT: Time = Time(500_000_000_000);

    fn pass(number: u16, at_least: u32, at_most: u32) -> Pass {
        Pass { at: AT, destination: destination(number), at_least, at_most }
    }

    fn counted(bytes_acked: u64, segments_out: u32, retransmissions: u32, packets_out: u32) -> Sample {
        Sample { bytes_acked, segments_out, retransmissions, packets_out, ..samples::any() }
    }

    #[test]
    fn what_two_samples_prove() {
        let between = |earlier: Option<&Sample>, later: &Sample| {
            Pass::between(earlier, later, destination(1)).map(|it| (it.at_least, it.at_most))
        };
        let before = counted(1001, 10, 2, 1);
        for (name, later, then) in [
            ("nothing acknowledged", counted(1001, 12, 4, 1), None),
            ("the one in flight", counted(1101, 10, 2, 0), Some((100, 100))),
            ("it and another", counted(1301, 11, 2, 0), Some((150, 299))),
            ("repeats are not further segments", counted(1101, 13, 5, 0), Some((100, 100))),
            ("who is in flight now proves nothing", counted(1101, 15, 2, 5), Some((100, 100))),
            ("at most a full segment", counted(21_001, 25, 2, 0), Some((1250, 1448))),
            ("more than can be", counted(1_000_001, 11, 2, 0), Some((1448, 1448))),
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
        assert_eq!((pass.at_least, pass.at_most), (100, 298), "four sent, one of them a repeat");
    }

    #[test]
    fn a_pass_carries_what_is_at_most_a_twentieth_larger() {
        assert!(pass(1, 950, 1448).carries(Some(1000)));
        assert!(!pass(1, 949, 1448).carries(Some(1000)));
        assert!(pass(1, 1, 1).carries(None), "of unknown size");
    }

    #[test]
    fn what_got_through_since() {
        let since = |passes: &[Pass]| {
            let mut all = Passes::default();
            passes.iter().for_each(|pass| all.add(*pass));
            let passed = all.since(AT.before(Duration::from_secs(1)), Some(1000));
            (passed.smaller, passed.as_large)
        };
        assert_eq!(since(&[]), (0, false));
        assert_eq!(since(&[pass(1, 50, 100), pass(1, 50, 100)]), (1, false), "by destination");
        assert_eq!(since(&[pass(1, 50, 999), pass(2, 50, 999)]), (2, false));
        assert_eq!(since(&[pass(1, 50, 1000)]), (0, false), "it may have been as large");
        assert_eq!(since(&[pass(1, 50, 100), pass(2, 1000, 1448)]), (1, true));
        assert_eq!(since(&[pass(1, 501, 1448)]), (0, true), "probably as large");
        assert_eq!(since(&[pass(1, 500, 1448)]), (0, false), "probably not");
        assert_eq!(since(&[pass(1, 50, 100), pass(2, 600, 1448)]), (1, false), "as many each way");
        let mut all = Passes::default();
        all.add(pass(1, 50, 100));
        assert_eq!(all.since(AT, Some(1000)), Passed::default(), "not later");
        assert_eq!(all.since(Time(0), None), Passed::default(), "unknown head");
    }

    #[test]
    fn memory_ends() {
        let mut all = Passes::default();
        for seconds in [3, 1, 2] {
            all.add(Pass { at: Time(seconds * 1_000_000_000), ..pass(1, 1, 1) });
        }
        assert!(all.after(Time(0)).is_sorted_by_key(|pass| pass.at));
        all.forget(Time(2_000_000_000).after(MEMORY));
        assert_eq!(all.after(Time(0)).len(), 2);
        for _ in 0..3 * CAPACITY {
            all.add(pass(1, 1, 1));
        }
        assert!(all.after(Time(0)).len() <= CAPACITY);
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

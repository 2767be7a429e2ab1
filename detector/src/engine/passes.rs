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

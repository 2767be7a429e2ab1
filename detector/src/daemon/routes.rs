//! Which connections in trouble to look up the routes of, after a sweep.
//!
//! The kernel drops the cached route of a connection that hangs. A daemon that starts among thousands of
//! those has to ask for each; where there is no route at all, asking again and again is in vain.

use std::time::Duration;

use crate::{
    model::{ConnectionId, Sample},
    time::Time,
};

/// How many at once, while there are answers.
const MANY: usize = 2048;
/// And while there are none.
const FEW: usize = 64;
/// How long it may take, after one sweep.
const LIMIT: Duration = Duration::from_millis(200);

/// Takes turns.
#[derive(Debug)]
pub(super) struct Lookups {
    /// The last that was asked for.
    after: Option<ConnectionId>,
    /// How many come next.
    count: usize,
    /// How many of this round have been found.
    found: usize,
}

impl Default for Lookups {
    fn default() -> Self {
        Self {
            after: None,
            count: MANY,
            found: 0,
        }
    }
}

impl Lookups {
    /// Those whose turn it is, of `all` that have none, in the order of their numbers; and until when.
    pub(super) fn begin<'a>(
        &self,
        all: impl Iterator<Item = &'a Sample>,
        now: Time,
    ) -> (Vec<Sample>, Time) {
        let mut all: Vec<_> = all.collect();
        let turn = all.partition_point(|it| Some(it.id) <= self.after);
        all.rotate_left(turn);
        let next = all.into_iter().take(self.count).cloned().collect();
        (next, now.after(LIMIT))
    }

    /// One was asked for.
    pub(super) fn asked(&mut self, id: ConnectionId, found: bool) {
        self.after = Some(id);
        self.found += usize::from(found);
    }

    /// The round is over: the next is as large as this one was of use.
    pub(super) fn end(&mut self) {
        self.count = (2 * std::mem::take(&mut self.found)).clamp(FEW, MANY);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::engine::tests::samples;

    fn lost(count: u64) -> Vec<Sample> {
        let one = |number| Sample {
            id: ConnectionId(number),
            ..samples::any()
        };
        (0..count).map(one).collect()
    }

    /// One round; of those that it asks for, the first `found` are found.
    fn round(lookups: &mut Lookups, all: &[Sample], found: usize) -> Vec<u64> {
        let (next, _) = lookups.begin(all.iter(), Time(0));
        for (place, sample) in next.iter().enumerate() {
            lookups.asked(sample.id, place < found);
        }
        lookups.end();
        next.iter().map(|it| it.id.0).collect()
    }

    #[test]
    fn thousands_are_asked_for_in_a_few_sweeps() {
        let all = lost(5000);
        let mut lookups = Lookups::default();
        let rounds = (0..3).flat_map(|_| round(&mut lookups, &all, MANY));
        let asked: BTreeSet<_> = rounds.collect();
        assert_eq!(asked.len(), 5000);
    }

    #[test]
    fn those_without_an_answer_are_asked_for_seldom_and_keep_no_turn_from_others() {
        let all = lost(150);
        let mut lookups = Lookups::default();
        assert_eq!(round(&mut lookups, &all, 0).len(), 150);
        assert!(round(&mut lookups, &all, 0).into_iter().eq(0..64));
        assert!(round(&mut lookups, &all, 1).into_iter().eq(64..128));
        let next = round(&mut lookups, &all, 0);
        assert!(next.into_iter().eq((128..150).chain(0..42)));
        assert_eq!(round(&mut lookups, &[], 0), [0_u64; 0]);
    }

    #[test]
    fn a_round_that_was_of_use_is_followed_by_a_larger_one() {
        let all = lost(5000);
        let mut lookups = Lookups::default();
        round(&mut lookups, &all, 0);
        for size in [64, 128, 256, 512, 1024, 2048, 2048] {
            assert_eq!(round(&mut lookups, &all, MANY).len(), size);
        }
    }

    #[test]
    fn those_that_time_did_not_suffice_for_come_next() {
        let all = lost(10);
        let mut lookups = Lookups::default();
        lookups.asked(ConnectionId(3), true);
        lookups.end();
        assert_eq!(round(&mut lookups, &all, 0)[0], 4);
    }
}

//! Which connections in trouble to look up the routes of, after a sweep.
//!
//! The kernel drops the cached route of a connection that hangs. A daemon that starts among thousands of
//! those has to ask for each; where there is no route at all, asking again and again is in vain.

use crate::model::{ConnectionId, Sample};

/// How many at once, while there are answers.
const MANY: usize = 2048;
/// And while there are none.
const FEW: usize = 64;

/// Takes turns.
#[derive(Debug)]
pub(super) struct Lookups {
    /// The last that was asked for.
    after: Option<ConnectionId>,
    /// How many come next.
    count: usize,
}

impl Default for Lookups {
    fn default() -> Self {
        Self {
            after: None,
            count: MANY,
        }
    }
}

impl Lookups {
    /// Those whose turn it is, of `all` that have none, in the order of their numbers.
    pub(super) fn next<'a>(&mut self, all: impl Iterator<Item = &'a Sample>) -> Vec<Sample> {
        let mut all: Vec<_> = all.collect();
        let turn = all.partition_point(|it| Some(it.id) <= self.after);
        all.rotate_left(turn);
        let next: Vec<_> = all.into_iter().take(self.count).cloned().collect();
        self.after = next.last().map(|it| it.id);
        next
    }

    /// How many of them have been found.
    pub(super) fn found(&mut self, count: usize) {
        self.count = if count == 0 { FEW } else { MANY };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::samples;

    fn lost(count: u64) -> Vec<Sample> {
        let one = |number| Sample {
            id: ConnectionId(number),
            ..samples::any()
        };
        (0..count).map(one).collect()
    }

    fn numbers(samples: &[Sample]) -> Vec<u64> {
        samples.iter().map(|it| it.id.0).collect()
    }

    #[test]
    fn thousands_are_asked_for_in_a_few_sweeps() {
        let all = lost(5000);
        let mut lookups = Lookups::default();
        let mut asked = Vec::new();
        for _ in 0..3 {
            asked.extend(numbers(&lookups.next(all.iter())));
            lookups.found(1);
        }
        asked.sort_unstable();
        asked.dedup();
        assert_eq!(asked.len(), 5000);
    }

    #[test]
    fn those_without_an_answer_are_asked_for_seldom_and_keep_no_turn_from_others() {
        let all = lost(150);
        let mut lookups = Lookups::default();
        assert_eq!(lookups.next(all.iter()).len(), 150);
        lookups.found(0);
        assert_eq!(
            numbers(&lookups.next(all.iter())),
            (0..64).collect::<Vec<_>>()
        );
        lookups.found(0);
        assert_eq!(
            numbers(&lookups.next(all.iter())),
            (64..128).collect::<Vec<_>>()
        );
        lookups.found(0);
        let round = (128..150).chain(0..42).collect::<Vec<_>>();
        assert_eq!(numbers(&lookups.next(all.iter())), round);
    }

    #[test]
    fn who_has_found_one_asks_for_many_again() {
        let all = lost(150);
        let mut lookups = Lookups::default();
        lookups.next(all.iter());
        lookups.found(0);
        lookups.next(all.iter());
        lookups.found(1);
        assert_eq!(lookups.next(all.iter()).len(), 150);
        assert_eq!(lookups.next([].iter()), []);
    }
}

//! What processes with connections in trouble have left: their descriptors, counted again and again.
//!
//! **Invariant:** a bounded number of processes, and of looks at each.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use detector_ebpf::MAX_PROCESSES;

use super::pace;
use crate::{
    forecast::{LEAST, runs_out},
    sense::descriptors::Walked,
    serve::Descriptors,
    time::Time,
};

/// The past that a forecast rests on.
const PAST: Duration = Duration::from_secs(60);
/// A process without connections in trouble is forgotten after this.
const PATIENCE: Duration = Duration::from_secs(10);
/// Looks that are kept of it.
const LOOKS: usize = 64;

/// What is known of processes.
#[derive(Debug, Default)]
pub(super) struct Stakes {
    known: BTreeMap<u32, Known>,
    looked_at: Option<Time>,
    cost: Duration,
}

#[derive(Debug, Default)]
struct Known {
    limit: Option<u32>,
    looks: VecDeque<(Time, u32)>,
}

impl Stakes {
    /// Processes whose descriptors are to be counted now; forgets the others.
    pub(super) fn wanted(
        &mut self,
        holders: BTreeSet<u32>,
        now: Time,
        budget: f64,
    ) -> BTreeSet<u32> {
        self.known.retain(|pid, known| {
            let lately = known
                .looks
                .back()
                .is_some_and(|it| now.since(it.0) < PATIENCE);
            holders.contains(pid) || lately
        });
        let interval = pace::count_interval(self.cost, budget);
        let due = self.looked_at.is_none_or(|at| now.since(at) >= interval);
        if !due || holders.is_empty() {
            return BTreeSet::new();
        }
        self.looked_at = Some(now);
        holders.into_iter().take(MAX_PROCESSES as usize).collect()
    }

    /// Takes in how many each process had open at `now`.
    pub(super) fn take(&mut self, open: &BTreeMap<u32, u32>, walked: &Walked, now: Time) {
        self.cost = walked.cost;
        // A process that has none is gone.
        self.known.retain(|pid, _| open.contains_key(pid));
        for (pid, open) in open {
            let known = self.known.entry(*pid).or_default();
            known.limit = walked.limits.get(pid).copied();
            known.looks.push_back((now, *open));
            // On large hosts looks are far apart: some are kept, however old.
            let too_old = |known: &Known| {
                let first = known.looks.front();
                known.looks.len() > LEAST + 2 && first.is_some_and(|it| now.since(it.0) > PAST)
            };
            while known.looks.len() > LOOKS || too_old(known) {
                known.looks.pop_front();
            }
        }
    }

    /// What is known of the descriptors of a process, as of `now`.
    pub(super) fn of(&mut self, pid: u32, now: Time) -> Option<Descriptors> {
        let known = self.known.get_mut(&pid)?;
        let looks = known.looks.make_contiguous();
        let (at, open) = *looks.last()?;
        if now.since(at) > PAST {
            // Nobody can count any more.
            return None;
        }
        let left = known.limit.and_then(|limit| runs_out(looks, limit));
        Some(Descriptors {
            open,
            limit: known.limit,
            run_out: left.map(|it| it.saturating_sub(now.since(at))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PID: u32 = 4711;

    fn at(seconds: u64) -> Time {
        Time::default().after(Duration::from_secs(1000 + seconds))
    }

    fn take(stakes: &mut Stakes, open: u32, now: Time) {
        let walked = Walked {
            pids: BTreeSet::from([PID]),
            cost: Duration::from_millis(1),
            limits: BTreeMap::from([(PID, 1000)]),
        };
        stakes.take(&BTreeMap::from([(PID, open)]), &walked, now);
    }

    #[test]
    fn a_leak_is_foretold_and_the_forecast_ages() {
        let mut stakes = Stakes::default();
        for second in 0..10 {
            take(&mut stakes, 100 + second * 5, at(second.into()));
        }
        let run_out = |stakes: &mut Stakes, now| stakes.of(PID, now).and_then(|it| it.run_out);
        // 145 are open, five more a second.
        assert_eq!(run_out(&mut stakes, at(9)), Some(Duration::from_secs(171)));
        assert_eq!(run_out(&mut stakes, at(19)), Some(Duration::from_secs(161)));
        assert_eq!(
            run_out(&mut stakes, at(999)),
            None,
            "nobody has counted since"
        );
    }

    #[test]
    fn what_is_long_past_does_not_count() {
        let mut stakes = Stakes::default();
        for second in 0..30 {
            take(&mut stakes, 100 + second * 10, at(second.into()));
        }
        // It has stopped to grow.
        for second in 30..200 {
            take(&mut stakes, 400, at(second));
        }
        let known = stakes.of(PID, at(200)).expect("known");
        assert_eq!((known.open, known.run_out), (400, None));
    }

    #[test]
    fn counting_keeps_to_its_share_and_forgets_who_is_well() {
        let mut stakes = Stakes::default();
        let holders = || BTreeSet::from([PID]);
        assert_eq!(stakes.wanted(holders(), at(0), 0.01), holders());
        take(&mut stakes, 100, at(0));
        assert!(stakes.wanted(holders(), at(1), 0.01).is_empty(), "too soon");
        assert_eq!(stakes.wanted(holders(), at(2), 0.01), holders());
        stakes.cost = Duration::from_millis(50);
        assert!(stakes.wanted(holders(), at(6), 0.01).is_empty(), "too dear");
        assert!(stakes.wanted(BTreeSet::new(), at(60), 0.01).is_empty());
        assert_eq!(stakes.of(PID, at(60)), None);
    }

    #[test]
    fn a_process_that_is_gone_does_not_run_out_for_ever() {
        let mut stakes = Stakes::default();
        for second in 0..10 {
            take(&mut stakes, 100 + second * 20, at(second.into()));
        }
        assert!(
            stakes
                .of(PID, at(10))
                .is_some_and(|it| it.run_out.is_some())
        );
        stakes.take(&BTreeMap::new(), &Walked::default(), at(10));
        assert_eq!(stakes.of(PID, at(10)), None);
    }
}

//! What processes with connections in trouble have left: their descriptors and their memory, looked at again
//! and again.
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
    sense::{descriptors::Walked, memory::Use},
    serve,
    time::Time,
};

/// The past that a forecast rests on.
const PAST: Duration = Duration::from_secs(60);
/// A process without connections in trouble is forgotten after this.
const PATIENCE: Duration = Duration::from_secs(10);
/// Looks that are kept of it.
const LOOKS: usize = 64;

/// What is known of processes, control groups and the host.
#[derive(Debug, Default)]
pub(super) struct Stakes {
    descriptors: BTreeMap<u32, Series>,
    memory: BTreeMap<String, Series>,
    tcp: Series,
    looked_at: Option<Time>,
    cost: Duration,
}

/// How much of something was in use.
#[derive(Debug, Default)]
struct Series {
    limit: Option<u64>,
    looks: VecDeque<(Time, u64)>,
}

impl Series {
    fn take(&mut self, used: u64, limit: Option<u64>, now: Time) {
        self.limit = limit;
        self.looks.push_back((now, used));
        // On large hosts looks are far apart: some are kept, however old.
        let too_old = |looks: &VecDeque<(Time, u64)>| {
            let first = looks.front();
            looks.len() > LEAST + 2 && first.is_some_and(|it| now.since(it.0) > PAST)
        };
        while self.looks.len() > LOOKS || too_old(&self.looks) {
            self.looks.pop_front();
        }
    }

    fn is_fresh(&self, now: Time, patience: Duration) -> bool {
        let last = self.looks.back();
        last.is_some_and(|it| now.since(it.0) < patience)
    }

    /// As of `now`; `None` when nobody can look any more.
    fn supply(&mut self, now: Time) -> Option<serve::Supply> {
        let looks = self.looks.make_contiguous();
        let (at, used) = *looks.last()?;
        if now.since(at) > PAST {
            return None;
        }
        let left = self.limit.and_then(|limit| runs_out(looks, limit));
        Some(serve::Supply {
            used,
            limit: self.limit,
            run_out: left.map(|it| it.saturating_sub(now.since(at))),
        })
    }
}

impl Stakes {
    /// Processes whose descriptors are to be counted now; forgets the others.
    pub(super) fn wanted(
        &mut self,
        holders: BTreeSet<u32>,
        now: Time,
        budget: f64,
    ) -> BTreeSet<u32> {
        self.descriptors
            .retain(|pid, series| holders.contains(pid) || series.is_fresh(now, PATIENCE));
        self.memory.retain(|_, series| series.is_fresh(now, PAST));
        if holders.is_empty() && !self.tcp.is_fresh(now, PATIENCE) {
            self.tcp = Series::default();
        }
        let interval = pace::count_interval(self.cost, budget);
        let due = self.looked_at.is_none_or(|at| now.since(at) >= interval);
        if !due || holders.is_empty() {
            return BTreeSet::new();
        }
        self.looked_at = Some(now);
        holders.into_iter().take(MAX_PROCESSES as usize).collect()
    }

    /// Takes in how many each process had open at `now`, and how much memory was in use.
    pub(super) fn take(&mut self, open: &BTreeMap<u32, u32>, walked: &Walked, now: Time) {
        self.cost = walked.cost;
        // A process that has none is gone.
        self.descriptors.retain(|pid, _| open.contains_key(pid));
        for (pid, open) in open {
            let limit = walked.limits.get(pid).copied().map(u64::from);
            let series = self.descriptors.entry(*pid).or_default();
            series.take(u64::from(*open), limit, now);
        }
        for (group, Use { used, limit }) in &walked.groups {
            let series = self.memory.entry(group.clone()).or_default();
            series.take(*used, Some(*limit), now);
        }
        if let Some(Use { used, limit }) = walked.tcp {
            self.tcp.take(used, Some(limit), now);
        }
    }

    /// All that is known, as of `now`.
    pub(super) fn known(&mut self, now: Time) -> serve::Stakes {
        let descriptors = self.descriptors.iter_mut();
        let memory = self.memory.iter_mut();
        serve::Stakes {
            descriptors: descriptors
                .filter_map(|(pid, it)| Some((*pid, it.supply(now)?)))
                .collect(),
            memory: memory
                .filter_map(|(group, it)| Some((group.clone(), it.supply(now)?)))
                .collect(),
            tcp: self.tcp.supply(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PID: u32 = 4711;
    const UNIT: &str = "/system.slice/postfix.service";

    fn memory(used: u32, limit: u32) -> Use {
        Use {
            used: used.into(),
            limit: limit.into(),
        }
    }

    fn of(stakes: &mut Stakes, now: Time) -> Option<serve::Supply> {
        stakes.known(now).descriptors.get(&PID).copied()
    }

    fn at(seconds: u64) -> Time {
        Time::default().after(Duration::from_secs(1000 + seconds))
    }

    fn take(stakes: &mut Stakes, open: u32, now: Time) {
        let walked = Walked {
            pids: BTreeSet::from([PID]),
            cost: Duration::from_millis(1),
            limits: BTreeMap::from([(PID, 1000)]),
            groups: BTreeMap::from([(UNIT.to_owned(), memory(open * 1000, 1_000_000))]),
            tcp: Some(memory(5000, 6000)),
        };
        stakes.take(&BTreeMap::from([(PID, open)]), &walked, now);
    }

    #[test]
    fn a_leak_is_foretold_and_the_forecast_ages() {
        let mut stakes = Stakes::default();
        for second in 0..10 {
            take(&mut stakes, 100 + second * 5, at(second.into()));
        }
        let run_out = |stakes: &mut Stakes, now| of(stakes, now).and_then(|it| it.run_out);
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
    fn memory_of_a_unit_is_foretold_and_forgotten_and_steady_use_is_not_a_leak() {
        let mut stakes = Stakes::default();
        for second in 0..10 {
            take(&mut stakes, 100 + second * 5, at(second.into()));
        }
        let known = stakes.known(at(9));
        let unit = known.memory[UNIT];
        assert_eq!((unit.used, unit.limit), (145_000, Some(1_000_000)));
        assert_eq!(unit.run_out, Some(Duration::from_secs(171)));
        let tcp = known.tcp.expect("it is known");
        assert_eq!((tcp.used, tcp.limit, tcp.run_out), (5000, Some(6000), None));
        assert!(stakes.wanted(BTreeSet::new(), at(99), 0.01).is_empty());
        assert_eq!(stakes.known(at(99)), serve::Stakes::default());
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
        let known = of(&mut stakes, at(200)).expect("known");
        assert_eq!((known.used, known.run_out), (400, None));
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
        assert_eq!(of(&mut stakes, at(60)), None);
    }

    #[test]
    fn a_process_that_is_gone_does_not_run_out_for_ever() {
        let mut stakes = Stakes::default();
        for second in 0..10 {
            take(&mut stakes, 100 + second * 20, at(second.into()));
        }
        assert!(of(&mut stakes, at(10)).is_some_and(|it| it.run_out.is_some()));
        stakes.take(&BTreeMap::new(), &Walked::default(), at(10));
        assert_eq!(of(&mut stakes, at(10)), None);
    }
}

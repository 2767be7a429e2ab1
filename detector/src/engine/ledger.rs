//! PURE. How much of what was sent had to be sent again, per destination.
//!
//! Every transmission is a trial: it arrives or it does not. What counts is the share over many
//! trials of connections that make progress; one that makes none is a stall and judged as such.
//! Loss comes in bursts, so that the trials of one destination are worth a few hundred at most,
//! however many there were.

use std::{collections::BTreeMap, time::Duration};

use super::judge::at_least;
use crate::{
    model::{Cause, Destination, Sample},
    time::Time,
};

/// Length of one slot.
const SLOT: Duration = Duration::from_secs(3);
/// Slots that are remembered: a minute.
const SLOTS: u64 = 20;
/// Transmissions after which older ones are not needed any more.
const ENOUGH: u32 = 50;
/// Transmissions that one destination is worth at most.
const WORTH: u32 = 200;
/// The same where destinations are added up.
const SHARE: u32 = 60;
/// Repetitions below which nothing is said of a destination.
const FEWEST: u32 = 4;
/// A destination is called lossy wrongly at most this often.
const DOUBT: f64 = 0.01;
/// The same for all destinations together.
const DOUBT_OF_ALL: f64 = 1e-3;
/// Slots that tell what the weather is like now.
const LATELY: u64 = 5;
/// Repetitions that the peer reports as superfluous are usual up to this share: a step of the
/// round-trip time makes a few.
const SUPERFLUOUS: f64 = 0.15;
/// An episode with so many timeouts is a stall, not loss.
const STALL: u8 = 4;

/// Transmissions and what became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trials {
    /// Segments sent, repetitions included.
    pub sent: u32,
    /// Segments sent again.
    pub repeated: u32,
    /// Of these, the ones that the peer had already (RFC 2883).
    pub superfluous: u32,
}

impl Trials {
    /// Everything since a connection began.
    pub fn of(sample: &Sample) -> Self {
        Self {
            sent: sample.segments_out,
            repeated: sample.retransmissions,
            superfluous: sample.duplicates,
        }
    }

    /// What happened after `earlier`, when the connection has made progress since. `None` when that
    /// was the end of a stall: `timeouts` is how many there were in a row.
    pub fn since(self, earlier: Self, timeouts: u8) -> Option<Self> {
        let sent = self.sent.wrapping_sub(earlier.sent);
        let repeated = self.repeated.wrapping_sub(earlier.repeated);
        let superfluous = self.superfluous.wrapping_sub(earlier.superfluous);
        (timeouts < STALL && sent > 0).then(|| Self {
            sent,
            repeated: repeated.min(sent),
            superfluous: superfluous.min(repeated),
        })
    }

    /// Adds others.
    pub fn add(&mut self, other: Self) {
        self.sent = self.sent.saturating_add(other.sent);
        self.repeated = self.repeated.saturating_add(other.repeated);
        self.superfluous = self.superfluous.saturating_add(other.superfluous);
    }

    /// The same shares, of no more than so many transmissions.
    fn worth(self, most: u32) -> Self {
        if self.sent <= most {
            return self;
        }
        let scale = |part: u32| {
            let scaled = u64::from(part) * u64::from(most) / u64::from(self.sent);
            u32::try_from(scaled).unwrap_or(most)
        };
        Self {
            sent: most,
            repeated: scale(self.repeated),
            superfluous: scale(self.superfluous),
        }
    }

    /// Transmissions that did not arrive.
    fn lost(self) -> u32 {
        self.repeated.saturating_sub(self.superfluous)
    }

    /// Share of transmissions that did not arrive; `None` when too few were sent to tell.
    pub fn share(self) -> Option<f64> {
        (self.sent >= ENOUGH).then(|| f64::from(self.lost()) / f64::from(self.sent))
    }

    /// Why connections crawl, if they do.
    ///
    /// In order:
    /// 1. fewer than four repetitions: they do not
    /// 2. more was lost than `usual` explains: `loss`
    /// 3. more was repeated than a varying round-trip time explains, and of that the peer had a
    ///    quarter or more already: its acknowledgements are lost, `return-path`
    fn crawl(self, usual: f64, doubt: f64) -> Option<Cause> {
        if self.repeated < FEWEST {
            return None;
        }
        let returning = 4 * self.superfluous >= self.repeated;
        if !returning && at_least(self.lost(), self.sent, usual) < doubt {
            return Some(Cause::Loss);
        }
        let superfluous = usual.max(SUPERFLUOUS);
        (returning && at_least(self.repeated, self.sent, superfluous) < doubt)
            .then_some(Cause::ReturnPath)
    }
}

/// The trials of one upstream.
#[derive(Debug, Clone, Default)]
pub struct Ledger(BTreeMap<Destination, BTreeMap<u64, Trials>>);

impl Ledger {
    /// Notes what became of transmissions until `at`.
    pub fn add(&mut self, destination: Destination, at: Time, trials: Trials) {
        let slots = self.0.entry(destination).or_default();
        slots.entry(slot(at)).or_default().add(trials);
    }

    /// Forgets what is too old.
    pub fn forget(&mut self, now: Time) {
        let horizon = slot(now).saturating_sub(SLOTS);
        self.0.retain(|_, slots| {
            *slots = slots.split_off(&horizon);
            !slots.is_empty()
        });
    }

    /// Destinations to which connections crawl, when the share `usual` is lost anyway; and why.
    pub fn crawling(&self, usual: f64) -> impl Iterator<Item = (Destination, Cause)> {
        self.0.iter().filter_map(move |(destination, slots)| {
            let cause = newest(slots).worth(WORTH).crawl(usual, DOUBT)?;
            Some((*destination, cause))
        })
    }

    /// All destinations together, each with its share, in the last quarter of a minute.
    pub fn lately(&self, now: Time) -> Trials {
        let from = slot(now).saturating_sub(LATELY);
        let mut all = Trials::default();
        for slots in self.0.values() {
            let mut here = Trials::default();
            slots
                .range(from..)
                .for_each(|(_, trials)| here.add(*trials));
            all.add(here.worth(SHARE));
        }
        all
    }

    /// Why the upstream as a whole is slow, if it is: some gets through and much does not.
    pub fn weather(&self, usual: f64, now: Time) -> Option<Cause> {
        self.lately(now).crawl(usual, DOUBT_OF_ALL)
    }
}

/// The newest slots, as many as are needed to tell.
fn newest(slots: &BTreeMap<u64, Trials>) -> Trials {
    let mut trials = Trials::default();
    for older in slots.values().rev() {
        if trials.sent >= ENOUGH {
            break;
        }
        trials.add(*older);
    }
    trials
}

fn slot(at: Time) -> u64 {
    at.0 / u64::try_from(SLOT.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::{samples, world::destination};

    const NOW: Time = Time(600_000_000_000);
    const USUAL: f64 = 0.06;

    fn trials(sent: u32, repeated: u32, superfluous: u32) -> Trials {
        Trials {
            sent,
            repeated,
            superfluous,
        }
    }

    fn crawl(sent: u32, repeated: u32, superfluous: u32) -> Option<Cause> {
        trials(sent, repeated, superfluous).crawl(USUAL, DOUBT)
    }

    #[test]
    fn what_crawls_and_what_does_not() {
        assert_eq!(crawl(50, 10, 0), Some(Cause::Loss), "20 % lost");
        assert_eq!(crawl(50, 3, 0), None, "6 % lost");
        assert_eq!(crawl(10, 3, 0), None, "three are too few to tell");
        assert_eq!(crawl(10, 4, 0), Some(Cause::Loss));
        assert_eq!(crawl(50, 20, 18), Some(Cause::ReturnPath));
        assert_eq!(crawl(50, 8, 8), None, "the round-trip time varies");
        assert_eq!(
            crawl(50, 20, 4),
            Some(Cause::Loss),
            "some of it superfluous"
        );
    }

    #[test]
    fn a_busy_destination_is_worth_no_more_than_a_few_hundred() {
        let busy = trials(100_000, 7_000, 0);
        assert!(at_least(busy.repeated, busy.sent, USUAL) < 1e-9);
        assert_eq!(busy.worth(WORTH).crawl(USUAL, DOUBT), None);
    }

    #[test]
    fn the_newest_trials_count_as_far_back_as_is_needed() {
        let mut ledger = Ledger::default();
        let bad = NOW.before(Duration::from_secs(30));
        ledger.add(destination(1), bad, trials(60, 30, 0));
        ledger.add(destination(2), bad, trials(60, 30, 0));
        ledger.add(destination(1), NOW, trials(60, 0, 0));
        ledger.add(destination(2), NOW, trials(10, 0, 0));
        let crawling: Vec<_> = ledger.crawling(USUAL).map(|it| it.0).collect();
        assert_eq!(crawling, [destination(2)]);
        assert_eq!(ledger.lately(NOW).sent, 70);
        assert_eq!(ledger.weather(USUAL, NOW), None);
        assert_eq!(ledger.weather(USUAL, bad), Some(Cause::Loss));
        ledger.forget(NOW.after(Duration::from_secs(34)));
        assert_eq!(
            ledger.crawling(USUAL).count(),
            0,
            "a minute later it is gone"
        );
    }

    #[test]
    fn the_end_of_a_stall_is_not_loss() {
        let whole = Trials::of(&Sample {
            segments_out: 9,
            retransmissions: 5,
            duplicates: 1,
            ..samples::any()
        });
        let since = |timeouts| whole.since(Trials::default(), timeouts);
        assert_eq!(since(3), Some(trials(9, 5, 1)));
        assert_eq!(since(4), None);
        assert_eq!(whole.since(whole, 0), None, "nothing was sent");
    }
}

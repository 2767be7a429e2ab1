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
/// Slots that tell whether it is over.
const NOW: u64 = 1;
/// Who loses as much as this still crawls.
const CRAWLING: f64 = 0.15;
/// So many repetitions at least lie outside the worst moment.
const APART: u32 = 2;
/// Repetitions that the peer reports as superfluous are usual up to this share: a step of the
/// round-trip time makes a few.
const SUPERFLUOUS: f64 = 0.15;
/// A connection that has sent so little is accounted for from its beginning.
const YOUNG: u32 = 30;
/// An episode with so many timeouts is a stall, not loss: what it sent again does not count.
const STALL: u8 = 4;
/// A probe comes before the first timeout (RFC 8985 §7).
const PROBE: u32 = 1;

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

    /// What happened after `earlier`; `None` when nothing was sent.
    fn since(self, earlier: Self) -> Option<Self> {
        let sent = self.sent.wrapping_sub(earlier.sent);
        let repeated = self.repeated.wrapping_sub(earlier.repeated);
        let superfluous = self.superfluous.wrapping_sub(earlier.superfluous);
        (sent > 0).then(|| Self {
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

    /// Without so many of the repetitions.
    fn without(self, stall: u32) -> Self {
        let stall = stall.min(self.repeated);
        Self {
            sent: self.sent - stall,
            repeated: self.repeated - stall,
            superfluous: self.superfluous.min(self.repeated - stall),
        }
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
        // No more than the mean is beyond no doubt; the tail itself takes a step for each trial.
        let beyond = |count: u32, usual: f64| {
            f64::from(count) > usual * f64::from(self.sent)
                && at_least(count, self.sent, usual) < doubt
        };
        if 4 * self.superfluous < self.repeated {
            return beyond(self.lost(), usual).then_some(Cause::Loss);
        }
        beyond(self.repeated, usual.max(SUPERFLUOUS)).then_some(Cause::ReturnPath)
    }
}

/// How far the transmissions of one connection are accounted for.
///
/// What was sent until some moment is known to have arrived, or to have been sent again, when all of
/// it is acknowledged: only then does it count. The beginning of a stall therefore never looks like
/// loss.
#[derive(Debug, Clone, Copy, Default)]
pub struct Account {
    /// Everything up to here is accounted for.
    closed: Option<Trials>,
    /// Everything up to here will be when this sequence number is acknowledged.
    open: Option<(Trials, u32)>,
    /// Timeouts in a row since.
    timeouts: u8,
}

impl Account {
    /// Begins with the first sample of a connection; answers with what is certain already.
    pub fn new(sample: &Sample) -> (Self, Option<Trials>) {
        let young = sample.timeouts == 0 && sample.segments_out <= YOUNG;
        let mut account = Self {
            closed: young.then(Trials::default),
            ..Self::default()
        };
        let certain = account.take(sample);
        (account, certain)
    }

    /// Takes in the next sample; answers with what has become certain.
    pub fn take(&mut self, sample: &Sample) -> Option<Trials> {
        let mut certain = self.close(sample);
        if self.open.is_none() && (self.closed.is_some() || sample.timeouts == 0) {
            let end = sample.snd_una.wrapping_add(sample.unacked);
            self.open = Some((Trials::of(sample), end));
            if let Some(more) = self.close(sample) {
                certain.get_or_insert_default().add(more);
            }
        }
        self.timeouts = self.timeouts.max(sample.timeouts);
        certain
    }

    fn close(&mut self, sample: &Sample) -> Option<Trials> {
        // Sequence numbers wrap: ahead is what is less than half the circle away (RFC 9293 §3.4).
        let reached = |end: u32| sample.snd_una.wrapping_sub(end) <= u32::MAX / 2;
        let (trials, _) = self.open.take_if(|(_, end)| reached(*end))?;
        let timeouts = std::mem::take(&mut self.timeouts);
        if timeouts >= STALL {
            // The rest of what the stall sent again is in this sample's counters, too.
            let whole = Trials::of(sample);
            let trials = whole.since(self.closed.replace(whole)?);
            return trials.map(|it| it.without(u32::from(timeouts) + PROBE));
        }
        // Connections in trouble are looked at more than others: who was in trouble when first seen
        // is accounted for from the end of that on.
        trials.since(self.closed.replace(trials)?)
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
            if slots.first_key_value().is_some_and(|(at, _)| *at < horizon) {
                *slots = slots.split_off(&horizon);
            }
            !slots.is_empty()
        });
    }

    /// Destinations to which connections crawl, when the share `usual` is lost anyway; and why. None,
    /// when so little has been sent again in the last seconds that it must be over.
    pub fn crawling(&self, usual: f64, now: Time) -> BTreeMap<Destination, Cause> {
        let crawling: BTreeMap<_, _> = self
            .0
            .iter()
            .filter(|(_, slots)| {
                let newest = slots.last_key_value();
                newest.is_some_and(|(at, _)| at + LATELY >= slot(now))
            })
            .filter_map(|(destination, slots)| {
                let cause = newest(slots).worth(WORTH).crawl(usual, DOUBT)?;
                is_spread(slots, usual).then_some((*destination, cause))
            })
            .collect();
        // Asked last: it looks at everybody, and nobody crawls on a good day.
        if !crawling.is_empty() && self.is_over(now) {
            return BTreeMap::new();
        }
        crawling
    }

    fn is_over(&self, now: Time) -> bool {
        let trials = self.since(slot(now).saturating_sub(NOW));
        let kept = trials.sent - trials.repeated.min(trials.sent);
        at_least(kept, trials.sent, 1.0 - CRAWLING) < DOUBT
    }

    /// All destinations together, each with its share, in the last quarter of a minute.
    pub fn lately(&self, now: Time) -> Trials {
        self.since(slot(now).saturating_sub(LATELY))
    }

    fn since(&self, from: u64) -> Trials {
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
        let crawls = self.lately(now).crawl(usual, DOUBT_OF_ALL);
        crawls.filter(|_| !self.is_over(now))
    }
}

/// Whether more than one moment has to do with it: of the newest slots, without the worst two in a
/// row, more than `usual` was lost all the same. A link that pauses for a second makes everybody
/// repeat, once.
fn is_spread(slots: &BTreeMap<u64, Trials>, usual: f64) -> bool {
    let newest = slots.last_key_value().map_or(0, |(at, _)| *at);
    let mut all = Trials::default();
    let mut worst = Trials::default();
    for (at, trials) in slots.iter().rev() {
        if all.sent >= ENOUGH && at + LATELY <= newest {
            break;
        }
        all.add(*trials);
        let mut pair = slots.get(&(at + 1)).copied().unwrap_or_default();
        pair.add(*trials);
        if pair.repeated > worst.repeated {
            worst = pair;
        }
    }
    let rest = all.repeated - worst.repeated;
    rest >= APART && f64::from(rest) > usual * f64::from(all.sent - worst.sent)
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
        for number in 1..=3 {
            ledger.add(destination(number), bad, trials(60, 30, 0));
            ledger.add(
                destination(number),
                bad.before(Duration::from_secs(6)),
                trials(2, 2, 0),
            );
        }
        ledger.add(destination(1), NOW, trials(60, 6, 0));
        ledger.add(destination(2), NOW, trials(10, 2, 0));
        let crawling =
            |ledger: &Ledger| ledger.crawling(USUAL, NOW).into_keys().collect::<Vec<_>>();
        assert_eq!(crawling(&ledger), [destination(2)]);
        assert_eq!(ledger.lately(NOW).sent, 70);
        assert_eq!(ledger.weather(USUAL, NOW), None);
        assert_eq!(ledger.weather(USUAL, bad), Some(Cause::Loss));
        ledger.forget(NOW.after(Duration::from_secs(34)));
        assert_eq!(crawling(&ledger), [], "a minute later it is gone");
    }

    #[test]
    fn one_bad_moment_is_no_loss() {
        let crawling = |apart, sent, repeated| {
            let mut ledger = Ledger::default();
            let before = NOW.before(Duration::from_secs(apart));
            ledger.add(destination(1), NOW, trials(20, 9, 0));
            ledger.add(destination(1), before, trials(sent, repeated, 0));
            ledger.crawling(USUAL, NOW).len()
        };
        assert_eq!(crawling(6, 20, 8), 1);
        assert_eq!(crawling(3, 20, 8), 0, "the same moment");
        assert_eq!(crawling(6, 20, 1), 0, "one is as usual");
        assert_eq!(crawling(6, 29, 2), 1);
    }

    #[test]
    fn it_is_over_when_little_is_lost_now() {
        let mut ledger = Ledger::default();
        let bad = NOW.before(Duration::from_secs(9));
        for number in 0..10 {
            ledger.add(destination(number), bad, trials(10, 5, 0));
            let earlier = bad.before(Duration::from_secs(6));
            ledger.add(destination(number), earlier, trials(10, 5, 0));
        }
        assert_eq!(
            ledger.crawling(USUAL, NOW).len(),
            10,
            "nothing newer is known"
        );
        for number in 0..7 {
            ledger.add(destination(number), NOW, trials(4, 0, 0));
        }
        assert_eq!(ledger.crawling(USUAL, NOW).len(), 10, "too little to tell");
        ledger.add(destination(8), NOW, trials(4, 0, 0));
        assert_eq!(ledger.crawling(USUAL, NOW).len(), 0);
        assert_eq!(ledger.weather(USUAL, NOW), None);
    }

    /// A connection that has sent so many segments, repeated some and waits for `unacked` bytes.
    fn at(una: u32, unacked: u32, (sent, repeated): (u32, u32), timeouts: u8) -> Sample {
        Sample {
            snd_una: una,
            unacked,
            segments_out: sent,
            retransmissions: repeated,
            timeouts,
            ..samples::any()
        }
    }

    #[test]
    fn transmissions_count_when_all_until_then_is_acknowledged() {
        let start = u32::MAX - 99;
        let (mut account, _) = Account::new(&at(start, 0, (50, 0), 0));
        assert_eq!(account.take(&at(start, 100, (51, 0), 0)), None, "it waits");
        assert_eq!(
            account.take(&at(start, 200, (54, 2), 0)),
            None,
            "and is repeated"
        );
        assert_eq!(account.take(&at(0, 100, (54, 2), 0)), Some(trials(1, 0, 0)));
        assert_eq!(account.take(&at(100, 0, (55, 3), 0)), Some(trials(4, 3, 0)));
    }

    #[test]
    fn the_beginning_of_a_stall_is_not_loss() {
        let (mut account, _) = Account::new(&at(1, 0, (1, 0), 0));
        assert_eq!(
            account.take(&at(101, 100, (5, 3), 2)),
            None,
            "moved on, then stuck"
        );
        assert_eq!(account.take(&at(101, 100, (7, 5), 4)), None);
        assert_eq!(
            account.take(&at(301, 0, (9, 5), 0)),
            Some(trials(3, 0, 0)),
            "nor is its end"
        );
        assert_eq!(account.take(&at(401, 0, (11, 6), 0)), Some(trials(2, 1, 0)));
    }

    #[test]
    fn the_young_are_accounted_for_from_their_beginning() {
        let next = |sent| {
            let (mut account, _) = Account::new(&at(1, 100, (sent, 2), 0));
            account.take(&at(101, 0, (sent, 2), 0))
        };
        assert_eq!(next(30), Some(trials(30, 2, 0)));
        assert_eq!(next(31), None);
        let (_, certain) = Account::new(&at(101, 0, (30, 2), 0));
        assert_eq!(certain, Some(trials(30, 2, 0)), "who is seen only once");
    }

    #[test]
    fn who_was_in_trouble_when_first_seen_is_accounted_for_later() {
        let (mut account, _) = Account::new(&at(1, 100, (3, 2), 1));
        assert_eq!(account.take(&at(101, 0, (3, 2), 0)), None);
        assert_eq!(account.take(&at(201, 0, (5, 3), 0)), Some(trials(2, 1, 0)));
    }
}

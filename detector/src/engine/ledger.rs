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
/// And who repeats as much needlessly.
const WAITING: f64 = 0.02;
/// Slots that a moment in which all repeat can fall into.
const MOMENT: u64 = 2;
/// The same when it was a step of the round-trip time: reports come up to a second later.
const STEP: u64 = 3;
/// So many repetitions at least lie outside the worst moment.
const APART: u32 = 2;
/// Repetitions that the peer reports as superfluous are usual up to this share: a step of the
/// round-trip time makes a few.
const SUPERFLUOUS: f64 = 0.15;
/// The same as a share of all transmissions, where other signs say that acknowledgements are lost.
const NEEDLESS: f64 = 0.01;
/// Reports get lost like any acknowledgement. Measured with a fifth of these lost: conversations go
/// on at 95 % of their pace, with two fifths lost at 60 %.
const UNREPORTED: f64 = 0.25;
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
    /// Reports of the peer that it had such a one already (RFC 2883). They come a round trip later
    /// than the repetition, so that within a short time there can be more of them.
    pub superfluous: u32,
    /// Timeouts that did not come to a stall.
    pub timeouts: u32,
}

impl Trials {
    /// Everything since a connection began.
    pub fn of(sample: &Sample) -> Self {
        Self {
            sent: sample.segments_out,
            repeated: sample.retransmissions,
            // A network that doubles packets makes peers report more; so does the kernel count.
            superfluous: sample.duplicates.min(sample.retransmissions),
            timeouts: 0,
        }
    }

    /// What happened after `earlier`; `None` when nothing did.
    fn since(self, earlier: Self) -> Option<Self> {
        let sent = self.sent.wrapping_sub(earlier.sent);
        let repeated = self.repeated.wrapping_sub(earlier.repeated);
        let superfluous = self.superfluous.wrapping_sub(earlier.superfluous);
        (sent > 0 || superfluous > 0).then(|| Self {
            sent,
            repeated: repeated.min(sent),
            superfluous: superfluous.min(self.repeated),
            timeouts: 0,
        })
    }

    /// Adds others.
    pub fn add(&mut self, other: Self) {
        self.sent = self.sent.saturating_add(other.sent);
        self.repeated = self.repeated.saturating_add(other.repeated);
        self.superfluous = self.superfluous.saturating_add(other.superfluous);
        self.timeouts = self.timeouts.saturating_add(other.timeouts);
    }

    /// Without so many of the repetitions.
    fn without(self, stall: u32) -> Self {
        let stall = stall.min(self.repeated);
        Self {
            sent: self.sent - stall,
            repeated: self.repeated - stall,
            superfluous: self.superfluous.min(self.repeated - stall),
            ..self
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
            timeouts: scale(self.timeouts),
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
        if !self.had_arrived() {
            return beyond(self.lost(), self.sent, usual, doubt).then_some(Cause::Loss);
        }
        let beyond = beyond(self.repeated, self.sent, usual.max(SUPERFLUOUS), doubt);
        beyond.then_some(Cause::ReturnPath)
    }

    /// Whether so much of what was sent again had arrived before that it was not the data that was
    /// lost. Measured: four to nine of ten while acknowledgements are lost, one while both are.
    fn had_arrived(self) -> bool {
        4 * self.superfluous >= self.repeated
    }

    /// Whether more reports of superfluous repetitions come than chance explains.
    fn is_needless(self, doubt: f64) -> bool {
        self.superfluous >= FEWEST && beyond(self.superfluous, self.sent, NEEDLESS, doubt)
    }

    /// Whether acknowledgements are lost in such numbers that it is felt.
    ///
    /// All of:
    /// - needless repetitions are reported, beyond chance
    /// - of a quarter of the repetitions or more
    /// - reports are missing as well: all of them come where the round-trip time varies
    /// - there were timeouts: a loss probe too many delays nobody
    fn lacks_answers(self) -> bool {
        self.is_needless(DOUBT_OF_ALL)
            && self.had_arrived()
            && beyond(self.lost(), self.repeated, UNREPORTED, DOUBT_OF_ALL)
            && 4 * self.timeouts >= self.superfluous
    }
}

/// Whether `count` of `all` is more than `usual` explains. No more than the mean is beyond no doubt;
/// the tail itself takes a step for each trial.
fn beyond(count: u32, all: u32, usual: f64, doubt: f64) -> bool {
    f64::from(count) > usual * f64::from(all) && at_least(count, all, usual) < doubt
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
        let certain = trials.since(self.closed.replace(trials)?)?;
        Some(Trials {
            timeouts: u32::from(timeouts),
            ..certain
        })
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
        let mut crawling: BTreeMap<_, _> = self
            .0
            .iter()
            .filter(|(_, slots)| {
                let newest = slots.last_key_value();
                newest.is_some_and(|(at, _)| at + LATELY >= slot(now))
            })
            .filter_map(|(destination, slots)| {
                let cause = newest(slots).worth(WORTH).crawl(usual, DOUBT)?;
                is_spread(slots, usual, |it| it.repeated).then_some((*destination, cause))
            })
            .collect();
        // Asked last: it looks at everybody, and nobody crawls on a good day.
        if !crawling.is_empty() && self.is_over(now) {
            crawling.clear();
        }
        let from = slot(now).saturating_sub(LATELY);
        let needless: Vec<_> = self
            .0
            .iter()
            .filter(|(_, slots)| {
                is_needless(slots, from) && is_spread(slots, NEEDLESS, |it| it.superfluous)
            })
            .map(|(destination, _)| *destination)
            .collect();
        if !needless.is_empty() && self.lacks_answers(from) && !self.is_heard(now) {
            for destination in needless {
                crawling.entry(destination).or_insert(Cause::ReturnPath);
            }
        }
        crawling
    }

    /// Whether acknowledgements are lost from that slot on, and not in the worst moment alone: a step
    /// of the round-trip time makes everybody repeat, and it takes a while until all have said so:
    /// where reports are missing, they come in the next slot.
    fn lacks_answers(&self, from: u64) -> bool {
        let mut together: BTreeMap<u64, Trials> = BTreeMap::new();
        for slots in self.0.values() {
            for (at, trials) in slots.range(from..) {
                together.entry(*at).or_default().add(trials.worth(SHARE));
            }
        }
        let rest = apart(&together, STEP, |it| it.repeated + it.superfluous);
        rest.lacks_answers()
    }

    /// Whether too little is lost now to crawl.
    fn is_over(&self, now: Time) -> bool {
        let trials = self.since(slot(now).saturating_sub(NOW), SHARE);
        let kept = trials.sent - trials.repeated.min(trials.sent);
        at_least(kept, trials.sent, 1.0 - CRAWLING) < DOUBT
    }

    /// Whether little is repeated needlessly now.
    fn is_heard(&self, now: Time) -> bool {
        let trials = self.since(slot(now).saturating_sub(NOW), SHARE);
        let needed = trials.sent - trials.superfluous.min(trials.sent);
        at_least(needed, trials.sent, 1.0 - WAITING) < DOUBT
    }

    /// All destinations together, each with its share, in the last quarter of a minute.
    pub fn lately(&self, now: Time) -> Trials {
        self.since(slot(now).saturating_sub(LATELY), SHARE)
    }

    /// All destinations together from that slot on, each worth no more than so many transmissions.
    fn since(&self, from: u64, worth: u32) -> Trials {
        let mut all = Trials::default();
        for slots in self.0.values() {
            let mut here = Trials::default();
            slots
                .range(from..)
                .for_each(|(_, trials)| here.add(*trials));
            all.add(here.worth(worth));
        }
        all
    }

    /// Why the upstream as a whole is slow, if it is: some gets through and much does not. Where
    /// connections stall the last seconds are enough to tell that it is the way back.
    pub fn weather(&self, usual: f64, now: Time) -> Option<Cause> {
        let crawls = self.lately(now).crawl(usual, DOUBT_OF_ALL);
        let crawls = crawls.filter(|_| !self.is_over(now));
        let newest = self.since(slot(now).saturating_sub(NOW), WORTH);
        crawls.or_else(|| newest.lacks_answers().then_some(Cause::ReturnPath))
    }
}

/// Whether a destination reports many needless repetitions.
fn is_needless(slots: &BTreeMap<u64, Trials>, from: u64) -> bool {
    let mut trials = Trials::default();
    for (_, newer) in slots.range(from..) {
        trials.add(*newer);
    }
    trials.worth(WORTH).is_needless(DOUBT)
}

/// Whether more than one moment has to do with it: what is counted is more than the share `usual`
/// without the worst moment, too.
fn is_spread(slots: &BTreeMap<u64, Trials>, usual: f64, count: fn(&Trials) -> u32) -> bool {
    let rest = apart(slots, MOMENT, count);
    count(&rest) >= APART && f64::from(count(&rest)) > usual * f64::from(rest.sent)
}

/// The newest slots without those `moment` in a row in which most is counted. A link that pauses for a
/// second makes everybody repeat, once.
fn apart(slots: &BTreeMap<u64, Trials>, moment: u64, count: fn(&Trials) -> u32) -> Trials {
    let newest = slots.last_key_value().map_or(0, |(at, _)| *at);
    let mut all = Trials::default();
    let mut worst = Trials::default();
    for (at, trials) in slots.iter().rev() {
        if all.sent >= ENOUGH && at + LATELY <= newest {
            break;
        }
        all.add(*trials);
        let mut here = Trials::default();
        for (_, trials) in slots.range(*at..at + moment) {
            here.add(*trials);
        }
        if count(&here) > count(&worst) {
            worst = here;
        }
    }
    Trials {
        sent: all.sent - worst.sent,
        repeated: all.repeated - worst.repeated,
        superfluous: all.superfluous - worst.superfluous,
        timeouts: all.timeouts - worst.timeouts,
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
            timeouts: 0,
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

    /// Ten destinations for a quarter of a minute: so many segments are sent to each in a slot.
    fn steadily(each: Trials) -> Ledger {
        let mut ledger = Ledger::default();
        for slot in 0..=LATELY {
            let at = NOW.before(SLOT * u32::try_from(slot).unwrap());
            for number in 0..10 {
                ledger.add(destination(number), at, each);
            }
        }
        ledger
    }

    #[test]
    fn lost_acknowledgements_are_felt_when_reports_are_missing_and_timeouts_come() {
        let felt = |sent, repeated, superfluous, timeouts| {
            let each = Trials {
                timeouts,
                ..trials(sent, repeated, superfluous)
            };
            let ledger = steadily(each);
            let crawling = ledger.crawling(USUAL, NOW);
            let back = crawling.values().all(|it| *it == Cause::ReturnPath);
            assert!(back, "{crawling:?}");
            assert_eq!(ledger.weather(USUAL, NOW).is_some(), crawling.len() == 10);
            crawling.len()
        };
        assert_eq!(
            felt(60, 6, 3, 1),
            10,
            "a tenth repeated, half of it unreported"
        );
        assert_eq!(felt(60, 6, 5, 1), 0, "reports are not missing");
        assert_eq!(felt(60, 6, 3, 0), 0, "loss probes only");
        assert_eq!(felt(600, 6, 3, 1), 0, "too few to be felt");
        assert_eq!(felt(100, 5, 1, 1), 0, "it is the data that is lost");
    }

    #[test]
    fn needless_repetitions_of_one_moment_are_a_step_of_the_round_trip_time() {
        let mut ledger = steadily(trials(60, 0, 0));
        let step = Trials {
            timeouts: 8,
            ..trials(20, 16, 8)
        };
        for number in 0..10 {
            for ago in [9, 12] {
                let at = NOW.before(Duration::from_secs(ago));
                ledger.add(destination(number), at, step);
            }
        }
        assert_eq!(ledger.crawling(USUAL, NOW).len(), 0);
        for number in 0..10 {
            for ago in [0, 3] {
                let at = NOW.before(Duration::from_secs(ago));
                ledger.add(destination(number), at, step);
            }
        }
        assert_eq!(ledger.crawling(USUAL, NOW).len(), 10, "it goes on");
    }

    #[test]
    fn a_step_of_the_round_trip_time_takes_nine_seconds_until_all_have_reported() {
        // Much is repeated first, then both, then the rest is reported.
        let step = [
            (15, trials(60, 1, 0), 0),
            (12, trials(58, 8, 1), 4),
            (9, trials(48, 8, 8), 2),
            (6, trials(45, 4, 8), 0),
            (3, trials(43, 2, 2), 0),
            (0, trials(20, 1, 0), 0),
        ];
        let mut ledger = Ledger::default();
        for (ago, trials, timeouts) in step {
            for number in 0..7 {
                let at = NOW.before(Duration::from_secs(ago));
                let trials = Trials { timeouts, ..trials };
                ledger.add(destination(number), at, trials);
            }
        }
        let from = slot(NOW) - LATELY;
        assert!(!ledger.lacks_answers(from));
        for number in 0..7 {
            let trials = Trials {
                timeouts: 2,
                ..trials(40, 8, 3)
            };
            ledger.add(destination(number), NOW, trials);
        }
        assert!(ledger.lacks_answers(from), "it goes on");
    }

    #[test]
    fn it_is_heard_again_when_little_is_repeated_needlessly_now() {
        let each = Trials {
            timeouts: 1,
            ..trials(60, 6, 3)
        };
        let crawling = |ledger: &Ledger, after| {
            let now = NOW.after(SLOT * after);
            ledger.crawling(USUAL, now).len()
        };
        let mut ledger = steadily(each);
        for after in [1, 2] {
            for number in 0..10 {
                let at = NOW.after(SLOT * after);
                ledger.add(destination(number), at, trials(60, 0, 0));
            }
        }
        assert_eq!(crawling(&ledger, 2), 0);
        let mut ledger = steadily(each);
        for number in 0..10 {
            ledger.add(destination(number), NOW.after(SLOT * 2), each);
        }
        assert_eq!(crawling(&ledger, 2), 10);
    }

    #[test]
    fn a_report_that_comes_a_round_trip_later_counts() {
        let reported = |una, unacked, counts, timeouts, duplicates| Sample {
            duplicates,
            ..at(una, unacked, counts, timeouts)
        };
        let (mut account, _) = Account::new(&reported(1, 0, (50, 0), 0, 0));
        assert_eq!(account.take(&reported(1, 100, (52, 1), 1, 0)), None);
        let certain = account.take(&reported(101, 0, (52, 1), 0, 1));
        let timed_out = Trials {
            timeouts: 1,
            ..trials(2, 1, 1)
        };
        assert_eq!(certain, Some(timed_out));
    }

    #[test]
    fn a_network_that_doubles_packets_hides_no_loss() {
        let doubled = Sample {
            duplicates: 40,
            ..at(101, 0, (30, 2), 0)
        };
        let (_, certain) = Account::new(&doubled);
        assert_eq!(certain, Some(trials(30, 2, 2)));
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

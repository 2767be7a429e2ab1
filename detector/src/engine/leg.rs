//! PURE. What is remembered of one next hop of an upstream.
//!
//! An upstream with several next hops is judged leg by leg: where one of two routers is dead, each
//! destination has connections that do well and connections that hang.

use std::{collections::BTreeMap, time::Duration};

use super::{
    baseline::Baseline,
    connection::Connection,
    judge,
    ledger::Ledger,
    onsets::{Onsets, TOGETHER},
    passes::Passes,
    pauses::{self, Excuse, Pauses},
    tally::{self, Ballot, Stuck, Tally, Troubled, Vote},
};
use crate::{
    model::{Cause, Destination},
    time::Time,
};

/// How long a stall of its own stays that without being asked again.
const SETTLED: Duration = Duration::from_secs(40);

/// One next hop of an upstream.
#[derive(Debug, Clone, Default)]
pub struct Leg {
    /// What got through.
    pub passes: Passes,
    /// What had to be sent again.
    pub ledger: Ledger,
    /// When destinations began to stall.
    pub onsets: Onsets,
    /// When connections to them last failed that hung and have ended.
    given_up: BTreeMap<Destination, Time>,
    /// When they were stalled last.
    troubled: Troubled,
    /// Destinations whose stall is their own affair, by when it began.
    affairs: BTreeMap<Destination, Time>,
    /// Destinations that are stalled elsewhere, too, by when they began to.
    excused: BTreeMap<Destination, Time>,
    /// The votes.
    pub tally: Tally,
    /// Destinations that begin to stall per second when nothing is wrong.
    pub rate: f64,
    /// Why it is slow altogether.
    pub weather: Option<Cause>,
    pauses: Pauses,
    /// The stalls that a pause explains now.
    excuse: Option<Excuse>,
}

impl Leg {
    /// Forgets what is too old.
    pub fn forget(&mut self, now: Time) {
        self.passes.forget(now);
        self.ledger.forget(now);
        self.troubled.retain(|_, at| now.since(*at) < judge::FORGET);
        self.given_up.retain(|_, at| now.since(*at) < tally::ACTIVE);
    }

    /// A connection in trouble has ended without getting anything through.
    pub fn gone(&mut self, connection: &Connection) {
        let (at, failed) = (connection.destination, connection.failed_at());
        self.onsets.gone(at, connection.began());
        let last = self.given_up.entry(at).or_default();
        *last = failed.max(*last);
    }

    /// Brings [`Self::weather`] up to date.
    pub fn look_up(&mut self, baseline: &Baseline, now: Time) {
        self.weather = self.ledger.weather(baseline.expected_lost(), now);
    }

    /// Counts the votes anew. Usual is what was usual before `bad_since`. Answers with how long a
    /// pause of the link has lasted that is over now.
    pub fn vote(
        &mut self,
        stuck: &BTreeMap<Destination, Stuck<'_>>,
        baseline: &Baseline,
        bad_since: Option<Time>,
        now: Time,
    ) -> Option<Duration> {
        let onsets: BTreeMap<_, _> = stuck
            .iter()
            .map(|(it, stuck)| (*it, stuck.onsets()))
            .collect();
        // When it began becomes known more exactly with further samples.
        let as_before = |it: &Destination, at: &mut Time| {
            let first = onsets.get(it).and_then(|onsets| onsets.first());
            first.is_some_and(|now| now.since(*at).max(at.since(*now)) <= TOGETHER)
        };
        self.affairs.retain(as_before);
        self.excused.retain(as_before);
        self.onsets.update(onsets, now);
        // What is in question now is not usual.
        let until = bad_since.unwrap_or(now).before(tally::ALONE);
        let rate = self.onsets.rate(until, baseline);
        let usual = baseline.usual_pause();
        let paused = self.look_for_pause(stuck, rate, usual, now);
        let crawling = self.ledger.crawling(baseline.expected_lost(), now);
        self.tally = tally::tally(
            &Ballot {
                stuck,
                passes: &self.passes,
                given_up: &self.given_up,
                troubled: &self.troubled,
                onsets: &self.onsets,
                affairs: &self.affairs,
                crawling: &crawling,
                excuse: self.excuse,
                rate,
                learned: baseline.expected_stalled(),
            },
            now,
        );
        for destination in self.excused.keys() {
            // What is excused stays so: the other upstream may get into trouble of its own.
            if let Some(vote) = self.tally.votes.get_mut(destination) {
                *vote = Vote::Elsewhere;
            }
        }
        self.rate = rate;
        for destination in self.tally.stalled() {
            self.troubled.insert(destination, now);
        }
        for (destination, stuck) in stuck {
            let alone = self.tally.votes.get(destination) == Some(&Vote::Alone);
            if alone && now.since(stuck.began()) > SETTLED {
                self.affairs.insert(*destination, stuck.began());
            }
        }
        paused
    }

    /// Votes that must be expected to be stalls when nothing is wrong, as a number.
    pub fn expected(&self) -> f64 {
        tally::expected(self.rate)
    }

    /// Whether a destination began to stall in an event with others, or connections to it did.
    pub fn began_together(&self, destination: Destination) -> bool {
        let mut onsets = self.onsets.of(destination).iter();
        onsets.any(|began| self.onsets.is_event(*began, self.rate))
    }

    /// Whether it may be a short pause so far.
    pub fn is_in_question(&self) -> bool {
        self.pauses.is_open() && self.excuse.is_some()
    }

    /// Whether everything that is stalled began together a moment ago, and whether that is over.
    fn look_for_pause(
        &mut self,
        stuck: &BTreeMap<Destination, Stuck<'_>>,
        rate: f64,
        usual: Duration,
        now: Time,
    ) -> Option<Duration> {
        if stuck.is_empty() && !self.pauses.is_open() {
            self.excuse = None;
            return None;
        }
        let sending = stuck.values().filter(|it| !it.receives());
        let trips = sending.clone().filter_map(Stuck::longest_trip);
        let longest_trip = trips.max().unwrap_or_default();
        let trip = longest_trip.max(tally::SLACK);
        let passes = &self.passes;
        // Nobody gets through any more since then, or hardly anybody.
        let still_since = passes.last().get(pauses::QUORUM - 1).copied();
        let recent = sending.clone().flat_map(Stuck::onsets).filter(|began| {
            now.since(*began) <= pauses::LONGEST && Some(began.after(trip)) >= still_since
        });
        let event = recent
            .filter(|began| self.onsets.is_event(*began, rate))
            .min()
            .or_else(|| self.missed_pause(stuck, rate, trip, now));
        let mut failed: Vec<_> = sending.map(|it| it.surely_failed_at()).collect();
        failed.sort_unstable_by_key(|at| std::cmp::Reverse(*at));
        let failed_until = failed.get(pauses::QUORUM - 1).copied();
        let passed_since = |began: Time| passes.first_after(began.after(trip));
        let paused = self
            .pauses
            .watch(event, passed_since, usual, longest_trip, now);
        self.excuse = self.pauses.excuse(usual, failed_until, now);
        paused
    }

    /// When a pause began of which a daemon hears that had no processor meanwhile: in one look it sees
    /// those that hang and those that get through again.
    fn missed_pause(
        &self,
        stuck: &BTreeMap<Destination, Stuck<'_>>,
        rate: f64,
        trip: Duration,
        now: Time,
    ) -> Option<Time> {
        if self.pauses.is_open() {
            return None;
        }
        let sending = stuck.values().filter(|it| !it.receives());
        let mut began: Vec<_> = sending
            .flat_map(Stuck::onsets)
            .filter(|began| now.since(*began) <= pauses::LONGEST)
            .collect();
        began.sort_unstable();
        began.dedup_by(|later, earlier| later.since(*earlier) < TOGETHER / 6);
        let was_silent = |began: &Time| {
            let passed = self.passes.first_after(began.after(trip));
            let third = passed.get(pauses::QUORUM - 1);
            third.is_some_and(|at| at.since(*began) >= pauses::SHORTEST + trip)
        };
        let mut began = began.into_iter();
        began.find(|began| self.onsets.is_event(*began, rate) && was_silent(began))
    }

    /// Takes the vote of a destination away for as long as this stall lasts: it is stalled
    /// elsewhere, too.
    pub fn excuse(&mut self, destination: Destination) {
        if let Some(began) = self.began(destination) {
            self.excused.insert(destination, began);
            self.tally.votes.insert(destination, Vote::Elsewhere);
        }
    }

    /// How many destinations have shown after `began` that they do well.
    pub fn well_since(&self, began: Time) -> usize {
        let since = began.after(tally::SLACK);
        let heard = self.passes.heard_after(since);
        heard
            .filter(|it| self.tally.votes.get(it) == Some(&Vote::Fine))
            .count()
    }

    /// When a stalled destination began to stall, excused or not.
    pub fn began(&self, destination: Destination) -> Option<Time> {
        let stalled = self.tally.votes.get(&destination);
        let any = matches!(
            stalled,
            Some(Vote::Stalled(_) | Vote::Weak(_) | Vote::Elsewhere)
        );
        any.then(|| self.onsets.of(destination).first().copied())
            .flatten()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.passes.is_empty() && self.tally.votes.is_empty() && self.troubled.is_empty()
    }
}

/// Connections in trouble at one leg, by destination.
pub fn stuck<'a>(
    connections: impl Iterator<Item = &'a Connection>,
) -> BTreeMap<Destination, Stuck<'a>> {
    let mut stuck: BTreeMap<Destination, Stuck<'_>> = BTreeMap::new();
    for connection in connections {
        stuck
            .entry(connection.destination)
            .or_default()
            .0
            .push(connection);
    }
    stuck
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::{
            passes::Pass,
            tests::{
                samples,
                world::{NETNS, destination},
            },
        },
        model::{ConnectionId, Phase, Sample},
    };

    const NOW: Time = Time(500_000_000_000);

    fn ago(milliseconds: u64) -> Time {
        NOW.before(Duration::from_millis(milliseconds))
    }

    /// A connection that hangs for six seconds and a half and has failed last after three.
    fn hanging(number: u16) -> Connection {
        let sample = Sample {
            id: ConnectionId(u64::from(number)),
            at: NOW,
            bytes_acked: 10_001,
            sent_at: ago(3500),
            acked_at: ago(7000),
            stuck_since: Some(ago(6500)),
            unacked: 1000,
            packets_out: 1,
            timeouts: 4,
            head: Some(1000),
            rto: Duration::from_millis(3200),
            ..samples::any()
        };
        let (mut connection, _) = Connection::new(sample, 0);
        connection.destination = destination(number);
        connection.phase = Some(Phase::Stalled);
        connection
    }

    #[test]
    fn a_pause_is_excused_when_its_end_is_heard_of_together_with_its_beginning() {
        let mut known = Baseline::default();
        for _ in 0..3 {
            known.learn_pause(Duration::from_secs(4));
        }
        let hanging: Vec<_> = (1..9).map(hanging).collect();
        let stalled = |baseline: &Baseline, passed: u64| {
            let mut leg = Leg::default();
            for number in 11..14 {
                for at in [ago(7000), ago(passed)] {
                    leg.passes.add(Pass {
                        at,
                        after: at,
                        destination: destination(number),
                        netns: NETNS,
                        at_least: 100,
                        at_most: 1448,
                    });
                }
            }
            let paused = leg.vote(&stuck(hanging.iter()), baseline, None, NOW);
            assert_eq!(paused, None, "of which nobody knows how long it was");
            leg.tally.stalled().count()
        };
        assert_eq!(stalled(&known, 2000), 0);
        assert_eq!(stalled(&Baseline::default(), 2000), 8, "it is not usual");
        assert_eq!(stalled(&known, 6100), 8, "others went on all the time");
    }
}

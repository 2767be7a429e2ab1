//! PURE. One destination, one vote.

use std::{collections::BTreeMap, time::Duration};

use super::{connection::Connection, judge::Votes, passes::Passes};
use crate::{
    model::{Cause, Destination},
    time::Time,
};

/// A destination is active when data was acknowledged within this time, or waits.
pub const ACTIVE: Duration = Duration::from_secs(10);
/// A stall that was last tested longer ago than this yields when others that shared it have
/// recovered: after a long outage the timers of stuck connections are minutes apart.
const STALE: Duration = Duration::from_secs(8);
/// So many of those must have recovered at least.
const QUORUM: usize = 3;

/// A stall that is older than this and began alone is the destination's own affair.
const ALONE: Duration = Duration::from_secs(60);
/// What begins within this time began together.
const TOGETHER: Duration = Duration::from_secs(3);

/// When destinations last voted "stalled".
pub type Troubled = BTreeMap<Destination, Time>;

/// A destination's vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vote {
    /// Its last word is progress.
    Fine,
    /// Its last word is a stall, for this cause.
    Stalled(Cause),
    /// It is stalled, and that is its own affair: active, and nobody is blamed.
    Alone,
}

/// The votes at one upstream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// By destination; who had nothing to send has no vote.
    pub votes: BTreeMap<Destination, Vote>,
    /// Connections whose destination votes "stalled", beyond the one that the vote stands for.
    pub surplus: u32,
}

impl Tally {
    /// The numbers.
    pub fn numbers(&self) -> Votes {
        let stalled = self.stalled().count();
        Votes {
            active: count(self.votes.len()),
            stalled: count(stalled),
        }
    }

    /// Destinations that vote "stalled".
    pub fn stalled(&self) -> impl Iterator<Item = Destination> {
        self.votes
            .iter()
            .filter(|(_, vote)| matches!(vote, Vote::Stalled(_)))
            .map(|(destination, _)| *destination)
    }

    /// Destinations that vote "fine".
    pub fn fine(&self) -> impl Iterator<Item = Destination> {
        self.votes
            .iter()
            .filter(|(_, vote)| **vote == Vote::Fine)
            .map(|(destination, _)| *destination)
    }

    /// The cause that most of the stalled destinations have; of equals the first in the list of
    /// causes.
    pub fn cause(&self) -> Option<Cause> {
        let mut causes: BTreeMap<Cause, usize> = BTreeMap::new();
        for vote in self.votes.values() {
            if let Vote::Stalled(cause) = vote {
                *causes.entry(*cause).or_default() += 1;
            }
        }
        let most = causes.values().copied().max()?;
        causes
            .into_iter()
            .find(|(_, votes)| *votes == most)
            .map(|(cause, _)| cause)
    }
}

/// Counts the votes at one upstream.
///
/// For each destination, in order:
/// 1. no connection in trouble: fine if data was acknowledged lately, else no vote
/// 2. a segment as large as the one that waits got through to it after its last failure: fine
/// 3. its last failure is old, and of the destinations that were stalled together with it at
///    least three have recovered since, and half as many as wait like it: no vote
/// 4. it has been stalled for a minute, fewer than two others began to stall with it, and more
///    destinations are fine than stalled: its own affair; walked-away peers and dead servers add
///    up otherwise, since each stays for a quarter of an hour
/// 5. otherwise stalled, with the cause of the connection that failed last
///
/// Destinations that were fine all along do not speak for those that are not: only a change does.
pub fn tally<'a>(
    connections: impl Iterator<Item = &'a Connection>,
    passes: &Passes,
    troubled: &Troubled,
    now: Time,
) -> Tally {
    let mut tally = Tally::default();
    for destination in passes.heard_after(now.before(ACTIVE)) {
        tally.votes.insert(destination, Vote::Fine);
    }
    let stuck = by_destination(connections);
    let onsets = Onsets::of(&stuck);
    let mut stale = Vec::new();
    let mut alone = Vec::new();
    for (destination, stuck) in stuck {
        tally.surplus += stuck.connections - 1;
        let failed_at = stuck.newest.failed_at();
        let head = stuck.newest.sample.head;
        let carried = passes.carried(destination, failed_at, head);
        let vote = if carried {
            Vote::Fine
        } else {
            Vote::Stalled(stuck.newest.cause)
        };
        tally.votes.insert(destination, vote);
        if !carried && now.since(failed_at) > STALE {
            stale.push((destination, stuck.newest));
        }
        let began = stuck.began();
        if !carried && now.since(began) > ALONE && onsets.near(began) < QUORUM {
            alone.push(destination);
        }
    }
    let votes = tally.numbers();
    if 2 * votes.stalled < votes.active {
        for destination in alone {
            tally.votes.insert(destination, Vote::Alone);
        }
    }
    let waiting = stale.len();
    let overtaken: Vec<_> = stale
        .into_iter()
        .filter(|(_, newest)| {
            let recovered = recovered_since(newest, passes, troubled, &tally);
            recovered >= QUORUM && 2 * recovered >= waiting
        })
        .map(|(destination, _)| destination)
        .collect();
    for destination in overtaken {
        tally.votes.remove(&destination);
    }
    tally
}

/// How many destinations that were stalled together with `stuck` have recovered since it last
/// failed, with segments as large as the one that it waits for.
fn recovered_since(
    stuck: &Connection,
    passes: &Passes,
    troubled: &Troubled,
    tally: &Tally,
) -> usize {
    let (failed_at, head) = (stuck.failed_at(), stuck.sample.head);
    passes
        .heard_after(failed_at)
        .filter(|other| tally.votes.get(other) == Some(&Vote::Fine))
        .filter(|other| troubled.get(other).copied() >= stuck.waiting_since)
        .filter(|other| passes.carried(*other, failed_at, head))
        .count()
}

/// Connections in trouble, by destination.
fn by_destination<'a>(
    connections: impl Iterator<Item = &'a Connection>,
) -> BTreeMap<Destination, Stuck<'a>> {
    let mut stuck: BTreeMap<Destination, Stuck<'_>> = BTreeMap::new();
    for connection in connections.filter(|connection| connection.counts()) {
        let entry = stuck.entry(connection.destination).or_insert(Stuck {
            newest: connection,
            oldest: connection,
            connections: 0,
        });
        entry.connections += 1;
        if connection.failed_at() > entry.newest.failed_at() {
            entry.newest = connection;
        }
        if connection.waiting_since < entry.oldest.waiting_since {
            entry.oldest = connection;
        }
    }
    stuck
}

struct Stuck<'a> {
    newest: &'a Connection,
    oldest: &'a Connection,
    connections: u32,
}

impl Stuck<'_> {
    /// When the destination began to stall.
    fn began(&self) -> Time {
        self.oldest.waiting_since.unwrap_or(self.oldest.sample.at)
    }
}

/// When destinations began to stall, in order.
struct Onsets(Vec<Time>);

impl Onsets {
    fn of(stuck: &BTreeMap<Destination, Stuck<'_>>) -> Self {
        let mut onsets: Vec<_> = stuck.values().map(Stuck::began).collect();
        onsets.sort_unstable();
        Self(onsets)
    }

    /// How many began within a moment of `at`, itself included.
    fn near(&self, at: Time) -> usize {
        let from = self.0.partition_point(|it| *it < at.before(TOGETHER));
        let to = self.0.partition_point(|it| *it <= at.after(TOGETHER));
        to - from
    }
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::{
            passes::Pass,
            tests::{samples, world::destination},
        },
        model::{ConnectionId, Phase, Sample},
    };

    const NOW: Time = Time(500_000_000_000);

    fn ago(milliseconds: u64) -> Time {
        NOW.before(Duration::from_millis(milliseconds))
    }

    /// A stuck connection that failed last so long ago, with a head of 1000 bytes.
    fn stuck(number: u16, cause: Cause, failed: u64) -> Connection {
        let sample = Sample {
            id: ConnectionId(u64::from(number)),
            sent_at: ago(failed),
            unacked: 1000,
            packets_out: 1,
            head: Some(1000),
            timeouts: 3,
            ..samples::any()
        };
        let (mut connection, _) = Connection::new(sample, 0);
        connection.destination = destination(number);
        connection.phase = Some(Phase::Stalled);
        connection.cause = cause;
        connection
    }

    fn votes(connections: &[Connection], passes: &[(u16, u64, u32)]) -> Tally {
        // All others were stalled as well, a moment ago.
        let troubled = (2..9)
            .map(|number| (destination(number), Time(u64::MAX)))
            .collect();
        votes_after(&troubled, connections, passes)
    }

    fn votes_after(
        troubled: &Troubled,
        connections: &[Connection],
        passes: &[(u16, u64, u32)],
    ) -> Tally {
        let mut all = Passes::default();
        for (number, milliseconds, at_least) in passes {
            let (at, destination) = (ago(*milliseconds), destination(*number));
            all.add(Pass {
                at,
                destination,
                at_least: *at_least,
                at_most: 1448,
            });
        }
        tally(connections.iter(), &all, troubled, NOW)
    }

    fn vote(tally: &Tally, number: u16) -> Option<Vote> {
        tally.votes.get(&destination(number)).copied()
    }

    #[test]
    fn rule_1_fine_when_acknowledged_lately_else_no_vote() {
        assert_eq!(vote(&votes(&[], &[(1, 9_999, 1)]), 1), Some(Vote::Fine));
        assert_eq!(vote(&votes(&[], &[(1, 10_000, 1)]), 1), None);
    }

    #[test]
    fn rule_2_fine_when_a_segment_as_large_got_through_after_the_last_failure() {
        let stuck = [stuck(1, Cause::Blackhole, 1000)];
        let stalled = Some(Vote::Stalled(Cause::Blackhole));
        assert_eq!(vote(&votes(&stuck, &[(1, 999, 950)]), 1), Some(Vote::Fine));
        assert_eq!(
            vote(&votes(&stuck, &[(1, 1000, 950)]), 1),
            stalled,
            "not after"
        );
        assert_eq!(
            vote(&votes(&stuck, &[(1, 999, 899)]), 1),
            stalled,
            "not as large"
        );
        assert_eq!(
            vote(&votes(&stuck, &[(2, 999, 950)]), 1),
            stalled,
            "not to it"
        );
    }

    #[test]
    fn rule_3_no_vote_when_untested_for_long_while_others_came_back() {
        let stalled = Some(Vote::Stalled(Cause::Blackhole));
        let of = |failed, passes: &[(u16, u64, u32)]| {
            vote(&votes(&[stuck(1, Cause::Blackhole, failed)], passes), 1)
        };
        let three = [(2, 100, 950), (3, 100, 950), (4, 100, 950)];
        assert_eq!(of(8_001, &three), None);
        assert_eq!(of(8_000, &three), stalled, "tested a moment ago");
        assert_eq!(of(8_001, &three[..2]), stalled, "two others are too few");
        assert_eq!(
            of(8_001, &[(2, 100, 950), (2, 90, 950), (3, 100, 950)]),
            stalled,
            "and not three"
        );
        let small = three.map(|(number, at, _)| (number, at, 899));
        assert_eq!(of(8_001, &small), stalled, "what passes is smaller");
        let earlier = three.map(|(number, _, size)| (number, 8_500, size));
        assert_eq!(of(8_001, &earlier), stalled, "that was before");
    }

    #[test]
    fn rule_3_needs_others_that_shared_the_trouble_and_enough_of_them() {
        let stalled = Some(Vote::Stalled(Cause::Blackhole));
        let three = [(2, 100, 950), (3, 100, 950), (4, 100, 950)];
        let one = [stuck(1, Cause::Blackhole, 8_001)];
        let of = |troubled: &Troubled| vote(&votes_after(troubled, &one, &three), 1);
        assert_eq!(of(&Troubled::new()), stalled, "fine all along");
        let before = one[0]
            .waiting_since
            .unwrap()
            .before(Duration::from_nanos(1));
        let earlier = (2..5).map(|number| (destination(number), before)).collect();
        assert_eq!(of(&earlier), stalled, "well again before it began");
        let many: Vec<_> = (11..18)
            .map(|it| stuck(it, Cause::Blackhole, 8_001))
            .collect();
        assert_eq!(vote(&votes(&many[..6], &three), 11), None, "three of six");
        assert_eq!(vote(&votes(&many, &three), 11), stalled, "three of seven");
    }

    #[test]
    fn rule_5_the_connection_that_failed_last_speaks_for_its_destination() {
        let mut second = stuck(1, Cause::Mtu, 500);
        second.sample.id = ConnectionId(99);
        let tally = votes(&[stuck(1, Cause::Blackhole, 1000), second], &[]);
        assert_eq!(vote(&tally, 1), Some(Vote::Stalled(Cause::Mtu)));
        assert_eq!(tally.surplus, 1);
        assert_eq!(
            tally.numbers(),
            Votes {
                active: 1,
                stalled: 1
            }
        );
    }

    #[test]
    fn closed_windows_and_the_untroubled_have_no_vote() {
        let mut well = stuck(2, Cause::Blackhole, 0);
        well.phase = None;
        let tally = votes(&[stuck(1, Cause::ZeroWindow, 0), well], &[]);
        assert_eq!(tally, Tally::default());
    }

    #[test]
    fn a_probe_that_is_not_answered_fails_now() {
        let mut probing = stuck(1, Cause::Local, 60_000);
        (probing.sample.packets_out, probing.sample.at) = (0, NOW);
        let passes = [(2, 100, 950), (3, 100, 950), (4, 100, 950)];
        assert_eq!(
            vote(&votes(&[probing], &passes), 1),
            Some(Vote::Stalled(Cause::Local))
        );
    }

    #[test]
    fn the_cause_is_that_of_the_most() {
        let tally = votes(
            &[
                stuck(1, Cause::Mtu, 0),
                stuck(2, Cause::Mtu, 0),
                stuck(3, Cause::Blackhole, 0),
            ],
            &[(4, 0, 1)],
        );
        assert_eq!(tally.cause(), Some(Cause::Mtu));
        assert_eq!((tally.stalled().count(), tally.fine().count()), (3, 1));
        let tally = votes(
            &[stuck(1, Cause::Mtu, 0), stuck(2, Cause::Blackhole, 0)],
            &[],
        );
        assert_eq!(
            tally.cause(),
            Some(Cause::Blackhole),
            "of equals the first in the list"
        );
        assert_eq!(votes(&[], &[(4, 0, 1)]).cause(), None);
    }
}

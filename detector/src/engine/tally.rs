//! PURE. One destination, one vote.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    connection::Connection,
    judge::{self, Opinion, Votes},
    onsets::{Onsets, TOGETHER},
    passes::Passes,
    pauses::Excuse,
};
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
/// A stall that is older than this and began alone may be the destination's own affair.
pub const ALONE: Duration = Duration::from_secs(30);
/// What was on its way before does not count as later: this much.
pub const SLACK: Duration = Duration::from_millis(300);
/// Destinations elsewhere that must do well before a site is blamed for itself.
const ELSEWHERE: usize = 3;

/// When destinations last voted "stalled".
pub type Troubled = BTreeMap<Destination, Time>;

/// A destination's vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vote {
    /// Its last word is progress.
    Fine,
    /// Its last word is a stall, for this cause.
    Stalled(Cause),
    /// The same, but only weak witnesses say so: half a vote.
    Weak(Cause),
    /// It is stalled, and that is its own affair: it has no vote.
    Alone,
    /// It is stalled through upstreams that do well, too: it has no vote.
    Elsewhere,
}

/// The votes at one upstream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// By destination; who had nothing to send is not among them.
    pub votes: BTreeMap<Destination, Vote>,
    /// Connections whose destination votes "stalled", beyond the one that the vote stands for.
    pub surplus: u32,
}

impl Tally {
    /// The numbers.
    pub fn numbers(&self) -> Votes {
        let count = |wanted: fn(&Vote) -> bool| self.votes.values().filter(|it| wanted(it)).count();
        let stalled = self.stalled_of(|_, _| true);
        let fine = count(|it| *it == Vote::Fine);
        let without = count(|it| matches!(it, Vote::Alone | Vote::Elsewhere));
        Votes {
            active: number(fine).saturating_add(stalled),
            stalled,
            without: number(without),
        }
    }

    /// Votes "stalled" of some of the destinations, for some causes; two weak ones are one.
    pub fn stalled_of(&self, counts: impl Fn(Destination, Cause) -> bool) -> u32 {
        let (mut stalled, mut weak) = (0, 0);
        for (destination, vote) in &self.votes {
            match *vote {
                Vote::Stalled(cause) if counts(*destination, cause) => stalled += 1,
                Vote::Weak(cause) if counts(*destination, cause) => weak += 1,
                Vote::Stalled(_) | Vote::Weak(_) | Vote::Fine | Vote::Alone | Vote::Elsewhere => {}
            }
        }
        stalled + weak / 2
    }

    /// All that had something to send.
    pub fn destinations(&self) -> u32 {
        number(self.votes.len())
    }

    /// Destinations that vote "stalled".
    pub fn stalled(&self) -> impl Iterator<Item = Destination> {
        self.those(|vote| matches!(vote, Vote::Stalled(_) | Vote::Weak(_)))
    }

    /// Destinations that vote "fine".
    pub fn fine(&self) -> impl Iterator<Item = Destination> {
        self.those(|vote| vote == Vote::Fine)
    }

    fn those(&self, wanted: impl Fn(Vote) -> bool) -> impl Iterator<Item = Destination> {
        self.votes
            .iter()
            .filter(move |(_, vote)| wanted(**vote))
            .map(|(destination, _)| *destination)
    }

    /// How many of the stalled destinations have each cause.
    pub fn causes(&self) -> BTreeMap<Cause, usize> {
        let mut causes = BTreeMap::new();
        for vote in self.votes.values() {
            if let Vote::Stalled(cause) | Vote::Weak(cause) = vote {
                *causes.entry(*cause).or_default() += 1;
            }
        }
        causes
    }

    /// The cause that most of the stalled destinations have; of equals the first in the list of
    /// causes.
    pub fn cause(&self) -> Option<Cause> {
        let causes = self.causes();
        let most = causes.values().copied().max()?;
        causes
            .into_iter()
            .find(|(_, votes)| *votes == most)
            .map(|(cause, _)| cause)
    }

    /// Adds another leg's votes: a destination that is stalled on one of them is stalled.
    pub fn add(&mut self, other: &Self) {
        self.surplus += other.surplus;
        for (destination, vote) in &other.votes {
            let held = self.votes.entry(*destination).or_insert(*vote);
            if rank(*vote) > rank(*held) {
                *held = *vote;
            }
        }
    }
}

/// Which vote prevails where legs differ.
fn rank(vote: Vote) -> u8 {
    match vote {
        Vote::Alone => 0,
        Vote::Elsewhere => 1,
        Vote::Fine => 2,
        Vote::Weak(_) => 3,
        Vote::Stalled(_) => 4,
    }
}

/// All that bears on the votes at one leg of an upstream.
#[derive(Debug, Clone, Copy)]
pub struct Ballot<'a> {
    /// Connections in trouble that count, by destination.
    pub stuck: &'a BTreeMap<Destination, Stuck<'a>>,
    /// What got through.
    pub passes: &'a Passes,
    /// When connections to them last failed that hung and have ended, by destination.
    pub given_up: &'a BTreeMap<Destination, Time>,
    /// When destinations were stalled last.
    pub troubled: &'a Troubled,
    /// When they began to stall.
    pub onsets: &'a Onsets,
    /// Stalls that are known to be their destination's own affair.
    pub affairs: &'a BTreeMap<Destination, Time>,
    /// Destinations to which connections crawl, and why.
    pub crawling: &'a BTreeMap<Destination, Cause>,
    /// The stalls that a pause of the link explains.
    pub excuse: Option<Excuse>,
    /// Destinations that begin to stall per second when nothing is wrong.
    pub rate: f64,
    /// Share of destinations that was usually stalled so far.
    pub learned: f64,
}

/// Destinations that are stalled when each second so many begin to, and nothing is wrong.
pub fn expected(rate: f64) -> f64 {
    rate * ALONE.as_secs_f64()
}

/// Counts the votes.
///
/// For each destination, in order:
/// 1. no connection in trouble: crawling if much was lost lately, fine if data was acknowledged
///    lately, else no vote; what was acknowledged before a connection hung that has ended since says
///    nothing any more: whoever hangs up does not say that all is well
/// 2. it began in a pause of the link that is no longer than they usually are here, and has not
///    failed since that was over: crawling or fine, as above, when others of it have shown since that
///    it is over, else no vote yet
/// 3. it began to stall in an event with others, and connections of its own got through again and
///    again while others of its own failed: stalled; one of several paths behind the router is dead
/// 4. a segment as large as the one that waits got through to it after its last failure: crawling
///    or fine, as above
/// 5. it has had two timeouts only, and segments as large got through to three others since it
///    began: no vote yet; a pause of the link that is over leaves such stalls behind until their next
///    repetition
/// 6. its last failure is old, and of the destinations that were stalled together with it at
///    least three have recovered since, and half as many as wait like it: no vote
/// 7. it has been stalled for half a minute, that began in no event with others, and segments as
///    large got through to others since: its own affair; walked-away peers and dead servers add
///    up otherwise, since each stays for a quarter of an hour
/// 8. otherwise stalled, with the cause of the connection that failed last; half a vote when only
///    orphans say so, and connections on which no data was ever exchanged
///
/// Then, when nobody does well at the site to which most of the stalled belong, and others do, as they
/// always do: its own affair, too.
pub fn tally(ballot: &Ballot<'_>, now: Time) -> Tally {
    let mut tally = Tally::default();
    for destination in ballot.passes.heard_after(now.before(ACTIVE)) {
        let failed = ballot.given_up.get(&destination);
        if failed.is_some_and(|at| !ballot.passes.carried(destination, *at, None)) {
            continue;
        }
        tally
            .votes
            .insert(destination, ballot.progressing(destination));
    }
    let mut stale = Vec::new();
    for (destination, stuck) in ballot.stuck {
        tally.surplus += number(stuck.0.len().saturating_sub(1));
        let Some((vote, newest)) = ballot.vote(*destination, stuck, now) else {
            tally.votes.remove(destination);
            continue;
        };
        tally.votes.insert(*destination, vote);
        if matches!(vote, Vote::Stalled(_) | Vote::Weak(_)) && now.since(newest.failed_at()) > STALE
        {
            stale.push((*destination, newest));
        }
    }
    let waiting = stale.len();
    let overtaken: Vec<_> = stale
        .into_iter()
        .filter(|(_, newest)| {
            let recovered = ballot.recovered_since(newest, &tally);
            recovered >= QUORUM && 2 * recovered >= waiting
        })
        .map(|(destination, _)| destination)
        .collect();
    for destination in overtaken {
        tally.votes.remove(&destination);
    }
    excuse_a_dead_site(&mut tally, ballot);
    tally
}

impl Ballot<'_> {
    /// The vote of a destination that makes progress.
    fn progressing(&self, destination: Destination) -> Vote {
        let crawling = self.crawling.get(&destination);
        crawling.map_or(Vote::Fine, |cause| Vote::Stalled(*cause))
    }

    /// The vote of a destination with connections in trouble, and the one that speaks for it; `None`
    /// while that is open.
    fn vote<'c>(
        &self,
        at: Destination,
        stuck: &Stuck<'c>,
        now: Time,
    ) -> Option<(Vote, &'c Connection)> {
        let explained = |it: &Connection| {
            let failed = it.surely_failed_at();
            self.excuse
                .is_some_and(|excuse| excuse.explains(it.began(), failed))
        };
        let all = stuck;
        let mut stuck = all.without(explained);
        let Some(mut newest) = stuck.newest() else {
            // Others of the destination can show that the pause is over.
            let until = self.excuse?.until();
            let is_over = self.passes.carried(at, until, None);
            return is_over.then(|| self.progressing(at)).zip(all.newest());
        };
        let event = |stuck: &Stuck<'_>| {
            let mut onsets = stuck.onsets().into_iter();
            onsets.any(|it| self.onsets.is_event(it, self.rate))
        };
        let stalled = |stuck: &Stuck<'_>, cause| {
            if stuck.0.iter().all(|it| it.is_weak()) {
                Vote::Weak(cause)
            } else {
                Vote::Stalled(cause)
            }
        };
        if stuck.0.iter().any(|it| it.passed_by) && event(&stuck) {
            return Some((stalled(&stuck, newest.cause), newest));
        }
        let (failed_at, head) = (newest.failed_at(), newest.sample.head);
        let receives = newest.cause == Cause::ReceiveHole;
        if !receives && self.passes.carried(at, failed_at, head) {
            return Some((self.progressing(at), newest));
        }
        let young = stuck.without(|it| !it.may_be_a_pause());
        if let Some(latest) = young.newest()
            && self.passed_elsewhere(at, latest, young.began()) >= ELSEWHERE
        {
            stuck = stuck.without(|it| it.may_be_a_pause());
            newest = stuck.newest()?;
        }
        let settled = self.affairs.contains_key(&at);
        let began = stuck.began();
        let lonely = || now.since(began) > ALONE && self.passed_elsewhere(at, newest, began) > 0;
        let vote = if (settled || lonely()) && !event(&stuck) {
            Vote::Alone
        } else {
            stalled(&stuck, newest.cause)
        };
        Some((vote, newest))
    }

    /// To how many other destinations a segment as large got through since.
    fn passed_elsewhere(&self, at: Destination, stuck: &Connection, began: Time) -> usize {
        let trip = stuck.sample.srtt.unwrap_or_default() * 5 / 4;
        let since = began.after(trip.max(SLACK));
        let others = self.passes.carried_to(since, stuck.sample.head);
        others.filter(|other| *other != at).count()
    }

    /// How many destinations that were stalled together with `stuck` have recovered since it last
    /// failed, with segments as large as the one that it waits for.
    fn recovered_since(&self, stuck: &Connection, tally: &Tally) -> usize {
        let (failed_at, head) = (stuck.failed_at(), stuck.sample.head);
        self.passes
            .carried_to(failed_at, head)
            .filter(|other| tally.votes.get(other) == Some(&Vote::Fine))
            .filter(|other| self.troubled.get(other).copied() >= stuck.waiting_since)
            .count()
    }
}

/// A provider of mail or content that is down takes many destinations along, all of one site.
fn excuse_a_dead_site(tally: &mut Tally, ballot: &Ballot<'_>) {
    let mut sites: BTreeMap<_, u32> = BTreeMap::new();
    for destination in tally.stalled() {
        *sites.entry(destination.site()).or_default() += 1;
    }
    let Some((site, _)) = sites.into_iter().max_by_key(|(_, stalled)| *stalled) else {
        return;
    };
    let (here, others): (Vec<_>, Vec<_>) = tally.fine().partition(|it| it.site() == site);
    let sites: BTreeSet<_> = others.iter().map(|it| it.site()).collect();
    if !here.is_empty() || others.len() < ELSEWHERE || sites.len() < 2 {
        return;
    }
    let stalled = tally.stalled_of(|it, _| it.site() != site);
    let active = number(others.len()).saturating_add(stalled);
    let votes = Votes {
        active,
        stalled,
        without: 0,
    };
    let usual = judge::usual(ballot.learned, expected(ballot.rate), active);
    if judge::opinion(votes, usual, || stalled) == Opinion::Normal {
        for (destination, vote) in &mut tally.votes {
            if destination.site() == site {
                *vote = Vote::Alone;
            }
        }
    }
}

/// The connections of one destination that are in trouble.
#[derive(Debug, Clone, Default)]
pub struct Stuck<'a>(pub Vec<&'a Connection>);

impl<'a> Stuck<'a> {
    /// Those of which that is not so.
    fn without(&self, is: impl Fn(&Connection) -> bool) -> Self {
        Self(self.0.iter().copied().filter(|it| !is(it)).collect())
    }

    /// The one that failed last.
    fn newest(&self) -> Option<&'a Connection> {
        self.0
            .iter()
            .copied()
            .max_by_key(|it| (it.failed_at(), std::cmp::Reverse(it.sample.id)))
    }

    /// Whether all wait for data of the peer.
    pub fn receives(&self) -> bool {
        self.0.iter().all(|it| it.is_receiving())
    }

    /// The longest of their round trips, and a quarter.
    pub fn longest_trip(&self) -> Option<Duration> {
        let trips = self.0.iter().filter_map(|it| it.sample.srtt);
        trips.max().map(|trip| trip * 5 / 4)
    }

    /// When the destination began to stall.
    pub fn began(&self) -> Time {
        let began = self.0.iter().map(|it| it.began());
        began.min().unwrap_or_default()
    }

    /// When connections to it began to stall, oldest first; those that did together once.
    pub fn onsets(&self) -> Vec<Time> {
        let mut onsets: Vec<_> = self.0.iter().map(|it| it.began()).collect();
        onsets.sort_unstable();
        onsets.dedup_by(|later, earlier| later.since(*earlier) <= TOGETHER);
        onsets
    }

    /// Whether a look at one of them would tell more.
    pub fn is_overdue(&self, now: Time) -> bool {
        self.0.iter().any(|it| it.is_overdue(now))
    }

    /// When it was last shown for certain that nothing gets through.
    pub fn surely_failed_at(&self) -> Time {
        let failed = self.0.iter().map(|it| it.surely_failed_at());
        failed.max().unwrap_or_default()
    }
}

fn number(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::{
            leg,
            passes::Pass,
            pauses::Pauses,
            tests::{
                samples,
                world::{NETNS, destination},
            },
        },
        model::{ConnectionId, Phase, Sample, TcpState},
    };

    const NOW: Time = Time(500_000_000_000);

    fn ago(milliseconds: u64) -> Time {
        NOW.before(Duration::from_millis(milliseconds))
    }

    /// A stuck connection that failed last so long ago, with a head of 1000 bytes.
    fn stuck(number: u16, cause: Cause, failed: u64) -> Connection {
        let sample = Sample {
            id: ConnectionId(u64::from(number)),
            at: NOW,
            bytes_acked: 10_001,
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
        let troubled = troubled.clone();
        let facts = Facts {
            troubled,
            ..Facts::default()
        };
        count(connections, passes, &facts)
    }

    /// What else bears on the votes.
    #[derive(Default)]
    struct Facts {
        given_up: BTreeMap<Destination, Time>,
        troubled: Troubled,
        affairs: BTreeMap<Destination, Time>,
        crawling: BTreeMap<Destination, Cause>,
        excuse: Option<Excuse>,
        rate: f64,
    }

    fn count(connections: &[Connection], passes: &[(u16, u64, u32)], facts: &Facts) -> Tally {
        let mut all = Passes::default();
        for (number, milliseconds, at_least) in passes {
            let (at, destination) = (ago(*milliseconds), destination(*number));
            all.add(Pass {
                at,
                after: at,
                destination,
                netns: NETNS,
                at_least: *at_least,
                at_most: 1448,
            });
        }
        let stuck = leg::stuck(connections.iter().filter(|it| it.counts()));
        let mut onsets = Onsets::default();
        let began = stuck.iter().map(|(it, stuck)| (*it, stuck.onsets()));
        onsets.update(began.collect(), NOW);
        let ballot = Ballot {
            stuck: &stuck,
            passes: &all,
            given_up: &facts.given_up,
            troubled: &facts.troubled,
            onsets: &onsets,
            affairs: &facts.affairs,
            crawling: &facts.crawling,
            excuse: facts.excuse,
            rate: facts.rate,
            learned: 0.02,
        };
        tally(&ballot, NOW)
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
    fn rule_1_what_was_before_one_that_was_given_up_says_nothing() {
        let facts = Facts {
            given_up: [1, 2].map(|it| (destination(it), ago(1000))).into(),
            ..Facts::default()
        };
        let tally = count(&[], &[(1, 1000, 1), (2, 999, 1), (3, 5000, 1)], &facts);
        assert_eq!(vote(&tally, 1), None);
        assert_eq!(vote(&tally, 2), Some(Vote::Fine));
        assert_eq!(vote(&tally, 3), Some(Vote::Fine), "another one");
    }

    #[test]
    fn rule_4_fine_when_a_segment_as_large_got_through_after_the_last_failure() {
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
    fn rule_6_no_vote_when_untested_for_long_while_others_came_back() {
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
    fn rule_6_needs_others_that_shared_the_trouble_and_enough_of_them() {
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
    fn rule_8_the_connection_that_failed_last_speaks_for_its_destination() {
        let mut second = stuck(1, Cause::Mtu, 500);
        second.sample.id = ConnectionId(99);
        let tally = votes(&[stuck(1, Cause::Blackhole, 1000), second], &[]);
        assert_eq!(vote(&tally, 1), Some(Vote::Stalled(Cause::Mtu)));
        assert_eq!(tally.surplus, 1);
        assert_eq!(
            tally.numbers(),
            Votes {
                active: 1,
                stalled: 1,
                without: 0,
            }
        );
    }

    /// The same, since so long ago.
    fn since(mut connection: Connection, milliseconds: u64) -> Connection {
        connection.waiting_since = Some(ago(milliseconds));
        connection
    }

    const STALLED: Option<Vote> = Some(Vote::Stalled(Cause::Blackhole));

    #[test]
    fn rule_1_much_lost_lately_is_crawling() {
        let crawling = BTreeMap::from([
            (destination(1), Cause::Loss),
            (destination(2), Cause::ReturnPath),
        ]);
        let facts = Facts {
            crawling,
            ..Facts::default()
        };
        let tally = count(&[], &[(1, 100, 1), (3, 100, 1)], &facts);
        assert_eq!(vote(&tally, 1), Some(Vote::Stalled(Cause::Loss)));
        assert_eq!(vote(&tally, 2), None, "not heard of lately");
        assert_eq!(vote(&tally, 3), Some(Vote::Fine));
        let recovered = [stuck(1, Cause::Blackhole, 1000)];
        let tally = count(&recovered, &[(1, 100, 950)], &facts);
        assert_eq!(vote(&tally, 1), Some(Vote::Stalled(Cause::Loss)));
    }

    #[test]
    fn rule_2_what_a_pause_explains_has_no_vote_until_its_next_repetition() {
        let mut pauses = Pauses::default();
        let usual = Duration::from_secs(4);
        pauses.watch(
            Some(ago(5000)),
            |_| Vec::new(),
            usual,
            Duration::ZERO,
            ago(4000),
        );
        pauses.watch(
            None,
            |_| vec![ago(3000); 3],
            usual,
            Duration::ZERO,
            ago(2900),
        );
        let facts = Facts {
            excuse: pauses.excuse(usual, None, NOW),
            ..Facts::default()
        };
        let of = |began, failed| {
            let mut stuck = since(stuck(1, Cause::Blackhole, failed), began);
            stuck.sample.rto = Duration::from_secs(6);
            vote(&count(&[stuck], &[], &facts), 1)
        };
        assert_eq!(of(5000, 3500), None, "has not tried again");
        assert_eq!(of(5000, 2900), STALLED, "failed again");
        assert_eq!(of(9000, 3500), STALLED, "began before");
        assert_eq!(of(5000, 100), None, "the answer may be on its way");
        let waits = since(stuck(1, Cause::Blackhole, 3500), 5000);
        let with = |passes| vote(&count(std::slice::from_ref(&waits), passes, &facts), 1);
        assert_eq!(with(&[(1, 2900, 1)]), Some(Vote::Fine), "others of it");
        assert_eq!(with(&[(1, 3000, 1)]), None, "not since it is over");
        assert_eq!(with(&[(2, 2900, 1)]), None, "others, not of it");
        let two = [
            since(stuck(1, Cause::Blackhole, 3500), 5000),
            since(stuck(1, Cause::Blackhole, 2900), 5000),
        ];
        assert_eq!(vote(&count(&two, &[], &facts), 1), STALLED);
    }

    #[test]
    fn rule_3_one_of_several_paths() {
        let stuck = |number| since(stuck(number, Cause::Blackhole, 1000), 8000);
        let three = [stuck(1), stuck(2), stuck(3)];
        let of = |connections: &[Connection], passes: &[(u16, u64, u32)]| {
            vote(&votes(connections, passes), 1)
        };
        let after = [(1, 500, 950)];
        assert_eq!(of(&three, &after), Some(Vote::Fine));
        let mut passed_by = three.clone();
        passed_by[0].passed_by = true;
        assert_eq!(of(&passed_by, &after), STALLED);
        assert_eq!(of(&passed_by[..2], &after), Some(Vote::Fine), "no event");
        for stranger in &mut passed_by {
            (stranger.sample.bytes_acked, stranger.sample.bytes_received) = (1, 0);
        }
        let weak = Some(Vote::Weak(Cause::Blackhole));
        assert_eq!(of(&passed_by, &after), weak, "scanners");
    }

    #[test]
    fn rule_5_two_timeouts_may_be_a_pause_that_is_over() {
        let mut young = stuck(1, Cause::Blackhole, 500);
        young = since(young, 1500);
        young.sample.timeouts = 2;
        let of = |young: &Connection, passes: &[(u16, u64, u32)]| {
            vote(&votes(std::slice::from_ref(young), passes), 1)
        };
        let three = [(2, 1100, 950), (3, 1100, 950), (4, 1100, 950)];
        assert_eq!(of(&young, &three), None);
        assert_eq!(of(&young, &three[1..]), STALLED, "two others");
        assert_eq!(of(&young, &three.map(|it| (it.0, it.1, 899))), STALLED);
        let early = three.map(|it| (it.0, 1200, it.2));
        assert_eq!(of(&young, &early), STALLED, "on their way before");
        young.sample.timeouts = 3;
        assert_eq!(of(&young, &three), STALLED, "three timeouts");
        let mut fresh = since(stuck(1, Cause::Blackhole, 149), 1500);
        fresh.sample.timeouts = 3;
        assert_eq!(of(&fresh, &three), None, "the third is on its way");
    }

    #[test]
    fn rule_7_a_stall_that_began_alone_is_its_own_affair() {
        let lonely = since(stuck(1, Cause::Blackhole, 5000), 30_001);
        let of = |connections: &[Connection], passes: &[(u16, u64, u32)]| {
            vote(&votes(connections, passes), 1)
        };
        let elsewhere = [(2, 2000, 950)];
        let one = [lonely.clone()];
        assert_eq!(of(&one, &elsewhere), Some(Vote::Alone));
        assert_eq!(of(&one, &[]), STALLED, "nobody else got through");
        assert_eq!(of(&one, &[(2, 2000, 899)]), STALLED, "nothing as large");
        assert_eq!(of(&one, &[(2, 30_000, 950)]), STALLED, "only at first");
        let young = [since(lonely.clone(), 30_000)];
        assert_eq!(of(&young, &elsewhere), STALLED, "not for long");
        let beside = |number, began| since(stuck(number, Cause::Blackhole, 5000), began);
        let event = [lonely.clone(), beside(3, 31_000), beside(4, 33_001)];
        assert_eq!(of(&event, &elsewhere), STALLED, "three at once");
        let apart = [lonely.clone(), beside(3, 31_000), beside(4, 33_002)];
        assert_eq!(of(&apart, &elsewhere), Some(Vote::Alone));
        let always = Facts {
            rate: 1.0,
            ..Facts::default()
        };
        let busy = count(&event, &elsewhere, &always);
        assert_eq!(vote(&busy, 1), Some(Vote::Alone), "it is always like that");
        let known = Facts {
            affairs: BTreeMap::from([(destination(1), ago(0))]),
            ..Facts::default()
        };
        let settled = count(&one, &[], &known);
        assert_eq!(vote(&settled, 1), Some(Vote::Alone));
        let nothing = Votes {
            without: 1,
            ..Votes::default()
        };
        assert_eq!(settled.numbers(), nothing, "it has no vote");
    }

    #[test]
    fn rule_8_two_destinations_of_orphans_are_worth_one() {
        let orphan = |number| {
            let mut orphan = stuck(number, Cause::Blackhole, 1000);
            orphan.sample.tcp_state = TcpState::LastAck;
            orphan
        };
        let tally = votes(
            &[orphan(1), orphan(2), orphan(3), stuck(4, Cause::Mtu, 9)],
            &[],
        );
        let numbers = Votes {
            active: 2,
            stalled: 2,
            without: 0,
        };
        assert_eq!(tally.numbers(), numbers);
        assert_eq!(vote(&tally, 1), Some(Vote::Weak(Cause::Blackhole)));
        let held = votes(&[orphan(1), stuck(1, Cause::Blackhole, 2000)], &[]);
        assert_eq!(vote(&held, 1), STALLED);
    }

    #[test]
    fn a_site_that_is_down_altogether_is_its_own_affair() {
        let dead: Vec<_> = (256..266)
            .map(|it| stuck(it, Cause::Blackhole, 1000))
            .collect();
        let others = [(1, 100, 950), (2, 100, 950), (513, 100, 950)];
        assert_eq!(votes(&dead, &others).stalled().count(), 0);
        assert_eq!(
            votes(&dead, &others[..2]).stalled().count(),
            10,
            "two others"
        );
        let one_site = [(1, 100, 950), (2, 100, 950), (3, 100, 950)];
        assert_eq!(votes(&dead, &one_site).stalled().count(), 10, "of one site");
        let mut well = others.to_vec();
        well.push((300, 100, 950));
        assert_eq!(
            votes(&dead, &well).stalled().count(),
            10,
            "some there do well"
        );
        let mut beside = dead.clone();
        beside.push(stuck(1024, Cause::Blackhole, 1000));
        let tally = votes(&beside, &others);
        assert_eq!(tally.stalled().count(), 1, "one elsewhere is usual");
        beside.push(stuck(1280, Cause::Blackhole, 1000));
        let tally = votes(&beside, &others);
        assert_eq!(tally.stalled().count(), 12, "two of five are not");
    }

    #[test]
    fn who_is_stalled_on_one_leg_is_stalled() {
        let mut one = votes(&[stuck(1, Cause::Mtu, 9)], &[(2, 100, 1)]);
        let other = votes(
            &[stuck(2, Cause::Blackhole, 9)],
            &[(1, 100, 1), (3, 100, 1)],
        );
        one.add(&other);
        assert_eq!(vote(&one, 1), Some(Vote::Stalled(Cause::Mtu)));
        assert_eq!(vote(&one, 2), STALLED);
        assert_eq!(vote(&one, 3), Some(Vote::Fine));
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

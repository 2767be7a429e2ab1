//! PURE. One destination, one vote.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{connection::Connection, judge::Votes, passes::Passes};
use crate::{
    model::{Cause, Destination},
    time::Time,
};

/// A destination is active when data was acknowledged within this time, or waits.
pub const ACTIVE: Duration = Duration::from_secs(10);
/// A stall that was last tested longer ago than this yields to newer progress elsewhere on the
/// same upstream: after a long outage the timers of stuck connections are minutes apart.
const STALE: Duration = Duration::from_secs(8);
/// Progress at so many other destinations outweighs a stall that was not tested for long.
const QUORUM: usize = 3;

/// A destination's vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vote {
    /// Its last word is progress.
    Fine,
    /// Its last word is a stall, for this cause.
    Stalled(Cause),
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
        Votes { active: count(self.votes.len()), stalled: count(stalled) }
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
        causes.into_iter().find(|(_, votes)| *votes == most).map(|(cause, _)| cause)
    }
}

/// Counts the votes at one upstream.
///
/// For each destination, in order:
/// 1. no connection in trouble: fine if data was acknowledged lately, else no vote
/// 2. a segment as large as the one that waits got through to it after its last failure: fine
/// 3. its last failure is old, and such segments got through to three others since: no vote
/// 4. otherwise stalled, with the cause of the connection that failed last
pub fn tally<'a>(
    connections: impl Iterator<Item = &'a Connection>,
    passes: &Passes,
    now: Time,
) -> Tally {
    let mut stuck: BTreeMap<Destination, Stuck<'_>> = BTreeMap::new();
    for connection in connections.filter(|connection| connection.counts()) {
        let entry = stuck
            .entry(connection.destination)
            .or_insert(Stuck { newest: connection, connections: 0 });
        entry.connections += 1;
        if connection.failed_at() > entry.newest.failed_at() {
            entry.newest = connection;
        }
    }
    let mut tally = Tally::default();
    for pass in passes.after(now.before(ACTIVE)) {
        tally.votes.insert(pass.destination, Vote::Fine);
    }
    for (destination, Stuck { newest, connections }) in stuck {
        let failed_at = newest.failed_at();
        let carried: BTreeSet<_> = passes
            .after(failed_at)
            .iter()
            .filter(|pass| pass.carries(newest.sample.head))
            .map(|pass| pass.destination)
            .collect();
        if carried.contains(&destination) {
            tally.votes.insert(destination, Vote::Fine);
        } else if now.since(failed_at) > STALE && carried.len() >= QUORUM {
            tally.votes.remove(&destination);
        } else {
            tally.votes.insert(destination, Vote::Stalled(newest.cause));
        }
        tally.surplus += connections - 1;
    }
    tally
}

struct Stuck<'a> {
    newest: &'a Connection,
    connections: u32,
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

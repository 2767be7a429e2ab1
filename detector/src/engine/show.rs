//! PURE. What the engine knows, as a snapshot for people.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Engine, Record, attribute,
    connection::Connection,
    is_bad, judge,
    tally::{Tally, Vote},
};
use crate::{
    model::{Cause, Counts, Evidence, Excluded, LOOPBACK, Phase, Snapshot, Stall, State, Upstream},
    time::Time,
};

impl Engine {
    /// The whole judgement at this moment.
    pub fn snapshot(&self, now: Time) -> Snapshot {
        let mut upstreams: BTreeMap<Arc<str>, Upstream> = self
            .upstreams
            .iter()
            .map(|(name, record)| (name.clone(), self.describe(name, record, now)))
            .collect();
        self.add_counts(&mut upstreams, now);
        self.add_troubled(&mut upstreams);
        // Of the right size from the beginning, and sorted in place: in a storm this is what is large.
        let troubled = self.connections.values().filter(|it| it.phase.is_some());
        let mut stalls = Vec::with_capacity(troubled.count());
        stalls.extend(self.connections.values().filter_map(|it| self.stall(it)));
        stalls.sort_unstable_by_key(|stall| (stall.since, stall.sample.id));
        for stall in &stalls {
            if let Some(upstream) = upstreams.get_mut(stall.upstream.as_str()) {
                add_stall(upstream, stall);
            }
        }
        let mut upstreams: Vec<_> = upstreams.into_values().collect();
        upstreams.sort_by(|a, b| (rank(b.state), &a.name).cmp(&(rank(a.state), &b.name)));
        Snapshot {
            at: now,
            state: upstreams.first().map_or(State::Idle, |worst| worst.state),
            scope: upstreams.first().and_then(|worst| worst.scope),
            upstreams,
            stalls,
            interfaces: self.interfaces.clone(),
            swept_at: self.swept_at,
        }
    }

    fn describe(&self, name: &Arc<str>, record: &Record, now: Time) -> Upstream {
        let votes = record.tally.numbers();
        let (elsewhere, fine_elsewhere) = self.counterfactual(name, &record.tally);
        let mut excluded = BTreeMap::new();
        if record.tally.surplus > 0 {
            excluded.insert(Excluded::OneDestination, record.tally.surplus);
        }
        Upstream {
            name: name.to_string(),
            next_hops: BTreeMap::new(),
            state: record.state,
            since: record.since,
            scope: record.scope,
            cause: record.cause,
            confidence: judge::confidence(record.state, votes, record.usual),
            stalled: BTreeMap::new(),
            suspect: BTreeMap::new(),
            active_destinations: record.tally.destinations(),
            stalled_destinations: record.tally.stalled().collect(),
            fine_destinations: record.tally.fine().take(5).collect(),
            excluded,
            elsewhere,
            fine_elsewhere,
            outstanding: 0,
            oldest_stall: None,
            evidence: Evidence {
                baseline: record.usual,
                chance: judge::at_least(votes.stalled, votes.active, record.usual),
                lost: record.lost(now),
                usual_pause: Some(record.baseline.usual_pause()).filter(|it| !it.is_zero()),
                leg: (record.legs.len() >= 2)
                    .then(|| record.broken_leg())
                    .flatten(),
                ..self.sizes(name, record)
            },
            orphans: 0,
        }
    }

    /// Which sizes pass and which wait, where that is the cause.
    fn sizes(&self, name: &Arc<str>, record: &Record) -> Evidence {
        if record.cause != Some(Cause::Mtu) {
            return Evidence::default();
        }
        let waiting = self
            .connections
            .values()
            .filter(|it| it.upstream.as_ref() == Some(name) && it.cause == Cause::Mtu)
            .filter(|it| it.phase.is_some());
        let since = waiting.clone().filter_map(Connection::since).min();
        let smallest_waiting = waiting.filter_map(|it| it.sample.head).min();
        let largest = |since| {
            record
                .legs
                .values()
                .filter_map(move |leg| leg.passes.largest(since))
        };
        let largest_passed = since.and_then(|since| largest(since).max());
        Evidence {
            // What surely passed is a lower bound of several segments and can be one that waits.
            largest_passed: largest_passed.filter(|it| Some(*it) < smallest_waiting),
            smallest_waiting,
            ..Evidence::default()
        }
    }

    /// Of the stalled destinations: how many are in use through others, and how many do well there.
    fn counterfactual(&self, name: &Arc<str>, tally: &Tally) -> (u32, u32) {
        let others: Vec<_> = self
            .upstreams
            .iter()
            .filter(|(other, _)| *other != name)
            .map(|(_, it)| it)
            .collect();
        let mut elsewhere = 0;
        let mut fine = 0;
        for destination in tally.stalled() {
            let votes: Vec<_> = others
                .iter()
                .filter_map(|it| it.tally.votes.get(&destination))
                .collect();
            elsewhere += u32::from(!votes.is_empty());
            fine += u32::from(votes.contains(&&Vote::Fine));
        }
        (elsewhere, fine)
    }

    fn add_counts(&self, upstreams: &mut BTreeMap<Arc<str>, Upstream>, now: Time) {
        for (hop, counts) in &self.counts {
            let Some(hop) = hop.filter(|hop| hop.interface != LOOPBACK) else {
                continue;
            };
            let name = attribute::upstream_of_hop(hop, &self.settings.rules, &self.interfaces);
            let upstream = upstreams
                .entry(name.clone())
                .or_insert_with(|| self.describe(&name, &Record::new(now), now));
            // The kernel counts the ones in trouble where their route leads now, if anywhere.
            let healthy = Counts {
                suspicious: 0,
                ..*counts
            };
            upstream.next_hops.insert(hop, healthy);
            for (reason, count) in [
                (Excluded::Idle, counts.idle),
                (Excluded::Waiting, counts.waiting),
                (Excluded::AppLimited, counts.app_limited),
            ] {
                if count > 0 {
                    *upstream.excluded.entry(reason).or_default() += count;
                }
            }
        }
    }

    /// Counts connections whose timers are behind at the next hop under which that began.
    fn add_troubled(&self, upstreams: &mut BTreeMap<Arc<str>, Upstream>) {
        for connection in self.connections.values().filter(|it| it.is_behind()) {
            let Some(hop) = connection.next_hop else {
                continue;
            };
            let name = connection.upstream.as_ref();
            if let Some(upstream) = name.and_then(|name| upstreams.get_mut(name)) {
                upstream.next_hops.entry(hop).or_default().suspicious += 1;
            }
        }
    }

    fn stall(&self, connection: &Connection) -> Option<Stall> {
        let phase = connection.phase?;
        let upstream = connection
            .upstream
            .as_deref()
            .unwrap_or("unknown")
            .to_owned();
        let record = self.upstreams.get(upstream.as_str());
        let vote = record.and_then(|it| it.tally.votes.get(&connection.destination));
        let held_against = record.is_some_and(|it| is_bad(it.state));
        let excluded = match vote {
            _ if connection.cause == Cause::ZeroWindow => Some(Excluded::ZeroWindow),
            _ if connection.excused.is_some() => connection.excused,
            Some(Vote::Elsewhere) => Some(Excluded::Elsewhere),
            Some(Vote::Stalled(_) | Vote::Weak(_)) if held_against => None,
            _ => Some(Excluded::OneDestination),
        };
        Some(Stall {
            phase,
            cause: connection.cause,
            because: connection.because.to_owned(),
            since: connection.since().unwrap_or(connection.sample.at),
            upstream,
            next_hop: connection.next_hop,
            destination: connection.destination,
            excluded,
            sample: connection.sample.clone(),
        })
    }
}

/// Which state is told first.
fn rank(state: State) -> u8 {
    match state {
        State::Idle => 0,
        State::Ok => 1,
        State::Degraded => 2,
        State::Failing => 3,
    }
}

fn add_stall(upstream: &mut Upstream, stall: &Stall) {
    upstream.orphans += u32::from(stall.sample.is_orphan());
    let reason = stall.excluded;
    if let Some(reason @ (Excluded::Elsewhere | Excluded::Suspended | Excluded::Namespace)) = reason
    {
        *upstream.excluded.entry(reason).or_default() += 1;
    }
    match stall.phase {
        Phase::Suspect => *upstream.suspect.entry(stall.next_hop).or_default() += 1,
        Phase::Stalled => {
            *upstream
                .stalled
                .entry((stall.next_hop, stall.cause))
                .or_default() += 1;
        }
    }
    if stall.cause == Cause::ZeroWindow {
        *upstream.excluded.entry(Excluded::ZeroWindow).or_default() += 1;
        return;
    }
    upstream.outstanding += stall.sample.outstanding();
    if stall.phase == Phase::Stalled {
        let oldest = upstream.oldest_stall.get_or_insert(stall.since);
        *oldest = (*oldest).min(stall.since);
    }
}

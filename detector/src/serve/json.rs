//! Judgement and facts as the JSON that [`crate::api`] promises.
//!
//! **Invariant:** pure; a [`Time`] becomes a wall-clock time here and nowhere else.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use super::{Facts, Filter, stakes, words};
use crate::{
    api,
    model::{
        self, Cause, Check, ConnectionId, NextHop, Phase, Snapshot, State, Transition,
        first_timeout,
    },
    time::Time,
};

const STALLED_DESTINATIONS: usize = 20;
const FINE_DESTINATIONS: usize = 5;

/// The answer to `GET /v1/status`.
pub fn status(snapshot: &Snapshot, facts: &Facts) -> api::Status {
    let mut upstreams: Vec<_> = snapshot
        .upstreams
        .iter()
        .map(|it| upstream(it, snapshot, facts))
        .collect();
    upstreams.sort_by(|a, b| (urgency(a.state), &a.name).cmp(&(urgency(b.state), &b.name)));
    api::Status {
        schema: api::SCHEMA,
        host: facts.host.clone(),
        observed_at: to_millisecond(facts.wall),
        state: snapshot.state,
        scope: snapshot.scope,
        upstreams,
        processes: stakes::processes(snapshot, facts),
        units: stakes::units(snapshot, facts),
        tcp_memory: facts.stakes.tcp.and_then(stakes::memory),
        daemon: daemon(snapshot, facts),
    }
}

/// The answer to `GET /v1/stalls`, oldest first.
pub fn stalls(snapshot: &Snapshot, facts: &Facts, filter: &Filter) -> Vec<api::Stall> {
    snapshot
        .stalls
        .iter()
        .map(|it| stall(it, snapshot, facts))
        .filter(|it| filter.matches(it))
        .take(filter.limit.unwrap_or(usize::MAX))
        .collect()
}

/// The answer to `POST /v1/kill`, oldest first: of what `filter` wants only that which is stalled.
pub fn targets(
    snapshot: &Snapshot,
    facts: &Facts,
    filter: &Filter,
) -> Vec<(ConnectionId, api::Target)> {
    let without = |it: &Check| it.feature == Check::COOKIES && !it.ok;
    let has_cookies = !facts.checks.iter().any(without);
    snapshot
        .stalls
        .iter()
        .filter(|it| it.phase == Phase::Stalled)
        .map(|it| (&it.sample, stall(it, snapshot, facts)))
        .filter(|(_, stall)| filter.matches(stall))
        .take(filter.limit.unwrap_or(usize::MAX))
        .map(|(sample, stall)| {
            let target = api::Target {
                stall,
                cookie: has_cookies.then_some(sample.id.0),
                inode: sample.inode,
                device: sample.device,
            };
            (sample.id, target)
        })
        .collect()
}

/// An event of `GET /v1/events`, for a change of an upstream at `wall`.
pub fn event(transition: &Transition, wall: Timestamp) -> Option<api::Event> {
    match transition {
        Transition::Upstream {
            upstream,
            from,
            to,
            scope,
            cause,
            confidence,
            stuck,
            stalled_destinations,
            active_destinations,
        } => {
            let destinations = api::Destinations {
                active: *active_destinations,
                stalled: *stalled_destinations,
            };
            Some(api::Event {
                at: to_millisecond(wall),
                upstream: upstream.clone(),
                from: *from,
                to: *to,
                scope: *scope,
                cause: *cause,
                confidence: *confidence,
                destinations,
                stuck_connections: *stuck,
                message: words::change(upstream, *from, *to, (*scope, *cause), destinations),
            })
        }
        Transition::StallBegan { .. }
        | Transition::StallEnded { .. }
        | Transition::Timeouts { .. } => None,
    }
}

/// The same to the millisecond: what a reader can use.
pub fn to_millisecond(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
}

fn upstream(upstream: &model::Upstream, snapshot: &Snapshot, facts: &Facts) -> api::Upstream {
    let next_hops: Vec<_> = upstream
        .next_hops
        .keys()
        .map(|it| next_hop(it, snapshot))
        .collect();
    let first = next_hops.first();
    let gate = facts.gates.get(&upstream.name);
    let counts = upstream.counts();
    let mut causes = BTreeMap::new();
    for ((_, cause), count) in &upstream.stalled {
        if *cause != Cause::ZeroWindow {
            *causes.entry(*cause).or_default() += count;
        }
    }
    api::Upstream {
        name: upstream.name.clone(),
        interface: first.map(|it| it.interface.clone()),
        gateway: first.and_then(|it| it.gateway),
        netns: first.map(|it| it.netns),
        underlay: underlay(upstream, snapshot),
        state: upstream.state,
        since: facts.wall_at(snapshot.at, upstream.since),
        scope: upstream.scope,
        cause: upstream.cause,
        confidence: upstream.confidence,
        connections: api::Connections {
            established: counts.established(),
            active: counts.active(),
            suspect: upstream.suspect_connections(),
            stalled: upstream.stalled_connections(),
            handshake: counts.handshakes,
        },
        destinations: api::Destinations {
            active: upstream.active_destinations,
            stalled: number(upstream.stalled_destinations.len()),
        },
        causes,
        excluded: upstream.excluded.clone(),
        counterfactual: api::Counterfactual {
            destinations: upstream.elsewhere,
            fine_elsewhere: upstream.fine_elsewhere,
        },
        outstanding_bytes: upstream.outstanding,
        orphans: upstream.orphans,
        oldest_stall_seconds: upstream.oldest_stall.map(|it| age(snapshot.at, it)),
        stalled_destinations: some(&upstream.stalled_destinations, STALLED_DESTINATIONS),
        fine_destinations: some(&upstream.fine_destinations, FINE_DESTINATIONS),
        evidence: evidence(&upstream.evidence, snapshot),
        orphan_bytes: orphan_bytes(upstream, snapshot),
        gate: gate.map(|it| it.gate),
        gate_opens_seconds: gate.and_then(|it| it.opens).map(seconds),
        next_hops,
    }
}

/// A usual share of nothing at all is none: no judgement has been reached yet.
fn evidence(evidence: &model::Evidence, snapshot: &Snapshot) -> api::Evidence {
    let judged = evidence.baseline > 0.0;
    api::Evidence {
        usually_stalled: judged.then_some(evidence.baseline),
        chance: judged.then_some(evidence.chance),
        lost: evidence.lost,
        largest_passed_bytes: evidence.largest_passed,
        smallest_waiting_bytes: evidence.smallest_waiting,
        leg: evidence.leg.map(|it| next_hop(&it, snapshot)),
        receiving: evidence
            .fell_silent
            .map(|(fell_silent, connections)| api::Receiving {
                connections,
                fell_silent,
            }),
        usual_pause_seconds: evidence.usual_pause.map(|it| it.as_secs_f64()),
    }
}

fn orphan_bytes(upstream: &model::Upstream, snapshot: &Snapshot) -> u64 {
    let of_it = snapshot
        .stalls
        .iter()
        .filter(|it| it.upstream == upstream.name && it.sample.is_orphan());
    of_it.map(|it| it.sample.outstanding()).sum()
}

fn daemon(snapshot: &Snapshot, facts: &Facts) -> api::Daemon {
    api::Daemon {
        version: facts.version.clone(),
        pid: facts.pid,
        started_at: to_millisecond(facts.started_at),
        swept_at: snapshot.swept_at.map(|it| facts.wall_at(snapshot.at, it)),
        sweep_seconds: facts.sweep_seconds,
        sweep_interval_seconds: facts.sweep_interval.as_secs_f64(),
        events_lost: facts.events_lost,
        metrics_address: facts.metrics_address,
    }
}

fn stall(stall: &model::Stall, snapshot: &Snapshot, facts: &Facts) -> api::Stall {
    let sample = &stall.sample;
    let owner = facts.owners.get(&sample.id);
    let ahead = |time: Time| age(time, snapshot.at);
    let gives_up = facts.retries.gives_up(sample, stall.since);
    api::Stall {
        id: sample.id.to_string(),
        netns: sample.netns,
        local: sample.local,
        remote: sample.remote,
        destination: stall.destination,
        tcp_state: sample.tcp_state,
        phase: stall.phase,
        cause: stall.cause,
        because: stall.because.clone(),
        excluded: stall.excluded,
        since: facts.wall_at(snapshot.at, stall.since),
        stalled_seconds: age(snapshot.at, stall.since),
        upstream: stall.upstream.clone(),
        interface: stall.next_hop.map(|it| interface(&it, snapshot)),
        nexthop: stall.next_hop.and_then(|it| it.gateway),
        nexthop_now: sample.next_hop.and_then(|it| it.gateway),
        unacked_bytes: sample.unacked,
        unsent_bytes: sample.unsent,
        head_bytes: sample.head,
        kernel_memory_bytes: sample.memory,
        retransmits: sample.timeouts,
        probes: sample.probes,
        backoff: sample.backoff,
        next_try_seconds: sample.next_try.map(ahead),
        gives_up_seconds: gives_up.map(ahead),
        user_timeout_seconds: sample.user_timeout.map(|it| it.as_secs_f64()),
        first_timeout_seconds: first_timeout(sample, stall.since).map(|it| age(snapshot.at, it)),
        duplicates: sample.duplicates,
        unreachable: sample.unreachable.map(words::unreachable),
        hole: sample.hole,
        acked_bytes: sample.bytes_acked,
        received_bytes: sample.bytes_received,
        last_received_seconds: (sample.bytes_received > 0)
            .then(|| age(snapshot.at, sample.received_at)),
        orphan: sample.is_orphan(),
        rto_seconds: sample.rto.as_secs_f64(),
        srtt_seconds: sample.srtt.map(|it| it.as_secs_f64()),
        mss: sample.mss,
        peer_window_bytes: sample.peer_window,
        last_ack_seconds: age(snapshot.at, sample.acked_at),
        last_sent_seconds: age(snapshot.at, sample.sent_at),
        pid: owner.and_then(|it| it.pid),
        process: owner.and_then(|it| it.process.clone()),
        uid: sample.uid,
        cgroup: owner.and_then(|it| it.cgroup.clone()),
    }
}

/// What carries the tunnel that an upstream's first next hop is.
fn underlay(upstream: &model::Upstream, snapshot: &Snapshot) -> Option<api::Underlay> {
    let first = upstream.next_hops.keys().next()?;
    let interface = snapshot.interfaces.get(&(first.netns, first.interface))?;
    let carrier = interface.underlay?;
    let mut others = snapshot.upstreams.iter();
    let carried = others.find(|it| it.next_hops.contains_key(&carrier));
    Some(api::Underlay {
        next_hop: next_hop(&carrier, snapshot),
        upstream: carried.map(|it| it.name.clone()),
    })
}

fn next_hop(next_hop: &NextHop, snapshot: &Snapshot) -> api::NextHop {
    api::NextHop {
        interface: interface(next_hop, snapshot),
        gateway: next_hop.gateway,
        netns: next_hop.netns,
    }
}

/// Its name; an interface that is gone is known by its index.
pub(super) fn interface(next_hop: &NextHop, snapshot: &Snapshot) -> String {
    match snapshot
        .interfaces
        .get(&(next_hop.netns, next_hop.interface))
    {
        Some(interface) => interface.name.clone(),
        None => format!("if{}", next_hop.interface.0),
    }
}

/// What needs attention first.
pub(crate) fn urgency(state: State) -> u8 {
    match state {
        State::Failing => 0,
        State::Degraded => 1,
        State::Ok => 2,
        State::Idle => 3,
    }
}

fn age(at: Time, since: Time) -> f64 {
    seconds(at.since(since))
}

/// Seconds, to the millisecond.
fn seconds(span: Duration) -> f64 {
    (span.as_secs_f64() * 1000.0).round() / 1000.0
}

fn some<T: Clone>(all: &[T], most: usize) -> Vec<T> {
    all.iter().take(most).cloned().collect()
}

pub(super) fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;

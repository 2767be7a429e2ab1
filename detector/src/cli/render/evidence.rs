//! What speaks for trouble at an upstream, and what against it.
//!
//! **Invariant:** nothing is concluded here; the evidence is retold. What is not known is left out.

use super::{status::elsewhere, story, units, via};
use crate::{
    api,
    model::{Cause, Destination, Scope, State},
    serve::words::{cause, clean, count, stalled},
};

/// Most telling first.
pub(super) fn speaks_for(
    upstream: &api::Upstream,
    status: &api::Status,
    stalls: &[api::Stall],
) -> Vec<String> {
    let mut points = Vec::new();
    points.extend(destinations(upstream));
    points.extend(connections(upstream));
    points.extend(sizes(&upstream.evidence));
    points.extend(losses(&upstream.evidence));
    points.extend(receiving(&upstream.evidence));
    points.extend(leg(&upstream.evidence));
    points.extend(counterfactual(upstream));
    points.extend(carrier(upstream, status));
    let other = elsewhere(upstream, status);
    if upstream.destinations.stalled > 0 && other.active > 0 {
        points.push(format!("other upstreams: {}", stalled(other)));
    }
    points.extend(reports(stalls));
    points.extend(trapped(upstream));
    points.extend(orphans(upstream));
    points
}

/// Most telling first.
pub(super) fn speaks_against(upstream: &api::Upstream, status: &api::Status) -> Vec<String> {
    let mut points = Vec::new();
    points.extend(progress(upstream));
    points.extend(doubts(upstream, status));
    if points.is_empty() {
        points.push("nothing that was seen".to_owned());
    }
    points
}

/// Reasons to look elsewhere than at the upstream.
pub(super) fn doubts(upstream: &api::Upstream, status: &api::Status) -> Vec<String> {
    let mut points = Vec::new();
    points.extend(one_site(upstream));
    let seen = upstream.counterfactual;
    let stuck = seen.destinations.saturating_sub(seen.fine_elsewhere);
    if stuck > 0 {
        points.push(format!(
            "of its stalled destinations, {stuck} make no progress through other upstreams \
             either: the fault may be theirs"
        ));
    }
    if upstream.scope == Some(Scope::Common) {
        points.push(
            "every other upstream that can be judged is bad too: look at this host and at what \
             they share"
                .to_owned(),
        );
    }
    let mut others = status
        .upstreams
        .iter()
        .filter(|it| it.name != upstream.name);
    if others.all(|it| it.state == State::Idle) {
        points.push("no other upstream has enough traffic to compare with".to_owned());
    }
    points
}

/// What carries it, when it is a tunnel, and how that does.
pub(super) fn carrier(upstream: &api::Upstream, status: &api::Status) -> Option<String> {
    let underlay = upstream.underlay.as_ref()?;
    let hop = &underlay.next_hop;
    let way = via(Some(&hop.interface), hop.gateway);
    let Some(name) = &underlay.upstream else {
        return Some(format!(
            "it is a tunnel, carried by {way}: no connection of this host tells how that does"
        ));
    };
    let carrier = status.upstreams.iter().find(|it| it.name == *name)?;
    let does = match carrier.state {
        State::Failing | State::Degraded => "is in trouble itself: look there first",
        State::Ok => {
            "is ok: the trouble is inside the tunnel, at its far end or on the way to that"
        }
        State::Idle => "is idle, so that nobody can tell how it does",
    };
    let name = clean(name);
    Some(format!(
        "it is a tunnel, carried by {name} ({way}), which {does}"
    ))
}

/// How many do well.
pub(super) fn progress(upstream: &api::Upstream) -> Option<String> {
    let fine = upstream
        .destinations
        .active
        .saturating_sub(upstream.destinations.stalled);
    let examples = examples(&upstream.fine_destinations, fine);
    let verb = if fine == 1 { "makes" } else { "make" };
    (fine > 0).then(|| format!("{} {verb} progress: {examples}", count(fine, "destination")))
}

/// Whether all that is in use belongs together at the far end.
fn one_site(upstream: &api::Upstream) -> Option<String> {
    let destinations = upstream.destinations;
    let listed = upstream.stalled_destinations.len() + upstream.fine_destinations.len();
    if destinations.stalled == 0 || (listed as u64) < u64::from(destinations.active) {
        return None;
    }
    let shown = upstream.stalled_destinations.iter();
    let mut sites = shown.chain(&upstream.fine_destinations).map(|it| it.site());
    let site = sites.next()?;
    sites.all(|it| it == site).then(|| {
        format!("all destinations in use belong to one site, {site}: it may be that which is down")
    })
}

/// What share is lost.
pub(super) fn lost(evidence: &api::Evidence) -> Option<String> {
    let lost = evidence.lost?;
    Some(if lost > 0.0 {
        format!("{} segments were lost lately", units::share(lost))
    } else {
        "not a single segment was lost lately".to_owned()
    })
}

/// The same where something is wrong: what hangs counts when it gets through, so that none is no news there.
pub(super) fn losses(evidence: &api::Evidence) -> Option<String> {
    evidence.lost.filter(|share| *share > 0.0)?;
    lost(evidence)
}

/// How long an outage is taken for a pause.
pub(super) fn pauses(evidence: &api::Evidence) -> Option<String> {
    let usual = units::age(evidence.usual_pause_seconds?);
    Some(format!(
        "the link is known to pause: when everything stops at once, that is left out for its first \
         {usual}"
    ))
}

/// How many are stalled anyway.
pub(super) fn usual(evidence: &api::Evidence) -> Option<String> {
    let usual = units::share(evidence.usually_stalled?);
    Some(format!("usually {usual} destinations is stalled here"))
}

fn destinations(upstream: &api::Upstream) -> Option<String> {
    if upstream.destinations.stalled == 0 {
        return None;
    }
    let examples = examples(
        &upstream.stalled_destinations,
        upstream.destinations.stalled,
    );
    let mut text = format!("{}: {examples}", stalled(upstream.destinations));
    if let Some(usual) = usual(&upstream.evidence) {
        text.push_str("; ");
        text.push_str(&usual);
    }
    if let Some(chance) = upstream.evidence.chance {
        // From there on so many are nothing strange, and others spoke.
        if chance < 0.01 {
            text.push_str(&format!(
                "; the chance of so many at once is {}",
                units::share(chance)
            ));
        }
    }
    Some(text)
}

fn connections(upstream: &api::Upstream) -> Option<String> {
    let connections = upstream.connections;
    if connections.stalled + connections.suspect == 0 {
        return None;
    }
    let mut causes: Vec<_> = upstream.causes.iter().collect();
    causes.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let each: Vec<_> = causes
        .into_iter()
        .map(|(reason, count)| format!("{count}: {}", cause(*reason)))
        .collect();
    // A single cause is that of the first sentence.
    let each = match each.as_slice() {
        [] | [_] => String::new(),
        several => format!("; of the stalled, {}", several.join(", ")),
    };
    Some(format!(
        "{} of {} stalled, {} suspect{each}",
        connections.stalled,
        count(connections.active, "active connection"),
        connections.suspect
    ))
}

/// What passes, and what does not.
pub(super) fn sizes(evidence: &api::Evidence) -> Option<String> {
    let passed = evidence.largest_passed_bytes;
    let waiting = evidence.smallest_waiting_bytes;
    match (passed, waiting) {
        (Some(passed), Some(waiting)) => Some(format!(
            "segments with up to {passed} bytes of data got through lately, the smallest that \
             waits has {waiting}: the limit is between them"
        )),
        (None, Some(waiting)) => Some(format!(
            "the smallest segment that waits has {waiting} bytes of data; which size passes is \
             not known"
        )),
        (_, None) => None,
    }
}

fn receiving(evidence: &api::Evidence) -> Option<String> {
    let receiving = evidence.receiving?;
    Some(format!(
        "{} of {} stopped in mid-transfer; that is a weaker view: this host mostly receives there, \
         and cannot tell a peer that pauses from one that is not heard",
        receiving.fell_silent,
        count(receiving.connections, "receiving connection")
    ))
}

/// Which of several next hops it is.
pub(super) fn leg(evidence: &api::Evidence) -> Option<String> {
    let leg = evidence.leg.as_ref()?;
    let place = match leg.gateway {
        Some(gateway) => format!("{gateway} on {}", clean(&leg.interface)),
        None => via(Some(&leg.interface), None),
    };
    Some(format!(
        "the broken leg is {place}; the other next hops of this upstream do well"
    ))
}

/// How its stalled destinations do elsewhere.
pub(super) fn counterfactual(upstream: &api::Upstream) -> Option<String> {
    let seen = upstream.counterfactual;
    let fine = match seen.fine_elsewhere {
        0 => return None,
        1 if seen.destinations == 1 => "it".to_owned(),
        all if all == seen.destinations => "all of them".to_owned(),
        some => format!("{some} of them"),
    };
    let verb = if seen.fine_elsewhere == 1 {
        "makes"
    } else {
        "make"
    };
    Some(format!(
        "of its stalled destinations, {} in use through other upstreams too; {fine} {verb} \
         progress there",
        if seen.destinations == 1 {
            "1 is".to_owned()
        } else {
            format!("{} are", seen.destinations)
        }
    ))
}

/// What routers and peers say of the connections that wait.
pub(super) fn reports(stalls: &[api::Stall]) -> Vec<String> {
    let held = || stalls.iter().filter(|it| it.cause != Cause::ZeroWindow);
    let mut points = Vec::new();
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let duplicates: u32 = held().map(|it| it.duplicates).sum();
    if duplicates > 0 {
        let of = number(held().filter(|it| it.duplicates > 0).count());
        points.push(format!(
            "data arrives: the peers of {} report {}",
            count(of, "stuck connection"),
            count(duplicates, "duplicate")
        ));
    }
    let of = number(held().filter(|it| it.unreachable.is_some()).count());
    if let Some(example) = held().find(|it| it.unreachable.is_some()) {
        let report = story::reports(example).pop().unwrap_or_default();
        points.push(format!("for {}, {report}", count(of, "stuck connection")));
    }
    points
}

fn trapped(upstream: &api::Upstream) -> Option<String> {
    let oldest = upstream.oldest_stall_seconds;
    let oldest = oldest.map_or(String::new(), |it| {
        format!("; the oldest stall is {} old", units::age(it))
    });
    (upstream.outstanding_bytes > 0).then(|| {
        format!(
            "{} trapped{oldest}",
            units::bytes(upstream.outstanding_bytes)
        )
    })
}

fn orphans(upstream: &api::Upstream) -> Option<String> {
    let held = units::bytes(upstream.orphan_bytes);
    match upstream.orphans {
        0 => None,
        1 => Some(format!(
            "1 connection is closed by its program already (an orphan); the kernel still holds \
             {held} of memory for it"
        )),
        several => Some(format!(
            "{several} connections are closed by their programs already (orphans); the kernel \
             still holds {held} of memory for them"
        )),
    }
}

/// A few of `total` destinations.
pub(super) fn examples(destinations: &[Destination], total: u32) -> String {
    const MOST: usize = 5;
    let mut shown: Vec<_> = destinations
        .iter()
        .take(MOST)
        .map(ToString::to_string)
        .collect();
    let more = total.saturating_sub(u32::try_from(shown.len()).unwrap_or(u32::MAX));
    if more > 0 {
        shown.push(format!("{more} more"));
    }
    shown.join(", ")
}

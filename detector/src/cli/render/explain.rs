//! `tcpstall explain`: what a colleague would say who has looked at the numbers.
//!
//! **Invariant:** nothing is concluded here; the evidence is retold.

use super::{
    next,
    stalls::process,
    status::{elsewhere, since, so_far},
    table::{heading, painted},
    units,
};
use crate::{
    api,
    model::{Cause, Destination, Excluded, Scope, State},
    serve::words::{cause, clean, count, stalled},
};

/// Connections that are shown.
const TYPICAL: usize = 3;

/// Why an upstream is said to be what it is.
pub(in crate::cli) fn explain_upstream(
    upstream: &api::Upstream,
    status: &api::Status,
    stalls: &[api::Stall],
) -> String {
    let mut text = painted(&verdict(upstream, status), upstream.state);
    text.push('\n');
    section(
        &mut text,
        "What speaks for trouble",
        &speaks_for(upstream, status),
    );
    section(
        &mut text,
        "What speaks against it",
        &speaks_against(upstream, status),
    );
    section(
        &mut text,
        "What was not held against it",
        &not_counted(upstream),
    );
    section(&mut text, "Typical connections", &typical(stalls));
    section(
        &mut text,
        "What to check next",
        &next_steps(upstream, stalls),
    );
    text
}

/// A heading and its points; nothing without any.
pub(super) fn section(text: &mut String, title: &str, points: &[String]) {
    if points.is_empty() {
        return;
    }
    text.push('\n');
    text.push_str(&heading(title));
    for point in points {
        text.push_str(&format!("  - {point}\n"));
    }
}

/// What is said of an upstream, and how surely.
pub(super) fn verdict(upstream: &api::Upstream, status: &api::Status) -> String {
    let name = clean(&upstream.name);
    let span = since(upstream, status);
    let sure = units::certainty(upstream.confidence);
    let why = upstream
        .cause
        .map_or(String::new(), |it| format!(": {}", cause(it)));
    match upstream.state {
        State::Ok => format!("{name} has been ok for {span} (certainty {sure})."),
        State::Idle => format!("{name} has too little traffic to judge, for {span}."),
        State::Degraded | State::Failing => {
            format!(
                "{name} {} (certainty {sure}){why}.",
                so_far(upstream, status)
            )
        }
    }
}

fn speaks_for(upstream: &api::Upstream, status: &api::Status) -> Vec<String> {
    let connections = upstream.connections;
    let mut points = Vec::new();
    if upstream.destinations.stalled > 0 {
        let examples = examples(
            &upstream.stalled_destinations,
            upstream.destinations.stalled,
        );
        points.push(format!("{}: {examples}", stalled(upstream.destinations)));
    }
    if connections.stalled + connections.suspect > 0 {
        points.push(format!(
            "{} of {} stalled, {} suspect",
            connections.stalled,
            count(connections.active, "active connection"),
            connections.suspect
        ));
    }
    for (reason, number) in by_count(upstream) {
        points.push(format!(
            "{}: {}",
            count(number, "stalled connection"),
            cause(reason)
        ));
    }
    let seen = upstream.counterfactual;
    if seen.fine_elsewhere > 0 {
        points.push(format!(
            "of its stalled destinations, {} in use through other upstreams too; {} of them \
             make progress there",
            seen.destinations, seen.fine_elsewhere
        ));
    }
    let other = elsewhere(upstream, status);
    if upstream.destinations.stalled > 0 && other.active > 0 {
        points.push(format!("other upstreams: {}", stalled(other)));
    }
    if upstream.outstanding_bytes > 0 {
        let oldest = upstream.oldest_stall_seconds;
        let oldest = oldest.map_or(String::new(), |it| {
            format!("; the oldest stall is {} old", units::age(it))
        });
        points.push(format!(
            "{} trapped{oldest}",
            units::bytes(upstream.outstanding_bytes)
        ));
    }
    points
}

fn speaks_against(upstream: &api::Upstream, status: &api::Status) -> Vec<String> {
    let mut points = Vec::new();
    let fine = upstream
        .destinations
        .active
        .saturating_sub(upstream.destinations.stalled);
    if fine > 0 {
        let examples = examples(&upstream.fine_destinations, fine);
        let verb = if fine == 1 { "makes" } else { "make" };
        points.push(format!(
            "{} {verb} progress: {examples}",
            count(fine, "destination")
        ));
    }
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
    let idle = status
        .upstreams
        .iter()
        .filter(|it| it.name != upstream.name);
    let bad = matches!(upstream.state, State::Degraded | State::Failing);
    if bad && idle.clone().all(|it| it.state == State::Idle) {
        points.push("no other upstream has enough traffic to compare with".to_owned());
    }
    points
}

fn not_counted(upstream: &api::Upstream) -> Vec<String> {
    let points = upstream.excluded.iter().filter(|(_, number)| **number > 0);
    points
        .map(|(reason, number)| {
            let why = match reason {
                Excluded::Idle => "nothing outstanding, and the last word was the peer's",
                Excluded::Waiting => "nothing outstanding; the peer has not answered yet",
                Excluded::AppLimited => "everything sent was acknowledged; no more was written",
                Excluded::ZeroWindow => "the peer does not read, which is its own doing",
                Excluded::OneDestination => {
                    "a destination has one vote, however many connections it has"
                }
                Excluded::Elsewhere => {
                    "their destinations are stalled through upstreams that do well, too"
                }
                Excluded::Suspended => "they began to wait before the host was suspended",
            };
            format!("{} ({reason}): {why}", count(*number, "connection"))
        })
        .collect()
}

/// The oldest connection of each cause, then the oldest others; not those whose peer does not read.
fn typical(stalls: &[api::Stall]) -> Vec<String> {
    let mut seen = Vec::new();
    let held = stalls.iter().filter(|it| it.cause != Cause::ZeroWindow);
    let (first, rest): (Vec<_>, Vec<_>) = held.partition(|it| {
        let new = !seen.contains(&it.cause);
        seen.push(it.cause);
        new
    });
    first
        .into_iter()
        .chain(rest)
        .take(TYPICAL)
        .map(line)
        .collect()
}

fn line(stall: &api::Stall) -> String {
    let who = match process(stall).as_str() {
        "-" => String::new(),
        process => format!(" of {process}"),
    };
    format!(
        "{}{who} to {}: {} for {}, {}; {}",
        clean(&stall.id),
        stall.remote,
        stall.phase,
        units::age(stall.stalled_seconds),
        stall.cause,
        clean(&stall.because)
    )
}

fn next_steps(upstream: &api::Upstream, stalls: &[api::Stall]) -> Vec<String> {
    let Some(cause) = upstream.cause else {
        return Vec::new();
    };
    let typical = stalls
        .iter()
        .find(|it| it.cause == cause)
        .or_else(|| stalls.first());
    next::steps(
        cause,
        upstream.interface.as_deref(),
        upstream.gateway,
        typical.map(|it| it.remote.ip()),
    )
}

/// Its causes, the most frequent first.
fn by_count(upstream: &api::Upstream) -> Vec<(Cause, u32)> {
    let mut causes: Vec<_> = upstream
        .causes
        .iter()
        .map(|(cause, count)| (*cause, *count))
        .collect();
    causes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    causes
}

/// A few of `total` destinations.
fn examples(destinations: &[Destination], total: u32) -> String {
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

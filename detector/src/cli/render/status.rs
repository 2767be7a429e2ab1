//! `tcpstall status` and `tcpstall watch`.
//!
//! In the table DESTS and CONNS are how many of those at work are stuck: `31/34`.
//!
//! **Invariant:** the first line alone answers "which, and why".

use comfy_table::Cell;
use jiff::Timestamp;

use super::{
    gate, stakes,
    table::{Column, numbers, painted, state, table, words},
    units, via,
};
use crate::{
    api,
    model::{Cause, Excluded, Scope, State},
    serve::words::{cause, clean, count, stalled},
};

/// A sentence, then a row per upstream.
pub(in crate::cli) fn status(status: &api::Status, wide: bool) -> String {
    let mut text = painted(&sentence(status), status.state);
    text.push('\n');
    let rows: Vec<_> = status
        .upstreams
        .iter()
        .map(|it| row(it, status, wide))
        .collect();
    if !rows.is_empty() {
        text.push('\n');
        text.push_str(&table(&columns(wide), rows));
    }
    if wide {
        let gates = status.upstreams.iter();
        let gates: Vec<_> = gates.filter_map(|it| gate::sentence(it, status)).collect();
        if !gates.is_empty() {
            text.push('\n');
            gates
                .iter()
                .for_each(|it| text.push_str(&format!("{it}\n")));
        }
    }
    let stakes = stakes::lines(status);
    if !stakes.is_empty() {
        text.push('\n');
        stakes
            .iter()
            .for_each(|it| text.push_str(&format!("At stake: {it}.\n")));
    }
    text
}

/// The whole judgement in one sentence.
pub(in crate::cli) fn sentence(status: &api::Status) -> String {
    let bad: Vec<_> = status
        .upstreams
        .iter()
        .filter(|it| is_bad(it.state))
        .collect();
    match bad.as_slice() {
        [] => nothing_bad(status),
        [one] => one_bad(one, status),
        several => several_bad(several, status),
    }
}

/// A warning when the judgement is too old to be relied on.
pub(in crate::cli) fn stale(status: &api::Status, now: Timestamp) -> Option<String> {
    let age = now.duration_since(status.observed_at).as_secs_f64();
    let patience = (3.0 * status.daemon.sweep_interval_seconds).max(60.0);
    (age > patience).then(|| {
        format!(
            "the newest judgement is {} old: the daemon (pid {}) hangs or is overloaded; look at \
             its log and restart it",
            units::age(age),
            status.daemon.pid
        )
    })
}

/// A change of an upstream, as a line.
pub(in crate::cli) fn event(event: &api::Event) -> String {
    format!(
        "{}  {}\n",
        event.at,
        painted(&clean(&event.message), event.to)
    )
}

/// How long it has been in its state: "12.3 s".
pub(in crate::cli) fn since(upstream: &api::Upstream, status: &api::Status) -> String {
    units::age(seconds(upstream, status))
}

fn seconds(upstream: &api::Upstream, status: &api::Status) -> f64 {
    status
        .observed_at
        .duration_since(upstream.since)
        .as_secs_f64()
}

/// "has been failing for 12.3 s".
pub(super) fn so_far(upstream: &api::Upstream, status: &api::Status) -> String {
    match seconds(upstream, status) {
        just if just < 1.0 => format!("is {} as of now", upstream.state),
        seconds => format!("has been {} for {}", upstream.state, units::age(seconds)),
    }
}

/// Destinations of all other upstreams.
pub(super) fn elsewhere(upstream: &api::Upstream, status: &api::Status) -> api::Destinations {
    let mut sum = api::Destinations::default();
    for other in status
        .upstreams
        .iter()
        .filter(|it| it.name != upstream.name)
    {
        sum.active += other.destinations.active;
        sum.stalled += other.destinations.stalled;
    }
    sum
}

fn is_bad(state: State) -> bool {
    match state {
        State::Degraded | State::Failing => true,
        State::Ok | State::Idle => false,
    }
}

fn nothing_bad(status: &api::Status) -> String {
    let ok = number(status, State::Ok);
    let idle = number(status, State::Idle);
    match (ok, idle) {
        (0, 0) => "No upstream has been seen yet.".to_owned(),
        (0, _) => "No upstream has enough traffic to judge.".to_owned(),
        (1, 0) => "The only upstream is ok.".to_owned(),
        (_, 0) => format!("All {ok} upstreams are ok."),
        (1, _) => format!("1 upstream is ok; {idle} with too little traffic to judge."),
        (_, _) => format!("{ok} upstreams are ok; {idle} with too little traffic to judge."),
    }
}

fn one_bad(upstream: &api::Upstream, status: &api::Status) -> String {
    let mut text = format!("{} {}", clean(&upstream.name), so_far(upstream, status));
    if let Some(reason) = upstream.cause {
        text.push_str(": ");
        text.push_str(&cause(reason));
    }
    let other = elsewhere(upstream, status);
    text.push_str("; ");
    text.push_str(&stalled(upstream.destinations));
    if other.active > 0 {
        text.push_str(&format!(
            ", {} of {} elsewhere",
            other.stalled, other.active
        ));
    }
    text.push('.');
    text
}

fn several_bad(bad: &[&api::Upstream], status: &api::Status) -> String {
    const MOST: usize = 5;
    let mut each: Vec<_> = bad.iter().take(MOST).map(|it| briefly(it)).collect();
    if bad.len() > MOST {
        each.push(format!("{} more", bad.len() - MOST));
    }
    let each = each.join(", ");
    if status.scope == Some(Scope::Common) {
        format!(
            "Every upstream that can be judged is bad at once, so look at this host and at what \
             they share: {each}."
        )
    } else {
        format!(
            "{} of {} are bad: {each}.",
            bad.len(),
            count(total(status), "upstream")
        )
    }
}

fn briefly(upstream: &api::Upstream) -> String {
    let reason = upstream
        .cause
        .map_or(String::new(), |it| format!(" ({it})"));
    format!("{} is {}{reason}", clean(&upstream.name), upstream.state)
}

fn total(status: &api::Status) -> u32 {
    u32::try_from(status.upstreams.len()).unwrap_or(u32::MAX)
}

fn number(status: &api::Status, state: State) -> usize {
    status
        .upstreams
        .iter()
        .filter(|it| it.state == state)
        .count()
}

fn columns(wide: bool) -> Vec<Column> {
    let mut columns = vec![
        words("STATE"),
        words("UPSTREAM"),
        words("VIA"),
        words("CAUSE"),
        numbers("DESTS"),
        numbers("CONNS"),
        numbers("TRAPPED"),
        numbers("FOR"),
    ];
    if wide {
        columns.extend([
            numbers("STALLED"),
            numbers("SUSPECT"),
            numbers("OPENING"),
            numbers("ESTABLISHED"),
            numbers("OLDEST"),
            numbers("CERTAINTY"),
            words("CAUSES"),
            words("NOT COUNTED"),
        ]);
    }
    columns
}

fn row(upstream: &api::Upstream, status: &api::Status, wide: bool) -> Vec<Cell> {
    let none = || "-".to_owned();
    let connections = upstream.connections;
    let mut row = vec![
        state(upstream.state),
        Cell::new(clean(&upstream.name)),
        Cell::new(all_via(upstream)),
        Cell::new(upstream.cause.map_or_else(none, |it| it.to_string())),
        Cell::new(format!(
            "{}/{}",
            upstream.destinations.stalled, upstream.destinations.active
        )),
        Cell::new(format!(
            "{}/{}",
            connections.stalled + connections.suspect,
            connections.active
        )),
        Cell::new(units::bytes(upstream.outstanding_bytes)),
        Cell::new(since(upstream, status)),
    ];
    if wide {
        row.extend([
            Cell::new(connections.stalled),
            Cell::new(connections.suspect),
            Cell::new(connections.handshake),
            Cell::new(connections.established),
            Cell::new(upstream.oldest_stall_seconds.map_or_else(none, units::age)),
            Cell::new(units::certainty(upstream.confidence)),
            Cell::new(list(
                upstream.causes.iter().map(|(k, v)| (Cause::word(*k), *v)),
            )),
            Cell::new(list(
                upstream
                    .excluded
                    .iter()
                    .map(|(k, v)| (Excluded::word(*k), *v)),
            )),
        ]);
    }
    row
}

/// The first next hop, and how many more there are.
pub(in crate::cli) fn all_via(upstream: &api::Upstream) -> String {
    let mut text = match upstream.interface.as_deref() {
        Some(interface) => via(Some(interface), upstream.gateway),
        None => "-".to_owned(),
    };
    if let Some(more @ 1..) = upstream.next_hops.len().checked_sub(1) {
        text.push_str(&format!(" +{more}"));
    }
    text
}

fn list<'a>(counts: impl Iterator<Item = (&'a str, u32)>) -> String {
    let counts: Vec<_> = counts
        .map(|(word, count)| format!("{word} {count}"))
        .collect();
    if counts.is_empty() {
        "-".to_owned()
    } else {
        counts.join(", ")
    }
}

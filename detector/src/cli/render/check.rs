//! `tcpstall check`: a line for a monitor.
//!
//! **Invariant:** one line, in the form of monitoring plugins
//! (<https://www.monitoring-plugins.org/doc/guidelines.html>).

use jiff::Timestamp;

use super::{stale, status::since, unknown_upstream};
use crate::{
    api,
    model::{Scope, State},
    serve::words::{cause, clean, stalled},
};

const OK: u8 = 0;
const WARNING: u8 = 1;
const CRITICAL: u8 = 2;
const UNKNOWN: u8 = 3;
/// Upstreams whose performance data is given.
const MOST: usize = 50;

/// Exit code and line for one upstream, or for the worst of all.
///
/// In order; the first that applies wins:
/// 1. no answer, an unknown upstream or an old judgement: UNKNOWN
/// 2. failing: CRITICAL; degraded: WARNING
/// 3. some ok: OK
/// 4. nothing but idle ones, or none at all: UNKNOWN
pub(in crate::cli) fn check(
    status: Result<&api::Status, &String>,
    upstream: Option<&str>,
    now: Timestamp,
) -> (u8, String) {
    let status = match status {
        Ok(status) => status,
        Err(why) => return unknown(why),
    };
    if let Some(why) = stale(status, now) {
        return unknown(&why);
    }
    let chosen: Vec<_> = status
        .upstreams
        .iter()
        .filter(|it| upstream.is_none_or(|name| it.name == name))
        .collect();
    if let (Some(name), []) = (upstream, chosen.as_slice()) {
        return unknown(&unknown_upstream(name, status));
    }
    let (code, word) = if has(&chosen, State::Failing) {
        (CRITICAL, "CRITICAL")
    } else if has(&chosen, State::Degraded) {
        (WARNING, "WARNING")
    } else if has(&chosen, State::Ok) {
        (OK, "OK")
    } else {
        (UNKNOWN, "UNKNOWN")
    };
    let mut line = format!("TCPSTALL {word} - {}", plain(&words(&chosen, status)));
    let data: Vec<_> = chosen.iter().take(MOST).map(|it| performance(it)).collect();
    if !data.is_empty() {
        line.push_str(" | ");
        line.push_str(&data.join(" "));
    }
    line.push('\n');
    (code, line)
}

fn has(chosen: &[&api::Upstream], state: State) -> bool {
    chosen.iter().any(|it| it.state == state)
}

fn unknown(why: &str) -> (u8, String) {
    (
        UNKNOWN,
        format!("TCPSTALL UNKNOWN - {}\n", plain(&clean(why))),
    )
}

/// The bad ones in some detail; else how many of which kind.
fn words(chosen: &[&api::Upstream], status: &api::Status) -> String {
    let bad: Vec<_> = chosen
        .iter()
        .filter(|it| matches!(it.state, State::Degraded | State::Failing))
        .map(|it| detail(it, status))
        .collect();
    match (bad.as_slice(), chosen) {
        ([], []) => "no upstream has been seen yet".to_owned(),
        ([], [one]) => match one.state {
            State::Idle => format!("{}: too little traffic to judge", clean(&one.name)),
            _ => format!("{}: {}", clean(&one.name), stalled(one.destinations)),
        },
        ([], several) => {
            let idle = several.iter().filter(|it| it.state == State::Idle).count();
            match several.len() - idle {
                0 => format!("too little traffic to judge any of {idle} upstreams"),
                ok => format!("{ok} upstreams ok, {idle} idle"),
            }
        }
        (bad, _) => bad.join("; "),
    }
}

fn detail(upstream: &api::Upstream, status: &api::Status) -> String {
    let reason = upstream
        .cause
        .map_or(String::new(), |it| format!(", {}", cause(it)));
    let common = match upstream.scope {
        Some(Scope::Common) => ", like every other upstream",
        _ => "",
    };
    format!(
        "{}: {} for {}{reason}, {}, {} of {} active connections stalled{common}",
        clean(&upstream.name),
        upstream.state,
        since(upstream, status),
        stalled(upstream.destinations),
        upstream.connections.stalled,
        upstream.connections.active,
    )
}

fn performance(upstream: &api::Upstream) -> String {
    let name = label(&upstream.name);
    let connections = upstream.connections;
    let destinations = upstream.destinations;
    format!(
        "'{name}_stalled'={};;;0 '{name}_suspect'={};;;0 '{name}_active'={};;;0 \
         '{name}_stalled_destinations'={};;;0;{} '{name}_outstanding'={}B;;;0",
        connections.stalled,
        connections.suspect,
        connections.active,
        destinations.stalled,
        destinations.active,
        upstream.outstanding_bytes,
    )
}

/// A label may hold neither `=` nor `'`.
fn label(name: &str) -> String {
    clean(name).replace(['=', '\'', '|'], "_")
}

/// A `|` would begin the performance data.
fn plain(text: &str) -> String {
    text.replace('|', "/")
}

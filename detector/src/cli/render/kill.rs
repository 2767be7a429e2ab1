//! `tcpstall kill`: what would be reset, and what became of it.
//!
//! **Invariant:** every connection is in the sum once.

use std::collections::BTreeMap;

use comfy_table::Cell;

use super::table::{table, words};
use crate::{act::Done, model::Fate, serve::words::clean};

/// What `--yes` would do to so many connections.
pub(in crate::cli) fn would_kill(count: usize) -> String {
    match count {
        0 => NOTHING.to_owned(),
        1 => "Nothing was done: with --yes, as root, this connection is reset.".to_owned(),
        _ => format!("Nothing was done: with --yes, as root, these {count} connections are reset."),
    }
}

const NOTHING: &str = "No connection that fits the filters is stalled: there is nothing to reset.";

/// What became of all of them, in one line.
pub(in crate::cli) fn killed(done: &[Done]) -> String {
    if done.is_empty() {
        return NOTHING.to_owned();
    }
    let count = |fate| done.iter().filter(|it| it.outcome == fate).count();
    let reset = count(Fate::Reset);
    let connections = if reset == 1 {
        "connection"
    } else {
        "connections"
    };
    let mut parts = vec![format!("{reset} {connections} reset")];
    let (recovered, gone, refused) = (
        count(Fate::Recovered),
        count(Fate::Gone),
        count(Fate::Refused),
    );
    if recovered > 0 {
        parts.push(format!(
            "{recovered} had recovered and {} left alone",
            was(recovered)
        ));
    }
    if gone > 0 {
        parts.push(format!("{gone} had ended already"));
    }
    if refused > 0 {
        parts.push(format!("{refused} could not be reset"));
    }
    parts.join("; ") + "."
}

fn was(count: usize) -> &'static str {
    if count == 1 { "was" } else { "were" }
}

/// Why some could not be reset: a line for each reason, the most frequent first.
pub(in crate::cli) fn refusals(done: &[Done]) -> Vec<String> {
    let mut reasons: BTreeMap<&str, u32> = BTreeMap::new();
    for done in done.iter().filter(|it| it.outcome == Fate::Refused) {
        *reasons
            .entry(done.because.as_deref().unwrap_or("unknown"))
            .or_default() += 1;
    }
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    reasons
        .into_iter()
        .map(|(because, count)| format!("{count} not reset: {}", clean(because)))
        .collect()
}

/// A row per connection.
pub(in crate::cli) fn wide_killed(done: &[Done]) -> String {
    let columns = [
        words("ID"),
        words("LOCAL"),
        words("REMOTE"),
        words("PROCESS"),
        words("OUTCOME"),
        words("BECAUSE"),
    ];
    let none = || "-".to_owned();
    let row = |done: &Done| {
        vec![
            Cell::new(clean(&done.id)),
            Cell::new(done.local),
            Cell::new(done.remote),
            Cell::new(done.process.as_deref().map_or_else(none, clean)),
            Cell::new(done.outcome),
            Cell::new(done.because.as_deref().map_or_else(none, clean)),
        ]
    };
    table(&columns, done.iter().map(row).collect())
}

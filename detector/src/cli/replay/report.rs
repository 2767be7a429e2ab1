//! A replay as JSON and in one sentence: what `tcpstall replay -o json` prints.
//!
//! **Invariant:** plain data, a public promise. Fields are added, never renamed or dropped.

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    api,
    record::{Replay, Row, Verdict, Word},
    serve::{
        json::to_millisecond,
        words::{clean, count},
    },
    time::Time,
};

/// Differences that the sentence names.
const NAMED: usize = 3;

/// A replay, as JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(in crate::cli) struct Report {
    /// Version of this JSON.
    pub(in crate::cli) schema: u32,
    /// The sentence.
    pub(in crate::cli) summary: String,
    /// Name of the host that was recorded.
    pub(in crate::cli) host: String,
    /// Version of the daemon that was recorded.
    pub(in crate::cli) version: String,
    /// Release of its kernel.
    pub(in crate::cli) kernel: String,
    /// The wall clock when the recording began.
    pub(in crate::cli) started_at: Timestamp,
    /// From the first line to the last.
    pub(in crate::cli) seconds: f64,
    /// Inputs that were read.
    pub(in crate::cli) inputs: u64,
    /// It was read to its end.
    pub(in crate::cli) complete: bool,
    /// Why the recording ended; `null` when it was cut off.
    pub(in crate::cli) end: Option<String>,
    /// Verdicts that differ.
    pub(in crate::cli) differences: u32,
    /// Stalls of single connections that began.
    pub(in crate::cli) stalls: Both<u64>,
    /// Verdicts side by side, in the order of time.
    pub(in crate::cli) verdicts: Vec<Entry>,
}

/// The same thing as recorded and as reached now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Both<T> {
    /// As recorded.
    pub(in crate::cli) recorded: T,
    /// In the replay.
    pub(in crate::cli) now: T,
}

/// A row of [`Report::verdicts`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(in crate::cli) struct Entry {
    /// Upstream.
    pub(in crate::cli) upstream: String,
    /// Both sides say the same at the same time.
    pub(in crate::cli) same: bool,
    /// As recorded.
    pub(in crate::cli) recorded: Option<Said>,
    /// As reached now.
    pub(in crate::cli) now: Option<Said>,
}

/// A verdict.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(in crate::cli) struct Said {
    /// When, as the clock of the host was.
    pub(in crate::cli) at: Timestamp,
    /// The same since the recording began.
    pub(in crate::cli) seconds: f64,
    /// What.
    #[serde(flatten)]
    pub(in crate::cli) word: Word,
}

impl Report {
    /// What is shown of `replay`.
    pub(in crate::cli) fn of(replay: &Replay) -> Self {
        let header = &replay.header;
        let seconds = |at: Time| at.since(header.at).as_secs_f64();
        let said = |verdict: &Verdict| Said {
            at: to_millisecond(header.wall_at(verdict.at)),
            seconds: seconds(verdict.at),
            word: verdict.word,
        };
        let verdicts = replay.rows.iter().map(|row| Entry {
            upstream: row.upstream().to_owned(),
            same: row.same(),
            recorded: row.recorded.as_ref().map(said),
            now: row.now.as_ref().map(said),
        });
        Self {
            schema: api::SCHEMA,
            summary: summary(replay),
            host: header.host.clone(),
            version: header.version.clone(),
            kernel: header.kernel.clone(),
            started_at: header.started_at,
            seconds: replay.lasted.as_secs_f64(),
            inputs: replay.inputs,
            complete: replay.broken.is_none(),
            end: replay.end.as_ref().map(|end| end.reason.clone()),
            differences: differing(replay),
            stalls: Both {
                recorded: replay.stalls.recorded,
                now: replay.stalls.now,
            },
            verdicts: verdicts.collect(),
        }
    }
}

fn differing(replay: &Replay) -> u32 {
    let rows = replay.rows.iter().filter(|row| !row.same()).count();
    u32::try_from(rows).unwrap_or(u32::MAX)
}

/// The replay in one sentence: "the same 4 verdicts", "2 of 4 verdicts differ: …".
fn summary(replay: &Replay) -> String {
    let rows = u32::try_from(replay.rows.len()).unwrap_or(u32::MAX);
    let differ = differing(replay);
    let mut text = match (rows, differ) {
        (0, _) => "no verdict, then or now".to_owned(),
        (1, 0) => "the same verdict".to_owned(),
        (_, 0) => format!("the same {}", count(rows, "verdict")),
        _ => {
            let verb = if differ == 1 { "differs" } else { "differ" };
            format!(
                "{differ} of {} {verb}: {}",
                count(rows, "verdict"),
                named(replay, differ)
            )
        }
    };
    let stalls = replay.stalls;
    if stalls.recorded != stalls.now {
        text.push_str(&format!(
            "; {} of single connections instead of {}",
            count(u32::try_from(stalls.now).unwrap_or(u32::MAX), "stall"),
            stalls.recorded
        ));
    } else if differ == 0 && !replay.identical {
        text.push_str("; single connections or figures differ");
    }
    text.push('.');
    text
}

fn named(replay: &Replay, differ: u32) -> String {
    let rows = replay.rows.iter().filter(|row| !row.same());
    let mut named: Vec<_> = rows
        .take(NAMED)
        .map(|row| difference(replay, row))
        .collect();
    let rest = differ as usize - named.len();
    if rest > 0 {
        named.push(format!("and {rest} more"));
    }
    named.join(", ")
}

fn difference(replay: &Replay, row: &Row) -> String {
    let upstream = clean(row.upstream());
    let at = row.at().since(replay.header.at).as_secs_f64();
    match (&row.recorded, &row.now) {
        (Some(then), Some(now)) if then.word == now.word => {
            let apart = now
                .at
                .since(then.at)
                .max(then.at.since(now.at))
                .as_secs_f64();
            let way = if now.at > then.at { "later" } else { "sooner" };
            format!("{upstream} is {} {apart:.1} s {way}", now.word)
        }
        (Some(then), Some(now)) => {
            format!(
                "{upstream} is {} instead of {} at {at:.1} s",
                now.word, then.word
            )
        }
        (Some(then), None) => format!("{upstream} is not {} at {at:.1} s", then.word),
        (None, Some(now)) => format!("{upstream} is {} at {at:.1} s only now", now.word),
        (None, None) => upstream,
    }
}

#[cfg(test)]
pub(in crate::cli) mod tests;

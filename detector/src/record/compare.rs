//! Two series of verdicts, side by side.
//!
//! **Invariant:** pure; each verdict stands in exactly one row.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
};

use serde::Serialize;

use crate::{
    model::{Cause, Scope, State, Transition},
    time::Time,
};

/// How far ahead a verdict is looked for that the other side reaches later.
const AHEAD: usize = 8;

/// An upstream entered a state, scope or cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// When.
    pub at: Time,
    /// Upstream.
    pub upstream: String,
    /// What is said of it.
    pub word: Word,
}

/// What is said of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Word {
    /// State.
    pub state: State,
    /// How far it reaches.
    pub scope: Option<Scope>,
    /// Why.
    pub cause: Option<Cause>,
}

/// A verdict as recorded, and the one that is reached now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// As recorded.
    pub recorded: Option<Verdict>,
    /// As reached now.
    pub now: Option<Verdict>,
}

impl Verdict {
    /// The verdict in `said`, if it is one.
    pub(super) fn of(at: Time, said: &Transition) -> Option<Self> {
        match said {
            Transition::Upstream {
                upstream,
                to,
                scope,
                cause,
                ..
            } => Some(Self {
                at,
                upstream: upstream.clone(),
                word: Word {
                    state: *to,
                    scope: *scope,
                    cause: *cause,
                },
            }),
            Transition::StallBegan { .. }
            | Transition::StallEnded { .. }
            | Transition::Timeouts { .. } => None,
        }
    }
}

impl Row {
    /// Both sides say the same at the same time.
    pub fn same(&self) -> bool {
        self.recorded == self.now
    }

    /// The first of both.
    fn first(&self) -> Option<&Verdict> {
        let both = self.recorded.iter().chain(&self.now);
        both.min_by_key(|it| it.at)
    }

    /// When the first of both was reached.
    pub fn at(&self) -> Time {
        self.first().map_or(Time::default(), |it| it.at)
    }

    /// Its upstream.
    pub fn upstream(&self) -> &str {
        self.first().map_or("", |it| &it.upstream)
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state.fmt(f)?;
        match (self.cause, self.scope) {
            (Some(cause), Some(Scope::Common)) => write!(f, " ({cause}, common)"),
            (Some(cause), _) => write!(f, " ({cause})"),
            (None, Some(Scope::Common)) => write!(f, " (common)"),
            (None, _) => Ok(()),
        }
    }
}

/// Both series as rows, in the order of time.
///
/// For each upstream, in order:
/// 1. both sides say the same next, at whatever time: one row
/// 2. one side says sooner or later what the other says next: what comes before stands alone
/// 3. both say something else at the same time: one row
/// 4. else the earlier one stands alone
pub(super) fn rows(recorded: Vec<Verdict>, now: Vec<Verdict>) -> Vec<Row> {
    let mut upstreams: BTreeMap<String, [VecDeque<Verdict>; 2]> = BTreeMap::new();
    for (side, verdicts) in [recorded, now].into_iter().enumerate() {
        for verdict in verdicts {
            let sides = upstreams.entry(verdict.upstream.clone()).or_default();
            sides[side].push_back(verdict);
        }
    }
    let mut rows: Vec<_> = upstreams
        .into_values()
        .flat_map(|[recorded, now]| align(recorded, now))
        .collect();
    // Stable: rows of one moment stay ordered by upstream.
    rows.sort_by_key(Row::at);
    rows
}

fn align(mut recorded: VecDeque<Verdict>, mut now: VecDeque<Verdict>) -> Vec<Row> {
    let mut rows = Vec::new();
    while !recorded.is_empty() || !now.is_empty() {
        let (before, after, met) = match meeting(&recorded, &now) {
            Some((before, after)) => (before, after, 1),
            // Nothing in sight.
            None => (recorded.len().min(AHEAD), now.len().min(AHEAD), 0),
        };
        alone(&mut rows, recorded.drain(..before), now.drain(..after));
        let pairs = recorded.drain(..met).zip(now.drain(..met));
        rows.extend(pairs.map(|(recorded, now)| Row {
            recorded: Some(recorded),
            now: Some(now),
        }));
    }
    rows
}

/// How many verdicts on each side come before the next one that both have.
fn meeting(recorded: &VecDeque<Verdict>, now: &VecDeque<Verdict>) -> Option<(usize, usize)> {
    let meets = |(before, after): &(usize, usize)| match (recorded.get(*before), now.get(*after)) {
        (Some(one), Some(other)) => one.word == other.word,
        _ => false,
    };
    let mut steps = (0..=AHEAD).flat_map(|sum| (0..=sum).map(move |it| (it, sum - it)));
    steps.find(meets)
}

/// Verdicts that have no like on the other side; those of one moment share a row.
fn alone(
    rows: &mut Vec<Row>,
    recorded: impl Iterator<Item = Verdict>,
    now: impl Iterator<Item = Verdict>,
) {
    let (mut recorded, mut now) = (recorded.peekable(), now.peekable());
    loop {
        let (one, other) = (recorded.peek().map(|it| it.at), now.peek().map(|it| it.at));
        let row = match (one, other) {
            (None, None) => return,
            (Some(one), Some(other)) if one == other => Row {
                recorded: recorded.next(),
                now: now.next(),
            },
            (Some(one), other) if other.is_none_or(|other| one < other) => Row {
                recorded: recorded.next(),
                now: None,
            },
            _ => Row {
                recorded: None,
                now: now.next(),
            },
        };
        rows.push(row);
    }
}

#[cfg(test)]
mod tests;

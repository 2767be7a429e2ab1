//! PURE. What is written down of incidents, a line each, and how lines become incidents again.
//!
//! **Invariant:** a line says all that is known of its incident by then, save for evidence that an
//! earlier line has brought: the newest line counts, and one that comes twice changes nothing.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::api::Incident;

/// Why a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An upstream became bad.
    Begin,
    /// Its state, scope or cause changed, it came back, or it is only said that it lasts.
    Change,
    /// What was seen so far.
    Evidence,
    /// The all-clear.
    End,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Why it is written.
    pub record: Kind,
    /// When this was true.
    pub at: Timestamp,
    /// The incident by then.
    pub incident: Incident,
}

impl Line {
    /// With everything that was seen.
    pub(super) fn full(record: Kind, at: Timestamp, incident: &Incident) -> Self {
        Self {
            record,
            at,
            incident: incident.clone(),
        }
    }

    /// Without the evidence, which is long.
    pub(super) fn brief(record: Kind, at: Timestamp, incident: &Incident) -> Self {
        let mut line = Self::full(record, at, incident);
        let it = &mut line.incident;
        it.causes.clear();
        it.timeline.clear();
        it.changes.clear();
        it.destinations.clear();
        it.processes.clear();
        it.marks.clear();
        line
    }

    /// The same with the evidence of an `earlier` line, when it has none of its own.
    pub fn on_top_of(mut self, earlier: &Self) -> Self {
        let (new, old) = (&mut self.incident, &earlier.incident);
        // Evidence begins with a point, so that one without any is left out and not empty.
        if new.timeline.is_empty() {
            new.causes.clone_from(&old.causes);
            new.timeline.clone_from(&old.timeline);
            new.changes.clone_from(&old.changes);
            new.destinations.clone_from(&old.destinations);
            new.processes.clone_from(&old.processes);
            new.marks.clone_from(&old.marks);
        }
        self
    }
}

/// What earlier lines tell.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Past(BTreeMap<String, Line>);

impl Past {
    /// Takes the next line in.
    pub fn take(&mut self, line: Line) {
        let line = match self.0.get(&line.incident.id) {
            Some(earlier) => line.on_top_of(earlier),
            None => line,
        };
        self.0.insert(line.incident.id.clone(), line);
    }

    /// Forgets the oldest that have ended, until there are no more than `most`.
    pub fn keep(&mut self, most: usize) {
        let mut ended: Vec<_> = self
            .0
            .values()
            .filter(|line| line.incident.ended_at.is_some())
            .map(|line| (line.incident.started_at, line.incident.id.clone()))
            .collect();
        ended.sort();
        let excess = self.0.len().saturating_sub(most);
        for (_, id) in ended.into_iter().take(excess) {
            self.0.remove(&id);
        }
    }

    /// The newest line of each incident that has not ended.
    pub fn open(&self) -> impl Iterator<Item = &Line> {
        let lines = self.0.values();
        lines.filter(|line| line.incident.ended_at.is_none())
    }

    /// The newest line of each incident, the incident that began first first.
    pub fn into_lines(self) -> Vec<Line> {
        let mut lines: Vec<_> = self.0.into_values().collect();
        lines.sort_by(|a, b| {
            let key = |line: &Line| (line.incident.started_at, line.incident.id.clone());
            key(a).cmp(&key(b))
        });
        lines
    }
}

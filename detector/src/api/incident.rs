//! Incidents, as `GET /v1/incidents` tells them and `incidents.jsonl` keeps them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{Cause, Destination, Scope, State};

/// One stay of an upstream outside `ok` and `idle`, with what was seen meanwhile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Identity, such as `i-7f3a9c01`; stays the same across restarts.
    pub id: String,
    /// Upstream.
    pub upstream: String,
    /// The worst state that it was in.
    pub state: State,
    /// How far the trouble reached, as last seen.
    pub scope: Option<Scope>,
    /// Why, as last seen.
    pub cause: Option<Cause>,
    /// When it began.
    pub started_at: Timestamp,
    /// The last all-clear; `null` while it lasts.
    pub ended_at: Option<Timestamp>,
    /// From the beginning to the end, or until now.
    pub duration_seconds: f64,
    /// Times that it came back within a minute of the all-clear.
    pub relapses: u32,
    /// Most connections stalled at once.
    pub peak_stalled_connections: u32,
    /// Most destinations stalled at once.
    pub peak_stalled_destinations: u32,
    /// Most bytes trapped in stalled connections at once.
    pub peak_outstanding_bytes: u64,
    /// What must be known to read the rest, such as that the daemon was away.
    pub note: Option<String>,
    /// Most connections stalled at once, by cause.
    #[serde(default)]
    pub causes: BTreeMap<Cause, u32>,
    /// Counts over time, at most 120 points.
    #[serde(default)]
    pub timeline: Vec<Point>,
    /// States, scopes and causes in the order in which they came, at most 50.
    #[serde(default)]
    pub changes: Vec<Change>,
    /// Up to 20 destinations with the most connections stuck.
    #[serde(default)]
    pub destinations: Vec<StuckDestination>,
    /// Up to 10 processes with the most connections stuck.
    #[serde(default)]
    pub processes: Vec<StuckProcess>,
    /// What else happened on this host, from a minute before; at most 50.
    #[serde(default)]
    pub marks: Vec<Mark>,
    /// Marks that found no room.
    #[serde(default)]
    pub marks_omitted: u32,
}

/// Counts of an upstream at one moment of an [`Incident`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// When.
    pub at: Timestamp,
    /// Connections without progress for `stall_after`.
    pub stalled_connections: u32,
    /// Connections with two or more timeouts without progress.
    pub suspect_connections: u32,
    /// Destinations whose last word is a stall.
    pub stalled_destinations: u32,
    /// Destinations that something was sent to.
    pub active_destinations: u32,
}

/// An upstream entered another state, scope or cause during an [`Incident`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// When.
    pub at: Timestamp,
    /// State.
    pub state: State,
    /// How far the trouble reaches.
    pub scope: Option<Scope>,
    /// Why.
    pub cause: Option<Cause>,
}

/// A destination during an [`Incident`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StuckDestination {
    /// The prefix that has the vote.
    pub destination: Destination,
    /// Most connections to it suspect or stalled at once.
    pub stuck_connections: u32,
}

/// A process during an [`Incident`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StuckProcess {
    /// Its name.
    pub process: String,
    /// Most connections of processes of that name suspect or stalled at once.
    pub stuck_connections: u32,
}

/// Something else that happened on this host: a link, a neighbour or a route changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// When.
    pub at: Timestamp,
    /// What, in a few words.
    pub what: String,
}

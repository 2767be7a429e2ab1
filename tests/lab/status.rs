//! The detector's answers as its users read them.
//!
//! Written from the published description and not shared with the detector: a renamed field or
//! word shows here as a failure.

use std::collections::BTreeMap;

use serde::Deserialize;

/// `tcpstall status -o json`.
#[derive(Debug, Clone, Deserialize)]
pub struct Status {
    /// The worst of the upstreams.
    pub state: String,
    /// How far the worst trouble reaches.
    pub scope: Option<String>,
    /// Upstreams, worst first.
    pub upstreams: Vec<Upstream>,
    /// Processes that hold stuck connections.
    #[serde(default)]
    pub processes: Vec<Process>,
    /// Control groups whose processes do.
    #[serde(default)]
    pub units: Vec<Unit>,
    /// The daemon itself.
    pub daemon: Daemon,
}

/// A process that holds stuck connections.
#[derive(Debug, Clone, Deserialize)]
pub struct Process {
    /// Process.
    pub pid: u32,
    /// Stalled and suspect connections.
    pub stuck_connections: u32,
    /// Kernel memory that they hold.
    pub kernel_memory_bytes: u64,
    /// Descriptors.
    pub open_descriptors: Option<u32>,
    /// At most.
    pub descriptor_limit: Option<u32>,
    /// Until there is none left.
    pub descriptors_run_out_seconds: Option<f64>,
}

/// A control group whose processes hold stuck connections.
#[derive(Debug, Clone, Deserialize)]
pub struct Unit {
    /// The group.
    pub cgroup: String,
    /// Kernel memory of these connections.
    pub kernel_memory_bytes: u64,
    /// Memory of the group, where it is limited.
    pub memory: Option<Memory>,
}

/// Memory that has a limit.
#[derive(Debug, Clone, Deserialize)]
pub struct Memory {
    /// In use.
    pub used_bytes: u64,
    /// At most.
    pub limit_bytes: u64,
    /// Until there is none left.
    pub run_out_seconds: Option<f64>,
}

impl Status {
    /// The upstream of that name.
    pub fn upstream(&self, name: &str) -> Option<&Upstream> {
        self.upstreams.iter().find(|upstream| upstream.name == name)
    }

    /// State of the upstream of that name; `absent` when it is not listed.
    pub fn state_of(&self, name: &str) -> &str {
        self.upstream(name)
            .map_or("absent", |upstream| &upstream.state)
    }

    /// Cause given for the upstream of that name.
    pub fn cause_of(&self, name: &str) -> Option<&str> {
        self.upstream(name)?.cause.as_deref()
    }

    /// Whether that upstream is said to be `failing` with that cause.
    pub fn is_failing(&self, name: &str, cause: &str) -> bool {
        self.state_of(name) == "failing" && self.cause_of(name) == Some(cause)
    }

    /// One line: every upstream with state, cause and numbers.
    pub fn summary(&self) -> String {
        let one = |it: &Upstream| {
            format!(
                "{} {}{} ({}/{} destinations, {}+{} of {} connections, {:?})",
                it.name,
                it.state,
                it.cause
                    .as_ref()
                    .map(|cause| format!(" {cause}"))
                    .unwrap_or_default(),
                it.destinations.stalled,
                it.destinations.active,
                it.connections.suspect,
                it.connections.stalled,
                it.connections.established,
                it.excluded,
            )
        };
        self.upstreams
            .iter()
            .map(one)
            .collect::<Vec<_>>()
            .join("; ")
    }
}

/// An upstream of [`Status`].
#[derive(Debug, Clone, Deserialize)]
pub struct Upstream {
    /// Name.
    pub name: String,
    /// Interface.
    pub interface: Option<String>,
    /// Gateway.
    pub gateway: Option<String>,
    /// What carries it.
    pub underlay: Option<Underlay>,
    /// State.
    pub state: String,
    /// How far the trouble reaches.
    pub scope: Option<String>,
    /// Why.
    pub cause: Option<String>,
    /// Certainty.
    pub confidence: f64,
    /// Connections.
    pub connections: Connections,
    /// Destinations.
    pub destinations: Destinations,
    /// Stalled connections by cause.
    pub causes: BTreeMap<String, u32>,
    /// Connections not held against it, by reason.
    pub excluded: BTreeMap<String, u32>,
    /// Its stalled destinations through other upstreams.
    pub counterfactual: Counterfactual,
    /// Age of the oldest stall.
    pub oldest_stall_seconds: Option<f64>,
    /// The figures behind the verdict.
    pub evidence: Evidence,
    /// What failover programs are told.
    pub gate: Option<String>,
    /// Until a closed gate opens.
    pub gate_opens_seconds: Option<f64>,
}

/// What carries a tunnel.
#[derive(Debug, Clone, Deserialize)]
pub struct Underlay {
    /// The upstream that does.
    pub upstream: Option<String>,
}

/// The figures behind a verdict, some of them.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Evidence {
    /// The largest segment that surely got through lately, data only.
    pub largest_passed_bytes: Option<u32>,
    /// The smallest segment that waits, data only.
    pub smallest_waiting_bytes: Option<u32>,
}

/// Connections of an upstream.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Connections {
    /// Past the handshake.
    pub established: u32,
    /// Those that send.
    pub active: u32,
    /// Two or more timeouts without progress.
    pub suspect: u32,
    /// No progress for a while.
    pub stalled: u32,
    /// Not past the handshake, and not answered.
    pub handshake: u32,
}

/// Destinations of an upstream.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Destinations {
    /// Something was sent to them lately.
    pub active: u32,
    /// Their last word is a stall.
    pub stalled: u32,
}

/// Stalled destinations seen through other upstreams.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Counterfactual {
    /// In use elsewhere too.
    pub destinations: u32,
    /// Of these, with progress there.
    pub fine_elsewhere: u32,
}

/// What the daemon says of itself.
#[derive(Debug, Clone, Deserialize)]
pub struct Daemon {
    /// Process.
    pub pid: u32,
    /// Time between sweeps at the moment.
    pub sweep_interval_seconds: f64,
    /// Events that found the ring full.
    pub events_lost: u64,
}

/// A row of `tcpstall stalls -o json`.
#[derive(Debug, Clone, Deserialize)]
pub struct Stall {
    /// Identity.
    pub id: String,
    /// Namespace.
    pub netns: u64,
    /// Local address and port.
    pub local: String,
    /// Remote address and port.
    pub remote: String,
    /// The prefix that has the vote.
    pub destination: String,
    /// TCP state.
    pub tcp_state: String,
    /// `suspect` or `stalled`.
    pub phase: String,
    /// Why.
    pub cause: String,
    /// Why it is not held against the upstream.
    pub excluded: Option<String>,
    /// Age.
    pub stalled_seconds: f64,
    /// Upstream.
    pub upstream: String,
    /// Interface.
    pub interface: Option<String>,
    /// Gateway when it began to wait.
    pub nexthop: Option<String>,
    /// Sent, not acknowledged.
    pub unacked_bytes: u64,
    /// Timeouts without progress.
    pub retransmits: u32,
    /// Until the kernel gives it up.
    pub gives_up_seconds: Option<f64>,
    /// Process.
    pub pid: Option<u32>,
    /// Its name.
    pub process: Option<String>,
}

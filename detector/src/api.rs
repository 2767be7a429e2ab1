//! The JSON that the socket serves and the CLI reads: public promises.
//!
//! **Invariant:** plain data. Fields are added, never renamed or dropped.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

mod incident;

pub use self::incident::{Change, Incident, Mark, Point, StuckDestination, StuckProcess};
use crate::model::{
    Cause, Destination, Excluded, Gate, HookOutcome, IfIndex, NetnsId, Occasion, Phase, Scope,
    State, TcpState,
};

/// Version of the JSON.
pub const SCHEMA: u32 = 1;

/// `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Host name.
    pub host: String,
    /// When this was true.
    pub observed_at: Timestamp,
    /// The worst of the upstreams.
    pub state: State,
    /// How far the worst trouble reaches; `null` when nothing is wrong.
    pub scope: Option<Scope>,
    /// Ordered: worst first, then by name.
    pub upstreams: Vec<Upstream>,
    /// Up to ten processes that hold stalled or suspect connections: those that run out of descriptors
    /// first, then those that hold most.
    #[serde(default)]
    pub processes: Vec<Process>,
    /// The same by control group: of a service, a container. Up to ten: those that run out of memory first,
    /// then those whose stuck connections hold most of it.
    #[serde(default)]
    pub units: Vec<Unit>,
    /// Memory of all TCP connections of this host; `null` while nothing hangs, and for a daemon that is not in
    /// the host's own network namespace.
    #[serde(default)]
    pub tcp_memory: Option<Memory>,
    /// The daemon itself.
    pub daemon: Daemon,
}

/// A process with stalled or suspect connections, and what it has left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Process, as the host counts it.
    pub pid: u32,
    /// Its name.
    pub process: Option<String>,
    /// Its control group.
    pub cgroup: Option<String>,
    /// Stalled and suspect connections that it holds.
    pub stuck_connections: u32,
    /// Bytes trapped in them.
    pub outstanding_bytes: u64,
    /// Kernel memory that they hold.
    pub kernel_memory_bytes: u64,
    /// Descriptors that it has open, of all kinds; `null` when not counted yet.
    pub open_descriptors: Option<u32>,
    /// How many it may have (`RLIMIT_NOFILE`, soft); `null` when there is no limit, or it is not known.
    pub descriptor_limit: Option<u32>,
    /// Until it has none left, if it goes on like this; `null` when the number does not clearly grow.
    pub descriptors_run_out_seconds: Option<f64>,
}

/// A control group whose processes hold stalled or suspect connections.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Unit {
    /// The group, such as `/system.slice/postfix.service`.
    pub cgroup: String,
    /// Stalled and suspect connections.
    pub stuck_connections: u32,
    /// Bytes trapped in them.
    pub outstanding_bytes: u64,
    /// Kernel memory that they hold; it is charged to the group.
    pub kernel_memory_bytes: u64,
    /// Memory of the group, where version 2 of control groups limits it.
    pub memory: Option<Memory>,
}

/// Memory that has a limit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// In use.
    pub used_bytes: u64,
    /// At most.
    pub limit_bytes: u64,
    /// Until there is none left, if it goes on like this; `null` when it does not clearly grow.
    pub run_out_seconds: Option<f64>,
}

/// One upstream of [`Status`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Upstream {
    /// Name.
    pub name: String,
    /// Interface of its first next hop.
    pub interface: Option<String>,
    /// Gateway of its first next hop; `null` when on the link.
    pub gateway: Option<IpAddr>,
    /// Namespace of its first next hop.
    pub netns: Option<NetnsId>,
    /// All its next hops.
    pub next_hops: Vec<NextHop>,
    /// What carries it, when its first next hop is a tunnel; `null` when it is none, or not known.
    #[serde(default)]
    pub underlay: Option<Underlay>,
    /// State.
    pub state: State,
    /// Since when.
    pub since: Timestamp,
    /// How far the trouble reaches.
    pub scope: Option<Scope>,
    /// Why, outside `ok` and `idle`.
    pub cause: Option<Cause>,
    /// Certainty of the state, 0 to 1.
    pub confidence: f64,
    /// Connections.
    pub connections: Connections,
    /// Destinations.
    pub destinations: Destinations,
    /// Stalled connections by cause.
    pub causes: BTreeMap<Cause, u32>,
    /// Connections not held against the upstream, by reason.
    pub excluded: BTreeMap<Excluded, u32>,
    /// Its stalled destinations, seen through other upstreams.
    pub counterfactual: Counterfactual,
    /// Bytes trapped in stalled connections.
    pub outstanding_bytes: u64,
    /// Stalled and suspect connections that no process holds any more.
    #[serde(default)]
    pub orphans: u32,
    /// Age of the oldest stall.
    pub oldest_stall_seconds: Option<f64>,
    /// Up to twenty of its stalled destinations.
    pub stalled_destinations: Vec<Destination>,
    /// Up to five destinations that do well.
    pub fine_destinations: Vec<Destination>,
    /// The figures behind the verdict.
    pub evidence: Evidence,
    /// The data that the kernel still keeps for its orphans.
    pub orphan_bytes: u64,
    /// What failover programs are told; `null` when it has no gate.
    #[serde(default)]
    pub gate: Option<Gate>,
    /// Until a closed gate opens, if nothing happens; `null` while its upstream is bad.
    #[serde(default)]
    pub gate_opens_seconds: Option<f64>,
}

/// What a hook is told, on its standard input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Host name.
    pub host: String,
    /// When this was true.
    pub observed_at: Timestamp,
    /// Its name.
    pub hook: String,
    /// What it is told of.
    pub on: Occasion,
    /// What was so before: a state, or of a gate `open` or `closed`; `null` in the beginning.
    pub previous: Option<String>,
    /// What is so now.
    pub upstream: Upstream,
}

/// `POST /v1/hooks`: how a hook has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    /// Its name.
    pub hook: String,
    /// How.
    pub outcome: HookOutcome,
}

/// What carries a tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Underlay {
    /// The next hop that the tunnel's own packets take.
    pub next_hop: NextHop,
    /// The upstream that this next hop belongs to; `null` when no other connection uses it.
    pub upstream: Option<String>,
}

/// The figures behind a verdict; `null` where one is not known.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Evidence {
    /// Share of destinations that is stalled at any moment when all is well, 0 to 1.
    pub usually_stalled: Option<f64>,
    /// The chance that so many are stalled when all is well, 0 to 1.
    pub chance: Option<f64>,
    /// Share of segments that was lost lately, 0 to 1.
    pub lost: Option<f64>,
    /// The largest segment that surely got through lately, data only; with cause `mtu`.
    pub largest_passed_bytes: Option<u32>,
    /// The smallest segment that waits, data only; with cause `mtu`.
    pub smallest_waiting_bytes: Option<u32>,
    /// The next hop at fault, where the others of the upstream do well.
    pub leg: Option<NextHop>,
    /// What connections that receive say.
    pub receiving: Option<Receiving>,
    /// The link is known to pause: stalls that begin together are not held against it for so long.
    #[serde(default)]
    pub usual_pause_seconds: Option<f64>,
}

/// Connections to which data came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receiving {
    /// All of them.
    pub connections: u32,
    /// Those that stopped to hear from their peer in mid-transfer.
    pub fell_silent: u32,
}

/// A next hop of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextHop {
    /// Interface name.
    pub interface: String,
    /// Gateway; `null` when on the link.
    pub gateway: Option<IpAddr>,
    /// Namespace.
    pub netns: NetnsId,
}

/// Connections of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Connections {
    /// Past the handshake.
    pub established: u32,
    /// Those that send.
    pub active: u32,
    /// Two or more timeouts without progress.
    pub suspect: u32,
    /// No progress for `stall_after`.
    pub stalled: u32,
    /// Not past the handshake: the first segment was repeated twice or more and is not answered.
    #[serde(default)]
    pub handshake: u32,
}

/// Destinations of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Destinations {
    /// Something was sent to them lately.
    pub active: u32,
    /// Their last word is a stall.
    pub stalled: u32,
}

/// What other upstreams say of the stalled destinations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counterfactual {
    /// Stalled destinations in use through other upstreams too.
    pub destinations: u32,
    /// Of these, the ones with progress there.
    pub fine_elsewhere: u32,
}

/// What the daemon says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Daemon {
    /// Version.
    pub version: String,
    /// Process.
    pub pid: u32,
    /// When it started.
    pub started_at: Timestamp,
    /// Last sweep; `null` before the first.
    pub swept_at: Option<Timestamp>,
    /// What the last sweep took.
    pub sweep_seconds: Option<f64>,
    /// Time between sweeps at the moment.
    pub sweep_interval_seconds: f64,
    /// Events that found the ring full.
    pub events_lost: u64,
    /// Metrics address.
    pub metrics_address: Option<SocketAddr>,
}

/// A row of `GET /v1/stalls`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stall {
    /// Identity, such as `c-7f3a9c01`.
    pub id: String,
    /// Namespace.
    pub netns: NetnsId,
    /// Local address and port.
    pub local: SocketAddr,
    /// Remote address and port.
    pub remote: SocketAddr,
    /// The prefix that has the vote.
    pub destination: Destination,
    /// TCP state.
    pub tcp_state: TcpState,
    /// `suspect` or `stalled`.
    pub phase: Phase,
    /// Why.
    pub cause: Cause,
    /// What the cause rests on.
    pub because: String,
    /// Why it is not held against the upstream, when it is not.
    pub excluded: Option<Excluded>,
    /// Since when there is no progress.
    pub since: Timestamp,
    /// The same as an age.
    pub stalled_seconds: f64,
    /// Upstream.
    pub upstream: String,
    /// Interface when it began to wait.
    pub interface: Option<String>,
    /// Gateway when it began to wait; `null` when on the link or not known.
    pub nexthop: Option<IpAddr>,
    /// Gateway that the kernel has cached now.
    pub nexthop_now: Option<IpAddr>,
    /// Sent, not acknowledged.
    pub unacked_bytes: u32,
    /// Written, not sent.
    pub unsent_bytes: u32,
    /// Data of the first unacknowledged segment.
    pub head_bytes: Option<u32>,
    /// Kernel memory of what is queued to be sent and of what has arrived and was not read; `null` when not
    /// known.
    #[serde(default)]
    pub kernel_memory_bytes: Option<u32>,
    /// Timeouts without progress.
    pub retransmits: u8,
    /// Window probes without an answer.
    pub probes: u8,
    /// How many times the timeout has doubled.
    pub backoff: u8,
    /// Until the next repetition or probe; 0 when it is due, `null` when no timer runs.
    pub next_try_seconds: Option<f64>,
    /// Until the kernel gives the connection up, if nothing comes back; `null` when it does not or
    /// when that is not known.
    pub gives_up_seconds: Option<f64>,
    /// `TCP_USER_TIMEOUT`, where the program has set it.
    pub user_timeout_seconds: Option<f64>,
    /// Age of the first timeout.
    pub first_timeout_seconds: Option<f64>,
    /// Segments that the peer reports to have got more than once, since the connection began.
    pub duplicates: u32,
    /// What a router, or this host, has reported of the way to the peer.
    pub unreachable: Option<String>,
    /// Data has arrived behind a hole that is not filled.
    pub hole: bool,
    /// Bytes acknowledged since the connection began.
    pub acked_bytes: u64,
    /// Bytes received in order since the connection began.
    pub received_bytes: u64,
    /// Age of the last data that arrived; `null` when none did.
    pub last_received_seconds: Option<f64>,
    /// No process holds it any more.
    pub orphan: bool,
    /// Current retransmission timeout.
    pub rto_seconds: f64,
    /// Smoothed round-trip time.
    pub srtt_seconds: Option<f64>,
    /// Maximum segment size.
    pub mss: u32,
    /// Window that the peer offers.
    pub peer_window_bytes: u32,
    /// Age of the last acknowledgement.
    pub last_ack_seconds: f64,
    /// Age of the last transmission.
    pub last_sent_seconds: f64,
    /// Process; `null` when none holds the socket any more or it cannot be seen.
    pub pid: Option<u32>,
    /// Its name.
    pub process: Option<String>,
    /// Owner of the socket.
    pub uid: u32,
    /// Control group of the process.
    pub cgroup: Option<String>,
}

/// A row of the answer to `POST /v1/kill`: a stalled connection, and what its socket is known by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// What it was like when it was last looked at.
    #[serde(flatten)]
    pub stall: Stall,
    /// Cookie of its socket; `null` where programs cannot have it (before Linux 5.12).
    pub cookie: Option<u64>,
    /// Inode of its socket; `null` when no process holds it any more.
    pub inode: Option<u64>,
    /// Index of the only interface that it may use, when it is bound to one.
    pub device: Option<IfIndex>,
}

/// An event of `GET /v1/events`: an upstream has changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// Upstream.
    pub upstream: String,
    /// Before.
    pub from: State,
    /// Now.
    pub to: State,
    /// How far the trouble reaches.
    pub scope: Option<Scope>,
    /// Why.
    pub cause: Option<Cause>,
    /// Certainty, 0 to 1.
    pub confidence: f64,
    /// Destinations.
    pub destinations: Destinations,
    /// Connections suspect and stalled.
    pub stuck_connections: u32,
    /// The same in one sentence.
    pub message: String,
}

/// The answer to a request that cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// What was wrong and what to do.
    pub error: String,
}

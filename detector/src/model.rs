//! The words of the problem: what is seen, what is concluded, what is shown.
//!
//! **Invariant:** plain values. No clock, no I/O, no kernel units.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::time::{Time, span};

mod pairs;
mod retries;
mod words;

pub use retries::{Retries, first_timeout};
pub use words::{
    Cause, Excluded, Fate, Gate, HookOutcome, Occasion, Outcome, Phase, Reachability, Scope, State,
    TcpState,
};

/// A network namespace, by its inode number.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct NetnsId(pub u32);

/// An interface's index, unique within its network namespace.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct IfIndex(pub u32);

/// The loopback interface has index 1 in every namespace (`include/net/flow.h`,
/// `LOOPBACK_IFINDEX`).
pub const LOOPBACK: IfIndex = IfIndex(1);

/// Where the kernel really sends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NextHop {
    /// Namespace of the route.
    pub netns: NetnsId,
    /// Outgoing interface.
    pub interface: IfIndex,
    /// Gateway; `None` when destinations are on the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
}

/// The remote address cut to its prefix (/24 or /48): the unit that has a vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Destination(pub IpNet);

impl Destination {
    /// The destination that `address` belongs to; a mapped IPv4 address counts as IPv4.
    pub fn of(address: IpAddr) -> Self {
        let address = address.to_canonical();
        let length = if address.is_ipv4() { 24 } else { 48 };
        let net = IpNet::new(address, length).unwrap_or_else(|_| IpNet::from(address));
        Self(net.trunc())
    }

    /// The network that it belongs to (/16 or /32): what goes down together at the far end.
    pub fn site(self) -> IpNet {
        let length = match self.0 {
            IpNet::V4(_) => 16,
            IpNet::V6(_) => 32,
        };
        IpNet::new(self.0.network(), length.min(self.0.prefix_len()))
            .unwrap_or(self.0)
            .trunc()
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A connection, by its socket cookie: never used twice while the host runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConnectionId(pub u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c-{:08x}", self.0)
    }
}

/// Why a sensor sent a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// A sweep found it behind schedule.
    Suspicious,
    /// A sweep took it as a sample of the connections at work.
    Active,
    /// A retransmission timeout happened just now.
    Timeout,
}

/// One connection at one moment, in our units.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Identity.
    pub id: ConnectionId,
    /// When the kernel was read.
    pub at: Time,
    /// Why it was sent.
    pub origin: Origin,
    /// Namespace.
    pub netns: NetnsId,
    /// Local address, canonical.
    pub local: SocketAddr,
    /// Remote address, canonical.
    pub remote: SocketAddr,
    /// TCP state.
    pub tcp_state: TcpState,
    /// Cached route; `None` when the kernel holds none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_hop: Option<NextHop>,
    /// Socket mark.
    pub mark: u32,
    /// The only interface that it may use (`SO_BINDTODEVICE`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<IfIndex>,
    /// Owner of the socket.
    pub uid: u32,
    /// Inode of the socket; `None` when no process holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inode: Option<u64>,
    /// First unacknowledged sequence number: progress is when this moves.
    pub snd_una: u32,
    /// Bytes sent and not acknowledged.
    pub unacked: u32,
    /// Bytes written and not sent.
    pub unsent: u32,
    /// Segments in flight.
    pub packets_out: u32,
    /// Timeouts without progress.
    pub timeouts: u8,
    /// Window probes without an answer.
    pub probes: u8,
    /// The window-probe timer runs.
    pub persist: bool,
    /// Exponent of the backoff.
    pub backoff: u8,
    /// Window that the peer offers, bytes.
    pub peer_window: u32,
    /// Maximum segment size, bytes.
    pub mss: u32,
    /// Data bytes of the first unacknowledged segment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<u32>,
    /// Current retransmission timeout.
    #[serde(with = "span")]
    pub rto: Duration,
    /// Smoothed round-trip time; `None` before the first measurement.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "span::maybe")]
    pub srtt: Option<Duration>,
    /// When outstanding data began to wait, as far as the kernel's own timers tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stuck_since: Option<Time>,
    /// Last transmission of data, first or repeated.
    pub sent_at: Time,
    /// When the newest data was acknowledged, as far as that is known.
    pub acked_at: Time,
    /// When the peer was last heard: a segment with an acknowledgement arrived, new or not. Every one
    /// says how large the peer's window is.
    #[serde(default)]
    pub heard_at: Time,
    /// Bytes acknowledged since the connection began.
    pub bytes_acked: u64,
    /// Segments with data sent since the connection began, repeats included.
    pub segments_out: u32,
    /// Retransmissions since the connection began.
    pub retransmissions: u32,
    /// What the kernel said when it tried to send again, an errno; `None` when it went out or is
    /// not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_error: Option<i32>,
    /// `TCP_USER_TIMEOUT`.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "span::maybe")]
    pub user_timeout: Option<Duration>,
    /// Segments that arrived more than once, as the peer has reported since the connection began
    /// (RFC 2883): data arrives, and its acknowledgement does not.
    #[serde(default)]
    pub duplicates: u32,
    /// What the kernel was told of the way to the peer while it waited, an errno: a router's ICMP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreachable: Option<i32>,
    /// When the pending timer fires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_try: Option<Time>,
    /// Next sequence number expected from the peer: receiving makes progress when this moves.
    #[serde(default)]
    pub rcv_nxt: u32,
    /// Last data that arrived in order; the beginning of the connection when none did. What arrives
    /// behind a hole does not move it.
    #[serde(default)]
    pub received_at: Time,
    /// Bytes that arrived in order since the connection began.
    #[serde(default)]
    pub bytes_received: u64,
    /// Data has arrived behind a hole that is not filled.
    #[serde(default)]
    pub hole: bool,
    /// Kernel memory of what is queued to be sent and of what has arrived and was not read, bytes: more than the
    /// data, since each segment has a description and is rounded up (`sk_wmem_queued`, `sk_rmem_alloc`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u32>,
}

impl Sample {
    /// Data handed over and not acknowledged, bytes.
    pub fn outstanding(&self) -> u64 {
        u64::from(self.unacked) + u64::from(self.unsent)
    }

    /// No data was ever exchanged on it; the byte that stands for SYN counts as acknowledged.
    pub fn is_stranger(&self) -> bool {
        self.bytes_acked <= 1 && self.bytes_received == 0
    }

    /// No process holds it any more: the kernel alone tries to deliver what is left.
    pub fn is_orphan(&self) -> bool {
        match self.tcp_state {
            TcpState::FinWait1 | TcpState::LastAck | TcpState::Closing => true,
            TcpState::Established | TcpState::FinWait2 | TcpState::CloseWait | TcpState::Other => {
                false
            }
        }
    }
}

/// What a sweep counted at a next hop; every connection past the handshake is in exactly one of
/// the first five.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Timers behind schedule; each was sent as a sample.
    pub suspicious: u32,
    /// Data outstanding, nothing unusual.
    pub busy: u32,
    /// Sent something lately, all of it acknowledged.
    pub app_limited: u32,
    /// Nothing sent for a while; an answer of the peer is awaited.
    pub waiting: u32,
    /// Nothing sent for a while; the last word was the peer's.
    pub idle: u32,
    /// Not past the handshake: the first segment was repeated twice or more and is not answered.
    pub handshakes: u32,
    /// Of those past the handshake: data has arrived within two seconds.
    pub receiving: u32,
    /// Of those past the handshake: data streamed in until 3 to 15 seconds ago, and stopped between
    /// two full segments. The kernel does not say whether a reply is complete; the last segment of
    /// one is rarely full. Not counted are those of which the application has not read all, those
    /// that have sent since, and streams that are slower than their path.
    pub fell_silent: u32,
}

impl Counts {
    /// All connections past the handshake.
    pub fn established(&self) -> u32 {
        self.suspicious + self.busy + self.app_limited + self.waiting + self.idle
    }

    /// Those that send.
    pub fn active(&self) -> u32 {
        self.suspicious + self.busy + self.app_limited
    }

    /// Adds another next hop's.
    pub fn add(&mut self, other: &Self) {
        self.suspicious += other.suspicious;
        self.busy += other.busy;
        self.app_limited += other.app_limited;
        self.waiting += other.waiting;
        self.idle += other.idle;
        self.handshakes += other.handshakes;
        self.receiving += other.receiving;
        self.fell_silent += other.fell_silent;
    }
}

/// One walk over all connections. It is not a snapshot: an entry can come twice or not at all.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Sweep {
    /// Connections that look wrong, and a few of those at work for each destination.
    pub samples: Vec<Sample>,
    /// Per next hop; `None` holds the connections without a cached route.
    #[serde(with = "pairs")]
    pub counts: BTreeMap<Option<NextHop>, Counts>,
}

/// What is known of an interface.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Interface {
    /// Name, such as `wan1`.
    pub name: String,
    /// What the administrator calls it (`ip link set … alias`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// Name of the VRF it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vrf: Option<String>,
    /// Administratively up and with carrier.
    pub up: bool,
    /// Of a tunnel, the next hop that its own packets take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub underlay: Option<NextHop>,
}

/// What the engine is told.
#[expect(
    clippy::large_enum_variant,
    reason = "handed over one at a time, never kept in numbers"
)]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Input {
    /// A timeout was reported.
    Timeout(Sample),
    /// A connection ended while it looked wrong.
    Closed(ConnectionId),
    /// A sweep has finished.
    Sweep(Sweep),
    /// Interfaces were added, changed or (`None`) removed.
    Interface(NetnsId, IfIndex, Option<Interface>),
    /// A neighbour's reachability, or (`None`) it was forgotten.
    Neighbour(NextHop, Option<Reachability>),
    /// The route of a connection without a cached one, looked up from outside.
    Route(ConnectionId, NextHop),
    /// The host was suspended for so long, and runs again.
    Suspended(#[serde(with = "span")] Duration),
    /// Somebody resets these connections now.
    Killed(Vec<ConnectionId>),
    /// Time has passed, nothing else.
    Tick,
}

/// What has changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transition {
    /// An upstream entered another state, scope or cause.
    Upstream {
        /// Its name.
        upstream: String,
        /// Before.
        from: State,
        /// Now.
        to: State,
        /// How far it reaches; only outside `ok` and `idle`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        scope: Option<Scope>,
        /// Why; only outside `ok` and `idle`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<Cause>,
        /// Certainty of the new state, 0 to 1.
        confidence: f64,
        /// Connections stalled and suspect.
        stuck: u32,
        /// Destinations stalled.
        stalled_destinations: u32,
        /// Destinations judged.
        active_destinations: u32,
    },
    /// A connection stalled.
    StallBegan {
        /// The connection.
        id: ConnectionId,
        /// Its upstream.
        upstream: String,
        /// Why.
        cause: Cause,
    },
    /// A stall ended.
    StallEnded {
        /// The connection.
        id: ConnectionId,
        /// Its upstream.
        upstream: String,
        /// How.
        outcome: Outcome,
        /// How long it lasted.
        #[serde(with = "span")]
        lasted: Duration,
    },
    /// Retransmission timeouts were seen.
    Timeouts {
        /// The upstream.
        upstream: String,
        /// How many.
        count: u64,
    },
}

/// A connection in trouble.
#[derive(Debug, Clone, PartialEq)]
pub struct Stall {
    /// The newest sample of it.
    pub sample: Sample,
    /// How far it is.
    pub phase: Phase,
    /// Why.
    pub cause: Cause,
    /// What the cause rests on, in words.
    pub because: String,
    /// Since when there is no progress.
    pub since: Time,
    /// Its upstream.
    pub upstream: String,
    /// The next hop in force when it began to wait; `None` when it is not known.
    pub next_hop: Option<NextHop>,
    /// Its destination.
    pub destination: Destination,
    /// Whether it is held against the upstream.
    pub excluded: Option<Excluded>,
}

/// What is said of one upstream.
#[derive(Debug, Clone, PartialEq)]
pub struct Upstream {
    /// Name, from the configuration or made from interface and gateway.
    pub name: String,
    /// Its next hops, with what the last sweep counted there.
    pub next_hops: BTreeMap<NextHop, Counts>,
    /// State.
    pub state: State,
    /// Since when.
    pub since: Time,
    /// How far the trouble reaches.
    pub scope: Option<Scope>,
    /// Why; only outside `ok` and `idle`.
    pub cause: Option<Cause>,
    /// Certainty of the state, 0 to 1.
    pub confidence: f64,
    /// Stalled connections at each next hop, by cause; zero-window ones included.
    pub stalled: BTreeMap<(Option<NextHop>, Cause), u32>,
    /// Suspect connections at each next hop.
    pub suspect: BTreeMap<Option<NextHop>, u32>,
    /// Destinations that had something to send lately.
    pub active_destinations: u32,
    /// Of these, the ones whose last word is a stall.
    pub stalled_destinations: Vec<Destination>,
    /// Of these, the ones that make progress (at most a handful, as examples).
    pub fine_destinations: Vec<Destination>,
    /// Connections not held against the upstream, by reason.
    pub excluded: BTreeMap<Excluded, u32>,
    /// Stalled destinations that are in use through other upstreams too.
    pub elsewhere: u32,
    /// Of these, the ones that make progress there.
    pub fine_elsewhere: u32,
    /// Bytes trapped in stalled connections.
    pub outstanding: u64,
    /// Start of the oldest stall.
    pub oldest_stall: Option<Time>,
    /// What the verdict was reached with.
    pub evidence: Evidence,
    /// Stuck connections that no process holds any more.
    pub orphans: u32,
}

/// The figures behind a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Evidence {
    /// Share of destinations that is stalled at any moment when all is well, as learned or assumed.
    pub baseline: f64,
    /// The chance that so many are stalled when all is well.
    pub chance: f64,
    /// Share of segments that was lost lately, where enough was sent to tell.
    pub lost: Option<f64>,
    /// The largest segment that surely got through lately, bytes of data; only with `mtu`.
    pub largest_passed: Option<u32>,
    /// The smallest segment that waits, bytes of data; only with `mtu`.
    pub smallest_waiting: Option<u32>,
    /// The next hop at fault, where the upstream has several and the others do well.
    pub leg: Option<NextHop>,
    /// Of those that stopped to hear from their peer in mid-transfer: how many of how many.
    pub fell_silent: Option<(u32, u32)>,
    /// Stalls have no vote for so long when all begin at once: the link is known to pause.
    pub usual_pause: Option<Duration>,
}

impl Upstream {
    /// Sum over the next hops.
    pub fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for counts in self.next_hops.values() {
            sum.add(counts);
        }
        sum
    }

    /// Stalled connections that count against the upstream.
    pub fn stalled_connections(&self) -> u32 {
        self.stalled
            .iter()
            .filter(|((_, cause), _)| *cause != Cause::ZeroWindow)
            .map(|(_, count)| count)
            .sum()
    }

    /// Suspect connections.
    pub fn suspect_connections(&self) -> u32 {
        self.suspect.values().sum()
    }
}

/// The whole judgement at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// When.
    pub at: Time,
    /// The worst of the upstreams.
    pub state: State,
    /// How far the worst trouble reaches.
    pub scope: Option<Scope>,
    /// By name.
    pub upstreams: Vec<Upstream>,
    /// Stalled and suspect connections, oldest first.
    pub stalls: Vec<Stall>,
    /// Interfaces by namespace and index.
    pub interfaces: BTreeMap<(NetnsId, IfIndex), Interface>,
    /// When the last sweep was taken in.
    pub swept_at: Option<Time>,
}

/// One thing that the kernel or the host must allow, as `tcpstall doctor` lists it and
/// `tcpstall_kernel_feature` exports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Short name, such as `btf` or `program:on_retransmit`; the metric's label.
    pub feature: String,
    /// Whether it is there.
    pub ok: bool,
    /// Whether the daemon refuses to start without it.
    pub required: bool,
    /// What was found, in one sentence.
    pub found: String,
    /// What is lost without it; empty when it is there.
    pub lost: String,
    /// What to do about it; empty when it is there.
    pub remedy: String,
}

impl Check {
    /// The feature that tells whether connections are known by the cookies of their sockets.
    pub const COOKIES: &str = "cookies";

    /// Something that is there.
    pub fn present(feature: impl Into<String>, required: bool, found: impl Into<String>) -> Self {
        Self {
            feature: feature.into(),
            ok: true,
            required,
            found: found.into(),
            lost: String::new(),
            remedy: String::new(),
        }
    }
}

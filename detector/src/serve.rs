//! The API over HTTP/1.1: everything on the unix socket, the harmless part over TCP.
//!
//! **Invariant:** knows no engine, only what it publishes; a client can neither slow the daemon
//! down nor make it hold more than a bounded amount of memory.

mod bind;
#[cfg(test)]
pub(crate) mod example;
mod filter;
mod hooks;
mod http;
pub(crate) mod incidents;
pub mod json;
mod kills;
pub mod metrics;
mod recordings;
mod routes;
mod stakes;
pub mod words;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{
    net::TcpListener,
    sync::{broadcast, watch},
};

pub use self::{
    bind::{Socket, bind_metrics, bind_socket},
    filter::Filter,
    hooks::Hooks,
    incidents::{Incidents, Which},
    kills::Kills,
    recordings::Recordings,
};
use crate::{
    api,
    gate::Shown,
    model::{Check, ConnectionId, Retries, Snapshot},
    time::Time,
};

/// Version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Commit that it was built from; the build sets `TCPSTALL_REVISION`.
pub const REVISION: &str = match option_env!("TCPSTALL_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

/// What the API answers from.
#[derive(Debug, Clone)]
pub struct Board {
    /// The newest judgement; `None` until there is one.
    pub latest: watch::Receiver<Option<Arc<Published>>>,
    /// Incidents, past and present.
    pub incidents: watch::Receiver<Incidents>,
    /// Upstreams that change, as they do.
    pub events: broadcast::Sender<api::Event>,
    /// What is counted over the life of the daemon.
    pub metrics: Arc<metrics::Metrics>,
    /// Who records what the engine is told.
    pub recordings: Recordings,
    /// Who is about to be reset.
    pub kills: Kills,
    /// The hooks of the configuration, and whether somebody runs them.
    pub hooks: Hooks,
}

/// A judgement and what goes with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// The judgement.
    pub snapshot: Snapshot,
    /// What the engine does not know.
    pub facts: Facts,
}

/// What is shown and is none of the engine's business.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// Name of this host.
    pub host: String,
    /// Version of the daemon.
    pub version: String,
    /// Release of the kernel.
    pub kernel: String,
    /// Process of the daemon.
    pub pid: u32,
    /// When the daemon started.
    pub started_at: Timestamp,
    /// The wall clock at [`Snapshot::at`].
    pub wall: Timestamp,
    /// What the last sweep took.
    pub sweep_seconds: Option<f64>,
    /// Time between sweeps at the moment.
    pub sweep_interval: Duration,
    /// Events that found the ring full.
    pub events_lost: u64,
    /// Where the metrics page is.
    pub metrics_address: Option<SocketAddr>,
    /// Who holds the connections in trouble, as far as it is known.
    pub owners: BTreeMap<ConnectionId, Owner>,
    /// What they have left, as far as it is known.
    pub stakes: Stakes,
    /// How long the kernel keeps trying.
    pub retries: Retries,
    /// What the kernel and the host allow.
    pub checks: Vec<Check>,
    /// Whether the last load of the configuration succeeded, and when one last did.
    pub reload: Option<(bool, Timestamp)>,
    /// What failover programs are told, by upstream.
    pub gates: BTreeMap<String, Shown>,
    /// Whether somebody runs the hooks; `None` when there are none.
    pub hooks_are_run: Option<bool>,
}

/// Who holds a connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Owner {
    /// Process.
    pub pid: Option<u32>,
    /// Its name.
    pub process: Option<String>,
    /// Its control group.
    pub cgroup: Option<String>,
}

/// What those who hold connections in trouble have left.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stakes {
    /// Descriptors, by process.
    pub descriptors: BTreeMap<u32, Supply>,
    /// Memory in bytes, by control group.
    pub memory: BTreeMap<String, Supply>,
    /// Memory of all TCP connections, in bytes.
    pub tcp: Option<Supply>,
}

/// Something that can run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Supply {
    /// In use.
    pub used: u64,
    /// At most; `None` when it is not known or there is no limit.
    pub limit: Option<u64>,
    /// Until there is none left, if it goes on like this; `None` when it does not grow clearly.
    pub run_out: Option<Duration>,
}

impl Facts {
    /// The wall clock at `time`, which is not after `at`.
    fn wall_at(&self, at: Time, time: Time) -> Timestamp {
        json::to_millisecond(
            self.wall
                .checked_sub(at.since(time))
                .unwrap_or(Timestamp::MIN),
        )
    }
}

/// Answers on the unix socket for as long as it is polled.
pub async fn serve_socket(socket: &Socket, board: Board) {
    http::serve(socket, routes::socket(board), http::Limits::SOCKET).await;
}

/// Answers over TCP for as long as it is polled.
pub async fn serve_metrics(listener: &TcpListener, board: Board) {
    http::serve(listener, routes::tcp(board), http::Limits::TCP).await;
}

//! The laboratory: a host with several upstreams, an internet behind them, faults in between.
//!
//! Everything lives in network namespaces of its own and is gone when the [`Lab`] is dropped.
//! Read in this order: [`network`] (what stands), [`fault`] (what breaks), [`traffic`] (who talks),
//! [`daemon`] (who watches), [`staged`] (a scenario file from beginning to end).

#[path = "lab/bird.rs"]
pub mod bird;
#[path = "lab/client.rs"]
mod client;
#[path = "lab/container.rs"]
pub mod container;
#[path = "lab/daemon.rs"]
pub mod daemon;
#[path = "lab/distance.rs"]
pub mod distance;
#[path = "lab/fault.rs"]
pub mod fault;
#[path = "lab/http.rs"]
pub mod http;
#[path = "lab/keepalived.rs"]
pub mod keepalived;
#[path = "lab/leak.rs"]
pub mod leak;
#[path = "lab/leftovers.rs"]
mod leftovers;
#[path = "lab/monitoring.rs"]
pub mod monitoring;
#[path = "lab/nagios.rs"]
pub mod nagios;
#[path = "lab/namespace.rs"]
pub mod namespace;
#[path = "lab/network.rs"]
pub mod network;
#[path = "lab/options.rs"]
pub mod options;
#[path = "lab/palette.rs"]
pub mod palette;
#[path = "lab/partial.rs"]
pub mod partial;
#[path = "lab/program.rs"]
pub mod program;
#[path = "lab/sensors.rs"]
pub mod sensors;
#[path = "lab/server.rs"]
pub mod server;
#[path = "lab/signal.rs"]
pub mod signal;
pub mod simulator;
#[path = "lab/staged.rs"]
pub mod staged;
#[path = "lab/status.rs"]
pub mod status;
#[path = "lab/terminal.rs"]
pub mod terminal;
#[path = "lab/traffic.rs"]
pub mod traffic;

pub use container::{Attachment, Container};
pub use daemon::{Daemon, Options};
pub use distance::Distance;
pub use fault::{Direction, Fault, Only};
pub use network::{Family, Lab, Upstream};
pub use options::SocketOptions;
pub use partial::Partial;
pub use traffic::{Load, Plan, Traffic};

//! What the operator wants: file, environment and flags, as one [`Config`].
//!
//! **Invariant:** [`Source::load`] alone touches the disk; a value that is not understood stops the
//! start with the file, the line, the key and what was expected.

mod document;
mod error;
mod file;
#[cfg(test)]
mod tests;
mod value;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

pub use error::{Error, Problem};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
pub(crate) use value::hidden;
pub use value::{duration, name as upstream_name, prefix};

use crate::model::Occasion;

/// Read when neither flag nor environment names a file; it need not exist.
pub const DEFAULT_CONFIG: &str = "/etc/tcpstall/tcpstall.toml";
/// The socket that the CLI talks to.
pub const DEFAULT_SOCKET: &str = "/run/tcpstall/tcpstall.sock";
/// Where state outlives a restart.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/tcpstall";
/// Port of the metrics page, on the loopback address.
pub const DEFAULT_METRICS_PORT: u16 = 19293;

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Unix socket of the API.
    pub socket: PathBuf,
    /// Folder for what outlives a restart.
    pub state_dir: PathBuf,
    /// TCP address of the metrics page.
    pub metrics_address: SocketAddr,
    /// How stalls are detected.
    pub detect: Detect,
    /// Upstreams; the first that matches wins.
    pub upstreams: Vec<Rule>,
    /// Those of them that have a gate.
    pub gates: Vec<String>,
    /// What is run when an upstream changes, by `tcpstall hooks`.
    pub hooks: Vec<Hook>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            socket: DEFAULT_SOCKET.into(),
            state_dir: DEFAULT_STATE_DIR.into(),
            metrics_address: SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_METRICS_PORT)),
            detect: Detect::default(),
            upstreams: Vec::new(),
            gates: Vec::new(),
            hooks: Vec::new(),
        }
    }
}

/// How stalls are detected.
#[derive(Debug, Clone, PartialEq)]
pub struct Detect {
    /// Without progress for this long, a connection is stalled.
    pub stall_after: Duration,
    /// Share of one core that sweeping may take.
    pub sweep_budget: f64,
    /// Connections to these are not looked at.
    pub ignore: Vec<IpNet>,
}

impl Default for Detect {
    fn default() -> Self {
        let v4 = IpNet::V4(ipnet::Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8));
        let v6 = IpNet::V6(ipnet::Ipv6Net::from(std::net::Ipv6Addr::LOCALHOST));
        Self {
            stall_after: Duration::from_secs(3),
            sweep_budget: 0.01,
            ignore: vec![v4, v6],
        }
    }
}

/// Names a group of next hops; all matchers that are given must match, and one is given.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Rule {
    /// Name of the upstream.
    pub name: String,
    /// Gateway of the next hop, canonical.
    pub gateway: Option<std::net::IpAddr>,
    /// Interface name of the next hop.
    pub interface: Option<String>,
    /// Local address.
    pub source: Option<IpNet>,
    /// Socket mark.
    pub mark: Option<u32>,
    /// VRF of the interface.
    pub vrf: Option<String>,
    /// Inode number of the network namespace.
    pub netns: Option<u32>,
    /// Remote address, in one of these.
    pub destinations: Option<Vec<IpNet>>,
}

/// A program that is run when an upstream changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// Its name in logs and metrics.
    pub name: String,
    /// What it is told of.
    pub on: Occasion,
    /// Of which upstreams; of all when there are none.
    pub upstreams: Vec<String>,
    /// The program, by its absolute path, and its arguments, as they are: no shell reads them.
    pub command: Vec<String>,
    /// How long it may take.
    pub timeout: Duration,
}

impl Hook {
    /// Whether it is told of that upstream.
    pub fn is_for(&self, upstream: &str) -> bool {
        self.upstreams.is_empty() || self.upstreams.iter().any(|it| it == upstream)
    }
}

/// What flags and environment say; they win over the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overrides {
    /// [`Config::socket`].
    pub socket: Option<PathBuf>,
    /// [`Config::state_dir`].
    pub state_dir: Option<PathBuf>,
    /// [`Config::metrics_address`].
    pub metrics_address: Option<SocketAddr>,
}

/// Where a [`Config`] comes from, to load it and to load it again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Source {
    /// A file that was asked for and must exist; else [`DEFAULT_CONFIG`] when it exists.
    pub file: Option<PathBuf>,
    /// What wins over it.
    pub overrides: Overrides,
}

impl Source {
    /// Reads the file, if any, and applies what wins over it.
    pub fn load(&self) -> Result<Config, Error> {
        let path = self.path();
        let mut config = match std::fs::read(path) {
            Ok(bytes) => parse(path, &bytes, &|path| std::fs::read(path))?,
            Err(error) if self.file.is_none() && error.kind() == io::ErrorKind::NotFound => {
                Config::default()
            }
            Err(error) => return Err(Error::reading(path, &error)),
        };
        self.overrides.apply(&mut config);
        Ok(config)
    }

    /// Where a client finds the daemon: as [`Source::load`] says, and the default when that file
    /// cannot be read or understood, which is for the daemon to complain about.
    pub fn socket(&self) -> PathBuf {
        let socket = self.overrides.socket.clone();
        socket
            .or_else(|| self.socket_in_file())
            .unwrap_or_else(|| DEFAULT_SOCKET.into())
    }

    fn socket_in_file(&self) -> Option<PathBuf> {
        let bytes = std::fs::read(self.path()).ok()?;
        let config = parse(self.path(), &bytes, &|_| Ok(Vec::new())).ok()?;
        Some(config.socket)
    }

    /// The file that [`Source::load`] reads.
    pub fn path(&self) -> &Path {
        self.file.as_deref().unwrap_or(Path::new(DEFAULT_CONFIG))
    }
}

impl Overrides {
    fn apply(&self, config: &mut Config) {
        if let Some(socket) = &self.socket {
            config.socket.clone_from(socket);
        }
        if let Some(state_dir) = &self.state_dir {
            config.state_dir.clone_from(state_dir);
        }
        if let Some(metrics_address) = self.metrics_address {
            config.metrics_address = metrics_address;
        }
    }
}

/// Reads further files on behalf of [`parse`].
pub type Read<'a> = &'a dyn Fn(&Path) -> io::Result<Vec<u8>>;

/// Understands the bytes of the file at `path`, which is only named, not read; `read` reads the
/// files that it points to, relative to its folder.
pub fn parse(path: &Path, bytes: &[u8], read: Read<'_>) -> Result<Config, Error> {
    let text = error::utf8(path, bytes)?;
    file::config(&document::Document { path, text }, read)
}

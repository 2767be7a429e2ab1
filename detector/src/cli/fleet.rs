//! `tcpstall fleet`: many hosts, as the Prometheus knows them that scrapes them all.

mod prometheus;

use std::process::ExitCode;

use jiff::Timestamp;
use serde::Serialize;

use super::{
    Common,
    output::{self, Format},
    render,
};
use crate::{
    api,
    model::{Cause, Scope, State},
};
use prometheus::Address;
#[cfg(test)]
pub(super) use prometheus::example;

/// Show upstreams and the hosts that they are bad on
///
/// Asks a Prometheus that scrapes the tcpstall of many hosts; no daemon is needed here. A row per
/// upstream; `-o wide` has a row per upstream and host.
/// An upstream is the same everywhere when `tcpstall.toml` calls it the same.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:\n  \
    tcpstall fleet --prometheus http://prometheus.example:9090\n  \
    TCPSTALL_PROMETHEUS=http://127.0.0.1:9090 tcpstall fleet -o wide")]
pub(super) struct Args {
    /// Prometheus, as far as the part of its address before /api
    #[arg(
        long,
        value_name = "URL",
        env = "TCPSTALL_PROMETHEUS",
        default_value = "http://127.0.0.1:9090",
        hide_env_values = true
    )]
    prometheus: Address,
}

/// What is known of all hosts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Fleet {
    /// Version of the JSON.
    pub(super) schema: u32,
    /// When this was asked.
    pub(super) observed_at: Timestamp,
    /// Worst first, then those that are bad on most hosts, then by name.
    pub(super) upstreams: Vec<Upstream>,
    /// Hosts whose daemon Prometheus cannot reach.
    pub(super) unreachable: Vec<String>,
    /// Names that several hosts have.
    pub(super) ambiguous: Vec<String>,
}

/// An upstream on all hosts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Upstream {
    /// Name.
    pub(super) upstream: String,
    /// The worst state that it is in.
    pub(super) state: State,
    /// Worst first, then by name.
    pub(super) hosts: Vec<Host>,
}

/// An upstream on one host.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Host {
    /// `instance`, as Prometheus calls it.
    pub(super) host: String,
    /// State.
    pub(super) state: State,
    /// Why, outside `ok` and `idle`.
    pub(super) cause: Option<Cause>,
    /// How far the trouble reaches on that host.
    pub(super) scope: Option<Scope>,
    /// Since when.
    pub(super) since: Option<Timestamp>,
}

pub(super) fn run(args: &Args, common: &Common) -> anyhow::Result<ExitCode> {
    let fleet = prometheus::fleet(&args.prometheus)?;
    if !fleet.unreachable.is_empty() {
        output::say(&render::unreachable(&fleet));
    }
    if !fleet.ambiguous.is_empty() {
        output::say(&render::ambiguous(&fleet));
    }
    match common.format() {
        Format::Json => output::json(&fleet)?,
        Format::Jsonl => output::jsonl(&fleet.upstreams)?,
        Format::Table => output::print(&render::fleet(&fleet, false))?,
        Format::Wide => output::print(&render::fleet(&fleet, true))?,
    }
    Ok(ExitCode::SUCCESS)
}

impl Upstream {
    /// Hosts on which it is bad.
    pub(super) fn bad(&self) -> impl Iterator<Item = &Host> {
        let bad = |it: &&Host| matches!(it.state, State::Degraded | State::Failing);
        self.hosts.iter().filter(bad)
    }

    /// How many hosts can judge it.
    pub(super) fn judged(&self) -> usize {
        let judged = |it: &&Host| it.state != State::Idle;
        self.hosts.iter().filter(judged).count()
    }
}

const SCHEMA: u32 = api::SCHEMA;

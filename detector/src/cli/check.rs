//! `tcpstall check`: for monitors that run plugins.
//!
//! **Invariant:** one line on stdout and one of four exit codes, whatever happens.

use std::process::ExitCode;

use super::{Common, client, output, render};
use crate::clock;

/// Exit code for "cannot say".
pub(super) const UNKNOWN: u8 = 3;

/// Answer a monitoring plugin: one line with performance data
///
/// Exits 0 (OK), 1 (WARNING: degraded), 2 (CRITICAL: failing) or 3 (UNKNOWN: too little traffic to
/// judge, no daemon, or wrong usage). Without UPSTREAM the worst one counts, and idle ones do not.
///
/// Not for failover: there, every exit code but 0 means "dead".
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Example, for Nagios, Icinga and their kin:\n  \
    command_line  /usr/bin/tcpstall check provider-b")]
pub(super) struct Args {
    /// Only this upstream
    #[arg(value_name = "UPSTREAM")]
    upstream: Option<String>,
}

pub(super) fn run(args: &Args, common: &Common) -> anyhow::Result<ExitCode> {
    let status = client::status(&common.socket()).map_err(|error| format!("{error:#}"));
    let (code, line) = render::check(status.as_ref(), args.upstream.as_deref(), clock::wall());
    output::print(&line)?;
    Ok(ExitCode::from(code))
}

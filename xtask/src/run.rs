//! `run`: the daemon on this host.

use anyhow::Result;
use clap::Args;

use crate::{build, command::command, root::as_root};

/// What to hand to the daemon.
#[derive(Args)]
pub(crate) struct Options {
    /// Arguments for `tcpstall daemon`
    #[arg(last = true)]
    args: Vec<String>,
}

/// `cargo xtask run`
pub(crate) fn task(options: &Options) -> Result<()> {
    let tcpstall = build::release()?;
    as_root(command(tcpstall).arg("daemon").args(&options.args))?.become_it()
}

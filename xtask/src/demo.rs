//! `demo`: a stall and its detection, in made-up networks on this host.

use anyhow::Result;
use clap::Args;

use crate::{build, command::command, packages, root::as_root};

/// What to hand to the demonstration.
#[derive(Args)]
pub(crate) struct Options {
    /// Arguments for the demonstration
    #[arg(last = true)]
    args: Vec<String>,
}

/// `cargo xtask demo`
pub(crate) fn task(options: &Options) -> Result<()> {
    packages::laboratory()?;
    let tcpstall = build::release()?;
    let demo = build::laboratory_program("demo")?;
    as_root(
        command(demo)
            .args(&options.args)
            .env("TCPSTALL_BIN", tcpstall),
    )?
    .become_it()
}

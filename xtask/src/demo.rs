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
    let mut demo = command(build::laboratory_program("demo")?)
        .args(&options.args)
        .env("TCPSTALL_BIN", tcpstall);
    if options.args.iter().any(|it| it.starts_with("--pictures"))
        && let Some(tools) = packages::monitoring()?
    {
        demo = demo.env("TCPSTALL_TOOLS", tools);
    }
    as_root(demo)?.become_it()
}

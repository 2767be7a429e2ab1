//! `walk`: a bad day from the package to its purge, in a Debian and networks made for it.

use anyhow::Result;
use clap::Args;

use crate::{
    build,
    command::{command, say},
    dist::{self, Debian},
    packages,
    root::as_root,
    workspace,
};

/// Where the transcript goes.
const PAGE: &str = "docs/a-bad-day.md";

/// What to do with the transcript.
#[derive(Args, Default)]
pub(crate) struct Options {
    /// Write it to docs/a-bad-day.md
    #[arg(long)]
    write: bool,
}

/// `cargo xtask walk`
pub(crate) fn task(options: &Options) -> Result<()> {
    packages::laboratory()?;
    packages::debian()?;
    let tools = packages::monitoring()?;
    let package = dist::for_debian()?;
    let walk = build::laboratory_program("walk")?;
    let debian = Debian::make()?;
    debian.take_in(&[(&package, "tcpstall.deb")])?;
    debian.run("mv /trial/tcpstall.deb /root/ && rmdir /trial")?;
    say("A bad day, about ten minutes long");
    let mut walk = command(walk)
        .arg("--debian")
        .arg(debian.path())
        .args(["--package", "/root/tcpstall.deb"]);
    if let Some(tools) = tools {
        walk = walk.env("TCPSTALL_TOOLS", tools);
    }
    if options.write {
        walk = walk.arg("--write").arg(workspace::root().join(PAGE));
    }
    as_root(walk)?.run()
}

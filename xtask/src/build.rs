//! `build`: the kernel programs, then the daemon that carries them.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::{
    command::{Invocation, cargo, say},
    kernel, workspace,
};

/// How to build.
#[derive(Args)]
pub(crate) struct Options {
    /// Build the daemon quickly instead of optimised (the kernel programs always are)
    #[arg(long)]
    debug: bool,
    /// Build the daemon optimised; this is the default
    #[arg(long, conflicts_with = "debug")]
    release: bool,
}

/// `cargo xtask build`
pub(crate) fn task(options: &Options) -> Result<()> {
    kernel::build()?;
    let binary = if options.debug {
        daemon("debug")?
    } else {
        daemon("release")?
    };
    say(&format!("built {}", binary.display()));
    Ok(())
}

/// Build everything that a host needs; where the daemon is.
pub(crate) fn release() -> Result<PathBuf> {
    kernel::build()?;
    daemon("release")
}

/// Build one of the laboratory's programs; where it is.
pub(crate) fn laboratory_program(name: &str) -> Result<PathBuf> {
    let build = cargo().args(["build", "--release", "--package", "tests", "--bin", name]);
    built(build, "release", name)
}

fn daemon(profile: &str) -> Result<PathBuf> {
    let mut build = cargo().arg("build");
    if profile == "release" {
        build = build.arg("--release");
    }
    built(build.args(["--package", "detector"]), profile, "tcpstall")
}

fn built(build: Invocation, profile: &str, name: &str) -> Result<PathBuf> {
    build
        .folder(workspace::root())
        .run()
        .with_context(|| format!("`{name}` does not build"))?;
    let binary = workspace::target().join(profile).join(name);
    ensure!(
        binary.is_file(),
        "{} was built, but is not there: unset CARGO_BUILD_TARGET and `build.target`, then run \
         this again",
        binary.display()
    );
    Ok(binary)
}

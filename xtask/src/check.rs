//! `check`: formatting, lints on both sides, and what the dependencies bring along.

use anyhow::{Context as _, Result};

use crate::{
    command::{cargo, command, say, warn},
    deny,
    kernel::{self, Toolset},
    workspace,
};

/// `cargo xtask check`
pub(crate) fn task() -> Result<()> {
    formatting()?;
    // The daemon carries the kernel programs: without them it cannot be checked either.
    kernel::build()?;
    host_lints()?;
    kernel_lints()?;
    deny::dependencies()?;
    exposure()?;
    say("check: passed");
    Ok(())
}

fn formatting() -> Result<()> {
    cargo()
        .args(["fmt", "--all", "--check"])
        .folder(workspace::root())
        .run()
        .context(
            "the sources are not formatted: run `cargo fmt --all` (if rustfmt is missing: \
             `rustup component add rustfmt`)",
        )
}

fn host_lints() -> Result<()> {
    cargo()
        .args([
            "clippy",
            "--locked",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ])
        .folder(workspace::root())
        .run()
        .context(
            "the lints above must be answered (if clippy is missing: `rustup component add clippy`)",
        )
}

/// Once more for the kernel's side: its programs do not exist for a compiler of the host's side.
fn kernel_lints() -> Result<()> {
    let toolset = Toolset::find()?;
    let check = if let Some(clippy) = toolset.clippy() {
        toolset.invoke(command(clippy).arg("clippy"))
    } else {
        warn("The eBPF compiler has no clippy: the kernel programs get the compiler's lints alone");
        toolset.cargo("rustc")
    };
    check
        .args(["--", "-D", "warnings"])
        .run()
        .context("the lints of the kernel programs above must be answered")
}

/// What the unit may do, as systemd rates it: 10 for everything.
fn exposure() -> Result<()> {
    /// Tenths.
    const MOST: u32 = 20;
    const UNIT: &str = "packaging/tcpstall.service";
    // `--offline` and `--threshold` are there since version 250.
    let help = command("systemd-analyze").arg("--help").ask();
    if !help.is_some_and(|it| it.contains("--offline") && it.contains("--threshold")) {
        warn(
            "NOT CHECKED: what the unit may do. That takes systemd-analyze of systemd 250 or newer",
        );
        return Ok(());
    }
    command("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager"])
        .arg(format!("--threshold={MOST}"))
        .arg(UNIT)
        .folder(workspace::root())
        .quietly()
        .with_context(|| format!("{UNIT} may do too much: `systemd-analyze security` says what"))
}

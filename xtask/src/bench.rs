//! `bench`: how soon stalls are found, and what looking for them costs.

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::{build, command::command, kernel, packages, root::as_root};

/// What to measure.
#[derive(Subcommand)]
pub(crate) enum Subject {
    /// Whether laboratory and simulator say the same of the same scenarios
    Agree(Options),
    /// How long it takes to name the upstream at fault
    Detect(Options),
    /// What the daemon costs while nothing is wrong
    Idle(Options),
    /// What the judgement says of thousands of made-up outages, in virtual time (not as root)
    Judge(Options),
    /// Whether healthy churn, loss and slow readers raise a false alarm
    Quiet(Options),
}

/// What to hand to the measurement.
#[derive(Args)]
pub(crate) struct Options {
    /// Arguments for the measurement
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

/// `cargo xtask bench`
pub(crate) fn task(subject: &Subject) -> Result<()> {
    match subject {
        Subject::Judge(options) => judge(options),
        Subject::Agree(options) => in_the_laboratory("agree", options),
        Subject::Detect(options) => in_the_laboratory("detect", options),
        Subject::Idle(options) => in_the_laboratory("idle", options),
        Subject::Quiet(options) => in_the_laboratory("quiet", options),
    }
}

/// A measurement of the real daemon.
pub(crate) fn in_the_laboratory(name: &str, options: &Options) -> Result<()> {
    packages::laboratory()?;
    let tcpstall = build::release()?;
    let bench = build::laboratory_program("bench")?;
    let measure = command(bench)
        .arg(name)
        .args(&options.args)
        .env("TCPSTALL_BIN", tcpstall);
    as_root(measure)?.become_it()
}

/// Needs no network and no kernel programs: the engine is part of the measuring program.
fn judge(options: &Options) -> Result<()> {
    kernel::build()?;
    let bench = build::laboratory_program("bench")?;
    command(bench).arg("judge").args(&options.args).become_it()
}

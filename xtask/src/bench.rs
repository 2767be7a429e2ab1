//! `bench`: how soon stalls are found, and what looking for them costs.

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};

use crate::{
    build,
    command::{Invocation, command},
    kernel, packages,
    root::as_root,
};

/// What to measure.
#[derive(Subcommand)]
pub(crate) enum Subject {
    /// Whether laboratory and simulator say the same of the same scenarios
    Agree(Options),
    /// How long it takes to name the upstream at fault
    Detect(Options),
    /// What the kernel programs take each time that they run
    Event(Options),
    /// What the daemon costs while nothing is wrong
    Idle(Options),
    /// What the judgement says of thousands of made-up outages, in virtual time (not as root)
    Judge(Options),
    /// What other tools cost and answer on the same trouble
    Peers(Options),
    /// Whether healthy churn, loss and slow readers raise a false alarm
    Quiet(Options),
    /// All that costs something, one after the other, into docs/performance.md
    Report,
    /// How twenty thousand connections that stall in the same second are told
    Storm(Options),
    /// What a walk over all connections takes, beside `ss` and the kernel's own minimum
    Sweep(Options),
    /// What the host's traffic pays for being watched: a load with the daemon running and halted, in turn
    Tax(Options),
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
        Subject::Event(options) => in_the_laboratory("event", options),
        Subject::Idle(options) => in_the_laboratory("idle", options),
        Subject::Peers(options) => {
            packages::peers();
            in_the_laboratory("peers", options)
        }
        Subject::Quiet(options) => in_the_laboratory("quiet", options),
        Subject::Report => report(),
        Subject::Storm(options) => in_the_laboratory("storm", options),
        Subject::Sweep(options) => in_the_laboratory("sweep", options),
        Subject::Tax(options) => in_the_laboratory("tax", options),
    }
}

/// A measurement of the real daemon.
pub(crate) fn in_the_laboratory(name: &str, options: &Options) -> Result<()> {
    measurement(name, &options.args)?.become_it()
}

fn measurement(name: &str, args: &[String]) -> Result<Invocation> {
    packages::laboratory()?;
    let tcpstall = build::release()?;
    let bench = build::laboratory_program("bench")?;
    let measure = command(bench)
        .arg(name)
        .args(args)
        .env("TCPSTALL_BIN", tcpstall);
    as_root(measure)
}

/// Everything that the page is made of; what misses its limit does not keep the rest from running.
fn report() -> Result<()> {
    let mut missed = Vec::new();
    packages::peers();
    for name in ["sweep", "event", "idle", "storm", "detect", "tax", "peers"] {
        if measurement(name, &["--write".to_owned()])?.run().is_err() {
            missed.push(name);
        }
    }
    ensure!(
        missed.is_empty(),
        "a limit is missed, or a measurement failed: {}",
        missed.join(", ")
    );
    Ok(())
}

/// Whether looking costs what it should, by ratios within one run: quick, and less sure than `report`.
pub(crate) fn cost() -> Result<()> {
    let args = "--connections 50000 --stalled 0 --at-work 0 --runs 15 --most 2";
    let args: Vec<_> = args.split(' ').map(str::to_owned).collect();
    measurement("sweep", &args)?.run()
}

/// Needs no network and no kernel programs: the engine is part of the measuring program.
fn judge(options: &Options) -> Result<()> {
    kernel::build()?;
    let bench = build::laboratory_program("bench")?;
    command(bench).arg("judge").args(&options.args).become_it()
}

//! `ci`: what must hold before anything is merged.

use std::time::Duration;

use anyhow::Result;
use clap::Args;

use crate::{bench, check, command::say, dist, fuzz, test, vm, walk};

/// How much to run.
#[derive(Args)]
pub(crate) struct Options {
    /// Also the packages, the walk, the laboratory's long tests, and other kernels in virtual machines: an hour
    #[arg(long)]
    all: bool,
}

/// `cargo xtask ci`
pub(crate) fn task(options: &Options) -> Result<()> {
    step("check", check::task)?;
    step("test", || test::task(&test::Options::with(options.all)))?;
    step("cost", bench::cost)?;
    step("fuzz", || fuzz::task(&fuzz::Options::default()))?;
    if options.all {
        step("dist", || dist::task(&dist::Options::tried()))?;
        step("walk", || walk::task(&walk::Options::default()))?;
        step("test-vm", || vm::task(&vm::Options::required()))?;
    }
    say("ci: passed");
    Ok(())
}

fn step(name: &str, task: impl FnOnce() -> Result<()>) -> Result<()> {
    say(&format!("ci: {name}"));
    let (outcome, took) = timed(task);
    let word = if outcome.is_ok() { "passed" } else { "FAILED" };
    say(&format!("ci: {name} {word} after {} s", took.as_secs()));
    outcome
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a step takes is for people to read"
)]
fn timed<T>(task: impl FnOnce() -> T) -> (T, Duration) {
    let start = std::time::Instant::now();
    let outcome = task();
    (outcome, start.elapsed())
}

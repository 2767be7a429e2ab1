//! `ci`: what must hold before anything is merged.

use std::time::Duration;

use anyhow::Result;

use crate::{check, command::say, test};

/// `cargo xtask ci`
pub(crate) fn task() -> Result<()> {
    step("check", check::task)?;
    step("test", || test::task(&test::Options::default()))?;
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

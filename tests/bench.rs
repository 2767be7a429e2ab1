//! Measurements: how soon a fault is named, what watching costs, and that peace stays peaceful.
//!
//! Results go to standard output, progress to standard error. The exit code is 1 when a limit is
//! missed.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[path = "bench/agree.rs"]
mod agree;
#[path = "bench/detect.rs"]
mod detect;
#[path = "bench/holder.rs"]
mod holder;
#[path = "bench/idle.rs"]
mod idle;
#[path = "bench/judge.rs"]
mod judge;
#[path = "bench/quiet.rs"]
mod quiet;
#[path = "bench/report.rs"]
mod report;
#[path = "bench/soak.rs"]
mod soak;

/// Measure tcpstall, in a laboratory of network namespaces (needs root) or in virtual time
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    subject: Subject,
}

/// What to measure.
#[derive(Debug, Subcommand)]
enum Subject {
    /// The same scenarios in the laboratory and in virtual time, side by side
    Agree(agree::Options),
    /// From the fault to the verdict, and from the repair to the all-clear
    Detect(detect::Options),
    /// What the daemon costs with many connections at rest
    Idle(idle::Options),
    /// Made-up outages and days of peace in virtual time: what the judgement says (needs no root)
    Judge(judge::Options),
    /// No false alarm under churn, loss, idle connections and slow readers
    Quiet(quiet::Options),
    /// Churn, faults and containers from a seed, checked against `ss`; the daemon must not grow
    Soak(soak::Options),
    /// Holds idle connections for `idle`, in a process with descriptors of its own
    #[command(hide = true)]
    Hold(holder::Options),
}

fn main() -> ExitCode {
    match measure(&Arguments::parse().subject) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("\nbench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Measures; whether the limits are met.
fn measure(subject: &Subject) -> Result<bool> {
    lab::signal::watch()?;
    match subject {
        Subject::Agree(options) => agree::run(options),
        Subject::Detect(options) => detect::run(options),
        Subject::Idle(options) => idle::run(options),
        Subject::Judge(options) => judge::run(options),
        Subject::Quiet(options) => quiet::run(options),
        Subject::Soak(options) => soak::run(options),
        Subject::Hold(options) => holder::run(options).map(|()| true),
    }
}

//! Measurements: how soon a fault is named, what watching costs, and that peace stays peaceful.
//!
//! Results go to standard output, progress to standard error. The exit code is 1 when a limit is
//! missed.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[path = "bench/agree.rs"]
mod agree;
#[path = "bench/checks.rs"]
mod checks;
#[path = "bench/crowd.rs"]
mod crowd;
#[path = "bench/detect.rs"]
mod detect;
#[path = "bench/event.rs"]
mod event;
#[path = "bench/idle.rs"]
mod idle;
#[path = "bench/judge.rs"]
mod judge;
#[path = "bench/peers.rs"]
mod peers;
#[path = "bench/picture.rs"]
mod picture;
#[path = "bench/quiet.rs"]
mod quiet;
#[path = "bench/report.rs"]
mod report;
#[path = "bench/soak.rs"]
mod soak;
#[path = "bench/storm.rs"]
mod storm;
#[path = "bench/sweep.rs"]
mod sweep;
#[path = "bench/tax.rs"]
mod tax;
#[path = "bench/usage.rs"]
mod usage;

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
    /// What the programs take each time that the kernel calls them
    Event(event::Options),
    /// What the daemon costs with many connections at rest
    Idle(idle::Options),
    /// Made-up outages and days of peace in virtual time: what the judgement says (needs no root)
    Judge(judge::Options),
    /// What other tools cost and answer on the same trouble
    Peers(peers::Options),
    /// No false alarm under churn, loss, idle connections and slow readers
    Quiet(quiet::Options),
    /// Churn, faults and containers from a seed, checked against `ss`; the daemon must not grow
    Soak(soak::Options),
    /// Thousands of connections that stall in the same second
    Storm(storm::Options),
    /// What a walk over all connections takes, beside what others take for the same sockets
    Sweep(sweep::Options),
    /// What the host's traffic pays for being watched
    Tax(tax::Options),
    /// Holds connections for the others, in a process with descriptors of its own
    #[command(hide = true)]
    Hold(crowd::Options),
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
        Subject::Event(options) => event::run(options),
        Subject::Idle(options) => idle::run(options),
        Subject::Judge(options) => judge::run(options),
        Subject::Peers(options) => peers::run(options),
        Subject::Quiet(options) => quiet::run(options),
        Subject::Soak(options) => soak::run(options),
        Subject::Storm(options) => storm::run(options),
        Subject::Sweep(options) => sweep::run(options),
        Subject::Tax(options) => tax::run(options),
        Subject::Hold(options) => crowd::hold(options).map(|()| true),
    }
}

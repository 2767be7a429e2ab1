//! Thousands of connections stall in the same second: how soon that is told, and what it costs.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use lab::{Daemon, Direction, Fault, Lab, Load, signal, status::Status};

use crate::{
    crowd::{Crowd, Habit, MOST},
    report::{Sheet, Times, heading, machine, progress, progress_done},
    usage::{forget_peak, mebibytes, memory, process_time},
};

/// Where the figures are written.
const PART: &str = "<!-- generated: cargo xtask bench storm --write -->";
/// What is promised.
const FAILING: Duration = Duration::from_secs(3);
const COMPLETE: Duration = Duration::from_secs(5);
const MEMORY: u64 = 80 << 20;

/// From look to look.
const POLL: Duration = Duration::from_millis(50);
/// A run in which nothing happens ends after this.
const GIVE_UP: Duration = Duration::from_secs(60);
/// From the fault to the repair: a link that stood still three times for less than ten seconds is known to do
/// that, and the verdict waits (`detector::engine::pauses`).
const OUTAGE: Duration = Duration::from_secs(15);
/// From the repair to calm.
const CALM: Duration = Duration::from_secs(180);
/// The upstream that breaks.
const BROKEN: usize = 1;

/// Options of `storm`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many stall
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..=i64::from(MOST)))]
    connections: u32,
    /// How often
    #[arg(long, default_value_t = 5)]
    runs: u32,
    /// Write the figures into docs/performance.md
    #[arg(long)]
    write: bool,
}

/// What was measured.
#[derive(Debug, Default)]
struct Results {
    failing: Times,
    complete: Times,
    cpu: Times,
}

/// Measures; whether the limits are met.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let lab = Lab::start(2)?;
    let name = lab.upstreams[BROKEN].name;
    let _others = lab.traffic(0, 0..20, Load::STEADY)?;
    let _crowd = Crowd::open(&lab, BROKEN..BROKEN + 1, options.connections, Habit::Report)?;
    let daemon = Daemon::start(&lab)?;
    calm(&daemon, options.connections, name)?;
    forget_peak(daemon.pid())?;
    let mut results = Results::default();
    for number in 1..=options.runs {
        progress(&format!(
            "run {number} of {}: waiting for calm",
            options.runs
        ));
        calm(&daemon, options.connections, name)?;
        signal::sleep(Duration::from_millis(u64::from(number) * 377 % 2000))?;
        let spent = process_time(daemon.pid())?;
        let broken = lab.break_(BROKEN, Fault::Blackhole(Direction::Both))?;
        let failing = until(&daemon, broken, |status| {
            status.is_failing(name, "blackhole")
        })?;
        let complete = until(&daemon, broken, |status| {
            stalled(status, name) == options.connections
        })?;
        results.failing.add(failing);
        results.complete.add(complete);
        results
            .cpu
            .add(process_time(daemon.pid())?.saturating_sub(spent));
        progress(&format!(
            "run {number} of {}: failing after {:.2} s, complete after {:.2} s",
            options.runs,
            failing.as_secs_f64(),
            complete.as_secs_f64()
        ));
        signal::sleep(OUTAGE.saturating_sub(broken.elapsed()))?;
        lab.repair(BROKEN)?;
    }
    progress_done();
    let lost = daemon.metric("tcpstall_events_lost_total")?.unwrap_or(0.0);
    let peak = memory(daemon.pid(), "VmHWM")?;
    daemon.stop()?;

    let mut sheet = Sheet::default();
    sheet.line(&format!(
        "storm: {} connections stall in the same second, {} runs; {}\n",
        options.connections,
        options.runs,
        machine()
    ));
    sheet.line(&heading());
    let within = |times: &Times, limit| times.quantile(1.0).is_some_and(|it| it <= limit);
    let met = [
        within(&results.failing, FAILING),
        within(&results.complete, COMPLETE),
        peak <= MEMORY,
    ]
    .map(|met| sheet.verdict(met));
    let limit = format!("worst {FAILING:?}: {}", met[0]);
    sheet.line(&results.failing.row("fault to failing", &limit));
    let limit = format!("worst {COMPLETE:?}: {}", met[1]);
    sheet.line(&results.complete.row("fault to all told", &limit));
    sheet.line(&results.cpu.row(
        "processor time until then",
        "20 questions a second included",
    ));
    sheet.line(&format!(
        "{:<26}{:>9}   at most {}: {}",
        "resident memory, peak",
        mebibytes(peak),
        mebibytes(MEMORY),
        met[2]
    ));
    sheet.line(&format!(
        "{:<26}{lost:>9}   found by sweeps instead",
        "events lost"
    ));
    sheet.finish(PART, options.write)
}

fn stalled(status: &Status, name: &str) -> u32 {
    status.upstream(name).map_or(0, |it| it.connections.stalled)
}

/// Looks until `done`; gives the time since `begin`.
fn until(daemon: &Daemon, begin: Instant, done: impl Fn(&Status) -> bool) -> Result<Duration> {
    loop {
        let status = daemon.status()?;
        let age = begin.elapsed();
        if done(&status) {
            return Ok(age);
        }
        ensure!(
            age < GIVE_UP,
            "not within {GIVE_UP:?}: {}",
            status.summary()
        );
        signal::sleep(POLL)?;
    }
}

/// Waits until all is well and every connection is known.
fn calm(daemon: &Daemon, connections: u32, name: &str) -> Result<()> {
    daemon.wait_until(CALM, "calm", |status| {
        status.state_of(name) == "ok"
            && status.upstream(name).is_some_and(|it| {
                it.connections.stalled == 0 && it.connections.established >= connections
            })
    })?;
    Ok(())
}

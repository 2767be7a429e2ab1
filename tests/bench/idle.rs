//! What the daemon costs while nothing happens on many connections.

use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use lab::{Daemon, Lab, signal};

use crate::{
    crowd::{Crowd, Habit, MOST},
    report::{Sheet, machine, progress, progress_done},
    usage::{forget_peak, mebibytes, memory, process_time},
};

/// Where the figures are written.
const PART: &str = "<!-- generated: cargo xtask bench idle --write -->";
/// What is promised: this share of one core with few connections and with many, and this much memory.
const CPU_FEW: f64 = 0.003;
const CPU_MANY: f64 = 0.01;
const MEMORY: u64 = 40 << 20;
/// Up to here they are few.
const FEW: u32 = 10_000;
/// Until the detector has seen all of them.
const SEEN: Duration = Duration::from_secs(120);
/// And has come to rest.
const SETTLE: Duration = Duration::from_secs(10);

/// That many sweeps at least are measured.
const SWEEPS: f64 = 8.0;

/// Options of `idle`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many connections, one measurement for each
    #[arg(long, value_delimiter = ',', default_value = "10000,200000",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST)))]
    connections: Vec<u32>,
    /// How long to measure, in seconds
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// Write the figures into docs/performance.md
    #[arg(long)]
    write: bool,
}

/// Measures; whether the limits are met.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let mut sheet = Sheet::default();
    sheet.line(&format!(
        "idle: connections at rest, {} s or {SWEEPS} sweeps; {}",
        options.seconds,
        machine()
    ));
    for &connections in &options.connections {
        one(&mut sheet, connections, options.seconds)?;
    }
    sheet.finish(PART, options.write)
}

fn one(sheet: &mut Sheet, connections: u32, seconds: u64) -> Result<()> {
    let lab = Lab::start(3)?;
    let _crowd = Crowd::open(&lab, 0..3, connections, Habit::Rest)?;
    let daemon = Daemon::start(&lab)?;
    progress("waiting until the detector has seen them all");
    daemon.wait_until(SEEN, "all connections are seen", |status| {
        let upstreams = status.upstreams.iter();
        let ours = upstreams.filter(|it| it.name.starts_with("provider-"));
        let seen: u32 = ours.map(|it| it.connections.established).sum();
        seen >= connections
    })?;
    signal::sleep(SETTLE)?;

    let at_start = memory(daemon.pid(), "VmHWM")?;
    forget_peak(daemon.pid())?;
    let (begin, spent_before) = (Instant::now(), process_time(daemon.pid())?);
    // Of sweeps that are far apart some more must fall into it.
    let interval = daemon.status()?.daemon.sweep_interval_seconds;
    let end = Duration::from_secs(seconds).max(Duration::from_secs_f64(interval * SWEEPS));
    while begin.elapsed() < end {
        let left = end.saturating_sub(begin.elapsed());
        progress(&format!(
            "{connections} connections: measuring, {} s left",
            left.as_secs()
        ));
        signal::sleep(left.min(Duration::from_secs(5)))?;
    }
    let spent = process_time(daemon.pid())?.saturating_sub(spent_before);
    let elapsed = begin.elapsed();
    progress_done();

    let share = spent.as_secs_f64() / elapsed.as_secs_f64();
    let resident = memory(daemon.pid(), "VmRSS")?;
    let peak = memory(daemon.pid(), "VmHWM")?;
    daemon.stop()?;

    let limit = if connections <= FEW {
        CPU_FEW
    } else {
        CPU_MANY
    };
    let cpu_met = sheet.verdict(share <= limit);
    let memory_met = sheet.verdict(peak <= MEMORY);
    let rows = [
        (
            "processor, of one core",
            format!("{:.3} %", share * 100.0),
            format!("at most {:.1} %: {cpu_met}", limit * 100.0),
        ),
        ("resident memory", mebibytes(resident), String::new()),
        (
            "resident memory, peak",
            mebibytes(peak),
            format!("at most {}: {memory_met}", mebibytes(MEMORY)),
        ),
        ("the same at start-up", mebibytes(at_start), String::new()),
        (
            "time between sweeps",
            format!("{interval:.1} s"),
            String::new(),
        ),
    ];
    sheet.line(&format!("\n{connections} connections"));
    for (name, value, limit) in rows {
        sheet.line(&format!("  {name:<26}{value:>12}   {limit}"));
    }
    Ok(())
}

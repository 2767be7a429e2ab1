//! What the programs on the tracepoints take each time that they run, by the kernel's own statistics.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aya::sys::{Stats, enable_stats};
use clap::Args;
use detector::sense::programs::Sizes;
use detector_ebpf::Counter;
use lab::{Direction, Fault, Lab, sensors::Sensors, signal};

use crate::{
    crowd::{Crowd, Habit},
    report::{Sheet, Times, machine, progress, progress_done},
};

/// Where the figures are written.
const PART: &str = "<!-- generated: cargo xtask bench event --write -->";
/// What is promised of a timeout.
const MEDIAN: Duration = Duration::from_nanos(1500);
/// The kernel tells sums: each of them is over so much time.
const SPAN: Duration = Duration::from_secs(1);

/// From look to look into the ring: it holds some thousands.
const PACE: Duration = Duration::from_millis(10);

/// Options of `event`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many connections stall
    #[arg(long, default_value_t = 10_000)]
    connections: u32,
    /// For how many seconds
    #[arg(long, default_value_t = 30)]
    seconds: u32,
    /// Write the figures into docs/performance.md
    #[arg(long)]
    write: bool,
}

/// How often a program ran, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Usage {
    runs: u64,
    time: Duration,
}

impl Usage {
    fn of(sensors: &mut Sensors, program: &str) -> Result<Self> {
        let program = sensors.programs.ebpf().program(program);
        let info = program.context("no such program")?.info()?;
        Ok(Self {
            runs: info.run_count(),
            time: info.run_time(),
        })
    }

    /// Nanoseconds of each run since then, on average.
    fn since(self, before: Self) -> Option<Duration> {
        let runs = self.runs.checked_sub(before.runs)?;
        let runs = u32::try_from(runs).ok().filter(|&it| it > 0)?;
        Some((self.time - before.time) / runs)
    }
}

/// Measures; whether the limit is met.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let lab = Lab::start(1)?;
    let crowd = Crowd::open(&lab, 0..1, options.connections, Habit::Report)?;
    let mut sensors = Sensors::load(&lab.host, &Sizes::default(), |it| it.other_netns = 0)?;
    // For as long as this is open.
    let _counting = enable_stats(Stats::RunTime).context("the kernel does not measure")?;
    lab.break_(0, Fault::Blackhole(Direction::Both))?;
    let mut repeated = Times::default();
    let mut announced = 0;
    let first = Usage::of(&mut sensors, "on_retransmit")?;
    let mut before = first;
    for second in 1..=options.seconds {
        progress(&format!("second {second} of {}", options.seconds));
        announced += drain(&mut sensors, SPAN)?;
        let now = Usage::of(&mut sensors, "on_retransmit")?;
        if let Some(each) = now.since(before) {
            repeated.add(each);
        }
        before = now;
    }
    let runs = before.runs - first.runs;
    let closing = Usage::of(&mut sensors, "on_destroy")?;
    let closed = std::thread::scope(|scope| {
        let closing = scope.spawn(move || drop(crowd));
        while !closing.is_finished() {
            drain(&mut sensors, PACE)?;
        }
        Usage::of(&mut sensors, "on_destroy")
    })?;
    progress_done();
    // One that finds no room is cheaper than one that is announced.
    let lost = sensors.programs.counter(Counter::RingFull);
    ensure!(
        lost == 0,
        "{lost} events found no room: what the others took is not known"
    );

    let mut sheet = Sheet::default();
    sheet.line(&format!(
        "event: {} connections stall for {} s; nanoseconds of each run, on average over each second; {}\n",
        options.connections,
        options.seconds,
        machine()
    ));
    sheet.line(&format!(
        "{:<40}{:>9}{:>11}{:>9}{:>9}{:>9}",
        "", "runs", "announced", "min", "median", "max"
    ));
    let nanoseconds = |time: Option<Duration>| {
        time.map_or_else(|| "-".to_owned(), |it| it.as_nanos().to_string())
    };
    let met = sheet.verdict(repeated.quantile(0.5).is_some_and(|it| it <= MEDIAN));
    sheet.line(&format!(
        "{:<40}{runs:>9}{announced:>11}{:>9}{:>9}{:>9}   median {} ns at most: {}",
        "on_retransmit, a segment is sent again",
        nanoseconds(repeated.quantile(0.0)),
        nanoseconds(repeated.quantile(0.5)),
        nanoseconds(repeated.quantile(1.0)),
        MEDIAN.as_nanos(),
        met
    ));
    sheet.line(&format!(
        "{:<40}{:>9}{:>11}{:>9}{:>9}{:>9}   mean",
        "on_destroy, a connection ends",
        closed.runs - closing.runs,
        "",
        "",
        nanoseconds(closed.since(closing)),
        ""
    ));
    sheet.finish(PART, options.write)
}

/// Takes what is announced for so long; gives how much that was.
fn drain(sensors: &mut Sensors, time: Duration) -> Result<u64> {
    let begin = Instant::now();
    let mut count = 0;
    while begin.elapsed() < time {
        while sensors.events.next().is_some() {
            count += 1;
        }
        signal::sleep(PACE)?;
    }
    Ok(count)
}

//! What the daemon costs while nothing happens on many connections.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    process::{Child, ChildStdin, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use lab::{Daemon, Family, Lab, network::DESTINATIONS, server, signal};

use crate::report::{machine, progress, progress_done, verdict};

/// What is promised: this share of one core, and this much memory.
const CPU: f64 = 0.005;
const MEMORY: u64 = 40 << 20;

/// The server's ends are in this process; some descriptors are left for the rest.
const MOST: u16 = 18_000;
/// Until the detector has seen all of them and has come to rest.
const SETTLE: Duration = Duration::from_secs(10);

/// Options of `idle`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many connections
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u16).range(1..=i64::from(MOST)))]
    connections: u16,
    /// How long to measure, in seconds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// Measures; whether the limits are met.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let lab = Lab::start(3)?;
    progress(&format!("opening {} connections", options.connections));
    let _clients = Clients::start(&lab, options.connections)?;
    let daemon = Daemon::start(&lab)?;
    progress("waiting until the detector has seen them all");
    daemon.wait_until(
        Duration::from_secs(60),
        "all connections are seen",
        |status| {
            let seen: u32 = status
                .upstreams
                .iter()
                .filter(|it| it.name.starts_with("provider-"))
                .map(|it| it.connections.established)
                .sum();
            seen >= u32::from(options.connections)
        },
    )?;
    signal::sleep(SETTLE)?;

    // Start-up, with the kernel's type information in memory, is over: the peak begins anew
    // (proc_pid_clear_refs(5)).
    let at_start = memory(daemon.pid(), "VmHWM")?;
    fs::write(format!("/proc/{}/clear_refs", daemon.pid()), "5")
        .context("the peak cannot be reset")?;
    let (begin, spent_before) = (Instant::now(), cpu_time(daemon.pid())?);
    let end = Duration::from_secs(options.seconds);
    while begin.elapsed() < end {
        let left = (end - begin.elapsed()).as_secs();
        progress(&format!("measuring, {left} s left"));
        signal::sleep((end - begin.elapsed()).min(Duration::from_secs(5)))?;
    }
    let spent = cpu_time(daemon.pid())?.saturating_sub(spent_before);
    let elapsed = begin.elapsed();
    progress_done();

    let status = daemon.status()?;
    let share = spent.as_secs_f64() / elapsed.as_secs_f64();
    let resident = memory(daemon.pid(), "VmRSS")?;
    let peak = memory(daemon.pid(), "VmHWM")?;
    let (cpu_met, memory_met) = (share <= CPU, peak <= MEMORY);
    println!(
        "idle: {} connections at rest, {:.0} s; {}\n",
        options.connections,
        elapsed.as_secs_f64(),
        machine()
    );
    let row =
        |name: &str, value: String, limit: String| println!("{name:<26}{value:>12}   {limit}");
    row(
        "processor, of one core",
        format!("{:.3} %", share * 100.0),
        format!("{:.1} %: {}", CPU * 100.0, verdict(cpu_met)),
    );
    row("resident memory", mebibytes(resident), String::new());
    row(
        "resident memory, peak",
        mebibytes(peak),
        format!("{}: {}", mebibytes(MEMORY), verdict(memory_met)),
    );
    row("the same at start-up", mebibytes(at_start), String::new());
    row(
        "time between sweeps",
        format!("{:.1} s", status.daemon.sweep_interval_seconds),
        String::new(),
    );
    daemon.stop()?;
    Ok(cpu_met && memory_met)
}

/// The process with the clients' ends.
#[derive(Debug)]
struct Clients {
    child: Child,
    /// Closed, it ends the process.
    input: Option<ChildStdin>,
}

impl Clients {
    fn start(lab: &Lab, connections: u16) -> Result<Self> {
        let peers = lab.upstreams.iter().flat_map(|upstream| {
            (0..DESTINATIONS).map(|number| upstream.destination(number, Family::V4))
        });
        let mut child = Command::new(env::current_exe()?)
            .args(["hold", "--namespace", lab.host.name()])
            .args(["--connections", &connections.to_string()])
            .args(peers.map(|peer| format!("{peer}:{}", server::MESSAGES)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the process for the clients' ends")?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("no standard output")?;
        let clients = Self { child, input };
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        ensure!(line.trim() == "ready", "the clients could not connect");
        Ok(clients)
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.input.take();
        let _ = self.child.wait();
    }
}

/// Processor time of all threads, in the scheduler's own nanoseconds (`utime` counts in 10 ms).
fn cpu_time(pid: u32) -> Result<Duration> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end between the listing and the reading.
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else {
            continue;
        };
        let word = text
            .split_whitespace()
            .next()
            .context("an empty schedstat")?;
        sum += word.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(sum))
}

/// A line of `/proc/PID/status`, in bytes.
pub(crate) fn memory(pid: u32, key: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    Ok(kilobytes
        .with_context(|| format!("no {key}"))?
        .parse::<u64>()?
        << 10)
}

pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

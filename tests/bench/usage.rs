//! What a process uses.

use std::{fs, time::Duration};

use anyhow::{Context, Result};

/// Ticks of `/proc/PID/stat` in a second (`USER_HZ`, the same on all architectures that we know).
const TICKS: u64 = 100;

/// Processor time of a process, with that of threads that have ended; in steps of 10 ms.
pub(crate) fn process_time(pid: u32) -> Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may contain anything.
    let rest = text.rsplit_once(") ").context("no name in stat")?.1;
    let mut fields = rest.split(' ').skip(11);
    let mut ticks = || -> Result<u64> {
        let field = fields.next().context("stat ends too soon")?;
        Ok(field.parse()?)
    };
    let sum = ticks()? + ticks()?;
    Ok(Duration::from_millis(sum * 1000 / TICKS))
}

/// Processor time of a process with one thread, in the scheduler's own nanoseconds.
pub(crate) fn thread_time(pid: u32) -> Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/schedstat"))?;
    let word = text.split_whitespace().next();
    let nanoseconds = word.context("an empty schedstat")?.parse()?;
    Ok(Duration::from_nanos(nanoseconds))
}

/// The peak of a process's memory begins anew: start-up, with the kernel's type information in memory,
/// is over (proc_pid_clear_refs(5)).
pub(crate) fn forget_peak(pid: u32) -> Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").context("the peak cannot be reset")
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

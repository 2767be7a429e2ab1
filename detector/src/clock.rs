//! The only place that reads clocks.

use std::time::Duration;

use jiff::Timestamp;
use rustix::time::{ClockId, Timespec, clock_getres, clock_gettime};

use crate::time::Time;

/// Now, on the clock of `bpf_ktime_get_ns`.
pub fn now() -> Time {
    Time(nanoseconds(clock_gettime(ClockId::Monotonic)))
}

/// Now, for people.
pub fn wall() -> Timestamp {
    Timestamp::now()
}

/// How long the host was suspended since it came up: `CLOCK_BOOTTIME` goes on in its sleep,
/// `CLOCK_MONOTONIC` stands still (`clock_gettime(2)`).
pub fn asleep() -> Duration {
    let boottime = Time(nanoseconds(clock_gettime(ClockId::Boottime)));
    boottime.since(now())
}

/// Processor time that this thread has used.
pub fn thread_cpu() -> Duration {
    Duration::from_nanos(nanoseconds(clock_gettime(ClockId::ThreadCPUTime)))
}

/// Jiffies per second of this kernel. The coarse clocks advance once a jiffy
/// (`kernel/time/posix-timers.c`, `posix_get_coarse_res`), so their resolution tells.
pub fn jiffies_per_second() -> u64 {
    let tick = nanoseconds(clock_getres(ClockId::MonotonicCoarse)).max(1);
    (1_000_000_000 + tick / 2) / tick
}

fn nanoseconds(time: Timespec) -> u64 {
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jiffy_is_one_of_the_lengths_that_linux_can_be_built_with() {
        assert!([100, 250, 300, 1000].contains(&jiffies_per_second()));
    }

    #[test]
    fn nobody_sleeps_while_the_tests_run() {
        let before = asleep();
        assert!(asleep().abs_diff(before) < Duration::from_millis(500));
    }

    #[test]
    fn the_clock_moves_forward() {
        let first = now();
        assert!(now() >= first);
    }
}

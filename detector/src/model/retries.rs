//! How long the kernel keeps trying before it gives a connection up.
//!
//! Its arithmetic is retold: `net/ipv4/tcp_timer.c` of 6.12, `tcp_write_timeout`,
//! `retransmits_timed_out`, `tcp_model_timeout` and `tcp_probe_timer`
//! (<https://elixir.bootlin.com/linux/v6.12/source/net/ipv4/tcp_timer.c>).
//!
//! **Invariant:** pure; what is not known is `None`.

use std::time::Duration;

use super::Sample;
use crate::time::Time;

/// `TCP_RTO_MIN`: the model counts from it, whatever the connection's own timeout is.
const SHORTEST: Duration = Duration::from_millis(200);
/// Retries of an orphan when the host sets none (`tcp_orphan_retries`).
const ORPHAN: u32 = 8;
/// Timers that are followed into the future: more than any setting allows.
const MOST_TIMERS: u32 = 512;

/// What the host sets: `net.ipv4.tcp_retries2`, `tcp_orphan_retries` and `tcp_rto_max_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// Of data, before a connection is given up.
    pub data: u32,
    /// Of what is left when no process holds the connection; 0 is the kernel's own choice.
    pub orphan: u32,
    /// The longest timeout: from there on it does not double.
    pub longest: Duration,
    /// Between two ticks of the kernel's clock: its timers are late by a multiple of that.
    pub jiffy: Duration,
}

impl Default for Retries {
    /// What the kernel starts with.
    fn default() -> Self {
        Self {
            data: 15,
            orphan: 0,
            longest: Duration::from_secs(120),
            jiffy: Duration::from_millis(4),
        }
    }
}

impl Retries {
    /// When the kernel will give the connection up, if nothing comes back; `since` is when its
    /// data began to wait.
    ///
    /// In order; the first that applies wins:
    /// 1. nothing was repeated yet, or no timer runs: not known
    /// 2. a closed window: each probe counts, and at `tcp_retries2` of them without an answer it
    ///    ends; never while the peer answers (RFC 1122 §4.2.2.17), unless `TCP_USER_TIMEOUT` is set
    /// 3. data in flight: at the first timer after the model's time, or `TCP_USER_TIMEOUT`, counted
    ///    from the first repetition; timers are late, and that often decides which one it is
    pub fn gives_up(&self, sample: &Sample, since: Time) -> Option<Time> {
        if sample.persist {
            return self.probes_end(sample, since);
        }
        let first = first_timeout(sample, since)?;
        // The peer has closed its window with data in flight: repeating it is probing.
        if sample.peer_window == 0 && !is_orphan(sample) && sample.user_timeout.is_none() {
            return None;
        }
        let mut timeout = sample.rto;
        let mut fires = sample.next_try?.after(self.late(timeout));
        for _ in 0..MOST_TIMERS {
            let limit = sample
                .user_timeout
                .unwrap_or_else(|| self.model(self.boundary(sample, timeout)));
            let elapsed = fires.since(first);
            if elapsed >= limit {
                return Some(fires);
            }
            timeout = timeout.saturating_mul(2).min(self.longest);
            let clamped = sample
                .user_timeout
                .map_or(timeout, |it| timeout.min(it.saturating_sub(elapsed)));
            fires = fires.after(clamped).after(self.late(clamped));
        }
        None
    }

    /// Retries after which data is given up (`tcp_orphan_retries` in the kernel).
    fn boundary(&self, sample: &Sample, timeout: Duration) -> u32 {
        if !is_orphan(sample) {
            return self.data;
        }
        let alive = timeout < self.longest;
        match (self.orphan, alive) {
            (_, false) if sample.unreachable.is_some() => 0,
            (0, true) => ORPHAN,
            (retries, _) => retries,
        }
    }

    /// The time that so many retries take when the first timeout is the shortest one
    /// (`tcp_model_timeout`).
    fn model(&self, retries: u32) -> Duration {
        let ratio = self.longest.as_millis() / SHORTEST.as_millis();
        let linear_from = ratio.max(1).ilog2();
        let doubling = |n: u32| SHORTEST.saturating_mul((2 << n.min(30)) - 1);
        if retries <= linear_from {
            doubling(retries)
        } else {
            doubling(linear_from).saturating_add(self.longest.saturating_mul(retries - linear_from))
        }
    }

    /// How late a timer is on average that was set so far ahead: the wheel has 64 places on each
    /// level, and each level is eight times as coarse (`kernel/time/timer.c`, `calc_wheel_index`).
    fn late(&self, ahead: Duration) -> Duration {
        const PLACES: u32 = 63;
        const COARSER: u32 = 8;
        let mut place = self.jiffy;
        while !place.is_zero() && ahead >= place.saturating_mul(PLACES) {
            place = place.saturating_mul(COARSER);
        }
        place / 2
    }

    /// The end of window probes.
    fn probes_end(&self, sample: &Sample, since: Time) -> Option<Time> {
        if sample.probes == 0 && sample.user_timeout.is_none() {
            return None;
        }
        let first = since.after(sample.rto);
        let mut fires = sample.next_try?;
        let (mut probes, mut backoff) = (u32::from(sample.probes), u32::from(sample.backoff));
        let wait = |backoff: u32| {
            let doubled = sample.rto.saturating_mul(1 << backoff.min(20));
            doubled.min(self.longest)
        };
        for _ in 0..MOST_TIMERS {
            let elapsed = fires.since(first);
            let most = self.boundary(sample, wait(backoff));
            if probes >= most || sample.user_timeout.is_some_and(|it| elapsed >= it) {
                return Some(fires);
            }
            probes += 1;
            backoff += 1;
            let left = sample
                .user_timeout
                .map_or(Duration::MAX, |it| it.saturating_sub(elapsed));
            fires = fires.after(wait(backoff).min(left));
        }
        None
    }
}

/// When data was repeated for the first time after a timeout; `None` when it was not.
pub fn first_timeout(sample: &Sample, since: Time) -> Option<Time> {
    let first = sample.rto / (1 << u32::from(sample.backoff).min(30));
    (sample.timeouts > 0).then(|| since.after(first))
}

/// Closed, and no process holds it: only then the kernel loses patience sooner.
fn is_orphan(sample: &Sample) -> bool {
    sample.is_orphan() && sample.inode.is_none()
}

#[cfg(test)]
mod tests;

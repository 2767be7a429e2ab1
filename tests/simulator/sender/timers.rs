//! What happens when nothing comes back.

use super::{
    super::{
        MILLISECOND, Nanos,
        random::Random,
        way::{Block, Way},
    },
    BACKOFF_MAX, Burst, Fired, Mode, PATIENCE, PATIENCE_FOR_ORPHANS, RTO_MAX, RTO_MIN, Sender,
    Timer,
};

impl Sender {
    /// Sets the retransmission timer anew.
    pub(super) fn start_over(&mut self, now: Nanos) {
        self.timer = Some((fires(now, self.rto), Timer::Retransmission));
    }

    /// Sets the timer: a loss probe when nothing is known to be missing, else the retransmission
    /// timer; the latter runs on unless it is to start `anew`.
    pub(super) fn arm(&mut self, now: Nanos, anew: bool) {
        let sacked = self.queue.iter().take(self.sent).any(|it| it.sacked);
        if self.mode == Mode::Open && !self.probing_tail && !sacked {
            let reserve = if self.sent == 1 {
                RTO_MIN
            } else {
                2 * MILLISECOND
            };
            let timeout = (self.queue[0].sent_at + self.rto).saturating_sub(now);
            let wait = (2 * self.srtt + reserve).min(timeout);
            self.timer = Some((fires(now, wait), Timer::LossProbe));
        } else if anew || !matches!(self.timer, Some((_, Timer::Retransmission))) {
            self.start_over(now);
        }
    }

    /// The pending timer runs out.
    pub fn fire(&mut self, now: Nanos, way: &Way, random: &mut Random) -> Fired {
        let Some((_, timer)) = self.timer.take() else {
            return Fired::Unseen;
        };
        match timer {
            Timer::LossProbe => self.probe_tail(now, way, random),
            Timer::WindowProbe => self.probe_window(now, way, random),
            Timer::Retransmission => return self.time_out(now, way, random),
        }
        Fired::Unseen
    }

    fn probe_tail(&mut self, now: Nanos, way: &Way, random: &mut Random) {
        self.probing_tail = true;
        let place = self.sent.min(self.queue.len() - 1);
        let mut burst = Burst::default();
        self.transmit(place, now, way, random, &mut burst);
        self.answer(&burst, now, way, random);
        self.start_over(now);
    }

    fn probe_window(&mut self, now: Nanos, way: &Way, random: &mut Random) {
        if self.window_open && way.block != Some(Block::Local) {
            (self.backoff, self.probes, self.probed_at) = (0, 0, None);
            return self.push(now, way, random);
        }
        self.probes = self.probes.saturating_add(1);
        self.probed_at.get_or_insert(now);
        self.backoff = (self.backoff + 1).min(BACKOFF_MAX);
        if self.passes(1, way, random) {
            // Outside the window: answered with what is known, as an empty duplicate.
            let burst = Burst {
                arrived: 1,
                ..Burst::default()
            };
            self.arrivals += 1;
            self.answer(&burst, now, way, random);
        }
        let wait = (self.rto.max(RTO_MIN) << self.backoff).min(RTO_MAX);
        self.timer = Some((fires(now, wait), Timer::WindowProbe));
    }

    fn time_out(&mut self, now: Nanos, way: &Way, random: &mut Random) -> Fired {
        if self.sent == 0 {
            return Fired::Unseen;
        }
        let patience = if self.orphan {
            PATIENCE_FOR_ORPHANS
        } else {
            PATIENCE
        };
        let first = self.repeated_at.filter(|_| self.timeouts > 0);
        if first.is_some_and(|first| now - first >= patience) {
            return Fired::Dead;
        }
        if self.timeouts == 0 {
            self.ssthresh = (self.cwnd / 2.0).max(2.0);
        }
        self.mode = Mode::Loss;
        self.high = self.passed + self.sent as u64;
        self.cwnd = 1.0;
        for segment in self.queue.iter_mut().take(self.sent) {
            segment.lost = !segment.sacked;
        }
        self.timeouts = self.timeouts.saturating_add(1);
        let (error, repeated_at) = (refusal(way), self.repeated_at);
        let mut burst = Burst::default();
        self.transmit(0, now, way, random, &mut burst);
        self.answer(&burst, now, way, random);
        // The tracepoint is passed before the kernel notes the time of the first repetition.
        self.repeated_at = repeated_at;
        Fired::Timeout(error)
    }

    /// What the kernel does after the tracepoint of a timeout was passed.
    pub fn back_off(&mut self, now: Nanos) {
        self.repeated_at.get_or_insert(now);
        self.backoff = self.backoff.saturating_add(1);
        self.rto = (2 * self.rto).min(RTO_MAX);
        self.start_over(now);
    }
}

/// A tick of the kernel's clock, `CONFIG_HZ=250`. Timeouts are whole ticks.
pub(super) const TICK: Nanos = 4 * MILLISECOND;
/// A level of the wheel on which timers wait has ticks that are eight times as long as those of the
/// level below, and holds what is further away than 63 of the latter.
const LEVEL_BITS: u32 = 3;
const LEVEL_HOLDS: u64 = 63;

/// When a timer fires that is set now to wait so long: never early, always on a tick, and the longer
/// the wait the coarser (`calc_wheel_index` in `kernel/time/timer.c`, since 4.8).
pub(super) fn fires(now: Nanos, wait: Nanos) -> Nanos {
    let ticks = wait.div_ceil(TICK);
    let expires = now / TICK + ticks;
    let mut shift = 0;
    while ticks >= LEVEL_HOLDS << shift {
        shift += LEVEL_BITS;
    }
    (((expires >> shift) + 1) << shift) * TICK
}

/// What the kernel says when it sends again: `EBUSY` while the copy before still waits for the
/// neighbour's address, `EPERM` when a filter refuses.
fn refusal(way: &Way) -> Option<i32> {
    match way.block {
        Some(Block::Neighbour) => Some(16),
        Some(Block::Local) => Some(1),
        Some(Block::Hole) | None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_are_late_by_a_tick_and_long_ones_by_more() {
        for start in (0..5_000).map(|it| 86_400_000 * MILLISECOND + it * 777_777) {
            // In milliseconds; the longest delays are a tick of the level on which they wait.
            for (wait, latest) in [(2, 8), (201, 208), (408, 440), (816, 848), (3264, 3520)] {
                let late = fires(start, wait * MILLISECOND) - start;
                let range = wait * MILLISECOND..=latest * MILLISECOND;
                assert!(range.contains(&late), "{wait} ms: {late} ns");
                assert_eq!((start + late) % TICK, 0);
            }
        }
    }
}

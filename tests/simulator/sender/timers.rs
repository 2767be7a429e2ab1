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
            let timeout = (self.queue[0].sent_at + self.rto).max(now);
            let at = (now + 2 * self.srtt + reserve).min(timeout);
            self.timer = Some((at, Timer::LossProbe));
        } else if anew || !matches!(self.timer, Some((_, Timer::Retransmission))) {
            self.timer = Some((now + self.rto, Timer::Retransmission));
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
        self.timer = Some((now + self.rto, Timer::Retransmission));
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
        self.timer = Some((now + wait, Timer::WindowProbe));
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
        self.timer = Some((now + self.rto, Timer::Retransmission));
    }
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

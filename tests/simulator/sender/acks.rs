//! What comes back, and what the sender makes of it.

use super::{
    super::{Nanos, random::Random, way::Way},
    Ack, Burst, LARGEST_WINDOW, Mode, RTO_MIN, Sender, Timer,
};

/// Doublings of the peer's timer after which its next copy does not matter any more.
const COPIES: u32 = 8;

impl Sender {
    /// The peer acknowledges every second segment, and each that it has already at once. What an
    /// acknowledgement says, the next says too: only the last ones matter. The very last comes with
    /// the answer, where there is one.
    pub(super) fn answer(&mut self, burst: &Burst, now: Nanos, way: &Way, random: &mut Random) {
        if way.block.is_some() {
            return;
        }
        let mut lost = |fate: &mut bool| std::mem::take(fate) || random.chance(way.ack_loss);
        let mut duplicates = 0;
        for _ in 0..burst.duplicates {
            duplicates += u32::from(!lost(&mut self.ack_fate));
        }
        let mut upto = (duplicates > 0).then_some(self.arrivals);
        let mut missed = 0;
        let complete = self.answered && burst.arrived > 0 && self.has_all_arrived();
        while upto.is_none() && missed < burst.arrived {
            if lost(&mut self.ack_fate) {
                missed += 2;
            } else {
                upto = Some(self.arrivals - missed);
            }
        }
        if complete && upto != Some(self.arrivals) {
            self.answer_again(now, way, random);
        }
        let Some(upto) = upto else {
            return;
        };
        let late = (way.rtt as f64 * way.jitter * random.share()) as Nanos;
        let before = self.acks.iter().rev().find(|ack| !ack.repeated);
        let earliest = before.map_or(0, |ack| ack.at);
        self.put(Ack {
            at: (now + way.rtt + late).max(earliest),
            upto,
            duplicates,
            sent_at: now,
            repeated: false,
        });
    }

    /// The answer is lost; the peer's loss probe and its timeouts repeat it, and with it what it
    /// acknowledges. What the peer is told in turn always arrives.
    fn answer_again(&mut self, now: Nanos, way: &Way, random: &mut Random) {
        let mut after = 2 * way.rtt + RTO_MIN;
        for doublings in 0..COPIES {
            if !random.chance(way.ack_loss) {
                break;
            }
            after += (way.rtt + RTO_MIN) << doublings;
        }
        let at = now + way.rtt + after;
        self.put(Ack {
            at,
            upto: self.arrivals,
            duplicates: 0,
            sent_at: at - way.rtt,
            repeated: true,
        });
    }

    /// In the order in which they arrive.
    fn put(&mut self, ack: Ack) {
        let place = self.acks.partition_point(|it| it.at <= ack.at);
        self.acks.insert(place, ack);
    }

    fn has_all_arrived(&self) -> bool {
        self.sent == self.queue.len() && self.queue.iter().all(|it| it.arrived > 0)
    }

    /// Takes in what has come back until `now`; whether the first segment moved.
    pub fn hear(&mut self, now: Nanos, way: &Way, random: &mut Random) -> bool {
        let mut moved = false;
        while let Some(ack) = self.acks.front().copied().filter(|ack| ack.at <= now) {
            self.acks.pop_front();
            // It was not on its way yet when the way was closed.
            if ack.repeated && way.block.is_some() {
                continue;
            }
            moved |= self.take(ack, now, way, random);
        }
        moved
    }

    fn take(&mut self, ack: Ack, now: Nanos, way: &Way, random: &mut Random) -> bool {
        self.heard_at = now;
        self.duplicates += ack.duplicates;
        (self.probes, self.probed_at) = (0, None);
        let newest = self.mark(&ack, now);
        let gone = self.drop_acknowledged();
        if let Some(newest) = newest {
            self.give_up_before(newest);
        }
        if gone > 0 {
            self.progress(gone, now - ack.sent_at);
        }
        if self.mode == Mode::Open && self.queue.iter().take(self.sent).any(|it| it.lost) {
            self.mode = Mode::Recovery;
            self.high = self.passed + self.sent as u64;
            self.ssthresh = (self.cwnd * 0.7).max(2.0);
            self.cwnd = self.ssthresh;
        }
        if self.sent == 0 {
            self.timer = self.timer.filter(|(_, timer)| *timer == Timer::WindowProbe);
        } else if gone > 0 {
            self.arm(now, true);
        }
        self.push(now, way, random);
        gone > 0
    }

    /// Notes what the peer has; the newest transmission of which that is now known.
    fn mark(&mut self, ack: &Ack, now: Nanos) -> Option<(Nanos, u64)> {
        let mut newest = None;
        for (place, segment) in self.queue.iter_mut().take(self.sent).enumerate() {
            if segment.sacked || segment.arrived == 0 || segment.arrived > ack.upto {
                continue;
            }
            (segment.sacked, segment.lost) = (true, false);
            self.acked_at = now;
            // A repetition of a moment ago is not what was answered (`tcp_rack_advance`).
            if segment.copies == 1 || now - segment.sent_at >= self.srtt * 9 / 10 {
                newest = newest.max(Some((segment.sent_at, self.passed + place as u64)));
            }
        }
        newest
    }

    fn drop_acknowledged(&mut self) -> u64 {
        let mut gone = 0;
        while self.sent > 0 && self.queue[0].sacked {
            self.una += u64::from(self.queue[0].bytes);
            self.queue.pop_front();
            self.sent -= 1;
            gone += 1;
        }
        self.passed += gone;
        gone
    }

    /// What was sent before something that arrived is lost (RFC 8985, no reordering).
    fn give_up_before(&mut self, newest: (Nanos, u64)) {
        let passed = self.passed;
        for (place, segment) in self.queue.iter_mut().take(self.sent).enumerate() {
            if !segment.sacked && (segment.sent_at, passed + place as u64) < newest {
                segment.lost = true;
            }
        }
    }

    fn progress(&mut self, gone: u64, rtt: Nanos) {
        let error = rtt.abs_diff(self.srtt);
        self.rttvar = (3 * self.rttvar + error) / 4;
        self.srtt = (7 * self.srtt + rtt) / 8;
        (self.timeouts, self.backoff, self.probing_tail) = (0, 0, false);
        self.rto = self.first_rto();
        if self.cwnd < self.ssthresh {
            self.cwnd += gone as f64;
        } else {
            self.cwnd += gone as f64 / self.cwnd;
        }
        self.cwnd = self.cwnd.min(LARGEST_WINDOW);
        if self.mode != Mode::Open && self.passed >= self.high {
            self.mode = Mode::Open;
            self.repeated_at = None;
        }
    }
}

//! The time in which all goes well: nothing is computed until somebody looks.

use super::{
    super::{Nanos, random::Random, sender::MSS, way::Way},
    Connection, Fate, Life, Manner, NEVER,
};

impl Connection {
    /// Catches up with what went well until `now`.
    pub fn settle(&mut self, now: Nanos) {
        if !self.is_awake() && self.next_message.saturating_add(self.way.rtt) <= now {
            let count = (now - self.next_message - self.way.rtt) / self.plan.every + 1;
            let length = self.row().len() as u64;
            let (mut bytes, mut segments) = (0, 0);
            for number in 0..length {
                let size = self.size(number);
                bytes += u64::from(size.0);
                segments += size.1;
            }
            bytes *= count / length;
            segments *= count / length;
            for number in self.message..self.message + count % length {
                let size = self.size(number);
                bytes += u64::from(size.0);
                segments += size.1;
            }
            self.message += count;
            self.next_message += count * self.plan.every;
            self.sender.una += bytes;
            self.sender.segments_out += segments;
            self.sender.sent_at = self.next_message - self.plan.every;
            self.sender.acked_at = self.sender.sent_at + self.way.rtt;
            self.sender.heard_at = self.sender.acked_at;
        }
    }

    /// Messages that were sent and are not acknowledged, while all is well: how many.
    pub fn under_way(&self, now: Nanos) -> u64 {
        if self.is_awake() || self.next_message > now {
            return 0;
        }
        (now - self.next_message) / self.plan.every + 1
    }

    /// Bytes and segments of the next `count` messages, and bytes of the first segment.
    pub fn sizes(&self, count: u64) -> (u64, u64, u32) {
        let (mut bytes, mut segments) = (0, 0);
        for number in self.message..self.message + count {
            let size = self.size(number);
            bytes += u64::from(size.0);
            segments += size.1;
        }
        (bytes, segments, self.size(self.message).0.min(MSS))
    }

    /// When the message before the first that is `count` away was sent.
    pub fn sent_before(&self, count: u64) -> Nanos {
        self.next_message + (count - 1) * self.plan.every
    }

    /// Draws the next message that something will happen to.
    pub(super) fn foresee(&mut self, random: &mut Random) {
        (self.fate, self.well_until) = (Fate::Open, Some(NEVER));
        if self.next_message == NEVER {
            return;
        }
        let estimate_is_right = self.sender.srtt.abs_diff(self.way.rtt) <= self.way.rtt / 5;
        let watched = self.plan.manner == Manner::SlowReader || !estimate_is_right;
        let ahead = if watched || self.way.block.is_some() {
            0
        } else {
            self.ahead(random)
        };
        self.well_until = Some(
            self.plan
                .every
                .saturating_mul(ahead)
                .saturating_add(self.next_message),
        );
    }

    /// How many messages go well before one that does not, and what happens to that.
    fn ahead(&mut self, random: &mut Random) -> u64 {
        let row: Vec<(u32, u64)> = (0..self.row().len() as u64)
            .map(|number| self.size(self.message + number))
            .collect();
        let length = row.len() as u64;
        let mut ahead = NEVER;
        if let Some(limit) = self.way.limit {
            let asks = self.plan.manner == Manner::Request;
            let stuck = |number: &u64| {
                let message = self.message + number;
                let (bytes, _) = row[*number as usize];
                bytes.min(MSS) > limit || (asks && !self.is_answered(message))
            };
            ahead = (0..length).find(stuck).unwrap_or(NEVER);
        }
        if self.way.loss > 0.0 {
            let round: u64 = row.iter().map(|(_, segments)| segments).sum();
            let mut left = random.until(self.way.loss);
            let mut number = (left / round).saturating_mul(length);
            left %= round;
            for (_, segments) in row {
                if left < segments {
                    break;
                }
                left -= segments;
                number = number.saturating_add(1);
            }
            if number < ahead {
                (ahead, self.fate) = (number, Fate::Segment(left));
            }
        }
        if self.way.ack_loss > 0.0 {
            let number = random.until(self.way.ack_loss);
            if number < ahead {
                (ahead, self.fate) = (number, Fate::Acknowledgement);
            }
        }
        ahead
    }

    /// Packets meet something else from now on.
    pub fn reroute(&mut self, way: Way, now: Nanos, random: &mut Random) {
        self.settle(now);
        if !self.is_awake() {
            if self.under_way(now) > 0 {
                self.wake(now, way.block.is_some());
            }
            self.way = way;
            self.hear_at_last(now, random);
            if !self.is_awake() {
                self.foresee(random);
            }
        } else {
            self.way = way;
        }
    }

    /// An answer that did not get through comes when the peer sends it again, and that takes up to as
    /// long again as it has taken so far.
    fn hear_at_last(&mut self, now: Nanos, random: &mut Random) {
        let asks = self.plan.manner == Manner::Request && self.life == Life::Open;
        let owed = asks && self.next_message == NEVER && !self.is_awake();
        if owed && self.is_answered(self.message.wrapping_sub(1)) {
            let waited = now.saturating_sub(self.sender.acked_at);
            self.next_message = now + (random.share() * waited as f64) as Nanos;
        }
    }

    /// From now on each segment counts. What is under way arrives, and its acknowledgements do,
    /// unless they are `lost`.
    pub(super) fn wake(&mut self, now: Nanos, lost: bool) {
        self.settle(now);
        let until = self.well_until.take().unwrap_or(NEVER);
        while self.next_message < until.min(now.saturating_add(1)) {
            let sent_at = self.next_message;
            let (bytes, _) = self.size(self.message);
            self.sender.adopt(bytes, sent_at, sent_at + self.way.rtt);
            self.message += 1;
            self.next_message = match self.plan.manner {
                Manner::Request => NEVER,
                Manner::Stream | Manner::SlowReader | Manner::Rest => {
                    self.next_message + self.plan.every
                }
            };
        }
        if self.sender.is_waiting() {
            self.gives_up_at = now.saturating_add(self.plan.patience);
        }
        if lost {
            self.sender.forget_acks();
        }
        if self.next_message <= now {
            match self.fate {
                Fate::Open => {}
                Fate::Segment(number) => self.sender.fate = Some(number),
                Fate::Acknowledgement => self.sender.ack_fate = true,
            }
        }
    }
}

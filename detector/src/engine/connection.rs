//! PURE. What is remembered of one connection.

use std::{sync::Arc, time::Duration};

use super::{classify, passes::Pass};
use crate::{
    model::{Cause, Destination, NextHop, Origin, Phase, Sample},
    time::Time,
};

/// One connection that was sampled lately.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The newest sample.
    pub sample: Sample,
    /// Its destination.
    pub destination: Destination,
    /// The next hop in force when it began to wait: the stall belongs to that one.
    pub next_hop: Option<NextHop>,
    /// Its upstream; `None` while the next hop is not known.
    pub upstream: Option<Arc<str>>,
    /// Since when outstanding data waits.
    pub waiting_since: Option<Time>,
    /// How far it is.
    pub phase: Option<Phase>,
    /// Why, as of the last judgement.
    pub cause: Cause,
    /// What the cause rests on.
    pub because: &'static str,
    /// The stall has been announced, at this cause.
    pub announced: Option<Cause>,
    /// Sweep in which it was last seen.
    pub generation: u64,
}

/// What a sample has changed.
#[derive(Debug, Clone, PartialEq)]
pub struct News {
    /// Data was acknowledged.
    pub pass: Option<Pass>,
    /// Timeouts since the sample before.
    pub timeouts: u64,
    /// A stall ended, that had begun then.
    pub recovered: Option<Time>,
}

impl Connection {
    /// First sight of a connection.
    pub fn new(sample: Sample, generation: u64) -> (Self, News) {
        let destination = Destination::of(sample.remote.ip());
        let news = News {
            pass: Pass::between(None, &sample, destination),
            timeouts: u64::from(sample.timeouts),
            recovered: None,
        };
        let connection = Self {
            destination,
            next_hop: sample.next_hop,
            upstream: None,
            waiting_since: waiting_since(None, &sample),
            phase: None,
            cause: Cause::Unknown,
            because: "",
            announced: None,
            generation,
            sample,
        };
        (connection, news)
    }

    /// Takes in a newer sample. Samples that come late, such as an event that was queued while a
    /// sweep ran, change nothing.
    pub fn update(&mut self, sample: Sample, generation: u64) -> News {
        self.generation = generation;
        if sample.at < self.sample.at {
            return News { pass: None, timeouts: 0, recovered: None };
        }
        let progressed = sample.snd_una != self.sample.snd_una;
        let before = if progressed { 0 } else { self.sample.timeouts };
        let news = News {
            pass: progressed
                .then(|| Pass::between(Some(&self.sample), &sample, self.destination))
                .flatten(),
            timeouts: u64::from(sample.timeouts.saturating_sub(before)),
            recovered: if progressed { self.stalled_since() } else { None },
        };
        self.waiting_since = if progressed {
            // The head that waits now was not the head when the acknowledgement came.
            waiting_since(None, &sample).map(|since| since.max(sample.acked_at))
        } else {
            waiting_since(self.waiting_since, &sample)
        };
        if progressed {
            self.announced = None;
        }
        // A connection in trouble keeps the next hop under which the trouble began; the kernel
        // drops its cached route meanwhile, or takes another.
        let in_trouble = sample.timeouts > 0 || sample.persist;
        if self.next_hop.is_none() || (!in_trouble && sample.next_hop.is_some()) {
            self.next_hop = sample.next_hop.or(self.next_hop);
        }
        let (head, send_error) = (self.sample.head, self.sample.send_error);
        self.sample = sample;
        if !progressed && self.sample.timeouts > 0 {
            self.sample.head = self.sample.head.or(head);
            // Only events carry it; a sweep must not take it away.
            if self.sample.origin != Origin::Timeout {
                self.sample.send_error = send_error;
            }
        }
        news
    }

    /// Brings the phase up to date.
    pub fn judge(&mut self, stall_after: Duration, now: Time) {
        self.phase = classify::phase(&self.sample, self.waiting_since, stall_after, now);
    }

    /// When its announced stall began.
    pub fn stalled_since(&self) -> Option<Time> {
        self.announced.and(self.waiting_since)
    }

    /// When it was last shown not to get through: the newest repetition that followed a timeout.
    pub fn failed_at(&self) -> Time {
        if self.sample.packets_out == 0 { self.sample.at } else { self.sample.sent_at }
    }

    /// Whether this stall is held against anybody: the peer's window is the peer's doing.
    pub fn counts(&self) -> bool {
        self.phase.is_some() && self.cause != Cause::ZeroWindow
    }
}

/// The earlier of what is remembered and what the kernel's timers tell.
fn waiting_since(known: Option<Time>, sample: &Sample) -> Option<Time> {
    if sample.outstanding() == 0 {
        return None;
    }
    match (known, sample.stuck_since) {
        (Some(known), Some(stuck)) => Some(known.min(stuck)),
        (Some(at), None) | (None, Some(at)) => Some(at),
        (None, None) => Some(sample.at),
    }
}

//! Two rules that everybody tries first, over the same sweeps, to compare with.

use std::collections::VecDeque;

use super::{Nanos, SECOND, connection::Connection, observe::stuck_since, world::Place};

/// No progress for so long is a stall.
const STALLED: Nanos = 3 * SECOND;
/// Stalled connections below which the first rule says nothing.
const FEWEST: u32 = 3;
/// The second rule looks at so much.
const WINDOW: Nanos = 10 * SECOND;
/// Segments below which it says nothing.
const SEGMENTS: u64 = 100;
/// Share of them that is too many.
const REPEATED: f64 = 0.05;

/// When each rule first alarmed, by upstream.
#[derive(Debug, Clone, Default)]
struct Line {
    active: u32,
    stalled: u32,
    sent: u64,
    repeated: u64,
    /// Sent and repeated until then.
    history: VecDeque<(Nanos, u64, u64)>,
    /// Whether each rule holds at present.
    holds: [bool; 2],
}

/// An alarm of a rule: when, at which upstream, by which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alarm {
    /// When it began.
    pub at: Nanos,
    /// Where.
    pub upstream: usize,
    /// 0: half of the active connections are stalled. 1: repeats exceed 5 % of the segments.
    pub rule: usize,
}

/// Both rules at all upstreams.
#[derive(Debug, Clone)]
pub struct Baselines {
    lines: Vec<Line>,
    /// What they said.
    pub alarms: Vec<Alarm>,
}

impl Baselines {
    /// Nothing seen yet.
    pub fn new(upstreams: usize) -> Self {
        Self {
            lines: vec![Line::default(); upstreams],
            alarms: Vec::new(),
        }
    }

    /// So much more was sent, and so much of it again.
    pub fn sent(&mut self, upstream: usize, segments: u64, repeats: u64) {
        let line = &mut self.lines[upstream];
        line.sent += segments;
        line.repeated += repeats;
    }

    /// A sweep has seen a connection.
    pub fn see(&mut self, connection: &Connection, place: Place, now: Nanos) {
        let line = &mut self.lines[connection.plan.upstream];
        match place {
            Place::Suspicious => {
                line.active += 1;
                let since = stuck_since(&connection.sender);
                let stalled = since.is_some_and(|since| now.saturating_sub(since) >= STALLED);
                line.stalled += u32::from(stalled);
            }
            Place::Busy | Place::AppLimited => line.active += 1,
            Place::Waiting | Place::Idle => {}
        }
    }

    /// The sweep is over.
    pub fn judge(&mut self, now: Nanos) {
        for (upstream, line) in self.lines.iter_mut().enumerate() {
            let half = line.stalled >= FEWEST && 2 * line.stalled >= line.active;
            (line.active, line.stalled) = (0, 0);
            line.history.push_back((now, line.sent, line.repeated));
            while line.history.get(1).is_some_and(|it| it.0 + WINDOW <= now) {
                line.history.pop_front();
            }
            let (_, sent, repeated) = line.history[0];
            let (sent, repeated) = (line.sent - sent, line.repeated - repeated);
            let lossy = sent >= SEGMENTS && repeated as f64 > REPEATED * sent as f64;
            for (rule, holds) in [half, lossy].into_iter().enumerate() {
                if holds && !line.holds[rule] {
                    self.alarms.push(Alarm {
                        at: now,
                        upstream,
                        rule,
                    });
                }
                line.holds[rule] = holds;
            }
        }
    }
}

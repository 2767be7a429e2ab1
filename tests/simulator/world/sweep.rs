//! The walk over all connections, as the kernel program does it.

use detector::model::{ConnectionId, Counts, NextHop, Origin, Sweep};

use super::{
    super::{
        Nanos, SECOND,
        connection::{Connection, Life},
        fault::Kind,
        observe::{self, next_hop},
    },
    Upstream, World,
};

/// A connection that sent nothing for this long is not at work (`active_jiffies`).
const ACTIVE: Nanos = 10 * SECOND;
/// Connections at work that a sweep writes, of each destination.
const SAMPLES: u8 = 4;

impl World {
    pub(super) fn sweep(&mut self) {
        let now = self.now;
        let mut sweep = Sweep::default();
        let mut counts: Vec<[Counts; 2]> = vec![[Counts::default(); 2]; self.upstreams.len()];
        self.sampled.fill(0);
        for slot in &mut self.slots {
            let connection = &mut slot.connection;
            if matches!(connection.life, Life::Gone | Life::Opening(_)) {
                continue;
            }
            connection.settle(now);
            let upstream = connection.plan.upstream;
            let sender = &connection.sender;
            self.baselines.sent(
                upstream,
                sender.segments_out - slot.counted.0,
                sender.repeats - slot.counted.1,
            );
            slot.counted = (sender.segments_out, sender.repeats);
            let place = place(connection, now);
            let unrouted = usize::from(observe::cached(connection).is_none());
            add(&mut counts[upstream][unrouted], place);
            self.baselines.see(connection, place, now);
            let origin = match place {
                Place::Suspicious => Origin::Suspicious,
                Place::Busy | Place::AppLimited => {
                    let share = &mut self.sampled
                        [connection.plan.destination * self.upstreams.len() + upstream];
                    if *share >= SAMPLES {
                        continue;
                    }
                    *share += 1;
                    Origin::Active
                }
                Place::Waiting | Place::Idle => continue,
            };
            let sample = observe::sample(connection, slot.remote, now, origin, None);
            sweep.samples.push(sample);
        }
        for (upstream, [with, without]) in counts.into_iter().enumerate() {
            if with.established() > 0 {
                sweep.counts.insert(Some(next_hop(upstream)), with);
            }
            if without.established() > 0 {
                sweep.counts.entry(None).or_default().add(&without);
            }
        }
        self.baselines.judge(now);
        self.hand_over(sweep);
    }

    fn hand_over(&mut self, sweep: Sweep) {
        let upstreams = &self.upstreams;
        let silent = |hop: NextHop| {
            let at_fault = |upstream: &Upstream| {
                let kind = upstream.fault.map(|fault| fault.kind);
                kind == Some(Kind::Neighbour)
            };
            let place = hop.interface.0.saturating_sub(10) as usize;
            upstreams.get(place).is_some_and(at_fault)
        };
        let slots = &self.slots;
        let route = |id: ConnectionId| {
            let slot = slots.iter().find(|slot| slot.connection.id == id.0)?;
            Some(next_hop(slot.connection.plan.upstream))
        };
        self.watcher.swept(self.now, sweep, silent, route);
    }
}

/// The column of the counts that a connection belongs to, as the kernel program decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Behind schedule.
    Suspicious,
    /// Data outstanding.
    Busy,
    /// Sent something lately.
    AppLimited,
    /// The peer owes an answer.
    Waiting,
    /// Nothing to do.
    Idle,
}

fn place(connection: &Connection, now: Nanos) -> Place {
    let sender = &connection.sender;
    let under_way = connection.under_way(now) > 0;
    if connection.looks_wrong() {
        Place::Suspicious
    } else if under_way || sender.is_waiting() {
        Place::Busy
    } else if sender.segments_out == 0 {
        Place::Idle
    } else if now.saturating_sub(sender.sent_at) <= ACTIVE {
        Place::AppLimited
    } else if connection.plan.answer == 0.0 {
        Place::Waiting
    } else {
        Place::Idle
    }
}

fn add(counts: &mut Counts, place: Place) {
    *match place {
        Place::Suspicious => &mut counts.suspicious,
        Place::Busy => &mut counts.busy,
        Place::AppLimited => &mut counts.app_limited,
        Place::Waiting => &mut counts.waiting,
        Place::Idle => &mut counts.idle,
    } += 1;
}

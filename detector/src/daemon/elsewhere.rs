//! The connections of other network namespaces: when to look for them, and through what they leave.

use std::time::Duration;

use super::pace;
use crate::{
    clock,
    model::{IfIndex, NetnsId, Sample, Sweep},
    sense::{
        sweep::Seen,
        topology::Topology,
        uplinks::{Flow, Uplinks},
    },
    time::Time,
};

/// Between two looks that an event calls for: a sweep may not show what it told of.
const CALL_EVERY: Duration = Duration::from_secs(1);

/// What is known of them.
#[derive(Debug)]
pub(super) struct Elsewhere {
    netns: NetnsId,
    uplinks: Uplinks,
    /// Whether they can be seen at all.
    visible: bool,
    looked_at: Option<Time>,
    /// Processor time of the last look.
    cost: Duration,
    /// An event told of one that is not known.
    rumour: bool,
}

impl Elsewhere {
    /// Seen from this namespace, if they are `visible`; `ours_too` when nothing tells the routes of our
    /// own connections.
    pub(super) fn new(netns: NetnsId, visible: bool, ours_too: bool) -> Self {
        Self {
            netns,
            uplinks: Uplinks::new(netns, ours_too),
            visible,
            looked_at: None,
            cost: Duration::ZERO,
            rumour: false,
        }
    }

    /// Whether the next sweep should look for them. Once some are known every sweep must, or they
    /// would seem to be gone; until then as often as the budget, that share of one core, allows.
    pub(super) fn look(&mut self, now: Time, budget: f64) -> bool {
        let interval = pace::look_interval(self.cost, budget);
        let due = self.looked_at.is_none_or(|at| now.since(at) >= interval);
        let look = self.visible && (due || self.rumour || self.uplinks.are_used());
        if look {
            self.looked_at = Some(now);
            self.rumour = false;
        }
        look
    }

    /// A look took this much processor time.
    pub(super) fn looked(&mut self, cost: Duration) {
        self.cost = cost;
    }

    /// Processor time that they add to the next sweep, unless it only happens to be their turn.
    pub(super) fn extra(&self, now: Time) -> Duration {
        if self.uplinks.are_used() || self.calls(now) {
            self.cost
        } else {
            Duration::ZERO
        }
    }

    /// Whether an event has told of one that only a sweep can show.
    pub(super) fn calls(&self, now: Time) -> bool {
        let lately = self.looked_at.is_some_and(|at| now.since(at) < CALL_EVERY);
        self.visible && self.rumour && !lately
    }

    /// Routes, rules or addresses have changed.
    pub(super) fn rerouted(&mut self) {
        self.uplinks.change(clock::now());
    }

    /// An event's connection, with the next hop that its packets take from here. One that is not
    /// known yet is left to the next sweep.
    pub(super) fn place(&mut self, sample: Sample) -> Option<Sample> {
        self.rumour |= sample.inode.is_some() && !self.uplinks.knows(&sample);
        self.uplinks.place(sample, clock::now())
    }

    /// A sweep, with the next hops that packets take from here.
    pub(super) fn place_all(&mut self, seen: Seen) -> Sweep {
        self.uplinks.place_all(seen, clock::now())
    }

    /// Asks the routing table for what is not known of a sweep's connections.
    pub(super) async fn ask(&mut self, topology: &Topology, seen: &Seen) {
        for flow in self.uplinks.open(seen, clock::now()) {
            let now = clock::now();
            let way = if flow.netns == self.netns {
                topology.outward(&flow).await
            } else {
                match self.device(topology, &flow, now).await {
                    Some(device) => topology.onward(&flow, device).await,
                    None => None,
                }
            };
            self.uplinks.learn_way(&flow, way, now);
        }
    }

    /// The interface behind which another namespace's address is.
    async fn device(&mut self, topology: &Topology, flow: &Flow, now: Time) -> Option<IfIndex> {
        if let Some(answer) = self.uplinks.device(flow, now) {
            return answer.value;
        }
        let device = topology.behind(flow.local).await;
        self.uplinks.learn_device(flow, device, now);
        device
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::samples;

    /// After an event of a connection of another namespace that nobody knows.
    fn told(visible: bool) -> Elsewhere {
        let mut elsewhere = Elsewhere::new(NetnsId(1), visible, false);
        let sample = Sample {
            netns: NetnsId(2),
            inode: Some(7),
            ..samples::any()
        };
        assert_eq!(elsewhere.place(sample), None);
        elsewhere
    }

    const BUDGET: f64 = 0.01;

    #[test]
    fn an_event_calls_for_a_look_and_not_for_ten_a_second() {
        let now = clock::now();
        let mut elsewhere = told(true);
        assert!(elsewhere.calls(now) && elsewhere.look(now, BUDGET));
        assert!(!elsewhere.calls(now), "it was looked");
        elsewhere.rumour = true;
        assert!(!elsewhere.calls(now.after(CALL_EVERY / 2)));
        assert!(elsewhere.calls(now.after(CALL_EVERY)));
    }

    #[test]
    fn what_cannot_be_seen_is_not_called_for() {
        let mut elsewhere = told(false);
        assert!(!elsewhere.calls(clock::now()) && !elsewhere.look(clock::now(), BUDGET));
    }

    #[test]
    fn nobody_looks_more_often_than_is_affordable_unless_called() {
        let now = clock::now();
        let mut elsewhere = Elsewhere::new(NetnsId(1), true, false);
        assert!(
            elsewhere.look(now, BUDGET),
            "the first is always affordable"
        );
        elsewhere.looked(Duration::from_millis(30));
        assert!(!elsewhere.look(now.after(Duration::from_secs(30)), BUDGET));
        assert!(elsewhere.extra(now.after(CALL_EVERY)).is_zero());
        elsewhere.rumour = true;
        assert!(!elsewhere.extra(now.after(CALL_EVERY)).is_zero(), "called");
        assert!(elsewhere.look(now.after(Duration::from_secs(31)), BUDGET));
        assert!(elsewhere.look(now.after(Duration::from_secs(84)), BUDGET));
    }
}

//! PURE. What is concluded: from connections to destinations, upstreams and their states.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    Engine, attribute,
    classify::{self, Evidence},
    is_bad,
    judge::{self, Opinion},
    tally,
};
use crate::{
    model::{Cause, Phase, Scope, State, Transition},
    time::Time,
};

impl Engine {
    /// Everything that is concluded, from the connections up.
    pub(super) fn judge(&mut self, now: Time, transitions: &mut Vec<Transition>) {
        self.judged_at = now;
        self.dirty_since = None;
        for record in self.upstreams.values_mut() {
            record.passes.forget(now);
        }
        self.judge_connections(now, transitions);
        for (name, record) in &mut self.upstreams {
            record.tally = tally::tally(
                self.connections
                    .values()
                    .filter(|it| it.upstream.as_ref() == Some(name)),
                &record.passes,
                &record.troubled,
                now,
            );
            let stalled = record.tally.stalled().map(|it| (it, now));
            record.troubled.extend(stalled);
            record
                .troubled
                .retain(|_, at| now.since(*at) < judge::FORGET);
            record
                .held
                .update(judge::opinion(record.tally.numbers()), now);
            // Only a sweep tells whether the repetition that an event announced got through: ask
            // before a worse state is entered.
            self.urgent |= !is_bad(record.state)
                && matches!(record.held.opinion, Opinion::Abnormal { .. })
                && self
                    .swept_at
                    .is_none_or(|swept_at| swept_at <= record.held.since);
            if record.timeouts > 0 {
                let count = std::mem::take(&mut record.timeouts);
                transitions.push(Transition::Timeouts {
                    upstream: name.to_string(),
                    count,
                });
            }
        }
        self.judge_upstreams(now, transitions);
        self.forget_upstreams(now);
    }

    fn judge_connections(&mut self, now: Time, transitions: &mut Vec<Transition>) {
        for connection in self.connections.values_mut() {
            connection.judge(self.settings.stall_after, now);
        }
        // Only upstreams with trouble are worth the work.
        let troubled: BTreeSet<_> = self
            .connections
            .values()
            .filter(|connection| connection.phase.is_some())
            .filter_map(|connection| connection.upstream.clone())
            .collect();
        let reach: BTreeMap<_, _> = self
            .upstreams
            .iter()
            .filter(|(name, _)| troubled.contains(*name))
            .map(|(name, record)| (name, record.passes.reach()))
            .collect();
        for (id, connection) in &mut self.connections {
            let (Some(phase), Some(since)) = (connection.phase, connection.waiting_since) else {
                continue;
            };
            let mut evidence = Evidence::of(&connection.sample, since);
            let neighbour = connection.neighbour();
            evidence.neighbour = neighbour.and_then(|it| self.neighbours.get(&it).copied());
            if let Some(hop) = connection.next_hop {
                evidence.link_down = self
                    .interfaces
                    .get(&(hop.netns, hop.interface))
                    .is_some_and(|interface| !interface.up);
            }
            let reach = connection.upstream.as_ref().and_then(|it| reach.get(it));
            if let (Some(reach), Some(head)) = (reach, connection.sample.head) {
                evidence.passed = reach.since(since, head);
            }
            (connection.cause, connection.because) = classify::cause(&evidence);
            let announce = phase == Phase::Stalled
                && connection.announced.is_none()
                && connection.cause != Cause::ZeroWindow;
            if announce && let Some(upstream) = &connection.upstream {
                connection.announced = Some(connection.cause);
                transitions.push(Transition::StallBegan {
                    id: *id,
                    upstream: upstream.to_string(),
                    cause: connection.cause,
                });
            }
        }
    }

    fn judge_upstreams(&mut self, now: Time, transitions: &mut Vec<Transition>) {
        let next: BTreeMap<Arc<str>, State> = self
            .upstreams
            .iter()
            .map(|(name, it)| (name.clone(), it.held.next(it.state, now)))
            .collect();
        let judged = next.values().filter(|state| **state != State::Idle).count();
        let bad = next.values().filter(|state| is_bad(**state)).count();
        let scope = if judged >= 2 && bad == judged {
            Scope::Common
        } else {
            Scope::Upstream
        };
        for (name, record) in &mut self.upstreams {
            let to = next.get(name).copied().unwrap_or(record.state);
            let from = record.state;
            // While it is bad and nobody has a stall to show, the cause stays.
            let cause = is_bad(to)
                .then(|| record.tally.cause().or(record.cause))
                .flatten();
            let scope = is_bad(to).then_some(scope);
            if (from, record.cause, record.scope) == (to, cause, scope) {
                continue;
            }
            if from != to {
                record.since = now;
            }
            (record.state, record.cause, record.scope) = (to, cause, scope);
            let votes = record.tally.numbers();
            let stuck = self
                .connections
                .values()
                .filter(|it| it.upstream.as_ref() == Some(name) && it.counts())
                .count();
            transitions.push(Transition::Upstream {
                upstream: name.to_string(),
                from,
                to,
                scope,
                cause,
                confidence: judge::confidence(to, votes),
                stuck: u32::try_from(stuck).unwrap_or(u32::MAX),
                stalled_destinations: votes.stalled,
                active_destinations: votes.active,
            });
        }
    }

    /// Discovered upstreams that nobody uses any more.
    fn forget_upstreams(&mut self, now: Time) {
        let used: BTreeSet<Arc<str>> = self
            .counts
            .keys()
            .flatten()
            .map(|hop| attribute::upstream_of_hop(*hop, &self.settings.rules, &self.interfaces))
            .chain(
                self.connections
                    .values()
                    .filter_map(|it| it.upstream.clone()),
            )
            .chain(
                self.settings
                    .rules
                    .iter()
                    .map(|rule| Arc::from(rule.name.as_str())),
            )
            .collect();
        self.upstreams.retain(|name, record| {
            used.contains(name)
                || record.state != State::Idle
                || now.since(record.seen_at) < judge::FADE
        });
    }
}

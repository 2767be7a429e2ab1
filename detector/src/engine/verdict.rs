//! PURE. What is concluded: from connections to destinations, upstreams and their states.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{
    Engine, PACE, Record, attribute,
    baseline::Moment,
    classify::{self, Evidence},
    connection::Connection,
    is_bad,
    judge::{self, Opinion, Votes},
    ledger,
    leg::{self, Leg},
    namespaces::{self, Hanging},
    onsets, passes,
    tally::Tally,
    unsettled,
};
use crate::{
    model::{Cause, Destination, Excluded, NextHop, Phase, Scope, State, Transition},
    time::Time,
};

/// After the host was suspended it takes this long until the network is up again.
const WAKING: Duration = Duration::from_secs(3);
/// How long another cause must prevail before it is the one that is told.
const SETTLE_CAUSE: Duration = Duration::from_secs(2);

impl Engine {
    /// Everything that is concluded, from the connections up.
    pub(super) fn judge(&mut self, now: Time, transitions: &mut Vec<Transition>) {
        self.judged_at = now;
        self.dirty_since = None;
        for record in self.upstreams.values_mut() {
            let baseline = record.baseline;
            for leg in record.legs.values_mut() {
                leg.forget(now);
                leg.look_up(&baseline, now);
            }
        }
        self.judge_connections(now, transitions);
        self.excuse_the_cut_off(now);
        self.count_votes(now);
        self.excuse_the_remote();
        let receiving = self.receiving();
        for (name, record) in &mut self.upstreams {
            record.sum_up();
            let receiving = receiving.get(name).copied().unwrap_or_default();
            record.held.update(record.opinion(receiving), now);
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
        self.changes_at = self.next_change(now);
    }

    /// When something may look different although nothing is seen; not more often than the pace.
    fn next_change(&self, now: Time) -> Option<Time> {
        let soonest = now.after(PACE);
        if self.upstreams.values().any(unsettled) {
            return Some(soonest);
        }
        let stall_after = self.settings.stall_after;
        let changes = self.connections.values();
        let changes = changes.filter_map(|it| it.next_change(stall_after, now));
        changes.min().map(|at| at.max(soonest))
    }

    /// Excuses connections of network namespaces that are cut off, for as long as they hang.
    fn excuse_the_cut_off(&mut self, now: Time) {
        self.heard.retain(|_, at| now.since(*at) <= passes::MEMORY);
        let newest = self.generation;
        let hangs = |it: &&Connection| {
            let open = matches!(it.excused, None | Some(Excluded::Namespace));
            it.generation == newest && it.phase.is_some() && open && it.cause != Cause::ZeroWindow
        };
        let stuck = self.connections.values().filter(hangs);
        let is_elsewhere = |it: &Connection| {
            let hop = it.next_hop.as_ref();
            hop.is_some_and(|hop| hop.netns != it.sample.netns)
        };
        // On most hosts there is one namespace, and in a storm this is asked of thousands.
        if !stuck.clone().any(is_elsewhere) {
            return;
        }
        let hanging: Vec<_> = stuck.filter_map(|it| self.hanging(it)).collect();
        for id in namespaces::cut_off(&hanging, &self.heard) {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.excused = Some(Excluded::Namespace);
            }
        }
    }

    fn hanging<'a>(&'a self, connection: &'a Connection) -> Option<Hanging<'a>> {
        let record = self.upstreams.get(connection.upstream.as_ref()?)?;
        Some(Hanging {
            connection,
            next_hop: connection.next_hop?,
            passes: &record.legs.get(&connection.next_hop)?.passes,
        })
    }

    /// The votes at each leg of each upstream.
    fn count_votes(&mut self, now: Time) {
        let mut stuck: BTreeMap<_, Vec<&Connection>> = BTreeMap::new();
        let newest = self.generation;
        // Whoever is stuck is shown by each sweep; who is not has moved on, or was overlooked and
        // has a vote again at the next.
        let in_trouble = self.connections.values().filter(|it| it.counts());
        for connection in in_trouble.filter(|it| it.generation == newest) {
            if let Some(upstream) = &connection.upstream {
                let key = (upstream.clone(), connection.next_hop);
                stuck.entry(key).or_default().push(connection);
            }
        }
        for (upstream, next_hop) in stuck.keys() {
            if let Some(record) = self.upstreams.get_mut(upstream) {
                record.legs.entry(*next_hop).or_default();
            }
        }
        for (name, record) in &mut self.upstreams {
            let bad_since = is_bad(record.state).then_some(record.since);
            for (next_hop, leg) in &mut record.legs {
                let here = stuck.remove(&(name.clone(), *next_hop)).unwrap_or_default();
                let here = leg::stuck(here.into_iter());
                // While it is open whether this is a pause, the next failures matter.
                self.urgent |= bad_since.is_none()
                    && leg.is_in_question()
                    && here.values().any(|stuck| stuck.is_overdue(now));
                if let Some(length) = leg.vote(&here, &record.baseline, bad_since, now) {
                    record.baseline.learn_pause(length);
                }
            }
            record.legs.retain(|_, leg| !leg.is_empty());
        }
    }

    /// Takes away the votes of destinations that are stalled through others that do well, too:
    /// since then at least three have shown that there, and more than are stalled there.
    fn excuse_the_remote(&mut self) {
        let troubled: Vec<_> = self
            .upstreams
            .iter()
            .filter(|(_, it)| {
                it.legs
                    .values()
                    .any(|leg| leg.tally.stalled().next().is_some())
            })
            .map(|(name, _)| name.clone())
            .collect();
        let mut excused: Vec<(Arc<str>, Destination)> = Vec::new();
        for this in &troubled {
            for other in troubled.iter().filter(|other| *other != this) {
                let (Some(here), Some(there)) =
                    (self.upstreams.get(this), self.upstreams.get(other))
                else {
                    continue;
                };
                let shared: Vec<_> = here
                    .stalls()
                    .filter_map(|(at, began)| Some((at, began.max(there.began(at)?))))
                    .collect();
                let also = |at: &Destination| shared.iter().any(|(it, _)| it == at);
                let own = there.stalls().filter(|(at, _)| !also(at)).count();
                let does_well = |began: Time| {
                    let well: usize = there.legs.values().map(|leg| leg.well_since(began)).sum();
                    well >= 3 && well > own
                };
                let remote = shared.into_iter().filter(|(_, began)| does_well(*began));
                excused.extend(remote.map(|(at, _)| (this.clone(), at)));
            }
        }
        for (upstream, at) in excused {
            if let Some(record) = self.upstreams.get_mut(&upstream) {
                record.legs.values_mut().for_each(|leg| leg.excuse(at));
            }
        }
    }

    /// Connections to which data arrives, by upstream.
    fn receiving(&self) -> BTreeMap<Arc<str>, u32> {
        let mut receiving = BTreeMap::new();
        for (hop, counts) in &self.counts {
            if let Some(hop) = hop.filter(|_| counts.receiving > 0) {
                let (rules, interfaces) = (&self.settings.rules, &self.interfaces);
                let name = attribute::upstream_of_hop(hop, rules, interfaces);
                *receiving.entry(name).or_default() += counts.receiving;
            }
        }
        receiving
    }

    fn judge_connections(&mut self, now: Time, transitions: &mut Vec<Transition>) {
        let waking = self.resumed_at.map(|at| at.after(WAKING));
        for connection in self.connections.values_mut().filter(|it| !it.is_well()) {
            connection.judge(self.settings.stall_after, now);
            if waking.is_some_and(|at| connection.since() < Some(at)) {
                connection.excused = Some(Excluded::Suspended);
            }
            let record = connection
                .upstream
                .as_ref()
                .and_then(|it| self.upstreams.get(it));
            if let Some(leg) = record.and_then(|it| it.legs.get(&connection.next_hop)) {
                connection.compare(&leg.passes);
            }
        }
        // Only legs with trouble are worth the work.
        let mut troubled: BTreeMap<(Arc<str>, Option<NextHop>), Vec<Time>> = BTreeMap::new();
        for connection in self.connections.values().filter(|it| it.phase.is_some()) {
            if let Some(name) = &connection.upstream {
                let began = troubled
                    .entry((name.clone(), connection.next_hop))
                    .or_default();
                began.extend(connection.waiting_since);
            }
        }
        for began in troubled.values_mut() {
            began.sort_unstable();
        }
        for (id, connection) in &mut self.connections {
            let (Some(phase), Some(since)) = (connection.phase, connection.since()) else {
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
            evidence.receiving = connection.is_receiving();
            if let Some(name) = &connection.upstream {
                let legs = self.upstreams.get_mut(name).map(|record| &mut record.legs);
                let leg = legs.and_then(|legs| legs.get_mut(&connection.next_hop));
                evidence.weather = leg.as_ref().and_then(|leg| leg.weather);
                let began = troubled.get(&(name.clone(), connection.next_hop));
                if let (Some(leg), Some(began), Some(head)) = (leg, began, connection.sample.head) {
                    // Acknowledgements of what left before are on their way for a round trip.
                    let trip = connection.sample.srtt.unwrap_or_default() * 5 / 4;
                    let since = onsets::shared(began, since).after(trip);
                    evidence.passed = leg.passes.reach().since(since, head);
                }
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
            .map(|(name, it)| (name.clone(), self.next_state(it, now)))
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
            let cause = record.next_cause(to, now);
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
                confidence: judge::confidence(to, votes, record.usual),
                stuck: u32::try_from(stuck).unwrap_or(u32::MAX),
                stalled_destinations: votes.stalled,
                active_destinations: record.tally.destinations(),
            });
        }
    }

    /// The state after the present one. A worse one is entered only when a sweep confirms it, and
    /// not while the host wakes up.
    fn next_state(&self, record: &Record, now: Time) -> State {
        let doubt = judge::doubt(record.tally.numbers(), record.usual);
        let to = record.held.next(record.state, doubt, now);
        let waking = self.resumed_at.is_some_and(|at| now < at.after(WAKING));
        let enters = is_bad(to) && !is_bad(record.state);
        if enters && (waking || !record.held.is_confirmed(self.swept_at, now)) {
            return record.state;
        }
        to
    }

    /// Learns what is usual, at each sweep.
    pub(super) fn learn(&mut self, now: Time) {
        for record in self.upstreams.values_mut() {
            let elapsed = now.since(record.learned_at);
            record.learned_at = now;
            let votes = record.tally.numbers();
            if record.state == State::Ok
                && record.held.opinion == Opinion::Normal
                && now.since(record.held.since) >= judge::LEAVE
            {
                let stalled = f64::from(votes.stalled) / f64::from(votes.active.max(1));
                let moment = Moment {
                    stalled,
                    lost: record.lost(now),
                    onsets: record.legs.values().map(|leg| leg.rate).sum(),
                };
                record.baseline.learn(elapsed, moment);
            }
        }
    }

    /// Discovered upstreams that nobody uses any more.
    fn forget_upstreams(&mut self, now: Time) {
        let unused = |record: &Record| {
            record.state == State::Idle && now.since(record.seen_at) >= judge::FADE
        };
        if !self.upstreams.values().any(unused) {
            return;
        }
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
        self.upstreams
            .retain(|name, record| used.contains(name) || !unused(record));
    }
}

impl Record {
    /// Adds the legs' votes up.
    fn sum_up(&mut self) {
        let mut tally = Tally::default();
        let mut expected = 0.0;
        for leg in self.legs.values() {
            tally.add(&leg.tally);
            expected += leg.expected();
        }
        let learned = self.baseline.expected_stalled();
        self.usual = judge::usual(learned, expected, tally.numbers().active);
        self.tally = tally;
    }

    /// What the votes say, of all legs together and of each one; of those who send, and of those to
    /// whom data arrives.
    fn opinion(&self, receiving: u32) -> Opinion {
        let votes = self.tally.numbers();
        let holes = self
            .tally
            .stalled_of(|_, cause| cause == Cause::ReceiveHole);
        let began_together = |at| self.legs.values().any(|leg| leg.began_together(at));
        let opinion_of = |votes, wanted: fn(Cause) -> bool| {
            judge::opinion(votes, self.usual, || {
                let counts = |at, cause| wanted(cause) && began_together(at);
                self.tally.stalled_of(counts)
            })
        };
        let senders = Votes {
            active: votes.active.saturating_sub(holes),
            stalled: votes.stalled.saturating_sub(holes),
            ..votes
        };
        let mut opinion = opinion_of(senders, |cause| cause != Cause::ReceiveHole);
        if holes > 0 {
            let receivers = Votes {
                active: votes.active.saturating_add(receiving),
                stalled: holes,
                ..votes
            };
            opinion = opinion.or(opinion_of(receivers, |cause| cause == Cause::ReceiveHole));
        }
        let most = 2 * votes.stalled >= votes.active;
        let broken = self.legs.len() >= 2 && self.broken_leg().is_some();
        if broken && !matches!(opinion, Opinion::Abnormal { .. }) {
            opinion = Opinion::Abnormal { most };
        }
        opinion
    }

    /// The leg that is surely abnormal while all others that can be judged are not.
    pub(super) fn broken_leg(&self) -> Option<NextHop> {
        let opinion = |leg: &Leg| {
            judge::opinion(leg.tally.numbers(), self.usual, || {
                leg.tally.stalled_of(|at, _| leg.began_together(at))
            })
        };
        let (bad, rest): (Vec<_>, Vec<_>) = self
            .legs
            .iter()
            .map(|(hop, leg)| (*hop, opinion(leg)))
            .partition(|(_, opinion)| matches!(opinion, Opinion::Abnormal { .. }));
        let well = rest.iter().any(|(_, opinion)| *opinion == Opinion::Normal);
        match bad.as_slice() {
            [(hop, _)] if well => *hop,
            _ => None,
        }
    }

    /// Share of transmissions that was lost lately, where enough was sent to tell.
    pub(super) fn lost(&self, now: Time) -> Option<f64> {
        let mut all = ledger::Trials::default();
        for leg in self.legs.values() {
            all.add(leg.ledger.lately(now));
        }
        all.share()
    }

    /// The cause to be told in this state. On entering a bad one it is the one that most stalls
    /// have; another must prevail for a while. While nobody has a stall to show, it stays.
    fn next_cause(&mut self, to: State, now: Time) -> Option<Cause> {
        if !is_bad(to) {
            self.other_cause = None;
            return None;
        }
        let most = self.tally.cause();
        let (Some(told), Some(most)) = (self.cause, most) else {
            return most.or(self.cause);
        };
        if most == told {
            self.other_cause = None;
            return Some(told);
        }
        let since = match self.other_cause {
            Some((other, since)) if other == most => since,
            _ => now,
        };
        self.other_cause = Some((most, since));
        Some(if now.since(since) >= SETTLE_CAUSE {
            most
        } else {
            told
        })
    }

    /// Stalled destinations and since when.
    fn stalls(&self) -> impl Iterator<Item = (Destination, Time)> {
        self.legs.values().flat_map(|leg| {
            leg.tally
                .stalled()
                .filter_map(|at| Some((at, leg.began(at)?)))
        })
    }

    /// Since when a destination is stalled.
    fn began(&self, at: Destination) -> Option<Time> {
        self.legs.values().filter_map(|leg| leg.began(at)).min()
    }
}

//! PURE. The judgement: told what was seen and when, answers with transitions and a snapshot.
//!
//! **Invariant:** no clock, no I/O, nothing that can fail. Impossible input is a value.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;

use crate::{
    config::Rule,
    model::{
        Cause, ConnectionId, Counts, Input, NetnsId, NextHop, Origin, Outcome, Reachability,
        Sample, Scope, State, Sweep, Transition,
    },
    time::Time,
};

pub mod attribute;
pub mod baseline;
pub mod classify;
pub mod connection;
pub mod judge;
pub mod ledger;
pub mod leg;
pub mod namespaces;
pub mod onsets;
pub mod passes;
pub mod pauses;
mod show;
pub mod tally;
#[cfg(test)]
pub(crate) mod tests;
mod verdict;

use attribute::Interfaces;
use baseline::Baseline;
use connection::Connection;
use judge::{Held, Opinion};
use leg::Leg;
use tally::Tally;

/// Events of the same wave are judged together.
const SETTLE: Duration = Duration::from_millis(50);
/// While something is in the balance it is looked at this often.
const PACE: Duration = Duration::from_millis(200);
/// An entry that so many sweeps have not shown is gone: a sweep can miss one.
const MISSED: u64 = 3;
/// Connections that are remembered at most; further healthy ones are not.
const CAPACITY: usize = 65_536;
/// For so long a connection that is to be reset is remembered: two sweeps must miss it, and on a large host
/// they are half a minute apart.
const KILLED: Duration = Duration::from_secs(120);
/// Sweeps are frequent for this long after the last sign of trouble.
const ALERT: Duration = Duration::from_secs(10);

/// What the judgement is told by people.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Without progress for this long a connection is stalled.
    pub stall_after: Duration,
    /// Remote addresses that are not looked at.
    pub ignore: Vec<IpNet>,
    /// Upstreams, first match wins.
    pub rules: Vec<Rule>,
}

/// How much the engine wants to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attention {
    /// Nothing is wrong.
    Quiet,
    /// Something is wrong or may be.
    Alert,
    /// New trouble: the sooner the better.
    Now,
}

/// What is remembered of an upstream.
#[derive(Debug, Clone)]
struct Record {
    state: State,
    since: Time,
    scope: Option<Scope>,
    cause: Option<Cause>,
    /// Another cause that most stalls have, and since when.
    other_cause: Option<(Cause, Time)>,
    held: Held,
    /// By next hop.
    legs: BTreeMap<Option<NextHop>, Leg>,
    /// The votes of all legs together.
    tally: Tally,
    /// Share of destinations that must be expected to be stalled when nothing is wrong.
    usual: f64,
    baseline: Baseline,
    learned_at: Time,
    /// Timeouts that have not been announced.
    timeouts: u64,
    seen_at: Time,
}

/// The judgement.
#[derive(Debug, Clone)]
pub struct Engine {
    settings: Settings,
    connections: BTreeMap<ConnectionId, Connection>,
    /// Connections that a look-up has shown to stay within the host, and the sweep in which each was
    /// last seen: their samples do not tell.
    within_host: BTreeMap<ConnectionId, u64>,
    /// Connections that somebody resets, and since when.
    killed: BTreeMap<ConnectionId, Time>,
    upstreams: BTreeMap<Arc<str>, Record>,
    interfaces: Interfaces,
    neighbours: BTreeMap<NextHop, Reachability>,
    /// When something last got through to each network namespace.
    heard: BTreeMap<NetnsId, Time>,
    counts: BTreeMap<Option<NextHop>, Counts>,
    generation: u64,
    swept_at: Option<Time>,
    judged_at: Time,
    /// When something may look different although nothing is seen.
    changes_at: Option<Time>,
    dirty_since: Option<Time>,
    troubled_at: Option<Time>,
    /// When the host last woke up from being suspended.
    resumed_at: Option<Time>,
    /// What was learned of upstreams that have not shown up yet.
    remembered: BTreeMap<String, Baseline>,
    /// Grows when a name can have changed.
    epoch: u64,
    urgent: bool,
}

impl Engine {
    /// An engine that has seen nothing.
    pub fn new(settings: Settings, now: Time) -> Self {
        let mut engine = Self {
            settings,
            connections: BTreeMap::new(),
            within_host: BTreeMap::new(),
            killed: BTreeMap::new(),
            upstreams: BTreeMap::new(),
            interfaces: Interfaces::new(),
            neighbours: BTreeMap::new(),
            heard: BTreeMap::new(),
            counts: BTreeMap::new(),
            generation: 0,
            swept_at: None,
            judged_at: now,
            changes_at: None,
            dirty_since: None,
            troubled_at: None,
            resumed_at: None,
            remembered: BTreeMap::new(),
            epoch: 0,
            urgent: false,
        };
        engine.add_configured(now);
        engine
    }

    /// Takes other settings from now on. Upstreams that keep their name keep their state.
    pub fn configure(&mut self, settings: Settings, now: Time) {
        self.settings = settings;
        self.epoch += 1;
        let ids: Vec<_> = self.connections.keys().copied().collect();
        for id in ids {
            self.attribute(id);
        }
        let used: BTreeSet<_> = self
            .connections
            .values()
            .filter_map(|connection| connection.upstream.clone())
            .collect();
        let rules = &self.settings.rules;
        self.upstreams
            .retain(|name, _| used.contains(name) || rules.iter().any(|it| *it.name == **name));
        self.add_configured(now);
        self.dirty_since.get_or_insert(now);
    }

    /// Takes something in.
    pub fn handle(&mut self, now: Time, input: Input) -> Vec<Transition> {
        let mut transitions = Vec::new();
        match input {
            Input::Timeout(sample) => {
                self.take(sample, now, &mut transitions);
                self.dirty_since.get_or_insert(now);
            }
            Input::Closed(id) => {
                let outcome = self.outcome(id, Outcome::Closed);
                self.close(id, now, outcome, &mut transitions);
                self.dirty_since.get_or_insert(now);
            }
            Input::Sweep(sweep) => {
                self.take_sweep(sweep, now, &mut transitions);
                self.judge(now, &mut transitions);
                self.learn(now);
            }
            Input::Interface(netns, index, interface) => {
                let key = (netns, index);
                if put(&mut self.interfaces, key, interface) {
                    self.epoch += 1;
                    self.dirty_since.get_or_insert(now);
                }
            }
            Input::Neighbour(hop, reachability) => {
                // On a large link entries change all the time; few bear on a stall.
                if put(&mut self.neighbours, hop, reachability)
                    && self.suspected_hops().contains(&hop)
                {
                    self.dirty_since.get_or_insert(now);
                }
            }
            Input::Route(id, hop) => {
                if hop.interface == crate::model::LOOPBACK {
                    // It stays within the host, which nobody could tell while its route was gone.
                    self.within_host.insert(id, self.generation);
                    self.close(id, now, Outcome::Recovered, &mut transitions);
                } else if let Some(connection) = self.connections.get_mut(&id) {
                    connection.next_hop.get_or_insert(hop);
                    self.attribute(id);
                    self.dirty_since.get_or_insert(now);
                }
            }
            Input::Suspended(_) => {
                self.resumed_at = Some(now);
                self.dirty_since.get_or_insert(now);
            }
            Input::Killed(ids) => {
                let known = ids
                    .into_iter()
                    .filter(|id| self.connections.contains_key(id));
                self.killed.extend(known.map(|id| (id, now)));
            }
            Input::Tick => {}
        }
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.judge(now, &mut transitions);
        }
        transitions
    }

    /// When it wants to be called again, at the latest, although nothing was seen.
    pub fn deadline(&self) -> Option<Time> {
        if let Some(dirty) = self.dirty_since {
            return Some(dirty.after(SETTLE));
        }
        self.changes_at
    }

    /// How soon the next sweep should come.
    pub fn attention(&self, now: Time) -> Attention {
        if self.urgent {
            return Attention::Now;
        }
        let lately = self.troubled_at.is_some_and(|at| now.since(at) < ALERT);
        if lately || self.upstreams.values().any(unsettled) {
            return Attention::Alert;
        }
        Attention::Quiet
    }

    /// Stuck connections whose next hop is not known: their route should be looked up.
    pub fn without_route(&self) -> impl Iterator<Item = &Sample> {
        self.connections
            .values()
            .filter(|connection| connection.phase.is_some() && connection.next_hop.is_none())
            .map(|connection| &connection.sample)
    }

    /// What was learned of each upstream: worth keeping across a restart.
    pub fn learned(&self) -> BTreeMap<String, Baseline> {
        let mut learned = self.remembered.clone();
        for (name, record) in &self.upstreams {
            if record.baseline != Baseline::default() {
                learned.insert(name.to_string(), record.baseline);
            }
        }
        learned
    }

    /// Takes in what was learned before.
    pub fn remember(&mut self, learned: BTreeMap<String, Baseline>) {
        for (name, record) in &mut self.upstreams {
            if let Some(baseline) = learned.get(&**name) {
                record.baseline = *baseline;
            }
        }
        self.remembered = learned;
    }

    /// When it last came to a conclusion.
    pub fn judged_at(&self) -> Time {
        self.judged_at
    }

    /// Sockets of connections in trouble: who holds them is of interest.
    pub fn inodes_in_trouble(&self) -> BTreeSet<u64> {
        self.connections
            .values()
            .filter(|connection| connection.phase.is_some())
            .filter_map(|connection| connection.sample.inode)
            .collect()
    }

    /// Next hops of stuck connections: whether they answer on their link is of interest.
    pub fn suspected_hops(&self) -> BTreeSet<NextHop> {
        self.connections
            .values()
            .filter(|connection| connection.phase.is_some())
            .filter_map(Connection::neighbour)
            .collect()
    }

    fn add_configured(&mut self, now: Time) {
        for rule in &self.settings.rules {
            self.upstreams
                .entry(Arc::from(rule.name.as_str()))
                .or_insert_with(|| Record::new(now));
        }
    }

    fn ignored(&self, sample: &Sample) -> bool {
        let remote = sample.remote.ip();
        sample
            .next_hop
            .is_some_and(|hop| hop.interface == crate::model::LOOPBACK)
            || self
                .settings
                .ignore
                .iter()
                .any(|prefix| prefix.contains(&remote))
    }

    /// Whether a look-up has shown that it stays within the host, and nothing says otherwise since.
    fn stays_within(&mut self, sample: &Sample) -> bool {
        if sample.next_hop.is_some() {
            self.within_host.remove(&sample.id);
            return false;
        }
        let seen = self.within_host.get_mut(&sample.id);
        seen.map(|seen| *seen = self.generation).is_some()
    }

    fn take_sweep(&mut self, sweep: Sweep, now: Time, transitions: &mut Vec<Transition>) {
        self.generation += 1;
        self.swept_at = Some(now);
        self.urgent = false;
        self.counts = sweep.counts;
        for sample in sweep.samples {
            self.take(sample, now, transitions);
        }
        let generation = self.generation;
        self.within_host
            .retain(|_, seen| generation - *seen < MISSED);
        let gone: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, it)| self.generation - it.generation >= missed(it))
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            // Its end is reported by an event; without one, it went on and needs no attention. Of one that
            // was reset there is none until its program closes it.
            let outcome = self.outcome(id, Outcome::Recovered);
            self.close(id, now, outcome, transitions);
        }
        self.killed.retain(|_, at| now.since(*at) < KILLED);
    }

    fn take(&mut self, sample: Sample, now: Time, transitions: &mut Vec<Transition>) {
        if self.ignored(&sample) || self.stays_within(&sample) {
            return;
        }
        let id = sample.id;
        let is_new = !self.connections.contains_key(&id);
        if is_new && sample.origin == Origin::Active && self.connections.len() >= CAPACITY {
            return;
        }
        let was = self
            .connections
            .get(&id)
            .and_then(|connection| connection.phase);
        let news = match self.connections.get_mut(&id) {
            Some(connection) => connection.update(sample, self.generation),
            None => {
                let (connection, news) = Connection::new(sample, self.generation);
                self.connections.insert(id, connection);
                news
            }
        };
        self.attribute(id);
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.judge(self.settings.stall_after, now);
        if was.is_none() && connection.phase.is_some() {
            self.troubled_at = Some(now);
            // More of what is known already, and windows that close, can wait for the next sweep.
            let upstream = connection.upstream.as_ref();
            let known = upstream.and_then(|name| self.upstreams.get(name));
            self.urgent |=
                connection.sample.timeouts > 0 && !known.is_some_and(|it| is_bad(it.state));
        }
        let Some(upstream) = connection.upstream.clone() else {
            return;
        };
        if let Some(since) = news.recovered {
            // Whoever resets looks first, and leaves alone what has recovered.
            self.killed.remove(&id);
            transitions.push(Transition::StallEnded {
                id,
                upstream: upstream.to_string(),
                outcome: Outcome::Recovered,
                lasted: now.since(since),
            });
        }
        let (leg, destination) = (connection.next_hop, connection.destination);
        let remembered = &self.remembered;
        let record = self.upstreams.entry(upstream).or_insert_with_key(|name| {
            let mut record = Record::new(now);
            record.baseline = remembered.get(&**name).copied().unwrap_or_default();
            record
        });
        record.seen_at = now;
        record.timeouts += news.timeouts;
        if let Some(pass) = news.pass {
            let heard = self.heard.entry(pass.netns).or_default();
            *heard = pass.at.max(*heard);
            record.legs.entry(leg).or_default().passes.add(pass);
        }
        if let Some(trials) = news.trials {
            let ledger = &mut record.legs.entry(leg).or_default().ledger;
            ledger.add(destination, now, trials);
        }
    }

    fn attribute(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let with = Some((self.epoch, connection.next_hop, connection.sample.mark));
        if connection.attributed_with != with {
            connection.attributed_with = with;
            connection.upstream = attribute::upstream(
                &connection.sample,
                connection.next_hop,
                &self.settings.rules,
                &self.interfaces,
            );
        }
    }

    /// How the stall of a connection that is not there any more has ended: reset, or else as it seems.
    fn outcome(&mut self, id: ConnectionId, seems: Outcome) -> Outcome {
        match self.killed.remove(&id) {
            Some(_) => Outcome::Killed,
            None => seems,
        }
    }

    fn close(
        &mut self,
        id: ConnectionId,
        now: Time,
        outcome: Outcome,
        transitions: &mut Vec<Transition>,
    ) {
        let Some(connection) = self.connections.remove(&id) else {
            return;
        };
        if outcome != Outcome::Recovered && connection.counts() {
            let record = connection.upstream.as_ref();
            let record = record.and_then(|name| self.upstreams.get_mut(name));
            let leg = record.and_then(|it| it.legs.get_mut(&connection.next_hop));
            if let Some(leg) = leg {
                leg.gone(&connection);
            }
        }
        if let (Some(since), Some(upstream)) = (connection.stalled_since(), &connection.upstream) {
            transitions.push(Transition::StallEnded {
                id,
                upstream: upstream.to_string(),
                outcome,
                lasted: now.since(since),
            });
        }
    }
}

impl Record {
    fn new(now: Time) -> Self {
        Self {
            state: State::Idle,
            since: now,
            scope: None,
            cause: None,
            other_cause: None,
            held: Held::new(Opinion::TooLittle, now),
            legs: BTreeMap::new(),
            tally: Tally::default(),
            usual: baseline::STALLED,
            baseline: Baseline::default(),
            learned_at: now,
            timeouts: 0,
            seen_at: now,
        }
    }
}

/// Sweeps that may miss a connection: one that was stuck is always written, so that its absence
/// says more than that of a sample.
fn missed(connection: &Connection) -> u64 {
    if connection.phase.is_some() {
        MISSED - 1
    } else {
        MISSED
    }
}

/// Keeps or, without a value, forgets an entry; whether that changed anything.
fn put<K: Ord, V: PartialEq>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) -> bool {
    if map.get(&key) == value.as_ref() {
        return false;
    }
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
    true
}

fn unsettled(record: &Record) -> bool {
    is_bad(record.state)
        || matches!(
            record.held.opinion,
            Opinion::Abnormal { .. } | Opinion::Unsure
        )
}

fn is_bad(state: State) -> bool {
    match state {
        State::Degraded | State::Failing => true,
        State::Ok | State::Idle => false,
    }
}

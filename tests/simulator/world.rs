//! A made-up host: its upstreams, its peers, its connections, and the daemon that watches them.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    net::SocketAddr,
};

use detector::model::{ConnectionId, Input, Origin};

use super::{
    Nanos, SECOND,
    baseline::Baselines,
    connection::{Connection, Event, Life, NEVER, Plan},
    fault::Fault,
    observe::{self, address},
    random::{Random, mix},
    trap::{Happening, Trap},
    watcher::Watcher,
    way::{Block, Way},
};

mod sweep;

pub use sweep::Place;

/// The host has been up for a day.
pub const START: Nanos = 86_400 * SECOND;

/// A prefix with peers.
#[derive(Debug, Clone)]
pub struct Destination {
    /// The larger prefix that it belongs to.
    pub site: usize,
    /// Time there and back.
    pub rtt: Nanos,
    /// How much that varies.
    pub jitter: f64,
    /// Share of packets that vanish, always.
    pub loss: f64,
    /// Share of packets that vanish at present, besides.
    pub burst: f64,
    /// How much longer the way there and back takes at present.
    pub delay: Nanos,
    /// Nobody answers any more.
    pub dead: bool,
}

/// A link to the world.
#[derive(Debug, Clone, Default)]
pub struct Upstream {
    /// What is broken.
    pub fault: Option<Fault>,
    /// Nothing passes for a moment, as on a radio link.
    pub gap: bool,
}

/// A place for a connection.
#[derive(Debug, Clone)]
pub struct Slot {
    /// Who is there.
    pub connection: Connection,
    remote: SocketAddr,
    /// When it ends, another takes its place.
    pub lasting: bool,
    /// Segments and repeats that the baselines have counted.
    counted: (u64, u64),
}

/// A host in virtual time.
#[derive(Debug)]
pub struct World {
    /// The time.
    pub now: Nanos,
    /// All chance of this run.
    pub random: Random,
    /// Links.
    pub upstreams: Vec<Upstream>,
    /// Prefixes.
    pub destinations: Vec<Destination>,
    /// Destinations of each upstream, the most popular first.
    pub reachable: Vec<Vec<usize>>,
    /// Places for connections.
    pub slots: Vec<Slot>,
    /// Places that are free.
    free: Vec<usize>,
    queue: BinaryHeap<Reverse<(Nanos, usize, u32)>>,
    /// What will happen, and when.
    pub calendar: BTreeMap<(Nanos, u64), Happening>,
    next_id: u64,
    /// The daemon.
    pub watcher: Watcher,
    /// What simpler rules would have said.
    pub baselines: Baselines,
    sampled: Vec<u8>,
    /// Traps that have snapped, and when.
    pub snapped: Vec<(Nanos, Trap)>,
    /// The upstream that is a radio link, with that trap.
    pub radio: usize,
    /// When it paused although the daemon did not know yet that it does.
    pub unlearned: Vec<Nanos>,
    /// What the daemon says before is not counted: it gets to know the host.
    pub counts_from: Nanos,
    /// Says every event aloud.
    pub trace: bool,
}

/// What is said so soon after the beginning of a pause is said of the pause.
const ABOUT_A_PAUSE: Nanos = 20 * SECOND;

impl World {
    /// A host without connections.
    pub fn new(
        upstreams: usize,
        destinations: Vec<Destination>,
        reachable: Vec<Vec<usize>>,
        random: Random,
    ) -> Self {
        // Not in step with the slots of time in which the engine adds up; from a lot of its own, so
        // that nobody else draws another.
        let mut lot = Random::new(mix(random.clone().bits()));
        let swept_ago = (lot.share() * SECOND as f64) as Nanos;
        Self {
            now: START,
            random,
            upstreams: vec![Upstream::default(); upstreams],
            sampled: vec![0; destinations.len() * upstreams],
            destinations,
            reachable,
            slots: Vec::new(),
            free: Vec::new(),
            queue: BinaryHeap::new(),
            calendar: BTreeMap::new(),
            next_id: 1,
            watcher: Watcher::new(upstreams, START, swept_ago),
            baselines: Baselines::new(upstreams),
            snapped: Vec::new(),
            radio: 0,
            unlearned: Vec::new(),
            counts_from: START,
            trace: false,
        }
    }

    /// Whether something said at that time is about a pause that the daemon could not expect.
    pub fn is_about_the_unknown(&self, upstream: usize, at: Nanos) -> bool {
        let mut pauses = self.unlearned.iter();
        let lately = |began: &Nanos| at >= *began && at - began < ABOUT_A_PAUSE;
        upstream == self.radio && pauses.any(lately)
    }

    /// What packets meet between the host and a peer.
    fn way(&self, plan: &Plan, id: u64, deserted: bool) -> Way {
        let destination = &self.destinations[plan.destination];
        let upstream = &self.upstreams[plan.upstream];
        let mut way = Way {
            rtt: destination.rtt + destination.delay,
            jitter: destination.jitter,
            ..Way::clear(0)
        };
        way.lose(destination.loss, destination.loss);
        way.lose(destination.burst, destination.burst);
        if destination.dead || deserted || upstream.gap {
            way.block = Some(Block::Hole);
        }
        if let Some(fault) = &upstream.fault
            && fault.hits(id, plan.destination)
        {
            fault.apply(&mut way);
        }
        way
    }

    /// A connection, past its handshake.
    pub fn open(&mut self, plan: Plan, lasting: bool) -> usize {
        let id = self.next_id;
        self.next_id += 1;
        let way = self.way(&plan, id, false);
        let connection = Connection::open(id, plan, way, self.now, &mut self.random);
        let site = self.destinations[plan.destination].site;
        let slot = Slot {
            connection,
            remote: address(site, plan.destination, id),
            lasting,
            counted: (0, 0),
        };
        let index = match self.free.pop() {
            Some(index) => {
                let stamp = self.slots[index].connection.stamp;
                self.slots[index] = slot;
                self.slots[index].connection.stamp = stamp;
                index
            }
            None => {
                self.slots.push(slot);
                self.slots.len() - 1
            }
        };
        self.schedule(index);
        index
    }

    fn schedule(&mut self, index: usize) {
        let connection = &mut self.slots[index].connection;
        connection.stamp = connection.stamp.wrapping_add(1);
        let due = connection.due();
        if due != NEVER {
            self.queue.push(Reverse((due, index, connection.stamp)));
        }
    }

    /// Packets of connections meet something else from now on.
    pub fn refresh(&mut self, concerned: impl Fn(&Connection) -> bool) {
        for index in 0..self.slots.len() {
            let connection = &self.slots[index].connection;
            if !concerned(connection) {
                continue;
            }
            let way = self.way(&connection.plan, connection.id, connection.deserted);
            let connection = &mut self.slots[index].connection;
            match connection.life {
                Life::Open | Life::Orphan => {
                    connection.reroute(way, self.now, &mut self.random);
                    self.schedule(index);
                }
                Life::Opening(_) | Life::Gone => connection.way = way,
            }
        }
    }

    /// The clock goes on to `until`, and nothing happens before then.
    pub fn freeze(&mut self, until: Nanos) {
        for index in 0..self.slots.len() {
            let connection = &mut self.slots[index].connection;
            if matches!(connection.life, Life::Open | Life::Orphan) {
                connection.freeze(self.now, until, &mut self.random);
                self.schedule(index);
            }
        }
        self.now = until;
    }

    /// Something breaks, or is repaired.
    pub fn set_fault(&mut self, upstream: usize, fault: Option<Fault>) {
        self.upstreams[upstream].fault = fault;
        self.refresh(|connection| connection.plan.upstream == upstream);
    }

    /// Lets time pass.
    pub fn run_until(&mut self, end: Nanos) {
        loop {
            let connection = self.queue.peek().map_or(NEVER, |entry| entry.0.0);
            let happening = self.calendar.first_key_value().map_or(NEVER, |it| it.0.0);
            let daemon = self.watcher.due();
            let next = connection.min(happening).min(daemon);
            if next > end {
                self.now = end;
                return;
            }
            self.now = self.now.max(next);
            if happening == next {
                if let Some((_, happening)) = self.calendar.pop_first() {
                    happening.happen(self);
                }
            } else if connection == next {
                self.attend();
            } else {
                self.serve_daemon();
            }
        }
    }

    fn serve_daemon(&mut self) {
        self.watcher.catch_up(self.now);
        if self.watcher.wants_sweep(self.now) {
            self.sweep();
        } else {
            self.watcher.tell(self.now, Input::Tick);
        }
    }

    /// Does what is due at the connection that is first in the queue.
    fn attend(&mut self) {
        let Some(Reverse((_, index, stamp))) = self.queue.pop() else {
            return;
        };
        let slot = &mut self.slots[index];
        if slot.connection.stamp != stamp {
            return;
        }
        match slot.connection.life {
            Life::Gone => return,
            Life::Opening(tries) => self.shake_hands(index, tries),
            Life::Open | Life::Orphan => {
                let event = slot.connection.act(self.now, &mut self.random);
                if let Some(event) = event {
                    self.report(index, event);
                }
            }
        }
        if self.slots[index].connection.life != Life::Gone {
            self.schedule(index);
        }
    }

    fn report(&mut self, index: usize, event: Event) {
        let now = self.now;
        let slot = &mut self.slots[index];
        match event {
            Event::Timeout(error) => {
                let (connection, remote) = (&slot.connection, slot.remote);
                let sample = observe::sample(connection, remote, now, Origin::Timeout, error);
                slot.connection.sender.back_off(now);
                self.watcher.event(now, Input::Timeout(sample));
            }
            Event::Closed(wrong) => {
                let id = slot.connection.id;
                self.count_out(index);
                self.replace(index);
                if wrong {
                    self.watcher.event(now, Input::Closed(ConnectionId(id)));
                }
            }
            // Whoever gave up tries again, over a new connection.
            Event::Abandoned => {
                if std::mem::take(&mut slot.lasting) {
                    let plan = slot.connection.plan;
                    let successor = self.open(plan, true);
                    self.begin_handshake(successor);
                }
            }
        }
    }

    /// The next connection of the same kind takes the place of one that ended.
    fn replace(&mut self, index: usize) {
        if !self.slots[index].lasting {
            self.slots[index].connection.life = Life::Gone;
            self.free.push(index);
            return;
        }
        let plan = self.slots[index].connection.plan;
        self.slots[index].connection.life = Life::Gone;
        self.free.push(index);
        let successor = self.open(plan, true);
        self.begin_handshake(successor);
    }

    fn begin_handshake(&mut self, index: usize) {
        let pause = self.random.exponential(0.3);
        let connection = &mut self.slots[index].connection;
        connection.life = Life::Opening(0);
        connection.well_until = Some(NEVER);
        connection.ends_at = self.now + (pause * 1e9) as Nanos;
        self.schedule(index);
    }

    fn shake_hands(&mut self, index: usize, tries: u32) {
        let slot = &mut self.slots[index];
        let way = slot.connection.way;
        let through = way.block.is_none()
            && !self.random.chance(way.loss)
            && !self.random.chance(way.ack_loss);
        if through {
            let (id, plan, stamp) = (
                slot.connection.id,
                slot.connection.plan,
                slot.connection.stamp,
            );
            slot.connection = Connection::open(id, plan, way, self.now, &mut self.random);
            slot.connection.stamp = stamp;
        } else {
            // `tcp_syn_linear_timeouts`: four at one second, then doubling.
            slot.connection.life = Life::Opening(tries + 1);
            let wait = SECOND << tries.saturating_sub(3).min(6);
            slot.connection.ends_at = self.now + wait;
        }
    }

    fn count_out(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        let sender = &slot.connection.sender;
        let (segments, repeats) = slot.counted;
        self.baselines.sent(
            slot.connection.plan.upstream,
            sender.segments_out.saturating_sub(segments),
            sender.repeats.saturating_sub(repeats),
        );
    }
}

//! What happens on healthy hosts and merely looks like an outage.

use std::time::Duration;

use detector::model::Input;
use serde::Deserialize;

use super::{
    Nanos, SECOND,
    connection::{Life, Manner, NEVER, Plan},
    fault::Fault,
    nanos,
    world::World,
};

/// Seconds.
const HOUR: f64 = 3600.0;
/// From one pause of a radio link to the next, at least.
const APART: Nanos = 90 * SECOND;

/// A trap for the judgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trap {
    /// Servers that never answer again.
    DeadDestinations,
    /// All prefixes of a large site are dead for minutes, while other sites are in use.
    DeadSite,
    /// Clients walk away, one by one; a fifth of all connections may be left over.
    WalkedAway,
    /// Scanners connect and say nothing any more.
    Scanners,
    /// Peers that do not read for a while.
    SlowReaders,
    /// Connections that say nothing, or wait for an answer.
    Resting,
    /// Seconds of heavy loss at one destination.
    LossBursts,
    /// The way takes longer for a while.
    RttSteps,
    /// A share of the connections moves to another upstream.
    RouteChanges,
    /// The host is suspended, or its virtual machine stands still.
    Pauses,
    /// The daemon gets no processor for a while.
    Starvation,
    /// The daemon is restarted.
    Restarts,
    /// One upstream loses everything for half a second to a second now and then.
    RadioGaps,
    /// One upstream is a radio link that pauses for one to five seconds every ten minutes or so. The
    /// daemon has known it for a while: what it says of the first eight pauses is not counted, nor of
    /// later ones where hardly anybody talks, as long as it has not noticed three.
    RadioLinks,
    /// Two to four destinations are in use.
    Night,
}

/// Every trap.
pub const ALL: [Trap; 15] = [
    Trap::DeadDestinations,
    Trap::DeadSite,
    Trap::WalkedAway,
    Trap::Scanners,
    Trap::SlowReaders,
    Trap::Resting,
    Trap::LossBursts,
    Trap::RttSteps,
    Trap::RouteChanges,
    Trap::Pauses,
    Trap::Starvation,
    Trap::Restarts,
    Trap::RadioGaps,
    Trap::RadioLinks,
    Trap::Night,
];

/// Something that happens at its time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Happening {
    /// Something breaks at an upstream, or is repaired.
    Fault(usize, Option<Fault>),
    /// A trap snaps; the mean time until it does so again.
    Trap(Trap, Nanos),
    /// A destination answers again, or not any more.
    Dead(usize, bool),
    /// Loss at a destination, besides the usual.
    Burst(usize, f64),
    /// The way to a destination takes so much longer.
    Delay(usize, Nanos),
    /// Nothing passes at an upstream, or it does again.
    Gap(usize, bool),
}

impl Happening {
    /// Makes it happen.
    pub fn happen(self, world: &mut World) {
        if world.trace {
            println!("{:>10.3}  {self:?}", world.elapsed());
        }
        if let Self::Trap(trap, _) = self {
            world.snapped.push((world.now, trap));
        }
        match self {
            Self::Fault(upstream, fault) => world.set_fault(upstream, fault),
            Self::Trap(trap, mean) => {
                snap(trap, world);
                let next = world.random.exponential(mean as f64) as Nanos;
                let least = if trap == Trap::RadioLinks { APART } else { 0 };
                world.plan(world.now + least + next, self);
            }
            Self::Dead(destination, dead) => {
                world.destinations[destination].dead = dead;
                world.refresh(|connection| connection.plan.destination == destination);
            }
            Self::Burst(destination, loss) => {
                world.destinations[destination].burst = loss;
                world.refresh(|connection| connection.plan.destination == destination);
            }
            Self::Delay(destination, delay) => {
                world.destinations[destination].delay = delay;
                world.refresh(|connection| connection.plan.destination == destination);
            }
            Self::Gap(upstream, gap) => {
                world.upstreams[upstream].gap = gap;
                world.refresh(|connection| connection.plan.upstream == upstream);
            }
        }
    }
}

/// Sets a trap up on a host: when it first snaps. What belongs to the population from the start,
/// such as slow readers, is not set up here. What only some hosts have this one has `always` or by
/// chance.
pub fn set(trap: Trap, always: bool, world: &mut World) {
    let connections = world.slots.len().max(1) as f64;
    let mean = match trap {
        Trap::DeadDestinations | Trap::RouteChanges => 2.0 * HOUR,
        Trap::DeadSite | Trap::Pauses | Trap::Restarts => 6.0 * HOUR,
        // Each is left over for five minutes or so.
        Trap::WalkedAway => 300.0 / (connections * world.random.between(0.01, 0.2)),
        Trap::Scanners => world.random.log_normal(5.0, 300.0),
        Trap::LossBursts => 60.0,
        Trap::RttSteps => 600.0,
        Trap::Starvation => HOUR,
        Trap::RadioGaps if always || world.random.chance(0.25) => HOUR / 3.0,
        Trap::RadioLinks if always || world.random.chance(0.15) => {
            get_used_to_pauses(world);
            HOUR / 6.0
        }
        Trap::SlowReaders | Trap::Resting | Trap::Night | Trap::RadioGaps | Trap::RadioLinks => {
            return;
        }
    };
    let begin = if trap == Trap::RadioLinks {
        world.counts_from
    } else {
        world.now
    };
    let first = begin + nanos(world.random.exponential(mean));
    world.plan(first, Happening::Trap(trap, nanos(mean)));
}

fn snap(trap: Trap, world: &mut World) {
    match trap {
        Trap::DeadDestinations => kill_destination(world),
        Trap::DeadSite => kill_site(world),
        Trap::WalkedAway => walk_away(world),
        Trap::Scanners => scan(world),
        Trap::LossBursts => burst(world),
        Trap::RttSteps => step(world),
        Trap::RouteChanges => change_routes(world),
        Trap::Pauses => pause(world),
        Trap::Starvation => {
            let until = world.now + nanos(world.random.log_normal(1.0, 30.0));
            world.watcher.starve(until);
        }
        Trap::Restarts => world.watcher.restart(world.now),
        Trap::RadioGaps => {
            let upstream = world.random.below(world.upstreams.len());
            let length = world.random.between(0.4, 0.9);
            gap(upstream, length, world);
        }
        Trap::RadioLinks => {
            if !world.watcher.knows_pauses(world.radio) {
                world.unlearned.push(world.now);
            }
            let length = world.random.between(1.0, 5.0);
            gap(world.radio, length, world);
        }
        Trap::SlowReaders | Trap::Resting | Trap::Night => {}
    }
}

fn kill_destination(world: &mut World) {
    let destination = world.random.below(world.destinations.len());
    Happening::Dead(destination, true).happen(world);
    let back = world.now + nanos(world.random.exponential(900.0));
    world.plan(back, Happening::Dead(destination, false));
}

fn kill_site(world: &mut World) {
    let popular = world.random.popular(world.destinations.len());
    let site = world.destinations[popular].site;
    let belongs = |destination: &usize| world.destinations[*destination].site == site;
    // Who talks to nobody else cannot tell this from a dead upstream.
    if world.reachable.iter().any(|it| it.iter().all(belongs)) {
        return;
    }
    let back = world.now + nanos(world.random.log_normal(30.0, 900.0));
    for destination in 0..world.destinations.len() {
        if world.destinations[destination].site == site {
            Happening::Dead(destination, true).happen(world);
            world.plan(back, Happening::Dead(destination, false));
        }
    }
}

fn walk_away(world: &mut World) {
    let index = world.random.below(world.slots.len());
    let slot = &mut world.slots[index];
    if slot.connection.life != Life::Open || slot.connection.deserted {
        return;
    }
    slot.connection.deserted = true;
    let (id, plan) = (slot.connection.id, slot.connection.plan);
    // Somebody else comes instead; the place of this one is not taken again.
    if std::mem::take(&mut slot.lasting) {
        world.open(plan, true);
    }
    world.refresh(|connection| connection.id == id);
}

fn scan(world: &mut World) {
    let upstream = world.random.below(world.upstreams.len());
    let pool = &world.reachable[upstream];
    let destination = pool[world.random.below(pool.len())];
    let plan = Plan {
        upstream,
        destination,
        manner: Manner::Stream,
        messages: [60, 0, 0, 0, 0, 0],
        every: NEVER / 4,
        answer: 0.0,
        lifetime: NEVER,
        patience: nanos(world.random.between(10.0, 300.0)),
    };
    let index = world.open(plan, false);
    let connection = &mut world.slots[index].connection;
    connection.deserted = true;
    connection.next_message = world.now;
    let id = connection.id;
    world.refresh(|connection| connection.id == id);
}

fn burst(world: &mut World) {
    let destination = world.random.below(world.destinations.len());
    let loss = world.random.between(0.05, 0.5);
    Happening::Burst(destination, loss).happen(world);
    let over = world.now + nanos(world.random.between(1.0, 8.0));
    world.plan(over, Happening::Burst(destination, 0.0));
}

/// At one destination, or at all of an upstream.
fn step(world: &mut World) {
    let delay = nanos(world.random.log_normal(0.02, 0.8));
    let over = world.now + nanos(world.random.log_normal(2.0, 120.0));
    let concerned = if world.random.chance(0.7) {
        vec![world.random.below(world.destinations.len())]
    } else {
        let upstream = world.random.below(world.upstreams.len());
        world.reachable[upstream].clone()
    };
    for destination in concerned {
        Happening::Delay(destination, delay).happen(world);
        world.plan(over, Happening::Delay(destination, 0));
    }
}

fn change_routes(world: &mut World) {
    if world.upstreams.len() < 2 {
        return;
    }
    let from = world.random.below(world.upstreams.len());
    let to = (from + 1 + world.random.below(world.upstreams.len() - 1)) % world.upstreams.len();
    let share = world.random.between(0.05, 0.6);
    let mut moved = Vec::new();
    for slot in &mut world.slots {
        if slot.connection.plan.upstream == from && world.random.chance(share) {
            slot.connection.settle(world.now);
            slot.connection.plan.upstream = to;
            moved.push(slot.connection.id);
        }
    }
    world.refresh(|connection| moved.contains(&connection.id));
}

fn pause(world: &mut World) {
    let gap = nanos(world.random.log_normal(1.0, 600.0));
    let suspended = world.random.chance(0.5);
    // After a long absence some peers have gone.
    let gone = super::seconds(gap) / 600.0 * world.random.between(0.0, 0.3);
    world.pause(gap, suspended);
    let mut ids = Vec::new();
    for slot in &mut world.slots {
        if slot.connection.life == Life::Open && world.random.chance(gone) {
            slot.connection.deserted = true;
            ids.push(slot.connection.id);
        }
    }
    world.refresh(|connection| ids.contains(&connection.id));
}

fn gap(upstream: usize, seconds: f64, world: &mut World) {
    Happening::Gap(upstream, true).happen(world);
    world.plan(world.now + nanos(seconds), Happening::Gap(upstream, false));
}

/// Eight pauses of the radio link, before anything counts.
fn get_used_to_pauses(world: &mut World) {
    world.radio = world.random.below(world.upstreams.len());
    let mut at = world.now + 30 * SECOND;
    for _ in 0..8 {
        let length = nanos(world.random.between(1.0, 5.0));
        world.plan(at, Happening::Gap(world.radio, true));
        world.plan(at + length, Happening::Gap(world.radio, false));
        at += APART + nanos(world.random.between(0.0, 20.0));
    }
    world.counts_from = at;
}

/// Which trap provoked an alarm at `at`: the last but those that snap all the time; `None` when
/// only those did for two minutes.
pub fn culprit(snapped: &[(Nanos, Trap)], at: Nanos) -> Option<Trap> {
    let seldom = |trap: Trap| {
        !matches!(
            trap,
            Trap::WalkedAway | Trap::Scanners | Trap::LossBursts | Trap::RttSteps
        )
    };
    let before = snapped.iter().rev().filter(|it| it.0 <= at);
    let mut lately = before.take_while(|it| at - it.0 <= 120 * SECOND);
    lately.find(|it| seldom(it.1)).map(|it| it.1)
}

impl World {
    /// Seconds since the beginning.
    pub fn elapsed(&self) -> f64 {
        super::seconds(self.now - super::world::START)
    }

    /// Something will happen.
    pub fn plan(&mut self, at: Nanos, happening: Happening) {
        let number = self.calendar.len() as u64 + (self.random.bits() >> 20 << 10);
        self.calendar.insert((at, number), happening);
    }

    /// The host stands still for so long. Suspended, its clock stands still as well, and only what
    /// was on its way is lost; else everything that was due happens at once.
    pub fn pause(&mut self, gap: Nanos, suspended: bool) {
        if suspended {
            for slot in &mut self.slots {
                slot.connection.sender.forget_acks();
            }
            let gap = Duration::from_nanos(gap);
            self.watcher.event(self.now, Input::Suspended(gap));
            return;
        }
        self.freeze(self.now + gap.max(SECOND));
    }
}

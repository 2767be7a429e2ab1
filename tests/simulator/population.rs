//! Who talks to whom, how much and how often.

use super::{
    Nanos,
    connection::{Manner, NEVER, Plan},
    nanos,
    random::Random,
    scenario::{Manners, Scenario},
    trap::{self, Trap},
    world::{Destination, World},
};

/// Builds the host that a scenario describes, without any fault.
pub fn build(scenario: &Scenario, seed: u64) -> World {
    let mut random = Random::new(seed);
    let shape = &scenario.world;
    let upstreams = shape.upstreams.draw(&mut random) as usize;
    let mut each = shape.destinations.draw(&mut random) as usize;
    let night = scenario.has(Trap::Night) && random.chance(0.2);
    if night {
        each = 2 + random.below(3);
    }
    let mut destinations = Vec::new();
    let mut reachable = Vec::new();
    for upstream in 0..upstreams {
        let mut own = Vec::new();
        for place in 0..each {
            let shared = upstream > 0 && random.chance(shape.shared);
            if shared {
                own.push(place);
            } else {
                own.push(destinations.len());
                destinations.push(destination(scenario, &destinations, &mut random));
            }
        }
        reachable.push(own);
    }
    let mut world = World::new(upstreams, destinations, reachable, random);
    for upstream in 0..upstreams {
        populate(scenario, upstream, night, &mut world);
    }
    for trap in &scenario.traps() {
        trap::set(*trap, !shape.every_trap, &mut world);
    }
    world
}

/// A further destination: of a site of its own, or of one that is there.
fn destination(scenario: &Scenario, others: &[Destination], random: &mut Random) -> Destination {
    let shape = &scenario.world;
    let join = !others.is_empty() && random.chance(shape.clustered);
    let site = if join {
        others[random.below(others.len())].site
    } else {
        others.iter().map(|other| other.site + 1).max().unwrap_or(0)
    };
    Destination {
        site,
        rtt: shape.rtt.draw(random),
        jitter: random.between(0.02, 0.3),
        loss: shape.background_loss.draw_evenly(random),
        burst: 0.0,
        delay: 0,
        dead: false,
    }
}

fn populate(scenario: &Scenario, upstream: usize, night: bool, world: &mut World) {
    let count = scenario.world.connections.draw(&mut world.random) as usize;
    let pool = world.reachable[upstream].clone();
    let count = if night { pool.len() * 2 } else { count };
    let resting = share(scenario.has(Trap::Resting), 0.6, world);
    let slow = share(scenario.has(Trap::SlowReaders), 0.2, world);
    for number in 0..count {
        // Each destination is in use; beyond that, the popular ones are.
        let destination = match pool.get(number) {
            Some(destination) => *destination,
            None => pool[world.random.popular(pool.len())],
        };
        let rtt = world.destinations[destination].rtt;
        let plan = plan(scenario, upstream, destination, rtt, &mut world.random);
        world.open(plan, true);
    }
    // These are there besides.
    for (share, manner) in [(resting, Manner::Rest), (slow, Manner::SlowReader)] {
        for _ in 0..(share * count as f64) as usize {
            let destination = pool[world.random.below(pool.len())];
            let rtt = world.destinations[destination].rtt;
            let mut plan = plan(scenario, upstream, destination, rtt, &mut world.random);
            (plan.manner, plan.lifetime, plan.patience) = (manner, NEVER, NEVER);
            world.open(plan, true);
        }
    }
}

fn share(wanted: bool, most: f64, world: &mut World) -> f64 {
    if wanted {
        world.random.between(0.0, most)
    } else {
        0.0
    }
}

fn plan(
    scenario: &Scenario,
    upstream: usize,
    destination: usize,
    rtt: Nanos,
    random: &mut Random,
) -> Plan {
    let shape = &scenario.world;
    let manner = match shape.manner {
        Manners::Stream => Manner::Stream,
        Manners::Request => Manner::Request,
        Manners::Mixed if random.chance(0.5) => Manner::Stream,
        Manners::Mixed => Manner::Request,
    };
    let mut messages = [0; 6];
    let length = 1 + random.below(messages.len());
    for message in messages.iter_mut().take(length) {
        *message = if random.chance(shape.commands) {
            random.log_normal(20.0, 400.0) as u32
        } else {
            shape.message_bytes.draw(random) as u32
        };
    }
    let every = shape.message_every.draw(random);
    Plan {
        upstream,
        destination,
        manner,
        messages,
        every: if manner == Manner::Request {
            every.max(2 * rtt)
        } else {
            every
        },
        answer: if random.chance(0.7) {
            random.log_normal(0.01, 10.0)
        } else {
            0.0
        },
        lifetime: nanos(random.pareto(shape.shortest_life, 1.2).min(1e6)),
        patience: nanos(random.log_normal(20.0, 600.0)),
    }
}

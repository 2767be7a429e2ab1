//! What breaks in the simulator, in the laboratory.

use std::time::Instant;

use anyhow::Result;

use crate::{
    fault::{BACK, Direction, Fault, OUT, Only, Path},
    network::Lab,
    simulator::{
        fault::{self, Kind},
        observe,
        world::World,
    },
};

/// Breaks an upstream as `fault` says; the time just before.
pub(super) fn install(
    lab: &Lab,
    world: &World,
    upstream: usize,
    fault: &fault::Fault,
) -> Result<Instant> {
    lab.break_for(upstream, staged(fault.kind), &only(world, upstream, fault))
}

/// The same thing, as the laboratory calls it.
fn staged(kind: Kind) -> Fault {
    match kind {
        Kind::Blackhole => Fault::Severed,
        Kind::Mtu(bytes) => Fault::DropLargerThan(bytes.try_into().unwrap_or(u16::MAX)),
        Kind::Loss(share) => Fault::LossOneWay(Direction::Out, per_cent(share)),
        Kind::ReturnPath(share) => Fault::LossOneWay(Direction::Back, per_cent(share)),
        Kind::Neighbour => Fault::NeighbourSilent,
        Kind::Local => Fault::LocalFirewall,
    }
}

fn per_cent(share: f64) -> u8 {
    (100.0 * share).round() as u8
}

/// Whom it hits. Destinations are those that the simulator has chosen; connections are as many, and
/// chosen by the router, since their ports are the kernel's choice.
fn only(world: &World, upstream: usize, fault: &fault::Fault) -> Only {
    let mut only = Only::default();
    if fault.destinations < 1.0 {
        let everybody = fault::Fault {
            connections: 1.0,
            ..*fault
        };
        let own = world.reachable[upstream].iter();
        let hit = own.filter(|destination| everybody.hits(0, **destination));
        only.prefixes = hit.map(|it| prefix(world, *it)).collect();
    }
    if fault.connections < 1.0 {
        only.path = Some(Path {
            of_thousand: (1000.0 * fault.connections).round() as u16,
            seed: fault.salt as u32,
        });
    }
    only
}

/// The addresses of a destination.
fn prefix(world: &World, destination: usize) -> String {
    let site = world.destinations[destination].site;
    format!("{}/24", observe::address(site, destination, 0).ip())
}

/// What is lost on the way to each destination and back although nothing is wrong.
pub(super) fn lose_as_ever(lab: &Lab, world: &World, upstream: usize) -> Result<()> {
    let mut rules = String::new();
    for destination in &world.reachable[upstream] {
        let share = (1e6 * world.destinations[*destination].loss).round() as u32;
        if share == 0 {
            continue;
        }
        let prefix = prefix(world, *destination);
        for (way, end) in [(OUT, "daddr"), (BACK, "saddr")] {
            rules += &format!(
                "{way} ip {end} {prefix} numgen random mod 1000000 < {share} counter drop\n"
            );
        }
    }
    lab.upstreams[upstream].router.nft(&format!(
        "table inet weather {{\n\
         chain forward {{ type filter hook forward priority 10; policy accept;\n{rules}}}\n}}\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::{population, scenario::Scenario};

    fn fault(kind: Kind, connections: f64, destinations: f64) -> fault::Fault {
        fault::Fault {
            kind,
            connections,
            destinations,
            salt: 7,
        }
    }

    #[test]
    fn every_kind_has_its_counterpart() {
        for (kind, expected) in [
            (Kind::Blackhole, Fault::Severed),
            (Kind::Mtu(1000), Fault::DropLargerThan(1000)),
            (Kind::Loss(0.3), Fault::LossOneWay(Direction::Out, 30)),
            (
                Kind::ReturnPath(1.0),
                Fault::LossOneWay(Direction::Back, 100),
            ),
            (Kind::Neighbour, Fault::NeighbourSilent),
            (Kind::Local, Fault::LocalFirewall),
        ] {
            assert_eq!(staged(kind), expected);
        }
    }

    #[test]
    fn the_destinations_are_those_of_the_simulator_and_the_paths_as_many() {
        let world = population::build(&Scenario::named("peace").unwrap(), 1);
        assert_eq!(
            only(&world, 0, &fault(Kind::Blackhole, 1.0, 1.0)),
            Only::default()
        );
        let mut half = fault(Kind::Blackhole, 1.0, 0.5);
        half.hit_exactly(&world.reachable[0]);
        let hit = only(&world, 0, &half).prefixes.len();
        assert_eq!(
            hit,
            (0.5 * world.reachable[0].len() as f64).round() as usize
        );
        let path = only(&world, 0, &fault(Kind::Blackhole, 0.25, 1.0)).path;
        assert_eq!(path.map(|path| path.of_thousand), Some(250));
    }
}

//! Addresses that are not what they seem: translated on the host, or at the far end.

use std::time::Duration;

use lab::{Direction, Fault, Load, Plan};

use super::{ss, turns_bad};
use crate::world::{SOON, World, all_quiet, it_works};

/// Two upstreams; whoever calls `10.96.0.N` on the host talks to destination N of the second, from
/// another port than it believes.
fn services() -> Option<(World, usize)> {
    let mut world = World::new(2)?;
    let upstream = &world.lab.upstreams[1];
    let mut services = String::new();
    for number in 0..20 {
        let to = upstream.destination(number, lab::Family::V4);
        services += &format!("10.96.{number}.1 : {to}, ");
    }
    it_works(world.lab.host.nft(&format!(
        "table ip services {{\n\
         chain out {{ type nat hook output priority -100; policy accept;\n\
         dnat to ip daddr map {{ {services} }}\n\
         }}\n\
         chain post {{ type nat hook postrouting priority 100; policy accept;\n\
         oifname wan2 masquerade random\n\
         }}\n}}\n"
    )));
    let route = format!("route add 10.96.0.0/16 via {}\n", upstream.gateway);
    it_works(world.lab.host.ip(&route));
    world.traffic(0, 0..20, Load::STEADY);
    let called = (0..20).map(|number| [10, 96, number, 1].into());
    let services = world.plan(&Plan::to(called, Load::STEADY));
    world.watch();
    world.all_ok();
    Some((world, services))
}

/// Trap: translated addresses: service addresses and masquerading on the host itself.
#[test]
fn translated_connections_that_do_well_are_quiet_at_their_uplink() {
    let Some((world, _)) = services() else {
        return;
    };
    world.hold(Duration::from_secs(6), "all is well", |status| {
        let upstream = status.upstream("provider-b");
        all_quiet(status)
            && upstream.is_some_and(|it| it.connections.established == 20)
            && status.upstreams.len() == 2
    });
    let tracked = world.lab.host.output("cat", &["/proc/net/nf_conntrack"]);
    let tracked = String::from_utf8_lossy(&it_works(tracked).stdout).into_owned();
    let translated = tracked.lines().filter(|it| it.contains("dst=10.96."));
    assert_eq!(translated.count(), 20, "{tracked}");
}

/// Trap: translated addresses: their uplink hangs.
#[test]
fn translated_connections_tell_that_their_uplink_hangs() {
    let Some((world, services)) = services() else {
        return;
    };
    super::round_trips_are_known(&world, services, 20);
    world.break_(1, Fault::Blackhole(Direction::Both));
    world.is_blamed(1, "blackhole");
    let stalls = world.stalls(&["--upstream", "provider-b"]);
    assert!(
        stalls.iter().any(|it| it.remote.starts_with("10.96.")),
        "{stalls:?}"
    );
    world.recovers(1);
}

/// Ports of the host's connections to an address.
fn ports(world: &World, address: &str) -> Vec<String> {
    let sockets = ss(
        &world.lab.host,
        &["-Htn", "state", "established", "dst", address],
    );
    let local = sockets.iter().filter_map(|it| it.split_whitespace().nth(2));
    local
        .filter_map(|it| it.rsplit(':').next().map(str::to_owned))
        .collect()
}

/// A load balancer forgets the connections that it has; new ones pass.
#[track_caller]
fn forget(world: &World, destinations: std::ops::Range<u8>) {
    let mut rules = String::new();
    for number in destinations {
        let address = world.lab.upstreams[1].destination(number, lab::Family::V4);
        let ports = ports(world, &address.to_string());
        assert!(!ports.is_empty(), "nobody talks to {address}");
        let ports = ports.join(", ");
        rules += &format!("ip daddr {address} tcp sport {{ {ports} }} counter drop\n");
    }
    it_works(world.lab.net.nft(&format!(
        "table inet balancer {{\n\
         chain forgotten {{ type filter hook input priority 0; policy accept;\n{rules}}}\n}}\n"
    )));
}

/// Two upstreams; many connections to one address behind the second, old ones and new ones.
fn popular() -> Option<World> {
    let mut world = World::new(2)?;
    world.traffic(0, 0..20, Load::STEADY);
    world.traffic(1, 0..20, Load::STEADY);
    world.traffic(1, 20..21, super::steady(60));
    world.traffic(1, 20..21, Load::Churn(20));
    world.watch();
    world.all_ok();
    Some(world)
}

/// Trap: a load balancer that loses its state: what is connected hangs, at one address.
#[test]
fn a_balancer_that_forgets_its_connections_is_one_destination() {
    let Some(world) = popular() else {
        return;
    };
    forget(&world, 20..21);
    world.hold(Duration::from_secs(8), "nobody is blamed", all_quiet);
    let prefix = world.lab.upstreams[1].prefix(20, lab::Family::V4);
    let stalls = world.stalls(&["--upstream", "provider-b", "--limit", "1000"]);
    assert!(stalls.len() >= 50, "only {} are listed", stalls.len());
    assert!(
        stalls.iter().all(|it| it.destination == prefix),
        "{stalls:?}"
    );
}

/// Trap: a load balancer that loses its state: one that stands before everything.
#[test]
fn a_balancer_before_all_destinations_that_forgets_is_the_upstream() {
    let Some(world) = popular() else {
        return;
    };
    forget(&world, 0..21);
    turns_bad(&world, "provider-b", "blackhole");
    it_works(world.lab.net.nft("delete table inet balancer\n"));
    world.until(2 * SOON, "it is ok again", |status| status.state == "ok");
}

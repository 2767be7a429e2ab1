//! Which way packets really leave: rules, marks, devices, several next hops, none at all.

use std::time::Duration;

use lab::{
    Direction, Fault, Load, Options, Partial, Plan, SocketOptions, daemon::Naming, server::Server,
};

use super::{is_bad, round_trips_are_known, steady, turns_bad};
use crate::world::{RECOVERY, SOON, START, World, all_quiet, it_works};

/// Trap: peers on the link itself: they have their own next hop, beside the provider's router.
#[test]
fn peers_on_the_link_that_die_are_not_the_provider_behind_it() {
    let Some(mut world) = World::new(2) else {
        return;
    };
    let router = &world.lab.upstreams[1].router;
    let mut addresses = String::new();
    let mut routes = String::new();
    for number in 1..=6 {
        addresses += &format!("address add 10.77.{number}.1/32 dev wan\n");
        routes += &format!("route add 10.77.{number}.0/24 dev wan2\n");
    }
    it_works(router.ip(&addresses));
    // Before the rule by which the source address decides.
    routes += "rule add to 10.77.0.0/16 lookup main\n";
    it_works(world.lab.host.ip(&routes));
    let _server = it_works(Server::start(router));
    world.traffic(0, 0..20, Load::STEADY);
    world.traffic(1, 0..20, Load::STEADY);
    let on_link = (1..=6).map(|number| [10, 77, number, 1].into());
    world.plan(&Plan::to(on_link, Load::STEADY));
    world.watch();
    world.all_ok();
    world.until(SOON, "the link is an upstream of its own", |status| {
        status.state_of("wan2") == "ok"
    });
    world.also_break(1, Partial::RouterItself);
    turns_bad(&world, "wan2", "blackhole");
    world.hold(Duration::from_secs(3), "the provider is fine", |status| {
        status.state_of("provider-b") == "ok"
    });
    // And the other way round.
    world.repair(1);
    world.until(RECOVERY, "all is well", all_quiet);
    world.break_(1, Fault::Blackhole(Direction::Both));
    turns_bad(&world, "provider-b", "blackhole");
}

/// Trap: marks, devices, source rules, VRFs: another uplink than the routes say.
#[test]
fn marked_and_bound_connections_belong_to_the_uplink_that_they_take() {
    let Some(mut world) = World::new(3) else {
        return;
    };
    it_works(world.lab.host.ip("rule add fwmark 2 lookup 101\n\
         rule add oif wan3 lookup 102\n"));
    let default = Plan::new(&world.lab.upstreams[0], 0..12, Load::STEADY);
    world.plan(&default);
    world.plan(&default.clone().with(SocketOptions {
        mark: Some(2),
        ..SocketOptions::default()
    }));
    world.plan(&default.with(SocketOptions {
        device: Some("wan3"),
        ..SocketOptions::default()
    }));
    world.watch();
    world.all_ok();
    for upstream in [1, 2, 0] {
        world.break_(upstream, Fault::Blackhole(Direction::Both));
        world.is_blamed(upstream, "blackhole");
        world.recovers(upstream);
    }
}

/// Trap: marks, devices, source rules, VRFs: they are bound to a device that nothing else tells,
/// and the kernel has forgotten their route.
#[test]
fn bound_connections_stuck_before_the_start_belong_to_the_uplink_that_they_take() {
    let Some(mut world) = World::new(3) else {
        return;
    };
    let [a, _, c] = &world.lab.upstreams[..] else {
        unreachable!("there are three")
    };
    // An address of no uplink, so that it does not tell the way either.
    let own = "10.55.0.1";
    let (host, net) = (&world.lab.host, &world.lab.net);
    it_works(host.ip(&format!(
        "address add {own}/32 dev lo\nrule add oif wan3 lookup 102\n"
    )));
    it_works(net.ip(&format!("route add {own}/32 via 100.64.2.1\n")));
    it_works(
        c.router
            .ip(&format!("route add {own}/32 via {}\n", c.local)),
    );
    let plan = Plan::new(a, 0..20, Load::STEADY).from(own.parse().expect("an address"));
    let bound = world.plan(&plan.with(SocketOptions {
        device: Some("wan3"),
        ..SocketOptions::default()
    }));
    round_trips_are_known(&world, bound, 20);
    world.break_(2, Fault::Blackhole(Direction::Both));
    // Past six seconds the kernel forgets the route of what is stuck.
    std::thread::sleep(Duration::from_secs(9));
    world.watch();
    turns_bad(&world, "provider-c", "blackhole");
    let gateway = Some(world.lab.upstreams[2].gateway.to_string());
    let stalls = world.stalls(&[]);
    assert!(stalls.len() >= 18, "only {} are listed", stalls.len());
    assert!(stalls.iter().all(|it| it.nexthop == gateway), "{stalls:?}");
}

/// A host whose route to all destinations has two next hops, chosen by addresses and ports.
fn two_next_hops() -> Option<World> {
    let mut world = World::new(2)?;
    let host = &world.lab.host;
    it_works(host.sysctl(&[("ipv4/fib_multipath_hash_policy", "1")]));
    let (range, _) = world.lab.upstreams[0].aggregates();
    let mut batch = String::new();
    for upstream in &world.lab.upstreams {
        // By these the source address would decide, and not the route.
        batch += &format!("rule del from {}\n", upstream.local);
    }
    batch += &format!("route replace {range}");
    for upstream in &world.lab.upstreams {
        batch += &format!(" nexthop via {}", upstream.gateway);
    }
    it_works(host.ip(&(batch + "\n")));
    let traffic = world.traffic(0, 0..12, steady(8));
    round_trips_are_known(&world, traffic, 96);
    Some(world)
}

/// Trap: routes with several next hops: a look-up says either.
#[test]
fn of_two_next_hops_of_one_route_the_dead_one_is_named() {
    let Some(mut world) = two_next_hops() else {
        return;
    };
    world.watch_with(&Options {
        naming: Naming::None,
        ..Options::default()
    });
    let names: Vec<_> = world
        .lab
        .upstreams
        .iter()
        .map(|it| format!("{}%{}", it.gateway, it.interface))
        .collect();
    world.until(START, "both carry traffic", |status| {
        names.iter().all(|name| status.state_of(name) == "ok")
    });
    world.break_(1, Fault::Blackhole(Direction::Out));
    turns_bad(&world, &names[1], "blackhole");
    world.hold(Duration::from_secs(3), "it alone", |status| {
        is_bad(status, &names[1]) && status.state_of(&names[0]) == "ok"
    });
    world.repair(1);
    world.until(RECOVERY, "both are ok again", all_quiet);
}

/// Trap: routes with several next hops: under one name, where every destination does well in part.
#[test]
fn an_upstream_with_one_dead_next_hop_of_two_is_bad() {
    let Some(mut world) = two_next_hops() else {
        return;
    };
    let netns = it_works(world.lab.host.inode());
    world.watch_with(&Options {
        naming: Naming::None,
        config: format!("[[upstream]]\nname = \"both\"\nnetns = {netns}\n"),
        ..Options::default()
    });
    world.until(START, "it is ok", |status| status.state_of("both") == "ok");
    world.break_(1, Fault::Blackhole(Direction::Out));
    turns_bad(&world, "both", "blackhole");
    world.repair(1);
    world.until(RECOVERY, "it is ok again", all_quiet);
}

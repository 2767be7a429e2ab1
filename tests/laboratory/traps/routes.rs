//! Which way packets really leave: rules, marks, devices, several next hops, none at all.

use std::time::Duration;

use lab::{
    Direction, Fault, Load, Options, Partial, Plan, SocketOptions, Upstream, daemon::Naming,
    server::Server,
};

use super::{is_bad, round_trips_are_known, steady, turns_bad};
use crate::world::{RECOVERY, SOON, START, World, all_quiet, it_works, kernel_has};

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

/// Trap: marks, devices, source rules, VRFs: the uplink is in a routing table of its own.
#[test]
fn connections_of_a_vrf_belong_to_its_uplink() {
    let Some(mut world) = World::new(2) else {
        return;
    };
    let host = &world.lab.host;
    let made = host.ip("link add red type vrf table 111\n");
    if !kernel_has("VRFs", &made) {
        return;
    }
    let gateway = world.lab.upstreams[1].gateway;
    it_works(host.ip(&format!(
        "link set red up\n\
         link set wan2 master red\n\
         route add default via {gateway} dev wan2 table 111\n"
    )));
    let bound = |upstream: usize| {
        let to = &world.lab.upstreams[upstream];
        Plan::new(to, 0..12, Load::STEADY).with(SocketOptions {
            device: Some("red"),
            ..SocketOptions::default()
        })
    };
    let plans = [bound(0), bound(1)];
    world.traffic(0, 0..12, Load::STEADY);
    for plan in &plans {
        world.plan(plan);
    }
    world.watch_with(&Options {
        naming: Naming::None,
        config: "[[upstream]]\nname = \"customer\"\nvrf = \"red\"\n".to_owned(),
        ..Options::default()
    });
    let other = format!("{}%wan1", world.lab.upstreams[0].gateway);
    world.until(START, "both are ok", |status| {
        status.state_of("customer") == "ok" && status.state_of(&other) == "ok"
    });
    world.break_(1, Fault::Blackhole(Direction::Both));
    let status = turns_bad(&world, "customer", "blackhole");
    let upstream = status.upstream("customer").expect("it is listed");
    assert_eq!(upstream.interface.as_deref(), Some("wan2"), "{upstream:?}");
    world.hold(Duration::from_secs(3), "the other is fine", |status| {
        status.state_of(&other) == "ok"
    });
    world.repair(1);
    world.until(RECOVERY, "all is well", all_quiet);
}

/// Trap: marks, devices, source rules, VRFs: the way to IPv4 destinations is an IPv6 router.
#[test]
fn ipv4_through_an_ipv6_gateway_belongs_to_it() {
    let Some(mut world) = World::new(2) else {
        return;
    };
    let uplink = &world.lab.upstreams[1];
    let (range, _) = uplink.aggregates();
    let gateway = uplink.gateway6.to_string();
    it_works(world.lab.host.ip(&format!(
        "rule del from {}\n\
         route replace {range} via inet6 {gateway} dev wan2\n",
        uplink.local
    )));
    // Else the first round trips are as long as the router's address takes to be found.
    it_works(world.lab.wait_for_ipv6());
    world.traffic(0, 0..12, Load::STEADY);
    world.traffic(1, 0..12, Load::STEADY);
    world.watch_with(&Options::by_interface());
    world.all_ok();
    world.break_(1, Fault::Blackhole(Direction::Both));
    let status = world.is_blamed(1, "blackhole");
    let upstream = status.upstream("provider-b").expect("it is listed");
    assert_eq!(upstream.gateway, Some(gateway), "{upstream:?}");
    world.recovers(1);
    world.break_(1, Fault::NeighbourSilent);
    world.is_blamed(1, "neighbour");
    world.recovers(1);
}

/// A host whose route to all destinations has two next hops, chosen by addresses and ports.
fn two_next_hops() -> Option<World> {
    two_next_hops_by(|first, second| {
        format!(
            "nexthop via {} nexthop via {}",
            first.gateway, second.gateway
        )
    })
}

/// The same; `by` writes the next hops of the route, and what must be made before in lines of their own.
fn two_next_hops_by(by: impl Fn(&Upstream, &Upstream) -> String) -> Option<World> {
    let mut world = World::new(2)?;
    let host = &world.lab.host;
    it_works(host.sysctl(&[("ipv4/fib_multipath_hash_policy", "1")]));
    let (range, _) = world.lab.upstreams[0].aggregates();
    let mut batch = String::new();
    for upstream in &world.lab.upstreams {
        // By these the source address would decide, and not the route.
        batch += &format!("rule del from {}\n", upstream.local);
    }
    let [first, second] = &world.lab.upstreams[..] else {
        unreachable!("there are two")
    };
    let ways = by(first, second);
    let (before, hops) = ways.rsplit_once('\n').unwrap_or(("", &ways));
    batch += &format!("{before}\nroute replace {range} {hops}\n");
    it_works(host.ip(&batch));
    let traffic = world.traffic(0, 0..12, steady(8));
    round_trips_are_known(&world, traffic, 96);
    Some(world)
}

/// Trap: routes with several next hops: a look-up says either.
#[test]
fn of_two_next_hops_of_one_route_the_dead_one_is_named() {
    if let Some(world) = two_next_hops() {
        the_dead_one_is_named(world);
    }
}

/// Trap: routes with several next hops: objects of their own, of which routes make use.
#[test]
fn of_a_group_of_next_hop_objects_the_dead_one_is_named() {
    let objects = two_next_hops_by(|first, second| {
        format!(
            "nexthop add id 1 via {} dev {}\n\
             nexthop add id 2 via {} dev {}\n\
             nexthop add id 9 group 1/2\n\
             nhid 9",
            first.gateway, first.interface, second.gateway, second.interface
        )
    });
    if let Some(world) = objects {
        the_dead_one_is_named(world);
    }
}

fn the_dead_one_is_named(mut world: World) {
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

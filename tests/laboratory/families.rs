//! IPv6, and IPv4 spoken through IPv6 sockets.

use lab::{Direction, Family, Fault, Load, Options, Plan};

use crate::world::{World, it_works};

#[test]
fn a_black_hole_in_ipv6_is_named() {
    let Some(mut world) = World::new(2) else {
        return;
    };
    it_works(world.lab.wait_for_ipv6());
    for upstream in 0..2 {
        let plan = Plan::over(
            Family::V6,
            &world.lab.upstreams[upstream],
            0..20,
            Load::STEADY,
        );
        world.plan(&plan);
    }
    world.watch_with(&Options::by_interface());
    let status = world.all_ok();
    let gateway = world.lab.upstreams[1].gateway6.to_string();
    let upstream = status.upstream("provider-b").expect("it is listed");
    assert_eq!(upstream.gateway.as_ref(), Some(&gateway));
    world.break_(1, Fault::Blackhole(Direction::Both));
    world.is_blamed(1, "blackhole");
    let stalls = world.stalls(&["--upstream", "provider-b"]);
    assert!(!stalls.is_empty(), "the stalled connections are listed");
    for stall in &stalls {
        assert!(stall.destination.ends_with("::/48"), "{stall:?}");
        assert_eq!(stall.nexthop.as_ref(), Some(&gateway), "{stall:?}");
    }
    world.recovers(1);
}

#[test]
fn a_router_that_does_not_answer_neighbour_discovery_is_a_silent_neighbour() {
    let Some(mut world) = World::new(2) else {
        return;
    };
    it_works(world.lab.wait_for_ipv6());
    for upstream in 0..2 {
        let plan = Plan::over(
            Family::V6,
            &world.lab.upstreams[upstream],
            0..20,
            Load::STEADY,
        );
        world.plan(&plan);
    }
    world.watch_with(&Options::by_interface());
    world.all_ok();
    world.break_(1, Fault::NeighbourSilent);
    world.is_blamed(1, "neighbour");
    world.recovers(1);
}

/// Trap: mapped addresses: IPv4 peers of IPv6 sockets.
#[test]
fn ipv4_through_an_ipv6_socket_counts_as_ipv4() {
    let Some(mut world) = World::new(2) else {
        return;
    };
    for upstream in 0..2 {
        let plan = Plan::over(
            Family::Mapped,
            &world.lab.upstreams[upstream],
            0..20,
            Load::STEADY,
        );
        world.plan(&plan);
    }
    // Named by the IPv4 gateway: whoever takes these connections for IPv6 finds no such upstream.
    world.watch();
    world.all_ok();
    world.break_(1, Fault::Blackhole(Direction::Both));
    world.is_blamed(1, "blackhole");
    let stalls = world.stalls(&["--upstream", "provider-b"]);
    assert!(!stalls.is_empty(), "the stalled connections are listed");
    for stall in &stalls {
        assert!(stall.remote.starts_with("198.18."), "{stall:?}");
        assert!(stall.destination.ends_with(".0/24"), "{stall:?}");
    }
    world.recovers(1);
}

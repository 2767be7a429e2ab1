//! Another router takes over the address of the one that everybody uses.

use std::{net::Ipv4Addr, time::Duration};

use lab::{Lab, Load};

use super::until;
use crate::world::{RECOVERY, SOON, World, all_quiet, it_works};

/// Two upstreams that do well, and a second router beside the second one's, ready to take over.
fn two_routers_on_one_link() -> Option<World> {
    let mut world = World::new(2)?;
    let (lab, net) = (&world.lab, world.lab.net.name());
    it_works(lab.upstreams[1].router.ip(&format!(
        "link add link wan name spare netns {net} type macvlan mode bridge\n"
    )));
    // Whoever takes over says so to everybody on the link, once; a kernel that has learned of the other router less
    // than a second ago would not believe it (`locktime`, arp(7)).
    it_works(lab.net.sysctl(&[("ipv4/conf/spare/arp_notify", "1")]));
    let locktime = format!("ipv4/neigh/{}/locktime", lab.upstreams[1].interface);
    it_works(lab.host.sysctl(&[(&locktime, "0")]));
    world.traffic(0, 0..20, Load::STEADY);
    world.traffic(1, 0..20, Load::STEADY);
    world.watch();
    world.all_ok();
    Some(world)
}

/// The router's address moves to the other one, as VRRP (RFC 9568) does it.
fn take_over(lab: &Lab) {
    let router = &lab.upstreams[1];
    let (gateway, local) = (router.gateway, router.local);
    it_works(
        router
            .router
            .ip(&format!("address del {gateway}/30 dev wan\n")),
    );
    it_works(lab.net.ip(&format!(
        "address add {gateway}/30 dev spare\n\
         link set spare up\n\
         route replace {local}/32 dev spare\n"
    )));
}

/// The hardware address that the host has for that neighbour.
fn hardware_address(lab: &Lab, gateway: Ipv4Addr) -> Option<String> {
    let output = it_works(
        lab.host
            .output("ip", &["neigh", "show", &gateway.to_string()]),
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut words = text.split_whitespace().skip_while(|it| *it != "lladdr");
    words.nth(1).map(str::to_owned)
}

/// Trap: bonding and VRRP: the same gateway at another hardware address.
#[test]
fn a_router_that_takes_over_is_the_same_upstream_and_no_event() {
    let Some(world) = two_routers_on_one_link() else {
        return;
    };
    let gateway = world.lab.upstreams[1].gateway;
    let before = hardware_address(&world.lab, gateway).expect("it is known");
    take_over(&world.lab);
    until(SOON, "the host knows the other one", || {
        hardware_address(&world.lab, gateway).is_some_and(|it| it != before)
    });
    world.hold(Duration::from_secs(6), "nobody is blamed", |status| {
        all_quiet(status) && status.upstreams.len() == 2
    });
    let status = world.until(SOON, "all have moved", |status| {
        status.state_of("provider-b") == "ok"
    });
    let upstream = status.upstream("provider-b").expect("it is listed");
    assert_eq!(upstream.connections.established, 20, "{upstream:?}");
    assert_eq!(upstream.gateway, Some(gateway.to_string()));
}

/// Trap: bonding and VRRP: the router that takes over swallows what it gets.
#[test]
fn a_router_that_takes_over_and_swallows_all_is_named_and_its_coming_marked() {
    let Some(world) = two_routers_on_one_link() else {
        return;
    };
    let gateway = world.lab.upstreams[1].gateway;
    let before = hardware_address(&world.lab, gateway).expect("it is known");
    it_works(world.lab.net.nft(
        "table inet spare {\n\
         chain swallow { type filter hook input priority 0; policy accept;\n\
         iifname spare tcp flags & syn != syn counter drop;\n\
         }\n}\n",
    ));
    take_over(&world.lab);
    world.is_blamed(1, "blackhole");
    let after = hardware_address(&world.lab, gateway).expect("it is known");
    assert_ne!(before, after);
    let mark =
        format!("next hop {gateway} on wan2 changed its hardware address from {before} to {after}");
    until(SOON, "the incident tells of it", || {
        let incidents = it_works(world.daemon().cli_ok(&["incidents", "-o", "json"]));
        incidents.contains(&mark)
    });
    it_works(world.lab.net.nft("delete table inet spare\n"));
    world.until(RECOVERY, "it is ok again", |status| status.state == "ok");
}

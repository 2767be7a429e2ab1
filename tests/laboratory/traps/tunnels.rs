//! Traffic through a tunnel: an upstream inside another.

use std::time::Duration;

use lab::{Direction, Fault, Load, Plan};

use super::{is_bad, turns_bad};
use crate::world::{RECOVERY, SOON, START, World, all_quiet, it_works};

/// Inside the tunnel.
const INSIDE: &str = "10.90.0.0/16";

/// Two upstreams, and a tunnel without a gateway through the second. All three do well.
fn tunnel() -> Option<World> {
    let mut world = World::new(2)?;
    let under = &world.lab.upstreams[1];
    let (local, gateway) = (under.local, under.gateway);
    let remote = "100.64.1.2";
    it_works(world.lab.host.ip(&format!(
        "route add {remote}/32 via {gateway}\n\
         link add tunnel type vxlan id 42 dstport 4789 local {local} remote {remote} dev wan2\n\
         address add 10.89.0.2/24 dev tunnel\n\
         link set tunnel up\n\
         route add {INSIDE} dev tunnel\n"
    )));
    it_works(world.lab.net.ip(&format!(
        "link add tunnel type vxlan id 42 dstport 4789 local {remote} remote {local} dev core1\n\
         address add 10.89.0.1/24 dev tunnel\n\
         link set tunnel up\n\
         route add local {INSIDE} dev lo\n"
    )));
    world.traffic(0, 0..20, Load::STEADY);
    world.traffic(1, 0..20, Load::STEADY);
    let inside = (1..=20).map(|number| [10, 90, number, 1].into());
    world.plan(&Plan::to(inside, Load::STEADY));
    world.watch();
    world.all_ok();
    world.until(START, "the tunnel is an upstream", |status| {
        status.state_of("tunnel") == "ok"
    });
    Some(world)
}

/// Trap: tunnels and their underlay: what breaks inside is the tunnel's.
#[test]
fn what_breaks_inside_a_tunnel_is_the_tunnels() {
    let Some(world) = tunnel() else {
        return;
    };
    it_works(world.lab.net.nft(
        "table inet inside {\n\
         chain swallow { type filter hook input priority 0; policy accept;\n\
         iifname tunnel tcp flags & syn != syn counter drop;\n\
         }\n}\n",
    ));
    let status = turns_bad(&world, "tunnel", "blackhole");
    let upstream = status.upstream("tunnel").expect("it is listed");
    assert_eq!(upstream.interface.as_deref(), Some("tunnel"));
    assert_eq!(upstream.gateway, None, "the link is the way");
    world.hold(
        Duration::from_secs(4),
        "what carries it is fine",
        |status| status.state_of("provider-b") == "ok" && is_bad(status, "tunnel"),
    );
    it_works(world.lab.net.nft("delete table inet inside\n"));
    world.until(RECOVERY, "it is ok again", |status| status.state == "ok");
}

/// Trap: tunnels and their underlay: when the router below dies, both are named.
#[test]
fn a_dead_router_is_named_with_the_tunnel_that_it_carries() {
    let Some(world) = tunnel() else {
        return;
    };
    // Datagrams, too, of which the tunnel is made.
    world.break_(1, Fault::DropLargerThan(0));
    world.until(SOON, "both are named", |status| {
        assert_eq!(status.state_of("provider-a"), "ok");
        is_bad(status, "provider-b") && is_bad(status, "tunnel")
    });
    world.repair(1);
    world.until(RECOVERY, "both are ok again", |status| status.state == "ok");
}

/// Trap: tunnels and their underlay: trouble beside the tunnel's way is none of it.
#[test]
fn a_tunnel_does_well_while_connections_beside_it_hang() {
    let Some(world) = tunnel() else {
        return;
    };
    world.break_(1, Fault::Blackhole(Direction::Both));
    turns_bad(&world, "provider-b", "blackhole");
    world.hold(Duration::from_secs(4), "datagrams pass", |status| {
        status.state_of("tunnel") == "ok"
    });
    world.repair(1);
    world.until(RECOVERY, "all is well", all_quiet);
}

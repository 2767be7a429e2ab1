//! Traffic through a tunnel: an upstream inside another.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::{Direction, Fault, Load, Plan, namespace::Namespace};

use super::{is_bad, turns_bad};
use crate::world::{RECOVERY, SOON, START, World, all_quiet, it_works, kernel_has};

/// Inside the tunnel.
const INSIDE: &str = "10.90.0.0/16";

/// What a tunnel is made of.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Vxlan,
    /// The same, with room for less than its links say.
    Narrow,
    Ipip,
    Gre,
    Wireguard,
}

/// The far end of tunnels.
const FAR: &str = "100.64.1.2";

impl Kind {
    /// Makes the two ends of a tunnel through the second upstream.
    fn make(self, world: &World) -> Result<()> {
        let (host, net) = (&world.lab.host, &world.lab.net);
        let near = world.lab.upstreams[1].local;
        let ends = |more: &str| {
            host.ip(&format!(
                "link add tunnel type {more} local {near} remote {FAR} dev wan2\n"
            ))?;
            net.ip(&format!(
                "link add tunnel type {more} local {FAR} remote {near} dev core1\n"
            ))
        };
        match self {
            Self::Vxlan => ends("vxlan id 42 dstport 4789"),
            Self::Narrow => {
                // Bound to a link it could not promise more than that carries.
                let vxlan = |local: &str, remote: &str| {
                    format!(
                        "link add tunnel mtu 1500 type vxlan id 42 dstport 4789 local {local} \
                         remote {remote}\n"
                    )
                };
                let near = near.to_string();
                host.ip(&vxlan(&near, FAR))?;
                net.ip(&vxlan(FAR, &near))
            }
            Self::Ipip => ends("ipip"),
            Self::Gre => ends("gre"),
            Self::Wireguard => {
                for end in [host, net] {
                    end.ip("link add tunnel type wireguard\n")?;
                }
                let keys = [wireguard(host, "near")?, wireguard(net, "far")?];
                peer(host, &keys[1], &format!("{FAR}:51820"))?;
                peer(net, &keys[0], &format!("{near}:51820"))
            }
        }
    }
}

/// Gives an end a key, and gives the public half.
fn wireguard(end: &Namespace, name: &str) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join(name);
    let file = file.to_str().context("a path that is no text")?;
    let public = format!(
        "wg genkey > {file} && wg set tunnel listen-port 51820 private-key {file} \
                          && wg pubkey < {file}"
    );
    let output = end.output("sh", &["-c", &public])?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "no key for WireGuard: {said}");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Tells an end of the other.
fn peer(end: &Namespace, key: &str, at: &str) -> Result<()> {
    let arguments = [
        "set",
        "tunnel",
        "peer",
        key,
        "endpoint",
        at,
        "allowed-ips",
        "0.0.0.0/0",
    ];
    let output = end.output("wg", &arguments)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "WireGuard takes no peer: {said}");
    Ok(())
}

/// Two upstreams, and a tunnel without a gateway through the second. All three do well.
fn tunnel() -> Option<World> {
    tunnel_of(Kind::Vxlan)
}

fn tunnel_of(kind: Kind) -> Option<World> {
    let mut world = World::new(2)?;
    let gateway = world.lab.upstreams[1].gateway;
    it_works(
        world
            .lab
            .host
            .ip(&format!("route add {FAR}/32 via {gateway}\n")),
    );
    if !kernel_has(&format!("tunnels of kind {kind:?}"), &kind.make(&world)) {
        return None;
    }
    it_works(world.lab.host.ip(&format!(
        "address add 10.89.0.2/24 dev tunnel\n\
         link set tunnel up\n\
         route add {INSIDE} dev tunnel\n"
    )));
    it_works(world.lab.net.ip(&format!(
        "address add 10.89.0.1/24 dev tunnel\n\
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
    if let Some(world) = tunnel() {
        what_breaks_inside_is_the_tunnels(&world, Some("provider-b"));
    }
}

/// Trap: tunnels and their underlay: a path with an MTU of its own has no gateway all the same.
#[test]
fn what_breaks_inside_a_narrow_tunnel_is_the_tunnels() {
    if let Some(world) = tunnel_of(Kind::Narrow) {
        what_breaks_inside_is_the_tunnels(&world, Some("provider-b"));
    }
}

/// Trap: tunnels and their underlay: packets in packets.
#[test]
fn what_breaks_inside_an_ipip_tunnel_is_the_tunnels() {
    if let Some(world) = tunnel_of(Kind::Ipip) {
        what_breaks_inside_is_the_tunnels(&world, Some("provider-b"));
    }
}

/// Trap: tunnels and their underlay: with a header of their own.
#[test]
fn what_breaks_inside_a_gre_tunnel_is_the_tunnels() {
    if let Some(world) = tunnel_of(Kind::Gre) {
        what_breaks_inside_is_the_tunnels(&world, Some("provider-b"));
    }
}

/// Trap: tunnels and their underlay: sealed.
#[test]
fn what_breaks_inside_a_wireguard_tunnel_is_the_tunnels() {
    if let Some(world) = tunnel_of(Kind::Wireguard) {
        // Its far ends are told to those with CAP_NET_ADMIN only.
        what_breaks_inside_is_the_tunnels(&world, None);
    }
}

fn what_breaks_inside_is_the_tunnels(world: &World, carrier: Option<&str>) {
    it_works(world.lab.net.nft(
        "table inet inside {\n\
         chain swallow { type filter hook input priority 0; policy accept;\n\
         iifname tunnel tcp flags & syn != syn counter drop;\n\
         }\n}\n",
    ));
    let status = turns_bad(world, "tunnel", "blackhole");
    let upstream = status.upstream("tunnel").expect("it is listed");
    assert_eq!(upstream.interface.as_deref(), Some("tunnel"));
    assert_eq!(upstream.gateway, None, "the link is the way");
    let underlay = upstream.underlay.as_ref();
    let carried = underlay.and_then(|it| it.upstream.as_deref());
    assert_eq!(carried, carrier, "{upstream:?}");
    let said = it_works(world.daemon().cli_ok(&["explain", "tunnel"]));
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let told = said.contains("it is a tunnel, carried by provider-b");
    assert_eq!(told, carrier.is_some(), "{said}");
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

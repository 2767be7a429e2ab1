//! Containers: network namespaces behind the host, which reach the internet through its uplinks.

use std::{net::Ipv4Addr, net::Ipv6Addr, process::Command};

use anyhow::{Context, Result};

use crate::{
    namespace::{Namespace, delete, feed},
    network::{Lab, Upstream},
};

/// The gateway of containers with a cable of their own.
const CALICO: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// The bridge's own address. Without one it has the lowest of its ports', and when that container goes
/// all others talk to nobody until they have asked again, up to a minute later.
const BRIDGE: &str = "02:42:00:00:00:01";

/// How containers are attached to their host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attachment {
    /// Behind a bridge, their addresses translated, as Docker and most others do.
    Bridge,
    /// Each at the end of a cable of its own, its gateway an address that the host does not have, as
    /// Calico does.
    Routed,
    /// On the link of the second uplink itself, with the router there as gateway (macvlan).
    OnLink,
}

/// A container. Dropped, it is gone.
#[derive(Debug)]
pub struct Container {
    /// Its network namespace.
    pub namespace: Namespace,
    /// Its address.
    pub address: Ipv4Addr,
    /// The same in IPv6; none on the link of an uplink.
    pub address6: Ipv6Addr,
}

/// Prepares a host for containers that are attached in that way.
pub fn prepare(lab: &Lab, attachment: Attachment) -> Result<()> {
    lab.host.sysctl(&[
        ("ipv4/ip_forward", "1"),
        ("ipv6/conf/all/forwarding", "1"),
        // The host answers for the gateway that containers with a cable of their own have.
        ("ipv4/conf/default/proxy_arp", "1"),
    ])?;
    match attachment {
        Attachment::Bridge => lab.host.ip(&format!(
            "link add bridge0 address {BRIDGE} type bridge\n\
             address add {}/24 dev bridge0\n\
             address add {}/64 dev bridge0 nodad\n\
             link set bridge0 up\n",
            address(lab, attachment, 1),
            address6(lab, 1),
        ))?,
        // A host answers for an address (proxy ARP) only when it knows a way there; most have a
        // default route.
        Attachment::Routed => {
            let first = lab.upstreams.first().context("there is no uplink")?;
            let route = format!("route add {CALICO}/32 via {}\n", first.gateway);
            lab.host.ip(&route)?;
        }
        Attachment::OnLink => return prepare_link(lab),
    }
    for family in ["ip", "ip6"] {
        lab.host.nft(&format!(
            "table {family} containers {{\n\
             chain out {{\n\
             type nat hook postrouting priority 100\n\
             oifname \"wan*\" masquerade\n\
             }}\n\
             }}\n"
        ))?;
    }
    Ok(())
}

/// A network of its own on the second uplink, with the same router.
fn prepare_link(lab: &Lab) -> Result<()> {
    let uplink = uplink(lab)?;
    let of = |number| address(lab, Attachment::OnLink, number);
    let (network, router, host) = (of(0), of(1), of(254));
    uplink
        .router
        .ip(&format!("address add {router}/24 dev wan\n"))?;
    let index = uplink.index;
    lab.net
        .ip(&format!("route add {network}/24 via 100.64.{index}.1\n"))?;
    lab.host
        .ip(&format!("address add {host}/24 dev {}\n", uplink.interface))
}

fn uplink(lab: &Lab) -> Result<&Upstream> {
    lab.upstreams.get(1).context("there is no second uplink")
}

/// The gateway that the router is to containers on the link.
pub fn router(lab: &Lab) -> Ipv4Addr {
    address(lab, Attachment::OnLink, 1)
}

impl Container {
    /// Starts one; `number` from 2 to 253.
    pub fn start(lab: &Lab, attachment: Attachment, number: u8) -> Result<Self> {
        let host = lab.host.name();
        let name = format!("{host}-c{number}");
        feed(
            Command::new("ip").args(["-batch", "-"]),
            &format!("netns add {name}\n"),
        )?;
        // From here on it is removed whatever happens.
        let container = Self {
            namespace: Namespace::open(&name)?,
            address: address(lab, attachment, number),
            address6: address6(lab, number),
        };
        container.attach(lab, attachment, number)?;
        Ok(container)
    }

    fn attach(&self, lab: &Lab, attachment: Attachment, number: u8) -> Result<()> {
        let Self {
            namespace,
            address: own,
            address6: own6,
        } = self;
        let name = namespace.name();
        let cable = format!(
            "link add c{number} gso_max_segs 1 type veth peer name eth0 netns {name}\n\
             link set c{number} up\n"
        );
        let inside = match attachment {
            Attachment::Bridge => {
                lab.host
                    .ip(&(cable + &format!("link set c{number} master bridge0\n")))?;
                let (gateway, gateway6) = (address(lab, attachment, 1), address6(lab, 1));
                format!(
                    "address add {own}/24 dev eth0\n\
                     address add {own6}/64 dev eth0 nodad\n\
                     link set eth0 up\n\
                     route add default via {gateway}\n\
                     route add ::/0 via {gateway6}\n"
                )
            }
            Attachment::Routed => {
                lab.host.ip(&(cable
                    + &format!(
                        "address add fe80::1/64 dev c{number} nodad\n\
                         route add {own}/32 dev c{number}\n\
                         route add {own6}/128 dev c{number}\n"
                    )))?;
                let delay = format!("ipv4/neigh/c{number}/proxy_delay");
                lab.host.sysctl(&[(&delay, "0")])?;
                format!(
                    "address add {own}/32 dev eth0\n\
                     address add {own6}/128 dev eth0 nodad\n\
                     link set eth0 up\n\
                     route add {CALICO} dev eth0\n\
                     route add default via {CALICO} dev eth0\n\
                     route add ::/0 via fe80::1 dev eth0\n"
                )
            }
            Attachment::OnLink => {
                let interface = uplink(lab)?.interface;
                lab.host.ip(&format!(
                    "link add link {interface} name eth0 netns {name} type macvlan mode bridge\n"
                ))?;
                let gateway = router(lab);
                format!(
                    "address add {own}/24 dev eth0\n\
                     link set eth0 up\n\
                     route add default via {gateway}\n"
                )
            }
        };
        namespace.sysctl(&[
            ("ipv6/conf/all/accept_dad", "0"),
            ("ipv6/conf/default/accept_dad", "0"),
        ])?;
        namespace.ip(&format!("link set lo up\n{inside}"))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.namespace.sysctl(&[("ipv4/tcp_orphan_retries", "1")]);
        if let Err(error) = delete(std::iter::once(self.namespace.name().to_owned())) {
            eprintln!("laboratory: {error:#}");
        }
    }
}

/// An address that no other laboratory of this machine uses at the same time.
fn address(lab: &Lab, attachment: Attachment, number: u8) -> Ipv4Addr {
    let network = match attachment {
        Attachment::Bridge => 66,
        Attachment::Routed => 67,
        Attachment::OnLink => 68,
    };
    Ipv4Addr::new(10, network, lab.slot(), number)
}

fn address6(lab: &Lab, number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd66, 0, 0, lab.slot().into(), 0, 0, 0, number.into())
}

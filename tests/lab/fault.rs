//! What can break, and how it is repaired.
//!
//! A fault is a handful of firewall rules in the router (or, for a local fault, in the host), in a
//! table of their own. "Established" means: not the handshake. It is told by the SYN flag and not
//! by connection tracking, so that breaking it hits connections that were open before.

use std::fmt;

use anyhow::Result;

use crate::network::{Family, Lab, Upstream};

/// Which way packets get lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the host and to the host.
    Both,
    /// From the host.
    Out,
    /// To the host.
    Back,
}

/// Something that breaks at an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Connections open, then nothing passes; pings do.
    Blackhole(Direction),
    /// Nothing passes, not even a handshake or a ping.
    Severed,
    /// This share of the packets of open connections is lost, in per cent; handshakes, pings and
    /// small packets pass.
    EstablishedLoss(u8),
    /// Packets above this size are lost (the whole IP packet, in bytes), whatever they carry.
    DropLargerThan(u16),
    /// This share of all packets is lost, each way, in per cent.
    RandomLoss(u8),
    /// This share of all packets is lost one way, in per cent.
    LossOneWay(Direction, u8),
    /// This share of what the peers acknowledge is lost on its way back, in per cent: whatever is
    /// small, so that their short answers are lost with it. What the host sends arrives.
    AcknowledgementsLost(u8),
    /// Now and then a segment to the host is lost, and so is every repetition of it: what follows
    /// arrives behind a hole that stays.
    Holes,
    /// Nothing opens: the first packet of every new connection from the host is lost.
    NoHandshakes,
    /// The router says that it cannot reach the host behind it, to whoever is connected already.
    Unreachable,
    /// A black hole for one destination, given by its number.
    OneDestination(u8),
    /// The router is dead: it answers neither ARP nor neighbour discovery, and forwards nothing.
    NeighbourSilent,
    /// A firewall on the host itself drops what would leave through this upstream.
    LocalFirewall,
    /// The cable is pulled: the host's interface loses its carrier.
    LinkDown,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blackhole(direction) => write!(f, "black hole{}", toward(*direction)),
            Self::Severed => f.write_str("nothing passes"),
            Self::EstablishedLoss(share) => {
                write!(f, "{share} % of open connections' packets lost")
            }
            Self::DropLargerThan(bytes) => write!(f, "packets above {bytes} bytes lost"),
            Self::RandomLoss(share) => write!(f, "{share} % random loss"),
            Self::LossOneWay(direction, share) => {
                write!(f, "{share} % random loss{}", toward(*direction))
            }
            Self::AcknowledgementsLost(share) => {
                write!(f, "{share} % of the acknowledgements lost")
            }
            Self::Holes => f.write_str("segments to the host lost for ever"),
            Self::NoHandshakes => f.write_str("no new connections"),
            Self::Unreachable => f.write_str("host unreachable"),
            Self::OneDestination(number) => write!(f, "destination {number} dead"),
            Self::NeighbourSilent => f.write_str("router silent"),
            Self::LocalFirewall => f.write_str("local firewall"),
            Self::LinkDown => f.write_str("cable pulled"),
        }
    }
}

fn toward(direction: Direction) -> &'static str {
    match direction {
        Direction::Both => "",
        Direction::Out => ", outbound only",
        Direction::Back => ", inbound only",
    }
}

/// Everything but the two packets with which a connection opens.
pub(crate) const ESTABLISHED: &str = "meta l4proto tcp tcp flags & syn != syn";
/// From the host, and to the host.
pub(crate) const OUT: &str = "oifname core";
pub(crate) const BACK: &str = "oifname wan";
/// Acknowledgements without data, and short commands, are smaller.
const SMALL: u16 = 100;

/// Once in so many segments a hole is made.
const HOLE_EVERY: u16 = 40;

/// Whom a fault on the way hits; everybody unless given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Only {
    /// Those with addresses in one of these prefixes.
    pub prefixes: Vec<String>,
    /// One path of several, which the router chooses by the connection's addresses and ports.
    pub path: Option<Path>,
}

/// A share of all connections, the same ones in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// So many of a thousand.
    pub of_thousand: u16,
    /// Decides which.
    pub seed: u32,
}

impl Only {
    /// Rules that let all others pass.
    fn rules(&self) -> String {
        let mut rules = String::new();
        if !self.prefixes.is_empty() {
            let set = self.prefixes.join(", ");
            rules += &format!("ip saddr != {{ {set} }} ip daddr != {{ {set} }} accept\n");
        }
        if let Some(Path { of_thousand, seed }) = self.path {
            for (way, tuple) in [
                (OUT, "ip saddr . ip daddr . tcp sport . tcp dport"),
                (BACK, "ip daddr . ip saddr . tcp dport . tcp sport"),
            ] {
                rules +=
                    &format!("{way} jhash {tuple} mod 1000 seed {seed} >= {of_thousand} accept\n");
            }
        }
        rules
    }
}

pub(crate) fn install(lab: &Lab, upstream: &Upstream, fault: Fault, only: &Only) -> Result<()> {
    let router = &upstream.router;
    let forward = |rules: &str| forward(&format!("{}{rules}", only.rules()));
    match fault {
        Fault::Blackhole(direction) => {
            let way = way(direction);
            router.nft(&forward(&format!("{way} {ESTABLISHED} counter drop")))
        }
        Fault::Severed => router.nft(&forward("counter drop")),
        Fault::EstablishedLoss(share) => router.nft(&forward(&format!(
            "{ESTABLISHED} meta length > {SMALL} {} counter drop",
            sometimes(share)
        ))),
        Fault::DropLargerThan(bytes) => {
            router.nft(&forward(&format!("meta length > {bytes} counter drop")))
        }
        Fault::RandomLoss(share) => {
            router.nft(&forward(&format!("{} counter drop", sometimes(share))))
        }
        Fault::LossOneWay(direction, share) => {
            let way = way(direction);
            router.nft(&forward(&format!(
                "{way} {} counter drop",
                sometimes(share)
            )))
        }
        Fault::AcknowledgementsLost(share) => router.nft(&forward(&format!(
            "{BACK} {ESTABLISHED} meta length <= {SMALL} {} counter drop",
            sometimes(share)
        ))),
        Fault::Holes => router.nft(&holes()),
        Fault::NoHandshakes => router.nft(&forward(&format!(
            "{OUT} tcp flags & (syn | ack) == syn counter drop"
        ))),
        Fault::Unreachable => router.nft(&forward(&format!(
            "{OUT} {ESTABLISHED} counter reject with icmpx type host-unreachable"
        ))),
        Fault::OneDestination(number) => {
            let v4 = upstream.prefix(number, Family::V4);
            let v6 = upstream.prefix(number, Family::V6);
            router.nft(&forward(&format!(
                "{ESTABLISHED} ip daddr {v4} counter drop; {ESTABLISHED} ip saddr {v4} counter drop; \
                 {ESTABLISHED} ip6 daddr {v6} counter drop; {ESTABLISHED} ip6 saddr {v6} counter drop"
            )))
        }
        Fault::NeighbourSilent => {
            router.nft(
                "table netdev fault {\n\
                 chain dead { type filter hook ingress device wan priority 0; policy drop; }\n\
                 }\n",
            )?;
            // Left to itself the host believes in an old answer for up to a minute.
            lab.host
                .ip(&format!("neigh flush dev {}\n", upstream.interface))
        }
        // Not all packets: without neighbour discovery it would be another fault.
        Fault::LocalFirewall => lab.host.nft(&format!(
            "table inet {} {{\n\
             chain out {{ type filter hook output priority 0; policy accept;\n\
             oifname {} meta l4proto tcp counter drop;\n\
             }}\n}}\n",
            host_table(upstream),
            upstream.interface
        )),
        Fault::LinkDown => router.ip("link set wan down\n"),
    }
}

pub(crate) fn remove(lab: &Lab, upstream: &Upstream) -> Result<()> {
    let host_table = host_table(upstream);
    // Declared first, so that it can be deleted whether it was there or not.
    upstream.router.nft(
        "table inet fault\ndelete table inet fault\n\
         table netdev fault\ndelete table netdev fault\n",
    )?;
    lab.host.nft(&format!(
        "table inet {host_table}\ndelete table inet {host_table}\n"
    ))?;
    // Routes through a gateway go when the link does.
    let index = upstream.index;
    upstream.router.ip(&format!(
        "link set wan up\n\
         route replace default via 100.64.{index}.2\n\
         route replace ::/0 via fd00:0:0:{index}::2\n"
    ))
}

/// What hits this share of packets, in per cent. The kernel's dice know no number that all are below.
fn sometimes(share: u8) -> String {
    if share >= 100 {
        return String::new();
    }
    format!("numgen random mod 100 < {share}")
}

pub(crate) fn forward(rules: &str) -> String {
    format!(
        "table inet fault {{\n\
         chain broken {{ type filter hook forward priority 0; policy accept;\n{rules};\n}}\n}}\n"
    )
}

/// What is lost once is lost whenever it comes again: by the port of the host and the place in the
/// stream, which no two connections of a laboratory share for long.
fn holes() -> String {
    format!(
        "table inet fault {{\n\
         set holes {{ typeof tcp dport . tcp sequence; size 65535; flags dynamic; }}\n\
         chain broken {{ type filter hook forward priority 0; policy accept;\n\
         {BACK} tcp dport . tcp sequence @holes counter drop\n\
         {BACK} {ESTABLISHED} meta length > {SMALL} numgen inc mod {HOLE_EVERY} 0 \
         add @holes {{ tcp dport . tcp sequence }} counter drop\n\
         }}\n}}\n"
    )
}

/// What a rule in the router begins with, to hit packets of that direction.
fn way(direction: Direction) -> &'static str {
    match direction {
        Direction::Both => "",
        Direction::Out => OUT,
        Direction::Back => BACK,
    }
}

/// A table per upstream, so that one can be repaired while another stays broken.
fn host_table(upstream: &Upstream) -> String {
    format!("fault_{}", upstream.interface)
}

//! What to check next, by cause.
//!
//! **Invariant:** commands that only look, or that say what they change; nothing from outside gets
//! into them that a shell would take for more than a word.

use std::net::IpAddr;

use super::{
    clamp::{Clamp, clamp},
    page::{Step, run, say},
};
use crate::{
    api,
    model::{Cause, Scope},
};

/// What for a route is looked up.
const ROUTE: &str = "see which way this host takes there now";

/// What is known of the place where something is wrong.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    interface: Option<String>,
    gateway: Option<IpAddr>,
    /// One of the stalled remote addresses, and the local one that it is reached from.
    peer: Option<IpAddr>,
    local: Option<IpAddr>,
    /// Largest segment that passed and smallest that waits, bytes of data.
    passed: Option<u32>,
    waiting: Option<u32>,
    /// Something that a router has reported.
    unreachable: Option<String>,
}

impl Place {
    /// Of an upstream; `typical` is one of its connections.
    pub(super) fn of_upstream(upstream: &api::Upstream, typical: Option<&api::Stall>) -> Self {
        let leg = upstream.evidence.leg.as_ref();
        Self {
            interface: leg
                .map(|it| it.interface.clone())
                .or_else(|| upstream.interface.clone()),
            gateway: leg.map_or(upstream.gateway, |it| it.gateway),
            passed: upstream.evidence.largest_passed_bytes,
            waiting: upstream.evidence.smallest_waiting_bytes,
            peer: typical.map(|it| it.remote.ip()),
            local: typical.map(|it| it.local.ip()),
            unreachable: typical.and_then(|it| it.unreachable.clone()),
        }
    }

    /// Of a connection, with what its upstream knows of sizes.
    pub(super) fn of_connection(stall: &api::Stall, upstream: Option<&api::Upstream>) -> Self {
        let evidence = upstream.map(|it| &it.evidence);
        Self {
            interface: stall.interface.clone(),
            gateway: stall.nexthop,
            peer: Some(stall.remote.ip()),
            local: Some(stall.local.ip()),
            passed: evidence.and_then(|it| it.largest_passed_bytes),
            waiting: stall.head_bytes,
            unreachable: stall.unreachable.clone(),
        }
    }

    /// Interfaces may be called `$(reboot)`; such names are not put into commands.
    fn interface(&self) -> &str {
        let name = self.interface.as_deref();
        name.filter(|it| is_word(it)).unwrap_or("INTERFACE")
    }

    fn gateway(&self) -> String {
        word(self.gateway, "GATEWAY")
    }

    fn peer(&self) -> String {
        word(self.peer, "PEER")
    }

    /// The route that the kernel takes for this connection, source address included.
    fn route(&self) -> String {
        let from = self
            .local
            .map_or(String::new(), |local| format!(" from {local}"));
        format!("ip route get {}{from}", self.peer())
    }

    fn is_ipv6(&self) -> bool {
        self.peer.is_some_and(|it| it.is_ipv6())
    }
}

/// Steps, most telling first.
pub(super) fn steps(cause: Cause, scope: Option<Scope>, place: &Place) -> Vec<Step> {
    let mut steps = match cause {
        Cause::Mtu => mtu(place),
        Cause::Blackhole => blackhole(place),
        Cause::Loss => loss(place),
        Cause::ReturnPath => return_path(place),
        Cause::ReceiveHole => receive_hole(place),
        Cause::ZeroWindow => zero_window(place),
        Cause::Neighbour => neighbour(place),
        Cause::Local => local(place),
        Cause::Unknown => unknown(place),
    };
    if scope == Some(Scope::Common) {
        steps.splice(0..0, common());
    }
    steps
}

/// What all upstreams of a host share.
fn common() -> Vec<Step> {
    vec![
        Step {
            say: "rule out this host: a firewall, a full table of connections, errors of the \
                  kernel"
                .to_owned(),
            run: vec![
                "nft list ruleset".to_owned(),
                "sysctl net.netfilter.nf_conntrack_count net.netfilter.nf_conntrack_max".to_owned(),
                "dmesg -T | tail -n 50".to_owned(),
            ],
        },
        run(
            "rule out the card, the cable and the switch that all upstreams go through: look for \
             errors and drops",
            "ip -s link show",
        ),
        say(
            "ask what all of them share: a firewall or switch in front, a data centre, a carrier, \
             the far end itself",
        ),
    ]
}

fn mtu(place: &Place) -> Vec<Step> {
    let clamp = clamp(place.passed, place.waiting, place.is_ipv6());
    let mut steps = vec![sizes(place)];
    steps.push(run(
        "see which hop reports the limit, if any does",
        format!("tracepath -n {}", place.peer()),
    ));
    if let Some(clamp) = clamp {
        steps.extend(bridges(place, clamp));
    }
    // It is read at each timeout (`net/ipv4/tcp_timer.c`, `tcp_write_timeout`), so it helps
    // connections that hang already, and IPv6 too.
    steps.push(run(
        "or let TCP find out by itself after some timeouts (this changes the whole host)",
        "sysctl -w net.ipv4.tcp_mtu_probing=1",
    ));
    steps.push(say(
        "ask the provider about a tunnel or a changed MTU on its side, and whether it drops ICMP \
         \"fragmentation needed\" / \"packet too big\"",
    ));
    steps
}

/// Pings as large as the segments that pass and that do not.
fn sizes(place: &Place) -> Step {
    // Headers of IP, TCP and its time stamps (20 + 20 + 12, IPv6: 40 + 20 + 12) against those of
    // IP and ICMP (20 + 8, IPv6: 40 + 8).
    const MORE: u32 = 24;
    // What is left of 1500 bytes beside the headers of IP and ICMP.
    let largest = if place.is_ipv6() { 1452 } else { 1472 };
    let (interface, peer) = (place.interface(), place.peer());
    let ping = |size: u32| format!("ping -c 3 -M do -s {size} -I {interface} {peer}");
    match (place.passed, place.waiting) {
        (Some(passed), Some(waiting)) if passed < waiting => Step {
            say: "see it with pings as large as what passes and as what waits: the first is \
                  answered, the second is not"
                .to_owned(),
            run: vec![ping(passed + MORE), ping((waiting + MORE).min(largest))],
        },
        (_, waiting) => run(
            "find the size that passes: begin with this one, then smaller ones",
            ping(waiting.map_or(largest, |it| (it + MORE).min(largest))),
        ),
    }
}

/// Smaller segments, for one destination and for all.
fn bridges(place: &Place, clamp: Clamp) -> Vec<Step> {
    let Clamp { mss, packet, .. } = clamp;
    let interface = place.interface();
    let via = place
        .gateway
        .map_or(String::new(), |it| format!(" via {it}"));
    let nft = |what: &str| format!("nft '{what}'");
    vec![
        Step {
            say: format!(
                "try smaller packets with one destination: {}. What hangs there should move (this \
                 changes a route; `del` instead of `replace` undoes it). When the first command \
                 names a table, add `table` and its name to the second",
                why(place, clamp)
            ),
            run: vec![
                place.route(),
                format!(
                    "ip route replace {}{via} dev {interface} mtu {packet}",
                    place.peer()
                ),
            ],
        },
        Step {
            say: format!(
                "to bridge the time for all new connections through {interface}, let both ends \
                 agree on segments of {mss} bytes (this changes the firewall; `nft delete table \
                 inet clamp` undoes it)"
            ),
            run: vec![
                nft("add table inet clamp"),
                nft("add chain inet clamp input { type filter hook input priority 0; }"),
                nft(&format!(
                    "add rule inet clamp input iifname {interface} tcp flags syn tcp option maxseg \
                     size set {mss}"
                )),
            ],
        },
    ]
}

/// Where the size of a clamp comes from.
fn why(place: &Place, clamp: Clamp) -> String {
    let Clamp { mss, packet, known } = clamp;
    let waiting = place
        .waiting
        .map_or(String::new(), |it| format!(", {it} do not"));
    let size = if known {
        format!("a packet of {packet} bytes holds at most {mss}")
    } else {
        format!("{packet} is the packet that every path carries, and holds at most {mss}")
    };
    match place.passed {
        Some(passed) if known => {
            format!("{passed} bytes of data got through{waiting}; {size}")
        }
        Some(passed) => {
            format!("no more than {passed} bytes of data were seen to get through{waiting}; {size}")
        }
        None => format!("which size passes was not seen{waiting}; {size}"),
    }
}

fn blackhole(place: &Place) -> Vec<Step> {
    let (interface, peer) = (place.interface(), place.peer());
    let mut steps = vec![
        run(
            "see whether anything comes back, and what does go out",
            format!("tcpdump -ni {interface} host {peer}"),
        ),
        run(
            "see how far packets get; a handshake proves little, established connections are what \
             hangs",
            format!("mtr -n -T -I {interface} {peer}"),
        ),
        run(ROUTE, place.route()),
    ];
    steps.extend(reported(place));
    steps.push(say(
        "tell the provider since when, and which destinations; move traffic away if there is \
         another upstream",
    ));
    steps
}

fn loss(place: &Place) -> Vec<Step> {
    let (interface, peer) = (place.interface(), place.peer());
    vec![
        run(
            "rule out the own link first: look for errors, drops and overruns",
            format!("ip -s link show {interface}"),
        ),
        run(
            "and the own queue: a backlog that never empties means that this host sends more than \
             the link carries",
            format!("tc -s qdisc show dev {interface}"),
        ),
        run(
            "see where packets are lost: a loss that begins at one hop and stays to the end is \
             real, one in the middle alone is not",
            format!("mtr -n -T -c 100 -r -I {interface} {peer}"),
        ),
        say("ask the provider about a congested or faulty link, with the share that is lost"),
    ]
}

fn return_path(place: &Place) -> Vec<Step> {
    let (interface, peer) = (place.interface(), place.peer());
    let local = word(place.local, "OWN-ADDRESS");
    let mut steps = vec![
        run(
            "see that data goes out and no acknowledgement comes in: they may arrive through \
             another interface",
            format!("tcpdump -ni any host {peer} and tcp"),
        ),
        run(
            "see whether this host drops what arrives by another way than it would answer: 1 is \
             strict, 2 is loose",
            format!("sysctl net.ipv4.conf.all.rp_filter net.ipv4.conf.{interface}.rp_filter"),
        ),
        run("and whether its firewall drops answers", "nft list ruleset"),
        say(format!(
            "ask the provider how it, and the peers, route back to {local}, and look for a filter \
             that sees one direction only"
        )),
    ];
    steps.extend(reported(place));
    steps
}

fn receive_hole(place: &Place) -> Vec<Step> {
    let (interface, peer) = (place.interface(), place.peer());
    vec![
        run(
            "see the hole: the same acknowledgement goes out again and again (`sack` says what \
             has arrived behind it)",
            format!("tcpdump -ni {interface} host {peer}"),
        ),
        run(
            "see whether this host drops it: look at what is called invalid or dropped",
            "nft list ruleset",
        ),
        run(
            "and whether the card does",
            format!("ip -s link show {interface}"),
        ),
        say(
            "ask the provider about a device on the way to this host that changes or drops \
             segments, large ones above all: the trouble is in the direction towards this host",
        ),
    ]
}

fn zero_window(place: &Place) -> Vec<Step> {
    vec![
        say("nothing on this side or on the way: the peers do not read; ask who runs them"),
        run(
            "see which programs wait for them",
            "tcpstall stalls --cause zero-window --by process",
        ),
        run(
            "see what the peer offers: `rwnd_limited` is the time spent waiting for it",
            format!("ss -tinH dst {}", place.peer()),
        ),
    ]
}

fn neighbour(place: &Place) -> Vec<Step> {
    let (interface, gateway) = (place.interface(), place.gateway());
    let ask = match place.gateway.or(place.peer) {
        Some(IpAddr::V6(gateway)) => format!("ndisc6 {gateway} {interface}"),
        Some(IpAddr::V4(gateway)) => format!("arping -c 3 -I {interface} {gateway}"),
        None => format!("arping -c 3 -I {interface} {gateway}"),
    };
    vec![
        run(
            "see what the kernel knows of it: FAILED or INCOMPLETE means that it does not answer",
            format!("ip neigh show dev {interface}"),
        ),
        run("ask it", ask),
        run(
            "see whether the link is up and whether its counters move",
            format!("ip -s link show {interface}"),
        ),
        say("look at the cable, the switch port, the VLAN and the gateway itself"),
    ]
}

fn local(place: &Place) -> Vec<Step> {
    let interface = place.interface();
    vec![
        run("look for rules that drop what leaves", "nft list ruleset"),
        run(ROUTE, place.route()),
        run(
            "see whether the link is up and whether its queue drops",
            format!("ip -s link show {interface} && tc -s qdisc show dev {interface}"),
        ),
        say("undo what was last changed on this host: the provider cannot help here"),
    ]
}

fn unknown(place: &Place) -> Vec<Step> {
    let (interface, peer) = (place.interface(), place.peer());
    let mut steps = vec![
        run(
            "look at one connection, twice with some seconds between: what has not moved?",
            format!("ss -tinHo dst {peer}"),
        ),
        run(
            "see what goes out and what comes back",
            format!("tcpdump -ni {interface} host {peer}"),
        ),
        run(ROUTE, place.route()),
    ];
    steps.extend(reported(place));
    steps
}

/// What a router has said is worth listening to.
fn reported(place: &Place) -> Option<Step> {
    let what = place.unreachable.as_deref()?;
    Some(run(
        format!("see which router reports the destination unreachable ({what})"),
        format!("tcpdump -ni {} 'icmp or icmp6'", place.interface()),
    ))
}

fn word(address: Option<IpAddr>, unknown: &str) -> String {
    address.map_or_else(|| unknown.to_owned(), |it| it.to_string())
}

fn is_word(name: &str) -> bool {
    !name.starts_with('-')
        && name
            .bytes()
            .all(|it| it.is_ascii_alphanumeric() || b"._@:-".contains(&it))
}

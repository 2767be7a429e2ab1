//! What to check next, by cause.
//!
//! **Invariant:** commands that only look, or that say what they change; nothing from outside gets
//! into them that a shell would take for more than a word.

use std::net::IpAddr;

use crate::model::Cause;

/// Steps, most telling first; `peer` is one of the stalled remote addresses.
pub(super) fn steps(
    cause: Cause,
    interface: Option<&str>,
    gateway: Option<IpAddr>,
    peer: Option<IpAddr>,
) -> Vec<String> {
    let interface = interface.filter(|it| is_word(it)).unwrap_or("INTERFACE");
    let gateway = gateway.map_or_else(|| "GATEWAY".to_owned(), |it| it.to_string());
    // What is left of 1500 bytes beside the headers of IP and ICMP.
    let size = if peer.is_some_and(|it| it.is_ipv6()) {
        1452
    } else {
        1472
    };
    let peer = peer.map_or_else(|| "PEER".to_owned(), |it| it.to_string());
    match cause {
        Cause::Mtu => vec![
            format!(
                "find the size that passes: `ping -M do -s {size} -I {interface} {peer}`, then \
                 smaller ones"
            ),
            format!("see which hop reports it, if any: `tracepath -n {peer}`"),
            "ask the provider about a tunnel or a changed MTU on its side, and whether it drops \
             ICMP \"fragmentation needed\" / \"packet too big\""
                .to_owned(),
            // It is read at each timeout (`net/ipv4/tcp_timer.c`, `tcp_write_timeout`), so it helps
            // connections that hang already, and IPv6 too.
            "to bridge the time, let TCP try smaller segments after some timeouts (this changes \
             the host): `sysctl -w net.ipv4.tcp_mtu_probing=1`"
                .to_owned(),
        ],
        Cause::Blackhole => vec![
            format!("see how far packets get: `mtr -n -T -I {interface} {peer}`"),
            format!("see whether anything comes back: `tcpdump -ni {interface} host {peer}`"),
            "tell the provider since when, and which destinations; move traffic away if there is \
             another upstream"
                .to_owned(),
        ],
        Cause::Loss => vec![
            format!("see where packets are lost: `mtr -n -T -I {interface} {peer}`"),
            format!(
                "rule out the own link: `ip -s link show {interface}`, `ethtool -S {interface}`"
            ),
            "ask the provider about a congested or faulty link".to_owned(),
        ],
        Cause::ReturnPath => vec![
            format!("see whether only answers are missing: `tcpdump -ni {interface} host {peer}`"),
            "ask the provider how it routes back to this host's addresses, and look for a filter \
             that sees one direction only"
                .to_owned(),
        ],
        Cause::ReceiveHole => vec![
            format!("see the hole: `tcpdump -ni {interface} src host {peer}`"),
            "ask the provider about a device on the way that changes or drops segments".to_owned(),
        ],
        Cause::ZeroWindow => vec![
            "nothing on this side: the peers do not read; ask who runs them".to_owned(),
            "see which processes wait for them: `tcpstall stalls --cause zero-window --by process`"
                .to_owned(),
        ],
        Cause::Neighbour => vec![
            format!("see whether the gateway answers on the link: `ip neigh show dev {interface}`"),
            format!(
                "ask it: `arping -I {interface} {gateway}` (IPv6: `ndisc6 {gateway} {interface}`)"
            ),
            "look at the cable, the switch port, the VLAN and the gateway itself".to_owned(),
        ],
        Cause::Local => vec![
            format!("see whether there is a route: `ip route get {peer}`"),
            format!("see whether the link is up: `ip -s link show {interface}`"),
            "look for rules that drop what leaves: `nft list ruleset`".to_owned(),
        ],
        Cause::Unknown => vec![
            format!("look at one connection: `ss -tinH dst {peer}`"),
            format!("see what goes out and what comes back: `tcpdump -ni {interface} host {peer}`"),
        ],
    }
}

/// Interfaces may be called `$(reboot)`; such names are not put into commands.
fn is_word(name: &str) -> bool {
    name.bytes()
        .all(|it| it.is_ascii_alphanumeric() || b"._@:-".contains(&it))
}

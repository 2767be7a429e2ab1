//! Changes of routes, in words.
//!
//! **Invariant:** however many routes change at once, few are described; the others are counted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_route::{
    AddressFamily,
    route::{
        RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteType, RouteVia,
    },
};

use crate::model::IfIndex;

/// Routes that are described between two calls of [`Changes::take`].
const TOLD: usize = 20;
/// Routes to the host's own addresses (`RT_TABLE_LOCAL`, `include/uapi/linux/rtnetlink.h`).
const LOCAL_TABLE: u32 = 255;

/// Routes that changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Each in a few words, such as "default route via 203.0.113.1 on wan2 removed".
    pub told: Vec<String>,
    /// Further ones.
    pub more: u32,
}

impl Changes {
    /// A route was set or `removed`; `name` gives the names of interfaces.
    pub(super) fn add(
        &mut self,
        route: &RouteMessage,
        removed: bool,
        name: impl Fn(IfIndex) -> String,
    ) {
        if !concerns(route) {
            return;
        }
        if self.told.len() < TOLD {
            self.told.push(words(route, removed, name));
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    /// What has changed since the last call.
    pub(super) fn take(&mut self) -> Self {
        std::mem::take(self)
    }
}

/// Whether traffic to others goes by it.
fn concerns(route: &RouteMessage) -> bool {
    let header = &route.header;
    let kind = matches!(
        header.kind,
        RouteType::Unicast | RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit
    );
    let aside = match destination(route) {
        IpAddr::V4(address) => address.is_multicast() || address.is_loopback(),
        IpAddr::V6(address) => {
            address.is_multicast() || address.is_loopback() || address.is_unicast_link_local()
        }
    };
    kind && !aside && table(route) != LOCAL_TABLE && !header.flags.contains(RouteFlags::Cloned)
}

fn words(route: &RouteMessage, removed: bool, name: impl Fn(IfIndex) -> String) -> String {
    let destination = destination(route);
    let length = route.header.destination_prefix_length;
    let mut text = match (length, destination) {
        (0, IpAddr::V4(_)) => "default route".to_owned(),
        (0, IpAddr::V6(_)) => "IPv6 default route".to_owned(),
        _ => format!("route to {destination}/{length}"),
    };
    let way = way(route, name);
    if removed {
        text += &format!("{way} removed");
    } else {
        text += &format!(" now{way}");
    }
    let table = table(route);
    if table != u32::from(RouteHeader::RT_TABLE_MAIN) {
        text += &format!(" (table {table})");
    }
    text
}

/// " via 203.0.113.1 on wan2", for each of its next hops.
fn way(route: &RouteMessage, name: impl Fn(IfIndex) -> String) -> String {
    match route.header.kind {
        RouteType::BlackHole => return " to nowhere".to_owned(),
        RouteType::Unreachable | RouteType::Prohibit => return " refused".to_owned(),
        _ => {}
    }
    let several = route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::MultiPath(hops) => Some(hops),
            _ => None,
        });
    let hops = match several {
        Some(hops) => hops
            .iter()
            .map(|hop| hop_words(&hop.attributes, Some(IfIndex(hop.interface_index)), &name))
            .collect(),
        None => vec![hop_words(&route.attributes, None, &name)],
    };
    hops.join(" and")
}

fn hop_words(
    attributes: &[RouteAttribute],
    interface: Option<IfIndex>,
    name: impl Fn(IfIndex) -> String,
) -> String {
    let (mut gateway, mut interface) = (None, interface);
    for attribute in attributes {
        match attribute {
            RouteAttribute::Oif(index) => interface = Some(IfIndex(*index)),
            RouteAttribute::Gateway(RouteAddress::Inet(ip))
            | RouteAttribute::Via(RouteVia::Inet(ip)) => gateway = Some(IpAddr::V4(*ip)),
            RouteAttribute::Gateway(RouteAddress::Inet6(ip))
            | RouteAttribute::Via(RouteVia::Inet6(ip)) => gateway = Some(IpAddr::V6(*ip)),
            _ => {}
        }
    }
    let gateway = gateway.map_or(String::new(), |it| format!(" via {it}"));
    let interface = interface.map_or(String::new(), |it| format!(" on {}", name(it)));
    gateway + &interface
}

fn destination(route: &RouteMessage) -> IpAddr {
    let given = route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
            RouteAttribute::Destination(RouteAddress::Inet6(ip)) => Some(IpAddr::V6(*ip)),
            _ => None,
        });
    // A default route has none.
    given.unwrap_or(match route.header.address_family {
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => Ipv4Addr::UNSPECIFIED.into(),
    })
}

fn table(route: &RouteMessage) -> u32 {
    let given = route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Table(table) => Some(*table),
            _ => None,
        });
    given.unwrap_or(route.header.table.into())
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::route::RouteNextHop;

    use super::*;

    fn route(to: &str, attributes: Vec<RouteAttribute>) -> RouteMessage {
        let to: ipnet::IpNet = to.parse().expect("a prefix");
        let mut route = RouteMessage::default();
        route.header.address_family = match to {
            ipnet::IpNet::V4(_) => AddressFamily::Inet,
            ipnet::IpNet::V6(_) => AddressFamily::Inet6,
        };
        route.header.destination_prefix_length = to.prefix_len();
        route.header.table = RouteHeader::RT_TABLE_MAIN;
        route.header.kind = RouteType::Unicast;
        if to.prefix_len() > 0 {
            route
                .attributes
                .push(RouteAttribute::Destination(to.addr().into()));
        }
        route.attributes.extend(attributes);
        route
    }

    fn via(gateway: &str) -> RouteAttribute {
        let gateway: IpAddr = gateway.parse().expect("an address");
        RouteAttribute::Gateway(gateway.into())
    }

    fn told(route: &RouteMessage, removed: bool) -> Option<String> {
        let mut changes = Changes::default();
        changes.add(route, removed, |it| format!("wan{}", it.0));
        assert_eq!(changes.more, 0);
        changes.told.pop()
    }

    #[test]
    fn a_change_is_a_few_words() {
        let out = RouteAttribute::Oif;
        let hop = |index, gateway| {
            let mut hop = RouteNextHop::default();
            hop.interface_index = index;
            hop.attributes = vec![via(gateway)];
            hop
        };
        let mut nowhere = route("192.0.2.0/24", vec![]);
        nowhere.header.kind = RouteType::BlackHole;
        for (route, removed, expected) in [
            (
                route("0.0.0.0/0", vec![via("203.0.113.1"), out(2)]),
                true,
                "default route via 203.0.113.1 on wan2 removed",
            ),
            (
                route("::/0", vec![via("2001:db8::1"), out(3)]),
                false,
                "IPv6 default route now via 2001:db8::1 on wan3",
            ),
            (
                route("192.0.2.0/24", vec![out(2), RouteAttribute::Table(1000)]),
                false,
                "route to 192.0.2.0/24 now on wan2 (table 1000)",
            ),
            (
                route(
                    "0.0.0.0/0",
                    vec![RouteAttribute::MultiPath(vec![
                        hop(1, "192.0.2.1"),
                        hop(2, "203.0.113.1"),
                    ])],
                ),
                false,
                "default route now via 192.0.2.1 on wan1 and via 203.0.113.1 on wan2",
            ),
            (nowhere, false, "route to 192.0.2.0/24 now to nowhere"),
        ] {
            assert_eq!(told(&route, removed).as_deref(), Some(expected));
        }
    }

    #[test]
    fn what_does_not_lead_to_others_is_left_out() {
        let mut own = route("10.0.0.2/32", vec![RouteAttribute::Table(LOCAL_TABLE)]);
        own.header.kind = RouteType::Local;
        let mut cached = route("192.0.2.7/32", vec![via("203.0.113.1")]);
        cached.header.flags = RouteFlags::Cloned;
        for route in [
            own,
            cached,
            route("fe80::/64", vec![RouteAttribute::Oif(2)]),
            route("ff00::/8", vec![RouteAttribute::Oif(2)]),
            route("224.0.0.0/4", vec![RouteAttribute::Oif(2)]),
        ] {
            assert_eq!(told(&route, false), None, "{route:?}");
        }
    }

    #[test]
    fn a_full_table_is_counted() {
        let mut changes = Changes::default();
        let route = route("192.0.2.0/24", vec![via("203.0.113.1")]);
        for _ in 0..900 {
            changes.add(&route, false, |_| String::new());
        }
        let taken = changes.take();
        assert_eq!((taken.told.len(), taken.more), (TOLD, 900 - 20));
        assert_eq!(changes, Changes::default());
    }
}

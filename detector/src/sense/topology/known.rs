//! PURE. What is known of links, neighbours and routes: netlink's messages in, inputs out.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{
        InfoData, InfoGre, InfoGre6, InfoIpTunnel, InfoKind, InfoVxlan, LinkAttribute, LinkFlags,
        LinkInfo, LinkMessage,
    },
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
    route::RouteMessage,
};

use super::{addresses::Addresses, routes::Changes};
use crate::model::{IfIndex, Input, Interface, NetnsId, NextHop, Reachability};

/// What is known of one network namespace.
#[derive(Debug)]
pub struct Known {
    netns: NetnsId,
    links: BTreeMap<IfIndex, Link>,
    /// Routes that changed since it was last asked.
    pub(super) route_changes: Changes,
    pub(super) addresses: Addresses,
    /// Routes, rules or addresses changed since it was last asked.
    pub(super) rerouted: bool,
    /// What carries the tunnels must be asked.
    pub(super) recarried: bool,
}

/// A link as netlink tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    interface: Interface,
    controller: Option<IfIndex>,
    is_vrf: bool,
    tunnel: Option<Tunnel>,
}

/// Where a link that is a tunnel leads to, and what its own packets are bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tunnel {
    pub(super) remote: IpAddr,
    pub(super) local: Option<IpAddr>,
    /// Index of an interface.
    pub(super) link: Option<u32>,
}

impl Known {
    /// Nothing is known yet.
    pub fn new(netns: NetnsId) -> Self {
        Self {
            netns,
            links: BTreeMap::new(),
            route_changes: Changes::default(),
            addresses: Addresses::default(),
            rerouted: false,
            recarried: false,
        }
    }

    /// Takes a change in.
    pub fn take(&mut self, message: &RouteNetlinkMessage) -> Vec<Input> {
        let rerouted = matches!(
            message,
            RouteNetlinkMessage::NewRoute(_)
                | RouteNetlinkMessage::DelRoute(_)
                | RouteNetlinkMessage::NewRule(_)
                | RouteNetlinkMessage::DelRule(_)
                | RouteNetlinkMessage::NewAddress(_)
                | RouteNetlinkMessage::DelAddress(_)
        );
        (self.rerouted, self.recarried) = (self.rerouted || rerouted, self.recarried || rerouted);
        match message {
            RouteNetlinkMessage::NewLink(link) => self.link(link),
            RouteNetlinkMessage::DelLink(link) => {
                vec![self.remove(IfIndex(link.header.index))]
            }
            RouteNetlinkMessage::NewNeighbour(neighbour) => {
                self.note_address(neighbour);
                self.neighbour(neighbour).into_iter().collect()
            }
            RouteNetlinkMessage::DelNeighbour(neighbour) => {
                let hop = self.hop(neighbour);
                let gone = hop.map(|hop| Input::Neighbour(hop, None));
                gone.into_iter().collect()
            }
            RouteNetlinkMessage::NewRoute(route) => self.note_route(route, false),
            RouteNetlinkMessage::DelRoute(route) => self.note_route(route, true),
            _ => Vec::new(),
        }
    }

    pub(super) fn note_address(&mut self, neighbour: &NeighbourMessage) {
        if let Some(hop) = self.hop(neighbour) {
            self.addresses.note(hop, neighbour);
        }
    }

    /// A route is nothing to the engine: only what changed is remembered.
    fn note_route(&mut self, route: &RouteMessage, removed: bool) -> Vec<Input> {
        let links = &self.links;
        self.route_changes.add(route, removed, |index| {
            let link = links.get(&index);
            link.map_or_else(|| format!("if{}", index.0), |it| it.interface.name.clone())
        });
        Vec::new()
    }

    /// A link was added or changed; whoever names it as its VRF changes too.
    pub(super) fn link(&mut self, message: &LinkMessage) -> Vec<Input> {
        let index = IfIndex(message.header.index);
        let up = LinkFlags::Up | LinkFlags::LowerUp;
        let mut link = Link {
            interface: Interface {
                up: message.header.flags.contains(up),
                ..Interface::default()
            },
            controller: None,
            is_vrf: false,
            tunnel: None,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.interface.name.clone_from(name),
                LinkAttribute::IfAlias(alias) => link.interface.alias = Some(alias.clone()),
                LinkAttribute::Controller(index) => link.controller = Some(IfIndex(*index)),
                LinkAttribute::LinkInfo(infos) => {
                    link.is_vrf = infos
                        .iter()
                        .any(|info| matches!(info, LinkInfo::Kind(InfoKind::Vrf)));
                    link.tunnel = infos.iter().find_map(tunnel);
                }
                _ => {}
            }
        }
        // Partial messages, such as those of bridges, do not carry the name.
        if link.interface.name.is_empty() {
            return Vec::new();
        }
        let before = self.links.get(&index);
        // The kernel tells nobody of the IPv4 routes that go with a link.
        let changed = before.is_none_or(|it| it.interface.up != link.interface.up);
        (self.rerouted, self.recarried) = (self.rerouted || changed, self.recarried || changed);
        // What carries it is asked for again, and stays until that is answered.
        let before = before.filter(|it| it.tunnel == link.tunnel);
        link.interface.underlay = before.and_then(|it| it.interface.underlay);
        self.recarried |= link.tunnel.is_some() && before.is_none();
        self.links.insert(index, link);
        self.links
            .iter()
            .filter(|(other, link)| **other == index || link.controller == Some(index))
            .map(|(other, link)| Input::Interface(self.netns, *other, Some(self.describe(link))))
            .collect()
    }

    /// The links that are known.
    pub(super) fn indexes(&self) -> BTreeSet<IfIndex> {
        self.links.keys().copied().collect()
    }

    /// A link is gone.
    pub(super) fn remove(&mut self, index: IfIndex) -> Input {
        self.links.remove(&index);
        (self.rerouted, self.recarried) = (true, true);
        Input::Interface(self.netns, index, None)
    }

    /// The links that are tunnels to one place.
    pub(super) fn tunnels(&self) -> Vec<(IfIndex, Tunnel)> {
        let links = self.links.iter();
        links
            .filter_map(|(index, link)| Some((*index, link.tunnel?)))
            .collect()
    }

    /// Takes in what carries a tunnel, if that is news.
    pub(super) fn carry(&mut self, index: IfIndex, underlay: Option<NextHop>) -> Option<Input> {
        let link = self.links.get_mut(&index)?;
        if link.interface.underlay == underlay {
            return None;
        }
        link.interface.underlay = underlay;
        let interface = self.describe(self.links.get(&index)?);
        Some(Input::Interface(self.netns, index, Some(interface)))
    }

    fn describe(&self, link: &Link) -> Interface {
        let vrf = link
            .controller
            .and_then(|index| self.links.get(&index))
            .filter(|controller| controller.is_vrf)
            .map(|controller| controller.interface.name.clone());
        Interface {
            vrf,
            ..link.interface.clone()
        }
    }

    fn hop(&self, message: &NeighbourMessage) -> Option<NextHop> {
        let gateway = message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => {
                    Some(IpAddr::V4(*ip))
                }
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => {
                    Some(IpAddr::V6(*ip))
                }
                _ => None,
            })?;
        let interface = IfIndex(message.header.ifindex);
        Some(NextHop {
            netns: self.netns,
            interface,
            gateway: Some(gateway),
        })
    }

    pub(super) fn neighbour(&self, message: &NeighbourMessage) -> Option<Input> {
        let reachability = match message.header.state {
            NeighbourState::Incomplete | NeighbourState::Failed => Some(Reachability::Silent),
            NeighbourState::Reachable | NeighbourState::Permanent | NeighbourState::Noarp => {
                Some(Reachability::Answers)
            }
            // Not asked lately, or being asked: nothing is known yet.
            _ => None,
        };
        self.hop(message)
            .map(|hop| Input::Neighbour(hop, reachability))
    }
}

/// Where a tunnel leads to, when that is one place.
fn tunnel(info: &LinkInfo) -> Option<Tunnel> {
    let LinkInfo::Data(data) = info else {
        return None;
    };
    let (mut remote, mut local, mut link) = (None, None, None);
    match data {
        InfoData::IpTunnel(all) => {
            for it in all {
                match it {
                    InfoIpTunnel::Remote(ip) => remote = Some(*ip),
                    InfoIpTunnel::Local(ip) => local = Some(*ip),
                    InfoIpTunnel::Link(index) => link = Some(*index),
                    _ => {}
                }
            }
        }
        InfoData::GreTun(all) | InfoData::GreTap(all) => {
            for it in all {
                match it {
                    InfoGre::Remote(ip) => remote = Some(IpAddr::V4(*ip)),
                    InfoGre::Local(ip) => local = Some(IpAddr::V4(*ip)),
                    InfoGre::Link(index) => link = Some(*index),
                    _ => {}
                }
            }
        }
        InfoData::GreTun6(all) | InfoData::GreTap6(all) => {
            for it in all {
                match it {
                    InfoGre6::Remote(ip) => remote = Some(IpAddr::V6(*ip)),
                    InfoGre6::Local(ip) => local = Some(IpAddr::V6(*ip)),
                    InfoGre6::Link(index) => link = Some(*index),
                    _ => {}
                }
            }
        }
        InfoData::Vxlan(all) => {
            for it in all {
                match it {
                    InfoVxlan::Group(ip) => remote = Some(IpAddr::V4(*ip)),
                    InfoVxlan::Group6(ip) => remote = Some(IpAddr::V6(*ip)),
                    InfoVxlan::Local(ip) => local = Some(IpAddr::V4(*ip)),
                    InfoVxlan::Local6(ip) => local = Some(IpAddr::V6(*ip)),
                    InfoVxlan::Link(index) => link = Some(*index),
                    _ => {}
                }
            }
        }
        _ => {}
    }
    let remote = remote.filter(|ip| !ip.is_unspecified() && !ip.is_multicast())?;
    Some(Tunnel {
        remote,
        local: local.filter(|ip| !ip.is_unspecified()),
        link: link.filter(|index| *index != 0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETNS: NetnsId = NetnsId(7);
    const TUNNEL: IfIndex = IfIndex(4);
    const CARRIER: NextHop = NextHop {
        netns: NETNS,
        interface: IfIndex(2),
        gateway: None,
    };

    fn link(data: Option<InfoData>) -> RouteNetlinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = TUNNEL.0;
        message.attributes = vec![LinkAttribute::IfName("tunnel".to_owned())];
        if let Some(data) = data {
            let infos = vec![LinkInfo::Data(data)];
            message.attributes.push(LinkAttribute::LinkInfo(infos));
        }
        RouteNetlinkMessage::NewLink(message)
    }

    fn ipip(remote: [u8; 4]) -> RouteNetlinkMessage {
        let remote = InfoIpTunnel::Remote(remote.into());
        link(Some(InfoData::IpTunnel(vec![remote])))
    }

    fn far_ends(messages: &[RouteNetlinkMessage]) -> Vec<String> {
        let mut known = Known::new(NETNS);
        for message in messages {
            known.take(message);
        }
        let tunnels = known.tunnels();
        tunnels
            .iter()
            .map(|(_, it)| it.remote.to_string())
            .collect()
    }

    #[test]
    fn a_tunnel_leads_to_one_place() {
        assert_eq!(far_ends(&[ipip([192, 0, 2, 1])]), ["192.0.2.1"]);
        let vxlan = |ip| link(Some(InfoData::Vxlan(vec![InfoVxlan::Group6(ip)])));
        let there = "2001:db8::1".parse().unwrap();
        assert_eq!(far_ends(&[vxlan(there)]), ["2001:db8::1"]);
        let gre = InfoGre::Remote([192, 0, 2, 9].into());
        let gre = link(Some(InfoData::GreTun(vec![gre])));
        assert_eq!(far_ends(&[gre]), ["192.0.2.9"]);
    }

    #[test]
    fn a_link_that_leads_to_many_places_or_none_is_carried_by_nobody() {
        let group = "ff05::1".parse().unwrap();
        let group = link(Some(InfoData::Vxlan(vec![InfoVxlan::Group6(group)])));
        for message in [group, ipip([0; 4]), link(None)] {
            assert_eq!(far_ends(&[message]), [""; 0]);
        }
    }

    #[test]
    fn routes_may_have_gone_with_a_link() {
        let mut known = Known::new(NETNS);
        known.take(&link(None));
        (known.rerouted, known.recarried) = (false, false);
        known.take(&link(None));
        assert!(!known.rerouted, "nothing has changed");
        let RouteNetlinkMessage::NewLink(mut up) = link(None) else {
            panic!("it is one");
        };
        up.header.flags = LinkFlags::Up | LinkFlags::LowerUp;
        known.take(&RouteNetlinkMessage::NewLink(up.clone()));
        assert!(known.rerouted && known.recarried);
        (known.rerouted, known.recarried) = (false, false);
        known.take(&RouteNetlinkMessage::DelLink(up));
        assert!(known.rerouted && known.recarried);
    }

    #[test]
    fn what_carries_a_tunnel_is_told_once_and_stays_until_its_far_end_moves() {
        let mut known = Known::new(NETNS);
        known.take(&ipip([192, 0, 2, 1]));
        assert!(std::mem::take(&mut known.recarried));
        let told = known.carry(TUNNEL, Some(CARRIER));
        assert!(
            matches!(&told, Some(Input::Interface(_, _, Some(it))) if it.underlay == Some(CARRIER)),
            "{told:?}"
        );
        assert_eq!(known.carry(TUNNEL, Some(CARRIER)), None);
        let again = known.take(&ipip([192, 0, 2, 1]));
        assert!(!known.recarried, "nothing has changed");
        assert_eq!(Some(again), told.map(|it| vec![it]));
        known.take(&ipip([192, 0, 2, 2]));
        assert!(known.recarried);
        assert!(known.carry(TUNNEL, None).is_none(), "nobody is known");
    }
}

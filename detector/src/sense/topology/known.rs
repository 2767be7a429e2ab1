//! PURE. What is known of links, neighbours and routes: netlink's messages in, inputs out.

use std::{collections::BTreeMap, net::IpAddr};

use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
    route::RouteMessage,
};

use super::{addresses::Addresses, routes::Changes};
use crate::model::{IfIndex, Input, Interface, NetnsId, NextHop, Reachability};

/// What is known of one network namespace.
#[derive(Debug)]
pub struct Known {
    netns: NetnsId,
    pub(super) links: BTreeMap<IfIndex, Link>,
    /// Routes that changed since it was last asked.
    pub(super) route_changes: Changes,
    pub(super) addresses: Addresses,
    /// Routes, rules or addresses changed since it was last asked.
    pub(super) rerouted: bool,
}

/// A link as netlink tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    interface: Interface,
    controller: Option<IfIndex>,
    is_vrf: bool,
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
        }
    }

    /// Takes a change in.
    pub fn take(&mut self, message: &RouteNetlinkMessage) -> Vec<Input> {
        self.rerouted |= matches!(
            message,
            RouteNetlinkMessage::NewRoute(_)
                | RouteNetlinkMessage::DelRoute(_)
                | RouteNetlinkMessage::NewRule(_)
                | RouteNetlinkMessage::DelRule(_)
                | RouteNetlinkMessage::NewAddress(_)
                | RouteNetlinkMessage::DelAddress(_)
        );
        match message {
            RouteNetlinkMessage::NewLink(link) => self.link(link),
            RouteNetlinkMessage::DelLink(link) => {
                let index = IfIndex(link.header.index);
                self.links.remove(&index);
                vec![Input::Interface(self.netns, index, None)]
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
                }
                _ => {}
            }
        }
        // Partial messages, such as those of bridges, do not carry the name.
        if link.interface.name.is_empty() {
            return Vec::new();
        }
        self.links.insert(index, link);
        self.links
            .iter()
            .filter(|(other, link)| **other == index || link.controller == Some(index))
            .map(|(other, link)| Input::Interface(self.netns, *other, Some(self.describe(link))))
            .collect()
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

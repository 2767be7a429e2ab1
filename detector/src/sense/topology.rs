//! Links, neighbours and routes, followed through netlink.
//!
//! **Invariant:** turns netlink messages into inputs, keeps no opinion.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use anyhow::Context as _;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream::BoxStream};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::LinkMessage,
    neighbour::NeighbourMessage,
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia},
};
use rtnetlink::{Handle, MulticastGroup, packet_core::NetlinkPayload};
use tokio::task::JoinHandle;

mod addresses;
mod known;
mod routes;

pub use self::{addresses::Moved, known::Known, routes::Changes as RouteChanges};
use super::uplinks::Flow;
use crate::model::{IfIndex, Input, NetnsId, NextHop, Sample};

/// Longest wait for netlink's answers.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// Follows the links and neighbours of one network namespace.
pub struct Topology {
    netns: NetnsId,
    handle: Handle,
    /// Changes; `None` stands for some that were lost.
    changes: BoxStream<'static, Option<RouteNetlinkMessage>>,
    /// Some were lost, and everything is being read again.
    rereading: Option<JoinHandle<anyhow::Result<All>>>,
    known: Known,
}

impl Topology {
    /// Subscribes to changes, then reads what there is: nothing falls between.
    ///
    /// # Errors
    /// When netlink is not available.
    pub async fn open(netns: NetnsId) -> anyhow::Result<(Self, Vec<Input>)> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Neigh,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
            MulticastGroup::Ipv4Rule,
            MulticastGroup::Ipv6Rule,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
        ];
        let (connection, handle, messages) = rtnetlink::new_multicast_connection(&groups)
            .context("cannot subscribe to links, neighbours and routes (netlink)")?;
        tokio::spawn(connection);
        let changes = messages
            .filter_map(|(message, _)| async move {
                match message.payload {
                    NetlinkPayload::InnerMessage(inner) => Some(Some(inner)),
                    NetlinkPayload::Overrun(_) => Some(None),
                    _ => None,
                }
            })
            .boxed();
        let mut topology = Self {
            netns,
            handle,
            changes,
            rereading: None,
            known: Known::new(netns),
        };
        let all = read(topology.handle.clone()).await?;
        let inputs = topology.take_all(&all);
        Ok((topology, inputs))
    }

    /// Waits for the next change. `None` when netlink has ended. When the kernel dropped changes
    /// because there were too many at once, everything is read again.
    pub async fn next(&mut self) -> Option<Vec<Input>> {
        // Whoever waits may be called away at any point: what is read goes on meanwhile.
        if let Some(reading) = &mut self.rereading {
            let read = reading.await;
            self.rereading = None;
            return Some(match read {
                Ok(Ok(all)) => self.take_again(&all),
                failed => {
                    tracing::warn!("links and neighbours cannot be read: {failed:?}");
                    self.read_again(PATIENCE);
                    Vec::new()
                }
            });
        }
        if let Some(message) = self.changes.next().await? {
            return Some(self.known.take(&message));
        }
        tracing::warn!("too many changes of links, neighbours and routes at once: reading all");
        self.read_again(Duration::ZERO);
        Some(Vec::new())
    }

    /// What carries each tunnel, where that has changed since the last call.
    pub async fn underlays(&mut self) -> Vec<Input> {
        if !self.known.recarried {
            return Vec::new();
        }
        let mut answers = Vec::new();
        for (index, tunnel) in self.known.tunnels() {
            let mut more = Vec::new();
            if let Some(local) = tunnel.local {
                more.push(RouteAttribute::Source(RouteAddress::from(local)));
            }
            more.extend(tunnel.link.map(RouteAttribute::Oif));
            let route = self.ask(tunnel.remote, more).await;
            answers.push((index, route.ok().flatten().and_then(Route::unicast)));
        }
        // Nothing is taken in before everything is known: whoever waits may be called away.
        self.known.recarried = false;
        let news = answers.into_iter();
        news.filter_map(|(index, carrier)| self.known.carry(index, carrier))
            .collect()
    }

    /// Whether routes, rules or addresses have changed since the last call.
    pub fn take_rerouted(&mut self) -> bool {
        std::mem::take(&mut self.known.rerouted)
    }

    /// The routes that have changed since the last call.
    pub fn take_route_changes(&mut self) -> RouteChanges {
        self.known.route_changes.take()
    }

    /// The neighbours that have moved to another hardware address since the last call.
    pub fn take_moved(&mut self) -> Vec<Moved> {
        self.known.addresses.take()
    }

    /// Asks how the neighbours behind `hops` are. Not every step towards "does not answer" is
    /// announced: an entry that is being resolved is not (`net/core/neighbour.c`).
    ///
    /// # Errors
    /// When netlink refuses.
    pub async fn neighbours(&self, hops: &BTreeSet<NextHop>) -> anyhow::Result<Vec<Input>> {
        let all = read_neighbours(&self.handle).await?;
        let inputs = all.iter().filter_map(|it| self.known.neighbour(it));
        let asked = |it: &Input| matches!(it, Input::Neighbour(hop, _) if hops.contains(hop));
        Ok(inputs.filter(asked).collect())
    }

    /// The next hop of a connection as the routing table has it now, for connections whose route
    /// the kernel no longer holds.
    ///
    /// # Errors
    /// When there is no such route.
    pub async fn route(&self, sample: &Sample) -> anyhow::Result<Option<Input>> {
        let mut more = vec![
            RouteAttribute::Source(RouteAddress::from(sample.local.ip())),
            RouteAttribute::Uid(sample.uid),
            RouteAttribute::IpProto(6),
            RouteAttribute::Sport(sample.local.port()),
            RouteAttribute::Dport(sample.remote.port()),
        ];
        if sample.mark != 0 {
            more.push(RouteAttribute::Mark(sample.mark));
        }
        if let Some(device) = sample.device {
            more.push(RouteAttribute::Oif(device.0));
        }
        let route = self.ask(sample.remote.ip(), more).await?;
        let hop = route.and_then(|route| route.hop);
        Ok(hop.map(|hop| Input::Route(sample.id, hop)))
    }

    /// The interface behind which an address of another network namespace is; `None` when none of
    /// this one's leads straight there.
    pub async fn behind(&self, address: IpAddr) -> Option<IfIndex> {
        let hop = self.ask(address, Vec::new()).await.ok()??.unicast()?;
        let direct = match hop.gateway {
            None => true,
            // As good as none: it only names the interface.
            Some(gateway) => self.neighbourhood(gateway, hop.interface).await == Some(Near::Ours),
        };
        direct.then_some(hop.interface)
    }

    /// Where connections of this network namespace go to now.
    pub async fn outward(&self, flow: &Flow) -> Option<NextHop> {
        let mut more = vec![RouteAttribute::Source(RouteAddress::from(flow.local))];
        more.extend(flow.device.map(|device| RouteAttribute::Oif(device.0)));
        self.ask(flow.remote, more).await.ok()??.hop
    }

    /// Where connections of another network namespace go on to from `device`; `None` when they stay
    /// on that link, or do not go on at all.
    pub async fn onward(&self, flow: &Flow, device: IfIndex) -> Option<NextHop> {
        // A router on the link itself: a bridge that an uplink belongs to, or interfaces on top of
        // one (macvlan, ipvlan). This namespace does not route for them.
        if let Some(gateway) = flow.gateway
            && self.neighbourhood(gateway, device).await == Some(Near::OnLink)
        {
            return Some(NextHop {
                netns: self.netns,
                interface: device,
                gateway: Some(gateway),
            });
        }
        let forwarded = vec![
            RouteAttribute::Source(RouteAddress::from(flow.local)),
            RouteAttribute::Iif(device.0),
        ];
        let route = self.ask(flow.remote, forwarded).await.ok()??;
        let leaves = |hop: &NextHop| hop.interface != device || hop.gateway.is_some();
        route.unicast().filter(leaves)
    }

    /// How near an address is at `device`; `None` when it is elsewhere.
    async fn neighbourhood(&self, address: IpAddr, device: IfIndex) -> Option<Near> {
        // Every link has such addresses.
        let link = match address {
            IpAddr::V6(address) if address.is_unicast_link_local() => {
                vec![RouteAttribute::Oif(device.0)]
            }
            _ => Vec::new(),
        };
        let route = self.ask(address, link).await.ok()??;
        if route.kind == RouteType::Local {
            return Some(Near::Ours);
        }
        let hop = route.unicast()?;
        (hop.interface == device && hop.gateway.is_none()).then_some(Near::OnLink)
    }

    /// The route to an address that the kernel would take.
    async fn ask(
        &self,
        remote: IpAddr,
        more: Vec<RouteAttribute>,
    ) -> Result<Option<Route>, rtnetlink::Error> {
        let mut question = RouteMessage::default();
        let (family, bits) = match remote {
            IpAddr::V4(_) => (AddressFamily::Inet, 32),
            IpAddr::V6(_) => (AddressFamily::Inet6, 128),
        };
        question.header.address_family = family;
        question.header.destination_prefix_length = bits;
        question.header.source_prefix_length = bits;
        let remote = RouteAttribute::Destination(RouteAddress::from(remote));
        question.attributes.push(remote);
        question.attributes.extend(more);
        let routes = collect(self.handle.route().get(question).execute()).await?;
        Ok(routes.first().map(|route| Route {
            kind: route.header.kind,
            hop: route_hop(self.netns, route),
        }))
    }

    /// Reads everything anew, after a while.
    fn read_again(&mut self, after: Duration) {
        let handle = self.handle.clone();
        self.rereading = Some(tokio::spawn(async move {
            tokio::time::sleep(after).await;
            tokio::time::timeout(PATIENCE, read(handle)).await?
        }));
    }

    /// Takes in everything anew; links that are gone are reported as such.
    fn take_again(&mut self, all: &All) -> Vec<Input> {
        let before = self.known.indexes();
        let mut inputs = self.take_all(all);
        let links = all.links.iter();
        let there: BTreeSet<_> = links.map(|it| IfIndex(it.header.index)).collect();
        for gone in before.difference(&there) {
            inputs.push(self.known.remove(*gone));
        }
        (self.known.rerouted, self.known.recarried) = (true, true);
        inputs
    }

    fn take_all(&mut self, all: &All) -> Vec<Input> {
        let mut inputs = Vec::new();
        for link in &all.links {
            inputs.extend(self.known.link(link));
        }
        for neighbour in &all.neighbours {
            self.known.note_address(neighbour);
            inputs.extend(self.known.neighbour(neighbour));
        }
        inputs
    }
}

/// All links and neighbours.
#[derive(Debug)]
struct All {
    links: Vec<LinkMessage>,
    neighbours: Vec<NeighbourMessage>,
}

async fn read(handle: Handle) -> anyhow::Result<All> {
    let links = collect(handle.link().get().execute())
        .await
        .context("cannot list links")?;
    let neighbours = read_neighbours(&handle).await?;
    Ok(All { links, neighbours })
}

async fn read_neighbours(handle: &Handle) -> anyhow::Result<Vec<NeighbourMessage>> {
    collect(handle.neighbours().get().execute())
        .await
        .context("cannot list neighbours")
}

/// What the kernel answers when it is asked for a route.
struct Route {
    kind: RouteType,
    hop: Option<NextHop>,
}

impl Route {
    /// The next hop, when packets are sent on.
    fn unicast(self) -> Option<NextHop> {
        self.hop.filter(|_| self.kind == RouteType::Unicast)
    }
}

/// An address without a router in between.
#[derive(Debug, PartialEq, Eq)]
enum Near {
    /// Of this namespace itself.
    Ours,
    /// Of somebody on the link.
    OnLink,
}

async fn collect<T>(
    stream: impl Stream<Item = Result<T, rtnetlink::Error>>,
) -> Result<Vec<T>, rtnetlink::Error> {
    stream.try_collect().await
}

fn route_hop(netns: NetnsId, route: &RouteMessage) -> Option<NextHop> {
    let mut interface = None;
    let mut gateway = None;
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => interface = Some(IfIndex(*index)),
            RouteAttribute::Gateway(RouteAddress::Inet(ip))
            | RouteAttribute::Via(RouteVia::Inet(ip)) => gateway = Some(IpAddr::V4(*ip)),
            RouteAttribute::Gateway(RouteAddress::Inet6(ip))
            | RouteAttribute::Via(RouteVia::Inet6(ip)) => gateway = Some(IpAddr::V6(*ip)),
            _ => {}
        }
    }
    interface.map(|interface| NextHop {
        netns,
        interface,
        gateway,
    })
}

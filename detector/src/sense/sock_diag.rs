//! The connections as netlink tells them (`sock_diag`), which asks for no right: for hosts on which
//! programs in the kernel are not allowed.
//!
//! It tells less, and later: no event, no route, no size of what waits.

mod listing;

use std::{io, net::IpAddr};

use anyhow::Context as _;
use netlink_packet_sock_diag::{
    SockDiagMessage,
    constants::{AF_INET, AF_INET6, IPPROTO_TCP},
    inet::{ExtensionFlags, InetRequest, SocketId, StateFlags},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};
use rtnetlink::packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};

use super::{
    Check,
    sweep::{Cost, Seen},
};
use crate::{clock, model::NetnsId};

pub use listing::{Listing, failure, sample};

/// Bytes of an answer that are read at once: the kernel fills up to 32 KiB.
const BUFFER: usize = 1 << 16;

/// What is not to be had this way, by the feature's name.
const NOT_SEEN: &[(&str, &str)] = &[
    (
        "program:on_retransmit",
        "events: stalls are found by polls alone, the later the more connections there are",
    ),
    (
        "gateways",
        "the next hop in force: the routing table is asked, without marks",
    ),
    (
        "field:rtx_queue",
        "the size of what waits: mtu is not told from a black hole",
    ),
    (
        "send-errors",
        "why a packet did not leave: a dead next hop and a local firewall are told by slower signs",
    ),
    ("program:holders", "the process that holds a connection"),
    (
        "program:descriptors",
        "how many descriptors such a process has left",
    ),
    (
        "other-netns",
        "connections of other network namespaces, those of containers for instance",
    ),
    (
        "field:out_of_order",
        "holes in what arrives, and streams that fell silent",
    ),
];

/// What is lost without programs in the kernel.
pub fn checks() -> Vec<Check> {
    NOT_SEEN
        .iter()
        .map(|(feature, lost)| Check {
            ok: false,
            lost: (*lost).to_owned(),
            remedy: "run the daemon without `--sensor sock-diag`".to_owned(),
            ..Check::present(*feature, false, "connections are polled through netlink")
        })
        .collect()
}

/// Asks for all connections of a network namespace.
pub struct Poller {
    netns: NetnsId,
}

impl Poller {
    /// Of the calling thread's network namespace.
    pub fn new(netns: NetnsId) -> Self {
        Self { netns }
    }

    /// Asks for all connections. It blocks for as long as the kernel needs.
    ///
    /// # Errors
    /// When netlink refuses or breaks off; the next time is a new chance.
    pub fn read(&mut self) -> anyhow::Result<(Seen, Cost)> {
        let (cpu, wall) = (clock::thread_cpu(), clock::now());
        let mut listing = Listing::new(self.netns);
        for any in [SocketId::new_v4(), SocketId::new_v6()] {
            ask(any, &mut listing)
                .context("the connections cannot be had from netlink (sock_diag)")?;
        }
        let cost = Cost {
            own: clock::thread_cpu() - cpu,
            others: None,
            wall: clock::now().since(wall),
        };
        Ok((listing.seen(), cost))
    }
}

/// A way to ask, in the network namespace of the calling thread.
///
/// # Errors
/// When there is none.
pub fn open() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

/// Asks something; the answers have this number.
///
/// # Errors
/// When it cannot be sent.
pub fn send<M: NetlinkSerializable + Into<NetlinkPayload<M>>>(
    socket: &Socket,
    message: M,
    flags: u16,
    sequence: u32,
) -> io::Result<()> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, message.into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    Ok(())
}

/// The question for connections in some states: for one by its name, or for all of its family.
pub fn request(socket_id: SocketId, states: StateFlags) -> InetRequest {
    InetRequest {
        family: match socket_id.source_address {
            IpAddr::V4(_) => AF_INET,
            IpAddr::V6(_) => AF_INET6,
        },
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::INFO,
        states,
        socket_id,
    }
}

/// Asks for the connections of a family.
fn ask(any: SocketId, listing: &mut Listing) -> anyhow::Result<()> {
    let socket = open()?;
    let states = StateFlags::all()
        - StateFlags::LISTEN
        - StateFlags::TIME_WAIT
        - StateFlags::CLOSE
        - StateFlags::SYN_RECV;
    let message = SockDiagMessage::InetRequest(request(any, states));
    send(&socket, message, NLM_F_DUMP, 0)?;
    let mut buffer = Vec::with_capacity(BUFFER);
    loop {
        buffer.clear();
        let size = socket.recv(&mut buffer, 0)?;
        if listing.take(buffer.get(..size).unwrap_or_default(), clock::now())? {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sense::uplinks::Flow;

    const NETNS: NetnsId = NetnsId(7);

    #[test]
    fn our_own_connections_can_be_asked_for_by_anybody() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (seen, _) = Poller::new(NETNS).read().unwrap();
        let ours = |flow: &Flow| flow.local == stream.local_addr().unwrap().ip();
        assert!(seen.flows.iter().any(|(flow, _)| ours(flow)), "{seen:?}");
    }
}

//! What breaks only in part, or somewhere other than on the way: beside [`crate::fault`], and on
//! top of it.
//!
//! These add up: one does not repair another. [`crate::Lab::repair`] ends all of an upstream.

use std::fmt;

use anyhow::Result;

use crate::{
    fault::{ESTABLISHED, forward},
    network::{Family, Lab, Upstream},
};

/// A part of an upstream, or something at its far end, that goes silent. Handshakes pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partial {
    /// One of the upstream's destinations is gone, whichever way one takes to it.
    PeerGone(u8),
    /// The router's own addresses are silent; what it forwards passes.
    RouterItself,
    /// One of four paths behind the router is dead: it drops what the connection's addresses and
    /// ports choose that path for.
    OnePathOfFour,
    /// Connections from this local port are dropped.
    FromPort(u16),
}

impl fmt::Display for Partial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PeerGone(number) => write!(f, "destination {number} gone"),
            Self::RouterItself => f.write_str("router itself silent"),
            Self::OnePathOfFour => f.write_str("one path of four dead"),
            Self::FromPort(port) => write!(f, "connections from port {port} dead"),
        }
    }
}

pub(crate) fn install(lab: &Lab, upstream: &Upstream, partial: Partial) -> Result<()> {
    let router = &upstream.router;
    match partial {
        Partial::PeerGone(number) => {
            let v4 = upstream.prefix(number, Family::V4);
            let v6 = upstream.prefix(number, Family::V6);
            lab.net.nft(&format!(
                "table inet {0} {{\n\
                 chain gone {{ type filter hook input priority 0; policy accept;\n\
                 {ESTABLISHED} ip daddr {v4} counter drop; {ESTABLISHED} ip6 daddr {v6} counter drop;\n\
                 }}\n}}\n",
                net_table(upstream)
            ))
        }
        Partial::RouterItself => router.nft(&format!(
            "table inet fault {{\n\
             chain itself {{ type filter hook input priority 0; policy accept;\n\
             iifname wan {ESTABLISHED} counter drop;\n\
             }}\n}}\n"
        )),
        Partial::OnePathOfFour => router.nft(&forward(&format!(
            "oifname core {ESTABLISHED} \
             jhash ip saddr . ip daddr . tcp sport . tcp dport mod 4 seed 0x1 0 counter drop"
        ))),
        Partial::FromPort(port) => router.nft(&forward(&format!(
            "oifname core {ESTABLISHED} tcp sport {port} counter drop"
        ))),
    }
}

/// Removes what [`install`] has left outside the router.
pub(crate) fn remove(lab: &Lab, upstream: &Upstream) -> Result<()> {
    let table = net_table(upstream);
    // Declared first, so that it can be deleted whether it was there or not.
    lab.net
        .nft(&format!("table inet {table}\ndelete table inet {table}\n"))
}

/// A table per upstream, so that one's peers can come back while another's stay away.
fn net_table(upstream: &Upstream) -> String {
    format!("gone_{}", upstream.interface)
}

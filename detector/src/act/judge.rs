//! PURE. Whether a connection that the daemon has called stalled still is, as netlink shows it now.

use netlink_packet_sock_diag::inet::{InetResponse, SocketId};

use crate::{
    api::Target,
    model::{Cause, Fate, Sample},
    sense::sock_diag,
    time::Time,
};

/// From this release on the kernel ends a connection that no process holds when it is told to. Earlier ones
/// throw away what it has to send and keep it, without a timer, for ever ("tcp: fix forever orphan socket
/// caused by tcp_abort", <https://git.kernel.org/linus/bac76cf89816>).
const ENDS_ORPHANS: (u32, u32) = (6, 11);

/// What is to be done about a connection.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// Reset what has this name: its cookie is the kernel's own.
    Reset(SocketId),
    /// Leave it alone.
    Leave(Left),
}

/// Why a connection was left alone.
#[derive(Debug, PartialEq)]
pub(super) struct Left {
    pub(super) fate: Fate,
    pub(super) because: String,
}

/// Whether what netlink has `found` is the connection that was to be reset, and still stuck.
///
/// In order; the first that applies wins:
/// 1. it is another socket: the connection is gone
/// 2. it is not connected any more, or has never been, as a listener: the connection is gone
/// 3. it waits for what the peer sends, and some of that has come: recovered
/// 4. something was acknowledged, or all of it: recovered
/// 5. the kernel has stopped to repeat and to probe, though it did: recovered
/// 6. no process holds it, and this kernel would keep it for ever: refused
/// 7. it is as stuck as it was: to be reset
pub(super) fn verdict(target: &Target, found: &InetResponse, kernel: &str) -> Verdict {
    let header = &found.header;
    if !is_same(target, found) {
        return Verdict::Leave(gone());
    }
    let Some(now) = sock_diag::sample(found, target.stall.netns, Time::default()) else {
        return Verdict::Leave(gone());
    };
    if let Some(because) = progress(target, &now) {
        return Verdict::Leave(Left {
            fate: Fate::Recovered,
            because: because.to_owned(),
        });
    }
    if now.inode.is_none() && !ends_orphans(kernel) {
        return Verdict::Leave(refused(format!(
            "no process holds it any more, and this kernel ({kernel}) would keep it for ever if it were told to \
             end it; it gives it up by itself"
        )));
    }
    Verdict::Reset(header.socket_id.clone())
}

/// Whether it is the socket that was meant: by its cookie, or by its inode where cookies are not to be had.
fn is_same(target: &Target, found: &InetResponse) -> bool {
    let header = &found.header;
    match target.cookie {
        Some(cookie) => u64::from_ne_bytes(header.socket_id.cookie) == cookie,
        None => u64::from(header.inode) == target.inode.unwrap_or(0),
    }
}

/// What shows that it makes progress since it was listed.
fn progress(target: &Target, now: &Sample) -> Option<&'static str> {
    let was = &target.stall;
    if was.cause == Cause::ReceiveHole {
        return (now.bytes_received != was.received_bytes).then_some("data has arrived since");
    }
    if now.bytes_acked != was.acked_bytes {
        return Some("data was acknowledged since");
    }
    if now.outstanding() == 0 {
        return Some("nothing waits to be acknowledged any more");
    }
    let tried = was.retransmits > 0 || was.probes > 0 || was.backoff > 0;
    let tries = now.timeouts > 0 || now.probes > 0 || now.backoff > 0 || now.persist;
    (tried && !tries).then_some("the kernel has stopped to send it again")
}

/// Whether a kernel of this release ends connections that no process holds.
fn ends_orphans(release: &str) -> bool {
    let mut numbers = release
        .split(|it: char| !it.is_ascii_digit())
        .map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= ENDS_ORPHANS,
        _ => false,
    }
}

pub(super) fn gone() -> Left {
    Left {
        fate: Fate::Gone,
        because: "it has ended".to_owned(),
    }
}

pub(super) fn refused(because: String) -> Left {
    Left {
        fate: Fate::Refused,
        because,
    }
}

#[cfg(test)]
mod tests;

//! PURE. How far a connection is in trouble, and why.

use std::time::Duration;

use crate::{
    model::{Cause, Phase, Reachability, Sample},
    time::Time,
};

/// Answers that are still on their way when the first copy of a segment leaves must not count as
/// answers to it: this much, or two round trips.
const IN_FLIGHT: Duration = Duration::from_millis(250);
/// Window probes that may be unanswered at any moment while the peer does answer: one on its way
/// and one in reserve (the kernel resets the count at each acknowledgement, `net/ipv4/tcp_input.c`,
/// `tcp_ack`).
const PROBES_IN_FLIGHT: u8 = 2;
/// `EBUSY`: the copy sent last is still in a queue of this host, where it waits for the next
/// hop's link address (`net/ipv4/tcp_output.c`, `__tcp_retransmit_skb`).
const EBUSY: i32 = 16;

/// Decide the phase of a connection.
///
/// In order; the first that applies wins:
/// 1. nothing outstanding: nothing was due, so it is healthy however quiet
/// 2. fewer than two timeouts or two unanswered doublings of the persist timer: not yet
/// 3. no progress for `stall_after`: stalled
/// 4. otherwise suspect
pub fn phase(
    sample: &Sample,
    waiting_since: Option<Time>,
    stall_after: Duration,
    now: Time,
) -> Option<Phase> {
    if sample.outstanding() == 0 {
        return None;
    }
    let persists = sample.persist && (sample.backoff >= 2 || sample.probes >= 2);
    if sample.timeouts < 2 && !persists {
        return None;
    }
    match waiting_since {
        Some(since) if now.since(since) >= stall_after => Some(Phase::Stalled),
        _ => Some(Phase::Suspect),
    }
}

/// What is known of segments that got through on the same upstream since a connection stalled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Passed {
    /// Destinations to which only segments surely smaller than the waiting one got through.
    pub smaller: usize,
    /// Some segment as large as the waiting one got through, or many of unknown size.
    pub as_large: bool,
}

/// All that bears on the cause of one stall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// The peer's window is too small for the next segment, and the peer keeps saying so.
    pub window_closed: bool,
    /// The outgoing interface is down.
    pub link_down: bool,
    /// What the kernel said when it tried to send again.
    pub send_error: Option<i32>,
    /// Data is unsent, nothing is in flight, and the window is open.
    pub nothing_leaves: bool,
    /// The next hop on its link.
    pub neighbour: Option<Reachability>,
    /// Other segments on this upstream.
    pub passed: Passed,
    /// Acknowledgements have come since the segment was first sent.
    pub heard: bool,
}

impl Evidence {
    /// Gathers what one sample says; the caller adds what others say.
    pub fn of(sample: &Sample, since: Time) -> Self {
        let next = sample.head.unwrap_or(sample.mss).min(sample.mss.max(1));
        let window_closed = sample.peer_window < next
            && (sample.persist || sample.peer_window == 0)
            && sample.probes <= PROBES_IN_FLIGHT
            && answers(sample);
        let slack = sample.srtt.map_or(IN_FLIGHT, |srtt| (2 * srtt).max(IN_FLIGHT));
        Self {
            window_closed,
            link_down: false,
            send_error: sample.send_error,
            nothing_leaves: sample.packets_out == 0
                && sample.unsent > 0
                && sample.peer_window >= next,
            neighbour: None,
            passed: Passed::default(),
            heard: sample.acked_at > since.after(slack),
        }
    }
}

/// Whether the peer answered the newest window probe or the one before.
fn answers(sample: &Sample) -> bool {
    let wait = sample.rto * (1 << u32::from(sample.backoff).min(16));
    sample.at.since(sample.acked_at) <= 2 * wait + IN_FLIGHT
}

/// Why is it stalled? Rows are tried from the top; the first that fits names the cause, with the
/// words that `explain` uses.
pub fn cause(evidence: &Evidence) -> (Cause, &'static str) {
    match *evidence {
        Evidence { window_closed: true, .. } => {
            (Cause::ZeroWindow, "the peer's window is too small, and the peer keeps saying so")
        }
        Evidence { link_down: true, .. } => (Cause::Local, "the outgoing interface is down"),
        Evidence { neighbour: Some(Reachability::Silent), .. } => {
            (Cause::Neighbour, "the next hop does not answer on its link")
        }
        Evidence { send_error: Some(EBUSY), .. } => {
            (Cause::Neighbour, "the last copy still waits in this host for the next hop's address")
        }
        Evidence { send_error: Some(_), .. } => {
            (Cause::Local, "this host refuses to send the packet (firewall or route)")
        }
        Evidence { nothing_leaves: true, .. } => {
            (Cause::Local, "data is unsent, the window is open, and nothing is in flight")
        }
        Evidence { passed: Passed { smaller: 2.., as_large: false }, .. } => {
            (Cause::Mtu, "smaller segments got through meanwhile, none of this size did")
        }
        Evidence { heard: false, .. } => {
            (Cause::Blackhole, "nothing has come back since the segment was first sent")
        }
        Evidence { heard: true, .. } => {
            (Cause::Unknown, "acknowledgements arrive, but none for the waiting segment")
        }
    }
}

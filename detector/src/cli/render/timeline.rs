//! One connection in the order in which things happened, and will.
//!
//! **Invariant:** nothing is concluded here; the evidence is retold.

use jiff::Timestamp;

use super::{
    page::Page,
    stalls::{process, queue},
    units, via,
};
use crate::{
    api,
    model::Cause,
    serve::words::{clean, count},
};

/// A few connections: who, and what happened to each.
pub(super) fn typical(page: &mut Page, stalls: &[&api::Stall]) {
    if stalls.is_empty() {
        return;
    }
    page.heading("Typical connections");
    for stall in stalls {
        page.hanging("  - ", "    ", &who(stall));
        timeline(page, stall, None);
    }
}

/// What happened, and what will.
pub(super) fn timeline(page: &mut Page, stall: &api::Stall, now: Option<Timestamp>) {
    for (when, what) in past(stall) {
        page.moment(&format!("{} ago", units::age(when)), &what);
    }
    if let Some(now) = now {
        page.moment("now", &now.to_string());
    }
    for (when, what) in future(stall) {
        page.moment(&format!("in {}", units::age(when)), &what);
    }
    page.moment("route", &route(stall));
    page.moment("because", &clean(&stall.because));
}

fn who(stall: &api::Stall) -> String {
    let who = match process(stall).as_str() {
        "-" if stall.orphan => ", closed, held by the kernel alone,".to_owned(),
        "-" => String::new(),
        process => format!(" of {process}"),
    };
    format!(
        "{}{who} to {}: {} for {} ({})",
        clean(&stall.id),
        stall.remote,
        stall.phase,
        units::age(stall.stalled_seconds),
        stall.cause,
    )
}

/// The earliest first.
fn past(stall: &api::Stall) -> Vec<(f64, String)> {
    let mut rows = vec![
        (stall.last_ack_seconds, last_heard(stall)),
        (stall.stalled_seconds, began(stall)),
    ];
    if let Some(first) = stall.first_timeout_seconds {
        rows.push((first, timeouts(stall)));
    } else if stall.probes > 0 {
        let probes = count(stall.probes.into(), "window probe");
        rows.push((
            stall.last_sent_seconds,
            format!("{probes} without an answer"),
        ));
    }
    if stall.retransmits > 1 {
        rows.push((
            stall.last_sent_seconds,
            "sent again, the last time so far".to_owned(),
        ));
    }
    if let (true, Some(last)) = (
        stall.cause == Cause::ReceiveHole,
        stall.last_received_seconds,
    ) {
        rows.push((last, received(stall)));
    }
    // Stable: what happened at once stays in the order above.
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    rows
}

fn last_heard(stall: &api::Stall) -> String {
    // The handshake is acknowledged as if it were a byte.
    let delivered = match stall.acked_bytes {
        0 | 1 => "nothing had been delivered by then".to_owned(),
        bytes => format!("{} had been delivered by then", units::bytes(bytes)),
    };
    let duplicates = match stall.duplicates {
        0 => String::new(),
        number => format!(
            "; the peer reports {}: data arrives there",
            count(number, "duplicate")
        ),
    };
    format!("last heard from the peer; {delivered}{duplicates}")
}

fn began(stall: &api::Stall) -> String {
    let head = match stall.head_bytes {
        Some(head) if head < stall.unacked_bytes => {
            format!(", {head} B of it in the first segment")
        }
        _ => String::new(),
    };
    let unsent = match stall.unsent_bytes {
        0 => String::new(),
        bytes => format!(", {} behind it", units::bytes(bytes.into())),
    };
    match (queue(stall), stall.unacked_bytes) {
        (0, _) => "no progress since".to_owned(),
        (bytes, 0) => format!("{} wait since and are not sent", units::bytes(bytes)),
        (_, bytes) => format!(
            "no progress since: {} sent{head}{unsent}",
            units::bytes(bytes.into())
        ),
    }
}

fn timeouts(stall: &api::Stall) -> String {
    let waits = format!("the wait is {} now", units::age(stall.rto_seconds));
    match stall.retransmits {
        0 | 1 => format!("first timeout; {waits}"),
        number => format!(
            "first timeout, {number} by now; {waits}, doubled {}",
            count(stall.backoff.into(), "time")
        ),
    }
}

fn received(stall: &api::Stall) -> String {
    let all = units::bytes(stall.received_bytes);
    if stall.hole {
        format!("last data arrived, behind a hole; {all} in order before it")
    } else {
        format!("last data arrived; {all} so far")
    }
}

/// The nearest first.
fn future(stall: &api::Stall) -> Vec<(f64, String)> {
    let mut rows = Vec::new();
    if let Some(next) = stall.next_try_seconds {
        let what = if stall.unacked_bytes == 0 && stall.retransmits == 0 {
            "the window is asked for again"
        } else {
            "next try"
        };
        rows.push((next, what.to_owned()));
    }
    if let Some(end) = stall.gives_up_seconds.filter(|_| !waits_for_ever(stall)) {
        rows.push((end, format!("the kernel gives it up ({})", limit(stall))));
    }
    rows
}

/// The peer answers the window probes, and the count of those without an answer starts again each
/// time (RFC 1122 §4.2.2.17).
pub(super) fn waits_for_ever(stall: &api::Stall) -> bool {
    let limited = stall.orphan || stall.user_timeout_seconds.is_some();
    stall.cause == Cause::ZeroWindow && !limited
}

/// Who sets the end.
fn limit(stall: &api::Stall) -> String {
    match stall.user_timeout_seconds {
        Some(timeout) => format!(
            "the program has set TCP_USER_TIMEOUT to {}",
            units::age(timeout)
        ),
        None if stall.orphan => "`net.ipv4.tcp_orphan_retries`: no process holds it".to_owned(),
        None => "`net.ipv4.tcp_retries2`".to_owned(),
    }
}

/// The gateway then and now.
fn route(stall: &api::Stall) -> String {
    let then = via(stall.interface.as_deref(), stall.nexthop);
    match (stall.nexthop, stall.nexthop_now) {
        (then_hop, Some(now)) if then_hop != Some(now) => {
            format!("{then} when it began; the kernel now goes via {now}")
        }
        (Some(_), None) => format!("{then} when it began; the kernel has dropped the route since"),
        _ => then,
    }
}

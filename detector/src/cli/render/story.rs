//! `tcpstall explain ID`: the story of one connection.
//!
//! **Invariant:** nothing is concluded here; the evidence is retold.

use super::{
    explain::{section, verdict},
    next,
    stalls::{process, queue},
    status::elsewhere,
    units, via,
};
use crate::{
    api,
    model::Phase,
    serve::words::{cause, clean, count, stalled},
};

/// The story of one connection.
pub(in crate::cli) fn explain_connection(stall: &api::Stall, status: &api::Status) -> String {
    let opening = match stall.phase {
        Phase::Stalled => "has made no progress for",
        Phase::Suspect => "is suspect: no progress for",
    };
    let mut text = format!(
        "{} {opening} {}: {}.\n",
        clean(&stall.id),
        units::age(stall.stalled_seconds),
        cause(stall.cause)
    );
    section(&mut text, "What it is", &identity(stall));
    section(&mut text, "What happened", &story(stall));
    section(&mut text, "What it rests on", &rests_on(stall));
    let upstream = status.upstreams.iter().find(|it| it.name == stall.upstream);
    let whole = upstream.map_or_else(Vec::new, |it| whole(it, status));
    section(&mut text, "What its upstream does", &whole);
    let peer = Some(stall.remote.ip());
    let steps = next::steps(stall.cause, stall.interface.as_deref(), stall.nexthop, peer);
    section(&mut text, "What to check next", &steps);
    text
}

/// The upstream beside the others.
fn whole(upstream: &api::Upstream, status: &api::Status) -> Vec<String> {
    let other = elsewhere(upstream, status);
    let here = stalled(upstream.destinations);
    vec![
        verdict(upstream, status),
        format!(
            "{here} there, {} of {} through other upstreams",
            other.stalled, other.active
        ),
    ]
}

fn identity(stall: &api::Stall) -> Vec<String> {
    let owner = match process(stall).as_str() {
        "-" => format!("held by user {}; the process is not known", stall.uid),
        process => format!("held by {process}, user {}", stall.uid),
    };
    let cgroup = stall
        .cgroup
        .as_deref()
        .map(|it| format!("control group {}", clean(it)));
    let mut points = vec![
        format!(
            "{} to {} ({}), in network namespace {}",
            stall.local, stall.remote, stall.tcp_state, stall.netns.0
        ),
        format!(
            "upstream {}: {}",
            clean(&stall.upstream),
            via(stall.interface.as_deref(), stall.nexthop)
        ),
        owner,
    ];
    points.extend(cgroup);
    points
}

fn story(stall: &api::Stall) -> Vec<String> {
    let ago = |seconds| units::age(seconds);
    let head = stall.head_bytes.map_or(String::new(), |it| {
        format!(", the first segment {it} bytes")
    });
    let tries = match (stall.retransmits, stall.probes) {
        (0, 0) => "not sent again yet".to_owned(),
        (0, probes) => format!("{} without an answer", count(probes.into(), "window probe")),
        (timeouts, _) => format!("{} without progress", count(timeouts.into(), "timeout")),
    };
    vec![
        format!("since {} nothing it sent was acknowledged", stall.since),
        format!(
            "{} wait for that: {} sent, {} not sent{head}",
            units::bytes(queue(stall)),
            units::bytes(stall.unacked_bytes.into()),
            units::bytes(stall.unsent_bytes.into())
        ),
        format!(
            "{tries}; the next is due {} after the last",
            ago(stall.rto_seconds)
        ),
        format!(
            "last sent {} ago, last heard {} ago",
            ago(stall.last_sent_seconds),
            ago(stall.last_ack_seconds)
        ),
    ]
}

fn rests_on(stall: &api::Stall) -> Vec<String> {
    let mut points = vec![format!("{}: {}", stall.cause, clean(&stall.because))];
    points.push(format!(
        "segments of up to {} bytes; the peer's window is {}{}",
        stall.mss,
        units::bytes(stall.peer_window_bytes.into()),
        stall.srtt_seconds.map_or(String::new(), |it| format!(
            "; round trip {}",
            units::age(it)
        ))
    ));
    if let Some(excluded) = stall.excluded {
        points.push(format!("not held against the upstream ({excluded})"));
    }
    if let Some(now) = stall.nexthop_now.filter(|it| Some(*it) != stall.nexthop) {
        points.push(format!(
            "the route has changed since: it now goes via {now}"
        ));
    }
    points
}

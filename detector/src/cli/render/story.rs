//! `tcpstall explain ID`: the story of one connection.
//!
//! **Invariant:** nothing is concluded here; the evidence is retold.

use super::{
    explain::verdict,
    next::{self, Place},
    page::Page,
    stalls::process,
    status::elsewhere,
    timeline::{timeline, waits_for_ever},
    units, via,
};
use crate::{
    api,
    model::{Cause, Phase},
    serve::words::{cause, clean, count, stalled},
};

/// The connection that an id, or the beginning of one, means.
///
/// # Errors
/// Why there is none, or which ones it could be.
pub(in crate::cli) fn find<'a>(
    stalls: &'a [api::Stall],
    id: &str,
) -> Result<&'a api::Stall, String> {
    const MOST: usize = 5;
    let fits: Vec<_> = stalls.iter().filter(|it| it.id.starts_with(id)).collect();
    match fits.as_slice() {
        [] => Err(format!(
            "{id} is neither stalled nor suspect now: it makes progress again, has ended, or \
             never was; `tcpstall stalls` lists those that are"
        )),
        [one] => Ok(one),
        several => {
            if let Some(exact) = several.iter().find(|it| it.id == id) {
                return Ok(exact);
            }
            let mut ids: Vec<_> = several.iter().take(MOST).map(|it| clean(&it.id)).collect();
            if several.len() > MOST {
                ids.push(format!("{} more", several.len() - MOST));
            }
            Err(format!(
                "{id} is the beginning of {} connections, give more of it: {}",
                several.len(),
                ids.join(", ")
            ))
        }
    }
}

/// The story of one connection.
pub(in crate::cli) fn explain_connection(
    stall: &api::Stall,
    status: &api::Status,
    width: usize,
) -> String {
    let opening = match stall.phase {
        Phase::Stalled => "has made no progress for",
        Phase::Suspect => "is suspect: no progress for",
    };
    let mut page = Page::new(width);
    page.sentence(&format!(
        "{} {opening} {}: {}.",
        clean(&stall.id),
        units::age(stall.stalled_seconds),
        cause(stall.cause)
    ));
    page.section("What it is", &identity(stall));
    page.heading("What happened");
    timeline(&mut page, stall, Some(status.observed_at));
    page.section("What it rests on", &rests_on(stall));
    let upstream = status.upstreams.iter().find(|it| it.name == stall.upstream);
    let whole = upstream.map_or_else(Vec::new, |it| whole(it, status));
    page.section("What its upstream does", &whole);
    let place = Place::of_connection(stall, upstream);
    let scope = upstream.and_then(|it| it.scope);
    page.steps(
        "What to check next",
        &next::steps(stall.cause, scope, &place),
    );
    page.text()
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
        "-" if stall.orphan => format!(
            "closed by its program (user {}); the kernel alone tries to deliver what is left",
            stall.uid
        ),
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
    points.extend(reports(stall));
    if waits_for_ever(stall) {
        points.push(
            "the kernel does not give it up as long as the peer answers its probes (RFC 1122); \
             the program can, or TCP_USER_TIMEOUT"
                .to_owned(),
        );
    }
    if let Some(excluded) = stall.excluded {
        points.push(format!("not held against the upstream ({excluded})"));
    }
    points
}

/// What others say of it.
pub(super) fn reports(stall: &api::Stall) -> Vec<String> {
    let mut points = Vec::new();
    if stall.duplicates > 0 {
        points.push(format!(
            "data arrives: the peer reports {}",
            count(stall.duplicates, "duplicate")
        ));
    }
    if let Some(what) = &stall.unreachable {
        let who = match stall.cause {
            Cause::Neighbour | Cause::Local => "this host's kernel",
            _ => "a router",
        };
        points.push(format!(
            "{who} reports the destination unreachable ({})",
            clean(what)
        ));
    }
    if stall.hole {
        points.push(format!(
            "data has arrived behind a hole that is not filled; {} in order before it",
            units::bytes(stall.received_bytes)
        ));
    }
    points
}

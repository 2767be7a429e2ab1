//! `tcpstall explain`: what a colleague would say who has looked at the numbers.
//!
//! **Invariant:** nothing is concluded here; the evidence is retold.

use super::{
    calm, evidence, gate,
    next::{self, Place},
    page::Page,
    status::{since, so_far},
    timeline, units,
};
use crate::{
    api,
    model::{Cause, Excluded, State},
    serve::words::{cause, clean, count},
};

/// Connections that are shown.
const TYPICAL: usize = 3;

/// Why an upstream is said to be what it is.
pub(in crate::cli) fn explain_upstream(
    upstream: &api::Upstream,
    status: &api::Status,
    stalls: &[api::Stall],
    width: usize,
) -> String {
    let mut page = Page::new(width);
    page.painted(&verdict(upstream, status), upstream.state);
    if let Some(sentence) = gate::sentence(upstream, status) {
        page.sentence(&sentence);
    }
    match upstream.state {
        State::Degraded | State::Failing => {
            let speaks_for = evidence::speaks_for(upstream, status, stalls);
            page.section("What speaks for trouble", &speaks_for);
            let speaks_against = evidence::speaks_against(upstream, status);
            page.section("What speaks against it", &speaks_against);
        }
        State::Ok => calm::ok(&mut page, upstream),
        State::Idle => calm::idle(&mut page, upstream),
    }
    page.section("Who was left out, and why", &not_counted(upstream));
    let typical = typical(stalls, upstream.cause);
    timeline::typical(&mut page, &typical);
    if let Some(cause) = upstream.cause {
        let place = Place::of_upstream(upstream, typical.first().copied());
        let steps = next::steps(cause, upstream.scope, &place);
        page.steps("What to check next", &steps);
    }
    page.text()
}

/// The judgement in one sentence, broken at `width`.
pub(in crate::cli) fn summary(status: &api::Status, width: usize) -> String {
    let mut page = Page::new(width);
    page.painted(&super::sentence(status), status.state);
    page.text()
}

/// What is said of an upstream, and how surely.
pub(super) fn verdict(upstream: &api::Upstream, status: &api::Status) -> String {
    let name = clean(&upstream.name);
    let span = since(upstream, status);
    let sure = units::certainty(upstream.confidence);
    let why = upstream
        .cause
        .map_or(String::new(), |it| format!(": {}", cause(it)));
    match upstream.state {
        State::Ok => format!("{name} has been ok for {span} (certainty {sure})."),
        State::Idle => format!("{name} has too little traffic to judge, for {span}."),
        State::Degraded | State::Failing => {
            format!(
                "{name} {} (certainty {sure}){why}.",
                so_far(upstream, status)
            )
        }
    }
}

fn not_counted(upstream: &api::Upstream) -> Vec<String> {
    let points = upstream.excluded.iter().filter(|(_, number)| **number > 0);
    points
        .map(|(reason, number)| {
            let why = match reason {
                Excluded::Idle => "nothing outstanding, and the last word was the peer's",
                Excluded::Waiting => "nothing outstanding; the peer has not answered yet",
                Excluded::AppLimited => "everything sent was acknowledged; no more was written",
                Excluded::ZeroWindow => "the peer does not read, which is its own doing",
                Excluded::OneDestination => {
                    "a destination has one vote, however many connections it has"
                }
                Excluded::Elsewhere => {
                    "their destinations are stalled through upstreams that do well, too"
                }
                Excluded::Namespace => {
                    "nothing gets through to their network namespaces, and to others it does: look \
                     at the bridge, the cable or the policy of the container (`stalls` shows netns, \
                     process and control group)"
                }
                Excluded::Suspended => "they began to wait before the host was suspended",
            };
            format!("{} ({reason}): {why}", count(*number, "connection"))
        })
        .collect()
}

/// In order: the oldest of the upstream's cause, the oldest of each other cause, the oldest others;
/// not those whose peer does not read.
pub(super) fn typical(stalls: &[api::Stall], cause: Option<Cause>) -> Vec<&api::Stall> {
    let mut held: Vec<_> = stalls
        .iter()
        .filter(|it| it.cause != Cause::ZeroWindow)
        .collect();
    // Stable: the oldest stay first.
    held.sort_by_key(|it| Some(it.cause) != cause);
    let mut seen = Vec::new();
    let (first, rest): (Vec<_>, Vec<_>) = held.into_iter().partition(|it| {
        let new = !seen.contains(&it.cause);
        seen.push(it.cause);
        new
    });
    first.into_iter().chain(rest).take(TYPICAL).collect()
}

//! The JSON of the API as lines for people.
//!
//! **Invariant:** pure; nothing from outside reaches the text without
//! `words::clean`.

mod calm;
mod chart;
mod check;
mod clamp;
mod doctor;
mod evidence;
mod explain;
mod fleet;
mod gate;
mod groups;
mod incidents;
mod kill;
mod next;
mod page;
mod replay;
mod stakes;
mod stalls;
mod status;
mod story;
mod table;
#[cfg(test)]
pub(super) mod tests;
mod ticket;
mod timeline;
mod units;

pub(super) use self::{
    chart::bar,
    check::check,
    doctor::doctor,
    explain::{explain_upstream, summary},
    fleet::{ambiguous, fleet, unreachable},
    gate::{gate, unknown_gate},
    groups::{Key, grouped, groups},
    incidents::{incident, incidents, unknown_incident},
    kill::{killed, refusals, wide_killed, would_kill},
    replay::{recorded, replay},
    stalls::{process, queue, stalls},
    status::{all_via, event, sentence, since, stale, status},
    story::{explain_connection, find},
    ticket::{Ticket, doubts, past_ticket, ticket},
    units::{age, bytes},
};
use crate::{api, serve::words::clean};

/// Whether `text` is the id of a connection, such as `c-7f3a9c01`, or the beginning of one.
pub(super) fn is_id(text: &str) -> bool {
    text.strip_prefix("c-")
        .is_some_and(|it| !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// What to say when `name` is not the name of an upstream.
pub(super) fn unknown_upstream(name: &str, status: &api::Status) -> String {
    const MOST: usize = 20;
    let total = status.upstreams.len();
    let mut known: Vec<_> = status
        .upstreams
        .iter()
        .take(MOST)
        .map(|it| clean(&it.name))
        .collect();
    if total > MOST {
        known.push(format!("{} more (`tcpstall status`)", total - MOST));
    }
    let known = match known.as_slice() {
        [] => "no upstream has been seen yet".to_owned(),
        known => format!("known are {}", known.join(", ")),
    };
    format!("there is no upstream called {}; {known}", clean(name))
}

/// "gateway on interface", as far as it is known.
fn via(interface: Option<&str>, gateway: Option<std::net::IpAddr>) -> String {
    match (interface, gateway) {
        (Some(interface), Some(gateway)) => format!("{} via {gateway}", clean(interface)),
        (Some(interface), None) => clean(interface),
        (None, Some(gateway)) => format!("via {gateway}"),
        (None, None) => "unknown".to_owned(),
    }
}

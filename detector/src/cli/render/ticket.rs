//! `tcpstall ticket`: what a provider needs to know, ready to be sent.
//!
//! **Invariant:** nothing is concluded here; the evidence is retold. What is no business of a provider
//! stays out: processes, users, containers, how sure we are.

use std::{collections::BTreeSet, net::IpAddr};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{evidence, explain, incidents::time, page::Page, status::elsewhere, units};
use crate::{
    api::{self, Incident},
    model::Cause,
    serve::words::{clean, count, meaning, stalled},
};

/// Columns: mail quotes it.
const WIDTH: usize = 72;

/// A text for the provider of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Ticket {
    /// Upstream.
    pub(in crate::cli) upstream: String,
    /// One line.
    pub(in crate::cli) subject: String,
    /// The rest.
    pub(in crate::cli) body: String,
}

impl Ticket {
    /// The whole text.
    pub(in crate::cli) fn text(&self) -> String {
        format!("Subject: {}\n\n{}", self.subject, self.body)
    }
}

/// Trouble that goes on; `incident` is its record, when there is one.
pub(in crate::cli) fn ticket(
    upstream: &api::Upstream,
    status: &api::Status,
    stalls: &[api::Stall],
    incident: Option<&Incident>,
) -> Ticket {
    let began = incident.map_or(upstream.since, |it| it.started_at);
    let way = way(upstream, stalls);
    let goes_on = if upstream.destinations.stalled > 0 {
        "It goes on as we write"
    } else {
        "At this moment nothing is stuck, which is too soon to call it over"
    };
    let mut page = Page::new(WIDTH);
    page.sentence(&format!(
        "Since {}, TCP connections from our host {} {way} are established and then make no \
         progress{}. {goes_on}, at {}.",
        time(began),
        clean(&status.host),
        because(upstream.cause),
        time(status.observed_at),
    ));
    let mut pattern = Vec::new();
    pattern.extend(evidence::sizes(&upstream.evidence));
    pattern.extend(packets(&upstream.evidence, stalls));
    pattern.extend(evidence::losses(&upstream.evidence));
    pattern.extend(evidence::reports(stalls));
    page.section("What gets through", &pattern);
    page.section("How far it reaches", &reach(upstream, incident));
    page.section("What works meanwhile", &counter_examples(upstream, status));
    let typical = explain::typical(stalls, upstream.cause);
    page.section("Examples", &examples(&typical, status.observed_at));
    let local = typical.first().map(|it| it.local.ip());
    ask(&mut page, upstream.cause, &way, local);
    Ticket {
        upstream: upstream.name.clone(),
        subject: format!(
            "TCP connections {way} hang{} (since {})",
            because(upstream.cause),
            time(began)
        ),
        body: plain(page),
    }
}

/// Trouble that is not to be seen now; `upstream` is as it is now, when it is known still.
pub(in crate::cli) fn past_ticket(
    incident: &Incident,
    upstream: Option<&api::Upstream>,
    host: &str,
) -> Ticket {
    let way = upstream.and_then(only_way).unwrap_or_else(|| {
        format!(
            "through the link that we call {}",
            clean(&incident.upstream)
        )
    });
    let from = time(incident.started_at);
    let (host, why) = (clean(host), because(incident.cause));
    let mut page = Page::new(WIDTH);
    let when = match (incident.ended_at, &incident.note) {
        (Some(ended), None) => {
            let to = time(ended);
            page.sentence(&format!(
                "From {from} to {to} ({}), TCP connections from our host {host} {way} were \
                 established and then made no progress{why}.",
                units::age(incident.duration_seconds),
            ));
            format!("{from} to {to}")
        }
        // It has left our sight: that is no all-clear.
        (ended, _) => {
            let seen = incident.timeline.last().map(|it| it.at).or(ended);
            let seen = time(seen.unwrap_or(incident.started_at));
            page.sentence(&format!(
                "Since {from}, TCP connections from our host {host} {way} are established and then \
                 make no progress{why}. We last saw that at {seen}; since then we do not send enough \
                 there to tell whether it is over."
            ));
            format!("since {from}, last seen {seen}")
        }
    };
    let mut reach = vec![format!(
        "at the worst moment {} and {} stalled, {} not delivered",
        count(incident.peak_stalled_destinations, "destination"),
        count(incident.peak_stalled_connections, "connection"),
        units::bytes(incident.peak_outstanding_bytes)
    )];
    let known = incident.destinations.iter().map(|it| it.destination);
    let known: Vec<_> = known.collect();
    if !known.is_empty() {
        let shown = evidence::examples(&known, incident.peak_stalled_destinations);
        reach.push(format!("among them {shown}"));
    }
    reach.extend(relapses(incident));
    page.section("How far it reached", &reach);
    ask(&mut page, incident.cause, &way, None);
    Ticket {
        upstream: incident.upstream.clone(),
        subject: format!("TCP connections {way} hang{why} ({when})"),
        body: plain(page),
    }
}

/// What speaks against sending it, for the one who is about to.
pub(in crate::cli) fn doubts(upstream: &api::Upstream, status: &api::Status) -> Vec<String> {
    let mut points = evidence::doubts(upstream, status);
    points.extend(evidence::carrier(upstream, status));
    points
}

/// For mail, without anything that is meant for a terminal.
fn plain(page: Page) -> String {
    anstream::adapter::strip_str(&page.text()).to_string()
}

/// The place as the provider knows it: the leg at fault, else the gateways that stuck connections were
/// sent to.
fn way(upstream: &api::Upstream, stalls: &[api::Stall]) -> String {
    if let Some(leg) = &upstream.evidence.leg {
        return through(&leg.interface, leg.gateway);
    }
    let held = stalls.iter().filter(|it| it.cause != Cause::ZeroWindow);
    let gateways: BTreeSet<_> = held.filter_map(|it| it.nexthop).collect();
    let gateways: Vec<_> = gateways.iter().map(ToString::to_string).collect();
    match gateways.as_slice() {
        [] => only_way(upstream).unwrap_or_else(|| {
            let interface = upstream.interface.as_ref().unwrap_or(&upstream.name);
            through(interface, None)
        }),
        [one] => format!("through your gateway {one}"),
        several => format!("through your gateways {}", several.join(" and ")),
    }
}

/// Of an upstream with a single next hop.
fn only_way(upstream: &api::Upstream) -> Option<String> {
    match upstream.next_hops.as_slice() {
        [one] => Some(through(&one.interface, one.gateway)),
        _ => None,
    }
}

fn through(interface: &str, gateway: Option<IpAddr>) -> String {
    match gateway {
        Some(gateway) => format!("through your gateway {gateway}"),
        None => format!("through our link {}", clean(interface)),
    }
}

/// The sizes as a provider counts them. Most segments carry a time stamp (RFC 7323), twelve bytes.
fn packets(sizes: &api::Evidence, stalls: &[api::Stall]) -> Option<String> {
    let (passed, waiting) = (sizes.largest_passed_bytes?, sizes.smallest_waiting_bytes?);
    let ipv6 = stalls.first().is_some_and(|it| it.remote.is_ipv6());
    let headers = if ipv6 { 72 } else { 52 };
    Some(format!(
        "as packets, with the usual headers: {} bytes pass, {} do not",
        passed + headers,
        waiting + headers
    ))
}

fn because(cause: Option<Cause>) -> String {
    cause.map_or(String::new(), |it| format!(": {}", meaning(it)))
}

fn reach(upstream: &api::Upstream, incident: Option<&Incident>) -> Vec<String> {
    let destinations = upstream.destinations;
    let mut first = stalled(destinations);
    if destinations.stalled > 0 {
        let shown = evidence::examples(&upstream.stalled_destinations, destinations.stalled);
        first.push_str(&format!(": {shown}"));
    }
    let mut points = vec![
        first,
        format!(
            "{} of {} stuck, {} not delivered",
            upstream.connections.stalled + upstream.connections.suspect,
            count(upstream.connections.active, "sending connection"),
            units::bytes(upstream.outstanding_bytes)
        ),
    ];
    points.extend(evidence::leg(&upstream.evidence));
    points.extend(incident.and_then(relapses));
    points
}

fn relapses(incident: &Incident) -> Option<String> {
    (incident.relapses > 0).then(|| {
        format!(
            "it seemed to be over {}, and came back within a minute",
            count(incident.relapses, "time")
        )
    })
}

fn counter_examples(upstream: &api::Upstream, status: &api::Status) -> Vec<String> {
    let mut points = Vec::new();
    points.extend(evidence::counterfactual(upstream));
    let other = elsewhere(upstream, status);
    if other.active > 0 {
        points.push(format!(
            "through our other links {} at the same time",
            stalled(other)
        ));
    }
    points.extend(evidence::progress(upstream).map(|it| format!("on the same way {it}")));
    points
}

/// A connection each, with the moments that a provider can look for.
fn examples(typical: &[&api::Stall], now: Timestamp) -> Vec<String> {
    let mut points: Vec<_> = typical.iter().map(|it| example(it, now)).collect();
    if typical.iter().any(|it| is_private(it.local.ip())) {
        points.push("our addresses in this list are private: you see them translated".to_owned());
    }
    points
}

fn example(stall: &api::Stall, now: Timestamp) -> String {
    let at = |seconds: f64| {
        let ago = SignedDuration::try_from_secs_f64(seconds).unwrap_or_default();
        time(now.checked_sub(ago).unwrap_or(Timestamp::MIN))
    };
    let mut text = format!(
        "{} to {}: last acknowledgement {}",
        stall.local,
        stall.remote,
        at(stall.last_ack_seconds)
    );
    if stall.unacked_bytes > 0 {
        text.push_str(&format!(
            ", {} unacknowledged since {}",
            units::bytes(stall.unacked_bytes.into()),
            time(stall.since)
        ));
    }
    if stall.retransmits > 0 {
        text.push_str(&format!(
            ", sent again {}, the last time {}",
            count(stall.retransmits.into(), "time"),
            at(stall.last_sent_seconds)
        ));
    }
    text
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(it) => it.is_private(),
        IpAddr::V6(it) => it.is_unique_local(),
    }
}

/// What the provider is asked, by cause; `local` is one of our addresses.
fn ask(page: &mut Page, cause: Option<Cause>, way: &str, local: Option<IpAddr>) {
    let us = local.map_or_else(|| "us".to_owned(), |it| it.to_string());
    let question = match cause {
        Some(Cause::Mtu) => {
            "whether a link, a tunnel or a device there carries smaller packets than before, and \
             whether ICMP \"fragmentation needed\" (IPv4) and \"packet too big\" (IPv6) are dropped"
                .to_owned()
        }
        Some(Cause::Blackhole) => {
            "whether a router, a line card, a member of a link bundle or one of several equal paths \
             takes packets and does not pass them on; a ping or a handshake that gets through proves \
             little"
                .to_owned()
        }
        Some(Cause::Loss) => {
            "errors, drops and full queues of the links there".to_owned()
        }
        Some(Cause::ReturnPath) => format!(
            "the way back to {us}: our data arrives, as the peers report, and their \
             acknowledgements do not; look for routes, for filters that see one direction only, \
             and for checks of source addresses (RFC 3704)"
        ),
        Some(Cause::ReceiveHole) => format!(
            "the way towards {us}: data arrives with a hole that repetitions do not fill, as if \
             certain segments were always dropped"
        ),
        Some(Cause::Neighbour) => {
            "why your router does not answer ARP (IPv4) or neighbour discovery (IPv6) on our link"
                .to_owned()
        }
        Some(Cause::Local | Cause::ZeroWindow | Cause::Unknown) | None => {
            "what has changed there at that time".to_owned()
        }
    };
    page.section(
        "What we ask you to look for",
        &[format!("{way}: {question}")],
    );
}

#[cfg(test)]
mod tests;

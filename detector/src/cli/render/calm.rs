//! `tcpstall explain` of an upstream that is fine, or of which nothing is known.
//!
//! **Invariant:** nothing is concluded here; the evidence is retold.

use super::{evidence, page::Page, units};
use crate::{
    api,
    serve::words::{count, stalled},
};

/// Why it is ok, what speaks against that, and what would change it.
pub(super) fn ok(page: &mut Page, upstream: &api::Upstream) {
    let mut why = Vec::new();
    why.extend(evidence::progress(upstream));
    why.extend(evidence::lost(&upstream.evidence));
    page.section("Why it is ok", &why);
    page.section("What could be wrong all the same", &doubts(upstream));
    let would = [
        "at least three destinations that stall at the same time, more than chance explains: it \
         is `degraded`, or `failing` when they are half of them or more"
            .to_owned(),
        "no traffic to judge for half a minute: it is `idle`".to_owned(),
    ];
    page.section("What would change it", &would);
}

/// What is missing, and what would change it.
pub(super) fn idle(page: &mut Page, upstream: &api::Upstream) {
    page.section("What is missing", &missing(upstream));
    let would = [
        "as soon as three destinations have something to send, it is judged; tcpstall sends \
         nothing itself, so a link that nobody uses stays `idle`"
            .to_owned(),
    ];
    page.section("What would change it", &would);
}

fn doubts(upstream: &api::Upstream) -> Vec<String> {
    let mut points = Vec::new();
    let connections = upstream.connections;
    if upstream.destinations.stalled > 0 {
        let usual = evidence::usual(&upstream.evidence).map_or(String::new(), |usual| {
            let chance = upstream.evidence.chance;
            let expected = match chance {
                Some(chance) if chance < 0.01 => "more than usual, and not surely too many",
                _ => "no more than usual",
            };
            format!(": {expected} ({usual})")
        });
        points.push(format!("{}{usual}", stalled(upstream.destinations)));
    }
    if connections.stalled + connections.suspect > 0 {
        points.push(format!(
            "{} stalled, {} suspect",
            count(connections.stalled, "connection"),
            connections.suspect
        ));
    }
    if points.is_empty() {
        points.push("nothing that was seen".to_owned());
    }
    points.extend(evidence::pauses(&upstream.evidence));
    points.push(format!(
        "that it only seems so because of a few that happen to do well: a chance of {}",
        units::share(1.0 - upstream.confidence)
    ));
    points
}

fn missing(upstream: &api::Upstream) -> Vec<String> {
    let connections = upstream.connections;
    let here = match (connections.established, connections.active) {
        (0, _) => "no connection goes through it".to_owned(),
        (all, 0) => format!(
            "{} through it, and none of them has sent anything lately",
            count(all, "connection")
        ),
        (all, active) => format!(
            "{} through it, of which {active} sent something lately",
            count(all, "connection")
        ),
    };
    let destinations = upstream.destinations;
    let mut points = vec![
        here,
        format!(
            "{} had something to send lately, and fewer than three say nothing of an upstream",
            match destinations.active {
                0 => "no destination".to_owned(),
                active => count(active, "destination"),
            }
        ),
    ];
    if destinations.stalled > 0 {
        points.push(format!(
            "{}; that can be the far ends' own trouble",
            stalled(destinations)
        ));
    }
    points
}

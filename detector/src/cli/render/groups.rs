//! `tcpstall stalls --by KEY`.
//!
//! **Invariant:** every connection is in exactly one group.

use std::collections::{BTreeMap, BTreeSet};

use comfy_table::Cell;
use serde::Serialize;

use super::{
    stalls::queue,
    table::{numbers, table, words},
    units,
};
use crate::{
    api,
    model::{Cause, Phase},
    serve::words::clean,
};

/// What to group by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum Key {
    Upstream,
    Nexthop,
    Interface,
    Destination,
    Process,
    Cgroup,
    Netns,
    Cause,
    Port,
}

/// Connections that have something in common.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(in crate::cli) struct Group {
    /// What they have in common; `null` when it is not known.
    key: Option<String>,
    stalled: u32,
    suspect: u32,
    destinations: usize,
    outstanding_bytes: u64,
    oldest_stall_seconds: f64,
    causes: BTreeMap<Cause, u32>,
}

/// The connections by `key`, the largest group first.
pub(in crate::cli) fn groups(stalls: &[api::Stall], key: Key) -> Vec<Group> {
    let mut members: BTreeMap<Option<String>, Vec<&api::Stall>> = BTreeMap::new();
    for stall in stalls {
        members.entry(value(stall, key)).or_default().push(stall);
    }
    let mut groups: Vec<_> = members
        .into_iter()
        .map(|(key, it)| group(key, &it))
        .collect();
    groups.sort_by_key(|it| std::cmp::Reverse((it.stalled, it.suspect)));
    groups
}

/// A row per group.
pub(in crate::cli) fn grouped(groups: &[Group], key: Key) -> String {
    let columns = [
        words(heading(key)),
        numbers("STALLED"),
        numbers("SUSPECT"),
        numbers("DESTINATIONS"),
        numbers("TRAPPED"),
        numbers("OLDEST"),
        words("CAUSES"),
    ];
    let rows = groups.iter().map(|it| {
        let causes: Vec<_> = it.causes.iter().map(|(k, v)| format!("{k} {v}")).collect();
        vec![
            Cell::new(it.key.as_deref().map_or_else(|| "-".to_owned(), clean)),
            Cell::new(it.stalled),
            Cell::new(it.suspect),
            Cell::new(it.destinations),
            Cell::new(units::bytes(it.outstanding_bytes)),
            Cell::new(units::age(it.oldest_stall_seconds)),
            Cell::new(causes.join(", ")),
        ]
    });
    table(&columns, rows.collect())
}

fn group(key: Option<String>, members: &[&api::Stall]) -> Group {
    let mut group = Group {
        key,
        stalled: 0,
        suspect: 0,
        destinations: 0,
        outstanding_bytes: 0,
        oldest_stall_seconds: 0.0,
        causes: BTreeMap::new(),
    };
    for stall in members {
        match stall.phase {
            Phase::Stalled => group.stalled += 1,
            Phase::Suspect => group.suspect += 1,
        }
        group.outstanding_bytes += queue(stall);
        group.oldest_stall_seconds = group.oldest_stall_seconds.max(stall.stalled_seconds);
        *group.causes.entry(stall.cause).or_default() += 1;
    }
    group.destinations = members
        .iter()
        .map(|it| it.destination)
        .collect::<BTreeSet<_>>()
        .len();
    group
}

fn value(stall: &api::Stall, key: Key) -> Option<String> {
    match key {
        Key::Upstream => Some(stall.upstream.clone()),
        Key::Nexthop => next_hop(stall),
        Key::Interface => stall.interface.clone(),
        Key::Destination => Some(stall.destination.to_string()),
        Key::Process => stall.process.clone(),
        Key::Cgroup => stall.cgroup.clone(),
        Key::Netns => Some(stall.netns.0.to_string()),
        Key::Cause => Some(stall.cause.to_string()),
        Key::Port => Some(stall.remote.port().to_string()),
    }
}

/// `GATEWAY%INTERFACE`, as upstreams without a name are called.
fn next_hop(stall: &api::Stall) -> Option<String> {
    let interface = stall.interface.as_deref()?;
    Some(match stall.nexthop {
        Some(gateway) => format!("{gateway}%{interface}"),
        None => interface.to_owned(),
    })
}

fn heading(key: Key) -> &'static str {
    match key {
        Key::Upstream => "UPSTREAM",
        Key::Nexthop => "NEXT HOP",
        Key::Interface => "INTERFACE",
        Key::Destination => "DESTINATION",
        Key::Process => "PROCESS",
        Key::Cgroup => "CGROUP",
        Key::Netns => "NETNS",
        Key::Cause => "CAUSE",
        Key::Port => "PORT",
    }
}

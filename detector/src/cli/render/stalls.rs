//! `tcpstall stalls`.
//!
//! **Invariant:** a row per connection, in the order given.

use comfy_table::Cell;

use super::{
    table::{Column, numbers, phase, table, words},
    units, via,
};
use crate::{api, serve::words::clean};

/// A row per connection.
pub(in crate::cli) fn stalls(stalls: &[api::Stall], wide: bool) -> String {
    table(
        &columns(wide),
        stalls.iter().map(|it| row(it, wide)).collect(),
    )
}

/// "smtpd (4711)", as far as it is known.
pub(in crate::cli) fn process(stall: &api::Stall) -> String {
    match (&stall.process, stall.pid) {
        (Some(process), Some(pid)) => format!("{} ({pid})", clean(process)),
        (Some(process), None) => clean(process),
        (None, Some(pid)) => format!("({pid})"),
        (None, None) => "-".to_owned(),
    }
}

/// Written and not acknowledged.
pub(in crate::cli) fn queue(stall: &api::Stall) -> u64 {
    u64::from(stall.unacked_bytes) + u64::from(stall.unsent_bytes)
}

fn columns(wide: bool) -> Vec<Column> {
    let mut columns = vec![
        words("ID"),
        words("PHASE"),
        words("CAUSE"),
        numbers("AGE"),
        words("UPSTREAM"),
        words("LOCAL"),
        words("REMOTE"),
        numbers("QUEUE"),
        numbers("RETRIES"),
        numbers("RTO"),
        words("PROCESS"),
    ];
    if wide {
        columns.extend([
            words("VIA"),
            words("TCP STATE"),
            numbers("MSS"),
            numbers("WINDOW"),
            numbers("RTT"),
            numbers("UID"),
            numbers("NETNS"),
            words("CGROUP"),
            words("NOT COUNTED"),
            words("BECAUSE"),
        ]);
    }
    columns
}

fn row(stall: &api::Stall, wide: bool) -> Vec<Cell> {
    let none = || "-".to_owned();
    let mut row = vec![
        Cell::new(clean(&stall.id)),
        phase(stall.phase),
        Cell::new(stall.cause),
        Cell::new(units::age(stall.stalled_seconds)),
        Cell::new(clean(&stall.upstream)),
        Cell::new(stall.local),
        Cell::new(stall.remote),
        Cell::new(units::bytes(queue(stall))),
        Cell::new(stall.retransmits.max(stall.probes)),
        Cell::new(units::age(stall.rto_seconds)),
        Cell::new(process(stall)),
    ];
    if wide {
        row.extend([
            Cell::new(via(stall.interface.as_deref(), stall.nexthop)),
            Cell::new(stall.tcp_state),
            Cell::new(stall.mss),
            Cell::new(units::bytes(stall.peer_window_bytes.into())),
            Cell::new(stall.srtt_seconds.map_or_else(none, units::age)),
            Cell::new(stall.uid),
            Cell::new(stall.netns.0),
            Cell::new(stall.cgroup.as_deref().map_or_else(none, clean)),
            Cell::new(stall.excluded.map_or_else(none, |it| it.to_string())),
            Cell::new(clean(&stall.because)),
        ]);
    }
    row
}

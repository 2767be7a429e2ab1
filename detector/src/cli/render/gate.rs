//! Gates: what failover programs are told, and why.
//!
//! **Invariant:** pure; `check --gate` gets one line.

use jiff::Timestamp;

use super::{stale, units, unknown_upstream};
use crate::{
    api,
    model::{Gate, Scope, State},
    serve::words::clean,
};

/// What the daemon says of a gate, with a line for whoever looks at it; else why that is not known.
pub(in crate::cli) fn gate(
    status: Result<&api::Status, &String>,
    name: &str,
    now: Timestamp,
) -> Result<(Gate, String), String> {
    let status = status.map_err(Clone::clone)?;
    if let Some(why) = stale(status, now) {
        return Err(why);
    }
    let Some(upstream) = status.upstreams.iter().find(|it| it.name == name) else {
        return Err(unknown_upstream(name, status));
    };
    let Some(gate) = upstream.gate else {
        let name = clean(name);
        return Err(format!("{name} has no gate: the configuration gives none"));
    };
    let why = match gate {
        Gate::Open => "its gate is open".to_owned(),
        Gate::Closed => closed(upstream),
    };
    Ok((gate, line(name, gate, &why)))
}

/// The line for a gate of which the daemon says nothing.
pub(in crate::cli) fn unknown_gate(name: &str, gate: Gate, because: &str, why: &str) -> String {
    line(name, gate, &format!("{because} ({why})"))
}

/// What is out of the ordinary, in a sentence: a gate that is closed, or is kept open.
pub(super) fn sentence(upstream: &api::Upstream, status: &api::Status) -> Option<String> {
    let name = clean(&upstream.name);
    let others = || {
        status
            .upstreams
            .iter()
            .filter(|it| it.name != upstream.name)
    };
    match upstream.gate? {
        Gate::Closed => Some(format!(
            "Failover programs are told to avoid {name}: {}.",
            closed(upstream)
        )),
        Gate::Open if upstream.state == State::Failing => {
            let last = upstream.scope == Some(Scope::Upstream)
                && others().all(|it| it.gate != Some(Gate::Open));
            last.then(|| {
                format!(
                    "Failover programs are told to use {name} although it is failing: no other gate \
                     is open."
                )
            })
        }
        Gate::Open => None,
    }
}

fn closed(upstream: &api::Upstream) -> String {
    match upstream.gate_opens_seconds {
        Some(seconds) => format!(
            "its gate is closed, and opens in {} if nothing happens",
            units::age(seconds)
        ),
        None => "its gate is closed until it has been neither failing nor degraded for a while"
            .to_owned(),
    }
}

fn line(name: &str, gate: Gate, why: &str) -> String {
    let advice = match gate {
        Gate::Open => "use it",
        Gate::Closed => "avoid it",
    };
    format!("{}: {advice}; {}\n", clean(name), clean(why))
}

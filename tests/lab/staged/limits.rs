//! Which worlds the laboratory can make.

use anyhow::{Result, bail};

use crate::{
    network::UPSTREAMS,
    simulator::{
        Nanos,
        scenario::{FaultKind, Range, Scenario, Span},
    },
};

/// Time there and back in the laboratory, as the host's TCP measures it while the machine has little
/// to do; what the simulator is given in place of the file's.
pub const ROUND_TRIP: Nanos = 50_000;

/// Destinations of all upstreams together: each has a /16 of `PEERS` when it is a site of its own.
const DESTINATIONS: u64 = 64;
/// Connections of all upstreams together that two processors carry without delay.
const CONNECTIONS: u64 = 1000;

/// The scenario as the laboratory can stage it: the same, with its round trips.
///
/// # Errors
/// It cannot; why, in a sentence.
pub fn adapted(scenario: &Scenario) -> Result<Scenario> {
    if let Some(reason) = refusal(scenario) {
        bail!(
            "{}: the laboratory cannot stage this scenario: {reason}",
            scenario.name
        );
    }
    let mut scenario = scenario.clone();
    scenario.world.rtt = Range::just(Span(ROUND_TRIP));
    Ok(scenario)
}

/// What stands in the way; the first that applies.
fn refusal(scenario: &Scenario) -> Option<String> {
    let shape = &scenario.world;
    if let Some(trap) = scenario.traps().first() {
        return Some(format!(
            "traps such as {trap:?} are set in virtual time only"
        ));
    }
    if shape.upstreams.high.0 > UPSTREAMS as u64 {
        return Some(format!(
            "it has {UPSTREAMS} upstreams, and {} are asked for",
            shape.upstreams.high.0
        ));
    }
    if shape.rtt.low != shape.rtt.high {
        return Some(
            "it cannot delay packets, and the scenario is about peers near and far".to_owned(),
        );
    }
    let each = [
        ("destinations", shape.destinations.high.0, DESTINATIONS),
        ("connections", shape.connections.high.0, CONNECTIONS),
    ];
    for (what, wanted, limit) in each {
        let wanted = wanted * shape.upstreams.high.0;
        if wanted > limit {
            return Some(format!(
                "it has room for {limit} {what}, and {wanted} are asked for"
            ));
        }
    }
    let broken = scenario.fault.as_ref()?;
    let share = 100.0 * broken.severity.unwrap_or(0.0);
    if (share - share.round()).abs() > 1e-6 {
        return Some(format!("it loses whole per cents, and not {share} %"));
    }
    let partial = broken.connections < 1.0 || broken.destinations < 1.0;
    if partial && matches!(broken.kind, FaultKind::Neighbour | FaultKind::Local) {
        return Some("a gateway or a firewall fails for everybody or for nobody".to_owned());
    }
    None
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn refused(text: &str) -> String {
        let text = format!("name = \"it\"\nabout = \"it\"\n{text}");
        let scenario = Scenario::parse(Path::new("it.toml"), &text).unwrap();
        refusal(&scenario).unwrap_or_default()
    }

    #[test]
    fn what_cannot_be_staged_is_refused_with_a_sentence() {
        let fault = "[fault]\nlasts = \"20s\"\n";
        let cases = [
            ("[world]\nevery_trap = true\n", "virtual time only"),
            ("[world]\nupstreams = [2, 5]\n", "3 upstreams, and 5"),
            ("[world]\nrtt = [\"1ms\", \"300ms\"]\n", "cannot delay"),
            ("[world]\ndestinations = 40\n", "64 destinations, and 120"),
            (
                "[world]\nconnections = [10, 500]\n",
                "1000 connections, and 1500",
            ),
            (
                &format!("[world]\n{fault}kind = \"loss\"\nseverity = 0.125\n"),
                "whole per cents",
            ),
            (
                &format!("[world]\n{fault}kind = \"local\"\ndestinations = 0.5\n"),
                "everybody or for nobody",
            ),
        ];
        for (text, words) in cases {
            let reason = refused(text);
            assert!(reason.contains(words), "{text}: {reason}");
        }
        for text in [
            "[world]\n".to_owned(),
            format!("[world]\n{fault}kind = \"blackhole\"\ndestinations = 0.5\n"),
            format!("[world]\n{fault}kind = \"loss\"\nseverity = 0.3\n"),
        ] {
            assert_eq!(refused(&text), "", "{text}");
        }
    }

    #[test]
    fn a_refusal_names_the_scenario_and_what_is_staged_keeps_its_world() {
        let far = adapted(&Scenario::named("blackhole-far").unwrap());
        let said = far.unwrap_err().to_string();
        assert!(
            said.starts_with("blackhole-far: the laboratory cannot"),
            "{said}"
        );
        let file = Scenario::named("blackhole").unwrap();
        let near = adapted(&file).unwrap();
        assert_eq!(near.world.rtt, Range::just(Span(ROUND_TRIP)));
        assert_eq!(near.world.message_every, file.world.message_every);
        assert_eq!(near.expect, file.expect);
    }
}

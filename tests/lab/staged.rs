//! A scenario file, staged: the world that the simulator makes up, with real sockets and the real
//! detector.
//!
//! Who talks to whom, how much and how often, what breaks, where and when is drawn by the
//! simulator's own code: the same seed gives both the same world. What was said is judged by the
//! simulator's code, too. What differs is what lies between: the kernel's TCP instead of a model of
//! it, the daemon instead of a loop, a clock that cannot be turned forward.
//!
//! Delay is the one thing of a world that the laboratory cannot make (the development kernel has
//! no `netem`): [`adapted`] gives the scenario at the laboratory's distance, for both to run.

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use detector::model::State;
use serde_json::Value;

use crate::{
    daemon::Daemon,
    network::{Lab, UPSTREAMS},
    signal,
    simulator::{
        Nanos, nanos, population,
        run::{self, Outcome, Peace, Trouble},
        scenario::{Break, Scenario},
        watcher::{self, Turn},
        world::World,
    },
    traffic::Traffic,
};

#[path = "staged/expect.rs"]
mod expect;
#[path = "staged/fault.rs"]
mod fault;
#[path = "staged/limits.rs"]
mod limits;
#[path = "staged/talk.rs"]
mod talk;

pub use expect::missed;
pub use limits::{ROUND_TRIP, adapted};

/// Healthy at first, so many seconds; a minute of it, as the simulator takes it by itself, would say
/// no more and take all day. The difference is two of the slots of three seconds in which the engine
/// adds up loss: no moment of a slot is more likely than another for the fault to begin.
pub const WARM_UP: (f64, f64) = (6.0, 12.0);

/// Destinations have the simulator's addresses; those of the links are above.
const PEERS: &str = "100.0.0.0/10";
/// So long all may take until every connection stands, and the detector has found everything `ok`.
const SETTLED: Duration = Duration::from_secs(20);
/// After the first bad word somebody else may yet be blamed.
const OTHERS: Duration = Duration::from_secs(3);
/// How soon an interruption is noticed.
const STEP: Duration = Duration::from_millis(20);

/// Stages a scenario with its fault, for as long as the fault lasts in the file but at most so long;
/// it ends when all is said.
///
/// # Errors
/// The laboratory cannot make this world, or something failed that has to work.
pub fn with_fault(
    scenario: &Scenario,
    broken: &Break,
    seed: u64,
    longest: Duration,
) -> Result<Outcome> {
    let scenario = adapted(scenario)?;
    let world = population::build(&scenario, seed);
    let trouble = Trouble::draw(broken, &world, seed, WARM_UP);
    let faulty = trouble.faulty();
    let mut stage = Stage::set(&world, seed)?;
    stage.listen(Duration::from_nanos(trouble.after), |_| false)?;
    // All of them at the same time, as far as that can be.
    let mut before = None;
    for (upstream, fault) in &trouble.faults {
        let broken = fault::install(&stage.lab, &world, *upstream, fault)?;
        before.get_or_insert(broken);
    }
    let onset = stage.since_start(before.context("nothing breaks")?);
    let longest = longest.min(Duration::from_nanos(broken.lasts.0));
    let repair = onset + longest.as_nanos() as Nanos;
    let left = Duration::from_nanos(repair).saturating_sub(stage.began.elapsed());
    stage.listen(left, |stage| {
        let outcome = run::judged(&stage.turns, &faulty, onset, repair);
        let now = stage.since_start(Instant::now());
        is_all_said(&scenario, &outcome, now.saturating_sub(onset))
    })?;
    let mut outcome = run::judged(&stage.turns, &faulty, onset, repair);
    outcome.seed = seed;
    outcome.upstream_seconds = stage.began.elapsed().as_secs_f64() * world.upstreams.len() as f64;
    stage.strike()?;
    Ok(outcome)
}

/// Stages a scenario without a fault for so long.
///
/// # Errors
/// The same.
pub fn in_peace(scenario: &Scenario, seed: u64, span: Duration) -> Result<Peace> {
    let scenario = adapted(scenario)?;
    let world = population::build(&scenario, seed);
    let mut stage = Stage::set(&world, seed)?;
    stage.listen(span, |_| false)?;
    let alarms = stage.turns.iter().filter(|turn| run::is_bad(turn.to));
    let peace = Peace {
        seed,
        alarms: alarms.map(|turn| (turn.clone(), None)).collect(),
        rules: [0; 2],
        upstream_seconds: span.as_secs_f64() * world.upstreams.len() as f64,
    };
    stage.strike()?;
    Ok(peace)
}

/// Whether a run can end, so long after the fault: it was found, the cause is the one that is
/// expected or will not become clearer, and others had their time to be blamed.
fn is_all_said(scenario: &Scenario, outcome: &Outcome, age: Nanos) -> bool {
    let Some(found) = outcome.found else {
        return false;
    };
    let wanted = scenario.expect.cause;
    let clear = wanted.is_none() || [outcome.cause, outcome.cause_later].contains(&wanted);
    let since = age.saturating_sub(nanos(found));
    let others = OTHERS.as_nanos() as Nanos;
    since >= run::CLEARER || (clear && outcome.failing.is_some() && since >= others)
}

/// A world that stands, with its detector.
#[derive(Debug)]
struct Stage {
    // In the order in which they go.
    events: Receiver<(Instant, Value)>,
    daemon: Daemon,
    traffic: Traffic,
    lab: Lab,
    /// All was `ok` then.
    began: Instant,
    /// What was said since.
    turns: Vec<Turn>,
}

impl Stage {
    /// Builds it, connects everybody, and waits until the detector finds nothing wrong.
    fn set(world: &World, seed: u64) -> Result<Self> {
        let lab = Lab::start(world.upstreams.len())?;
        lab.net.ip(&format!("route add local {PEERS} dev lo\n"))?;
        for upstream in 0..lab.upstreams.len() {
            fault::lose_as_ever(&lab, world, upstream)?;
        }
        let traffic = talk::start(&lab, world, seed)?;
        let end = Instant::now() + SETTLED;
        while traffic.counters.connected() < world.slots.len() as u64 {
            signal::check()?;
            ensure!(
                Instant::now() < end,
                "{} of {} connections stand after {SETTLED:?}",
                traffic.counters.connected(),
                world.slots.len()
            );
            thread::sleep(STEP);
        }
        let daemon = Daemon::start(&lab)?;
        let events = daemon.events()?;
        daemon.wait_until(SETTLED, "every upstream is ok", |status| {
            let is_ok = |name| status.state_of(name) == "ok";
            lab.upstreams.iter().all(|upstream| is_ok(upstream.name))
        })?;
        Ok(Self {
            events,
            daemon,
            traffic,
            lab,
            began: Instant::now(),
            turns: Vec::new(),
        })
    }

    /// Notes what is said for so long, or until it is `enough`.
    fn listen(&mut self, span: Duration, enough: impl Fn(&Self) -> bool) -> Result<()> {
        let end = Instant::now() + span;
        while Instant::now() < end && !enough(self) {
            signal::check()?;
            match self.events.recv_timeout(STEP) {
                Ok((at, event)) => {
                    let turn = turn(self.since_start(at), &event);
                    self.turns
                        .push(turn.with_context(|| format!("not an event: {event}"))?);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    bail!(
                        "the detector has ended its events; it said:\n{}",
                        self.daemon.log()
                    )
                }
            }
        }
        Ok(())
    }

    fn since_start(&self, at: Instant) -> Nanos {
        at.saturating_duration_since(self.began).as_nanos() as Nanos
    }

    /// Ends it; the detector must end well.
    fn strike(self) -> Result<()> {
        drop(self.traffic);
        self.daemon.stop()
    }
}

/// An event as the simulator writes it down.
fn turn(at: Nanos, event: &Value) -> Option<Turn> {
    let name = event["upstream"].as_str()?;
    let count = |key: &str| Some(event["destinations"][key].as_u64()? as u32);
    let state = |key: &str| serde_json::from_value::<State>(event[key].clone()).ok();
    Some(Turn {
        at,
        upstream: (0..UPSTREAMS).find(|index| watcher::name(*index) == name)?,
        from: state("from")?,
        to: state("to")?,
        cause: serde_json::from_value(event["cause"].clone()).ok()?,
        scope: serde_json::from_value(event["scope"].clone()).ok()?,
        votes: (count("stalled")?, count("active")?),
    })
}

#[cfg(test)]
mod tests {
    use detector::model::{Cause, Scope};
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_a_turn() {
        let event = json!({
            "at": "2025-01-01T00:00:00Z", "upstream": "provider-b", "from": "ok", "to": "failing",
            "scope": "upstream", "cause": "mtu", "confidence": 0.5,
            "destinations": { "active": 34, "stalled": 31 }, "stuck_connections": 57,
        });
        let turn = turn(5, &event).unwrap();
        assert_eq!((turn.at, turn.upstream), (5, 1));
        assert_eq!((turn.from, turn.to), (State::Ok, State::Failing));
        assert_eq!(turn.cause, Some(Cause::Mtu));
        assert_eq!((turn.scope, turn.votes), (Some(Scope::Upstream), (31, 34)));
        assert_eq!(super::turn(5, &json!({"upstream": "elsewhere"})), None);
    }

    #[test]
    fn a_run_ends_when_all_is_said() {
        let scenario = Scenario::named("mtu").unwrap();
        let found = Outcome {
            found: Some(2.0),
            failing: Some(2.0),
            cause: Some(Cause::Mtu),
            ..Outcome::default()
        };
        let second = crate::simulator::SECOND;
        assert!(!is_all_said(&scenario, &Outcome::default(), 60 * second));
        assert!(
            !is_all_said(&scenario, &found, 4 * second),
            "others may follow"
        );
        assert!(is_all_said(&scenario, &found, 6 * second));
        let unclear = Outcome {
            cause: Some(Cause::Blackhole),
            ..found
        };
        assert!(!is_all_said(&scenario, &unclear, 6 * second));
        assert!(is_all_said(&scenario, &unclear, 13 * second));
    }
}

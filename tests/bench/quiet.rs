//! Minutes of healthy but untidy traffic, in which nothing must be reported.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::Args;
use lab::{Daemon, Fault, Lab, Load, Traffic, signal, status::Status};

use crate::report::{machine, progress, progress_done, verdict};

/// From look to look.
const POLL: Duration = Duration::from_millis(100);
/// Looks from one line of progress to the next.
const PROGRESS: u32 = 50;
/// Connections opened and closed per second, over all upstreams.
const CHURN: u16 = 500;
/// Random loss, per cent, each way.
const LOSS: u8 = 3;

/// Options of `quiet`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How long to watch
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
}

/// Measures; whether nobody was blamed.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let lab = Lab::start(3)?;
    let mut traffic = Vec::new();
    for upstream in 0..lab.upstreams.len() {
        lab.break_(upstream, Fault::RandomLoss(LOSS))?;
        for load in [
            Load::STEADY,
            Load::Churn(CHURN / 3),
            Load::Idle(100),
            Load::LongPoll(50),
            Load::SlowReaders(20),
        ] {
            traffic.push(lab.traffic(upstream, 0..20, load)?);
        }
    }
    let daemon = Daemon::start(&lab)?;
    let length = Duration::from_secs_f64(options.minutes * 60.0);
    let begin = Instant::now();
    let mut seen = Seen::default();
    while begin.elapsed() < length {
        seen.note(begin.elapsed(), &daemon.status()?);
        if seen.total % PROGRESS == 0 {
            progress(&format!(
                "{:.0} of {:.0} s, {} connections opened and closed, {} alarms",
                begin.elapsed().as_secs_f64(),
                length.as_secs_f64(),
                sessions(&traffic),
                seen.alarms.len()
            ));
        }
        signal::sleep(POLL)?;
    }
    progress_done();

    println!(
        "quiet: {:.0} s, {LOSS} % loss each way, {} connections opened and closed; {}\n",
        begin.elapsed().as_secs_f64(),
        sessions(&traffic),
        machine()
    );
    println!("{:<26}{:<12}{:>8}", "upstream", "state", "looks");
    for ((upstream, state), looks) in &seen.looks {
        println!("{upstream:<26}{state:<12}{looks:>8}");
    }
    let met = seen.alarms.is_empty();
    println!("\nfalse alarms: {}: {}", seen.alarms.len(), verdict(met));
    for alarm in &seen.alarms {
        println!("{alarm}");
    }
    daemon.stop()?;
    Ok(met)
}

/// What was said at all the looks.
#[derive(Debug, Default)]
struct Seen {
    total: u32,
    /// Looks per upstream and state.
    looks: BTreeMap<(String, String), u32>,
    /// The last state of each upstream.
    last: BTreeMap<String, String>,
    /// Each time an upstream began to be blamed.
    alarms: Vec<String>,
}

impl Seen {
    fn note(&mut self, at: Duration, status: &Status) {
        self.total += 1;
        for upstream in &status.upstreams {
            let key = (upstream.name.clone(), upstream.state.clone());
            *self.looks.entry(key).or_default() += 1;
            let last = self
                .last
                .insert(upstream.name.clone(), upstream.state.clone());
            let changed = last.as_ref() != Some(&upstream.state);
            if changed && !matches!(upstream.state.as_str(), "ok" | "idle") {
                let at = at.as_secs_f64();
                self.alarms.push(format!(
                    "{at:8.1} s  {} of {}",
                    upstream.name,
                    status.summary()
                ));
            }
        }
    }
}

fn sessions(traffic: &[Traffic]) -> u64 {
    traffic.iter().map(|it| it.counters.sessions()).sum()
}

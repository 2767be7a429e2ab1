//! Minutes of healthy but untidy traffic, in which nothing must be reported.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::Args;
use lab::{Daemon, Fault, Lab, Load, signal};

use crate::report::{machine, progress, progress_done, verdict};

/// From look to look.
const POLL: Duration = Duration::from_millis(100);
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
    // Looks per upstream and state.
    let mut seen: BTreeMap<(String, String), u32> = BTreeMap::new();
    let mut alarms = Vec::new();
    while begin.elapsed() < length {
        let status = daemon.status()?;
        for upstream in status.upstreams {
            if !matches!(upstream.state.as_str(), "ok" | "idle") {
                let at = begin.elapsed().as_secs_f64();
                let what = format!("{:8.1} s  {upstream:?}", at);
                alarms.push(what);
            }
            *seen.entry((upstream.name, upstream.state)).or_default() += 1;
        }
        let sessions: u64 = traffic.iter().map(|it| it.counters.sessions()).sum();
        progress(&format!(
            "{:.0} of {:.0} s, {sessions} connections opened and closed, {} alarms",
            begin.elapsed().as_secs_f64(),
            length.as_secs_f64(),
            alarms.len()
        ));
        signal::sleep(POLL)?;
    }
    progress_done();

    let sessions: u64 = traffic.iter().map(|it| it.counters.sessions()).sum();
    println!(
        "quiet: {:.0} s, {LOSS} % loss each way, {sessions} connections opened and closed; {}\n",
        begin.elapsed().as_secs_f64(),
        machine()
    );
    println!("{:<26}{:<12}{:>8}", "upstream", "state", "looks");
    for ((upstream, state), looks) in &seen {
        println!("{upstream:<26}{state:<12}{looks:>8}");
    }
    println!(
        "\nlooks at which somebody was blamed: {}: {}",
        alarms.len(),
        verdict(alarms.is_empty())
    );
    for alarm in alarms.iter().take(20) {
        println!("{alarm}");
    }
    daemon.stop()?;
    Ok(alarms.is_empty())
}

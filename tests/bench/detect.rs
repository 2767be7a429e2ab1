//! From the fault to the verdict: three upstreams with twenty destinations each, one breaks.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use lab::{Daemon, Direction, Fault, Lab, Load, Traffic, signal, status::Status};

use crate::report::{Times, heading, machine, progress, progress_done, verdict};

/// What is promised.
const MEDIAN: Duration = Duration::from_secs(2);
const WORST: Duration = Duration::from_secs(3);
const RECOVERY: Duration = Duration::from_secs(15);

/// From look to look.
const POLL: Duration = Duration::from_millis(20);
/// A run in which nothing happens ends after this.
const GIVE_UP: Duration = Duration::from_secs(30);
/// The upstream that breaks.
const BROKEN: usize = 1;

/// Options of `detect`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How often it breaks
    #[arg(long, default_value_t = 20)]
    runs: u32,
    /// What breaks
    #[arg(long, value_enum, default_value_t = Kind::Blackhole)]
    fault: Kind,
    /// Seconds from the verdict to the repair
    #[arg(long, default_value_t = 3.0)]
    hold: f64,
    /// A new daemon for every run, without a past
    #[arg(long)]
    fresh: bool,
}

/// What breaks, by the cause that is to be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Blackhole,
    Mtu,
    Neighbour,
    Local,
}

impl Kind {
    fn fault(self) -> Fault {
        match self {
            Self::Blackhole => Fault::Blackhole(Direction::Both),
            Self::Mtu => Fault::DropLargerThan(600),
            Self::Neighbour => Fault::NeighbourSilent,
            Self::Local => Fault::LocalFirewall,
        }
    }

    fn cause(self) -> &'static str {
        match self {
            Self::Blackhole => "blackhole",
            Self::Mtu => "mtu",
            Self::Neighbour => "neighbour",
            Self::Local => "local",
        }
    }

    /// Small packets have to pass for it to show that only large ones vanish.
    fn load(self) -> Load {
        if self == Self::Mtu {
            Load::mail(60)
        } else {
            Load::STEADY
        }
    }
}

/// What was measured.
#[derive(Debug, Default)]
struct Results {
    failing: Times,
    named: Times,
    recovered: Times,
    /// Looks at which another upstream was blamed.
    wrong: u32,
    /// What other causes were given first.
    detours: Vec<String>,
}

/// Measures; whether the limits are met.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let lab = Lab::start(3)?;
    let traffic = (0..lab.upstreams.len())
        .map(|upstream| lab.traffic(upstream, 0..20, options.fault.load()))
        .collect::<Result<Vec<_>>>()?;
    let mut daemon = Daemon::start(&lab)?;
    let mut results = Results::default();
    for number in 1..=options.runs {
        progress(&format!(
            "run {number} of {}: waiting for calm",
            options.runs
        ));
        if options.fresh && number > 1 {
            daemon.stop()?;
            daemon = Daemon::start(&lab)?;
        }
        calm(&lab, &daemon, &traffic)?;
        // Not in step with the detector's own clock.
        signal::sleep(Duration::from_millis(u64::from(number) * 377 % 2000))?;
        one(&lab, &daemon, options, number, &mut results)
            .with_context(|| format!("run {number}; the detector said\n{}", daemon.log()))?;
    }
    progress_done();
    Ok(report(options, &results))
}

/// Waits until every upstream is ok and nothing hangs any more.
fn calm(lab: &Lab, daemon: &Daemon, traffic: &[Traffic]) -> Result<()> {
    daemon.wait_until(Duration::from_secs(120), "calm", |status| {
        let ok = |name| {
            status
                .upstream(name)
                .is_some_and(|it| it.state == "ok" && it.connections.stalled == 0)
        };
        lab.upstreams.iter().all(|upstream| ok(upstream.name))
            && traffic.iter().all(|it| it.counters.hanging() == 0)
    })?;
    Ok(())
}

/// Breaks it, waits for the verdict, repairs it, waits for the all-clear.
fn one(
    lab: &Lab,
    daemon: &Daemon,
    options: &Options,
    number: u32,
    results: &mut Results,
) -> Result<()> {
    let name = lab.upstreams[BROKEN].name;
    let mut failing = None;
    let mut detour = String::new();
    let broken = lab.break_(BROKEN, options.fault.fault())?;
    let named = look(daemon, name, broken, &mut results.wrong, |status, age| {
        if status.state_of(name) == "failing" {
            failing.get_or_insert(age);
            let cause = status.cause_of(name).unwrap_or("none");
            if cause != options.fault.cause() {
                detour = cause.to_owned();
            }
        }
        status.is_failing(name, options.fault.cause())
    })
    .context("the fault was not named")?;
    results.failing.add(failing.unwrap_or(named));
    results.named.add(named);
    if !detour.is_empty() {
        results.detours.push(detour);
    }

    look_for(
        daemon,
        name,
        Duration::from_secs_f64(options.hold),
        &mut results.wrong,
    )?;
    let repaired = lab.repair(BROKEN)?;
    let recovered = look(daemon, name, repaired, &mut results.wrong, |status, _| {
        status.state_of(name) == "ok"
    })
    .context("the repair was not seen")?;
    results.recovered.add(recovered);
    progress(&format!(
        "run {number} of {}: named after {:.2} s, ok {:.2} s after the repair",
        options.runs,
        named.as_secs_f64(),
        recovered.as_secs_f64()
    ));
    Ok(())
}

/// Looks until `done`; gives the time since `begin`.
fn look(
    daemon: &Daemon,
    name: &str,
    begin: Instant,
    wrong: &mut u32,
    mut done: impl FnMut(&Status, Duration) -> bool,
) -> Result<Duration> {
    loop {
        signal::check()?;
        let status = daemon.status()?;
        let age = begin.elapsed();
        *wrong += u32::from(others_blamed(&status, name));
        if done(&status, age) {
            return Ok(age);
        }
        if age > GIVE_UP {
            bail!("not within {GIVE_UP:?}: {}", status.summary());
        }
        signal::sleep(POLL)?;
    }
}

/// Keeps an eye on the others for a while.
fn look_for(daemon: &Daemon, name: &str, time: Duration, wrong: &mut u32) -> Result<()> {
    look(daemon, name, Instant::now(), wrong, |_, age| age >= time).map(drop)
}

fn others_blamed(status: &Status, name: &str) -> bool {
    status
        .upstreams
        .iter()
        .any(|it| it.name != name && !matches!(it.state.as_str(), "ok" | "idle"))
}

/// Prints the table; whether the limits are met.
fn report(options: &Options, results: &Results) -> bool {
    let within = |times: &Times, share, limit| times.quantile(share).is_some_and(|it| it <= limit);
    let named = within(&results.named, 0.5, MEDIAN) && within(&results.named, 1.0, WORST);
    let recovered = within(&results.recovered, 1.0, RECOVERY);
    let siblings = results.wrong == 0;
    println!(
        "detect: {}, {} runs, 3 upstreams, 20 destinations each; {}\n",
        options.fault.fault(),
        results.named.len(),
        machine()
    );
    println!("{}", heading());
    println!("{}", results.failing.row("fault to failing", ""));
    let cause = format!("fault to failing, {}", options.fault.cause());
    let limit = format!("median {MEDIAN:?}, worst {WORST:?}: {}", verdict(named));
    println!("{}", results.named.row(&cause, &limit));
    let limit = format!("worst {RECOVERY:?}: {}", verdict(recovered));
    println!("{}", results.recovered.row("repair to ok", &limit));
    println!(
        "\nother upstreams were blamed at {} looks: {}",
        results.wrong,
        verdict(siblings)
    );
    if !results.detours.is_empty() {
        println!(
            "other causes named first in {} runs: {:?}",
            results.detours.len(),
            results.detours
        );
    }
    named && recovered && siblings
}

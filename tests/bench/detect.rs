//! From the fault to the verdict: three upstreams with twenty destinations each, one breaks.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use detector::{
    clock,
    model::{ConnectionId, Input},
    sense::{decode, programs::Sizes},
    time::Time,
};
use lab::{Daemon, Direction, Fault, Lab, Load, Traffic, sensors::Sensors, signal, status::Status};

use crate::{
    checks::Check,
    picture::{Panel, panels},
    report::{Sheet, Times, docs, heading, machine, progress, progress_done},
};

/// Where the figures are written.
const PART: &str = "<!-- generated: cargo xtask bench detect --write -->";
/// What is promised.
const MEDIAN: Duration = Duration::from_secs(2);
const WORST: Duration = Duration::from_secs(3);
const RECOVERY: Duration = Duration::from_secs(15);
/// And so many times the moment when three connections have timed out twice, which ordinary loss does
/// not explain: the earliest moment that a rule by timeouts alone could name.
const TO_FLOOR: f64 = 1.5;
const KNOWING: usize = 3;
const TIMEOUTS: u8 = 2;

/// Seconds that are drawn.
const DRAWN: f64 = 8.0;

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
    /// What breaks, one measurement for each
    #[arg(long, value_enum, value_delimiter = ',',
        default_values_t = [Kind::Blackhole, Kind::Mtu, Kind::Neighbour, Kind::Local])]
    fault: Vec<Kind>,
    /// Seconds from the verdict to the repair
    #[arg(long, default_value_t = 6.0)]
    hold: f64,
    /// A new daemon for every run, without a past
    #[arg(long)]
    fresh: bool,
    /// Write the figures into docs/performance.md
    #[arg(long)]
    write: bool,
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
    /// When it could have been known.
    floor: Times,
    /// What other monitors took, where they said anything.
    ping: Times,
    connect: Times,
    /// Looks at which another upstream was blamed.
    wrong: u32,
    /// What other causes were given first.
    detours: Vec<String>,
}

/// Measures; whether the limits are met.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let mut sheet = Sheet::default();
    sheet.line(&format!(
        "detect: {} runs, 3 upstreams, 20 destinations each; {}",
        options.runs,
        machine()
    ));
    let mut drawn = Vec::new();
    for &kind in &options.fault {
        let results = measure(options, kind)?;
        report(&mut sheet, kind, &results);
        drawn.push(panel(kind, &results));
    }
    if options.write {
        panels(&docs().join("performance-detect.svg"), &drawn)?;
    }
    sheet.finish(PART, options.write)
}

fn measure(options: &Options, kind: Kind) -> Result<Results> {
    let lab = Lab::start(3)?;
    let traffic = (0..lab.upstreams.len())
        .map(|upstream| lab.traffic(upstream, 0..20, kind.load()))
        .collect::<Result<Vec<_>>>()?;
    let mut daemon = Daemon::start(&lab)?;
    let mut rivals = Rivals {
        sensors: Sensors::load(&lab.host, &Sizes::default(), |it| it.other_netns = 0)?,
        ping: Check::ping(&lab, BROKEN)?,
        connect: Check::connect(&lab, BROKEN)?,
    };
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
        one(
            &lab,
            &daemon,
            &mut rivals,
            (options, kind),
            number,
            &mut results,
        )
        .with_context(|| format!("run {number}; the detector said\n{}", daemon.log()))?;
    }
    progress_done();
    Ok(results)
}

/// What runs beside the daemon.
struct Rivals {
    sensors: Sensors,
    ping: Check,
    connect: Check,
}

impl Rivals {
    /// When, after `begin`, so many connections had timed out twice; what is announced is read to its
    /// end.
    fn floor(&mut self, begin: Time) -> Option<Duration> {
        let hz = self.sensors.hz;
        let mut first: BTreeMap<ConnectionId, Time> = BTreeMap::new();
        while let Some(record) = self.sensors.events.next() {
            if let Ok(Input::Timeout(sample)) = decode::event(&record, hz)
                && sample.timeouts >= TIMEOUTS
                && sample.at > begin
            {
                first.entry(sample.id).or_insert(sample.at);
            }
        }
        let mut times: Vec<_> = first.into_values().collect();
        times.sort_unstable();
        times.get(KNOWING - 1).map(|at| at.since(begin))
    }
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
    rivals: &mut Rivals,
    (options, kind): (&Options, Kind),
    number: u32,
    results: &mut Results,
) -> Result<()> {
    let name = lab.upstreams[BROKEN].name;
    let mut failing = None;
    let mut detour = String::new();
    // What was announced before is of no interest.
    rivals.floor(clock::now());
    let broken = lab.break_(BROKEN, kind.fault())?;
    let broken_at = clock::now().before(broken.elapsed());
    let named = look(daemon, name, broken, &mut results.wrong, |status, age| {
        if status.state_of(name) == "failing" {
            failing.get_or_insert(age);
            let cause = status.cause_of(name).unwrap_or("none");
            if cause != kind.cause() {
                detour = cause.to_owned();
            }
        }
        status.is_failing(name, kind.cause())
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
    if let Some(floor) = rivals.floor(broken_at) {
        results.floor.add(floor);
    }
    for (check, times) in [
        (&rivals.ping, &mut results.ping),
        (&rivals.connect, &mut results.connect),
    ] {
        if let Some(alarm) = check.alarm_after(broken) {
            times.add(alarm);
        }
    }
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

/// How soon each knew.
fn panel(kind: Kind, results: &Results) -> Panel {
    let curves = [
        ("third to time out twice", &results.floor),
        ("tcpstall", &results.named),
        ("ping, 3 lost", &results.ping),
        ("connect, 3 lost", &results.connect),
    ];
    let runs = results.named.len();
    let curve = |(name, times): (&str, &Times)| times.curve(name, runs, DRAWN);
    Panel {
        title: kind.fault().to_string(),
        span: DRAWN,
        curves: curves.into_iter().map(curve).collect(),
    }
}

/// Writes the rows of one fault.
fn report(sheet: &mut Sheet, kind: Kind, results: &Results) {
    let within = |times: &Times, share, limit| times.quantile(share).is_some_and(|it| it <= limit);
    let median = |times: &Times| times.quantile(0.5).map(|it| it.as_secs_f64());
    let runs = results.named.len();
    sheet.line(&format!("\n{}\n{}", kind.fault(), heading()));
    sheet.line(&results.failing.row("fault to failing", ""));
    let named = within(&results.named, 0.5, MEDIAN) && within(&results.named, 1.0, WORST);
    let limit = format!(
        "median {MEDIAN:?}, worst {WORST:?}: {}",
        sheet.verdict(named)
    );
    let cause = format!("fault to failing, {}", kind.cause());
    sheet.line(&results.named.row(&cause, &limit));
    let ratio = median(&results.named).zip(median(&results.floor));
    let limit = ratio.map_or_else(String::new, |(named, floor)| {
        let ratio = named / floor;
        let near = sheet.verdict(ratio <= TO_FLOOR);
        format!("median {ratio:.2} times this, at most {TO_FLOOR}: {near}")
    });
    sheet.line(&results.floor.row("third to time out twice", &limit));
    for (name, times) in [
        ("ping each second, 3 lost", &results.ping),
        ("connect each second, same", &results.connect),
    ] {
        let said = format!("alarms in {} of {runs} runs", times.len());
        sheet.line(&times.row(name, &said));
    }
    let recovered = sheet.verdict(within(&results.recovered, 1.0, RECOVERY));
    let limit = format!("worst {RECOVERY:?}: {recovered}");
    sheet.line(&results.recovered.row("repair to ok", &limit));
    let siblings = sheet.verdict(results.wrong == 0);
    sheet.line(&format!(
        "other upstreams were blamed at {} looks: {siblings}",
        results.wrong
    ));
    if !results.detours.is_empty() {
        sheet.line(&format!(
            "other causes named first in {} runs: {:?}",
            results.detours.len(),
            results.detours
        ));
    }
}

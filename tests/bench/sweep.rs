//! What one look at all connections takes: the kernel's own minimum, ours, and what people run instead,
//! in turn and on the same sockets.

use std::{
    fmt,
    fs::File,
    hint::black_box,
    io,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use detector::{
    clock,
    model::Counts,
    sense::{
        doctor,
        programs::{Floor, Sizes},
        sweep::to_the_end,
    },
};
use lab::{Direction, Fault, Lab, namespace::Namespace, sensors::Sensors, signal};
use plotters::chart::SeriesLabelPosition;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::{
    crowd::{Crowd, Habit, MOST},
    picture::{Axes, Curve, lines},
    report::{Sheet, Times, docs, machine, progress, progress_done},
    usage::thread_time,
};

/// Where the figures are written.
const PART: &str = "<!-- generated: cargo xtask bench sweep --write -->";
/// What is promised where nothing is wrong and connections are many: so many times the minimum at
/// most, and `ss` takes so many times ours at least.
const TO_FLOOR: f64 = 1.4;
const TO_SS: f64 = 5.0;
/// From here on they are many: a walk over few is over before a clock has moved.
const MANY: u32 = 50_000;
/// The upstream of those that stall; the others use those before it.
const BROKEN: usize = 2;
/// Until all are stuck.
const STUCK: Duration = Duration::from_secs(60);
/// A sweep asks more of a connection at which something has happened within this time.
const REST: Duration = Duration::from_secs(16);
/// More than most processors have of caches.
const CACHES: usize = 512 << 20;
/// What a cache fetches at once.
const LINE: usize = 64;

/// Options of `sweep`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many connections, one measurement for each
    #[arg(long, value_delimiter = ',', default_value = "1000,10000,50000,200000",
        value_parser = clap::value_parser!(u32).range(100..=i64::from(MOST)))]
    connections: Vec<u32>,
    /// How many of a hundred are stalled, one measurement for each
    #[arg(long, value_delimiter = ',', default_value = "0,1,20",
        value_parser = clap::value_parser!(u32).range(0..=90))]
    stalled: Vec<u32>,
    /// And so many that all say something each second, in one measurement more; 0: none
    #[arg(long, default_value_t = 10_000,
        value_parser = clap::value_parser!(u32).range(0..=50_000))]
    at_work: u32,
    /// How many times the minimum a sweep may take where nothing is wrong and connections are many
    #[arg(long, default_value_t = TO_FLOOR)]
    most: f64,
    /// How often each looks
    #[arg(long, default_value_t = 12)]
    runs: u32,
    /// Write the figures into docs/performance.md
    #[arg(long)]
    write: bool,
}

/// What is looked at.
#[derive(Debug, Clone, Copy)]
struct Scene {
    connections: u32,
    /// Percent of them that are stalled.
    stalled: u32,
    /// What the others do.
    habit: Habit,
}

impl Scene {
    fn sick(self) -> u32 {
        self.connections * self.stalled / 100
    }
}

impl fmt::Display for Scene {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.habit {
            Habit::Rest => "at rest",
            Habit::Report => "at work",
        };
        write!(
            out,
            "{} connections {what}, {} % stalled",
            self.connections, self.stalled
        )
    }
}

/// What the looks of one kind took.
#[derive(Debug, Default)]
struct Looks {
    cpu: Times,
    wall: Times,
}

impl Looks {
    fn add(&mut self, (cpu, wall): (Duration, Duration)) {
        self.cpu.add(cpu);
        self.wall.add(wall);
    }

    /// Median of the processor time, in seconds.
    fn median(&self) -> f64 {
        let median = self.cpu.quantile(0.5);
        median.map_or(f64::NAN, |it| it.as_secs_f64())
    }
}

/// The looks at one crowd.
#[derive(Debug, Default)]
struct Results {
    floor: Looks,
    least: Looks,
    ours: Looks,
    ss: Looks,
    proc: Looks,
    /// Ours and the least to the minimum and `ss` to ours, of each turn: the machine's own ups and downs
    /// concern those that follow each other alike.
    to_floor: Vec<f64>,
    least_to_floor: Vec<f64>,
    to_ss: Vec<f64>,
}

/// Measures; whether the limits are met.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let mut floor = Floor::load(&doctor::inspect()?.offsets)?;
    let mut sheet = Sheet::default();
    sheet.line(&format!(
        "sweep: processor time of one look at all connections, {} in turn; {}\n\n{:<34}{:>10}{:>10}{:>10}{:>14}",
        options.runs,
        machine(),
        "",
        "min",
        "median",
        "max",
        "wall, median"
    ));
    let mut healthy = Vec::new();
    for &connections in &options.connections {
        for &stalled in &options.stalled {
            let scene = Scene {
                connections,
                stalled,
                habit: Habit::Rest,
            };
            let results = measure(&mut floor, scene, options.runs)?;
            report(&mut sheet, scene, options.most, &results);
            if stalled == 0 {
                healthy.push((connections, results));
            }
        }
    }
    if options.at_work > 0 {
        let scene = Scene {
            connections: options.at_work,
            stalled: 0,
            habit: Habit::Report,
        };
        let results = measure(&mut floor, scene, options.runs)?;
        report(&mut sheet, scene, options.most, &results);
    }
    if options.write {
        draw(&healthy)?;
    }
    sheet.finish(PART, options.write)
}

/// Each looks at the same connections, again and again.
fn measure(floor: &mut Floor, scene: Scene, runs: u32) -> Result<Results> {
    // A new one each time: peers never take the connections of the last scene from their queues.
    let lab = &Lab::start(3)?;
    let sensors = &mut Sensors::load(&lab.host, &Sizes::default(), |it| it.other_netns = 0)?;
    let sick = scene.sick();
    let _crowd = Crowd::open(lab, 0..BROKEN, scene.connections - sick, scene.habit)?;
    let _sick = Crowd::open(lab, BROKEN..BROKEN + 1, sick, Habit::Report)?;
    if sick > 0 {
        lab.break_(BROKEN, Fault::Blackhole(Direction::Both))?;
    }
    all_are_there(lab, sensors, scene)?;
    if let Habit::Rest = scene.habit {
        progress(&format!("{scene}: come to rest"));
        signal::sleep(REST)?;
    }
    let mut results = Results::default();
    for number in 1..=runs {
        progress(&format!("{scene}: look {number} of {runs}"));
        one(number, &lab.host, floor, sensors, &mut results)?;
    }
    if sick > 0 {
        lab.repair(BROKEN)?;
    }
    progress_done();
    Ok(results)
}

/// Waits until a sweep shows as many connections as were opened, the sick ones stuck and the others at
/// rest or at work.
fn all_are_there(lab: &Lab, sensors: &mut Sensors, scene: Scene) -> Result<()> {
    let (connections, sick) = (scene.connections, scene.sick());
    let working = match scene.habit {
        Habit::Rest => 0,
        Habit::Report => connections - sick,
    };
    let end = Instant::now() + STUCK;
    loop {
        let (seen, _) = sensors.sweep(&lab.host)?;
        let mut sum = Counts::default();
        for counts in seen.sweep.counts.values() {
            sum.add(counts);
        }
        let (open, stuck) = (sum.established(), sum.suspicious);
        let at_work = sum.busy + sum.app_limited;
        if open >= connections && stuck >= sick && at_work == working {
            return Ok(());
        }
        ensure!(
            Instant::now() < end,
            "{open} of {connections} connections, {stuck} of {sick} stuck, {at_work} at work after {STUCK:?}"
        );
        progress(&format!(
            "{open} connections, {stuck} of {sick} stuck, {at_work} at work"
        ));
        signal::sleep(Duration::from_secs(1))?;
    }
}

/// Each looks once.
fn one(
    number: u32,
    host: &Namespace,
    floor: &mut Floor,
    sensors: &mut Sensors,
    results: &mut Results,
) -> Result<()> {
    let mut took = [(Duration::ZERO, Duration::ZERO); 5];
    for turn in 0..5 {
        let which = ((turn + number) % 5) as usize;
        // On a host something else has run since the last look.
        empty_caches();
        took[which] = match which {
            0 => bare(host.run(|| floor.open())??)?,
            1 => bare(host.run(|| floor.open_least())??)?,
            2 => {
                let (_, cost) = sensors.sweep(host)?;
                (cost.own, cost.wall)
            }
            3 => host.run(ss)??,
            _ => host.run(|| timed(proc))??,
        };
    }
    let [floor, least, ours, ss, proc] = took;
    results.floor.add(floor);
    results.least.add(least);
    results.ours.add(ours);
    results.ss.add(ss);
    results.proc.add(proc);
    let ratio = |(one, _): (Duration, _), (other, _): (Duration, _)| {
        one.as_secs_f64() / other.as_secs_f64()
    };
    results.to_floor.push(ratio(ours, floor));
    results.least_to_floor.push(ratio(least, floor));
    results.to_ss.push(ratio(ss, ours));
    signal::check()
}

/// Leaves nothing in the caches of what was looked at before.
fn empty_caches() {
    let mut other = vec![0_u8; CACHES];
    other.iter_mut().step_by(LINE).for_each(|it| *it = 1);
    black_box(&other);
}

/// A walk that tells nothing.
fn bare(walk: File) -> Result<(Duration, Duration)> {
    timed(|| Ok(to_the_end(walk, &mut Vec::new())?))
}

/// Processor time of this thread and wall time.
fn timed(look: impl FnOnce() -> Result<()>) -> Result<(Duration, Duration)> {
    let (cpu, wall) = (clock::thread_cpu(), Instant::now());
    look()?;
    Ok((clock::thread_cpu() - cpu, wall.elapsed()))
}

/// Reads the list of the kernel's oldest interface and throws it away.
fn proc() -> Result<()> {
    for path in ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"] {
        io::copy(&mut File::open(path)?, &mut io::sink())?;
    }
    Ok(())
}

/// `ss`, whose output nobody reads.
pub(crate) fn ss() -> Result<(Duration, Duration)> {
    let begin = Instant::now();
    let mut child = Command::new("ss")
        .arg("-tinH")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("cannot run ss; is iproute2 installed?")?;
    // It stays as a zombie, which the kernel still knows the time of.
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(Pid::from_child(&child)), ended)?;
    let wall = begin.elapsed();
    let cpu = thread_time(child.id());
    let status = child.wait()?;
    ensure!(status.success(), "ss ended with {status}");
    Ok((cpu?, wall))
}

fn median(ratios: &[f64]) -> f64 {
    let mut ratios = ratios.to_vec();
    ratios.sort_by(f64::total_cmp);
    ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Processor time over the number of healthy connections.
fn draw(healthy: &[(u32, Results)]) -> Result<()> {
    let curve = |name: &str, of: fn(&Results) -> &Looks| Curve {
        name: name.to_owned(),
        points: healthy
            .iter()
            .map(|(connections, it)| (f64::from(*connections) / 1e3, of(it).median() * 1e3))
            .collect(),
    };
    let curves = [
        curve("a walk that looks at nothing", |it| &it.floor),
        curve("tcpstall's sweep", |it| &it.ours),
        curve("ss -tinH", |it| &it.ss),
        curve("/proc/net/tcp and tcp6", |it| &it.proc),
    ];
    let points = curves.iter().flat_map(|it| &it.points);
    let (across, upwards) = points.fold((0.0_f64, 0.0_f64), |most, point| {
        (most.0.max(point.0), most.1.max(point.1))
    });
    let axes = Axes {
        across: ("thousand connections, all healthy", across),
        upwards: ("ms of processor time", upwards),
    };
    let path = docs().join("performance-sweep.svg");
    let title = "One look at all connections";
    lines(&path, title, &axes, &curves, SeriesLabelPosition::UpperLeft)
}

/// Writes the rows of one crowd.
fn report(sheet: &mut Sheet, scene: Scene, most: f64, results: &Results) {
    let (to_floor, to_ss) = (median(&results.to_floor), median(&results.to_ss));
    let mut limits = [String::new(), String::new()];
    if scene.connections >= MANY && scene.stalled == 0 {
        limits = [
            format!(", at most {most}: {}", sheet.verdict(to_floor <= most)),
            format!(", at least {TO_SS}: {}", sheet.verdict(to_ss >= TO_SS)),
        ];
    }
    sheet.line(&scene.to_string());
    let mut row = |name: &str, looks: &Looks, remark: String| {
        let ms = |time: Option<Duration>| {
            let seconds = time.map_or(f64::NAN, |it| it.as_secs_f64());
            format!("{:.2} ms", seconds * 1e3)
        };
        sheet.line(&format!(
            "  {name:<32}{:>10}{:>10}{:>10}{:>14}   {remark}",
            ms(looks.cpu.quantile(0.0)),
            ms(looks.cpu.quantile(0.5)),
            ms(looks.cpu.quantile(1.0)),
            ms(looks.wall.quantile(0.5))
        ));
    };
    row(
        "a walk that looks at nothing",
        &results.floor,
        String::new(),
    );
    let least = median(&results.least_to_floor);
    row(
        "a walk that asks if data waits",
        &results.least,
        format!("{least:.2} of the minimum"),
    );
    row(
        "tcpstall's sweep",
        &results.ours,
        format!("{to_floor:.2} of the minimum{}", limits[0]),
    );
    row(
        "ss -tinH",
        &results.ss,
        format!("{to_ss:.1} of ours{}", limits[1]),
    );
    let to_proc = results.proc.median() / results.ours.median();
    row(
        "/proc/net/tcp and tcp6, read",
        &results.proc,
        format!("{to_proc:.1} of ours"),
    );
}

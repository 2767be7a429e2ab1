//! `soak`: an hour of everything at once, from a seed: churn, faults, containers, signals. Each verdict
//! is checked against what was really broken, each stall against what `ss` says of the same sockets,
//! and the daemon must not grow.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use lab::{
    Attachment, Container, Daemon, Family, Lab, Load, Options as Start, Plan, Traffic, container,
    signal, simulator::random::Random,
};
use rustix::process::Signal;

use crate::report::{machine, progress, progress_done, verdict};
use books::Books;
use oracle::Oracle;
use trouble::{TROUBLES, Trouble};

#[path = "soak/books.rs"]
mod books;
#[path = "soak/oracle.rs"]
mod oracle;
#[path = "soak/page.rs"]
mod page;
#[path = "soak/trouble.rs"]
mod trouble;

/// Destinations of each upstream.
const DESTINATIONS: u8 = 20;
/// Messages that fit where large packets are lost: without any that gets through, nobody could tell that
/// from a black hole.
const SMALL: Load = Load::Steady {
    connections: 1,
    bytes: 200,
    every: Duration::from_millis(500),
};
/// From look to look.
const POLL: Duration = Duration::from_millis(200);
/// From one comparison with `ss` to the next.
const COMPARE: Duration = Duration::from_secs(3);
/// So long after its start a daemon's memory may grow: buffers find their size.
const SETTLED: Duration = Duration::from_secs(300);
/// And by this much afterwards.
const GROWTH: u64 = 2 << 20;
/// What it has depends on what there is to see: it is compared at rest, with what is always there. So long from
/// one rest to the next,
const RESTS: Duration = Duration::from_secs(600);
/// and so long does one last: memory is given back once a minute while all is well.
const REST: Duration = Duration::from_secs(75);
/// What a round may have besides.
const CONTAINERS: usize = 4;
const EXTRAS: usize = 6;

/// Options of `soak`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How long to go on
    #[arg(long, default_value_t = 60.0)]
    minutes: f64,
    /// Repeat what this seed gives; a new one without it
    #[arg(long)]
    seed: Option<u64>,
    /// Fill in the measured part of docs/reliability.md
    #[arg(long)]
    write: bool,
}

/// Goes on; whether nothing was wrong.
pub(crate) fn run(options: &Options) -> Result<bool> {
    ensure!(
        options.minutes > 0.0,
        "a soak lasts longer than nothing: give --minutes"
    );
    let seed = options
        .seed
        .unwrap_or_else(|| u64::from(std::process::id()));
    println!(
        "soak: {} min, seed {seed}; {}\n",
        options.minutes,
        machine()
    );
    let mut soak = Soak::start(seed)?;
    let end = Duration::from_secs_f64(options.minutes * 60.0);
    while soak.begin.elapsed() < end {
        soak.round()?;
        soak.rest_now_and_then()?;
    }
    progress_done();
    let books = soak.end()?;
    let met = books.print(GROWTH);
    println!("\nsoak: {}", verdict(met));
    if options.write {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("docs");
        page::write(&books, options.minutes, seed, GROWTH, &docs)?;
    }
    Ok(met)
}

/// Everything that goes on.
struct Soak {
    // In the order in which they go.
    daemon: Daemon,
    extras: Vec<Traffic>,
    containers: Vec<(Container, Vec<Traffic>)>,
    _always: Vec<Traffic>,
    oracle: Oracle,
    books: Books,
    chance: Random,
    begin: Instant,
    /// When the daemon was last started.
    started: Instant,
    compared_at: Instant,
    rested_at: Option<Instant>,
    next_container: u8,
    start: Start,
    // What only this process may keep across the daemon's lives.
    _folder: tempfile::TempDir,
    lab: Lab,
}

impl Soak {
    fn start(seed: u64) -> Result<Self> {
        let lab = Lab::start(3)?;
        container::prepare(&lab, Attachment::Bridge)?;
        let mut always = Vec::new();
        for upstream in 0..3 {
            for load in [
                Load::STEADY,
                SMALL,
                Load::Idle(20),
                Load::SlowReaders(4),
                Load::LongPoll(10),
            ] {
                always.push(lab.traffic(upstream, 0..DESTINATIONS, load)?);
            }
        }
        let folder = tempfile::Builder::new()
            .prefix("tcpstall-soak-")
            .tempdir()?;
        let start = Start {
            state_dir: Some(folder.path().join("state")),
            ..Start::by_interface()
        };
        let daemon = Daemon::start_with(&lab, &start)?;
        let mut books = Books::new(&daemon)?;
        let all_ok = |status: &lab::status::Status| {
            let mut names = lab.upstreams.iter().map(|it| it.name);
            names.all(|name| status.state_of(name) == "ok")
        };
        daemon.wait_until(Duration::from_secs(20), "all is well at first", all_ok)?;
        books.seed = seed;
        Ok(Self {
            daemon,
            extras: Vec::new(),
            containers: Vec::new(),
            _always: always,
            oracle: Oracle::default(),
            books,
            chance: Random::new(seed),
            begin: Instant::now(),
            started: Instant::now(),
            compared_at: Instant::now(),
            rested_at: None,
            next_container: 2,
            start,
            _folder: folder,
            lab,
        })
    }

    /// Some peace with other traffic, then some trouble or none, then its repair.
    fn round(&mut self) -> Result<()> {
        self.shuffle_traffic()?;
        self.shuffle_containers()?;
        self.signal_now_and_then()?;
        let peace = Duration::from_secs_f64(self.chance.between(8.0, 20.0));
        self.watch(peace, None)?;
        self.books.measure(&self.daemon)?;
        let trouble = TROUBLES[self.chance.below(TROUBLES.len())];
        let upstream = self.chance.below(3);
        let lasts = trouble.limit() + Duration::from_secs_f64(self.chance.between(3.0, 15.0));
        self.books.begin(trouble, upstream);
        let broken_at = self.lab.break_(upstream, trouble.fault())?;
        self.watch_trouble(trouble, upstream, broken_at, lasts)?;
        self.lab.repair(upstream)?;
        self.wait_for_peace(trouble, upstream)
    }

    /// Waits for the verdict, then holds it.
    fn watch_trouble(
        &mut self,
        trouble: Trouble,
        upstream: usize,
        broken_at: Instant,
        lasts: Duration,
    ) -> Result<()> {
        let name = self.lab.upstreams[upstream].name;
        let mut found = false;
        let killed_at = (self.may_be_killed() && self.chance.chance(0.3))
            .then(|| Duration::from_secs_f64(self.chance.between(0.5, lasts.as_secs_f64())));
        let mut to_kill = killed_at;
        while broken_at.elapsed() < lasts {
            if to_kill.is_some_and(|at| broken_at.elapsed() > at) {
                to_kill = None;
                self.kill()?;
            }
            let status = self.look(Some((name, trouble)))?;
            let bad = matches!(status.state_of(name), "failing" | "degraded");
            if bad && !found && trouble.is_called(status.cause_of(name)) {
                found = true;
                self.books.found(trouble, broken_at.elapsed());
            }
            signal::sleep(POLL)?;
        }
        if !found && !trouble.is_quiet() {
            let status = self.daemon.status()?;
            self.books.wrong(format!(
                "{name}: {trouble} was not called so: {}",
                status.summary()
            ));
        }
        Ok(())
    }

    fn wait_for_peace(&mut self, trouble: Trouble, upstream: usize) -> Result<()> {
        let name = self.lab.upstreams[upstream].name;
        let repaired = Instant::now();
        loop {
            let status = self.look(Some((name, trouble)))?;
            if matches!(status.state_of(name), "ok" | "idle") {
                self.books.recovered(trouble, repaired.elapsed());
                return Ok(());
            }
            if repaired.elapsed() > trouble::RECOVERY {
                self.books
                    .wrong(format!("{name}: not ok again: {}", status.summary()));
                return Ok(());
            }
            signal::sleep(POLL)?;
        }
    }

    /// Looks for a while; nobody may be blamed.
    fn watch(&mut self, time: Duration, except: Option<(&str, Trouble)>) -> Result<()> {
        let begin = Instant::now();
        while begin.elapsed() < time {
            self.look(except)?;
            signal::sleep(POLL)?;
        }
        Ok(())
    }

    /// One look: nobody but the broken upstream may be blamed; now and then compared with `ss`.
    fn look(&mut self, broken: Option<(&str, Trouble)>) -> Result<lab::status::Status> {
        let status = self.daemon.status()?;
        self.books.looks += 1;
        for upstream in &status.upstreams {
            let mine =
                broken.is_some_and(|(name, trouble)| name == upstream.name && !trouble.is_quiet());
            if !mine && !matches!(upstream.state.as_str(), "ok" | "idle") {
                let what = format!("{} is blamed: {}", upstream.name, status.summary());
                if self.books.wrong(what) {
                    eprintln!("Its oldest stalls:\n{}", self.daemon.oldest_stalls());
                }
            }
        }
        if self.compared_at.elapsed() >= COMPARE {
            self.compared_at = Instant::now();
            let places = std::iter::once(&self.lab.host)
                .chain(self.containers.iter().map(|(it, _)| &it.namespace));
            let found = self.oracle.compare(&self.daemon, places)?;
            self.books.compared(found);
            progress(&self.books.line(self.begin.elapsed()));
        }
        Ok(status)
    }

    fn shuffle_traffic(&mut self) -> Result<()> {
        while self.extras.len() >= EXTRAS || (!self.extras.is_empty() && self.chance.chance(0.4)) {
            let gone = self.chance.below(self.extras.len());
            self.extras.swap_remove(gone);
        }
        for _ in 0..=self.chance.below(3) {
            let loads = [
                Load::mail(10),
                Load::Churn(40),
                Load::Downloads(5),
                Load::Overfed(3),
                Load::Farewell {
                    every: Duration::from_secs(2),
                },
                Load::Steady {
                    connections: 3,
                    bytes: 600,
                    every: Duration::from_millis(700),
                },
            ];
            let load = loads[self.chance.below(loads.len())];
            let upstream = self.chance.below(3);
            self.extras
                .push(self.lab.traffic(upstream, 0..DESTINATIONS, load)?);
        }
        Ok(())
    }

    fn shuffle_containers(&mut self) -> Result<()> {
        while self.containers.len() >= CONTAINERS
            || (!self.containers.is_empty() && self.chance.chance(0.5))
        {
            let gone = self.chance.below(self.containers.len());
            let (container, traffic) = self.containers.swap_remove(gone);
            drop(traffic);
            drop(container);
        }
        for _ in 0..self.chance.below(3) {
            let number = self.next_container;
            self.next_container = if number >= 250 { 2 } else { number + 1 };
            let container = Container::start(&self.lab, Attachment::Bridge, number)?;
            let traffic = (0..3)
                .map(|upstream| {
                    let to = &self.lab.upstreams[upstream];
                    let plan = Plan::over(Family::V4, to, 0..DESTINATIONS, Load::STEADY);
                    Traffic::start(&container.namespace, &plan)
                })
                .collect::<Result<_>>()?;
            self.containers.push((container, traffic));
            self.books.namespaces += 1;
        }
        Ok(())
    }

    /// Reads its configuration again, now and then.
    fn signal_now_and_then(&mut self) -> Result<()> {
        if self.chance.chance(0.3) {
            self.daemon.signal(Signal::HUP)?;
            self.books.reloads += 1;
        }
        Ok(())
    }

    /// Early, so that it can settle and be watched for long afterwards.
    fn may_be_killed(&self) -> bool {
        self.begin.elapsed() < SETTLED.mul_f64(0.8)
    }

    /// As the kernel would when memory is short; it is started again at once.
    fn kill(&mut self) -> Result<()> {
        self.daemon.signal(Signal::KILL)?;
        self.daemon.wait(Duration::from_secs(5))?;
        self.daemon = Daemon::start_with(&self.lab, &self.start)?;
        self.started = Instant::now();
        self.books.kills += 1;
        self.books.measure_first(&self.daemon)
    }

    fn rest_now_and_then(&mut self) -> Result<()> {
        let settled = self.started.elapsed() > SETTLED;
        if settled && self.rested_at.is_none_or(|it| it.elapsed() > RESTS) {
            self.rest()?;
        }
        Ok(())
    }

    /// Nothing but what is always there, until the daemon has what it needs for that and no more.
    fn rest(&mut self) -> Result<()> {
        self.extras.clear();
        self.containers.clear();
        self.watch(REST, None)?;
        self.books.measure_at_rest(&self.daemon)?;
        self.rested_at = Some(Instant::now());
        Ok(())
    }

    /// Ends everything, and looks what is left.
    fn end(mut self) -> Result<Books> {
        self.rest()?;
        self.books.lost = self.daemon.status()?.daemon.events_lost;
        self.daemon.stop().context("it does not stop")?;
        Ok(self.books)
    }
}

//! Many connections, held by processes of their own: few hosts allow one so many descriptors. The
//! peers' ends need none (`lab::server::DEAF`).

use std::{
    env,
    io::{BufRead, BufReader, Read},
    net::IpAddr,
    ops::Range,
    process::{Child, ChildStdin, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use lab::{Family, Lab, Load, Plan, Traffic, namespace::Namespace, network::DESTINATIONS, signal};

use crate::report::progress;

/// More are not meant to be opened: there are not ports enough.
pub(crate) const MOST: u32 = 250_000;
/// What one process holds.
const EACH: u32 = 15_000;
/// How long all of its connections may take to open.
const OPENING: Duration = Duration::from_secs(120);

/// What the connections do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Habit {
    /// Nothing any more
    Rest,
    /// A little every second
    Report,
}

impl Habit {
    fn load(self, connections: u16) -> Load {
        match self {
            Self::Rest => Load::Resting(connections),
            Self::Report => Load::Reports(connections),
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Rest => "rest",
            Self::Report => "report",
        }
    }
}

/// Open connections; dropped, they are closed.
#[derive(Debug)]
pub(crate) struct Crowd(Vec<Holder>);

impl Crowd {
    /// Opens so many, spread over all destinations of these upstreams.
    pub(crate) fn open(
        lab: &Lab,
        upstreams: Range<usize>,
        connections: u32,
        habit: Habit,
    ) -> Result<Self> {
        let mut crowd = Self(Vec::new());
        let mut open = 0;
        while open < connections {
            signal::check()?;
            progress(&format!("{open} of {connections} connections are open"));
            let count = (connections - open).min(EACH);
            crowd
                .0
                .push(Holder::start(lab, upstreams.clone(), count, habit)?);
            open += count;
        }
        Ok(crowd)
    }
}

/// A process that holds connections.
#[derive(Debug)]
struct Holder {
    child: Child,
    /// Closed, it ends the process.
    input: Option<ChildStdin>,
}

impl Holder {
    fn start(lab: &Lab, upstreams: Range<usize>, count: u32, habit: Habit) -> Result<Self> {
        let peers = lab.upstreams[upstreams].iter().flat_map(|upstream| {
            (0..DESTINATIONS).map(|number| upstream.destination(number, Family::V4))
        });
        let mut child = Command::new(env::current_exe()?)
            .args(["hold", "--namespace", lab.host.name()])
            .args(["--habit", habit.word()])
            .args(["--connections", &count.to_string()])
            .args(peers.map(|peer| peer.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a process that holds connections")?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("no standard output")?;
        let holder = Self { child, input };
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        ensure!(
            line.trim() == "ready",
            "not all connections could be opened"
        );
        Ok(holder)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.input.take();
        let _ = self.child.wait();
    }
}

/// Options of `hold`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Namespace to be in
    #[arg(long)]
    namespace: String,
    /// How many connections
    #[arg(long)]
    connections: u16,
    /// What they do
    #[arg(long, value_enum)]
    habit: Habit,
    /// Where to, in turn
    #[arg(required = true)]
    peers: Vec<IpAddr>,
}

/// Opens the connections, says `ready`, and holds them until standard input ends.
pub(crate) fn hold(options: &Options) -> Result<()> {
    let namespace = Namespace::open(&options.namespace)?;
    let plan = Plan::to(
        options.peers.iter().copied(),
        options.habit.load(options.connections),
    );
    let traffic = Traffic::start(&namespace, &plan)?;
    let begin = Instant::now();
    while traffic.counters.messages() < u64::from(options.connections) {
        ensure!(
            begin.elapsed() < OPENING,
            "only {} of {} connections could be opened within {OPENING:?}",
            traffic.counters.connected(),
            options.connections
        );
        signal::sleep(Duration::from_millis(50))?;
    }
    println!("ready");
    // Whoever started this closes it, by intent or by ending.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

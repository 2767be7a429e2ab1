//! What the host's traffic pays for being watched: a load that never rests, the daemon halted and continued
//! in turn.

use std::{
    fmt,
    io::{Read, Write},
    mem,
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread::{self, Scope},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Args;
use detector::engine::judge::at_least;
use lab::{Daemon, Family, Lab, signal};
use rustix::{
    process::Signal,
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

use crate::{
    crowd::{Crowd, Habit},
    report::{Sheet, machine, progress, progress_done},
};

/// Where the figures are written.
const PART: &str = "<!-- generated: cargo xtask bench tax --write -->";
/// What is promised: no more than this share.
const MOST: f64 = 0.01;
/// How often the median of all rounds that could be lies outside of what is called chance.
const DOUBT: f64 = 0.05;
/// Connections at rest beside those that are measured: each sweep passes them.
const CROWD: u32 = 5_000;
/// Connections with requests at once on each processor, and bytes of a request and of its answer.
const CLIENTS: usize = 4;
const REQUEST: usize = 200;
/// Bytes of each write of a bulk transfer.
const PIECE: usize = 128 << 10;
/// A daemon, or a load, has come to rest after this.
const SETTLE: Duration = Duration::from_secs(2);
/// What was halted or continued shows after this.
const TURN: Duration = Duration::from_millis(50);
/// Where the peers listen.
const PORT: u16 = 4000;
/// Whether the daemon runs, in the windows of a round and of the next: whatever grows or shrinks steadily
/// meanwhile does so on both sides alike.
const ROUNDS: [[bool; 4]; 2] = [[false, true, true, false], [true, false, false, true]];
/// Instead of the number of a window: between two, and after the last.
const BETWEEN: u32 = 0;
const END: u32 = u32::MAX;
/// What was done in a window is told within this time.
const TOLD: Duration = Duration::from_secs(10);

/// Options of `tax`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Rounds of each kind: the daemon halted, running, running, halted, or the other way round
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(10..))]
    rounds: u32,
    /// Seconds of each of the four
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Write the figures into docs/performance.md
    #[arg(long)]
    write: bool,
}

/// Where the packets go.
#[derive(Debug, Clone, Copy)]
enum Way {
    Loopback,
    Veth,
}

impl fmt::Display for Way {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Loopback => "loopback",
            Self::Veth => "veth and a router",
        })
    }
}

impl Way {
    /// Connections, each with both ends.
    fn connect(self, lab: &Lab, count: usize) -> Result<Vec<(TcpStream, TcpStream)>> {
        let (peer, address) = match self {
            Self::Loopback => (&lab.host, IpAddr::V4(Ipv4Addr::LOCALHOST)),
            Self::Veth => (&lab.net, lab.upstreams[0].destination(0, Family::V4)),
        };
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
        let listener = peer.run(|| TcpListener::bind(any))??;
        let one = || {
            let client = lab
                .host
                .run(|| TcpStream::connect((address, PORT)))?
                .context("the peer does not answer")?;
            let (server, _) = listener.accept()?;
            client.set_nodelay(true)?;
            server.set_nodelay(true)?;
            Ok((client, server))
        };
        (0..count).map(|_| one()).collect()
    }
}

/// What the hosts of this load do, without a pause.
#[derive(Debug, Clone, Copy)]
enum Load {
    /// Small requests and answers, one after the other on each connection.
    Requests,
    /// A stream on each connection, as fast as it goes.
    Bulk,
}

impl Load {
    /// How many connections each processor has.
    fn connections(self) -> usize {
        match self {
            Self::Requests => CLIENTS,
            Self::Bulk => 1,
        }
    }

    /// Starts both ends of a connection; one of them tells what was done.
    fn start<'scope>(
        self,
        scope: &'scope Scope<'scope, '_>,
        (client, server): &'scope (TcpStream, TcpStream),
        tally: Tally<'scope>,
    ) {
        match self {
            Self::Requests => {
                scope.spawn(move || echo(server));
                scope.spawn(move || ask(client, tally));
            }
            Self::Bulk => {
                scope.spawn(move || pour(client));
                scope.spawn(move || swallow(server, tally));
            }
        }
    }
}

/// What one end has done in one window.
#[derive(Debug, Default)]
struct Done {
    /// Requests, or bytes.
    amount: u64,
    /// How long each answer took.
    latencies: Vec<Duration>,
}

/// Counts what one end does, and tells it after each window.
#[derive(Debug)]
struct Tally<'a> {
    /// The window that it is now.
    now: &'a AtomicU32,
    /// The window in which this was done.
    window: u32,
    done: Done,
    to: mpsc::Sender<Done>,
}

impl Tally<'_> {
    /// Adds what has been done just now; whether to go on.
    fn add(&mut self, amount: u64, latency: Option<Duration>) -> bool {
        let now = self.now.load(Ordering::Relaxed);
        if now != self.window {
            let done = mem::take(&mut self.done);
            // Nobody listens any more when the measurement has been broken off.
            if self.window != BETWEEN && self.to.send(done).is_err() {
                return false;
            }
            self.window = now;
        }
        self.done.amount += amount;
        self.done.latencies.extend(latency);
        now != END
    }
}

/// What a load has done in one window.
#[derive(Debug, Clone, Copy)]
struct Outcome {
    /// Requests, or bytes, in a second.
    rate: f64,
    /// Seconds that 99 of 100 requests do not exceed.
    p99: Option<f64>,
}

/// The daemon, which runs or is halted; dropped, it runs, or it could not end.
struct Watch<'a> {
    daemon: &'a Daemon,
    runs: bool,
}

impl Watch<'_> {
    fn turn(&mut self, runs: bool) -> Result<()> {
        if self.runs != runs {
            self.daemon
                .signal(if runs { Signal::CONT } else { Signal::STOP })?;
            self.runs = runs;
        }
        signal::sleep(TURN)
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let _ = self.daemon.signal(Signal::CONT);
    }
}

/// Relative differences of rounds: with the daemon, against without.
#[derive(Debug, Default)]
struct Differences(Vec<f64>);

impl Differences {
    /// Adds a round: what its windows with the daemon and those without have shown.
    fn add(&mut self, with: &[Outcome], without: &[Outcome], of: impl Fn(&Outcome) -> Option<f64>) {
        let sum = |these: &[Outcome]| these.iter().map(&of).sum::<Option<f64>>();
        if let (Some(with), Some(without)) = (sum(with), sum(without)) {
            self.0.push(with / without - 1.0);
        }
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    /// The median, and what it may be off by chance: half the distance of the two differences that it lies
    /// between but for [`DOUBT`], whatever the distribution (the sign test turned around).
    fn median(&self) -> (f64, f64) {
        let sorted = self.sorted();
        let count = sorted.len();
        let middle = (sorted[(count - 1) / 2] + sorted[count / 2]) / 2.0;
        // So few rounds lie on one side of it with that chance.
        let few = |these: u32| at_least(count as u32 - these, count as u32, 0.5) < DOUBT / 2.0;
        let outside = (1..count as u32 / 2).take_while(|it| few(*it)).count();
        let (low, high) = (sorted[outside], sorted[count - 1 - outside]);
        (middle, (high - low) / 2.0)
    }

    /// How far one round is from another: half the distance between which the middle half of them lies.
    fn noise(&self) -> f64 {
        let sorted = self.sorted();
        let count = sorted.len();
        (sorted[count - 1 - count / 4] - sorted[count / 4]) / 2.0
    }

    /// Writes a row; `worse` is 1 when more is worse, else -1.
    fn report(&self, sheet: &mut Sheet, name: &str, worse: f64) {
        let ((median, chance), noise) = (self.median(), self.noise());
        let paid = median * worse;
        let met = sheet.verdict(paid + chance <= MOST && paid <= noise);
        let percent = |it: f64| format!("{:.2} %", it * 100.0);
        sheet.line(&format!(
            "{name:<52}{:>9}{:>9}{:>11}   at most {:.0} %: {met}",
            format!("{:+.2} %", median * 100.0),
            percent(chance),
            percent(noise),
            MOST * 100.0
        ));
    }
}

/// Measures; whether the limits are met.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let lab = Lab::start(2)?;
    let _crowd = Crowd::open(&lab, 1..2, CROWD, Habit::Rest)?;
    let daemon = Daemon::start(&lab)?;
    let mut sheet = Sheet::default();
    sheet.line(&format!(
        "tax: the daemon running against halted, {} rounds of 4 windows of {} s, {CROWD} more connections at rest; {}\n\n{:<54}{:>9}{:>9}{:>11}",
        options.rounds,
        options.seconds,
        machine(),
        "",
        "median",
        "chance",
        "one round"
    ));
    for way in [Way::Loopback, Way::Veth] {
        let (rate, p99) = measure(&lab, &daemon, options, Load::Requests, way)?;
        let name = format!("requests, {way}");
        rate.report(&mut sheet, &format!("{name}: answered in a second"), -1.0);
        p99.report(&mut sheet, &format!("{name}: 99 of 100 within"), 1.0);
        let (rate, _) = measure(&lab, &daemon, options, Load::Bulk, way)?;
        let name = format!("bulk, {way}");
        rate.report(&mut sheet, &format!("{name}: bytes in a second"), -1.0);
    }
    daemon.stop()?;
    sheet.finish(PART, options.write)
}

/// Has a load run and measures it in rounds: how its rate and its latency differ.
fn measure(
    lab: &Lab,
    daemon: &Daemon,
    options: &Options,
    load: Load,
    way: Way,
) -> Result<(Differences, Differences)> {
    let places = Places::find()?;
    let connections = way.connect(lab, load.connections() * places.count())?;
    let window = AtomicU32::new(BETWEEN);
    let (to, told) = mpsc::channel();
    thread::scope(|scope| {
        for (number, connection) in connections.iter().enumerate() {
            places.stay(number)?;
            let tally = Tally {
                now: &window,
                window: BETWEEN,
                done: Done::default(),
                to: to.clone(),
            };
            load.start(scope, connection, tally);
        }
        drop(places);
        let ends = connections.len();
        let rounds = rounds(daemon, options, &format!("{load:?}, {way}"), |number| {
            one(options.seconds, &window, number, &told, ends)
        });
        window.store(END, Ordering::Relaxed);
        for (client, _) in &connections {
            // Whoever waits for the other end wakes up.
            let _ = client.shutdown(Shutdown::Both);
        }
        rounds
    })
}

/// Has the daemon run and not run in turn, with a measurement in each window.
fn rounds(
    daemon: &Daemon,
    options: &Options,
    name: &str,
    mut measure: impl FnMut(u32) -> Result<Outcome>,
) -> Result<(Differences, Differences)> {
    let (mut rates, mut p99s) = (Differences::default(), Differences::default());
    let mut watch = Watch { daemon, runs: true };
    let mut number = BETWEEN;
    signal::sleep(SETTLE)?;
    for round in 1..=options.rounds {
        progress(&format!("{name}: round {round} of {}", options.rounds));
        let turns = ROUNDS[round as usize % ROUNDS.len()];
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for runs in turns {
            watch.turn(runs)?;
            number += 1;
            let outcome = measure(number)?;
            if runs {
                with.push(outcome);
            } else {
                without.push(outcome);
            }
        }
        rates.add(&with, &without, |it| Some(it.rate));
        p99s.add(&with, &without, |it| it.p99);
    }
    progress_done();
    Ok((rates, p99s))
}

/// One window.
fn one(
    seconds: f64,
    window: &AtomicU32,
    number: u32,
    told: &mpsc::Receiver<Done>,
    ends: usize,
) -> Result<Outcome> {
    let begin = Instant::now();
    window.store(number, Ordering::Relaxed);
    signal::sleep(Duration::from_secs_f64(seconds))?;
    window.store(BETWEEN, Ordering::Relaxed);
    let took = begin.elapsed();
    let mut sum = Done::default();
    for _ in 0..ends {
        let done = told.recv_timeout(TOLD).context("the load has ended")?;
        sum.amount += done.amount;
        sum.latencies.extend(done.latencies);
    }
    sum.latencies.sort_unstable();
    let p99 = sum.latencies.get(sum.latencies.len() * 99 / 100);
    Ok(Outcome {
        rate: sum.amount as f64 / took.as_secs_f64(),
        p99: p99.map(Duration::as_secs_f64),
    })
}

/// The processors that this thread may run on now, and may again once this goes. Where the two ends of a
/// connection run makes more of a difference than anything that is to be measured, so each has its place.
struct Places(CpuSet);

impl Places {
    fn find() -> Result<Self> {
        Ok(Self(sched_getaffinity(None)?))
    }

    fn count(&self) -> usize {
        self.0.count() as usize
    }

    /// Keeps this thread, and those that it starts from here on, in one of them.
    fn stay(&self, number: usize) -> Result<()> {
        let mine = (0..CpuSet::MAX_CPU).filter(|it| self.0.is_set(*it));
        let mut place = CpuSet::new();
        mine.cycle()
            .nth(number)
            .into_iter()
            .for_each(|it| place.set(it));
        sched_setaffinity(None, &place).context("a thread cannot be kept on a processor")
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        let _ = sched_setaffinity(None, &self.0);
    }
}

/// Answers until the client closes.
fn echo(mut server: &TcpStream) {
    let mut data = [0; REQUEST];
    while server.read_exact(&mut data).is_ok() && server.write_all(&data).is_ok() {}
}

/// Asks, and tells how long each answer took.
fn ask(mut client: &TcpStream, mut tally: Tally<'_>) {
    let mut data = [0; REQUEST];
    loop {
        let begin = Instant::now();
        let answered = client
            .write_all(&data)
            .and_then(|()| client.read_exact(&mut data));
        // What broke off tells no more, and that is seen.
        if answered.is_err() || !tally.add(1, Some(begin.elapsed())) {
            return;
        }
    }
}

/// Writes until the other end closes.
fn pour(mut client: &TcpStream) {
    let data = vec![0; PIECE];
    while client.write_all(&data).is_ok() {}
}

/// Reads to the end, and tells how many bytes there were.
fn swallow(mut server: &TcpStream, mut tally: Tally<'_>) {
    let mut data = vec![0; PIECE];
    while let Ok(count @ 1..) = server.read(&mut data) {
        if !tally.add(count as u64, None) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_lies_between_the_sixth_and_the_fifteenth_of_twenty() {
        let mut differences = Differences((0..20).map(f64::from).collect());
        assert_eq!(differences.median(), (9.5, 4.5));
        // One that is far off does not matter.
        differences.0[19] = 1e9;
        assert_eq!(differences.median(), (9.5, 4.5));
        assert_eq!(differences.noise(), 4.5, "the middle half: 5 to 14");
        let ten = Differences((0..10).map(f64::from).collect());
        assert_eq!(ten.median(), (4.5, 3.5), "the second and the ninth of ten");
    }

    #[test]
    fn what_one_window_has_more_than_another_shows() {
        let outcome = |rate| Outcome { rate, p99: None };
        let mut rates = Differences::default();
        rates.add(
            &[outcome(98.0), outcome(100.0)],
            &[outcome(99.0), outcome(101.0)],
            |it| Some(it.rate),
        );
        assert_eq!(rates.0, [198.0 / 200.0 - 1.0]);
        rates.add(&[outcome(1.0)], &[outcome(1.0)], |it| it.p99);
        assert_eq!(rates.0.len(), 1, "nothing was measured");
    }
}

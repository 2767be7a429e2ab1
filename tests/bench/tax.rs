//! What the host's traffic pays for being watched: the same load with and without the daemon, in pairs.

use std::{
    fmt,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Args;
use detector::engine::judge::at_least;
use lab::{Daemon, Family, Lab, signal};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::{
    crowd::{Crowd, Habit},
    report::{Sheet, machine, progress, progress_done},
};

/// Where the figures are written.
const PART: &str = "<!-- generated: cargo xtask bench tax --write -->";
/// What is promised: no more than this share, and no more than chance explains.
const MOST: f64 = 0.01;
/// How often the median of all pairs that could be lies outside of what is called chance.
const DOUBT: f64 = 0.05;
/// Connections at rest beside those that are measured: each sweep passes them.
const CROWD: u32 = 5_000;
/// Connections with requests at once, and bytes of a request and of its answer.
const CLIENTS: usize = 8;
const REQUEST: usize = 200;
/// Bytes of each write of a bulk transfer.
const PIECE: usize = 128 << 10;
/// A daemon has come to rest after this.
const SETTLE: Duration = Duration::from_secs(2);
/// Where the peers listen.
const PORT: u16 = 4000;

/// Options of `tax`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Pairs of each kind
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(10..))]
    pairs: u32,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 2.0)]
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

/// What one measurement gives.
#[derive(Debug, Clone, Copy)]
struct Outcome {
    /// Requests, or bytes, in a second.
    rate: f64,
    /// Seconds that 99 of 100 requests do not exceed.
    p99: Option<f64>,
}

/// Relative differences of pairs: with the daemon, against without.
#[derive(Debug, Default)]
struct Differences(Vec<f64>);

impl Differences {
    fn add(&mut self, without: f64, with: f64) {
        self.0.push((with - without) / without);
    }

    /// The median, and what it may be off by chance: half the distance of the two differences that it lies
    /// between but for [`DOUBT`], whatever the distribution (the sign test turned around). Bulk transfers
    /// sometimes take half or twice as long, which the mean follows.
    fn median(&self) -> (f64, f64) {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let count = sorted.len();
        let middle = (sorted[(count - 1) / 2] + sorted[count / 2]) / 2.0;
        // So few pairs lie on one side of it with that chance.
        let few = |these: u32| at_least(count as u32 - these, count as u32, 0.5) < DOUBT / 2.0;
        let outside = (1..count as u32 / 2).take_while(|it| few(*it)).count();
        let (low, high) = (sorted[outside], sorted[count - 1 - outside]);
        (middle, (high - low) / 2.0)
    }

    /// Writes a row; `worse` is 1 when more is worse, else -1.
    fn report(&self, sheet: &mut Sheet, name: &str, worse: f64) {
        let (median, chance) = self.median();
        let paid = median * worse;
        let met = sheet.verdict(paid <= MOST && paid <= chance);
        let sure = if paid + chance <= MOST {
            ""
        } else {
            ", though less sure than that"
        };
        sheet.line(&format!(
            "{name:<44}{:>+9.2} %{:>9.2} %   at most {:.0} %: {met}{sure}",
            median * 100.0,
            chance * 100.0,
            MOST * 100.0
        ));
    }
}

/// Measures; whether the limits are met.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let lab = Lab::start(2)?;
    let _crowd = Crowd::open(&lab, 1..2, CROWD, Habit::Rest)?;
    let mut sheet = Sheet::default();
    sheet.line(&format!(
        "tax: with the daemon against without, {} pairs of {} s each, {CROWD} more connections at rest; {}\n\n{:<44}{:>11}{:>11}",
        options.pairs,
        options.seconds,
        machine(),
        "",
        "median",
        "by chance"
    ));
    for way in [Way::Loopback, Way::Veth] {
        let name = format!("requests, {way}");
        let (rate, p99) = pairs(&lab, options, &name, |time| requests(&lab, way, time))?;
        rate.report(&mut sheet, &format!("{name}: answered in a second"), -1.0);
        p99.report(&mut sheet, &format!("{name}: 99 of 100 within"), 1.0);
        let name = format!("bulk, {way}");
        let (rate, _) = pairs(&lab, options, &name, |time| bulk(&lab, way, time))?;
        rate.report(&mut sheet, &format!("{name}: bytes in a second"), -1.0);
    }
    sheet.finish(PART, options.write)
}

/// Measures with and without a daemon, in alternating order.
fn pairs(
    lab: &Lab,
    options: &Options,
    name: &str,
    measure: impl Fn(Duration) -> Result<Outcome>,
) -> Result<(Differences, Differences)> {
    let time = Duration::from_secs_f64(options.seconds);
    let watched = || {
        let daemon = Daemon::start(lab)?;
        signal::sleep(SETTLE)?;
        let outcome = measure(time);
        daemon.stop()?;
        outcome
    };
    let alone = || {
        signal::sleep(SETTLE)?;
        measure(time)
    };
    let (mut rate, mut p99) = (Differences::default(), Differences::default());
    for number in 1..=options.pairs {
        progress(&format!("{name}: pair {number} of {}", options.pairs));
        let (without, with) = if number % 2 == 0 {
            let without = alone()?;
            (without, watched()?)
        } else {
            let with = watched()?;
            (alone()?, with)
        };
        rate.add(without.rate, with.rate);
        if let (Some(without), Some(with)) = (without.p99, with.p99) {
            p99.add(without, with);
        }
    }
    progress_done();
    Ok((rate, p99))
}

/// The processors that this thread may run on now, and may again once this goes. Where the two ends of a
/// connection run makes more of a difference than anything that is to be measured, so each has its place.
struct Places(CpuSet);

impl Places {
    fn find() -> Result<Self> {
        Ok(Self(sched_getaffinity(None)?))
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

/// Small requests and answers, one after the other on each connection.
fn requests(lab: &Lab, way: Way, time: Duration) -> Result<Outcome> {
    let connections = way.connect(lab, CLIENTS)?;
    let places = Places::find()?;
    let mut latencies = thread::scope(|scope| {
        let mut clients = Vec::new();
        for (number, (client, server)) in connections.iter().enumerate() {
            places.stay(number)?;
            scope.spawn(move || echo(server));
            clients.push(scope.spawn(move || ask(client, time)));
        }
        let mut all = Vec::new();
        for client in clients {
            match client.join() {
                Ok(latencies) => all.extend(latencies),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        anyhow::Ok(all)
    })?;
    latencies.sort_unstable();
    let p99 = latencies.get(latencies.len() * 99 / 100);
    Ok(Outcome {
        rate: latencies.len() as f64 / time.as_secs_f64(),
        p99: p99.map(Duration::as_secs_f64),
    })
}

/// Answers until the client closes.
fn echo(mut server: &TcpStream) {
    let mut data = [0; REQUEST];
    while server.read_exact(&mut data).is_ok() && server.write_all(&data).is_ok() {}
}

/// Asks for so long; gives how long each answer took.
fn ask(mut client: &TcpStream, time: Duration) -> Vec<Duration> {
    let mut data = [0; REQUEST];
    let mut latencies = Vec::new();
    let end = Instant::now() + time;
    let mut now = Instant::now();
    while now < end {
        if client
            .write_all(&data)
            .and_then(|()| client.read_exact(&mut data))
            .is_err()
        {
            break;
        }
        let answered = Instant::now();
        latencies.push(answered - now);
        now = answered;
    }
    // Its peer waits for this.
    let _ = client.shutdown(Shutdown::Both);
    latencies
}

/// One stream, as fast as it goes.
fn bulk(lab: &Lab, way: Way, time: Duration) -> Result<Outcome> {
    let connections = way.connect(lab, 1)?;
    let (client, server) = &connections[0];
    let places = Places::find()?;
    let bytes = thread::scope(|scope| {
        places.stay(1)?;
        let reader = scope.spawn(move || swallow(server));
        places.stay(0)?;
        let end = Instant::now() + time;
        let data = vec![0; PIECE];
        let mut client: &TcpStream = client;
        // What broke off is less, and seen.
        while Instant::now() < end && client.write_all(&data).is_ok() {}
        let _ = client.shutdown(Shutdown::Write);
        match reader.join() {
            Ok(bytes) => bytes,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })?;
    Ok(Outcome {
        rate: bytes as f64 / time.as_secs_f64(),
        p99: None,
    })
}

/// Reads to the end; gives how many bytes there were.
fn swallow(mut server: &TcpStream) -> Result<u64> {
    let mut data = vec![0; PIECE];
    let mut sum = 0;
    loop {
        match server.read(&mut data)? {
            0 => return Ok(sum),
            count => sum += count as u64,
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
        let ten = Differences((0..10).map(f64::from).collect());
        assert_eq!(ten.median(), (4.5, 3.5), "the second and the ninth of ten");
    }
}

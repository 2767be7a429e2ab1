//! What `ss` says of the same sockets: another program, another way into the kernel (`sock_diag`), another
//! opinion on what is stuck.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use lab::{Daemon, namespace::Namespace};

/// A connection is surely stuck when nothing was acknowledged for so long.
const STUCK: Duration = Duration::from_secs(5);
/// And its data was repeated so often.
const REPEATED: u32 = 2;

/// A connection: local and remote address with their ports.
pub(super) type Pair = (String, String);

/// Sweeps after which a difference is none of time: one may have been under way.
const SWEEPS: f64 = 2.0;
/// However large the host, sweeps come more often than this (`daemon/pace.rs`).
const LONGEST: Duration = Duration::from_secs(35);

/// What is remembered from comparison to comparison.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    missing: Doubts,
    invented: Doubts,
}

/// Differences, and when and after how many sweeps each was first found.
#[derive(Debug, Default)]
struct Doubts(BTreeMap<Pair, (Instant, f64)>);

impl Doubts {
    /// Takes in what a comparison has found; gives what no sweep has mended.
    fn confirm(&mut self, found: BTreeSet<Pair>, sweeps: f64) -> Vec<Pair> {
        self.0.retain(|pair, _| found.contains(pair));
        for pair in found {
            self.0.entry(pair).or_insert((Instant::now(), sweeps));
        }
        let old = self
            .0
            .iter()
            .filter(|(_, (since, before))| sweeps >= before + SWEEPS || since.elapsed() > LONGEST);
        old.map(|(pair, _)| pair.clone()).collect()
    }
}

/// What one comparison has found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Connections that both were asked for.
    pub(super) compared: usize,
    /// That both called stuck.
    pub(super) stuck: usize,
    /// What one says and the other does not, and goes on to when the daemon has looked again.
    pub(super) differences: Vec<(Pair, String)>,
}

impl Oracle {
    /// Asks both, the daemon in between.
    pub(super) fn compare<'a>(
        &mut self,
        daemon: &Daemon,
        places: impl Iterator<Item = &'a Namespace> + Clone,
    ) -> Result<Found> {
        let sweeps = daemon.metric("tcpstall_sweep_duration_seconds_count")?;
        let sweeps = sweeps.context("no metric tells the number of sweeps")?;
        let before = look(places.clone())?;
        let stalls = daemon.stalls(&["--limit", "100000"])?;
        let after = look(places)?;
        let told: BTreeMap<Pair, _> = stalls
            .iter()
            .map(|it| ((it.local.clone(), it.remote.clone()), it))
            .collect();
        let stuck = |pair: &Pair, it: &Socket| {
            let later = after.get(pair);
            it.is_stuck() && later.is_some_and(Socket::is_stuck)
        };
        let stuck: BTreeSet<_> = before
            .iter()
            .filter(|(pair, it)| stuck(pair, it))
            .map(|(pair, _)| pair.clone())
            .collect();
        let missing: BTreeSet<_> = stuck
            .iter()
            .filter(|pair| !told.contains_key(*pair))
            .cloned()
            .collect();
        // What has nothing left to send, before and after, cannot be stuck, unless it waits for
        // what is missing of what arrives.
        let at_rest = |pair: &Pair, waits: bool| {
            let looks = [before.get(pair), after.get(pair)];
            let rests = |it: &Socket| !(it.outstanding || waits && it.disordered);
            looks.iter().all(|it| it.is_some_and(rests))
        };
        let invented: BTreeSet<_> = told
            .iter()
            .filter(|(_, it)| it.phase == "stalled")
            .filter(|(pair, it)| at_rest(pair, it.cause == "receive-hole"))
            .map(|(pair, _)| pair.clone())
            .collect();
        let mut differences = Vec::new();
        for pair in self.missing.confirm(missing, sweeps) {
            let words = format!("ss alone calls it stuck: {pair:?}: {:?}", after.get(&pair));
            differences.push((pair, words));
        }
        for pair in self.invented.confirm(invented, sweeps) {
            let words = format!("ss does not call it stuck: {:?}", told.get(&pair));
            differences.push((pair, words));
        }
        Ok(Found {
            compared: before.len(),
            stuck: stuck.intersection(&told.keys().cloned().collect()).count(),
            differences,
        })
    }
}

/// A socket, as `ss` shows it.
#[derive(Debug, Clone, Default)]
struct Socket {
    outstanding: bool,
    /// Data arrived out of order, now or before.
    disordered: bool,
    /// Repetitions without an acknowledgement, of a retransmission timer that runs.
    repeated: u32,
    acknowledged: Duration,
}

impl Socket {
    fn is_stuck(&self) -> bool {
        self.outstanding && self.repeated >= REPEATED && self.acknowledged > STUCK
    }
}

fn look<'a>(places: impl Iterator<Item = &'a Namespace>) -> Result<BTreeMap<Pair, Socket>> {
    let mut all = BTreeMap::new();
    for place in places {
        let began = Instant::now();
        let output = place.output("ss", &["-tinoHO"])?;
        ensure!(output.status.success(), "ss ended with {}", output.status);
        ensure!(
            began.elapsed() < Duration::from_secs(20),
            "ss takes too long"
        );
        let text = String::from_utf8_lossy(&output.stdout);
        all.extend(text.lines().filter_map(parse));
    }
    Ok(all)
}

/// A line such as `ESTAB 0 500 10.0.0.2:4711 198.18.0.1:25 timer:(on,1.2sec,3) ts sack … unacked:1 …
/// lastack:5320 …`.
fn parse(line: &str) -> Option<(Pair, Socket)> {
    let mut words = line.split_whitespace();
    let state = words.next()?;
    if matches!(state, "SYN-SENT" | "SYN-RECV" | "TIME-WAIT" | "LISTEN") {
        return None;
    }
    let (_, queued) = (words.next()?, words.next()?);
    let (local, remote) = (plain(words.next()?), plain(words.next()?));
    let mut socket = Socket {
        outstanding: queued != "0",
        ..Socket::default()
    };
    for word in words {
        if let Some(timer) = word.strip_prefix("timer:(on,") {
            let count = timer.trim_end_matches(')').rsplit(',').next()?;
            socket.repeated = count.parse().ok()?;
        } else if word.starts_with("rcv_ooopack:") {
            socket.disordered = true;
        } else if let Some(milliseconds) = word.strip_prefix("lastack:") {
            socket.acknowledged = Duration::from_millis(milliseconds.parse().ok()?);
        }
    }
    Some(((local, remote), socket))
}

/// As the daemon writes addresses: no interface, no mapping.
fn plain(address: &str) -> String {
    let address = address.replace("[::ffff:", "[");
    let Some((host, port)) = address.rsplit_once(':') else {
        return address;
    };
    let inner = host.trim_start_matches('[').trim_end_matches(']');
    let inner = inner.split('%').next().unwrap_or(inner);
    if inner.contains(':') {
        format!("[{inner}]:{port}")
    } else {
        format!("{inner}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_one_once_the_daemon_has_looked_again() {
        let pair = ("a".to_owned(), "b".to_owned());
        let found = || BTreeSet::from([pair.clone()]);
        let mut doubts = Doubts::default();
        assert!(doubts.confirm(found(), 7.0).is_empty());
        assert!(doubts.confirm(found(), 8.0).is_empty(), "it was under way");
        assert_eq!(doubts.confirm(found(), 9.0).len(), 1);
        assert!(doubts.confirm(BTreeSet::new(), 10.0).is_empty(), "mended");
        assert!(doubts.confirm(found(), 11.0).is_empty(), "another one");
    }

    #[test]
    fn a_line_is_read() {
        let line = "ESTAB 0      500  203.0.113.2%wan1:40000   198.18.0.1:25  timer:(on,1.2sec,3) \
                    ts sack cubic rto:1600 backoff:3 unacked:1 lastsnd:900 lastack:5320 rcv_space:1";
        let ((local, remote), socket) = parse(line).unwrap();
        assert_eq!(local, "203.0.113.2:40000");
        assert_eq!(remote, "198.18.0.1:25");
        assert!(socket.is_stuck(), "{socket:?}");
        let (_, fine) = parse(&line.replace("5320", "320")).unwrap();
        assert!(!fine.is_stuck());
        let (_, empty) = parse(&line.replace("500 ", "0 ")).unwrap();
        assert!(!empty.is_stuck() && !empty.outstanding && !empty.disordered);
        let (_, hole) = parse(&line.replace("rcv_space", "rcv_ooopack")).unwrap();
        assert!(hole.disordered);
    }

    #[test]
    fn addresses_are_written_as_the_daemon_writes_them() {
        assert_eq!(plain("[::ffff:192.0.2.1]:25"), "192.0.2.1:25");
        assert_eq!(plain("[2001:db8::1]:25"), "[2001:db8::1]:25");
        assert_eq!(plain("[fe80::1%eth0]:25"), "[fe80::1]:25");
    }
}

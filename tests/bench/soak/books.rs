//! What a soak has seen, and what it makes of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

use anyhow::{Context as _, Result};
use lab::Daemon;

use super::{
    oracle::{Found, Pair},
    trouble::Trouble,
};
use crate::{
    report::{Times, heading, verdict},
    usage::{mebibytes, memory},
};

/// Descriptors that come and go with a question or a look-up.
const PASSING: usize = 3;

/// The books.
#[derive(Debug)]
pub(super) struct Books {
    pub(super) seed: u64,
    pub(super) looks: u64,
    pub(super) namespaces: u32,
    pub(super) kills: u32,
    pub(super) reloads: u32,
    pub(super) lost: u64,
    /// Each kind of trouble: how often, and how long until it was named and until it was over.
    pub(super) troubles: BTreeMap<&'static str, (u32, Times, Times)>,
    pub(super) comparisons: u32,
    pub(super) compared: usize,
    pub(super) stuck: usize,
    /// Wrong verdicts.
    pub(super) wrong: Vec<String>,
    pub(super) differences: Vec<String>,
    /// Connections of which one was told already.
    differing: BTreeSet<Pair>,
    /// Bytes and descriptors of the daemon, at first and once it had settled; and the most since.
    pub(super) descriptors: (usize, usize),
    pub(super) settled: Option<u64>,
    /// What it had when it was last looked at.
    resident: u64,
    pub(super) most: u64,
    now: &'static str,
}

impl Books {
    pub(super) fn new(daemon: &Daemon) -> Result<Self> {
        let held = descriptors(daemon)?;
        Ok(Self {
            seed: 0,
            looks: 0,
            namespaces: 0,
            kills: 0,
            reloads: 0,
            lost: 0,
            troubles: BTreeMap::new(),
            comparisons: 0,
            compared: 0,
            stuck: 0,
            wrong: Vec::new(),
            differences: Vec::new(),
            differing: BTreeSet::new(),
            descriptors: (held, held),
            settled: None,
            resident: 0,
            most: 0,
            now: "all is well",
        })
    }

    pub(super) fn begin(&mut self, trouble: Trouble, _upstream: usize) {
        self.now = trouble.name();
        self.troubles.entry(trouble.name()).or_default().0 += 1;
    }

    pub(super) fn found(&mut self, trouble: Trouble, after: Duration) {
        self.troubles
            .entry(trouble.name())
            .or_default()
            .1
            .add(after);
    }

    pub(super) fn recovered(&mut self, trouble: Trouble, after: Duration) {
        self.now = "all is well";
        if !trouble.is_quiet() {
            self.troubles
                .entry(trouble.name())
                .or_default()
                .2
                .add(after);
        }
    }

    /// Said once, however often it is seen in a row; whether that was now.
    pub(super) fn wrong(&mut self, what: String) -> bool {
        let kind = |words: &str| words.split(": ").next().unwrap_or_default().to_owned();
        let is_new = self.wrong.last().map(|it| kind(it)) != Some(kind(&what));
        if is_new {
            eprintln!("\nWRONG: {what}");
            self.wrong.push(what);
        }
        is_new
    }

    pub(super) fn compared(&mut self, found: Found) {
        self.comparisons += 1;
        self.compared += found.compared;
        self.stuck += found.stuck;
        for (pair, difference) in found.differences {
            if self.differing.insert(pair) {
                eprintln!("\nDIFFERENCE: {difference}");
                self.differences.push(difference);
            }
        }
    }

    /// Of a daemon that was just started.
    pub(super) fn measure_first(&mut self, daemon: &Daemon) -> Result<()> {
        let held = descriptors(daemon)?;
        self.descriptors = (held, held);
        Ok(())
    }

    pub(super) fn measure(&mut self, daemon: &Daemon) -> Result<()> {
        self.descriptors.1 = descriptors(daemon)?;
        self.resident = memory(daemon.pid(), "VmRSS")?;
        Ok(())
    }

    /// The same with nothing beside what is always there.
    pub(super) fn measure_at_rest(&mut self, daemon: &Daemon) -> Result<()> {
        self.measure(daemon)?;
        self.settled.get_or_insert(self.resident);
        self.most = self.most.max(self.resident);
        Ok(())
    }

    pub(super) fn growth(&self) -> u64 {
        self.most.saturating_sub(self.settled.unwrap_or(self.most))
    }

    pub(super) fn leaked(&self) -> bool {
        self.descriptors.1 > self.descriptors.0 + PASSING
    }

    pub(super) fn line(&self, at: Duration) -> String {
        let troubles: u32 = self.troubles.values().map(|it| it.0).sum();
        format!(
            "{:.0} s, {troubles} troubles, {} comparisons, {} wrong, {} differences, {}; now: {}",
            at.as_secs_f64(),
            self.comparisons,
            self.wrong.len(),
            self.differences.len(),
            mebibytes(self.resident),
            self.now
        )
    }

    /// Prints everything; whether it is well.
    pub(super) fn print(&self, most_growth: u64) -> bool {
        println!("{}", heading());
        for (name, (count, found, over)) in &self.troubles {
            println!(
                "{}",
                found.row(name, &format!("named, {} of {count}", found.len()))
            );
            println!("{}", over.row("", "over"));
        }
        let met = [
            self.wrong.is_empty(),
            self.differences.is_empty(),
            self.growth() <= most_growth,
            !self.leaked(),
        ];
        let row = |name: &str, value: String, met: bool| {
            println!("{name:<34}{value:>14}   {}", verdict(met));
        };
        println!();
        row("wrong verdicts", self.wrong.len().to_string(), met[0]);
        row(
            "differences from ss",
            self.differences.len().to_string(),
            met[1],
        );
        row("growth once settled", mebibytes(self.growth()), met[2]);
        row(
            "descriptors, first and last",
            format!("{}, {}", self.descriptors.0, self.descriptors.1),
            met[3],
        );
        println!(
            "\n{} looks; {} comparisons of {} sockets, {} of them stuck; {} containers; {} kills, {} \
             reloads; {} events lost",
            self.looks,
            self.comparisons,
            self.compared,
            self.stuck,
            self.namespaces,
            self.kills,
            self.reloads,
            self.lost
        );
        for what in self.wrong.iter().chain(&self.differences) {
            println!("{what}");
        }
        met.iter().all(|it| *it)
    }
}

fn descriptors(daemon: &Daemon) -> Result<usize> {
    let folder = format!("/proc/{}/fd", daemon.pid());
    Ok(fs::read_dir(&folder)
        .with_context(|| format!("cannot read {folder}"))?
        .count())
}

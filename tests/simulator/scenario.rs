//! Scenario files: a world, what breaks in it, and what is expected of the judgement.
//!
//! **Invariant:** a file that is not understood is refused with one sentence: file, line, key, and
//! what was expected.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use detector::model::Cause;
use serde::Deserialize;

use super::{
    fault::{Fault, Kind},
    random::Random,
    trap::{self, Trap},
};

mod value;

pub use value::{Number, Range, Share, Span};

/// Where the files are.
pub const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");

/// A file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it is called on the command line.
    pub name: String,
    /// What it is about, in a sentence.
    pub about: String,
    /// The host.
    pub world: Shape,
    /// What breaks; nothing without it.
    pub fault: Option<Break>,
    /// What is expected.
    #[serde(default)]
    pub expect: Expectation,
}

/// A host: numbers are drawn from ranges for each run.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Shape {
    /// Upstreams.
    pub upstreams: Range<Number>,
    /// Destinations of each upstream, each in use.
    pub destinations: Range<Number>,
    /// Connections of each upstream that send.
    pub connections: Range<Number>,
    /// How applications send.
    pub manner: Manners,
    /// Bytes of a message.
    pub message_bytes: Range<Number>,
    /// Share of the messages that are short, as commands of mail and questions of the web are.
    pub commands: f64,
    /// From one message of a connection to the next.
    pub message_every: Range<Span>,
    /// Time there and back.
    pub rtt: Range<Span>,
    /// Share of packets that vanish, in each direction, although nothing is wrong.
    pub background_loss: Range<Share>,
    /// Share of destinations that are in use through several upstreams.
    pub shared: f64,
    /// Share of destinations that belong to a larger site.
    pub clustered: f64,
    /// Seconds that each connection lives at least; a few live very much longer.
    pub shortest_life: f64,
    /// What merely looks like an outage.
    pub traps: Vec<Trap>,
    /// All traps there are.
    pub every_trap: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            upstreams: Range::just(Number(3)),
            destinations: Range::just(Number(12)),
            connections: Range::just(Number(36)),
            manner: Manners::Mixed,
            message_bytes: Range::new(Number(200), Number(20_000)),
            commands: 0.3,
            message_every: Range::new(Span(200_000_000), Span(1_000_000_000)),
            rtt: Range::just(Span(50_000_000)),
            background_loss: Range::new(Share(0.0), Share(0.01)),
            shared: 0.3,
            clustered: 0.2,
            shortest_life: 20.0,
            traps: Vec::new(),
            every_trap: false,
        }
    }
}

/// How applications send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Manners {
    /// Without waiting.
    Stream,
    /// One question at a time.
    Request,
    /// Half of them each.
    Mixed,
}

/// What breaks.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Break {
    /// What happens to packets.
    pub kind: FaultKind,
    /// Share of packets that vanish, with `loss` and `return-path`.
    #[serde(default)]
    pub severity: Option<f64>,
    /// Largest packet that passes, with `mtu`.
    #[serde(default)]
    pub largest_packet: Option<Range<Number>>,
    /// Share of the connections that are hit, chosen by their ports.
    #[serde(default = "whole")]
    pub connections: f64,
    /// Share of the destinations that are hit.
    #[serde(default = "whole")]
    pub destinations: f64,
    /// At every upstream, not at one.
    #[serde(default)]
    pub everywhere: bool,
    /// How long it lasts.
    pub lasts: Span,
}

fn whole() -> f64 {
    1.0
}

/// What happens to packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// All vanish.
    Blackhole,
    /// Large ones vanish.
    Mtu,
    /// Some vanish on the way there.
    Loss,
    /// Some vanish on the way back.
    ReturnPath,
    /// The gateway does not answer on its link.
    Neighbour,
    /// They do not leave the host.
    Local,
}

/// What is expected of the judgement; what is not given is not judged.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expectation {
    /// Share of the runs in which the upstream is found at least.
    pub found: Option<f64>,
    /// So soon; later does not count.
    pub within: Option<Span>,
    /// In half of the runs it is found so soon.
    pub median: Option<Span>,
    /// In 99 of 100 runs it is found so soon.
    pub p99: Option<Span>,
    /// The cause that is named at once or within ten seconds.
    pub cause: Option<Cause>,
    /// Share of the found runs in which another is named at most.
    pub wrong_cause: Option<f64>,
    /// Share of the runs in which another upstream is called bad at most.
    pub wrong_upstream: Option<f64>,
    /// The upstream is never called `failing`.
    pub never_failing: bool,
    /// It is said of every upstream that all are concerned.
    pub common: bool,
    /// False alarms in a thousand days of one upstream, at most.
    pub false_alarms: Option<f64>,
}

impl Scenario {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or is not understood: which, and where.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        Ok(Self::parse(path, &text)?)
    }

    /// Reads the file of `tests/scenarios/` that is called so.
    ///
    /// # Errors
    /// The same.
    pub fn named(name: &str) -> anyhow::Result<Self> {
        Self::read(&Path::new(FOLDER).join(format!("{name}.toml")))
    }

    /// Understands a file's text.
    ///
    /// # Errors
    /// What is wrong, where, and what was expected.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Mistake> {
        let scenario: Self =
            toml::from_str(text).map_err(|error| Mistake::of(path, text, &error))?;
        if let Some(problem) = scenario.problem() {
            return Err(Mistake {
                file: path.to_owned(),
                line: line_of(text, problem.0),
                problem: problem.1.to_owned(),
            });
        }
        Ok(scenario)
    }

    /// A key whose value does not go with the others, and what was expected.
    fn problem(&self) -> Option<(&'static str, &'static str)> {
        let broken = self.fault.as_ref();
        let lossy = |it: &&Break| matches!(it.kind, FaultKind::Loss | FaultKind::ReturnPath);
        if broken.filter(lossy).is_some_and(|it| it.severity.is_none()) {
            return Some(("kind", "needs the key `severity`, a share from 0 to 1"));
        }
        let mtu = |it: &&Break| it.kind == FaultKind::Mtu;
        if broken
            .filter(mtu)
            .is_some_and(|it| it.largest_packet.is_none())
        {
            return Some(("kind", "needs the key `largest_packet`, bytes such as 1000"));
        }
        if self.world.upstreams.low.0 < 1 || self.world.upstreams.high.0 > 20 {
            return Some((
                "upstreams",
                "found a number outside 1 to 20, expected one inside",
            ));
        }
        if self.world.destinations.low.0 < 1 || self.world.destinations.high.0 > 200 {
            return Some((
                "destinations",
                "found a number outside 1 to 200, expected one inside",
            ));
        }
        None
    }

    /// The traps that are set.
    pub fn traps(&self) -> Vec<Trap> {
        if self.world.every_trap {
            trap::ALL.to_vec()
        } else {
            self.world.traps.clone()
        }
    }

    /// Whether a trap is set.
    pub fn has(&self, trap: Trap) -> bool {
        self.world.every_trap || self.world.traps.contains(&trap)
    }
}

impl Break {
    /// What breaks in one run.
    pub fn draw(&self, random: &mut Random) -> Fault {
        let severity = self.severity.unwrap_or(0.0);
        let kind = match self.kind {
            FaultKind::Blackhole => Kind::Blackhole,
            FaultKind::Mtu => {
                let largest = self.largest_packet.as_ref();
                Kind::Mtu(largest.map_or(0, |range| range.draw(random)) as u32)
            }
            FaultKind::Loss => Kind::Loss(severity),
            FaultKind::ReturnPath => Kind::ReturnPath(severity),
            FaultKind::Neighbour => Kind::Neighbour,
            FaultKind::Local => Kind::Local,
        };
        Fault {
            kind,
            connections: self.connections,
            destinations: self.destinations,
            salt: random.bits(),
        }
    }
}

/// Why a file is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The file.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: Option<usize>,
    /// What was found, and what was expected.
    pub problem: String,
}

impl Mistake {
    fn of(file: &Path, text: &str, error: &toml::de::Error) -> Self {
        let place = error.span().map(|span| span.start.min(text.len()));
        let line = place.map(|place| 1 + text[..place].matches('\n').count());
        let key = line
            .and_then(|line| text.lines().nth(line - 1))
            .and_then(|line| line.split_once('='))
            .map(|(key, _)| key.trim());
        let what = error.message().replace('\n', " ");
        let problem = match key {
            Some(key) if !what.contains(&format!("`{key}`")) => format!("{key}: {what}"),
            _ => what,
        };
        Self {
            file: file.to_owned(),
            line,
            problem,
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl std::error::Error for Mistake {}

fn line_of(text: &str, key: &str) -> Option<usize> {
    let at = |line: &str| line.split_once('=').is_some_and(|it| it.0.trim() == key);
    text.lines().position(at).map(|line| line + 1)
}

#[cfg(test)]
mod tests;

//! The lines of a recording.
//!
//! **Invariant:** plain data. Fields are added, never renamed or dropped; readers ignore what they
//! do not know. What breaks that raises [`FORMAT`].

use std::{collections::BTreeMap, time::Duration};

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    config::{Config, Rule},
    engine::{self, baseline::Baseline},
    model::{Input, Transition},
    time::{Time, span},
};

/// Version of the lines; a reader refuses newer ones.
pub const FORMAT: u32 = 1;
/// Bytes of a line at most: a sweep over some 90,000 connections in trouble.
pub const LONGEST: usize = 64 << 20;

/// The first line: whose recording it is, and how the engine was set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`].
    pub tcpstall_recording: u32,
    /// Version of the daemon.
    #[serde(default)]
    pub version: String,
    /// Name of the host.
    #[serde(default)]
    pub host: String,
    /// Release of its kernel.
    #[serde(default)]
    pub kernel: String,
    /// The wall clock when it began.
    pub started_at: Timestamp,
    /// The same on the clock of all other lines.
    pub at: Time,
    /// Settings of the engine.
    pub settings: Settings,
}

/// What the engine was told by people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Without progress for this long a connection is stalled.
    #[serde(with = "span")]
    pub stall_after: Duration,
    /// Remote addresses that are not looked at.
    #[serde(default)]
    pub ignore: Vec<IpNet>,
    /// Upstreams, first match wins.
    #[serde(default)]
    pub upstreams: Vec<Rule>,
}

/// Any other line, as it is read: of what follows `at` there is one, or none that is known.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Line {
    /// When.
    pub at: Time,
    /// The engine was told something.
    pub input: Option<Input>,
    /// The engine answered.
    pub said: Option<Transition>,
    /// Other settings were in force from here on.
    pub settings: Option<Settings>,
    /// What the daemon had learned before.
    pub learned: Option<Learned>,
    /// The last line.
    pub end: Option<End>,
}

/// What is usual at each upstream.
pub type Learned = BTreeMap<String, Baseline>;

/// A line as it is written.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Content<'a> {
    Input(&'a Input),
    Said(&'a Transition),
    Settings(&'a Settings),
    Learned(&'a Learned),
}

#[derive(Debug, Serialize)]
struct Stamped<'a> {
    at: Time,
    #[serde(flatten)]
    content: Content<'a>,
}

/// A line with an input.
///
/// # Errors
/// None that is known: all of it can be written as JSON.
pub fn input(at: Time, input: &Input) -> serde_json::Result<Vec<u8>> {
    let content = Content::Input(input);
    line(&Stamped { at, content })
}

/// A line with an answer.
///
/// # Errors
/// As [`input`].
pub fn said(at: Time, said: &Transition) -> serde_json::Result<Vec<u8>> {
    let content = Content::Said(said);
    line(&Stamped { at, content })
}

/// A line with other settings.
///
/// # Errors
/// As [`input`].
pub fn settings(at: Time, settings: &Settings) -> serde_json::Result<Vec<u8>> {
    let content = Content::Settings(settings);
    line(&Stamped { at, content })
}

/// A line with what was learned.
///
/// # Errors
/// As [`input`].
pub fn learned(at: Time, learned: &Learned) -> serde_json::Result<Vec<u8>> {
    let content = Content::Learned(learned);
    line(&Stamped { at, content })
}

/// The last line.
///
/// # Errors
/// As [`input`].
pub fn end(end: &End) -> serde_json::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Last<'a> {
        end: &'a End,
    }
    line(&Last { end })
}

/// The first line.
///
/// # Errors
/// As [`input`].
pub fn header(header: &Header) -> serde_json::Result<Vec<u8>> {
    line(header)
}

fn line(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

/// How a recording ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// When, on the clock of all other lines.
    pub at: Time,
    /// Why, in words.
    pub reason: String,
    /// Inputs that were written.
    #[serde(default)]
    pub inputs: u64,
    /// Answers that were written.
    #[serde(default)]
    pub said: u64,
}

impl Header {
    /// The wall clock at `time`.
    pub fn wall_at(&self, time: Time) -> Timestamp {
        let later = self.started_at.checked_add(time.since(self.at));
        later
            .and_then(|it| it.checked_sub(self.at.since(time)))
            .unwrap_or(self.started_at)
    }
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Self {
        Self {
            stall_after: config.detect.stall_after,
            ignore: config.detect.ignore.clone(),
            upstreams: config.upstreams.clone(),
        }
    }
}

impl From<engine::Settings> for Settings {
    fn from(settings: engine::Settings) -> Self {
        let engine::Settings {
            stall_after,
            ignore,
            rules,
        } = settings;
        Self {
            stall_after,
            ignore,
            upstreams: rules,
        }
    }
}

impl From<Settings> for engine::Settings {
    fn from(settings: Settings) -> Self {
        Self {
            stall_after: settings.stall_after,
            ignore: settings.ignore,
            rules: settings.upstreams,
        }
    }
}

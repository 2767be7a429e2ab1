//! Who records what the engine is told.
//!
//! **Invariant:** costs nothing while nobody records, save for what an engine must know to start
//! anew; never waits: a reader that falls behind loses its recording, not the daemon its time.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use hyper::body::Bytes;
use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::{
    model::{IfIndex, Input, Interface, NetnsId, NextHop, Reachability},
    record::line::{self, End, FORMAT, Header, Learned, Settings},
    time::Time,
};

/// Recordings at a time.
const AT_ONCE: usize = 2;
/// Bytes that a reader may be behind.
const BEHIND: usize = if cfg!(test) { 256 << 10 } else { 32 << 20 };

/// Hands what the engine is told to those who record it; all clones are one.
#[derive(Debug, Clone)]
pub struct Recordings(Arc<Mutex<Studio>>);

#[derive(Debug)]
struct Studio {
    host: String,
    kernel: String,
    settings: Settings,
    interfaces: BTreeMap<(NetnsId, IfIndex), Interface>,
    neighbours: BTreeMap<NextHop, Reachability>,
    readers: Vec<Reader>,
}

#[derive(Debug)]
struct Reader {
    lines: mpsc::UnboundedSender<Bytes>,
    behind: Arc<AtomicUsize>,
    inputs: u64,
    /// It has not been told what was learned before.
    is_new: bool,
}

/// The lines of one recording, as they come.
#[derive(Debug)]
pub(super) struct Lines {
    lines: mpsc::UnboundedReceiver<Bytes>,
    behind: Arc<AtomicUsize>,
}

impl Lines {
    /// The next one; `None` when there will be no more.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        let line = self.lines.recv().await?;
        self.behind.fetch_sub(line.len(), Ordering::Relaxed);
        Some(line)
    }
}

impl Recordings {
    /// Nobody records yet.
    pub fn new(host: String, kernel: String, settings: Settings) -> Self {
        Self(Arc::new(Mutex::new(Studio {
            host,
            kernel,
            settings,
            interfaces: BTreeMap::new(),
            neighbours: BTreeMap::new(),
            readers: Vec::new(),
        })))
    }

    /// The engine, which has `learned` this, is about to be told `input` at `now`.
    pub fn tell(&self, now: Time, input: &Input, learned: impl FnOnce() -> Learned) {
        let mut studio = self.studio();
        studio.remember(input);
        if studio.readers.is_empty() {
            return;
        }
        if studio.readers.iter().any(|reader| reader.is_new) {
            studio.teach(now, &learned());
        }
        studio.send(now, 1, line::input(now, input));
    }

    /// The engine has other settings from `now` on.
    pub fn configure(&self, now: Time, settings: Settings) {
        let mut studio = self.studio();
        if !studio.readers.is_empty() {
            studio.send(now, 0, line::settings(now, &settings));
        }
        studio.settings = settings;
    }

    /// A recording that begins now; `None` when there are [`AT_ONCE`] already.
    pub(super) fn begin(&self, now: Time, wall: Timestamp) -> Option<Lines> {
        let mut studio = self.studio();
        studio.readers.retain(|reader| !reader.lines.is_closed());
        if studio.readers.len() >= AT_ONCE {
            return None;
        }
        let (sender, lines) = mpsc::unbounded_channel();
        let mut reader = Reader {
            lines: sender,
            behind: Arc::new(AtomicUsize::new(0)),
            inputs: 0,
            is_new: true,
        };
        let behind = Arc::clone(&reader.behind);
        studio.introduce(&mut reader, now, wall).ok()?;
        studio.readers.push(reader);
        Some(Lines { lines, behind })
    }

    fn studio(&self) -> MutexGuard<'_, Studio> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Studio {
    /// Keeps what an engine must be told that starts later.
    fn remember(&mut self, input: &Input) {
        match input {
            Input::Interface(netns, index, Some(interface)) => {
                self.interfaces.insert((*netns, *index), interface.clone());
            }
            Input::Interface(netns, index, None) => {
                self.interfaces.remove(&(*netns, *index));
            }
            Input::Neighbour(hop, Some(reachability)) => {
                self.neighbours.insert(*hop, *reachability);
            }
            Input::Neighbour(hop, None) => {
                self.neighbours.remove(hop);
            }
            Input::Timeout(_)
            | Input::Closed(_)
            | Input::Sweep(_)
            | Input::Route(..)
            | Input::Suspended(_)
            | Input::Killed(_)
            | Input::Tick => {}
        }
    }

    /// The header, and what has been told before that still holds.
    fn introduce(&self, reader: &mut Reader, now: Time, wall: Timestamp) -> serde_json::Result<()> {
        reader.send(&Bytes::from(line::header(&Header {
            tcpstall_recording: FORMAT,
            version: super::VERSION.to_owned(),
            host: self.host.clone(),
            kernel: self.kernel.clone(),
            started_at: wall,
            at: now,
            settings: self.settings.clone(),
        })?));
        let interfaces = self.interfaces.iter().map(|((netns, index), interface)| {
            Input::Interface(*netns, *index, Some(interface.clone()))
        });
        let neighbours = self.neighbours.iter();
        let neighbours = neighbours.map(|(hop, it)| Input::Neighbour(*hop, Some(*it)));
        for input in interfaces.chain(neighbours) {
            reader.inputs += 1;
            reader.send(&Bytes::from(line::input(now, &input)?));
        }
        Ok(())
    }

    /// What was learned before, for those that have just begun.
    fn teach(&mut self, now: Time, learned: &Learned) {
        let line = match line::learned(now, learned) {
            Ok(line) if !learned.is_empty() => Some(Bytes::from(line)),
            // Without it the verdicts are those of a daemon that has just started.
            _ => None,
        };
        for reader in self.readers.iter_mut().filter(|reader| reader.is_new) {
            reader.is_new = false;
            if let Some(line) = &line {
                reader.send(line);
            }
        }
    }

    fn send(&mut self, now: Time, inputs: u64, line: serde_json::Result<Vec<u8>>) {
        let line = match line {
            Ok(line) => Bytes::from(line),
            Err(error) => {
                tracing::warn!(%error, "an input cannot be written; recordings end here");
                self.readers.clear();
                return;
            }
        };
        self.readers.retain_mut(|reader| {
            reader.inputs += inputs;
            let behind = reader.behind.load(Ordering::Relaxed);
            // One line always fits, however large the host.
            if behind > 0 && behind + line.len() > BEHIND {
                reader.give_up(now);
                return false;
            }
            reader.send(&line)
        });
    }
}

impl Reader {
    /// Whether it still listens.
    fn send(&self, line: &Bytes) -> bool {
        self.behind.fetch_add(line.len(), Ordering::Relaxed);
        self.lines.send(line.clone()).is_ok()
    }

    fn give_up(&self, now: Time) {
        let end = line::end(&End {
            at: now,
            reason: "the reader was too slow".to_owned(),
            inputs: self.inputs,
            said: 0,
        });
        if let Ok(end) = end {
            self.send(&Bytes::from(end));
        }
    }
}

#[cfg(test)]
mod tests;

//! The thread that writes: a slow disk holds nobody up, and a broken one is tried again.
//!
//! **Invariant:** what could not be written is kept, as little of it as says the same, until it is.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use serde_json::Value;

use super::{document, journal::Journal};
use crate::incident::{Line, Past};

/// After a failure, until it is tried again.
const RETRY: Duration = Duration::from_secs(10);
/// For the last words at the end.
const FAREWELL: Duration = Duration::from_secs(2);

/// Hands what is to be kept to a thread of its own.
#[derive(Debug)]
pub struct Keeper {
    jobs: mpsc::Sender<Job>,
    done: mpsc::Receiver<()>,
}

#[derive(Debug)]
enum Job {
    Lines(Vec<Line>),
    Document(&'static str, Value),
}

/// What is still to be written.
#[derive(Debug, Default)]
struct Pending {
    lines: Vec<Line>,
    documents: BTreeMap<&'static str, Value>,
}

impl Keeper {
    /// Reads what earlier runs have left in `folder`, and begins to write there. A folder that
    /// cannot be used is said in the log and tried again.
    pub fn open(folder: &Path, rotate_at: u64) -> (Self, Past) {
        Self::open_with(folder, rotate_at, RETRY)
    }

    fn open_with(folder: &Path, rotate_at: u64, retry: Duration) -> (Self, Past) {
        let mut journal = Journal::new(folder, rotate_at);
        let (past, failed) = match journal.read() {
            Ok((past, sentences)) => {
                for sentence in sentences {
                    tracing::warn!("{sentence}");
                }
                // Whether it can be written to is not known before it is tried.
                let usable = journal.write(&[]).inspect_err(|error| warn(folder, error));
                (past, usable.is_err())
            }
            Err(error) => {
                warn(folder, &error);
                (Past::default(), true)
            }
        };
        let (jobs, receive) = mpsc::channel();
        let (finish, done) = mpsc::channel();
        let writer = Writer {
            folder: folder.to_owned(),
            journal,
            pending: Pending::default(),
            failed,
            retry,
        };
        thread::spawn(move || {
            writer.run(&receive);
            // Nobody waits for it any more: nothing is lost.
            let _ = finish.send(());
        });
        (Self { jobs, done }, past)
    }

    /// Adds lines to the incidents.
    pub fn write(&self, lines: Vec<Line>) {
        if !lines.is_empty() {
            // The thread ends after this value only.
            let _ = self.jobs.send(Job::Lines(lines));
        }
    }

    /// Puts a document in the place of the one of that name.
    pub fn replace(&self, name: &'static str, document: Value) {
        let _ = self.jobs.send(Job::Document(name, document));
    }

    /// Waits a moment for the last to be written.
    pub fn close(self) {
        drop(self.jobs);
        if self.done.recv_timeout(FAREWELL) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the state folder's disk does not answer; the last records may be lost");
        }
    }
}

struct Writer {
    folder: PathBuf,
    journal: Journal,
    pending: Pending,
    /// It was said that writing fails.
    failed: bool,
    retry: Duration,
}

impl Writer {
    fn run(mut self, jobs: &mpsc::Receiver<Job>) {
        loop {
            let job = if self.pending.is_empty() {
                jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                jobs.recv_timeout(self.retry)
            };
            match job {
                Ok(job) => self.pending.add(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.work();
        }
        self.work();
    }

    /// Writes what can be written, and says when that changes.
    fn work(&mut self) {
        let nothing = self.pending.is_empty();
        match self.try_all() {
            Err(error) => {
                self.pending.shrink();
                if !self.failed {
                    warn(&self.folder, &error);
                }
                self.failed = true;
            }
            Ok(()) if self.failed && !nothing => {
                self.failed = false;
                tracing::info!("{} can be written to again", self.folder.display());
            }
            Ok(()) => {}
        }
    }

    fn try_all(&mut self) -> io::Result<()> {
        self.journal.write(&self.pending.lines)?;
        self.pending.lines.clear();
        while let Some((name, document)) = self.pending.documents.first_key_value() {
            document::replace(&self.folder, name, document)?;
            self.pending.documents.pop_first();
        }
        Ok(())
    }
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.documents.is_empty()
    }

    fn add(&mut self, job: Job) {
        match job {
            Job::Lines(lines) => self.lines.extend(lines),
            Job::Document(name, document) => {
                self.documents.insert(name, document);
            }
        }
    }

    /// Of each incident the newest line says all; the order in which they began stays.
    fn shrink(&mut self) {
        let mut past = Past::default();
        for line in std::mem::take(&mut self.lines) {
            past.take(line);
        }
        past.keep(crate::incident::KEPT);
        self.lines = past.into_lines();
    }
}

fn warn(folder: &Path, error: &io::Error) {
    tracing::warn!(
        "the state folder {} cannot be used ({error}): incidents are kept in memory only, and it is \
         tried again; make it a folder with room that the daemon may write to, or set state_dir",
        folder.display()
    );
}

#[cfg(test)]
mod tests;

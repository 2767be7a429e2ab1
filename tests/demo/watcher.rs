//! Looks at the detector's verdict all the time, so that its moment is known to a few milliseconds
//! whatever else is shown meanwhile.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Result;
use lab::{http, signal, status::Status};

/// From look to look.
const POLL: Duration = Duration::from_millis(20);

/// A change of the verdict.
#[derive(Debug, Clone)]
pub(crate) struct Moment {
    pub(crate) at: Instant,
    pub(crate) words: String,
}

#[derive(Debug, Default)]
struct Seen {
    failing: Option<Moment>,
    ok: Option<Moment>,
    others: BTreeSet<String>,
}

/// The one who looks; dropped, it stops.
pub(crate) struct Watcher {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Starts looking at the upstream called `name`.
    pub(crate) fn start(socket: &Path, name: &str) -> Self {
        let (seen, stop) = (Arc::<Mutex<Seen>>::default(), Arc::<AtomicBool>::default());
        let (socket, name) = (socket.to_owned(), name.to_owned());
        let thread = thread::spawn({
            let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    if let Some(status) = ask(&socket) {
                        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                        seen.note(&status, &name);
                    }
                    thread::sleep(POLL);
                }
            }
        });
        Self {
            seen,
            stop,
            thread: Some(thread),
        }
    }

    /// When the upstream was first said to be failing.
    pub(crate) fn verdict(&self, limit: Duration) -> Result<Option<Moment>> {
        self.wait(limit, |seen| seen.failing.clone())
    }

    /// When it was said to be ok after that.
    pub(crate) fn all_clear(&self, limit: Duration) -> Result<Option<Moment>> {
        self.wait(limit, |seen| seen.ok.clone())
    }

    /// The other upstreams that were ever said to be bad.
    pub(crate) fn wrongly_blamed(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.others.iter().cloned().collect()
    }

    fn wait(
        &self,
        limit: Duration,
        look: impl Fn(&Seen) -> Option<Moment>,
    ) -> Result<Option<Moment>> {
        let end = Instant::now() + limit;
        loop {
            if let Some(moment) = look(&self.seen.lock().unwrap_or_else(PoisonError::into_inner)) {
                return Ok(Some(moment));
            }
            if Instant::now() > end {
                return Ok(None);
            }
            signal::sleep(POLL)?;
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Seen {
    fn note(&mut self, status: &Status, name: &str) {
        let at = Instant::now();
        for upstream in &status.upstreams {
            if upstream.name != name {
                if !matches!(upstream.state.as_str(), "ok" | "idle") {
                    self.others.insert(upstream.name.clone());
                }
                continue;
            }
            let state = upstream.state.as_str();
            if state == "failing" && self.failing.is_none() {
                let cause = upstream.cause.as_deref().unwrap_or("no cause yet");
                let words = format!(
                    "tcpstall: {name} is failing ({cause}), {} of {} destinations stalled",
                    upstream.destinations.stalled, upstream.destinations.active
                );
                self.failing = Some(Moment { at, words });
            }
            // The last time counts: a state that comes and goes is no all-clear.
            if state != "ok" {
                self.ok = None;
            } else if self.failing.is_some() && self.ok.is_none() {
                self.ok = Some(Moment {
                    at,
                    words: format!("tcpstall: {name} is ok again"),
                });
            }
        }
    }
}

fn ask(socket: &Path) -> Option<Status> {
    serde_json::from_str(&http::get_unix(socket, "/v1/status").ok()?.body).ok()
}

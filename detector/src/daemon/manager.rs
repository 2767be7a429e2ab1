//! What the service manager is told (`sd_notify(3)`); without one, nobody is told anything.
//!
//! **Invariant:** what is said comes from the loop itself, so that a loop that hangs is silent and the
//! manager's watchdog ends it. A manager that hangs never holds the loop up.

use std::{
    fmt::Write as _,
    sync::mpsc::{SyncSender, TrySendError, sync_channel},
    thread,
    time::Duration,
};

use sd_notify::NotifyState;

use crate::{
    model::{Snapshot, State},
    time::Time,
};

/// Messages that wait for a manager that is slow; further ones are dropped.
const WAITING: usize = 16;
/// Between two signs of life at least.
const PACE: Duration = Duration::from_secs(1);
/// Bytes of a line for people. The manager ignores what is longer than a page altogether.
const LONGEST: usize = 512;

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    Ready,
    Reloading,
    Stopping,
    Alive,
    Status(String),
}

/// Tells the service manager how the daemon is.
#[derive(Debug)]
pub(super) struct Manager {
    words: SyncSender<Word>,
    /// The first sweep has been taken in.
    ready: bool,
    alive_at: Option<Time>,
    status: String,
}

impl Manager {
    /// Speaks on a thread of its own. It is never waited for.
    ///
    /// # Errors
    /// When there can be no further thread.
    pub(super) fn start() -> std::io::Result<Self> {
        let (words, spoken) = sync_channel(WAITING);
        thread::Builder::new()
            .name("manager".to_owned())
            .spawn(move || {
                let mut warned = false;
                for word in spoken {
                    if let Err(error) = speak(&word)
                        && !std::mem::replace(&mut warned, true)
                    {
                        tracing::warn!("the service manager cannot be told: {error}");
                    }
                }
            })?;
        Ok(Self {
            words,
            ready: false,
            alive_at: None,
            status: String::new(),
        })
    }

    /// A whole sweep has been taken in and judged: the daemon does what it is there for. The first
    /// time that means that it is ready, and the answer is `true`.
    pub(super) fn alive(&mut self, snapshot: &Snapshot, now: Time) -> bool {
        if self.alive_at.is_none_or(|at| now.since(at) >= PACE) {
            self.alive_at = Some(now);
            self.tell(Word::Alive);
        }
        let status = words(snapshot);
        if status != self.status {
            self.tell(Word::Status(status.clone()));
            self.status = status;
        }
        let first = !std::mem::replace(&mut self.ready, true);
        if first {
            self.tell(Word::Ready);
        }
        first
    }

    /// The configuration is about to be read again.
    pub(super) fn reloading(&self) {
        if self.ready {
            self.tell(Word::Reloading);
        }
    }

    /// It has been.
    pub(super) fn reloaded(&self) {
        if self.ready {
            self.tell(Word::Ready);
        }
    }

    /// The end has begun.
    pub(super) fn stopping(&self) {
        self.tell(Word::Stopping);
    }

    fn tell(&self, word: Word) {
        if let Err(TrySendError::Full(word)) = self.words.try_send(word) {
            tracing::debug!("the service manager is slow: {word:?} is not told");
        }
    }
}

/// Waits for as long as the manager needs.
fn speak(word: &Word) -> std::io::Result<()> {
    match word {
        Word::Ready => sd_notify::notify(&[NotifyState::Ready]),
        Word::Reloading => {
            let now = NotifyState::monotonic_usec_now()?;
            sd_notify::notify(&[NotifyState::Reloading, now])
        }
        Word::Stopping => sd_notify::notify(&[NotifyState::Stopping]),
        Word::Alive => sd_notify::notify(&[NotifyState::Watchdog]),
        Word::Status(words) => sd_notify::notify(&[NotifyState::Status(words)]),
    }
}

/// One line for `systemctl status`.
fn words(snapshot: &Snapshot) -> String {
    let mut words = String::new();
    let is_bad = |state| matches!(state, State::Failing | State::Degraded);
    for upstream in snapshot.upstreams.iter().filter(|it| is_bad(it.state)) {
        let separator = if words.is_empty() { "" } else { ", " };
        let _ = write!(words, "{separator}{} is {}", upstream.name, upstream.state);
        if let Some(cause) = upstream.cause {
            let _ = write!(words, ": {cause}");
        }
        if words.len() > LONGEST {
            words.truncate(words.floor_char_boundary(LONGEST));
            words.push_str(" ...");
            break;
        }
    }
    if words.is_empty() {
        words = match snapshot.upstreams.len() {
            0 => "no upstream is known yet".to_owned(),
            1 => "1 upstream, nothing wrong".to_owned(),
            all => format!("{all} upstreams, nothing wrong"),
        };
    }
    words.retain(|c| !c.is_control());
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::example;

    #[test]
    fn a_line_names_what_is_bad_and_why() {
        let mut snapshot = example::snapshot();
        let said = words(&snapshot);
        assert!(said.contains("provider-b is failing: mtu"), "{said}");
        let mut many = snapshot.clone();
        let bad = many.upstreams.iter().find(|it| it.state == State::Failing);
        many.upstreams = vec![bad.unwrap().clone(); 200];
        many.upstreams[0].name = "b\nREADY=1".to_owned();
        let said = words(&many);
        assert!(said.len() < LONGEST + 8 && said.ends_with("..."), "{said}");
        assert!(said.starts_with("bREADY=1 is failing"), "{said}");
        for upstream in &mut snapshot.upstreams {
            upstream.state = State::Ok;
        }
        let count = snapshot.upstreams.len();
        let expected = format!("{count} upstreams, nothing wrong");
        assert_eq!(words(&snapshot), expected);
        snapshot.upstreams.truncate(1);
        assert_eq!(words(&snapshot), "1 upstream, nothing wrong");
        snapshot.upstreams.clear();
        assert_eq!(words(&snapshot), "no upstream is known yet");
    }

    #[test]
    fn ready_is_said_once_and_a_reload_before_it_says_nothing() {
        let (words, spoken) = sync_channel(WAITING);
        let mut manager = Manager {
            words,
            ready: false,
            alive_at: None,
            status: String::new(),
        };
        let snapshot = example::snapshot();
        let told = |spoken: &std::sync::mpsc::Receiver<Word>| {
            let words = spoken.try_iter();
            words
                .filter(|it| !matches!(it, Word::Status(_)))
                .collect::<Vec<_>>()
        };
        manager.reloading();
        manager.reloaded();
        assert_eq!(told(&spoken), []);
        assert!(manager.alive(&snapshot, Time(1_000_000_000)));
        assert_eq!(told(&spoken), [Word::Alive, Word::Ready]);
        assert!(!manager.alive(&snapshot, Time(1_500_000_000)));
        assert_eq!(told(&spoken), [], "a sign of life a second is enough");
        assert!(!manager.alive(&snapshot, Time(2_000_000_000)));
        manager.reloading();
        manager.reloaded();
        assert_eq!(told(&spoken), [Word::Alive, Word::Reloading, Word::Ready]);
        for _ in 0..100 {
            manager.stopping();
        }
        assert_eq!(told(&spoken).len(), WAITING, "nobody waits for the rest");
    }
}

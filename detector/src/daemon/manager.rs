//! What the service manager is told (`sd_notify(3)`); without one, nobody is told anything.
//!
//! **Invariant:** what is said comes from the loop itself, so that a loop that hangs is silent and
//! the manager's watchdog ends it.

use std::fmt::Write as _;

use sd_notify::NotifyState;

use crate::model::{Snapshot, State};

/// Everything is attached and the first sweep is taken in.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// A sweep has been taken in and judged: the daemon does what it is there for.
pub(super) fn alive(snapshot: &Snapshot) {
    let words = words(snapshot);
    tell(&[NotifyState::Watchdog, NotifyState::Status(&words)]);
}

/// The configuration is being read again; ends with [`ready`].
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!("the clock cannot be read: {error}"),
    }
}

/// The end has begun.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("the service manager cannot be told: {error}");
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
    }
    if words.is_empty() {
        words = match snapshot.upstreams.len() {
            0 => "no upstream is in use".to_owned(),
            1 => "1 upstream in use, it is fine".to_owned(),
            all => format!("{all} upstreams in use, all are fine"),
        };
    }
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
        for upstream in &mut snapshot.upstreams {
            upstream.state = State::Ok;
        }
        let count = snapshot.upstreams.len();
        let expected = format!("{count} upstreams in use, all are fine");
        assert_eq!(words(&snapshot), expected);
        snapshot.upstreams.truncate(1);
        assert_eq!(words(&snapshot), "1 upstream in use, it is fine");
        snapshot.upstreams.clear();
        assert_eq!(words(&snapshot), "no upstream is in use");
    }
}

//! The hooks of the configuration, and whether somebody runs them.
//!
//! **Invariant:** what is counted has a name from the configuration.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::{config::Config, time::Time};

/// Whoever runs hooks asks every second.
const ABSENT: Duration = Duration::from_secs(10);

/// All clones are one.
#[derive(Debug, Clone, Default)]
pub struct Hooks(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    names: BTreeSet<String>,
    asked_at: Option<Time>,
}

impl Hooks {
    /// Those of `config`.
    pub fn configure(&self, config: &Config) {
        let names = config.hooks.iter().map(|it| it.name.clone());
        self.with(|it| it.names = names.collect());
    }

    /// Their names.
    pub(super) fn names(&self) -> BTreeSet<String> {
        self.with(|it| it.names.clone())
    }

    /// Whoever runs them has asked what is so.
    pub(super) fn asked(&self, now: Time) {
        self.with(|it| it.asked_at = Some(now));
    }

    /// Whether somebody runs them; `None` when there are none.
    pub fn are_run(&self, now: Time) -> Option<bool> {
        self.with(|it| {
            let asked = it.asked_at.is_some_and(|at| now.since(at) < ABSENT);
            (!it.names.is_empty()).then_some(asked)
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{hooks::tests::hook, model::Occasion};

    #[test]
    fn whoever_has_not_asked_lately_runs_no_hooks() {
        let hooks = Hooks::default();
        let at = |seconds: u64| Time(seconds * 1_000_000_000);
        hooks.asked(at(1));
        assert_eq!(hooks.are_run(at(1)), None);
        hooks.configure(&Config {
            hooks: vec![hook("route", Occasion::Gate)],
            ..Config::default()
        });
        assert_eq!(hooks.are_run(at(10)), Some(true));
        assert_eq!(hooks.are_run(at(11)), Some(false));
        hooks.asked(at(12));
        assert_eq!(hooks.are_run(at(12)), Some(true));
        assert!(hooks.names().contains("route"));
        hooks.configure(&Config::default());
        assert_eq!(hooks.are_run(at(12)), None);
    }
}

//! PURE. Which programs are to be run because an upstream has changed, and when.
//!
//! A hook is told of one thing, states or gates. What it was told last is remembered, and compared with what is
//! so now: whatever happens in between is of no use to anybody.
//!
//! In order:
//! 1. For an upstream one hook for gates and one for states runs at a time, in the order of the configuration: a
//!    mail that hangs must not hold up a route. Those of different upstreams run side by side.
//! 2. A hook is run when what it was told last is not so any more. A daemon that has just started calls everything
//!    idle: that an upstream is ok counts after [`SURELY_OK`], and that it is idle after [`SETTLED`].
//! 3. Of gates it is told once in the beginning, however they are: what it does must agree with them, and
//!    nobody knows what was done before. Of states it is told in the beginning when they are bad.
//! 4. A hook for gates that fails is run again, after [`FIRST`], later after twice that and so on up to
//!    [`LONGEST`], until it succeeds or the gate changes: else traffic would stay where it must not. One for
//!    states is not: it tells people, and twice would be once too often.
//!
//! **Invariant:** no two for gates, and no two for states, run for the same upstream at a time; a hook that does not
//! fail is told nothing twice in a row.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    config::Hook,
    incident::{SETTLED, SURELY_OK},
    model::{Gate, Occasion, State},
    time::Time,
};

/// After a failure.
pub const FIRST: Duration = Duration::from_secs(10);
/// After many.
pub const LONGEST: Duration = Duration::from_mins(5);
/// Pairs of hook and upstream that are remembered; beyond that, those that are there.
const REMEMBERED: usize = 10_000;

/// What is so of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// State.
    pub state: State,
    /// Gate; `None` when it has none.
    pub gate: Option<Gate>,
    /// For how long the daemon had been looking.
    pub looked_for: Duration,
}

impl Seen {
    fn is_settled(&self) -> bool {
        match self.state {
            State::Failing | State::Degraded => true,
            State::Ok => self.looked_for >= SURELY_OK,
            State::Idle => self.looked_for >= SETTLED,
        }
    }
}

/// What a hook is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// The upstream is in this state.
    State(State),
    /// Its gate is like this.
    Gate(Gate),
}

impl Level {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::State(state) => state.word(),
            Self::Gate(gate) => gate.word(),
        }
    }

    fn of(seen: &Seen, on: Occasion) -> Option<Self> {
        match on {
            Occasion::State => seen.is_settled().then_some(Self::State(seen.state)),
            Occasion::Gate => seen.gate.map(Self::Gate),
        }
    }

    /// Worth a word although nothing was said before.
    fn is_news(self) -> bool {
        match self {
            Self::State(state) => matches!(state, State::Failing | State::Degraded),
            Self::Gate(_) => true,
        }
    }
}

/// A hook that is to be run now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Which.
    pub hook: Hook,
    /// For which upstream.
    pub upstream: String,
    /// What it is told.
    pub level: Level,
    /// What was so before; `None` in the beginning.
    pub previous: Option<Level>,
}

/// What was told to whom.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    hooks: Vec<Hook>,
    /// By hook and upstream.
    told: BTreeMap<(String, String), Told>,
    /// By upstream, and by what they are told of.
    running: BTreeMap<(String, Occasion), Due>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    level: Level,
    previous: Option<Level>,
    again: Option<Again>,
}

/// It has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Again {
    at: Time,
    wait: Duration,
}

impl Plan {
    /// Nothing was told to any of these.
    pub fn new(hooks: Vec<Hook>) -> Self {
        Self {
            hooks,
            ..Self::default()
        }
    }

    /// The hooks of the configuration have changed. One that is not as it was is a new one.
    pub fn configure(&mut self, hooks: Vec<Hook>) {
        let old: BTreeMap<_, _> = self.hooks.iter().map(|it| (&it.name, it)).collect();
        let same = hooks.iter().filter(|it| old.get(&it.name) == Some(it));
        let same: BTreeSet<_> = same.map(|it| it.name.clone()).collect();
        self.told.retain(|(hook, _), _| same.contains(hook));
        self.hooks = hooks;
    }

    /// What is to be run now; it counts as running until [`Plan::ended`].
    pub fn due(&mut self, now: Time, seen: &BTreeMap<String, Seen>) -> Vec<Due> {
        let mut all = Vec::new();
        for (upstream, seen) in seen {
            for on in [Occasion::Gate, Occasion::State] {
                let place = (upstream.clone(), on);
                if self.running.contains_key(&place) {
                    continue;
                }
                if let Some(due) = self.first(now, upstream, seen, on) {
                    self.running.insert(place, due.clone());
                    all.push(due);
                }
            }
        }
        if self.told.len() > REMEMBERED {
            self.told
                .retain(|(_, upstream), _| seen.contains_key(upstream));
        }
        all
    }

    fn first(&mut self, now: Time, upstream: &str, seen: &Seen, on: Occasion) -> Option<Due> {
        let level = Level::of(seen, on)?;
        let hooks = self.hooks.iter();
        for hook in hooks.filter(|it| it.on == on && it.is_for(upstream)) {
            let key = (hook.name.clone(), upstream.to_owned());
            let previous = match self.told.get(&key) {
                Some(told) if told.level != level => Some(told.level),
                Some(told) if told.again.is_some_and(|it| it.at <= now) => told.previous,
                Some(_) => continue,
                None if level.is_news() => None,
                None => {
                    self.told.insert(key, Told::all_is_said(level));
                    continue;
                }
            };
            return Some(Due {
                hook: hook.clone(),
                upstream: upstream.to_owned(),
                level,
                previous,
            });
        }
        None
    }

    /// What ran for that upstream has ended; after how long it is run again, if nothing changes.
    pub fn ended(
        &mut self,
        now: Time,
        (upstream, on): (&str, Occasion),
        succeeded: bool,
    ) -> Option<Duration> {
        let due = self.running.remove(&(upstream.to_owned(), on))?;
        if !self.hooks.contains(&due.hook) {
            return None;
        }
        let key = (due.hook.name, due.upstream);
        let before = self.told.get(&key).filter(|it| it.level == due.level);
        let wait = before.and_then(|it| it.again).map(|it| it.wait);
        let wait = wait.map_or(FIRST, |it| LONGEST.min(it * 2));
        let fails = !succeeded && on == Occasion::Gate;
        let again = fails.then(|| Again {
            at: now.after(wait),
            wait,
        });
        let told = Told {
            level: due.level,
            previous: due.previous,
            again,
        };
        self.told.insert(key, told);
        fails.then_some(wait)
    }
}

impl Told {
    fn all_is_said(level: Level) -> Self {
        Self {
            level,
            previous: None,
            again: None,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;

//! PURE. Which upstreams failover programs should use.
//!
//! A verdict says what is, a gate what to do. Programs that move traffic take every doubt for "dead", and
//! on a link that nobody uses any more nothing can be seen to heal. So a gate closes on one kind of verdict
//! only, opens by the clock, and never leaves a host without a way out.
//!
//! ```text
//!              failing, scope upstream, and another gate is open
//!       ┌────────────────────────────────────────────────────────────┐
//!       │                                                            ▼
//!     open                                                        closed
//!       ▲                                                            │
//!       └────────────────────────────────────────────────────────────┘
//!              neither failing nor degraded for the hold
//! ```
//!
//! In order:
//! 1. Upstreams of the configuration have a gate, and no others. It is open at first.
//! 2. A closed gate opens when its upstream was neither failing nor degraded for its hold, [`FIRST`]. One
//!    that is idle has been neither: whether it has healed shows when it is used.
//! 3. One that closes again before it was open for twice its hold has relapsed, and its hold doubles, up to
//!    [`LONGEST`]. One that was open for ten times its hold begins with the first again.
//! 4. While all open gates lead nowhere, the first hold is enough to try another.
//! 5. An open gate closes at once when its upstream is failing with scope `upstream`, unless it is the last
//!    open one: that stays open, and closes when another opens.
//! 6. When the configuration takes the last open gate away, the most promising of the others opens.
//!
//! `degraded` closes nothing: most of what goes through an upstream does well there. It keeps a closed gate
//! closed: the others are better.
//!
//! **Invariant:** where there are gates one is open; a gate that has closed stays closed for [`FIRST`] at
//! least, save by rule 6.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    model::{Gate, Scope, State},
    time::Time,
};

/// The first hold.
pub const FIRST: Duration = Duration::from_mins(1);
/// The longest.
pub const LONGEST: Duration = Duration::from_hours(1);
/// Closed again within so many holds after it opened: a relapse.
const RELAPSE: u32 = 2;
/// Open for so many holds: all is forgotten.
const FORGOTTEN: u32 = 10;

/// What is said of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// State.
    pub state: State,
    /// How far its trouble reaches.
    pub scope: Option<Scope>,
}

impl Seen {
    /// Nothing.
    const NOTHING: Self = Self {
        state: State::Idle,
        scope: None,
    };

    fn closes(self) -> bool {
        self.state == State::Failing && self.scope == Some(Scope::Upstream)
    }

    fn is_bad(self) -> bool {
        match self.state {
            State::Failing | State::Degraded => true,
            State::Ok | State::Idle => false,
        }
    }
}

/// What has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A gate has closed.
    Closed {
        /// Its upstream.
        upstream: String,
        /// For how long its upstream must do well until it opens.
        hold: Duration,
    },
    /// A gate has opened.
    Opened {
        /// Its upstream.
        upstream: String,
        /// Why.
        why: Why,
    },
    /// A gate should close, and is the last one.
    Kept {
        /// Its upstream.
        upstream: String,
    },
}

/// Why a gate has opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Its upstream did well for its hold.
    Held(Duration),
    /// It did well for the first hold, and all other ways lead nowhere.
    Needed(Duration),
    /// There is no other.
    Alone,
}

/// What is shown of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// Whether its upstream should be used.
    pub gate: Gate,
    /// Until it opens, if nothing happens; `None` when it is open, or its upstream is bad.
    pub opens: Option<Duration>,
}

/// All gates.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gates {
    all: BTreeMap<String, One>,
}

/// The gate of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct One {
    door: Door,
    /// The hold when it last closed.
    hold: Duration,
    /// What was last said of its upstream.
    seen: Seen,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Open {
        /// Since when its conduct counts; `None` when it was never closed.
        since: Option<Time>,
        /// It should be closed.
        kept: bool,
    },
    Closed {
        /// Since when its upstream does well; `None` while it does not.
        calm_since: Option<Time>,
    },
}

impl Gates {
    /// Gates for these upstreams. Those that an earlier run has left `closed` are closed for a first hold.
    pub fn new(names: &[String], closed: &BTreeSet<String>, now: Time) -> (Self, Vec<Change>) {
        let calm_since = Some(now);
        let one = |name: &String| match closed.contains(name) {
            true => One::new(Door::Closed { calm_since }),
            false => One::new(OPEN),
        };
        let all = names.iter().map(|name| (name.clone(), one(name))).collect();
        let mut gates = Self { all };
        let changes = gates.never_none(now);
        (gates, changes.into_iter().collect())
    }

    /// The upstreams of the configuration have changed.
    pub fn configure(&mut self, names: &[String], now: Time) -> Vec<Change> {
        self.all.retain(|name, _| names.contains(name));
        for name in names {
            let new = One::new(OPEN);
            self.all.entry(name.clone()).or_insert(new);
        }
        self.never_none(now).into_iter().collect()
    }

    /// Takes in what is said of each upstream, and says what changes.
    pub fn handle(&mut self, now: Time, seen: &BTreeMap<&str, Seen>) -> Vec<Change> {
        for (name, one) in &mut self.all {
            one.look(now, seen.get(name.as_str()).copied());
        }
        // First what opens: the last one may close then.
        let mut changes = self.open(now);
        changes.extend(self.close(now));
        changes
    }

    /// What is shown of each.
    pub fn shown(&self, now: Time) -> BTreeMap<String, Shown> {
        let of = |one: &One| match one.door {
            Door::Open { .. } => Shown {
                gate: Gate::Open,
                opens: None,
            },
            Door::Closed { calm_since } => Shown {
                gate: Gate::Closed,
                opens: calm_since.map(|since| since.after(self.hold_of(one)).since(now)),
            },
        };
        let all = self.all.iter();
        all.map(|(name, one)| (name.clone(), of(one))).collect()
    }

    fn open(&mut self, now: Time) -> Vec<Change> {
        let calm = |(name, one): (&String, &One)| match one.door {
            Door::Closed { calm_since } => Some((calm_since?, name.clone())),
            Door::Open { .. } => None,
        };
        let calm: BTreeSet<_> = self.all.iter().filter_map(calm).collect();
        let mut changes = Vec::new();
        for (since, upstream) in calm {
            let Some(one) = self.all.get(&upstream) else {
                continue;
            };
            let hold = self.hold_of(one);
            if now.since(since) < hold {
                continue;
            }
            let why = match now.since(since) < one.hold {
                true => Why::Needed(hold),
                false => Why::Held(one.hold),
            };
            changes.extend(self.set_open(upstream, why, now));
        }
        changes
    }

    fn close(&mut self, now: Time) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut open = self.all.values().filter(|it| it.is_open()).count();
        for (name, one) in &mut self.all {
            let Door::Open { since, kept } = one.door else {
                continue;
            };
            let upstream = name.clone();
            if one.seen.closes() && open > 1 {
                open -= 1;
                let hold = one.close(now);
                changes.push(Change::Closed { upstream, hold });
            } else if one.seen.closes() && !kept {
                one.door = Door::Open { since, kept: true };
                changes.push(Change::Kept { upstream });
            }
        }
        changes
    }

    /// For how long the upstream of a closed gate must do well.
    fn hold_of(&self, one: &One) -> Duration {
        let mut open = self.all.values().filter(|it| it.is_open());
        match open.all(|it| it.seen.state == State::Failing) {
            true => FIRST,
            false => one.hold,
        }
    }

    /// Opens a gate when none is open: one whose upstream does well, or else has done so for longest.
    fn never_none(&mut self, now: Time) -> Option<Change> {
        if self.all.values().any(One::is_open) {
            return None;
        }
        let promise = |(name, one): &(&String, &One)| {
            let calm = match one.door {
                Door::Closed { calm_since } => calm_since,
                Door::Open { .. } => None,
            };
            (one.seen.is_bad(), calm.unwrap_or(now), (*name).clone())
        };
        let upstream = self.all.iter().min_by_key(promise)?.0.clone();
        self.set_open(upstream, Why::Alone, now)
    }

    fn set_open(&mut self, upstream: String, why: Why, now: Time) -> Option<Change> {
        let one = self.all.get_mut(&upstream)?;
        one.door = Door::Open {
            since: Some(now),
            kept: false,
        };
        Some(Change::Opened { upstream, why })
    }
}

const OPEN: Door = Door::Open {
    since: None,
    kept: false,
};

impl One {
    fn new(door: Door) -> Self {
        Self {
            door,
            hold: FIRST,
            seen: Seen::NOTHING,
        }
    }

    fn is_open(&self) -> bool {
        matches!(self.door, Door::Open { .. })
    }

    fn look(&mut self, now: Time, seen: Option<Seen>) {
        self.seen = seen.unwrap_or(Seen::NOTHING);
        self.door = match self.door {
            // What it did while it should have been closed is neither good conduct nor a relapse.
            Door::Open { since, kept: true } if self.seen.state != State::Failing => Door::Open {
                since: since.map(|_| now),
                kept: false,
            },
            Door::Closed { .. } if self.seen.is_bad() => Door::Closed { calm_since: None },
            Door::Closed { calm_since } => Door::Closed {
                calm_since: calm_since.or(Some(now)),
            },
            open @ Door::Open { .. } => open,
        };
    }

    /// Closes it, and gives its hold.
    fn close(&mut self, now: Time) -> Duration {
        if let Door::Open {
            since: Some(since),
            kept: false,
        } = self.door
        {
            let open_for = now.since(since);
            if open_for < self.hold * RELAPSE {
                self.hold = (self.hold * 2).min(LONGEST);
            } else if open_for >= self.hold * FORGOTTEN {
                self.hold = FIRST;
            }
        }
        self.door = Door::Closed { calm_since: None };
        self.hold
    }
}

#[cfg(test)]
mod tests;

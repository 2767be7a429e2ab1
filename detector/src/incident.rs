//! PURE. Snapshots in, incidents out: each stay of an upstream outside `ok` and `idle`, with the
//! evidence that an operator wants afterwards.
//!
//! **Invariant:** no clock, no I/O; it cannot fail. What is kept is bounded however long it lasts.

mod evidence;
mod line;
pub mod marks;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;

pub use self::{
    line::{Kind, Line, Past},
    marks::Marks,
};
use crate::{
    api::{Incident, Mark},
    model::{Cause, Snapshot, Stall, State, Upstream},
    time::Time,
};

/// Incidents that are remembered; those that last are never forgotten.
pub const KEPT: usize = 200;
/// Trouble that returns this soon after the all-clear is the same incident.
const RELAPSE: Duration = Duration::from_secs(60);
/// What happened so long before it began belongs to it.
const BEFORE: Duration = Duration::from_secs(60);
/// After a start, an upstream that is `ok` for so long was repaired while nobody looked.
pub const SURELY_OK: Duration = Duration::from_secs(5);
/// After a start, the time for an upstream to be bad again before its incident is closed.
pub const SETTLED: Duration = Duration::from_secs(60);
/// Between two lines at least that only say that it lasts, and at most.
const ALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));
/// Between two lines with evidence at least.
const EVIDENCE: Duration = Duration::from_secs(10);

/// What is seen at one moment.
pub struct Seen<'a> {
    /// The judgement.
    pub snapshot: &'a Snapshot,
    /// The wall clock then.
    pub wall: Timestamp,
    /// Name of the process that holds a connection, as far as it is known.
    pub process: &'a dyn Fn(&Stall) -> Option<String>,
    /// What else happened.
    pub marks: &'a Marks,
}

/// Follows all upstreams.
#[derive(Debug, Default)]
pub struct Tracker {
    /// In the order in which they began.
    all: Vec<Arc<Incident>>,
    /// Those that last, by upstream.
    open: BTreeMap<String, Open>,
    /// What is to be written although nothing was seen yet.
    unsaid: Vec<Line>,
}

/// What must be remembered of an incident while it lasts.
#[derive(Debug)]
struct Open {
    id: String,
    /// Last moment at which its upstream was seen to be bad.
    known_at: Timestamp,
    /// When it began, on the clock of the judgement; worked out when it is from before a restart.
    began: Time,
    point_at: Time,
    line_at: Time,
    evidence_at: Time,
    /// Number of the first mark that it has not seen.
    mark: u64,
    /// It is from before a restart, and its upstream was not seen to be bad since.
    awaited: Option<Awaited>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Awaited {
    since: Option<Time>,
    ok_since: Option<Time>,
}

impl Tracker {
    /// Goes on where the lines of an earlier run end. Of each upstream one incident can last; an
    /// older one that was never closed ends when it was last known to last.
    pub fn resume(past: Past) -> Self {
        let mut tracker = Self::default();
        for Line { at, incident, .. } in past.into_lines() {
            if incident.ended_at.is_none() {
                let open = Open {
                    id: incident.id.clone(),
                    known_at: at,
                    began: Time::default(),
                    point_at: Time::default(),
                    line_at: Time::default(),
                    evidence_at: Time::default(),
                    mark: 0,
                    awaited: Some(Awaited::default()),
                };
                if let Some(older) = tracker.open.insert(incident.upstream.clone(), open) {
                    let line = tracker.close_unseen(&older);
                    tracker.unsaid.extend(line);
                }
            }
            tracker.all.push(Arc::new(incident));
        }
        tracker.forget();
        tracker
    }

    /// All that are remembered, the newest first.
    pub fn incidents(&self) -> Vec<Arc<Incident>> {
        self.all.iter().rev().cloned().collect()
    }

    /// Takes a judgement in; what is to be written down.
    ///
    /// For each upstream, by whether an incident of it lasts and whether it is bad:
    /// 1. lasts, bad: it goes on
    /// 2. lasts, not bad: the all-clear, or after a restart first some patience
    /// 3. none, bad: the last one has relapsed, or a new one begins
    /// 4. none, not bad: nothing
    pub fn handle(&mut self, seen: &Seen<'_>) -> Vec<Line> {
        let mut lines = std::mem::take(&mut self.unsaid);
        let stuck = stuck(seen.snapshot);
        let mut present = BTreeSet::new();
        for upstream in &seen.snapshot.upstreams {
            present.insert(upstream.name.as_str());
            let stuck = stuck.get(upstream.name.as_str()).map_or(&[][..], |it| it);
            let lasts = self.open.contains_key(&upstream.name);
            match (lasts, is_bad(upstream.state)) {
                (true, true) => lines.extend(self.go_on(upstream, stuck, seen)),
                (true, false) => lines.extend(self.leave(&upstream.name, Some(upstream), seen)),
                (false, true) => lines.push(self.enter(upstream, stuck, seen)),
                (false, false) => {}
            }
        }
        let vanished: Vec<_> = self
            .open
            .keys()
            .filter(|name| !present.contains(name.as_str()))
            .cloned()
            .collect();
        for name in vanished {
            lines.extend(self.leave(&name, None, seen));
        }
        self.forget();
        lines
    }

    /// What is to be written down before the daemon ends: all that is known of those that last.
    pub fn last_words(&self) -> Vec<Line> {
        let mut lines = self.unsaid.clone();
        for open in self.open.values() {
            let incident = self.all.iter().find(|it| it.id == open.id);
            lines.extend(incident.map(|it| Line::full(Kind::Evidence, open.known_at, it)));
        }
        lines
    }

    /// An upstream without an incident is bad.
    fn enter(&mut self, upstream: &Upstream, stuck: &[&Stall], seen: &Seen<'_>) -> Line {
        let (kind, place, since) = match self.relapsed(&upstream.name, seen.wall) {
            Some((place, all_clear)) => (Kind::Change, place, all_clear),
            None => {
                let id = self.new_id(seen.wall);
                self.all.push(Arc::new(blank(id, upstream, seen.wall)));
                (Kind::Begin, self.all.len() - 1, ago(seen.wall, BEFORE))
            }
        };
        let incident = Arc::make_mut(&mut self.all[place]);
        if kind == Kind::Change {
            incident.ended_at = None;
            incident.note = None;
            incident.relapses += 1;
        }
        for mark in seen.marks.from(0).filter(|it| it.at >= since) {
            if !incident.marks.contains(mark) {
                evidence::mark(incident, mark.clone());
            }
        }
        look(incident, upstream, stuck, seen);
        evidence::point(incident, upstream, seen.wall);
        let now = seen.snapshot.at;
        let open = Open {
            id: incident.id.clone(),
            known_at: seen.wall,
            began: now.before(age(incident, seen.wall)),
            point_at: now,
            line_at: now,
            evidence_at: now,
            mark: seen.marks.next(),
            awaited: None,
        };
        let line = Line::full(kind, seen.wall, incident);
        self.open.insert(upstream.name.clone(), open);
        line
    }

    /// The upstream of an incident that lasts is still bad.
    fn go_on(&mut self, upstream: &Upstream, stuck: &[&Stall], seen: &Seen<'_>) -> Option<Line> {
        let now = seen.snapshot.at;
        let open = self.open.get_mut(&upstream.name)?;
        let incident = self.all.iter_mut().find(|it| it.id == open.id)?;
        let incident = Arc::make_mut(incident);
        let continued = open.awaited.take().is_some();
        if continued {
            open.began = now.before(age(incident, seen.wall));
            let what = format!("tcpstall runs again; it was away since {}", open.known_at);
            evidence::mark(
                incident,
                Mark {
                    at: seen.wall,
                    what,
                },
            );
        }
        open.known_at = seen.wall;
        for mark in seen.marks.from(open.mark) {
            evidence::mark(incident, mark.clone());
        }
        open.mark = seen.marks.next();
        let changed = look(incident, upstream, stuck, seen) || continued;
        let lasted = now.since(open.began);
        if changed || now.since(open.point_at) >= evidence::step(lasted) {
            open.point_at = now;
            evidence::point(incident, upstream, seen.wall);
        }
        let alive = (lasted / 10).clamp(ALIVE.0, ALIVE.1);
        let kind = if changed {
            Kind::Change
        } else {
            Kind::Evidence
        };
        let line = if now.since(open.evidence_at) >= (lasted / 4).max(EVIDENCE) {
            open.evidence_at = now;
            Line::full(kind, seen.wall, incident)
        } else if changed || now.since(open.line_at) >= alive {
            Line::brief(Kind::Change, seen.wall, incident)
        } else {
            return None;
        };
        open.line_at = now;
        Some(line)
    }

    /// The upstream of an incident that lasts is not bad, or (without one) no longer there.
    fn leave(&mut self, name: &str, upstream: Option<&Upstream>, seen: &Seen<'_>) -> Option<Line> {
        let now = seen.snapshot.at;
        let open = self.open.get_mut(name)?;
        if let Some(awaited) = &mut open.awaited {
            let ok = upstream.is_some_and(|it| it.state == State::Ok);
            if awaited.is_over(now, ok) {
                let open = self.open.remove(name)?;
                return self.close_unseen(&open);
            }
            return None;
        }
        let open = self.open.remove(name)?;
        let incident = self.all.iter_mut().find(|it| it.id == open.id)?;
        let incident = Arc::make_mut(incident);
        for mark in seen.marks.from(open.mark) {
            evidence::mark(incident, mark.clone());
        }
        if let Some(upstream) = upstream {
            evidence::point(incident, upstream, seen.wall);
        }
        let note = match upstream.map(|it| it.state) {
            Some(State::Idle) => Some("it ended because too little is sent to judge"),
            None => Some("it ended because the upstream is no longer there"),
            Some(State::Ok | State::Degraded | State::Failing) => None,
        };
        incident.note = note.map(str::to_owned);
        end(incident, seen.wall);
        Some(Line::full(Kind::End, seen.wall, incident))
    }

    /// Nobody saw it end: it did when it was last known to last, as far as can be told.
    fn close_unseen(&mut self, open: &Open) -> Option<Line> {
        let incident = self.all.iter_mut().find(|it| it.id == open.id)?;
        let incident = Arc::make_mut(incident);
        incident.note = Some("the daemon was away when it ended".to_owned());
        end(incident, open.known_at);
        Some(Line::full(Kind::End, open.known_at, incident))
    }

    /// Place and end of the last incident of an upstream, when that was only a moment ago.
    fn relapsed(&self, upstream: &str, wall: Timestamp) -> Option<(usize, Timestamp)> {
        let place = self.all.iter().rposition(|it| it.upstream == upstream)?;
        let ended_at = self.all.get(place)?.ended_at?;
        let quiet = wall.duration_since(ended_at).unsigned_abs();
        (quiet <= RELAPSE).then_some((place, ended_at))
    }

    /// Tenths of a second since 1970, modulo 2^32 (13 years), and one more for as long as another
    /// has that number.
    fn new_id(&self, wall: Timestamp) -> String {
        let tenths = wall.as_millisecond().div_euclid(100).rem_euclid(1 << 32);
        let mut number = u32::try_from(tenths).unwrap_or_default();
        loop {
            let id = format!("i-{number:08x}");
            if self.all.iter().all(|it| it.id != id) {
                return id;
            }
            number = number.wrapping_add(1);
        }
    }

    /// The oldest that have ended make room.
    fn forget(&mut self) {
        let mut excess = self.all.len().saturating_sub(KEPT);
        self.all.retain(|it| {
            let goes = excess > 0 && it.ended_at.is_some();
            excess -= usize::from(goes);
            !goes
        });
    }
}

impl Awaited {
    /// Whether waiting for the upstream to be bad again is over; the first call starts the clock.
    fn is_over(&mut self, now: Time, ok: bool) -> bool {
        let since = *self.since.get_or_insert(now);
        self.ok_since = ok.then(|| self.ok_since.unwrap_or(now));
        let surely_ok = self.ok_since.is_some_and(|it| now.since(it) >= SURELY_OK);
        surely_ok || now.since(since) >= SETTLED
    }
}

/// An incident of which nothing is known but that it begins.
fn blank(id: String, upstream: &Upstream, wall: Timestamp) -> Incident {
    Incident {
        id,
        upstream: upstream.name.clone(),
        state: upstream.state,
        scope: upstream.scope,
        cause: upstream.cause,
        started_at: wall,
        ended_at: None,
        duration_seconds: 0.0,
        relapses: 0,
        peak_stalled_connections: 0,
        peak_stalled_destinations: 0,
        peak_outstanding_bytes: 0,
        note: None,
        causes: BTreeMap::new(),
        timeline: Vec::new(),
        changes: Vec::new(),
        destinations: Vec::new(),
        processes: Vec::new(),
        marks: Vec::new(),
        marks_omitted: 0,
    }
}

/// Takes in how a bad upstream is now; whether it entered another state, scope or cause.
fn look(incident: &mut Incident, upstream: &Upstream, stuck: &[&Stall], seen: &Seen<'_>) -> bool {
    if upstream.state == State::Failing {
        incident.state = State::Failing;
    }
    incident.scope = upstream.scope.or(incident.scope);
    incident.cause = upstream.cause.or(incident.cause);
    incident.duration_seconds = age(incident, seen.wall).as_secs_f64();
    evidence::peaks(incident, upstream);
    evidence::stuck(incident, stuck, seen.process);
    evidence::change(incident, upstream, seen.wall)
}

fn end(incident: &mut Incident, at: Timestamp) {
    // The wall clock may have been set back.
    let at = at.max(incident.started_at);
    incident.ended_at = Some(at);
    incident.duration_seconds = age(incident, at).as_secs_f64();
}

/// Connections in trouble that their peers cannot help, by upstream.
fn stuck(snapshot: &Snapshot) -> BTreeMap<&str, Vec<&Stall>> {
    let mut stuck: BTreeMap<_, Vec<_>> = BTreeMap::new();
    if snapshot.upstreams.iter().any(|it| is_bad(it.state)) {
        for stall in &snapshot.stalls {
            if stall.cause != Cause::ZeroWindow {
                stuck
                    .entry(stall.upstream.as_str())
                    .or_default()
                    .push(stall);
            }
        }
    }
    stuck
}

/// How long it has lasted; zero when the wall clock was set back behind its beginning.
fn age(incident: &Incident, wall: Timestamp) -> Duration {
    Duration::try_from(wall.duration_since(incident.started_at)).unwrap_or_default()
}

fn ago(wall: Timestamp, span: Duration) -> Timestamp {
    wall.checked_sub(span).unwrap_or(Timestamp::MIN)
}

fn is_bad(state: State) -> bool {
    match state {
        State::Degraded | State::Failing => true,
        State::Ok | State::Idle => false,
    }
}

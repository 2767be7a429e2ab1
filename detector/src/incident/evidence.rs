//! PURE. What is kept of an incident while it lasts: counts over time, causes, destinations,
//! processes and marks, each list bounded however long it lasts.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use crate::{
    api::{Change, Incident, Mark, Point, StuckDestination, StuckProcess},
    model::{Cause, Stall, Upstream},
};

/// Points of a timeline.
pub(super) const POINTS: usize = 120;
/// Destinations, processes, marks and changes of an incident.
pub(super) const DESTINATIONS: usize = 20;
pub(super) const PROCESSES: usize = 10;
pub(super) const MARKS: usize = 50;
pub(super) const CHANGES: usize = 50;

/// Between two points at least.
const STEP: Duration = Duration::from_secs(1);

/// Time from one point to the next, of an incident of that age: fine at first, coarser later.
pub(super) fn step(age: Duration) -> Duration {
    (age / 100).max(STEP)
}

/// The counts at one moment.
pub(super) fn point(incident: &mut Incident, upstream: &Upstream, at: Timestamp) {
    incident.timeline.push(Point {
        at,
        stalled_connections: upstream.stalled_connections(),
        suspect_connections: upstream.suspect_connections(),
        stalled_destinations: number(upstream.stalled_destinations.len()),
        active_destinations: upstream.active_destinations,
    });
    if incident.timeline.len() > POINTS {
        thin(&mut incident.timeline);
    }
}

/// Keeps the first point and the higher of each two that follow, so that peaks stay.
fn thin(points: &mut Vec<Point>) {
    let height = |point: &Point| (point.stalled_connections, point.suspect_connections);
    let kept: Vec<_> = points[1..]
        .chunks(2)
        .filter_map(|pair| pair.iter().max_by_key(|point| height(point)))
        .copied()
        .collect();
    points.truncate(1);
    points.extend(kept);
}

/// Raises what is higher now than ever before.
pub(super) fn peaks(incident: &mut Incident, upstream: &Upstream) {
    let destinations = number(upstream.stalled_destinations.len());
    raise(
        &mut incident.peak_stalled_connections,
        upstream.stalled_connections(),
    );
    raise(&mut incident.peak_stalled_destinations, destinations);
    raise(&mut incident.peak_outstanding_bytes, upstream.outstanding);
    let mut causes = BTreeMap::new();
    for ((_, cause), count) in &upstream.stalled {
        if *cause != Cause::ZeroWindow {
            *causes.entry(*cause).or_insert(0) += count;
        }
    }
    for (cause, count) in causes {
        raise(incident.causes.entry(cause).or_insert(0), count);
    }
}

/// Who is stuck: destinations and the processes behind.
pub(super) fn stuck(
    incident: &mut Incident,
    stalls: &[&Stall],
    process: &dyn Fn(&Stall) -> Option<String>,
) {
    let mut destinations = BTreeMap::new();
    let mut processes = BTreeMap::new();
    for stall in stalls {
        *destinations.entry(stall.destination).or_insert(0) += 1;
        if let Some(process) = process(stall) {
            *processes.entry(process).or_insert(0) += 1;
        }
    }
    let before = std::mem::take(&mut incident.destinations);
    let before = before
        .into_iter()
        .map(|it| (it.destination, it.stuck_connections));
    incident.destinations = highest(before, destinations, DESTINATIONS)
        .map(|(destination, stuck_connections)| StuckDestination {
            destination,
            stuck_connections,
        })
        .collect();
    let before = std::mem::take(&mut incident.processes);
    let before = before
        .into_iter()
        .map(|it| (it.process, it.stuck_connections));
    incident.processes = highest(before, processes, PROCESSES)
        .map(|(process, stuck_connections)| StuckProcess {
            process,
            stuck_connections,
        })
        .collect();
}

/// The `most` with the highest counts, of before and now; a tie goes by name.
fn highest<K: Ord>(
    before: impl Iterator<Item = (K, u32)>,
    mut counts: BTreeMap<K, u32>,
    most: usize,
) -> impl Iterator<Item = (K, u32)> {
    for (key, count) in before {
        raise(counts.entry(key).or_insert(0), count);
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    // Stable, so that equals stay in the order of their names.
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts.into_iter().take(most)
}

/// Something else happened.
pub(super) fn mark(incident: &mut Incident, mark: Mark) {
    incident.marks.push(mark);
    if keep_both_ends(&mut incident.marks, MARKS) {
        incident.marks_omitted += 1;
    }
}

/// The upstream entered another state, scope or cause; whether it really is another.
pub(super) fn change(incident: &mut Incident, upstream: &Upstream, at: Timestamp) -> bool {
    let change = Change {
        at,
        state: upstream.state,
        scope: upstream.scope,
        cause: upstream.cause,
    };
    let same = |it: &Change| Change { at, ..*it } == change;
    if incident.changes.last().is_some_and(same) {
        return false;
    }
    incident.changes.push(change);
    keep_both_ends(&mut incident.changes, CHANGES);
    true
}

/// How it began and how it goes on is worth more than what lies between; whether one had to go.
fn keep_both_ends<T>(list: &mut Vec<T>, most: usize) -> bool {
    let excess = list.len() > most;
    if excess {
        list.remove(most / 2);
    }
    excess
}

fn raise<T: Ord>(peak: &mut T, now: T) {
    if now > *peak {
        *peak = now;
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

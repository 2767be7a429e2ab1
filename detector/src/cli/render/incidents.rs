//! `tcpstall incidents`.
//!
//! **Invariant:** nothing is concluded here; what was kept is retold.

use comfy_table::Cell;
use jiff::Timestamp;

use super::{
    chart::bars,
    page::Page,
    table::{Column, heading, numbers, painted, state, table, words},
    units,
};
use crate::{
    api::{Change, Incident},
    model::{Scope, State},
    serve::words::{cause, clean, count},
};

/// Columns of the text.
const PAGE: usize = 80;
/// Columns of the chart.
const WIDTH: usize = 60;

/// A row per incident.
pub(in crate::cli) fn incidents(incidents: &[Incident], wide: bool) -> String {
    let rows = incidents.iter().map(|it| row(it, wide)).collect();
    table(&columns(wide), rows)
}

/// All that is known of one.
pub(in crate::cli) fn incident(incident: &Incident) -> String {
    let now = match incident.ended_at {
        Some(_) => State::Ok,
        None => incident.state,
    };
    let mut text = painted(&sentence(incident), now);
    text.push('\n');
    if let Some(note) = &incident.note {
        text.push_str(&format!("Note: {}.\n", clean(note)));
    }
    text.push_str(&timeline(incident));
    let changes: Vec<_> = incident.changes.iter().map(change).collect();
    section(&mut text, "What was said of it", &changes);
    let causes: Vec<_> = incident
        .causes
        .iter()
        .map(|(cause, peak)| format!("{cause}: {}", connections(*peak)))
        .collect();
    section(
        &mut text,
        "Causes, most connections stalled at once",
        &causes,
    );
    section(
        &mut text,
        "Destinations, most connections stuck at once",
        &destinations(incident),
    );
    let processes: Vec<_> = incident
        .processes
        .iter()
        .map(|it| {
            format!(
                "{}: {}",
                clean(&it.process),
                connections(it.stuck_connections)
            )
        })
        .collect();
    section(
        &mut text,
        "Processes, most connections stuck at once",
        &processes,
    );
    section(&mut text, "What else happened", &marks(incident));
    text
}

/// A heading and its points, as wide as a pipe.
fn section(text: &mut String, title: &str, points: &[String]) {
    let mut page = Page::new(PAGE);
    page.section(title, points);
    text.push_str(&page.text());
}

/// What to say when there is no incident with that id.
pub(in crate::cli) fn unknown_incident(id: &str) -> String {
    format!(
        "there is no incident {}: ids look like i-7f3a9c01, and only the newest are kept; \
         `tcpstall incidents` lists them",
        clean(id)
    )
}

fn sentence(incident: &Incident) -> String {
    let name = clean(&incident.upstream);
    let lasted = units::age(incident.duration_seconds);
    let began = time(incident.started_at);
    let mut text = match incident.ended_at {
        Some(ended) => format!(
            "{name} was {} for {lasted}, from {began} to {}",
            incident.state,
            time(ended)
        ),
        None => format!(
            "{name} has been bad for {lasted}, since {began}, at worst {}",
            incident.state
        ),
    };
    if let Some(reason) = incident.cause {
        text.push_str(&format!(": {}", cause(reason)));
    }
    text.push_str(&format!(
        "; at its peak {} and {} stalled, {} trapped",
        count(incident.peak_stalled_destinations, "destination"),
        connections(incident.peak_stalled_connections),
        units::bytes(incident.peak_outstanding_bytes)
    ));
    if incident.scope == Some(Scope::Common) {
        text.push_str("; every other upstream that could be judged was bad too");
    }
    match incident.relapses {
        0 => {}
        times => text.push_str(&format!(
            "; it came back {} within a minute of the all-clear",
            count(times, "time")
        )),
    }
    text.push('.');
    text
}

fn timeline(incident: &Incident) -> String {
    let Some(last) = incident.timeline.last() else {
        return String::new();
    };
    let start = incident.started_at;
    let end = incident.ended_at.unwrap_or(last.at).max(last.at);
    let line = |label: &str, of: &dyn Fn(&crate::api::Point) -> u32| {
        let points: Vec<_> = incident.timeline.iter().map(|it| (it.at, of(it))).collect();
        let peak = points.iter().map(|it| it.1).max().unwrap_or(0);
        let bars = bars(&points, (start, end), WIDTH);
        format!("  {label:<12} {bars} {peak} at most\n")
    };
    let mut text = format!("\n{}", heading("Stalled over time"));
    text.push_str(&line("destinations", &|it| it.stalled_destinations));
    text.push_str(&line("connections", &|it| it.stalled_connections));
    let (start, end) = (time(start), time(end));
    let gap = WIDTH.saturating_sub(start.len());
    text.push_str(&format!("  {:<12} {start}{end:>gap$}\n", ""));
    text
}

fn change(change: &Change) -> String {
    let mut text = format!("{}  {}", time(change.at), change.state);
    if let Some(reason) = change.cause {
        text.push_str(&format!(": {}", cause(reason)));
    }
    if change.scope == Some(Scope::Common) {
        text.push_str("; all upstreams at once");
    }
    text
}

fn destinations(incident: &Incident) -> Vec<String> {
    let known = incident.destinations.iter();
    let mut points: Vec<_> = known
        .map(|it| format!("{}: {}", it.destination, connections(it.stuck_connections)))
        .collect();
    let listed = u32::try_from(points.len()).unwrap_or(u32::MAX);
    if let Some(more @ 1..) = incident.peak_stalled_destinations.checked_sub(listed) {
        points.push(format!("and at least {more} more"));
    }
    points
}

fn marks(incident: &Incident) -> Vec<String> {
    let known = incident.marks.iter();
    let mut points: Vec<_> = known
        .map(|it| format!("{}  {}", time(it.at), clean(&it.what)))
        .collect();
    if incident.marks_omitted > 0 {
        points.push(format!("and {} more", incident.marks_omitted));
    }
    points
}

fn columns(wide: bool) -> Vec<Column> {
    let mut columns = vec![
        words("ID"),
        words("STATE"),
        words("UPSTREAM"),
        words("CAUSE"),
        words("BEGAN"),
        words("ENDED"),
        numbers("LASTED"),
        numbers("DESTS"),
        numbers("CONNS"),
        numbers("TRAPPED"),
    ];
    if wide {
        columns.extend([
            words("SCOPE"),
            numbers("RELAPSES"),
            words("CAUSES"),
            words("PROCESSES"),
            words("NOTE"),
        ]);
    }
    columns
}

fn row(incident: &Incident, wide: bool) -> Vec<Cell> {
    let none = || "-".to_owned();
    let mut row = vec![
        Cell::new(clean(&incident.id)),
        state(incident.state),
        Cell::new(clean(&incident.upstream)),
        Cell::new(incident.cause.map_or_else(none, |it| it.to_string())),
        Cell::new(time(incident.started_at)),
        Cell::new(incident.ended_at.map_or("goes on".to_owned(), time)),
        Cell::new(units::age(incident.duration_seconds)),
        Cell::new(incident.peak_stalled_destinations),
        Cell::new(incident.peak_stalled_connections),
        Cell::new(units::bytes(incident.peak_outstanding_bytes)),
    ];
    if wide {
        let list = |each: Vec<String>| match each.as_slice() {
            [] => none(),
            each => each.join(", "),
        };
        let causes = incident
            .causes
            .iter()
            .map(|(cause, it)| format!("{cause} {it}"));
        let processes = incident
            .processes
            .iter()
            .map(|it| format!("{} {}", clean(&it.process), it.stuck_connections));
        row.extend([
            Cell::new(incident.scope.map_or_else(none, |it| it.to_string())),
            Cell::new(incident.relapses),
            Cell::new(list(causes.collect())),
            Cell::new(list(processes.collect())),
            Cell::new(incident.note.as_deref().map_or_else(none, clean)),
        ]);
    }
    row
}

fn connections(number: u32) -> String {
    count(number, "connection")
}

/// To the second: the length says the rest.
pub(super) fn time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::{Which, example, incidents};

    fn shown() -> Vec<Incident> {
        incidents::incidents(
            &example::incidents(),
            &Which::default(),
            Some(example::facts().wall),
        )
    }

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn incidents_are_a_row_each() {
        insta::assert_snapshot!(plain(&super::incidents(&shown(), false)));
    }

    #[test]
    fn wide_incidents_add_relapses_and_notes() {
        insta::assert_snapshot!(plain(&super::incidents(&shown(), true)));
    }

    #[test]
    fn one_that_lasts_is_told() {
        insta::assert_snapshot!(plain(&incident(&shown()[0])));
    }

    #[test]
    fn one_that_has_ended_is_told() {
        insta::assert_snapshot!(plain(&incident(&shown()[1])));
    }

    #[test]
    fn one_of_which_little_is_known_is_told_too() {
        let mut little = shown().remove(0);
        little.timeline.clear();
        little.changes.clear();
        little.destinations.clear();
        little.peak_stalled_destinations = 0;
        little.causes.clear();
        little.processes.clear();
        little.marks.clear();
        assert_eq!(plain(&incident(&little)).lines().count(), 1);
    }

    #[test]
    fn no_incidents_are_no_table() {
        assert_eq!(super::incidents(&[], false), "");
    }

    #[test]
    fn an_unknown_id_is_answered_with_what_to_do() {
        let words = unknown_incident("x\x1b");
        assert!(words.contains(r"x\u{1b}") && words.contains("`tcpstall incidents`"));
    }
}

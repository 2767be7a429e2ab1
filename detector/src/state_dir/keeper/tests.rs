use std::{fs, time::Instant};

use super::*;
use crate::{
    incident::{Kind, Seen, Tracker, marks::Marks},
    model::{Snapshot, State, Upstream},
    serve::example,
    state_dir::{INCIDENTS, ROTATE_AT},
    time::Time,
};

const SOON: Duration = Duration::from_secs(5);
const QUICK: Duration = Duration::from_millis(20);

/// An upstream that is bad, then well: the lines that come of it.
fn story() -> Vec<Line> {
    let mut tracker = Tracker::default();
    let mut lines = Vec::new();
    let failing = example::snapshot().upstreams.remove(1);
    for (second, state) in [
        (0, State::Failing),
        (9, State::Failing),
        (11, State::Failing),
        (20, State::Ok),
    ] {
        let now = Time(second * 1_000_000_000);
        let snapshot = Snapshot {
            at: now,
            upstreams: vec![Upstream {
                state,
                ..failing.clone()
            }],
            ..example::snapshot()
        };
        let wall = example::facts().wall + Duration::from_secs(second);
        lines.extend(tracker.handle(&Seen {
            snapshot: &snapshot,
            wall,
            process: &|_| None,
            marks: &Marks::default(),
        }));
    }
    lines
}

fn until(what: &str, holds: impl Fn() -> bool) {
    #[expect(clippy::disallowed_methods, reason = "a test waits for a thread")]
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < SOON, "{what}: not within {SOON:?}");
        thread::sleep(QUICK);
    }
}

fn lines_of(folder: &Path) -> usize {
    let text = fs::read_to_string(folder.join(INCIDENTS)).unwrap_or_default();
    text.lines().count()
}

#[test]
fn what_is_handed_over_is_there_after_the_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let (keeper, past) = Keeper::open(folder.path(), ROTATE_AT);
    assert_eq!(past, Past::default());
    let story = story();
    assert!(story.len() >= 3, "{story:?}");
    keeper.write(story.clone());
    keeper.replace("baselines.json", serde_json::json!({"a": 1}));
    keeper.close();
    assert_eq!(lines_of(folder.path()), story.len());
    let (keeper, past) = Keeper::open(folder.path(), ROTATE_AT);
    let lines = past.into_lines();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0].record, Kind::End);
    keeper.close();
    let (document, sentence) = document::load::<Value>(folder.path(), "baselines.json");
    assert_eq!((document, sentence), (serde_json::json!({"a": 1}), None));
}

#[test]
fn what_could_not_be_written_is_written_later() {
    let parent = tempfile::tempdir().expect("a folder");
    let folder = parent.path().join("state");
    fs::write(&folder, "no folder").expect("it can be written");
    let (keeper, past) = Keeper::open_with(&folder, ROTATE_AT, QUICK);
    assert_eq!(past, Past::default());
    for line in story() {
        keeper.write(vec![line]);
    }
    keeper.replace("baselines.json", serde_json::json!({}));
    thread::sleep(3 * QUICK);
    assert_eq!(fs::read_to_string(&folder).expect("it stays"), "no folder");
    fs::remove_file(&folder).expect("it can be removed");
    until("the document is there", || {
        folder.join("baselines.json").exists()
    });
    assert_eq!(lines_of(&folder), 1, "the newest line says all");
    keeper.close();
    let (_, past) = Keeper::open(&folder, ROTATE_AT);
    let lines = past.into_lines();
    assert_eq!(lines.len(), 1);
    assert!(!lines[0].incident.timeline.is_empty(), "with its evidence");
}

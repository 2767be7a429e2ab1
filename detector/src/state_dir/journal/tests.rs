use std::sync::Arc;

use jiff::Timestamp;
use tempfile::TempDir;

use super::*;
use crate::{
    api::{Incident, Point},
    incident::Tracker,
    model::{Cause, State},
};

const BIG: u64 = ROTATE_AT;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("a time")
}

fn incident(number: u32) -> Incident {
    Incident {
        id: format!("i-{number:08x}"),
        upstream: format!("provider-{number}"),
        state: State::Failing,
        scope: None,
        cause: Some(Cause::Mtu),
        started_at: at(i64::from(number) * 100),
        ended_at: None,
        duration_seconds: 1.0,
        relapses: 0,
        peak_stalled_connections: number,
        peak_stalled_destinations: 1,
        peak_outstanding_bytes: 1,
        note: None,
        causes: Default::default(),
        timeline: vec![Point {
            at: at(i64::from(number) * 100),
            stalled_connections: 7,
            suspect_connections: 0,
            stalled_destinations: 3,
            active_destinations: 9,
        }],
        changes: Vec::new(),
        destinations: Vec::new(),
        processes: Vec::new(),
        marks: Vec::new(),
        marks_omitted: 0,
    }
}

fn line(record: Kind, second: i64, incident: &Incident) -> Line {
    Line {
        record,
        at: at(second),
        incident: incident.clone(),
    }
}

fn begin(number: u32) -> Line {
    let incident = incident(number);
    line(Kind::Begin, i64::from(number) * 100, &incident)
}

fn end(number: u32) -> Line {
    let mut incident = incident(number);
    let second = i64::from(number) * 100 + 50;
    incident.ended_at = Some(at(second));
    line(Kind::End, second, &incident)
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// A journal of `folder` that was read.
fn read(folder: &Path) -> (Vec<Line>, Vec<String>) {
    let (past, sentences) = Journal::new(folder, BIG).read().expect("it can be read");
    (past.into_lines(), sentences)
}

/// Writes lines, each at its own time.
fn write(folder: &Path, rotate_at: u64, lines: &[Line]) {
    let mut journal = Journal::new(folder, rotate_at);
    journal.read().expect("it can be read");
    for line in lines {
        let one = std::slice::from_ref(line);
        journal.write(one).expect("it can be written");
    }
}

fn ids(lines: &[Line]) -> Vec<(&str, bool)> {
    let of = |line: &'_ Line| line.incident.ended_at.is_some();
    lines
        .iter()
        .map(|line| (line.incident.id.as_str(), of(line)))
        .collect()
}

#[test]
fn what_was_written_is_read() {
    let folder = folder();
    assert_eq!(read(folder.path()), (Vec::new(), Vec::new()));
    write(folder.path(), BIG, &[begin(1), begin(2), end(1)]);
    let (lines, sentences) = read(folder.path());
    assert_eq!(lines, [end(1), begin(2)]);
    assert_eq!(sentences, [""; 0]);
}

#[test]
fn a_missing_folder_is_made_for_its_owner_and_group() {
    use std::os::unix::fs::PermissionsExt as _;
    let parent = folder();
    let folder = parent.path().join("var/lib/tcpstall");
    write(&folder, BIG, &[begin(1)]);
    assert_eq!(ids(&read(&folder).0), [("i-00000001", false)]);
    let mode = |path: &Path| {
        let metadata = fs::metadata(path).expect("it is there");
        metadata.permissions().mode() & 0o7
    };
    assert_eq!((mode(&folder), mode(&folder.join(INCIDENTS))), (0, 0));
}

#[test]
fn a_brief_line_keeps_the_evidence_of_those_before() {
    let folder = folder();
    let mut brief = incident(1);
    brief.timeline.clear();
    brief.relapses = 3;
    write(
        folder.path(),
        BIG,
        &[begin(1), line(Kind::Change, 140, &brief)],
    );
    let (lines, _) = read(folder.path());
    assert_eq!(lines[0].incident.timeline, incident(1).timeline);
    assert_eq!((lines[0].incident.relapses, lines[0].at), (3, at(140)));
}

/// Killed in the middle of a line: at every byte of it.
#[test]
fn a_torn_last_line_loses_itself_only() {
    let whole = folder();
    write(whole.path(), BIG, &[begin(1), end(1), begin(2)]);
    let before = fs::read(whole.path().join(INCIDENTS)).expect("it is there");
    write(whole.path(), BIG, &[end(2)]);
    let after = fs::read(whole.path().join(INCIDENTS)).expect("it is there");
    for length in before.len()..=after.len() {
        let folder = folder();
        let path = folder.path().join(INCIDENTS);
        fs::write(&path, &after[..length]).expect("it can be written");
        let (lines, sentences) = read(folder.path());
        // Without its line feed alone the line is complete.
        let complete = length + 1 >= after.len();
        let expected = [("i-00000001", true), ("i-00000002", complete)];
        assert_eq!(ids(&lines), expected, "{length}");
        let torn = !complete && length > before.len();
        assert_eq!(sentences.len(), usize::from(torn), "{sentences:?}");
        // What comes next is understood, and what was there stays there, byte for byte.
        write(folder.path(), BIG, &[end(2), begin(3)]);
        let (lines, _) = read(folder.path());
        let expected = [
            ("i-00000001", true),
            ("i-00000002", true),
            ("i-00000003", false),
        ];
        assert_eq!(ids(&lines), expected, "{length}");
        let now = fs::read(&path).expect("it is there");
        assert!(now.starts_with(&after[..length]), "{length}");
    }
}

#[test]
fn a_foreign_file_is_skipped_said_and_kept() {
    let foreign: &[&[u8]] = &[
        b"hello\n",
        b"{\"record\":\"begin\"}\n",
        b"\0\0\0\0",
        b"[]\n\n{}\n\xff\xfe\n",
        &[b'x'; 3 << 20],
    ];
    for text in foreign {
        let folder = folder();
        let path = folder.path().join(INCIDENTS);
        fs::write(&path, text).expect("it can be written");
        let (lines, sentences) = read(folder.path());
        assert_eq!(lines, []);
        assert_eq!(sentences.len(), 1);
        let place = format!("{}: ", path.display());
        assert!(sentences[0].starts_with(&place), "{sentences:?}");
        assert!(sentences[0].contains("line 1"), "{sentences:?}");
        write(folder.path(), BIG, &[begin(1)]);
        assert_eq!(ids(&read(folder.path()).0), [("i-00000001", false)]);
        assert!(fs::read(&path).expect("it is there").starts_with(text));
    }
}

#[test]
fn a_good_file_is_not_complained_about() {
    let folder = folder();
    write(folder.path(), BIG, &[begin(1), end(1)]);
    fs::OpenOptions::new()
        .append(true)
        .open(folder.path().join(INCIDENTS))
        .and_then(|mut file| file.write_all(b"\n"))
        .expect("an empty line");
    assert_eq!(read(folder.path()).1, [""; 0]);
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |it| it.len())
}

#[test]
fn an_open_incident_survives_any_number_of_rotations() {
    let folder = folder();
    const SMALL: u64 = 4096;
    write(folder.path(), SMALL, &[begin(1)]);
    // With restarts in between.
    for round in 0..5 {
        let lines: Vec<_> = (0..10)
            .map(|it| 2 + round * 10 + it)
            .flat_map(|number| [begin(number), end(number)])
            .collect();
        write(folder.path(), SMALL, &lines);
        let (read, sentences) = read(folder.path());
        assert_eq!(sentences, [""; 0]);
        assert_eq!(read[0].incident, incident(1));
        let unique: std::collections::BTreeSet<_> = ids(&read).into_iter().collect();
        assert_eq!(unique.len(), read.len(), "none is doubled");
        assert!(
            read.iter()
                .filter(|it| it.incident.ended_at.is_none())
                .count()
                == 1
        );
    }
    for name in [INCIDENTS.to_owned(), format!("{INCIDENTS}.1")] {
        let size = size(&folder.path().join(&name));
        assert!(0 < size && size <= SMALL, "{name}: {size}");
    }
    assert_eq!(fs::read_dir(folder.path()).expect("files").count(), 2);
}

/// Killed between the steps of a rotation.
#[test]
fn a_rotation_that_was_cut_short_loses_nothing() {
    let folder = folder();
    write(folder.path(), BIG, &[begin(1), begin(2), end(2)]);
    let path = folder.path().join(INCIDENTS);
    let whole = fs::read(&path).expect("it is there");
    let next = folder.path().join(format!("{INCIDENTS}.next"));
    // 1. The next file is half written.
    fs::write(&next, &whole[..100]).expect("it can be written");
    let expected = [("i-00000001", false), ("i-00000002", true)];
    assert_eq!(ids(&read(folder.path()).0), expected);
    // 2. The old name is gone, the new one is not there.
    fs::rename(&path, folder.path().join(format!("{INCIDENTS}.1"))).expect("renamed");
    assert_eq!(ids(&read(folder.path()).0), expected);
    // And it goes on from there, into the next rotation.
    write(folder.path(), 1000, &[end(3), end(4), end(5)]);
    let (lines, _) = read(folder.path());
    assert_eq!(ids(&lines)[0], ("i-00000001", false));
    assert!(!next.exists());
}

#[test]
fn many_open_incidents_do_not_rotate_for_every_line() {
    let folder = folder();
    let mut journal = Journal::new(folder.path(), 1000);
    journal.read().expect("it can be read");
    for number in 0..50 {
        journal.write(&[begin(number)]).expect("it can be written");
    }
    let before = size(&folder.path().join(INCIDENTS));
    journal.write(&[begin(49)]).expect("it can be written");
    let after = size(&folder.path().join(INCIDENTS));
    assert!(after > before && after - before < 1000, "{before} {after}");
    assert_eq!(read_again(journal, folder.path()).len(), 50);
}

fn read_again(journal: Journal, folder: &Path) -> Vec<Line> {
    drop(journal);
    read(folder).0
}

#[test]
fn a_second_daemon_is_refused_and_may_have_it_later() {
    let folder = folder();
    let mut first = Journal::new(folder.path(), BIG);
    first.write(&[begin(1)]).expect("it can be written");
    let mut second = Journal::new(folder.path(), BIG);
    let refused = second.read().expect_err("the other holds it");
    assert!(
        refused.to_string().contains("another tcpstall daemon"),
        "{refused}"
    );
    assert!(second.write(&[begin(2)]).is_err());
    drop(first);
    second.write(&[begin(2)]).expect("it is free");
    drop(second);
    assert_eq!(read(folder.path()).0.len(), 2);
}

#[test]
fn a_folder_that_is_none_is_an_error_and_stays() {
    let parent = folder();
    let path = parent.path().join("letters");
    fs::write(&path, "dear reader").expect("it can be written");
    let mut journal = Journal::new(&path, BIG);
    assert!(journal.read().is_err());
    assert!(journal.write(&[begin(1)]).is_err());
    assert_eq!(fs::read_to_string(&path).expect("it stays"), "dear reader");
    fs::remove_file(&path).expect("it can be removed");
    journal.write(&[begin(1)]).expect("now it can be made");
}

#[test]
fn a_tracker_goes_on_from_it() {
    let folder = folder();
    write(folder.path(), BIG, &[begin(1), end(1), begin(2)]);
    let (past, _) = Journal::new(folder.path(), BIG)
        .read()
        .expect("it can be read");
    let all = Tracker::resume(past).incidents();
    assert_eq!(all, [Arc::new(incident(2)), Arc::new(end(1).incident)]);
}

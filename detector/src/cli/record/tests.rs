use std::{
    io::{Read, Write as _},
    os::unix::{fs::PermissionsExt, net::UnixListener},
};

use super::*;
use crate::{
    model::Input,
    record::{Replay, line, replay},
    time::Time,
};

const HEADER: &str = r#"{"tcpstall_recording":1,"started_at":"2026-11-23T13:00:00Z","at":1,"settings":{"stall_after":3000000000}}"#;

/// A daemon that sends these lines and is gone, or stays for a while.
fn daemon(socket: &Path, lines: Vec<Vec<u8>>, stays: Duration) -> std::thread::JoinHandle<()> {
    let listener = UnixListener::bind(socket).expect("a socket");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        // Chunks end anywhere.
        for part in lines.concat().chunks(50) {
            let _ = write!(stream, "{:x}\r\n", part.len());
            let _ = stream.write_all(part);
            let _ = stream.write_all(b"\r\n");
        }
        std::thread::sleep(stays);
    })
}

fn tick(at: u64) -> Vec<u8> {
    line::input(Time(at), &Input::Tick).expect("a line")
}

fn header() -> Vec<u8> {
    format!("{HEADER}\n").into_bytes()
}

struct Place {
    folder: tempfile::TempDir,
    args: Args,
    common: Common,
}

fn place() -> Place {
    let folder = tempfile::tempdir().expect("tempdir");
    Place {
        args: Args {
            file: folder.path().join("x.rec"),
            lasting: None,
            max_size: 1_000_000,
            force: false,
        },
        common: Common {
            output: output::Format::Table,
            json: false,
            socket: Some(folder.path().join("t.sock")),
        },
        folder,
    }
}

impl Place {
    fn daemon(&self, lines: Vec<Vec<u8>>, stays: Duration) -> std::thread::JoinHandle<()> {
        daemon(&self.folder.path().join("t.sock"), lines, stays)
    }

    fn replay(&self) -> Replay {
        let file = File::open(&self.args.file).expect("a file");
        replay(file, None).expect("a recording")
    }

    fn complaint(&self) -> String {
        let error = run(&self.args, &self.common).expect_err("it fails");
        let folder = self.folder.path().display().to_string();
        format!("{error:#}").replace(&folder, "FOLDER")
    }
}

#[test]
fn sizes_have_a_unit() {
    for (text, expected) in [
        ("500kB", Some(500_000)),
        ("20 MB", Some(20_000_000)),
        ("1GB", Some(1_000_000_000)),
        ("7B", Some(7)),
        ("0MB", None),
        ("20", None),
        ("MB", None),
        ("-1MB", None),
        ("99999999999999GB", None),
    ] {
        assert_eq!(size(text).ok(), expected, "{text}");
    }
}

#[test]
fn what_the_daemon_sends_is_written_for_its_owner_and_can_be_replayed() {
    let place = place();
    let lines = vec![header(), tick(2), tick(3)];
    let daemon = place.daemon(lines, Duration::ZERO);
    // It has ended although nobody asked for that.
    let code = run(&place.args, &place.common).expect("a recording");
    assert_eq!(code, ExitCode::from(FAILED));
    daemon.join().expect("a daemon");
    let mode = place
        .args
        .file
        .metadata()
        .expect("a file")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let replay = place.replay();
    assert!(replay.broken.is_none(), "{:?}", replay.broken);
    assert_eq!(replay.inputs, 2);
    let reason = replay.end.expect("an end").reason;
    assert!(reason.starts_with("the daemon sends no more"), "{reason}");
}

#[test]
fn it_ends_when_the_time_is_over_or_the_file_is_full() {
    let mut place = place();
    place.args.lasting = Some(Duration::from_millis(300));
    let daemon = place.daemon(vec![header(), tick(2)], Duration::from_secs(1));
    let code = run(&place.args, &place.common).expect("a recording");
    assert_eq!(code, ExitCode::SUCCESS);
    assert_eq!(
        place.replay().end.expect("an end").reason,
        "the time is over"
    );
    daemon.join().expect("a daemon");

    let _ = std::fs::remove_file(place.folder.path().join("t.sock"));
    (place.args.lasting, place.args.force, place.args.max_size) = (None, true, 1);
    let daemon = place.daemon(vec![header(), tick(2), tick(3)], Duration::from_secs(1));
    let code = run(&place.args, &place.common).expect("a recording");
    assert_eq!(code, ExitCode::SUCCESS);
    assert_eq!(
        place.replay().end.expect("an end").reason,
        "the file is full"
    );
    daemon.join().expect("a daemon");
}

#[test]
fn a_reader_that_was_too_slow_is_told_so() {
    let place = place();
    let end = line::end(&line::End {
        at: Time(3),
        reason: "the reader was too slow".to_owned(),
        inputs: 1,
        said: 0,
    });
    let lines = vec![header(), tick(2), end.expect("a line"), tick(9)];
    let daemon = place.daemon(lines, Duration::from_secs(1));
    let code = run(&place.args, &place.common).expect("a recording");
    assert_eq!(code, ExitCode::from(FAILED));
    let end = place.replay().end.expect("an end");
    assert_eq!(
        (end.reason.as_str(), end.inputs),
        ("the reader was too slow", 1)
    );
    daemon.join().expect("a daemon");
}

#[test]
fn a_file_that_is_there_is_kept() {
    let place = place();
    std::fs::write(&place.args.file, "mine").expect("a file");
    assert_eq!(
        place.complaint(),
        "FOLDER/x.rec is there already; name another file, or overwrite it with --force"
    );
    let kept = std::fs::read_to_string(&place.args.file).expect("a file");
    assert_eq!(kept, "mine");
}

#[test]
fn without_a_daemon_nothing_is_overwritten_even_if_forced() {
    let mut place = place();
    place.args.force = true;
    std::fs::write(&place.args.file, "mine").expect("a file");
    assert!(
        place
            .complaint()
            .starts_with("no tcpstall daemon answers on FOLDER/t.sock")
    );
    let kept = std::fs::read_to_string(&place.args.file).expect("a file");
    assert_eq!(kept, "mine");
}

#[test]
fn what_goes_wrong_is_said_with_what_to_do() {
    let mut place = place();
    let daemon = place.daemon(vec![b"HTTP is fine\n".to_vec()], Duration::from_secs(1));
    let complaint = place.complaint();
    assert!(
        complaint.starts_with("what the daemon sends is not understood"),
        "{complaint}"
    );
    daemon.join().expect("a daemon");

    let _ = std::fs::remove_file(place.folder.path().join("t.sock"));
    place.args.file = place.folder.path().join("nowhere/x.rec");
    let daemon = place.daemon(vec![header()], Duration::from_secs(1));
    let complaint = place.complaint();
    assert!(
        complaint.starts_with("cannot write FOLDER/nowhere/x.rec;"),
        "{complaint}"
    );
    daemon.join().expect("a daemon");

    let _ = std::fs::remove_file(place.folder.path().join("t.sock"));
    (place.args.file, place.args.force) = ("/dev/full".into(), true);
    let daemon = place.daemon(vec![header(), tick(2)], Duration::from_secs(2));
    let complaint = place.complaint();
    assert!(
        complaint.starts_with("cannot write /dev/full; make room"),
        "{complaint}"
    );
    assert!(complaint.contains("No space left on device"), "{complaint}");
    daemon.join().expect("a daemon");
}

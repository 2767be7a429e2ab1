use std::{io::Read, io::Write, os::unix::net::UnixListener, path::PathBuf, sync::Arc};

use super::*;
use crate::serve::{bind_socket, example, serve_socket};

fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("tempdir");
    let path = folder.path().join("t.sock");
    (folder, path)
}

/// Something that answers `answer` to whatever is asked, then hangs up.
fn oracle(path: &Path, answer: &'static [u8]) -> std::thread::JoinHandle<()> {
    let listener = UnixListener::bind(path).expect("a socket");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut request = [0; 1024];
        let _ = stream.read(&mut request);
        let _ = stream.write_all(answer);
    })
}

fn complaint(socket: &Path) -> String {
    let error = status(socket).expect_err("there is no good answer");
    format!("{error:#}").replace(&socket.display().to_string(), "SOCKET")
}

#[test]
fn no_daemon_is_named_with_its_socket_and_how_to_start_one() {
    let (_folder, path) = place();
    for _ in 0..2 {
        let complaint = complaint(&path);
        assert!(
            complaint.starts_with("no tcpstall daemon answers on SOCKET ("),
            "{complaint}"
        );
        assert!(
            complaint.contains("`systemctl start tcpstall`"),
            "{complaint}"
        );
        assert!(complaint.contains("`sudo tcpstall daemon`"), "{complaint}");
        // The second time: a file that a dead daemon left behind.
        drop(UnixListener::bind(&path));
    }
}

#[test]
fn a_socket_of_others_is_named_with_its_group() {
    let (_folder, path) = place();
    let _listener = UnixListener::bind(&path).expect("a socket");
    let denied = io::Error::from(io::ErrorKind::PermissionDenied);
    let error = not_connected(&path, &denied).to_string();
    let group = group_of(&path);
    assert!(
        error.contains(&format!("`sudo usermod -aG {group} $USER`")),
        "{error}"
    );
    assert_eq!(group_of(Path::new("/nowhere/at/all")), "tcpstall");
}

#[test]
fn a_daemon_that_hangs_is_not_waited_for() {
    let (_folder, path) = place();
    let _listener = UnixListener::bind(&path).expect("a socket");
    let complaint = complaint(&path);
    assert!(
        complaint.starts_with("the daemon at SOCKET has said nothing for 1 seconds"),
        "{complaint}"
    );
}

#[test]
fn a_daemon_that_ends_is_said_so() {
    let (_folder, path) = place();
    let oracle = oracle(&path, b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{");
    let complaint = complaint(&path);
    assert!(
        complaint.starts_with("the daemon at SOCKET has ended before it answered"),
        "{complaint}"
    );
    oracle.join().expect("it has answered");
}

#[test]
fn another_program_is_not_taken_for_a_daemon() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]"[..],
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n\xff\xff",
    ] {
        let (_folder, path) = place();
        let oracle = oracle(&path, answer);
        let complaint = complaint(&path);
        assert!(
            complaint.starts_with("the answer of SOCKET is not understood"),
            "{complaint}"
        );
        oracle.join().expect("it has answered");
    }
}

#[test]
fn a_refusal_is_passed_on() {
    let (_folder, path) = place();
    let answer = b"HTTP/1.1 503 x\r\ncontent-length: 21\r\n\r\n{\"error\":\"too early\"}";
    let oracle = oracle(&path, answer);
    assert_eq!(complaint(&path), "the daemon at SOCKET answers: too early");
    oracle.join().expect("it has answered");
}

#[test]
fn a_real_daemon_is_understood() {
    let (_folder, path) = place();
    let (send, ready) = std::sync::mpsc::channel();
    let socket_path = path.clone();
    let daemon = std::thread::spawn(move || {
        runtime().expect("a runtime").block_on(async {
            let socket = bind_socket(&socket_path).expect("a socket");
            let (board, _kept) = example::board();
            let stop = Arc::new(tokio::sync::Notify::new());
            send.send((board.events.clone(), Arc::clone(&stop)))
                .expect("somebody waits");
            tokio::select! {
                () = serve_socket(&socket, board) => {}
                () = stop.notified() => {}
            }
        });
    });
    let (changes, stop) = ready.recv().expect("it is up");
    assert_eq!(status(&path).expect("an answer").host, "mx1");
    let filter = Filter {
        limit: Some(2),
        ..Filter::default()
    };
    assert_eq!(stalls(&path, &filter).expect("an answer").len(), 2);

    let which = Which {
        id: Some("i-6d376001".to_owned()),
        limit: None,
    };
    let found = incidents(&path, &which).expect("an answer");
    assert_eq!(found, [(*example::incidents()[1]).clone()]);
    assert_eq!(
        incidents(&path, &Which::default())
            .expect("an answer")
            .len(),
        2
    );

    let watcher = std::thread::spawn(move || {
        let mut seen = Vec::new();
        let ended = events(&path, |news| {
            seen.push(news);
            Ok(())
        });
        (
            seen,
            ended.expect_err("it ends with the daemon").to_string(),
        )
    });
    while changes.receiver_count() == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let change = example::event();
    changes.send(change.clone()).expect("somebody watches");
    std::thread::sleep(Duration::from_millis(100));
    stop.notify_one();
    daemon.join().expect("it ends");
    let (seen, ended) = watcher.join().expect("it ends");
    assert_eq!(seen, [News::Changed(change)]);
    assert!(ended.contains("has ended; start it again"), "{ended}");
}

#[test]
fn a_stream_is_understood_however_it_is_cut() {
    let event = serde_json::to_string(&example::event()).expect("JSON");
    let stream =
        format!(":\n\nevent: upstream\ndata: {event}\n\nevent: x\n\nevent: lost\ndata: 7\n\n");
    for size in [1, 2, 7, 4096] {
        let mut pending = Vec::new();
        let mut seen = Vec::new();
        for chunk in stream.as_bytes().chunks(size) {
            pending.extend_from_slice(chunk);
            seen.extend(take(&mut pending).expect("valid"));
        }
        assert_eq!(seen, [News::Changed(example::event()), News::Missed(7)]);
        assert!(pending.is_empty());
    }
}

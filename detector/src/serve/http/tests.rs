use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    super::{bind_socket, example, routes},
    *,
};

const SHORT: Duration = Duration::from_millis(200);
const QUICK: Limits = Limits {
    connections: 4,
    request: SHORT,
    write: SHORT,
    life: Some(Duration::from_secs(2)),
    grace: SHORT,
};

/// A daemon with little patience, and where it listens.
async fn daemon(limits: Limits) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (board, kept) = example::board();
    let router =
        routes::tcp(board).route("/large", axum::routing::get(async || vec![b'x'; 64 << 20]));
    tokio::spawn(async move {
        let _kept = kept;
        serve(&listener, router, limits).await;
    });
    address
}

/// All that comes back for `sent`, until the daemon closes.
async fn answer(address: SocketAddr, sent: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let _ = stream.write_all(sent).await;
    let mut answer = Vec::new();
    let closed = timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
    assert!(closed.is_ok(), "the daemon holds on to the connection");
    String::from_utf8_lossy(&answer).into_owned()
}

async fn get(address: SocketAddr, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    answer(address, request.as_bytes()).await
}

#[tokio::test]
async fn what_harms_nobody_is_served_over_tcp() {
    let address = daemon(QUICK).await;
    for (path, expected) in [
        ("/", "<a href=/metrics>"),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8\r\n"),
        ("/v1/status", r#""state":"failing""#),
        ("/-/healthy", "tcpstall is healthy"),
        ("/-/ready", "tcpstall is ready"),
    ] {
        let answer = get(address, path).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains(expected), "{answer}");
    }
}

#[tokio::test]
async fn what_names_peers_is_not_served_over_tcp() {
    let address = daemon(QUICK).await;
    for path in [
        "/v1/stalls",
        "/v1/incidents",
        "/v1/events",
        "/v1/record",
        "/v1/kill",
        "/v1/hooks",
        "/etc/passwd",
    ] {
        let answer = get(address, path).await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
        assert!(
            answer.contains(r#"{"error":"there is nothing at "#),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn nothing_can_be_changed_over_tcp() {
    let address = daemon(QUICK).await;
    let request = b"POST /v1/status HTTP/1.1\r\nhost: x\r\ncontent-length: 9999999\r\n\r\nxxx";
    let said = answer(address, request).await;
    assert!(said.starts_with("HTTP/1.1 405 "), "{said}");
    let request = b"POST /v1/kill?upstream=provider-b HTTP/1.1\r\nhost: x\r\n\r\n";
    let said = answer(address, request).await;
    assert!(said.starts_with("HTTP/1.1 404 "), "{said}");
    let request = b"POST /v1/hooks?hook=route&outcome=failed HTTP/1.1\r\nhost: x\r\n\r\n";
    let said = answer(address, request).await;
    assert!(said.starts_with("HTTP/1.1 404 "), "{said}");
}

#[tokio::test]
async fn rubbish_is_refused() {
    let address = daemon(QUICK).await;
    for rubbish in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"\r\n\r\n\0\0\0\0",
        b"GET\r\n\r\n",
    ] {
        let answer = answer(address, rubbish).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{answer}"
        );
    }
    assert!(get(address, "/-/healthy").await.contains("healthy"));
}

#[tokio::test]
async fn who_says_nothing_or_half_is_shown_the_door() {
    let address = daemon(QUICK).await;
    for half in [&b""[..], b"GET /metr", b"GET / HTTP/1.1\r\nhost: x\r\n"] {
        let begun = tokio::time::Instant::now();
        answer(address, half).await;
        assert!(begun.elapsed() < Duration::from_secs(2), "{half:?}");
    }
}

#[tokio::test]
async fn who_asks_once_and_stays_is_shown_the_door() {
    let address = daemon(Limits {
        life: None,
        ..QUICK
    })
    .await;
    let answer = answer(address, b"GET /-/healthy HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.contains("healthy"), "{answer}");
}

#[tokio::test]
async fn an_oversized_header_is_refused() {
    let address = daemon(QUICK).await;
    let mut request = b"GET / HTTP/1.1\r\nx: ".to_vec();
    request.resize(BUFFER + 1024, b'x');
    let answer = answer(address, &request).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431 "),
        "{answer}"
    );
}

#[tokio::test]
async fn many_silent_connections_delay_nobody() {
    // Nobody is shown the door for being late: only making room can let the question in.
    let patient = Limits {
        request: Duration::from_secs(3600),
        ..QUICK
    };
    let address = daemon(patient).await;
    let mut idle = Vec::new();
    for _ in 0..3 * QUICK.connections {
        idle.push(TcpStream::connect(address).await.expect("a connection"));
    }
    let asked = tokio::time::timeout(Duration::from_secs(30), get(address, "/-/healthy"));
    assert!(asked.await.expect("an answer").contains("healthy"));
}

#[tokio::test]
async fn who_does_not_read_is_dropped() {
    let address = daemon(Limits {
        connections: 1,
        life: None,
        ..QUICK
    })
    .await;
    let mut deaf = TcpStream::connect(address).await.expect("a connection");
    deaf.write_all(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .expect("sent");
    // The only place is free again although the other end still holds its connection.
    assert!(get(address, "/-/healthy").await.contains("healthy"));
}

#[tokio::test]
async fn many_that_do_not_read_delay_nobody_for_long() {
    // Only making room can let the question in.
    let patient = Limits {
        write: Duration::from_secs(3600),
        life: None,
        ..QUICK
    };
    let address = daemon(patient).await;
    let mut deaf = Vec::new();
    for _ in 0..3 * QUICK.connections {
        let mut one = TcpStream::connect(address).await.expect("a connection");
        let ask = b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n";
        one.write_all(ask).await.expect("sent");
        deaf.push(one);
    }
    sleep(SHORT).await;
    for one in &mut deaf {
        // Says something, and still does not read; some have been hung up on.
        let _ = one.write_all(b"G").await;
    }
    let asked = tokio::time::timeout(Duration::from_secs(30), get(address, "/-/healthy"));
    assert!(asked.await.expect("an answer").contains("healthy"));
}

/// One that reads while others do not keeps its place.
#[tokio::test]
async fn who_reads_does_not_give_way_to_others() {
    let patient = Limits {
        connections: 2,
        write: Duration::from_secs(3600),
        life: None,
        ..QUICK
    };
    let address = daemon(patient).await;
    let mut reads = TcpStream::connect(address).await.expect("a connection");
    let ask = b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n";
    reads.write_all(ask).await.expect("sent");
    let all = tokio::spawn(async move {
        let (mut some, mut sum) = (vec![0; 1 << 20], 0);
        loop {
            match reads.read(&mut some).await {
                Ok(count) if count > 0 => sum += count,
                _ => return sum,
            }
            sleep(Duration::from_millis(10)).await;
        }
    });
    let mut deaf = TcpStream::connect(address).await.expect("a connection");
    deaf.write_all(ask).await.expect("sent");
    assert!(get(address, "/-/healthy").await.contains("healthy"));
    assert!(all.await.expect("it ends") >= 64 << 20);
}

#[tokio::test]
async fn who_reads_slowly_is_dropped_at_the_end_of_its_life() {
    let life = Some(SHORT);
    let write = Duration::from_secs(60);
    let address = daemon(Limits {
        connections: 1,
        life,
        write,
        ..QUICK
    })
    .await;
    let mut slow = TcpStream::connect(address).await.expect("a connection");
    slow.write_all(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .expect("sent");
    let reads = tokio::spawn(async move {
        let mut some = [0; 4096];
        while slow.read(&mut some).await.is_ok_and(|it| it > 0) {
            sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(get(address, "/-/healthy").await.contains("healthy"));
    assert!(!reads.is_finished(), "it still reads what was on its way");
    reads.abort();
}

#[tokio::test]
async fn everything_is_served_on_the_socket() {
    let folder = tempfile::tempdir().expect("tempdir");
    let path = folder.path().join("t.sock");
    let socket = bind_socket(&path).expect("a socket");
    let (board, _kept) = example::board();
    let events = board.events.clone();
    let serving = tokio::spawn(async move { super::super::serve_socket(&socket, board).await });
    for (request, expected) in [
        ("/v1/stalls?cause=blackhole", r#"[{"id":"c-7f3a9c03","#),
        (
            "/v1/stalls?caus=blackhole",
            r#"{"error":"Failed to deserialize query string: caus: unknown field"#,
        ),
        ("/v1/stalls?dst=x", "expected a prefix without host bits"),
        ("/v1/incidents?limit=1", r#"[{"id":"i-6d37b4f1","#),
        ("/v1/incidents?id=i-6d376001", r#"[{"id":"i-6d376001","#),
        (
            "/v1/incidents?limt=1",
            r#"{"error":"Failed to deserialize query string: limt: unknown field"#,
        ),
        ("/v1/status", r#""schema":1"#),
        ("/metrics", "tcpstall_upstream_state"),
    ] {
        let mut stream = UnixStream::connect(&path).await.expect("a connection");
        let request = format!("GET {request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.contains(expected), "{answer}");
    }
    let mut stream = UnixStream::connect(&path).await.expect("a connection");
    stream
        .write_all(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .expect("sent");
    while events.receiver_count() == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    events.send(example::event()).expect("somebody listens");
    let mut seen = String::new();
    while !seen.contains("\n\n\r\n") {
        let mut some = [0; 1024];
        let count = stream.read(&mut some).await.expect("an event");
        seen.push_str(&String::from_utf8_lossy(&some[..count]));
    }
    assert!(
        seen.contains("event: upstream\ndata: {\"at\":\"2026-11-23T13:00:00.123Z\""),
        "{seen}"
    );
    serving.abort();
    let _ = serving.await;
    assert!(!path.exists(), "the socket's file is left behind");
}

#[tokio::test]
async fn watchers_leave_places_for_questions() {
    let folder = tempfile::tempdir().expect("tempdir");
    let path = folder.path().join("t.sock");
    let socket = bind_socket(&path).expect("a socket");
    let (board, _kept) = example::board();
    tokio::spawn(async move { super::super::serve_socket(&socket, board).await });
    let mut watchers = Vec::new();
    let mut refused = 0;
    for _ in 0..40 {
        let mut stream = UnixStream::connect(&path).await.expect("a connection");
        stream
            .write_all(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .expect("sent");
        let mut some = [0; 12];
        stream.read_exact(&mut some).await.expect("an answer");
        refused += u32::from(&some == b"HTTP/1.1 503");
        watchers.push(stream);
    }
    assert_eq!(refused, 8);
}

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener},
    thread,
};

use super::*;
use crate::model::{Cause, Scope};

#[test]
fn addresses_are_understood_or_refused() {
    for (text, host, port, prefix) in [
        ("http://127.0.0.1:9090", "127.0.0.1", 9090, ""),
        ("http://prometheus.example/", "prometheus.example", 80, ""),
        (
            "http://[2001:db8::1]:9090/a/b/",
            "[2001:db8::1]",
            9090,
            "/a/b",
        ),
    ] {
        let address: Address = text.parse().expect(text);
        let found = (&*address.host, address.port, &*address.prefix);
        assert_eq!(found, (host, port, prefix));
    }
    for (text, expected) in [
        ("", "expected an address"),
        ("127.0.0.1:9090", "expected an address"),
        ("ftp://x", "expected an address"),
        ("https://x:9090", "http:// only"),
        ("http://user:password@x", "without a user"),
        ("http://x/?query=1", "a query"),
    ] {
        let error = text.parse::<Address>().expect_err(text);
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn the_worst_come_first() {
    let fleet = example();
    let names: Vec<_> = fleet.upstreams.iter().map(|it| &*it.upstream).collect();
    assert_eq!(names, ["provider-b", "provider-a", "vpn"]);
    let b = &fleet.upstreams[0];
    let hosts: Vec<_> = b.hosts.iter().map(|it| &*it.host).collect();
    let order = [
        "mx1:19293",
        "mx3:19293",
        "mx2:19293",
        "mx4:19293",
        "mx5:19293",
    ];
    assert_eq!(hosts, order);
    assert_eq!((b.bad().count(), b.judged()), (3, 4));
    assert_eq!(b.hosts[2].cause, Some(Cause::Loss));
    assert_eq!(b.hosts[1].scope, Some(Scope::Common));
    assert_eq!(fleet.unreachable, ["mx6:19293"]);
}

/// An agent on each host, and all of them call it 127.0.0.1.
#[test]
fn hosts_of_the_same_name_are_told_and_not_mixed() {
    let mut series = example_series();
    let mut twins = example_series();
    for twin in &mut twins {
        twin.metric.insert("site".to_owned(), "two".to_owned());
    }
    series.extend(twins);
    let fleet = gathered(&series, Timestamp::UNIX_EPOCH).expect("some");
    assert_eq!(fleet.upstreams[0].bad().count(), 6);
    assert!(
        fleet.ambiguous.contains(&"mx1:19293".to_owned()),
        "{:?}",
        fleet.ambiguous
    );
    assert_eq!(example().ambiguous, [""; 0]);
}

/// A server that gives one answer, and what is made of it.
fn answered(answer: String) -> Result<Fleet, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut request = [0; 4096];
        let length = stream.read(&mut request).expect("a request");
        stream.write_all(answer.as_bytes()).expect("an answer");
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    let address = format!("http://127.0.0.1:{port}/x").parse().expect("valid");
    let fleet = fleet(&address).map_err(|error| format!("{error:#}"));
    let request = server.join().expect("it has served");
    assert!(
        request.starts_with("GET /x/api/v1/query?query="),
        "{request}"
    );
    fleet
}

#[test]
fn what_is_no_answer_is_said() {
    for (status, body, expected) in [
        ("200 OK", "[]", "is it a Prometheus?"),
        (
            "200 OK",
            r#"{"status":"success","data":{"result":[]}}"#,
            "knows no upstream of tcpstall",
        ),
        (
            "422 Unprocessable Entity",
            r#"{"status":"error","error":"too many \u001b"}"#,
            r"answers: too many \u{1b}",
        ),
    ] {
        let length = body.len();
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}");
        let error = answered(answer).expect_err(body);
        assert!(error.contains(expected), "{body}: {error}");
    }
    let error = answered(String::new()).expect_err("nothing");
    assert!(error.contains("has ended before it answered"), "{error}");
}

#[test]
fn nobody_there_is_said() {
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = closed.local_addr().expect("bound").port();
    let address = format!("http://127.0.0.1:{port}").parse().expect("valid");
    // It listens and says nothing.
    let error = fleet(&address).expect_err("nobody answers").to_string();
    assert!(error.contains("has not answered for 1 seconds"), "{error}");
    drop(closed);
    let error = fleet(&address).expect_err("nobody is there").to_string();
    assert!(error.contains("--prometheus"), "{error}");
}

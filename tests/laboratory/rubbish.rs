//! Whatever comes in through the two doors, the detector goes on.

use std::{
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    time::Duration,
};

use lab::{Direction, Fault, Load, daemon::METRICS_PORT};

use crate::world::{World, it_works};

const RUBBISH: &[&[u8]] = &[
    b"",
    b"\0\0\0\0\0\0\0\0",
    b"\xff\xfe\xfd rubbish \x00\x01\r\n\r\n",
    b"GET",
    b"GET /v1/status HTTP/1.1\r\nHost:",
    b"POST /v1/kill HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{",
    b"POST /v1/kill HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\n{]}",
    b"DELETE /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"GET /v1/../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
];

/// Says it, hangs up, and does not wait for an answer for long.
fn say(mut door: impl Read + Write, words: &[u8]) {
    // The other side may hang up first, which is its good right.
    let _ = door.write_all(words);
    let _ = door.read(&mut [0; 4096]);
}

#[test]
fn rubbish_and_clients_that_say_nothing_do_no_harm() {
    let Some(mut world) = World::new(1) else {
        return;
    };
    world.traffic(0, 0..20, Load::STEADY);
    world.watch();
    let patience = Some(Duration::from_millis(200));
    let knock = || {
        let door = UnixStream::connect(world.daemon().socket()).expect("the socket is open");
        door.set_read_timeout(patience).expect("a limit can be set");
        door
    };
    let knock_tcp = || {
        let inside = || TcpStream::connect(("127.0.0.1", METRICS_PORT));
        let door = it_works(world.lab.host.run(inside)).expect("the metrics port is open");
        door.set_read_timeout(patience).expect("a limit can be set");
        door
    };
    let long = vec![b'a'; 1 << 20];
    for words in RUBBISH.iter().copied().chain([&long[..]]) {
        say(knock(), words);
        say(knock_tcp(), words);
    }
    it_works(world.daemon().status());

    let silent: Vec<_> = (0..200).map(|_| (knock(), knock_tcp())).collect();
    it_works(world.daemon().status());
    it_works(world.daemon().metrics());
    drop(silent);
    world.until(Duration::from_secs(15), "provider-a is ok", |status| {
        status.state_of("provider-a") == "ok"
    });
    it_works(world.take_daemon().stop());
}

#[test]
fn clients_that_ask_and_never_read_do_no_harm() {
    let Some(world) = World::healthy() else {
        return;
    };
    // More than there are places.
    let clients: Vec<_> = (0..200)
        .map(|_| {
            let inside = || TcpStream::connect(("127.0.0.1", METRICS_PORT));
            let mut door = it_works(world.lab.host.run(inside)).expect("the metrics port is open");
            door.set_nonblocking(true)
                .expect("it can be told not to wait");
            let ask = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
            // As many as fit, of which one is answered.
            while door.write_all(ask).is_ok() {}
            door
        })
        .collect();
    it_works(world.daemon().metrics());
    world.break_(1, Fault::Blackhole(Direction::Both));
    world.is_blamed(1, "blackhole");
    it_works(world.daemon().metrics());
    world.recovers(1);
    drop(clients);
}

#[test]
fn those_who_watch_do_not_lock_the_others_out() {
    let Some(mut world) = World::new(1) else {
        return;
    };
    world.traffic(0, 0..20, Load::STEADY);
    world.watch();
    // Some are let in, the others are told that there are enough.
    let watchers: Vec<_> = (0..100).map(|_| world.daemon().events()).collect();
    let let_in = watchers.iter().filter(|it| it.is_ok()).count();
    assert!((1..100).contains(&let_in), "{let_in} of 100 watch");
    it_works(world.daemon().status());
    drop(watchers);
    it_works(world.take_daemon().stop());
}

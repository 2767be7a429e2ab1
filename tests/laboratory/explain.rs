//! What `explain` says is true, and what it proposes helps.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use lab::{Direction, Fault, Load, network::Family, server};

use crate::world::{RECOVERY, SOON, World, it_works, others_are_fine};

/// Headers of IP and TCP with time stamps.
const HEADERS: u32 = 52;

/// Segments that pass a hole for large ones and are larger than commands.
const MEDIUM: Load = Load::Steady {
    connections: 1,
    bytes: 700,
    every: Duration::from_millis(250),
};

/// The commands among what `explain` says, by their first words.
fn commands(text: &str, begin: &str) -> Vec<String> {
    text.lines()
        .filter_map(|it| it.strip_prefix("       "))
        .filter(|it| it.starts_with(begin))
        .map(str::to_owned)
        .collect()
}

#[test]
fn an_mtu_hole_is_explained_with_its_limits_and_the_clamp_helps() {
    const LIMIT: u16 = 900;
    let Some(mut world) = World::new(3) else {
        return;
    };
    for upstream in 0..3 {
        world.traffic(upstream, 0..20, Load::mail(40));
    }
    world.traffic(1, 20..24, MEDIUM);
    world.watch();
    world.all_ok();
    world.break_(1, Fault::DropLargerThan(LIMIT));
    world.is_blamed(1, "mtu");
    let status = world.until(SOON, "the sizes are known", |status| {
        let evidence = status.upstream("provider-b").map(|it| it.evidence);
        evidence.is_some_and(|it| it.largest_passed_bytes.is_some_and(|it| it >= 536))
    });
    let evidence = status
        .upstream("provider-b")
        .expect("it is listed")
        .evidence;
    let limit = u32::from(LIMIT);
    let passed = evidence.largest_passed_bytes.expect("it is known");
    let waiting = evidence.smallest_waiting_bytes.expect("it is known");
    assert!(passed + HEADERS <= limit, "{evidence:?}");
    assert!(waiting + HEADERS > limit, "{evidence:?}");

    let text = it_works(world.daemon().cli_ok(&["explain", "provider-b"]));
    assert!(text.contains(&passed.to_string()), "{text}");
    assert!(text.contains(&waiting.to_string()), "{text}");
    assert!(
        text.lines()
            .all(|it| it.chars().count() <= 80 || it.starts_with("       "))
    );
    // A colleague would try it at once.
    let clamp = commands(&text, "nft 'add ");
    assert_eq!(clamp.len(), 3, "{text}");
    for command in &clamp {
        let output = it_works(world.lab.host.output("sh", &["-c", command]));
        assert!(output.status.success(), "{command}: {output:?}");
    }
    world.until(RECOVERY * 2, "the clamp bridges the hole", |status| {
        others_are_fine(status, "provider-b");
        status.state_of("provider-b") == "ok"
    });
}

#[test]
fn the_route_that_is_proposed_sets_a_hanging_connection_going() {
    let Some(mut world) = World::new(1) else {
        return;
    };
    world.traffic(0, 0..20, MEDIUM);
    world.watch();
    world.all_ok();
    let mut stream = connect(&world, 5);
    world.break_(0, Fault::DropLargerThan(900));
    let mut message = vec![0; 4004];
    message[..4].copy_from_slice(&4000_u32.to_be_bytes());
    stream.write_all(&message).expect("the kernel takes it");
    let local = stream.local_addr().expect("it has one").to_string();
    let id = loop_until(SOON, "it is stuck", || {
        let stuck = world.stalls(&["--upstream", "provider-a"]);
        stuck
            .into_iter()
            .find(|it| it.local == local && it.cause == "mtu")
    })
    .id;
    let text = it_works(world.daemon().cli_ok(&["explain", &id]));
    let routes = commands(&text, "ip route replace");
    let [route] = routes.as_slice() else {
        panic!("{text}");
    };
    // The host routes by source, so the first command names a table.
    let looked_up = commands(&text, "ip route get").remove(0);
    let found = it_works(world.lab.host.output("sh", &["-c", &looked_up]));
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    let mut words = found.split_whitespace().skip_while(|it| *it != "table");
    let table = words.nth(1).unwrap_or("main");
    let route = format!("{route} table {table}");
    let output = it_works(world.lab.host.output("sh", &["-c", &route]));
    assert!(output.status.success(), "{route}: {output:?}");
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("it can be set");
    stream.read_exact(&mut [0; 2]).expect("the peer answers");
}

#[test]
fn the_kernel_gives_up_when_it_was_foretold() {
    let Some(mut world) = World::new(1) else {
        return;
    };
    // The limit is 3 s (15 times 200 ms), the timers are at 0.3 s times 2ⁿ−1: far enough from it
    // that their lateness does not decide.
    it_works(world.lab.host.sysctl(&[("ipv4/tcp_retries2", "3")]));
    let (range, _) = world.lab.upstreams[0].aggregates();
    let gateway = world.lab.upstreams[0].gateway;
    it_works(world.lab.host.ip(&format!(
        "route replace {range} via {gateway} rto_min 300ms\n"
    )));
    world.watch();
    let limited = connect(&world, 1);
    rustix::net::sockopt::set_tcp_user_timeout(&limited, 5000).expect("it can be set");
    let patient = connect(&world, 2);
    world.break_(0, Fault::Blackhole(Direction::Both));
    let begin = Instant::now();
    let ends: Vec<_> = [limited, patient]
        .into_iter()
        .map(|mut stream| {
            let local = stream.local_addr().expect("it has one").to_string();
            stream.write_all(&[0; 100]).expect("the kernel takes it");
            let end = std::thread::spawn(move || {
                let error = stream.read(&mut [0; 1]).expect_err("nothing comes back");
                (Instant::now(), error.kind())
            });
            (local, end)
        })
        .collect();
    // What is published is a moment old, so the earliest forecast is the best one.
    let mut foretold = [None; 2];
    while ends.iter().any(|(_, end)| !end.is_finished()) {
        assert!(begin.elapsed() < Duration::from_secs(60), "it never ends");
        let now = Instant::now();
        for stall in world.stalls(&[]) {
            let Some(place) = ends.iter().position(|(local, _)| *local == stall.local) else {
                continue;
            };
            if let Some(left) = stall.gives_up_seconds {
                let at = now + Duration::from_secs_f64(left);
                let best = foretold[place].get_or_insert(at);
                *best = at.min(*best);
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    for ((what, (_, end)), foretold) in ["TCP_USER_TIMEOUT", "tcp_retries2"]
        .iter()
        .zip(ends)
        .zip(foretold)
    {
        let (ended, kind) = end.join().expect("it ends");
        assert_eq!(kind, std::io::ErrorKind::TimedOut, "{what}");
        let foretold = foretold.unwrap_or_else(|| panic!("{what}: no end was foretold"));
        let off = ended.max(foretold) - ended.min(foretold);
        println!(
            "{what}: ended after {:.2?}, foretold {:.2?}, {off:.2?} off",
            ended - begin,
            foretold - begin
        );
        assert!(off < Duration::from_millis(700), "{what}: {off:?} off");
    }
}

/// A connection of the host to a destination of the first upstream, which answers messages.
#[track_caller]
fn connect(world: &World, destination: u8) -> TcpStream {
    let address = world.lab.upstreams[0].destination(destination, Family::V4);
    let peer = SocketAddr::new(address, server::MESSAGES);
    let stream = it_works(world.lab.host.run(|| TcpStream::connect(peer)));
    stream.expect("the handshake passes")
}

/// Waits for something.
#[track_caller]
fn loop_until<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

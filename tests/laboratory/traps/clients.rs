//! What programs do to their sockets, and how it changes what a stall looks like.

use std::time::Duration;

use lab::{Direction, Fault, Load, Plan, SocketOptions};

use super::{round_trips_are_known, ss, turns_bad};
use crate::world::{SOON, World, all_quiet};

/// Trap: thin streams, short limits of programs: the back-off stays zero for six timeouts.
#[test]
fn timeouts_that_do_not_back_off_are_counted_all_the_same() {
    let Some(mut world) = World::new(2) else {
        return;
    };
    // With BBR, which leaves the slow-start threshold alone, the kernel calls nothing thin.
    let host = &world.lab.host;
    host.sysctl(&[("ipv4/tcp_congestion_control", "reno")])
        .expect("the host can use Reno");
    world.traffic(0, 0..20, Load::STEADY);
    // Few segments in flight: neither is a full pipe.
    let small = Load::Steady {
        connections: 1,
        bytes: 300,
        every: Duration::from_millis(250),
    };
    let plan = Plan::new(&world.lab.upstreams[1], 0..20, small);
    let thin = world.plan(&plan.with(SocketOptions {
        thin: true,
        ..SocketOptions::default()
    }));
    world.watch();
    world.all_ok();
    round_trips_are_known(&world, thin, 20);
    world.break_(1, Fault::Blackhole(Direction::Both));
    world.until_traffic(SOON, "they repeat at the same pace", |world| {
        let sockets = ss(&world.lab.host, &["-Htni", "dst", "198.18.64.0/18"]);
        sockets
            .iter()
            .any(|it| it.contains("retrans:1/4") && !it.contains("backoff:"))
    });
    world.is_blamed(1, "blackhole");
    world.recovers(1);
}

/// Trap: thin streams, short limits of programs: connections die before many are stalled.
#[test]
fn connections_that_give_up_after_two_seconds_and_come_again_are_noticed() {
    let Some(mut world) = World::new(2) else {
        return;
    };
    world.traffic(0, 0..20, Load::STEADY);
    let mut hasty = Vec::new();
    for (destinations, milliseconds) in [(0..10, 1500), (10..20, 3000)] {
        let plan = Plan::new(&world.lab.upstreams[1], destinations, Load::STEADY);
        hasty.push(world.plan(&plan.with(SocketOptions {
            user_timeout: Some(Duration::from_millis(milliseconds)),
            ..SocketOptions::default()
        })));
    }
    world.watch();
    world.all_ok();
    world.break_(1, Fault::Blackhole(Direction::Both));
    world.is_blamed(1, "blackhole");
    world.until_traffic(SOON, "they give up", |world| {
        hasty.iter().all(|it| world.counters(*it).errors() >= 20)
    });
    // Again and again they begin anew; it stays bad.
    world.hold(Duration::from_secs(4), "it stays bad", |status| {
        status.state_of("provider-b") == "failing"
    });
    world.recovers(1);
}

/// Programs that say something and are gone, every so often, to so many destinations.
fn farewells(world: &mut World, upstream: usize, destinations: u8) -> usize {
    let load = Load::Farewell {
        every: Duration::from_millis(500),
    };
    let plan = Plan::new(&world.lab.upstreams[upstream], 0..destinations, load);
    world.plan(&plan.with(SocketOptions {
        lingers: true,
        ..SocketOptions::default()
    }))
}

/// Trap: closing connections, orphans: no process holds them any more, and data is outstanding:
/// half a voice each.
#[test]
fn four_destinations_of_orphans_are_too_few_and_sixteen_are_enough() {
    let Some(mut world) = World::new(3) else {
        return;
    };
    world.traffic(0, 0..20, Load::STEADY);
    let few = farewells(&mut world, 1, 4);
    let many = farewells(&mut world, 2, 16);
    world.watch();
    world.until(SOON, "provider-a is ok", |status| {
        status.state_of("provider-a") == "ok"
    });
    world.until_traffic(SOON, "the others have said something", |world| {
        world.counters(few).sessions() >= 8 && world.counters(many).sessions() >= 32
    });
    world.break_(1, Fault::Blackhole(Direction::Both));
    world.break_(2, Fault::Blackhole(Direction::Both));
    turns_bad(&world, "provider-c", "blackhole");
    world.hold(Duration::from_secs(5), "four are too few", |status| {
        !super::is_bad(status, "provider-b")
    });
    let stalls = world.stalls(&["--upstream", "provider-b", "--limit", "1000"]);
    assert!(!stalls.is_empty(), "they are listed all the same");
    for stall in stalls {
        assert!(
            matches!(
                stall.tcp_state.as_str(),
                "fin-wait-1" | "closing" | "last-ack"
            ),
            "{stall:?}"
        );
    }
}

/// Trap: time-wait and request sockets: a sweep comes across them in thousands.
#[test]
fn thousands_of_closed_connections_are_not_counted_as_established() {
    let Some(mut world) = World::new(2) else {
        return;
    };
    world.traffic(0, 0..20, Load::STEADY);
    world.traffic(1, 0..20, Load::STEADY);
    let short = world.traffic(1, 0..20, Load::Churn(500));
    world.watch();
    world.all_ok();
    world.until_traffic(2 * SOON, "thousands have come and gone", |world| {
        world.counters(short).sessions() >= 3000
    });
    let waiting = ss(&world.lab.host, &["-Htan", "state", "time-wait"]).len();
    assert!(waiting >= 1000, "only {waiting} sockets are left over");
    world.hold(Duration::from_secs(3), "they are not counted", |status| {
        let upstream = status.upstream("provider-b");
        all_quiet(status)
            && upstream.is_some_and(|it| (20..300).contains(&it.connections.established))
    });
}

/// Trap: scanners, half-open connections, clients that walk away: the last packet of the handshake
/// never comes.
#[test]
fn half_open_connections_are_nobodys_fault_and_not_established() {
    let Some(mut world) = World::new(2) else {
        return;
    };
    world.traffic(0, 0..20, Load::STEADY);
    let server = lab::server::Server::start(&world.lab.host).expect("the host can listen");
    world.watch();
    world.until(SOON, "provider-a is ok", |status| {
        status.state_of("provider-a") == "ok"
    });
    // What comes from outside passes only as long as it opens a connection.
    world.break_(1, Fault::Blackhole(Direction::Back));
    let local = world.lab.upstreams[1].local;
    let outside = Plan::to([local.into()], Load::LongPoll(200));
    let outside = lab::Traffic::start(&world.lab.net, &outside).expect("the internet can connect");
    world.until_traffic(SOON, "the host waits for them", |world| {
        ss(&world.lab.host, &["-Htan", "state", "syn-recv"]).len() >= 150
    });
    world.hold(Duration::from_secs(6), "nobody is blamed", |status| {
        let established = status
            .upstream("provider-b")
            .map_or(0, |it| it.connections.established);
        all_quiet(status) && established < 10
    });
    drop((outside, server));
}

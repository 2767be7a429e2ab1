//! Peers that are far away: what holds on a short wire holds with delay, jitter, reordering and a
//! packet in a hundred lost. It takes a kernel that can emulate that.

use std::{
    net::TcpStream,
    time::{Duration, Instant},
};

use lab::{Direction, Distance, Family, Fault, Load, server};

use crate::world::{SOON, World, all_quiet, it_works};

const A_WHILE: Duration = Duration::from_secs(12);

macro_rules! at_a_distance {
    ($($place:ident: $milliseconds:literal;)*) => {$(
        mod $place {
            use super::{Direction, Distance, Fault};

            const DISTANCE: Distance = Distance::of_milliseconds($milliseconds);

            #[test]
            fn a_black_hole_is_named() {
                super::is_named(DISTANCE, Fault::Blackhole(Direction::Both), "blackhole");
            }

            #[test]
            fn large_packets_that_vanish_are_named() {
                super::is_named(DISTANCE, Fault::DropLargerThan(600), "mtu");
            }

            #[test]
            fn a_silent_router_is_named() {
                super::is_named(DISTANCE, Fault::NeighbourSilent, "neighbour");
            }

            #[test]
            fn a_firewall_on_the_host_is_named() {
                super::is_named(DISTANCE, Fault::LocalFirewall, "local");
            }

            #[test]
            fn distance_alone_is_nothing() {
                super::nothing_is_said(DISTANCE);
            }

            #[test]
            fn peers_that_do_not_read_are_nothing() {
                super::slow_readers(DISTANCE, super::A_WHILE);
            }
        }
    )*};
}

at_a_distance! {
    near: 20;
    far: 150;
}

/// Further away the way to and fro is a larger part of the time between window probes.
#[test]
fn peers_behind_a_satellite_that_do_not_read_are_nothing() {
    slow_readers(Distance::of_milliseconds(600), 3 * A_WHILE);
}

#[track_caller]
fn busy(distance: Distance) -> Option<World> {
    let mut world = World::far(2, distance)?;
    // Not more: an emulated processor has each packet in its hands six times.
    for upstream in 0..2 {
        world.traffic(upstream, 0..20, Load::STEADY);
        world.traffic(upstream, 0..20, Load::mail(5));
    }
    world.watch();
    world.all_ok();
    Some(world)
}

#[track_caller]
fn is_named(distance: Distance, fault: Fault, cause: &str) {
    let Some(world) = busy(distance) else {
        return;
    };
    world.break_(1, fault);
    world.is_blamed(1, cause);
    world.recovers(1);
}

#[track_caller]
fn nothing_is_said(distance: Distance) {
    let Some(world) = busy(distance) else {
        return;
    };
    world.hold(A_WHILE, "nobody is blamed", all_quiet);
    // A packet that overtakes the others is in no hurry twice in a row.
    let took = [time_to_connect(&world), time_to_connect(&world)];
    assert!(
        took.iter().any(|took| *took > distance.round_trip * 8 / 10),
        "the internet is nearer than it should be: {took:?}"
    );
}

#[track_caller]
fn time_to_connect(world: &World) -> Duration {
    let peer = world.lab.upstreams[0].destination(0, Family::V4);
    let connect = || {
        let begin = Instant::now();
        TcpStream::connect((peer, server::MESSAGES)).map(|_| begin.elapsed())
    };
    let took = world.lab.host.run(connect);
    it_works(took.and_then(|took| Ok(took?)))
}

#[track_caller]
fn slow_readers(distance: Distance, time: Duration) {
    let Some(mut world) = World::far(2, distance) else {
        return;
    };
    world.traffic(0, 0..20, Load::STEADY);
    let slow = world.traffic(1, 0..20, Load::SlowReaders(40));
    world.watch();
    world.until_traffic(SOON, "all are connected", |world| {
        world.counters(slow).connected() == 40
    });
    world.hold(time, "nobody is blamed", all_quiet);
    world.until(SOON, "the zero windows are shown", |status| {
        let shown = status.upstream("provider-b");
        shown.is_some_and(|it| it.excluded.get("zero-window").is_some_and(|&it| it >= 36))
    });
}

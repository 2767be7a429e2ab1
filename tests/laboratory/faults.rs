//! What breaks at one upstream is noticed, named, and forgotten when it is repaired. Beside each
//! loud case stands the quiet one: nearly the same, and nothing wrong.

use std::time::Duration;

use lab::{Direction, Fault, Load};

use crate::world::{SOON, World, all_quiet, in_full, others_are_fine};

const A_WHILE: Duration = Duration::from_secs(8);

#[test]
fn a_black_hole_is_named_and_its_repair_is_seen() {
    let Some(world) = World::healthy() else {
        return;
    };
    world.break_(1, Fault::Blackhole(Direction::Both));
    let status = world.is_blamed(1, "blackhole");
    let upstream = status.upstream("provider-b").expect("it is listed");
    assert_eq!(upstream.interface.as_deref(), Some("wan2"));
    assert_eq!(
        upstream.gateway,
        Some(world.lab.upstreams[1].gateway.to_string())
    );
    assert_eq!(upstream.scope.as_deref(), Some("upstream"));
    assert!(
        upstream.destinations.stalled * 2 > upstream.destinations.active,
        "{upstream:?}"
    );
    assert!(upstream.confidence > 0.9, "{upstream:?}");
    let status = world.recovers(1);
    assert_eq!(status.cause_of("provider-b"), None);
    // Recovered for good, and every connection with it.
    world.until(
        Duration::from_secs(30),
        "nothing is stalled any more",
        |status| {
            status
                .upstreams
                .iter()
                .all(|it| it.connections.stalled == 0)
        },
    );
    world.hold(Duration::from_secs(3), "ok for good", all_quiet);
}

/// Trap: idle connections into a hole: invisible until somebody sends.
#[test]
fn a_black_hole_that_nobody_uses_is_not_reported() {
    let Some(mut world) = World::new(3) else {
        return;
    };
    world.traffic(0, 0..20, Load::STEADY);
    world.traffic(1, 0..20, Load::Idle(40));
    world.traffic(2, 0..20, Load::STEADY);
    world.watch();
    world.until(SOON, "the others are ok", |status| {
        status.state_of("provider-a") == "ok" && status.state_of("provider-c") == "ok"
    });
    world.break_(1, Fault::Blackhole(Direction::Both));
    world.hold(A_WHILE, "nobody sends, nobody is blamed", all_quiet);
}

#[test]
fn outbound_packets_that_vanish_are_a_black_hole() {
    let Some(world) = World::healthy() else {
        return;
    };
    world.break_(1, Fault::Blackhole(Direction::Out));
    world.is_blamed(1, "blackhole");
    world.recovers(1);
}

/// Trap: peers that go on sending, and repeat what we cannot acknowledge. What comes is no sign that
/// small packets of ours arrive while large ones do not.
#[test]
fn outbound_packets_that_vanish_are_a_black_hole_while_peers_go_on_sending() {
    let Some(mut world) = World::new(2) else {
        return;
    };
    for upstream in 0..2 {
        world.traffic(upstream, 0..20, Load::STEADY);
        let both = world.traffic(upstream, 0..20, Load::BothWays(20));
        world.until_traffic(SOON, "both sides send", |world| {
            world.counters(both).connected() == 20
        });
    }
    world.watch();
    world.all_ok();
    // It is a matter of which packets are on their way at that moment.
    for _ in 0..3 {
        world.break_(1, Fault::Blackhole(Direction::Out));
        world.until(SOON, "provider-b is failing", |status| {
            others_are_fine(status, "provider-b");
            assert_ne!(status.cause_of("provider-b"), Some("mtu"));
            status.is_failing("provider-b", "blackhole")
        });
        world.recovers(1);
    }
}

#[test]
fn acknowledgements_that_vanish_are_noticed() {
    let Some(world) = World::healthy() else {
        return;
    };
    world.break_(1, Fault::Blackhole(Direction::Back));
    // On one host nothing tells this from a black hole as long as the peers are silent.
    world.until(SOON, "provider-b is failing", |status| {
        others_are_fine(status, "provider-b");
        status.state_of("provider-b") == "failing"
    });
    world.recovers(1);
}

#[test]
fn large_packets_that_vanish_are_told_from_a_black_hole() {
    let Some(mut world) = World::new(3) else {
        return;
    };
    for upstream in 0..3 {
        world.traffic(upstream, 0..20, Load::mail(40));
    }
    world.watch();
    world.all_ok();
    world.break_(1, Fault::DropLargerThan(600));
    world.is_blamed(1, "mtu");
    world.recovers(1);
}

#[test]
fn large_packets_that_vanish_harm_nobody_who_sends_small_ones() {
    let Some(mut world) = World::new(2) else {
        return;
    };
    let small = Load::Steady {
        connections: 1,
        bytes: 300,
        every: Duration::from_millis(250),
    };
    world.traffic(0, 0..20, small);
    world.traffic(1, 0..20, small);
    world.watch();
    world.all_ok();
    world.break_(1, Fault::DropLargerThan(600));
    world.hold(A_WHILE, "small messages pass", |status| {
        status.state_of("provider-b") == "ok"
    });
}

#[test]
fn the_incident_that_started_it_all_is_noticed() {
    let Some(mut world) = World::new(3) else {
        return;
    };
    for upstream in 0..3 {
        world.traffic(upstream, 0..30, Load::mail(60));
    }
    world.watch();
    world.all_ok();
    // Handshakes, pings and short commands pass; most of the mail does not.
    world.break_(1, Fault::EstablishedLoss(85));
    world.until(SOON, "provider-b is failing", |status| {
        others_are_fine(status, "provider-b");
        status.state_of("provider-b") == "failing"
    });
    world.recovers(1);
}

#[test]
fn a_router_that_does_not_answer_arp_is_a_silent_neighbour() {
    let Some(world) = World::healthy() else {
        return;
    };
    world.break_(1, Fault::NeighbourSilent);
    world.is_blamed(1, "neighbour");
    world.recovers(1);
}

#[test]
fn a_forgotten_neighbour_that_answers_is_no_event() {
    let Some(world) = World::healthy() else {
        return;
    };
    for _ in 0..5 {
        world
            .lab
            .host
            .ip("neigh flush dev wan2\n")
            .expect("the entry can be flushed");
        world.hold(Duration::from_secs(1), "it answers", |status| {
            status.state_of("provider-b") == "ok"
        });
    }
}

/// Trap: a firewall or a queue on the host: nothing leaves.
#[test]
fn a_firewall_on_the_host_itself_is_local() {
    let Some(world) = World::healthy() else {
        return;
    };
    world.break_(1, Fault::LocalFirewall);
    world.is_blamed(1, "local");
    world.recovers(1);
}

#[test]
fn a_pulled_cable_is_noticed() {
    let Some(world) = World::healthy() else {
        return;
    };
    world.break_(1, Fault::LinkDown);
    let status = world.until(SOON, "provider-b is failing", |status| {
        others_are_fine(status, "provider-b");
        status.state_of("provider-b") == "failing"
    });
    let cause = status.cause_of("provider-b");
    assert!(
        matches!(cause, Some("local" | "neighbour")),
        "{}",
        status.summary()
    );
    world.recovers(1);
}

/// Trap: spurious timeouts, loss probes: single repetitions everywhere.
#[test]
fn ordinary_loss_is_never_an_alarm() {
    let Some(mut world) = World::new(3) else {
        return;
    };
    let (rate, time) = if in_full() {
        (167, Duration::from_secs(600))
    } else {
        (100, Duration::from_secs(20))
    };
    for upstream in 0..3 {
        world.traffic(upstream, 0..20, Load::STEADY);
        world.traffic(upstream, 0..20, Load::Churn(rate));
        world.break_(upstream, Fault::RandomLoss(3));
    }
    world.watch();
    world.all_ok();
    world.hold(time, "3 % loss is nothing", all_quiet);
}

//! What happens on the host itself.

use std::{thread, time::Duration};

use lab::{Direction, Fault, Load, Plan, server::Server};
use rustix::process::Signal;

use crate::world::{World, all_quiet, it_works};

/// Trap: a daemon without processor time: it wakes up to timers that all ran out.
#[test]
fn a_daemon_that_was_stopped_for_a_while_sees_what_is_and_not_what_it_missed() {
    let Some(mut world) = World::new(3) else {
        return;
    };
    for upstream in 0..3 {
        world.traffic(upstream, 0..20, Load::STEADY);
        world.traffic(upstream, 0..20, Load::Churn(50));
    }
    for upstream in 0..3 {
        world.break_(upstream, Fault::RandomLoss(2));
    }
    world.watch();
    world.all_ok();
    it_works(world.daemon().signal(Signal::STOP));
    thread::sleep(Duration::from_secs(10));
    it_works(world.daemon().signal(Signal::CONT));
    world.hold(Duration::from_secs(5), "nothing has happened", all_quiet);

    // What did happen meanwhile is found as soon as it looks again.
    it_works(world.daemon().signal(Signal::STOP));
    world.break_(1, Fault::Blackhole(Direction::Both));
    thread::sleep(Duration::from_secs(4));
    it_works(world.daemon().signal(Signal::CONT));
    world.until(
        Duration::from_secs(5),
        "the black hole is found",
        |status| {
            crate::world::others_are_fine(status, "provider-b");
            status.is_failing("provider-b", "blackhole")
        },
    );
}

/// Trap: connections within the host: through loopback or to its own addresses.
#[test]
fn connections_within_the_host_are_no_upstream_even_when_they_are_dropped() {
    let Some(mut world) = World::new(2) else {
        return;
    };
    let mut addresses = String::new();
    for number in 1..=6 {
        addresses += &format!("address add 10.78.{number}.1/32 dev lo\n");
    }
    it_works(world.lab.host.ip(&addresses));
    let _server = it_works(Server::start(&world.lab.host));
    world.traffic(0, 0..20, Load::STEADY);
    world.traffic(1, 0..20, Load::STEADY);
    let own = world.lab.upstreams.iter().map(|it| it.local.into());
    let loopback = (1..=6).map(|number| [127, 0, number, 1].into());
    let further = (1..=6).map(|number| [10, 78, number, 1].into());
    let within = Plan::to(own.chain(loopback).chain(further), Load::STEADY);
    let within = world.plan(&within);
    world.watch();
    world.all_ok();
    it_works(world.lab.host.nft(
        "table inet within {\n\
         chain dropped { type filter hook input priority 0; policy accept;\n\
         iifname lo tcp dport 7 counter drop;\n\
         }\n}\n",
    ));
    world.until_traffic(Duration::from_secs(5), "they hang", |world| {
        world.counters(within).hanging() == 14
    });
    world.hold(Duration::from_secs(6), "nobody is blamed", |status| {
        let names: Vec<_> = status.upstreams.iter().map(|it| it.name.as_str()).collect();
        let known = names
            .iter()
            .all(|it| matches!(*it, "provider-a" | "provider-b"));
        all_quiet(status) && known
    });
}

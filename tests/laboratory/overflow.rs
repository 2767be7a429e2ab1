//! More than there is room for: what does not fit is counted, and what counts is found all the same.

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use detector::{
    model::{Origin, Sweep},
    sense::programs::Sizes,
};
use detector_ebpf::Counter;
use lab::{
    Attachment, Container, Direction, Fault, Load, Plan, Traffic, container, daemon::emulated,
};
use rustix::process::Signal;

use crate::{
    sensors::{Sensors, counts},
    world::{SOON, World, all_quiet, it_works, others_are_fine},
};

const SEVERAL: Load = Load::Steady {
    connections: 5,
    bytes: 4000,
    every: Duration::from_millis(250),
};

impl Sensors {
    fn not_delivered(&self) -> u64 {
        self.programs.counter(Counter::RingFull)
    }

    /// All events of a time in which none comes any more.
    fn emitted(&mut self) -> (u64, u64) {
        let mut delivered = 0;
        while self.events.next().is_some() {
            delivered += 1;
        }
        (delivered, self.not_delivered())
    }
}

/// What one ring lacks and says to lack is what another has.
#[test]
fn every_event_is_delivered_or_counted() {
    let Some(mut world) = World::new(1) else {
        return;
    };
    let small = Sizes {
        ring: 4096,
        ..Sizes::default()
    };
    let mut small = Sensors::load_with(&world, &small);
    let mut large = Sensors::load_with(&world, &Sizes::default());
    world.traffic(0, 0..20, SEVERAL);
    thread::sleep(Duration::from_secs(1));
    world.break_(0, Fault::Blackhole(Direction::Both));
    let end = Instant::now() + SOON;
    while small.not_delivered() < 100 {
        assert!(Instant::now() < end, "a ring for 15 events is never full");
        thread::sleep(Duration::from_millis(50));
    }
    // Without traffic and trouble there are no more events.
    world.repair(0);
    let end = Instant::now() + Duration::from_secs(30);
    let is_over = |sensors: &mut Sensors| {
        let sweep = sensors.sweep(&world);
        let mut stuck = sweep.samples.iter();
        !stuck.any(|it| it.origin == Origin::Suspicious)
    };
    while !is_over(&mut large) {
        assert!(Instant::now() < end, "the trouble is never over");
        thread::sleep(Duration::from_millis(200));
    }
    world.hang_up();
    let (delivered, lost) = small.emitted();
    let (all, none) = large.emitted();
    assert_eq!(none, 0, "the large ring has room");
    assert!(delivered > 0 && lost >= 100, "{delivered} and {lost}");
    assert_eq!(delivered + lost, all);
}

#[test]
fn connections_at_next_hops_that_have_no_room_are_found_when_they_hang() {
    let Some(mut world) = World::new(3) else {
        return;
    };
    let two = Sizes {
        next_hops: 2,
        ..Sizes::default()
    };
    let mut sensors = Sensors::load_with(&world, &two);
    for upstream in 0..3 {
        world.traffic(upstream, 0..10, Load::STEADY);
    }
    let uncounted = |sensors: &Sensors| sensors.programs.counter(Counter::NextHopsFull);
    let end = Instant::now() + SOON;
    while uncounted(&sensors) < 10 {
        assert!(Instant::now() < end, "the third next hop has found room");
        let sweep = sensors.sweep(&world);
        assert!(sweep.counts.len() <= 2, "{:?}", sweep.counts);
        thread::sleep(Duration::from_millis(100));
    }
    for upstream in 0..3 {
        world.break_(upstream, Fault::Blackhole(Direction::Both));
    }
    let end = Instant::now() + SOON;
    loop {
        let sweep = sensors.sweep(&world);
        let stuck = sweep.samples.iter();
        let stuck = stuck.filter(|it| it.origin == Origin::Suspicious);
        let hops: BTreeSet<_> = stuck.filter_map(|it| it.next_hop?.gateway).collect();
        if hops.len() == 3 {
            return;
        }
        assert!(Instant::now() < end, "stuck connections only at {hops:?}");
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn where_there_is_room_nothing_is_counted_as_lost() {
    let Some(mut world) = World::new(3) else {
        return;
    };
    let mut sensors = Sensors::load_with(&world, &Sizes::default());
    for upstream in 0..3 {
        world.traffic(upstream, 0..20, SEVERAL);
        world.break_(upstream, Fault::Blackhole(Direction::Both));
    }
    let end = Instant::now() + Duration::from_secs(4);
    while Instant::now() < end {
        sensors.sweep(&world);
        thread::sleep(Duration::from_millis(200));
    }
    let counters = [Counter::RingFull, Counter::NextHopsFull];
    assert_eq!(counters.map(|it| sensors.programs.counter(it)), [0, 0]);
}

/// What the sweeps remember of each connection and destination has no room at all.
#[test]
fn without_room_for_what_is_remembered_all_that_hangs_is_found_and_nothing_else() {
    let Some(mut world) = World::new(2) else {
        return;
    };
    let none = Sizes {
        destinations: 1,
        streams: 1,
        ..Sizes::default()
    };
    let mut sensors = Sensors::load_with(&world, &none);
    world.traffic(0, 0..10, Load::Downloads(30));
    world.traffic(1, 0..20, SEVERAL);
    let all = |sweep: &Sweep| {
        let counts = counts(sweep);
        counts.established() == 130 && counts.receiving >= 30
    };
    sensors.until(&world, SOON, "all are counted", all);
    let a_while = Duration::from_secs(5);
    sensors.always(&world, a_while, "nothing is wrong", |sweep| {
        let mut stuck = sweep.samples.iter();
        counts(sweep).fell_silent == 0 && !stuck.any(|it| it.origin == Origin::Suspicious)
    });
    world.break_(0, Fault::Blackhole(Direction::Back));
    world.break_(1, Fault::Blackhole(Direction::Both));
    sensors.until(&world, SOON, "all that send are stuck", |sweep| {
        let stuck = sweep.samples.iter();
        let stuck = stuck.filter(|it| it.origin == Origin::Suspicious);
        stuck.count() >= 100
    });
    // Of streams that are not remembered nobody knows that they have stopped in the middle.
    sensors.always(&world, a_while, "few are remembered", |sweep| {
        counts(sweep).fell_silent < 15
    });
}

#[test]
fn containers_that_have_no_room_are_found_when_they_hang() {
    let Some(mut world) = World::new(1) else {
        return;
    };
    let one = Sizes {
        flows: 1,
        ..Sizes::default()
    };
    let mut sensors = Sensors::load_seeing_all(&world, &one);
    if !sensors.programs.sees_others() {
        return;
    }
    it_works(container::prepare(&world.lab, Attachment::Bridge));
    let container = it_works(Container::start(&world.lab, Attachment::Bridge, 2));
    let netns = it_works(container.namespace.inode());
    let plan = Plan::new(&world.lab.upstreams[0], 0..10, Load::STEADY);
    world.adopt(it_works(Traffic::start(&container.namespace, &plan)));
    let uncounted = |sensors: &Sensors| sensors.programs.counter(Counter::FlowsFull);
    let end = Instant::now() + SOON;
    while uncounted(&sensors) < 9 {
        assert!(Instant::now() < end, "ten flows have found room for one");
        assert!(sensors.sweep_all(&world).flows.len() <= 1);
        thread::sleep(Duration::from_millis(100));
    }
    world.break_(0, Fault::Blackhole(Direction::Both));
    let end = Instant::now() + SOON;
    loop {
        let seen = sensors.sweep_all(&world).sweep;
        let stuck = seen.samples.iter();
        let stuck = stuck.filter(|it| it.origin == Origin::Suspicious);
        if stuck.filter(|it| u64::from(it.netns.0) == netns).count() == 10 {
            return;
        }
        assert!(Instant::now() < end, "not all ten are found");
        thread::sleep(Duration::from_millis(100));
    }
}

/// More changes than netlink holds for one that does not read them.
#[test]
fn changes_that_netlink_has_dropped_are_read_again() {
    let Some(world) = World::healthy() else {
        return;
    };
    let warned = || world.daemon().log().contains("reading all");
    let routes = |verb: &str| {
        let routes = (0..5000).map(|it| {
            let (high, low) = (it / 250, it % 250);
            format!("route {verb} 10.77.{high}.{low}/32 dev lo\n")
        });
        it_works(world.lab.host.ip(&routes.collect::<String>()));
    };
    assert!(!warned(), "nothing has been dropped yet");
    it_works(world.daemon().signal(Signal::STOP));
    routes("add");
    it_works(world.daemon().signal(Signal::CONT));
    world.until(SOON, "it has noticed", |_| warned());
    // What it learned before still holds, and it goes on listening.
    world.break_(1, Fault::NeighbourSilent);
    world.is_blamed(1, "neighbour");
    world.recovers(1);
    routes("del");
}

/// Twenty thousand connections, as near as the limit of descriptors lets one process come, hang within
/// a second of each other; an emulated machine has a fifth of them to do.
#[test]
fn twenty_thousand_stalls_at_once_are_named_and_told() {
    let Some(mut world) = World::alone(2) else {
        return;
    };
    let many = if emulated() { 4000 } else { 19_500 };
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    assert!(
        limit.is_none_or(|it| it >= u64::from(many) + 400),
        "20,000 descriptors are needed and {limit:?} allowed: raise the hard limit (ulimit -Hn)"
    );
    world.traffic(0, 0..20, Load::STEADY);
    let storm = world.traffic(1, 0..20, Load::Reports(many));
    world.watch();
    world.until_traffic(Duration::from_secs(120), "all are connected", |world| {
        world.counters(storm).connected() == u64::from(many)
    });
    world.all_ok();
    world.break_(1, Fault::Blackhole(Direction::Both));
    world.until(3 * SOON, "provider-b is failing", |status| {
        others_are_fine(status, "provider-b");
        status.is_failing("provider-b", "blackhole")
    });
    world.until(6 * SOON, "all stalls are told", |status| {
        others_are_fine(status, "provider-b");
        let upstream = status.upstream("provider-b");
        upstream.is_some_and(|it| it.connections.stalled == u32::from(many))
    });
    let stalls = world.stalls(&["--upstream", "provider-b", "--limit", "50"]);
    assert_eq!(stalls.len(), 50);
    world.repair(1);
    // On an emulated machine it takes a while until all have tried again.
    world.until(12 * SOON, "all is well again", |status| {
        others_are_fine(status, "provider-b");
        let upstream = status.upstream("provider-b");
        upstream.is_some_and(|it| it.state == "ok" && it.connections.stalled == 0)
    });
    world.hold(Duration::from_secs(3), "and stays", all_quiet);
}

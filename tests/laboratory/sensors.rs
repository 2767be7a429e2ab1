//! What the kernel programs see of real faults, before anybody judges it.
//!
//! These tests load the programs themselves: what the sensors bring is promised to the engine, not
//! to users.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{ErrorKind, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    ops::{Deref, DerefMut},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use detector::{
    model::{Counts, Input, Origin, Sample, Sweep},
    sense::{
        decode, descriptors, doctor,
        programs::{Programs, Sizes},
        sweep::{Seen, to_the_end},
    },
};
use detector_ebpf::{MAX_ROUTES, Offsets, Settings};
use lab::{Direction, Family, Fault, Load, server};

use crate::world::{SOON, World, all_quiet, it_works, root};

/// From sweep to sweep.
const PACE: Duration = Duration::from_millis(500);

/// The programs, loaded; what fails ends the test.
pub(crate) struct Sensors(lab::sensors::Sensors);

impl Deref for Sensors {
    type Target = lab::sensors::Sensors;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Sensors {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl Sensors {
    #[track_caller]
    fn load(world: &World) -> Self {
        Self::load_with(world, &Sizes::default())
    }

    /// With maps of some size; they see the host.
    #[track_caller]
    pub(crate) fn load_with(world: &World, sizes: &Sizes) -> Self {
        // Other laboratories are none of their business.
        Self::load_set(world, sizes, |settings| settings.other_netns = 0)
    }

    /// With maps of some size; they see all that this kernel lets them see.
    #[track_caller]
    pub(crate) fn load_seeing_all(world: &World, sizes: &Sizes) -> Self {
        Self::load_set(world, sizes, |_| {})
    }

    #[track_caller]
    fn load_set(world: &World, sizes: &Sizes, change: impl FnOnce(&mut Settings)) -> Self {
        let sensors = lab::sensors::Sensors::load(&world.lab.host, sizes, change);
        Self(it_works(sensors))
    }

    /// One sweep over the connections of the host.
    #[track_caller]
    pub(crate) fn sweep(&mut self, world: &World) -> Sweep {
        it_works(self.0.sweep(&world.lab.host)).0.sweep
    }

    /// One sweep over the connections of the host, and those of all others.
    #[track_caller]
    pub(crate) fn sweep_all(&mut self, world: &World) -> Seen {
        it_works(self.0.sweep_all(&world.lab.host)).0
    }

    /// Sweeps for `time`, or until `done`.
    #[track_caller]
    fn sweeps(&mut self, world: &World, time: Duration, mut done: impl FnMut(&Sweep) -> bool) {
        let end = Instant::now() + time;
        while Instant::now() < end && !done(&self.sweep(world)) {
            thread::sleep(PACE);
        }
    }

    /// Sweeps until `holds`; panics after `limit` with what it saw.
    #[track_caller]
    pub(crate) fn until(
        &mut self,
        world: &World,
        limit: Duration,
        what: &str,
        holds: impl Fn(&Sweep) -> bool,
    ) {
        let mut last = String::new();
        let mut held = false;
        self.sweeps(world, limit, |sweep| {
            held = holds(sweep);
            last = told(sweep);
            held
        });
        assert!(held, "{what}: not within {limit:?}; at the end {last}");
    }

    /// Sweeps for `time`; panics as soon as it does not `hold`.
    #[track_caller]
    pub(crate) fn always(
        &mut self,
        world: &World,
        time: Duration,
        what: &str,
        holds: impl Fn(&Sweep) -> bool,
    ) {
        self.sweeps(world, time, |sweep| {
            assert!(holds(sweep), "{what}: no longer; {}", told(sweep));
            false
        });
    }
}

/// A sweep in a few lines.
fn told(sweep: &Sweep) -> String {
    let mut text = format!("{:?}", sweep.counts);
    for it in &sweep.samples {
        text += &format!(
            "\n{} {:?}: {} bytes outstanding, {} timeouts, hole {}, {} duplicates, {:?}",
            it.remote,
            it.origin,
            it.outstanding(),
            it.timeouts,
            it.hole,
            it.duplicates,
            it.unreachable,
        );
    }
    text
}

/// Sum over all next hops.
pub(crate) fn counts(sweep: &Sweep) -> Counts {
    let mut sum = Counts::default();
    for counts in sweep.counts.values() {
        sum.add(counts);
    }
    sum
}

fn number(sweep: &Sweep, of: impl Fn(&Sample) -> bool) -> usize {
    sweep.samples.iter().filter(|it| of(it)).count()
}

/// Trap: handshakes without an answer: not past the handshake, not established.
#[test]
fn handshakes_without_an_answer_are_counted_at_their_upstream_and_nowhere_else() {
    let Some(mut world) = World::new(2) else {
        return;
    };
    world.traffic(0, 0..20, Load::STEADY);
    world.traffic(1, 0..20, Load::STEADY);
    world.watch();
    let status = world.all_ok();
    assert!(
        status
            .upstreams
            .iter()
            .all(|it| it.connections.handshake == 0),
        "{}",
        status.summary()
    );
    world.break_(1, Fault::NoHandshakes);
    world.traffic(1, 20..30, Load::Idle(30));
    let status = world.until(SOON, "thirty handshakes are counted", |status| {
        let handshakes = |name| status.upstream(name).map(|it| it.connections.handshake);
        assert_eq!(handshakes("provider-a"), Some(0), "{}", status.summary());
        handshakes("provider-b") == Some(30)
    });
    let connections = status.upstream("provider-b").map(|it| it.connections);
    let connections = connections.expect("it is listed");
    assert_eq!((connections.established, connections.stalled), (20, 0));
    assert!(all_quiet(&status), "{}", status.summary());
    let page = it_works(world.daemon().metrics());
    let line = page
        .lines()
        .find(|line| {
            line.starts_with("tcpstall_handshake_connections{") && line.contains("provider-b")
        })
        .expect("the series is there");
    assert!(line.ends_with(" 30"), "{line}");
    world.repair(1);
    world.until(Duration::from_secs(30), "none is left", |status| {
        status
            .upstreams
            .iter()
            .all(|it| it.connections.handshake == 0)
    });
}

/// Trap: hosts that only receive: what they lack is a hole.
#[test]
fn a_hole_in_what_arrives_is_written_though_nothing_is_outstanding() {
    let Some(mut world) = World::new(1) else {
        return;
    };
    let mut sensors = Sensors::load(&world);
    world.traffic(0, 0..5, Load::Downloads(10));
    let whole = |sweep: &Sweep| number(sweep, |it| it.origin == Origin::Suspicious) == 0;
    let flows = |sweep: &Sweep| counts(sweep).receiving == 10;
    sensors.until(&world, SOON, "data flows", flows);
    sensors.always(&world, Duration::from_secs(3), "nothing is missing", whole);
    world.break_(0, Fault::Holes);
    sensors.until(&world, SOON, "ten holes are written", |sweep| {
        number(sweep, |it| {
            let waits = it.at.since(it.received_at) >= Duration::from_secs(1);
            it.origin == Origin::Suspicious && it.hole && waits && it.outstanding() == 0
        }) == 10
            && counts(sweep).established() == 10
    });
    world.repair(0);
    sensors.until(&world, Duration::from_secs(60), "they fill", |sweep| {
        whole(sweep) && flows(sweep)
    });
}

#[test]
fn segments_that_are_lost_and_sent_again_leave_no_hole_for_long() {
    let Some(mut world) = World::new(1) else {
        return;
    };
    let mut sensors = Sensors::load(&world);
    world.traffic(0, 0..5, Load::Downloads(10));
    let flows = |sweep: &Sweep| counts(sweep).receiving == 10;
    sensors.until(&world, SOON, "data flows", flows);
    world.break_(0, Fault::LossOneWay(Direction::Back, 3));
    // A hole stands for a few milliseconds: only who looks without a pause would see any. The few
    // of which the repetition is lost as well stand longer.
    let mut written = BTreeSet::new();
    let end = Instant::now() + Duration::from_secs(4);
    while Instant::now() < end {
        let samples = sensors.sweep(&world).samples;
        let holes = samples
            .iter()
            .filter(|it| it.hole && it.origin == Origin::Suspicious);
        written.extend(holes.map(|it| (it.id, it.rcv_nxt)));
    }
    assert!(written.len() <= 6, "{} holes", written.len());
    sensors.until(&world, SOON, "data still flows", flows);
}

/// Trap: the way back: peers report what arrived twice.
#[test]
fn duplicates_that_peers_report_tell_lost_answers_from_lost_data() {
    let Some(mut world) = World::new(1) else {
        return;
    };
    let mut sensors = Sensors::load(&world);
    world.traffic(0, 0..20, Load::STEADY);
    let talk = |sweep: &Sweep| sweep.samples.len() >= 20;
    sensors.until(&world, SOON, "all talk", talk);
    let mut share = |fault| {
        world.break_(0, fault);
        let before = repeated(&sensors.sweep(&world));
        let mut after = before;
        sensors.sweeps(&world, Duration::from_secs(12), |sweep| {
            after = after.max(repeated(sweep));
            false
        });
        let (sent, reported) = (after.0 - before.0, after.1 - before.1);
        assert!(sent >= 20, "{fault}: only {sent} were sent again");
        f64::from(reported) / f64::from(sent)
    };
    let data = share(Fault::LossOneWay(Direction::Out, 30));
    let answers = share(Fault::AcknowledgementsLost(40));
    assert!(data < 0.2 && answers > 0.3, "{data} and {answers}");
}

/// Segments that were sent again, and how many of these the peers had already.
fn repeated(sweep: &Sweep) -> (u32, u32) {
    let sum = |of: fn(&Sample) -> u32| sweep.samples.iter().map(of).sum();
    (sum(|it| it.retransmissions), sum(|it| it.duplicates))
}

#[test]
fn what_a_router_says_of_the_way_is_passed_on() {
    const EHOSTUNREACH: i32 = 113;
    let Some(mut world) = World::new(1) else {
        return;
    };
    let mut sensors = Sensors::load(&world);
    world.traffic(0, 0..20, Load::STEADY);
    let talk = |sweep: &Sweep| sweep.samples.len() >= 20;
    sensors.until(&world, SOON, "all talk", talk);
    sensors.always(&world, Duration::from_secs(1), "no complaints", |sweep| {
        number(sweep, |it| it.unreachable.is_some()) == 0
    });
    world.break_(0, Fault::Unreachable);
    // A router says it a few times a second only, whoever asks (`icmp_ratelimit`).
    sensors.until(&world, SOON, "some were told", |sweep| {
        number(sweep, |it| it.unreachable == Some(EHOSTUNREACH)) >= 2
    });
}

#[test]
fn streams_that_stop_in_the_middle_fell_silent_until_that_is_old() {
    let Some(mut world) = World::new(1) else {
        return;
    };
    let mut sensors = Sensors::load(&world);
    world.traffic(0, 0..5, Load::Downloads(10));
    let flows = |sweep: &Sweep| counts(sweep).receiving == 10;
    sensors.until(&world, SOON, "data flows", flows);
    sensors.always(&world, Duration::from_secs(4), "it goes on", |sweep| {
        flows(sweep) && counts(sweep).fell_silent == 0
    });
    world.break_(0, Fault::Blackhole(Direction::Back));
    let broken = Instant::now();
    let silent = |sweep: &Sweep| counts(sweep).fell_silent >= 9 && counts(sweep).receiving == 0;
    sensors.until(&world, SOON, "they fell silent", silent);
    assert!(broken.elapsed() >= Duration::from_secs(3));
    sensors.always(&world, Duration::from_secs(6), "they are silent", silent);
    let limit = Duration::from_secs(12);
    sensors.until(&world, limit, "it is no news", |sweep| {
        counts(sweep).fell_silent == 0
    });
    assert!(broken.elapsed() >= Duration::from_secs(14));
}

#[test]
fn replies_that_are_complete_and_idle_connections_have_not_fallen_silent() {
    let Some(mut world) = World::new(1) else {
        return;
    };
    let mut sensors = Sensors::load(&world);
    world.traffic(0, 0..5, Load::Replies(20));
    world.traffic(0, 0..5, Load::Idle(20));
    let (mut streaming, mut silent, mut last) = (0, 0, Counts::default());
    sensors.sweeps(&world, Duration::from_secs(12), |sweep| {
        last = counts(sweep);
        streaming = streaming.max(last.receiving);
        silent = silent.max(last.fell_silent);
        false
    });
    assert!(streaming >= 20, "data has streamed to {streaming} of 20");
    assert_eq!(last.established(), 40);
    assert_eq!(last.receiving, 0, "all replies are complete");
    assert_eq!(silent, 0, "and that is no silence");
}

/// The end of a connection is told under the identity that the walk gives it.
#[test]
fn a_connection_that_ends_in_trouble_is_the_one_that_the_walk_has_shown() {
    let Some(world) = World::new(1) else {
        return;
    };
    let mut sensors = Sensors::load(&world);
    let address = world.lab.upstreams[0].destination(0, Family::V4);
    let connect = || TcpStream::connect((address, server::MESSAGES));
    let stream = it_works(world.lab.host.run(connect));
    let mut stream = it_works(stream.map_err(Into::into));
    let timeout = rustix::net::sockopt::set_tcp_user_timeout(&stream, 3000);
    it_works(timeout.map_err(Into::into));
    let local = it_works(stream.local_addr().map_err(Into::into));
    world.break_(0, Fault::Blackhole(Direction::Both));
    it_works(stream.write_all(&[0; 4000]).map_err(Into::into));
    let mut shown = None;
    sensors.sweeps(&world, SOON, |sweep| {
        let stuck = |it: &&Sample| it.local == local && it.origin == Origin::Suspicious;
        shown = sweep.samples.iter().find(stuck).map(|it| it.id);
        shown.is_some()
    });
    let shown = shown.expect("the walk shows it");
    let error = stream.read(&mut [0; 1]).expect_err("nothing comes back");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    drop(stream);
    let hz = sensors.hz;
    let end = Instant::now() + SOON;
    loop {
        while let Some(record) = sensors.events.next() {
            if let Input::Closed(id) = it_works(decode::event(&record, hz).map_err(Into::into)) {
                assert_eq!(id, shown);
                return;
            }
        }
        assert!(Instant::now() < end, "its end is not told");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Where gateways cannot be read, the host's own connections are counted between addresses, as those
/// of others are.
#[test]
fn a_walk_over_others_that_breaks_off_costs_nothing_of_ones_own() {
    let Some(mut world) = World::new(1) else {
        return;
    };
    world.traffic(0, 0..20, Load::STEADY);
    let mut sensors = Sensors::load_set(&world, &Sizes::default(), |settings| {
        settings.may_probe = 0;
    });
    let end = Instant::now() + SOON;
    loop {
        // A folder cannot be read.
        let others = it_works(File::open("/").map_err(Into::into));
        let (seen, _) = it_works(sensors.sweep_with(&world.lab.host, Some(others)));
        let counted = seen.flows.iter().map(|(_, it)| it.established());
        if counted.sum::<u32>() == 20 {
            return;
        }
        assert!(
            Instant::now() < end,
            "not all are counted: {:?}",
            seen.flows
        );
        thread::sleep(PACE);
    }
}

/// What is at hand saves time and changes no sum, also where all but one route find the place taken.
/// Connections at rest are counted and not written.
#[test]
fn connections_are_counted_the_same_with_and_without_their_routes_at_hand() {
    let Some(mut world) = World::new(3) else {
        return;
    };
    for upstream in 0..3 {
        world.traffic(upstream, 0..20, Load::Resting(60));
    }
    for mask in [MAX_ROUTES - 1, 0] {
        let mut sensors = Sensors::load_set(&world, &Sizes::default(), |settings| {
            settings.other_netns = 0;
            settings.route_mask = mask;
        });
        let mut look = || {
            let sweep = sensors.sweep(&world);
            let counts = sweep.counts.into_values();
            let sums: Vec<_> = counts.map(|it| it.established()).collect();
            (sums, sweep.samples.len())
        };
        let end = Instant::now() + SOON;
        while look() != (vec![60; 3], 0) {
            assert!(Instant::now() < end, "mask {mask}: {:?}", look());
            thread::sleep(PACE);
        }
        // Nothing of one sweep is left in the next.
        for _ in 0..3 {
            assert_eq!(look(), (vec![60; 3], 0), "mask {mask}");
        }
    }
}

/// They can have the same cached route, and are told from it in two ways: what is told of those to the
/// gateway must not be kept at hand for the others.
#[test]
fn connections_through_a_gateway_are_counted_there_beside_those_to_itself() {
    let Some(mut world) = World::new(1) else {
        return;
    };
    let upstream = &world.lab.upstreams[0];
    let (range, _) = upstream.aggregates();
    let (gateway, link) = (upstream.gateway, upstream.interface);
    it_works(world.lab.host.ip(&format!(
        "route replace {range} via {gateway} dev {link} onlink\n\
         route add {gateway}/32 via {gateway} dev {link} onlink\n"
    )));
    let listen = || TcpListener::bind((gateway, 0)).and_then(|it| Ok((it.local_addr()?, it)));
    let (address, _listener) = it_works(upstream.router.run(listen)).unwrap();
    world.traffic(0, 0..1, Load::Resting(1));
    let mut sensors = Sensors::load(&world);
    sensors.until(&world, SOON, "it is at rest", |sweep| {
        at_rest(sweep) && sweep.counts.len() == 1
    });
    let mut others = Vec::new();
    // Which of them a walk meets first, nobody knows.
    for _ in 0..10 {
        let connect = || TcpStream::connect(address);
        others.push(it_works(world.lab.host.run(connect)).unwrap());
        let counts = sensors.sweep(&world).counts;
        let through = counts
            .iter()
            .filter(|(hop, _)| hop.is_some_and(|it| it.gateway == Some(gateway.into())));
        assert_ne!(
            through.map(|(_, it)| it.established()).sum::<u32>(),
            0,
            "{counts:?}"
        );
    }
}

/// Whoever is written out is read itself, whatever is at hand.
fn at_rest(sweep: &Sweep) -> bool {
    sweep.samples.is_empty()
}

/// What a walk has counted before it breaks off is not left for the next.
#[test]
fn a_walk_that_breaks_off_leaves_no_counts() {
    let Some(mut world) = World::new(2) else {
        return;
    };
    world.traffic(0, 0..20, Load::Resting(20));
    let passing = it_works(world.lab.traffic(1, 0..20, Load::Resting(20)));
    let (mut sensors, mut witness) = (Sensors::load(&world), Sensors::load(&world));
    let mut wait = |count| {
        witness.until(&world, SOON, "all are counted", |sweep| {
            let sums = sweep.counts.values().map(Counts::established);
            at_rest(sweep) && sums.sum::<u32>() == count
        });
    };
    wait(40);
    let walk = it_works(world.lab.host.run(|| sensors.programs.open_sweep())).unwrap();
    it_works(to_the_end(walk, &mut Vec::new()).map_err(Into::into));
    // A folder cannot be read: all was counted, and the daemon hears of an error.
    let broken = it_works(File::open("/").map_err(Into::into));
    assert!(sensors.read(broken, None).is_err());
    drop(passing);
    wait(20);
    let (seen, _) = it_works(sensors.0.sweep(&world.lab.host));
    let sums = seen.sweep.counts.values().map(Counts::established);
    assert_eq!(sums.sum::<u32>(), 20, "{:?}", seen.sweep.counts);
}

/// Threads share the files of their process: a descriptor is one, however many there are.
#[test]
fn descriptors_of_a_process_are_counted_as_proc_lists_them() {
    let Some(mut world) = World::new(1) else {
        return;
    };
    world.watch();
    // The detector has threads, and its walks come and go; the other holds more and has none.
    let mut holds = Command::new("sh");
    holds.args(["-c", "exec 3</dev/null 4<&3 5<&3 6<&3 7<&3; read line"]);
    let mut holds = it_works(holds.stdin(Stdio::piped()).spawn().map_err(Into::into));
    let pids = [world.daemon().pid(), holds.id()];
    let listed = |pid| fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    let mut sensors = Sensors::load(&world);
    for pid in pids {
        let end = Instant::now() + SOON;
        loop {
            let walk = it_works(sensors.programs.open_descriptors(&BTreeSet::from([pid])));
            it_works(descriptors::read(
                walk,
                BTreeSet::from([pid]),
                BTreeSet::new(),
            ));
            let counted = it_works(sensors.programs.descriptors());
            let counted = counted.get(&pid).copied().unwrap_or_default();
            let listed = listed(pid);
            if listed > 0 && counted as usize == listed {
                break;
            }
            assert!(Instant::now() < end, "{counted} counted, {listed} listed");
            thread::sleep(Duration::from_millis(100));
        }
    }
    drop(holds.stdin.take());
    it_works(holds.wait().map_err(Into::into));
}

/// Without events stalls are found by sweeps, later.
#[test]
fn a_tracepoint_that_the_kernel_refuses_costs_events_alone() {
    if !root() {
        return;
    }
    let host = it_works(doctor::inspect());
    let offsets = Offsets {
        skb_len: host.offsets.skb_len + 1,
        ..host.offsets
    };
    let mut kept = Vec::new();
    let loaded = Programs::load(
        &offsets,
        &host.settings,
        &Sizes::default(),
        0,
        &mut |program, _| kept.push(program.to_owned()),
    );
    let (_, _, checks) = it_works(loaded);
    let ok = |feature: &str| {
        checks
            .iter()
            .find(|it| it.feature == feature)
            .map(|it| it.ok)
    };
    assert_eq!(ok("program:on_retransmit"), Some(false), "{checks:?}");
    assert_eq!(ok("program:sweep"), Some(true), "{checks:?}");
    assert_eq!(kept, ["on_retransmit"]);
}

/// A field at a place where the kernel has another: the verifier knows better.
#[test]
fn a_program_that_the_kernel_refuses_is_named_with_the_verifiers_last_words() {
    if !root() {
        return;
    }
    let host = it_works(doctor::inspect());
    let offsets = Offsets {
        snd_una: host.offsets.snd_una + 1,
        ..host.offsets
    };
    let mut kept = Vec::new();
    let loaded = Programs::load(
        &offsets,
        &host.settings,
        &Sizes::default(),
        0,
        &mut |program, log| kept.push((program.to_owned(), log.to_owned())),
    );
    let said = format!("{:#}", loaded.err().expect("the kernel has taken it"));
    for word in ["the program sweep", "Permission denied", "snd_una"] {
        assert!(said.contains(word), "{word} is not in: {said}");
    }
    let names: Vec<_> = kept.iter().map(|(program, _)| program.as_str()).collect();
    assert_eq!(names, ["on_retransmit", "on_destroy", "sweep"]);
    for (program, log) in &kept {
        assert!(log.lines().count() > 20, "{program}: {log}");
    }
}

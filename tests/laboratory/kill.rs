//! Stalled connections are reset, and no others are: not those beside them, not those that have recovered,
//! and none at all for somebody who may not.

use std::{
    collections::BTreeSet, fs, os::unix::fs::PermissionsExt as _, process::Output, time::Duration,
};

use detector::{act, api::Target, model::Fate};
use lab::{
    Attachment, Direction, Family, Fault, Load, Options, Plan, SocketOptions, Traffic,
    daemon::for_everybody, http, namespace::Namespace, status::Stall,
};
use rustix::thread::set_thread_uid;
use serde::Deserialize;

use crate::world::{SOON, World, it_works};

/// For all of many connections to have failed for long enough.
const ALL_STALLED: Duration = Duration::from_secs(20);

/// A row of `tcpstall kill --yes -o json`, as it is promised.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Done {
    id: String,
    local: String,
    remote: String,
    process: Option<String>,
    outcome: String,
    because: Option<String>,
}

/// A connection: local and remote address with their ports.
type Pair = (String, String);

impl World {
    /// Runs `tcpstall kill` as root; it must succeed.
    #[track_caller]
    fn kill(&self, arguments: &[&str]) -> (Vec<Done>, String) {
        let arguments = [&["kill", "--yes", "-o", "json"], arguments].concat();
        let output = it_works(self.daemon().cli(&arguments));
        let words = words(&output);
        assert!(output.status.success(), "{words}");
        let done = serde_json::from_slice(&output.stdout);
        (done.expect("JSON as promised"), words)
    }

    /// Waits until so many connections that fit are stalled, and gives them.
    #[track_caller]
    fn stalled(&self, count: usize, filters: &[&str]) -> Vec<Stall> {
        let filters = [&["--phase", "stalled"], filters].concat();
        self.until(ALL_STALLED, &format!("{count} are stalled"), |_| {
            self.stalls(&filters).len() == count
        });
        self.stalls(&filters)
    }

    /// How many stalls at that upstream are counted as ended that way.
    #[track_caller]
    fn ended(&self, upstream: &str, outcome: &str) -> u64 {
        let series = format!(
            "tcpstall_stall_duration_seconds_count{{outcome=\"{outcome}\",upstream=\"{upstream}\"}}"
        );
        let count = it_works(self.daemon().metric(&series));
        count.unwrap_or_else(|| panic!("no {series}")) as u64
    }

    /// Waits until so many are counted as killed, and no others as ended.
    #[track_caller]
    fn are_counted(&self, upstream: &str, killed: u64) {
        self.until(SOON, &format!("{killed} are counted as killed"), |_| {
            self.ended(upstream, "killed") == killed
        });
        assert_eq!(self.ended(upstream, "closed"), 0);
    }
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn pair(stall: &Stall) -> Pair {
    (stall.local.clone(), stall.remote.clone())
}

/// All connections of a namespace to others, as `ss` tells them.
#[track_caller]
fn connections(of: &Namespace) -> BTreeSet<Pair> {
    let output = it_works(of.output("ss", &["-tnHO"]));
    assert!(output.status.success(), "{}", words(&output));
    let text = String::from_utf8_lossy(&output.stdout);
    let pairs = text.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        fields.next().filter(|state| *state == "ESTAB")?;
        let mut addresses = fields.skip(2);
        let pair = (addresses.next()?.to_owned(), addresses.next()?.to_owned());
        // The test itself asks for the metrics.
        (!pair.0.starts_with("127.")).then_some(pair)
    });
    pairs.collect()
}

fn steady(connections: u16) -> Load {
    Load::Steady {
        connections,
        bytes: 2000,
        every: Duration::from_secs(1),
    }
}

#[test]
fn two_hundred_that_are_stuck_are_reset_and_a_thousand_beside_them_are_not() {
    let Some(mut world) = World::new(3) else {
        return;
    };
    let stuck = world.traffic(1, 0..20, steady(10));
    let beside = [
        world.traffic(0, 0..20, steady(20)),
        world.traffic(2, 0..20, steady(20)),
        // Through the same upstream, with nothing to send.
        world.traffic(1, 0..20, Load::Idle(200)),
    ];
    world.watch();
    world.all_ok();
    world.until_traffic(SOON, "all are connected", |world| {
        world.counters(beside[2]).messages() == 200 && world.counters(stuck).connected() == 200
    });
    world.break_(1, Fault::Blackhole(Direction::Both));
    let stalls = world.stalled(200, &["--upstream", "provider-b"]);
    let before = connections(&world.lab.host);
    assert!(before.len() >= 1200, "{}", before.len());
    let meant: BTreeSet<_> = stalls.iter().map(pair).collect();
    assert!(meant.is_subset(&before), "they are seen by both");

    let (done, said) = world.kill(&["--upstream", "provider-b"]);
    assert_eq!(said.trim(), "200 connections reset.");
    let after = connections(&world.lab.host);
    let reset: BTreeSet<_> = done
        .iter()
        .map(|it| (it.local.clone(), it.remote.clone()))
        .collect();
    assert_eq!(reset, meant);
    for done in &done {
        assert_eq!((done.outcome.as_str(), &done.because), ("reset", &None));
        assert!(stalls.iter().any(|it| it.id == done.id), "{done:?}");
        assert!(done.process.is_some(), "{done:?}");
    }
    let left: Vec<_> = meant.intersection(&after).collect();
    assert!(left.is_empty(), "still there: {left:?}");
    let lost: Vec<_> = before
        .difference(&after)
        .filter(|it| !meant.contains(*it))
        .collect();
    assert!(lost.is_empty(), "reset with them: {lost:?}");

    // Their programs know at once, and have connected anew.
    world.until_traffic(SOON, "each has an error", |world| {
        world.counters(stuck).errors() == 200 && world.counters(stuck).connected() >= 400
    });
    world.are_counted("provider-b", 200);
    assert_eq!(world.ended("provider-b", "recovered"), 0);
    let log = world.daemon().log();
    let who = log
        .lines()
        .filter(|it| it.contains("resets stalled connections"));
    let who: Vec<_> = who.collect();
    assert_eq!(who.len(), 1, "{log}");
    for part in ["WARN", "uid 0 (pid ", "200 of them", "upstream=provider-b"] {
        assert!(who[0].contains(part), "no {part} in {who:?}");
    }
    // Those beside them go on, and the upstream is not well for that.
    let said = beside.map(|it| world.counters(it).messages());
    world.hold(Duration::from_secs(5), "it is still bad", |status| {
        matches!(status.state_of("provider-b"), "failing" | "degraded")
    });
    for (traffic, said) in beside.into_iter().zip(said).take(2) {
        assert!(world.counters(traffic).messages() > said, "it is silent");
    }
    for traffic in beside {
        assert_eq!(world.counters(traffic).errors(), 0);
    }
    // The idle ones are still connections: after the repair nobody has noticed anything.
    world.recovers(1);
    let idle = world.counters(beside[2]);
    assert_eq!((idle.connected(), idle.errors()), (200, 0));
    let (none, said) = world.kill(&["--upstream", "provider-a"]);
    assert!(none.is_empty());
    assert!(said.contains("there is nothing to reset"), "{said}");
}

/// One of two upstreams is repaired between the daemon's answer and the reset.
#[test]
fn what_recovers_between_the_answer_and_the_reset_is_left_alone() {
    let Some(mut world) = World::new(3) else {
        return;
    };
    let traffic = [0, 1, 2].map(|it| world.traffic(it, 0..20, Load::STEADY));
    world.watch();
    world.all_ok();
    world.break_(1, Fault::Blackhole(Direction::Both));
    world.break_(2, Fault::Blackhole(Direction::Both));
    world.stalled(40, &[]);
    let answer = it_works(http::post_unix(world.daemon().socket(), "/v1/kill?dport=7"));
    assert_eq!(answer.code, 200, "{}", answer.body);
    let targets: Vec<Target> = serde_json::from_str(&answer.body).expect("JSON as promised");
    assert_eq!(targets.len(), 40);

    let before = world.counters(traffic[1]).messages();
    world.repair(1);
    // Timers have backed off: the last one may need as long again as it was broken.
    world.until_traffic(Duration::from_secs(60), "all have recovered", |world| {
        world.counters(traffic[1]).messages() >= before + 20
            && world.stalls(&["--upstream", "provider-b"]).is_empty()
    });
    let done = it_works(world.lab.host.run(|| act::reset(&targets)));
    assert_eq!(done.len(), 40);
    for (target, done) in targets.iter().zip(&done) {
        let expected = match target.stall.upstream.as_str() {
            "provider-b" => Fate::Recovered,
            _ => Fate::Reset,
        };
        assert_eq!(done.outcome, expected, "{target:?}: {done:?}");
        assert_eq!(done.id, target.stall.id);
    }
    world.until_traffic(SOON, "each that was stuck has an error", |world| {
        world.counters(traffic[2]).errors() == 20
    });
    world.are_counted("provider-c", 20);
    world.are_counted("provider-b", 0);
    assert_eq!(world.ended("provider-b", "recovered"), 20);
    for quiet in [traffic[0], traffic[1]] {
        let counters = world.counters(quiet);
        assert_eq!((counters.connected(), counters.errors()), (20, 0));
        let said = counters.messages();
        world.until_traffic(SOON, "it goes on", |world| {
            world.counters(quiet).messages() > said + 20
        });
    }
    // A second time there is nothing left to do.
    let again = it_works(world.lab.host.run(|| act::reset(&targets)));
    for (first, again) in done.iter().zip(again) {
        let expected = match first.outcome {
            Fate::Reset => Fate::Gone,
            other => other,
        };
        assert_eq!(again.outcome, expected, "{again:?}");
    }
}

#[test]
fn without_yes_or_without_root_nothing_is_reset_and_that_is_said() {
    let Some(mut world) = World::new(2) else {
        return;
    };
    let traffic = [0, 1].map(|it| world.traffic(it, 0..20, Load::STEADY));
    world.watch();
    world.all_ok();
    world.break_(1, Fault::Blackhole(Direction::Both));
    let stalls = world.stalled(20, &["--upstream", "provider-b"]);
    let before = connections(&world.lab.host);

    let shown = it_works(world.daemon().cli(&["kill", "--upstream", "provider-b"]));
    assert_eq!(shown.status.code(), Some(0), "{}", words(&shown));
    let table = String::from_utf8_lossy(&shown.stdout).into_owned();
    for stall in &stalls {
        assert!(table.contains(&stall.id), "no {} in\n{table}", stall.id);
    }
    let said = words(&shown);
    assert!(
        said.contains("Nothing was done") && said.contains("--yes"),
        "{said}"
    );
    let misused = it_works(world.daemon().cli(&["kill", "--yes"]));
    assert_eq!(misused.status.code(), Some(2), "{}", words(&misused));

    // Somebody else, who may even open the socket.
    let socket = world.daemon().socket();
    let open = |path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    open(world.daemon().folder(), 0o755).expect("it is ours");
    open(socket, 0o666).expect("it is ours");
    let folder = tempfile::tempdir().expect("a folder");
    let program = it_works(for_everybody(folder.path()));
    let (program, path) = (
        program.to_str().expect("text"),
        socket.to_str().expect("text"),
    );
    let as_nobody = [
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--",
        program,
    ];
    let kill = ["kill", "--upstream", "provider-b", "--socket", path];
    let arguments = [&as_nobody[..], &kill].concat();
    let shown = it_works(world.lab.host.output("setpriv", &arguments));
    assert_eq!(shown.status.code(), Some(0), "{}", words(&shown));
    let arguments = [&arguments[..], &["--yes"]].concat();
    let refused = it_works(world.lab.host.output("setpriv", &arguments));
    let said = words(&refused);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("only root"), "{said}");
    assert!(refused.stdout.is_empty());
    // Nor does the daemon listen to whoever does not use the command.
    let asked = std::thread::scope(|scope| {
        let nobody = scope.spawn(|| {
            set_thread_uid(rustix::process::Uid::from_raw(65_534))?;
            http::post_unix(socket, "/v1/kill?upstream=provider-b")
        });
        nobody.join().expect("it does not panic")
    });
    let answer = it_works(asked);
    assert_eq!(answer.code, 403, "{}", answer.body);
    assert!(answer.body.contains("only root may"), "{}", answer.body);

    assert_eq!(connections(&world.lab.host), before);
    assert!(
        !world.daemon().log().contains("resets"),
        "{}",
        world.daemon().log()
    );
    world.are_counted("provider-b", 0);
    for traffic in traffic {
        let counters = world.counters(traffic);
        assert_eq!((counters.connected(), counters.errors()), (20, 0));
    }
}

#[test]
fn a_container_s_connections_are_reset_where_they_are_and_its_neighbour_s_are_not() {
    let Some((mut world, containers)) = World::with_containers(Attachment::Bridge, 2) else {
        return;
    };
    let [one, other] = &containers[..] else {
        panic!("two were started");
    };
    let mut traffic = Vec::new();
    for (container, upstream) in [(one, 1), (one, 0), (other, 1)] {
        let plan = Plan::new(&world.lab.upstreams[upstream], 0..12, Load::STEADY);
        traffic.push(it_works(Traffic::start(&container.namespace, &plan)));
    }
    let host = world.traffic(1, 0..12, Load::STEADY);
    world.watch_with(&Options::by_interface());
    if !world.sees_containers(12) {
        return;
    }
    world.until(Duration::from_secs(15), "all are counted", |status| {
        let counted = |name| status.upstream(name).map(|it| it.connections.established);
        counted("provider-a") == Some(12) && counted("provider-b") == Some(36)
    });
    world.break_(1, Fault::Blackhole(Direction::Both));
    let netns = it_works(one.namespace.inode()).to_string();
    world.stalled(36, &[]);
    let meant: BTreeSet<_> = world
        .stalled(12, &["--netns", &netns])
        .iter()
        .map(pair)
        .collect();

    let (done, said) = world.kill(&["--netns", &netns]);
    assert_eq!(said.trim(), "12 connections reset.");
    assert_eq!(done.len(), 12);
    let left = connections(&one.namespace);
    assert!(meant.is_disjoint(&left), "{left:?}");
    world.until_traffic(SOON, "each has an error", |_| {
        traffic[0].counters.errors() == 12
    });
    world.are_counted("provider-b", 12);
    for quiet in &traffic[1..] {
        assert_eq!(
            (quiet.counters.connected(), quiet.counters.errors()),
            (12, 0)
        );
    }
    assert_eq!(world.counters(host).errors(), 0);
}

#[test]
fn connections_of_every_family_and_those_bound_to_an_interface_are_reset() {
    let Some(mut world) = World::new(2) else {
        return;
    };
    it_works(world.lab.wait_for_ipv6());
    let plan = |world: &World, family, upstream: usize| {
        Plan::over(family, &world.lab.upstreams[upstream], 0..8, Load::STEADY)
    };
    let bound = SocketOptions {
        device: Some(world.lab.upstreams[1].interface),
        ..SocketOptions::default()
    };
    let stuck = [
        plan(&world, Family::V6, 1),
        plan(&world, Family::Mapped, 1),
        plan(&world, Family::V4, 1).with(bound),
        plan(&world, Family::V6, 1).with(bound),
    ];
    let stuck = stuck.map(|it| world.plan(&it));
    let quiet = [Family::V6, Family::Mapped, Family::V4].map(|family| {
        let plan = plan(&world, family, 0);
        world.plan(&plan)
    });
    world.watch_with(&Options::by_interface());
    world.all_ok();
    world.break_(1, Fault::Blackhole(Direction::Both));
    world.stalled(32, &["--upstream", "provider-b"]);
    let (done, said) = world.kill(&["--upstream", "provider-b"]);
    assert_eq!(said.trim(), "32 connections reset.", "{done:?}");
    world.until_traffic(SOON, "each has an error", |world| {
        stuck.iter().all(|it| world.counters(*it).errors() == 8)
    });
    world.are_counted("provider-b", 32);
    for quiet in quiet {
        let counters = world.counters(quiet);
        assert_eq!((counters.connected(), counters.errors()), (8, 0));
    }
}

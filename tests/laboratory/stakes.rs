//! What a bad upstream costs a process, and how long it has left.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use lab::{
    Family, Fault,
    leak::{self, Leak},
    status::Status,
};

use crate::world::{MACHINE, World, it_works, skip};

/// Descriptors that the process may have.
const LIMIT: u32 = 200;
/// How long it lives: five connections a second.
const LIFE: Duration = Duration::from_secs(80);

/// A program that leaks connections to ten destinations of the bad upstream.
fn leaky(world: &World, descriptors: u32) -> Leak {
    let upstream = &world.lab.upstreams[1];
    let peers = (0..10).map(|number| upstream.destination(number, Family::V4));
    Leak::new(peers.collect(), descriptors)
}

#[test]
fn a_process_that_runs_out_of_descriptors_is_told_of_in_time() {
    let Some(world) = World::healthy() else {
        return;
    };
    // Handshakes pass, and nothing after them.
    world.break_(1, Fault::EstablishedLoss(100));
    let folder = tempfile::tempdir().expect("a folder");
    let leak = leaky(&world, LIMIT);
    let mut process = it_works(leak.start(&world.lab.host, folder.path()));
    let pid = process.pid();
    let end = Instant::now() + LIFE;

    let mut foretold: Vec<(Instant, f64)> = Vec::new();
    let ran_out = loop {
        assert!(
            Instant::now() < end,
            "it still has descriptors: {foretold:?}"
        );
        if it_works(process.has_ended()) {
            break Instant::now();
        }
        let status = it_works(world.daemon().status());
        let known = status.processes.iter().find(|it| it.pid == pid);
        if let Some(left) = known.and_then(|it| it.descriptors_run_out_seconds) {
            foretold.push((Instant::now(), left));
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(
        process.log().contains("Too many open files"),
        "{}",
        process.log()
    );
    let (first, _) = foretold.first().expect("it was foretold");
    let warned = ran_out - *first;
    println!("told {warned:.1?} before the end");
    assert!(warned > Duration::from_secs(15), "{warned:?}");
    // For the record: with ten seconds or more to go.
    let off = foretold.iter().map(|(at, left)| {
        let really = (ran_out - *at).as_secs_f64();
        (really, (left - really).abs() / really)
    });
    let early = off.filter(|(really, _)| *really >= 10.0);
    let worst = early.map(|(_, off)| off).fold(0.0, f64::max);
    println!(
        "of {} forecasts the worst is {:.0} % off, with 10 s or more to go",
        foretold.len(),
        worst * 100.0
    );
    // Each forecast until two seconds before the end, since looks are as far apart.
    for (at, left) in &foretold {
        let really = (ran_out - *at).as_secs_f64();
        if really > 2.0 {
            let off = (left - really).abs() / really;
            assert!(
                off < 0.2 || (left - really).abs() < 3.0,
                "{left} instead of {really}"
            );
        }
    }
}

#[test]
fn a_process_that_opens_no_more_is_told_and_not_foretold() {
    let Some(world) = World::healthy() else {
        return;
    };
    world.break_(1, Fault::EstablishedLoss(100));
    let folder = tempfile::tempdir().expect("a folder");
    let leak = Leak {
        rounds: Some(10),
        ..leaky(&world, LIMIT)
    };
    let process = it_works(leak.start(&world.lab.host, folder.path()));
    let pid = process.pid();
    let left = |status: &Status| {
        let known = status.processes.iter().find(|it| it.pid == pid)?;
        Some(known.descriptors_run_out_seconds)
    };
    world.until(
        Duration::from_secs(30),
        "while it opens more it is foretold",
        |status| left(status).is_some_and(|it| it.is_some()),
    );
    world.until(
        Duration::from_secs(92),
        "now that it does not, it is no longer",
        |status| left(status).is_some_and(|it| it.is_none()),
    );
    let status = it_works(world.daemon().status());
    let known = status
        .processes
        .iter()
        .find(|it| it.pid == pid)
        .expect("it is there");
    assert_eq!(known.descriptor_limit, Some(LIMIT), "{known:?}");
    // The kernel needs more for what is queued than it is.
    let each = known.kernel_memory_bytes / u64::from(known.stuck_connections);
    let message = u64::from(leak::MESSAGE);
    assert!((message..message * 5).contains(&each), "{known:?}");
}

/// Memory that the group of the process may have, bytes.
const MEMORY: u64 = 24 << 20;
/// How long it lives: some 15 kB for each connection, 20 a second.
const FULL: Duration = Duration::from_secs(180);

/// A control group with a limit; goes when it is dropped.
struct Group(PathBuf);

impl Group {
    /// `None` where there is no version 2 of control groups that limits memory.
    fn new() -> Option<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let offered = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
        if !offered.split_whitespace().any(|it| it == "memory") {
            skip("version 2 of control groups with memory", MACHINE);
            return None;
        }
        let group = Self(root.join(format!("tcpstall-lab-{}", std::process::id())));
        let write = |file: PathBuf, text: &str| fs::write(file, text).expect("written");
        write(root.join("cgroup.subtree_control"), "+memory");
        fs::create_dir(&group.0).expect("a group");
        write(group.0.join("memory.max"), &MEMORY.to_string());
        Some(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its last process has ended just now.
        for _ in 0..50 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn a_service_that_runs_out_of_memory_is_told_of_in_time() {
    let Some(group) = Group::new() else { return };
    let Some(world) = World::healthy() else {
        return;
    };
    world.break_(1, Fault::EstablishedLoss(100));
    let folder = tempfile::tempdir().expect("a folder");
    let leak = Leak {
        every: 0.05,
        group: Some(group.0.clone()),
        ..leaky(&world, 8000)
    };
    let mut process = it_works(leak.start(&world.lab.host, folder.path()));
    let end = Instant::now() + FULL;
    let mut foretold: Vec<(Instant, f64)> = Vec::new();
    let full = loop {
        assert!(Instant::now() < end, "it still has memory: {foretold:?}");
        let status = it_works(world.daemon().status());
        let name = group.0.file_name().expect("a name").to_string_lossy();
        let unit = status.units.iter().find(|it| it.cgroup.ends_with(&*name));
        if let Some(memory) = unit.and_then(|it| it.memory.as_ref()) {
            assert_eq!(memory.limit_bytes, MEMORY);
            assert!(unit.is_some_and(|it| it.kernel_memory_bytes < memory.used_bytes));
            if let Some(left) = memory.run_out_seconds {
                foretold.push((Instant::now(), left));
            }
            if memory.used_bytes >= MEMORY / 20 * 19 {
                break Instant::now();
            }
        }
        if it_works(process.has_ended()) {
            break Instant::now();
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    let (first, _) = foretold.first().expect("it was foretold");
    assert!(full - *first > Duration::from_secs(10), "{foretold:?}");
    // What is said halfway; the last twentieth of the way was not waited for.
    let halfway = *first + (full - *first) / 2;
    let said = foretold.iter().find(|(at, _)| *at >= halfway);
    let (at, left) = said.expect("it was foretold until the end");
    let really = (full - *at).as_secs_f64();
    println!("{left:.1} s were foretold, and {really:.1} s later it was full");
    assert!((left - really).abs() < really * 0.3 + 3.0, "{foretold:?}");
}

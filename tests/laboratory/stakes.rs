//! What a bad upstream costs a process, and how long it has left.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use lab::{
    Family, Fault,
    program::{Program, find},
    server,
    status::Status,
};

use crate::world::{MACHINE, World, it_works, skip};

/// Descriptors that the process may have.
const LIMIT: u32 = 200;
/// How long it lives: five connections a second.
const LIFE: Duration = Duration::from_secs(80);

/// Opens connections one after the other, writes to each and keeps it, until there is no descriptor left of so
/// many.
fn leak(peers: &[String], limit: u32) -> String {
    format!(
        // Bash gives out numbers from ten on: those below are taken, so that none stays free.
        "ulimit -n {limit}; exec 3</dev/null 4<&3 5<&3 6<&3 7<&3 8<&3 9<&3; \
         while true; do for peer in {}; do exec {{fd}}<>/dev/tcp/$peer/{} || exit 7; \
         printf '%8000s' x >&$fd; sleep 0.2; done; done",
        peers.join(" "),
        server::DISCARD
    )
}

fn peers(world: &World) -> Vec<String> {
    let upstream = &world.lab.upstreams[1];
    let each = 0..10;
    each.map(|number| upstream.destination(number, Family::V4).to_string())
        .collect()
}

/// Runs a script.
fn start(world: &World, folder: &Path, script: &str) -> Result<Program> {
    let bash = find(&["bash"]).context("bash is missing")?;
    let arguments = ["-c".to_owned(), script.to_owned()];
    Program::start(&world.lab.host, &bash, &arguments, folder.join("log"))
}

#[test]
fn a_process_that_runs_out_of_descriptors_is_told_of_in_time() {
    let Some(world) = World::healthy() else {
        return;
    };
    // Handshakes pass, and nothing after them.
    world.break_(1, Fault::EstablishedLoss(100));
    let folder = tempfile::tempdir().expect("a folder");
    let mut process = it_works(start(&world, folder.path(), &leak(&peers(&world), LIMIT)));
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
    // Four times around, and then it waits.
    let script = leak(&peers(&world), LIMIT).replace("while true; do", "for round in 1 2 3 4; do")
        + "; exec sleep 120";
    let process = it_works(start(&world, folder.path(), &script));
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
        Duration::from_secs(80),
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
    // Some 8,000 bytes each are queued, and the kernel needs more for them than they are.
    let each = known.kernel_memory_bytes / u64::from(known.stuck_connections);
    assert!((8_000..40_000).contains(&each), "{known:?}");
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
    let leak = leak(&peers(&world), 8000).replace("sleep 0.2", "sleep 0.05");
    let join = format!(
        "echo $$ > {}; {leak}",
        group.0.join("cgroup.procs").display()
    );
    let mut process = it_works(start(&world, folder.path(), &join));
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

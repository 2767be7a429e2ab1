//! What a bad upstream costs a process, and how long it has left.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use lab::{
    Family, Fault,
    program::{Program, find},
    server,
    status::Status,
};

use crate::world::{World, it_works};

/// Descriptors that the process may have.
const LIMIT: u32 = 200;
/// How long it lives: five connections a second.
const LIFE: Duration = Duration::from_secs(80);

/// Opens connections one after the other, writes to each and keeps it, until there is no descriptor left.
fn leak(peers: &[String]) -> String {
    format!(
        // Bash gives out numbers from ten on: those below are taken, so that none stays free.
        "exec 3</dev/null 4<&3 5<&3 6<&3 7<&3 8<&3 9<&3; \
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

/// Runs a script with that many descriptors.
fn start(world: &World, folder: &Path, script: String) -> Result<Program> {
    let arguments = [
        format!("--nofile={LIMIT}:{LIMIT}"),
        "bash".to_owned(),
        "-c".to_owned(),
        script,
    ];
    let prlimit = find(&["prlimit"]).context("prlimit of util-linux is missing")?;
    Program::start(&world.lab.host, &prlimit, &arguments, folder.join("log"))
}

#[test]
fn a_process_that_runs_out_of_descriptors_is_told_of_in_time() {
    let Some(world) = World::healthy() else {
        return;
    };
    // Handshakes pass, and nothing after them.
    world.break_(1, Fault::EstablishedLoss(100));
    let folder = tempfile::tempdir().expect("a folder");
    let mut process = it_works(start(&world, folder.path(), leak(&peers(&world))));
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
    let script = leak(&peers(&world)).replace("while true; do", "for round in 1 2 3 4; do")
        + "; exec sleep 120";
    let process = it_works(start(&world, folder.path(), script));
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
}

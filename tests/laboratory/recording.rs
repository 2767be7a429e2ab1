//! What the engine is told, recorded and replayed.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use lab::{Direction, Fault, daemon};
use serde_json::Value;

use crate::world::{World, it_works};

/// `tcpstall record` in the host of `world`, under way.
fn recording(world: &World, file: &Path, arguments: &[&str]) -> Child {
    let mut command = Command::new(it_works(daemon::binary()));
    command
        .arg("record")
        .arg(file)
        .args(arguments)
        .arg("--socket")
        .arg(world.daemon().socket())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let child = it_works(world.lab.host.run(|| command.spawn()));
    child.expect("tcpstall record starts")
}

/// `tcpstall replay -o json`: its exit code, what it prints, and what it says.
fn replay(world: &World, file: &Path, arguments: &[&str]) -> (Option<i32>, Value, String) {
    let file = file.to_str().expect("a path");
    let arguments = [&["replay", file, "-o", "json"], arguments].concat();
    let output = it_works(daemon::run(&world.lab.host, &arguments));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let report = serde_json::from_slice(&output.stdout);
    let report = report.unwrap_or_else(|error| panic!("no JSON ({error}): {said}"));
    (output.status.code(), report, said)
}

/// Whether the report has a verdict on that side.
fn says(report: &Value, side: &str, upstream: &str, state: &str) -> bool {
    let mut verdicts = report["verdicts"].as_array().into_iter().flatten();
    verdicts.any(|row| row["upstream"] == upstream && row[side]["state"] == state)
}

#[test]
fn a_recorded_black_hole_is_replayed_with_the_same_verdicts_and_other_settings_show_others() {
    let Some(world) = World::healthy() else {
        return;
    };
    let file = world.daemon().folder().join("outage.rec");
    let recording = recording(&world, &file, &["--for", "20s"]);
    thread::sleep(Duration::from_secs(4));
    world.break_(1, Fault::Blackhole(Direction::Both));
    world.is_blamed(1, "blackhole");
    let output = recording.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("ended because the time is over"), "{said}");

    let (code, report, said) = replay(&world, &file, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(report["differences"], 0, "{report:#}");
    assert!(
        report["summary"]
            .as_str()
            .is_some_and(|it| it.starts_with("the same ") && !it.contains(';')),
        "{report:#}"
    );
    for side in ["recorded", "now"] {
        assert!(says(&report, side, "provider-b", "failing"), "{report:#}");
        assert!(!says(&report, side, "provider-a", "failing"), "{report:#}");
    }
    let seconds = report["seconds"].as_f64().unwrap_or_default();
    assert!((15.0..25.0).contains(&seconds), "{report:#}");

    let options = lab::Options {
        config: "[detect]\nignore = [\"0.0.0.0/0\"]\n".to_owned(),
        ..lab::Options::default()
    };
    let other = world.daemon().folder().join("other.toml");
    fs::write(&other, daemon::config(&world.lab, &options)).expect("it can be written");
    let other = other.to_str().expect("a path");
    let (code, report, said) = replay(&world, &file, &["--config", other]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        says(&report, "recorded", "provider-b", "failing"),
        "{report:#}"
    );
    assert!(!says(&report, "now", "provider-b", "failing"), "{report:#}");
    assert!(report["differences"].as_u64() > Some(0), "{report:#}");
}

#[test]
fn a_recording_that_is_killed_is_replayed_up_to_the_cut_and_the_daemon_goes_on() {
    let Some(world) = World::healthy() else {
        return;
    };
    let file = world.daemon().folder().join("killed.rec");
    let mut recording = recording(&world, &file, &[]);
    thread::sleep(Duration::from_secs(5));
    recording.kill().expect("it can be killed");
    recording.wait().expect("it ends");
    let (code, report, said) = replay(&world, &file, &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("it is cut off after line "), "{said}");
    assert_eq!(report["complete"], false, "{report:#}");
    assert_eq!(report["differences"], 0, "{report:#}");
    let seconds = report["seconds"].as_f64().unwrap_or_default();
    assert!(seconds > 2.0, "{report:#}");
    world.all_ok();
}

#[test]
fn a_reader_that_stops_loses_its_recording_and_not_the_daemon_its_time() {
    let Some(world) = World::healthy() else {
        return;
    };
    let file = world.daemon().folder().join("stopped.rec");
    let recording = recording(&world, &file, &[]);
    thread::sleep(Duration::from_secs(1));
    let pid = rustix::process::Pid::from_child(&recording);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("it can be stopped");
    world.break_(1, Fault::Blackhole(Direction::Both));
    world.is_blamed(1, "blackhole");
    // Longer than the daemon waits for a client that does not read.
    world.recovers(1);
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).expect("it can go on");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it can be ended");
    let output = recording.wait_with_output().expect("it ends");
    let (_, report, said) = replay(&world, &file, &[]);
    assert_eq!(
        report["complete"],
        true,
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(report["differences"], 0, "{report:#}");
}

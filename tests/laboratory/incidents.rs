//! Incidents: they begin, are kept whatever happens to the daemon, and end.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use lab::{Direction, Fault, Load, Options};
use rustix::process::Signal;
use serde_json::Value;

use crate::world::{SOON, World, all_quiet, it_works};

const BLACKHOLE: Fault = Fault::Blackhole(Direction::Both);
/// The daemon tries a folder that could not be used again after ten seconds.
const TRIED_AGAIN: Duration = Duration::from_secs(25);

/// Two upstreams with traffic, and a detector that keeps its state in `folder`.
fn watched(folder: &Path) -> Option<World> {
    let mut world = World::new(2)?;
    world.traffic(0, 0..15, Load::STEADY);
    world.traffic(1, 0..15, Load::STEADY);
    start(&mut world, folder);
    world.all_ok();
    Some(world)
}

fn start(world: &mut World, folder: &Path) {
    world.watch_with(&Options {
        state_dir: Some(folder.to_owned()),
        ..Options::default()
    });
}

/// Ends the detector as the kernel does when memory is short.
fn kill(world: &mut World) {
    let mut daemon = world.take_daemon();
    it_works(daemon.signal(Signal::KILL));
    it_works(daemon.wait(SOON));
}

fn incidents(world: &World) -> Vec<Value> {
    let text = it_works(world.daemon().cli_ok(&["incidents", "-o", "json"]));
    serde_json::from_str(&text).expect("a list of incidents")
}

#[track_caller]
fn only(world: &World) -> Value {
    let all = incidents(world);
    assert_eq!(all.len(), 1, "{all:#?}");
    all[0].clone()
}

#[track_caller]
fn until(limit: Duration, what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < end, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// Lines of `incidents.jsonl`, each of them JSON.
fn kept(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("incidents.jsonl")).unwrap_or_default();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

/// Trap: a daemon that is restarted: in the middle of it, and killed.
#[test]
fn an_incident_is_told_outlives_kill_9_and_ends_with_the_repair() {
    let folder = folder();
    let state = folder.path().join("state");
    let Some(mut world) = watched(&state) else {
        return;
    };
    let name = world.lab.upstreams[0].name;
    let interface = world.lab.upstreams[0].interface.to_owned();
    let route = format!("route add 198.18.77.0/24 dev {interface}\n");
    it_works(world.lab.host.ip(&route));
    world.break_(0, BLACKHOLE);
    world.is_blamed(0, "blackhole");
    // The owners are looked for on the side.
    until(SOON, "processes are known", || {
        only(&world)["processes"]
            .as_array()
            .is_some_and(|it| !it.is_empty())
    });
    let first = only(&world);
    assert_eq!(first["upstream"], name);
    assert_eq!(first["cause"], "blackhole");
    assert_eq!(first["ended_at"], Value::Null);
    assert!(
        first["destinations"]
            .as_array()
            .is_some_and(|it| it.len() > 5),
        "{first:#}"
    );
    assert!(
        first["timeline"]
            .as_array()
            .is_some_and(|it| !it.is_empty())
    );
    let marks = first["marks"].to_string();
    let expected = format!("route to 198.18.77.0/24 now on {interface}");
    assert!(marks.contains(&expected), "{marks}");
    let counted = format!("tcpstall_incidents_total{{cause=\"blackhole\",upstream=\"{name}\"}}");
    assert_eq!(it_works(world.daemon().metric(&counted)), Some(1.0));

    kill(&mut world);
    start(&mut world, &state);
    let same = only(&world);
    assert_eq!(same["id"], first["id"]);
    world.is_blamed(0, "blackhole");
    until(SOON, "it goes on", || {
        only(&world)["marks"]
            .to_string()
            .contains("tcpstall runs again")
    });
    let same = only(&world);
    assert_eq!(
        (&same["id"], &same["ended_at"]),
        (&first["id"], &Value::Null)
    );
    assert_eq!(same["started_at"], first["started_at"]);
    assert_eq!(
        it_works(world.daemon().metric(&counted)),
        Some(0.0),
        "not a new one"
    );

    world.recovers(0);
    until(SOON, "it has ended", || {
        only(&world)["ended_at"] != Value::Null
    });
    let ended = only(&world);
    assert_eq!(ended["id"], first["id"]);
    let id = first["id"].as_str().expect("an id");
    let told = it_works(world.daemon().cli_ok(&["incidents", id]));
    let opening = format!("{name} was failing for ");
    assert!(
        told.starts_with(&opening) && told.contains("(blackhole)"),
        "{told}"
    );
    // It is still the same after an orderly end.
    it_works(world.take_daemon().stop());
    start(&mut world, &state);
    assert_eq!(only(&world)["ended_at"], ended["ended_at"]);
    let begun = kept(&state)
        .into_iter()
        .filter(|it| it["record"] == "begin");
    assert_eq!(begun.count(), 1);
}

#[test]
fn what_is_repaired_while_the_daemon_is_away_has_ended() {
    let folder = folder();
    let Some(mut world) = watched(folder.path()) else {
        return;
    };
    world.break_(0, BLACKHOLE);
    world.is_blamed(0, "blackhole");
    let id = only(&world)["id"].clone();
    kill(&mut world);
    world.repair(0);
    // Long enough for every connection to try again.
    std::thread::sleep(Duration::from_secs(15));
    start(&mut world, folder.path());
    let closed = || only(&world)["ended_at"] != Value::Null;
    until(Duration::from_secs(30), "it is closed", closed);
    let ended = only(&world);
    assert_eq!(ended["id"], id);
    assert_eq!(ended["note"], "the daemon was away when it ended");
}

#[test]
fn nothing_wrong_is_no_incident() {
    let folder = folder();
    let Some(mut world) = watched(folder.path()) else {
        return;
    };
    world.hold(Duration::from_secs(8), "nobody is blamed", all_quiet);
    assert_eq!(incidents(&world), [] as [Value; 0]);
    let output = it_works(world.daemon().cli(&["incidents"]));
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(words.lines().count(), 1, "{words}");
    assert!(words.starts_with("No incident is known"), "{words}");
    kill(&mut world);
    start(&mut world, folder.path());
    world.all_ok();
    assert_eq!(incidents(&world), [] as [Value; 0]);
    assert_eq!(kept(folder.path()), [] as [Value; 0]);
}

/// A small file system of its own, gone at the end.
struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    fn new() -> Self {
        let disk = Self { folder: folder() };
        disk.mount("size=64k");
        disk
    }

    fn mount(&self, options: &str) {
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", options, "tcpstall-lab"]);
        let status = command.arg(self.path()).status().expect("mount can be run");
        assert!(status.success(), "mount -o {options}: {status}");
    }

    fn path(&self) -> PathBuf {
        self.folder.path().to_owned()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// An incident on a disk that cannot be written to: it is shown all the same, one warning is
/// given, and what was there stays.
#[track_caller]
fn goes_on(world: &World, reason: &str) {
    world.break_(0, BLACKHOLE);
    world.is_blamed(0, "blackhole");
    assert_eq!(only(world)["cause"], "blackhole");
    std::thread::sleep(Duration::from_secs(12));
    let log = world.daemon().log();
    let warnings: Vec<_> = log
        .lines()
        .filter(|it| it.contains("the state folder"))
        .collect();
    assert_eq!(warnings.len(), 1, "{log}");
    assert!(warnings[0].contains(reason), "{log}");
}

#[test]
fn a_full_disk_is_warned_of_and_written_to_when_there_is_room() {
    if !crate::world::root() {
        return;
    }
    let disk = Disk::new();
    let Some(world) = watched(&disk.path()) else {
        return;
    };
    let filler = disk.path().join("filler");
    // As much as fits.
    let _ = fs::write(&filler, vec![0; 1 << 20]);
    goes_on(&world, "No space left on device");
    assert_eq!(kept(&disk.path()), [] as [Value; 0]);
    fs::remove_file(filler).expect("it can be removed");
    until(TRIED_AGAIN, "it is written", || {
        !kept(&disk.path()).is_empty()
    });
    assert_eq!(kept(&disk.path())[0]["incident"]["id"], only(&world)["id"]);
    assert!(world.daemon().log().contains("can be written to again"));
}

#[test]
fn a_read_only_disk_is_warned_of_and_keeps_what_it_has() {
    if !crate::world::root() {
        return;
    }
    let disk = Disk::new();
    let file = disk.path().join("incidents.jsonl");
    fs::write(&file, "dear reader\n").expect("it can be written");
    disk.mount("remount,ro");
    let Some(world) = watched(&disk.path()) else {
        return;
    };
    goes_on(&world, "Read-only file system");
    assert_eq!(fs::read_to_string(file).expect("it stays"), "dear reader\n");
}

#[test]
fn what_a_read_only_disk_holds_is_known_after_a_restart() {
    if !crate::world::root() {
        return;
    }
    let disk = Disk::new();
    let Some(mut world) = watched(&disk.path()) else {
        return;
    };
    world.break_(0, BLACKHOLE);
    world.is_blamed(0, "blackhole");
    let id = only(&world)["id"].clone();
    until(SOON, "it is written", || !kept(&disk.path()).is_empty());
    kill(&mut world);
    disk.mount("remount,ro");
    start(&mut world, &disk.path());
    world.is_blamed(0, "blackhole");
    assert_eq!(only(&world)["id"], id);
    let log = world.daemon().log();
    assert_eq!(log.matches("Read-only file system").count(), 1, "{log}");
}

//! What failover programs read: whether to use an upstream.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use lab::{Direction, Fault, Load, Options, daemon::run, status::Status};
use rustix::process::Signal;

use crate::world::{SOON, START, World, all_quiet, it_works};

/// The first hold.
pub(crate) const HOLD: Duration = Duration::from_secs(60);
/// On top of that, until a sweep has come and was looked at.
pub(crate) const LATE: Duration = Duration::from_secs(10);
pub(crate) const A_MOMENT: Duration = Duration::from_secs(10);

const NAMES: [&str; 3] = ["provider-a", "provider-b", "provider-c"];

/// What the files say, one after the other: `1`, `0`, or `-` where there is none.
pub(crate) fn gates(world: &World) -> String {
    let gate = |name: &str| match world.daemon().gate(name).as_deref() {
        Some("1\n") => '1',
        Some("0\n") => '0',
        None => '-',
        Some(other) => panic!("the file of {name} holds {other:?}"),
    };
    NAMES.iter().map(|it| gate(it)).collect()
}

#[track_caller]
pub(crate) fn gates_become(world: &World, limit: Duration, expected: &str) {
    world.until(limit, &format!("the gates are {expected}"), |_| {
        gates(world) == expected
    });
}

/// Exit code and line of `check --gate`.
fn check(world: &World, arguments: &[&str]) -> (i32, String) {
    let output = it_works(
        world
            .daemon()
            .cli(&[&["check", "--gate"], arguments].concat()),
    );
    let line = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code().unwrap_or(-1), line)
}

fn gate_of(status: &Status, name: &str) -> String {
    let upstream = status.upstream(name);
    upstream
        .and_then(|it| it.gate.clone())
        .unwrap_or_else(|| "none".to_owned())
}

#[test]
fn a_black_hole_closes_one_gate_and_the_hold_opens_it() {
    let Some(world) = World::healthy() else {
        return;
    };
    assert_eq!(gates(&world), "111");
    world.break_(1, Fault::Blackhole(Direction::Both));
    gates_become(&world, SOON, "101");
    let status = world.is_blamed(1, "blackhole");
    let told = NAMES.map(|it| gate_of(&status, it));
    assert_eq!(told, ["open", "closed", "open"]);
    for (upstream, code) in [("provider-a", 0), ("provider-b", 1)] {
        let (found, line) = check(&world, &[upstream]);
        assert_eq!(found, code, "{line}");
        let series = format!("tcpstall_upstream_gate{{upstream=\"{upstream}\"}}");
        let expected = Some(f64::from(1 - code));
        assert_eq!(it_works(world.daemon().metric(&series)), expected);
    }
    let log = world.daemon().log();
    assert!(log.contains("the gate of provider-b is closed"), "{log}");
    let wide = it_works(world.daemon().cli_ok(&["status", "-o", "wide"]));
    assert!(wide.contains("told to avoid provider-b"), "{wide}");

    world.recovers(1);
    let well = Instant::now();
    let status = world.until(SOON, "the clock of the gate runs", |status| {
        let upstream = status.upstream("provider-b");
        upstream.is_some_and(|it| it.gate_opens_seconds.is_some())
    });
    assert_eq!(gate_of(&status, "provider-b"), "closed");
    world.hold(HOLD - LATE, "it is given time", |status| {
        all_quiet(status) && gates(&world) == "101"
    });
    gates_become(&world, 2 * LATE, "111");
    let after = well.elapsed();
    assert!(after > HOLD - Duration::from_secs(5), "{after:?}");
    assert_eq!(check(&world, &["provider-b"]).0, 0);
}

#[test]
fn when_all_upstreams_break_a_gate_stays_open() {
    let Some(world) = World::healthy() else {
        return;
    };
    world.break_(0, Fault::Blackhole(Direction::Both));
    gates_become(&world, SOON, "011");
    world.break_(1, Fault::Blackhole(Direction::Both));
    gates_become(&world, SOON, "001");
    world.break_(2, Fault::Blackhole(Direction::Both));
    world.until(SOON, "all are failing", |status| {
        NAMES.iter().all(|it| status.state_of(it) == "failing")
    });
    world.hold(A_MOMENT, "one stays open", |_| gates(&world) == "001");
    assert_eq!(check(&world, &["provider-c"]).0, 0);
}

#[test]
fn when_all_break_at_once_at_least_one_gate_is_open_at_any_moment() {
    let Some(world) = World::healthy() else {
        return;
    };
    for upstream in 0..3 {
        world.break_(upstream, Fault::Blackhole(Direction::Both));
    }
    world.hold(2 * A_MOMENT, "one is open", |_| gates(&world).contains('1'));
}

/// Reads a file all the time.
struct Reader {
    stop: Arc<AtomicBool>,
    reads: Arc<AtomicU32>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Reader {
    fn start(path: std::path::PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let reads = Arc::new(AtomicU32::new(0));
        let (told, count) = (Arc::clone(&stop), Arc::clone(&reads));
        let thread = thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                let text = fs::read_to_string(&path).unwrap_or_else(|error| error.to_string());
                assert!(matches!(text.as_str(), "0\n" | "1\n"), "{text:?}");
                count.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(1));
            }
        });
        Self {
            stop,
            reads,
            thread: Some(thread),
        }
    }

    /// How many times; each time it found a whole value.
    #[track_caller]
    fn stop(&mut self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            assert!(thread.join().is_ok(), "it found something else");
        }
        self.reads.load(Ordering::Relaxed)
    }
}

#[test]
fn a_closed_gate_outlives_a_kill_and_a_restart() {
    let Some(mut world) = World::new(2) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let socket = folder.path().join("tcpstall.sock");
    let options = Options {
        socket: Some(socket.clone()),
        ..Options::default()
    };
    world.traffic(0, 0..20, Load::STEADY);
    world.traffic(1, 0..20, Load::STEADY);
    world.watch_with(&options);
    world.all_ok();
    let mut reader = Reader::start(folder.path().join("gate/provider-b"));
    world.break_(1, Fault::Blackhole(Direction::Both));
    gates_become(&world, SOON, "10-");
    let mut daemon = world.take_daemon();
    it_works(daemon.signal(Signal::KILL));
    it_works(daemon.wait(A_MOMENT));
    assert_eq!(daemon.gate("provider-b").as_deref(), Some("0\n"));

    // Nobody answers.
    let socket = socket.display().to_string();
    let asked = |upstream: &str, on_unknown: &[&str]| {
        let arguments = ["check", "--socket", &socket, "--gate", upstream];
        let arguments = [&arguments[..], on_unknown].concat();
        it_works(run(&world.lab.host, &arguments)).status.code()
    };
    for (on_unknown, a, b) in [
        (&[][..], 0, 1),
        (&["--on-unknown", "hold"], 0, 1),
        (&["--on-unknown", "pass"], 0, 0),
        (&["--on-unknown", "fail"], 1, 1),
    ] {
        assert_eq!(asked("provider-a", on_unknown), Some(a), "{on_unknown:?}");
        assert_eq!(asked("provider-b", on_unknown), Some(b), "{on_unknown:?}");
    }
    assert_eq!(asked("provider-x", &[]), Some(0));

    it_works(world.lab.repair(1));
    world.watch_with(&options);
    assert_eq!(gates(&world), "10-");
    assert_eq!(check(&world, &["provider-b"]).0, 1);
    world.until(START, "it does well", |status| {
        status.state_of("provider-b") == "ok" && gate_of(status, "provider-b") == "closed"
    });
    it_works(world.take_daemon().stop());
    assert!(reader.stop() > 100, "it hardly looked");
    let left = fs::read_to_string(folder.path().join("gate/provider-b"));
    assert_eq!(left.ok().as_deref(), Some("0\n"), "kept at an end as well");
}

#[test]
fn gates_follow_the_configuration() {
    let Some(world) = World::healthy() else {
        return;
    };
    assert_eq!(gates(&world), "111");
    let file = world.daemon().config_file();
    let text = fs::read_to_string(&file).expect("the configuration can be read");
    let begin = text.find("\n[[upstream]]\nname = \"provider-c\"");
    let begin = begin.expect("it is the last");
    fs::write(&file, &text[..begin]).expect("it can be written");
    it_works(world.daemon().signal(Signal::HUP));
    gates_become(&world, A_MOMENT, "11-");
    let (code, line) = check(&world, &["provider-c"]);
    assert_eq!(code, 0, "{line}");
    assert!(line.contains("nothing is known against it"), "{line}");
    assert_eq!(check(&world, &["provider-c", "--on-unknown", "fail"]).0, 1);

    let named = text.replace(
        "name = \"provider-b\"",
        "name = \"provider-b\"\ngate = false",
    );
    fs::write(&file, named).expect("it can be written");
    it_works(world.daemon().signal(Signal::HUP));
    gates_become(&world, A_MOMENT, "1-1");
}

#[test]
fn what_is_not_the_upstreams_doing_closes_no_gate() {
    let Some(mut world) = World::new(3) else {
        return;
    };
    for upstream in 0..3 {
        world.traffic(upstream, 0..20, Load::STEADY);
        world.traffic(upstream, 0..20, Load::Churn(20));
        world.traffic(upstream, 20..24, Load::SlowReaders(8));
    }
    world.watch();
    world.all_ok();
    world.hold(A_MOMENT, "healthy churn", |_| gates(&world) == "111");
    world.break_(1, Fault::OneDestination(3));
    world.hold(2 * A_MOMENT, "one destination is dead", |_| {
        gates(&world) == "111"
    });
}

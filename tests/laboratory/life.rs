//! Start, stop, and what stands in the way of either.

use std::{
    fs,
    net::TcpListener,
    os::unix::net::{UnixDatagram, UnixListener},
    path::PathBuf,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use lab::{Daemon, Direction, Fault, Load, Options, daemon::METRICS_PORT};
use rustix::process::Signal;

use crate::world::{World, all_quiet, it_works};

const A_MOMENT: Duration = Duration::from_secs(10);
/// Nothing is silent for longer while a test runs.
const LIFE: Duration = Duration::from_secs(60);

fn pinned() -> Vec<PathBuf> {
    let entries = fs::read_dir("/sys/fs/bpf").into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

#[test]
fn sigterm_ends_it_and_leaves_nothing() {
    let Some(mut world) = World::new(2) else {
        return;
    };
    world.traffic(0, 0..20, Load::STEADY);
    let before = pinned();
    world.watch();
    let daemon = world.take_daemon();
    let pid = daemon.pid();
    it_works(daemon.stop());
    assert!(
        !PathBuf::from(format!("/proc/{pid}")).exists(),
        "the process is gone"
    );
    // Programs and maps live as long as somebody holds them: the process, or a name in here.
    assert_eq!(pinned(), before);
}

#[test]
fn sigterm_is_obeyed_while_clients_wait() {
    let Some(mut world) = World::new(1) else {
        return;
    };
    world.watch();
    let _events = it_works(world.daemon().events());
    it_works(world.take_daemon().stop());
}

/// What the service manager is told, message by message.
fn told(ear: &UnixDatagram, time: Duration) -> Vec<String> {
    let end = Instant::now() + time;
    let mut heard = Vec::new();
    let mut buffer = [0; 4096];
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        let limit = Some(left.max(Duration::from_millis(1)));
        it_works(ear.set_read_timeout(limit).map_err(Into::into));
        if let Ok(length) = ear.recv(&mut buffer) {
            heard.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
    }
    heard
}

/// A service manager that always listens, as a real one does.
struct Ear(Arc<Mutex<Vec<String>>>);

impl Ear {
    fn listen(ear: UnixDatagram) -> Self {
        let heard = Arc::<Mutex<Vec<String>>>::default();
        let kept = Arc::clone(&heard);
        it_works(ear.set_read_timeout(Some(LIFE)).map_err(Into::into));
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length) = ear.recv(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                kept.lock().expect("nobody panics with it").push(text);
            }
        });
        Self(heard)
    }

    /// How many messages with that word there were.
    fn count(&self, word: &str) -> usize {
        let heard = self.0.lock().expect("nobody panics with it");
        heard.iter().filter(|it| it.contains(word)).count()
    }

    #[track_caller]
    fn hears(&self, word: &str) {
        let end = Instant::now() + A_MOMENT;
        while self.count(word) == 0 {
            assert!(Instant::now() < end, "{word} is not heard in {:?}", self.0);
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A manager that does not listen keeps nobody from working.
#[test]
fn a_service_manager_that_hangs_holds_nothing_up() {
    let Some(mut world) = World::new(2) else {
        return;
    };
    let folder = it_works(tempfile::tempdir().map_err(Into::into));
    let ear = folder.path().join("manager");
    let environment = vec![("NOTIFY_SOCKET", ear.clone())];
    let _deaf = it_works(UnixDatagram::bind(&ear).map_err(Into::into));
    world.traffic(0, 0..20, Load::STEADY);
    world.traffic(1, 0..20, Load::STEADY);
    world.watch_with(&Options {
        environment,
        ..Options::default()
    });
    world.all_ok();
    // Longer than it takes to fill the manager's queue, of ten messages or some more.
    world.hold(Duration::from_secs(15), "it goes on", all_quiet);
    world.break_(1, Fault::Blackhole(Direction::Both));
    world.is_blamed(1, "blackhole");
    world.recovers(1);
    it_works(world.take_daemon().stop());
}

#[test]
fn the_service_manager_is_told_by_the_loop_itself() {
    let Some(mut world) = World::new(2) else {
        return;
    };
    let folder = it_works(tempfile::tempdir().map_err(Into::into));
    let ear = folder.path().join("manager");
    let environment = vec![("NOTIFY_SOCKET", ear.clone())];
    let ear = it_works(UnixDatagram::bind(&ear).map_err(Into::into));
    world.traffic(0, 0..20, Load::STEADY);
    world.traffic(1, 0..20, Load::STEADY);
    world.watch_with(&Options {
        environment,
        ..Options::default()
    });
    // It answers from its first sweep on, and is ready then, not before.
    let heard = told(&ear, A_MOMENT / 3);
    let place = |word: &str| heard.iter().position(|it| it.contains(word));
    let (ready, alive) = (place("READY=1"), place("WATCHDOG=1"));
    assert!(alive.is_some() && alive < ready, "{heard:?}");
    world.all_ok();
    let ear = Ear::listen(ear);
    let before = ear.count("WATCHDOG=1");
    thread::sleep(A_MOMENT / 3);
    assert!(ear.count("WATCHDOG=1") > before, "no further sign of life");
    assert_eq!(ear.count("READY=1"), 0, "said once");

    // A loop that hangs says nothing: the manager's watchdog ends it.
    it_works(world.daemon().signal(Signal::STOP));
    thread::sleep(Duration::from_millis(500));
    let before = ear.count("");
    thread::sleep(Duration::from_secs(3));
    assert_eq!(ear.count(""), before, "a stopped daemon has spoken");
    it_works(world.daemon().signal(Signal::CONT));

    world.break_(1, Fault::Blackhole(Direction::Both));
    world.is_blamed(1, "blackhole");
    ear.hears("STATUS=provider-b is failing: blackhole");
    it_works(world.daemon().signal(Signal::HUP));
    ear.hears("RELOADING=1");
    ear.hears("READY=1");
    it_works(world.take_daemon().stop());
    ear.hears("STOPPING=1");
}

#[test]
fn a_second_daemon_on_the_same_socket_is_refused() {
    let Some(mut world) = World::new(1) else {
        return;
    };
    world.watch();
    let socket = world.daemon().socket().to_owned();
    let options = Options {
        socket: Some(socket.clone()),
        metrics_port: Some(METRICS_PORT + 1),
        ..Options::default()
    };
    let mut second = it_works(Daemon::launch(&world.lab, &options));
    let status = it_works(second.wait(A_MOMENT));
    assert_eq!(status.code(), Some(1), "{}", second.log());
    assert!(
        second.log().contains(&socket.display().to_string()),
        "{}",
        second.log()
    );
    it_works(world.daemon().status());
}

#[test]
fn a_socket_left_by_a_crash_is_taken_over() {
    let Some(mut world) = World::new(1) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let socket = folder.path().join("left.sock");
    drop(UnixListener::bind(&socket).expect("a socket can be bound"));
    assert!(socket.exists(), "the file outlives its owner");
    world.watch_with(&Options {
        socket: Some(socket.clone()),
        ..Options::default()
    });
    // And once more, after a real crash.
    let mut daemon = world.take_daemon();
    it_works(daemon.signal(Signal::KILL));
    it_works(daemon.wait(A_MOMENT));
    assert!(socket.exists(), "killed, it could not clean up");
    world.watch_with(&Options {
        socket: Some(socket),
        ..Options::default()
    });
    it_works(world.take_daemon().stop());
}

#[test]
fn a_file_that_is_no_socket_is_not_taken_over() {
    let Some(world) = World::new(1) else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("letters");
    fs::write(&path, "dear reader").expect("a file can be written");
    let options = Options {
        socket: Some(path.clone()),
        ..Options::default()
    };
    let mut daemon = it_works(Daemon::launch(&world.lab, &options));
    let status = it_works(daemon.wait(A_MOMENT));
    assert_eq!(status.code(), Some(1), "{}", daemon.log());
    assert!(
        daemon.log().contains(&path.display().to_string()),
        "{}",
        daemon.log()
    );
    assert_eq!(
        fs::read_to_string(&path).ok().as_deref(),
        Some("dear reader")
    );
}

#[test]
fn a_metrics_address_in_use_is_named() {
    let Some(world) = World::new(1) else { return };
    let taken = world
        .lab
        .host
        .run(|| TcpListener::bind(("127.0.0.1", METRICS_PORT)));
    let _taken = it_works(taken).expect("the address is free");
    let mut daemon = it_works(Daemon::launch(&world.lab, &Options::default()));
    let status = it_works(daemon.wait(A_MOMENT));
    assert_eq!(status.code(), Some(1), "{}", daemon.log());
    assert!(
        daemon.log().contains(&format!("127.0.0.1:{METRICS_PORT}")),
        "{}",
        daemon.log()
    );
    assert!(
        !daemon.socket().exists(),
        "a start that failed leaves no socket"
    );
}

//! Start, stop, and what stands in the way of either.

use std::{fs, net::TcpListener, os::unix::net::UnixListener, path::PathBuf, time::Duration};

use lab::{Daemon, Load, Options, daemon::METRICS_PORT};
use rustix::process::Signal;

use crate::world::{World, it_works};

const A_MOMENT: Duration = Duration::from_secs(10);

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

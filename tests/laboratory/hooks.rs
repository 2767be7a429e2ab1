//! Programs that are run when an upstream changes.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use lab::{
    Daemon, Direction, Fault, Load, Options,
    daemon::{config, run},
    program::Program,
};
use rustix::process::Signal;
use serde_json::Value;

use crate::{
    failover::run_hooks,
    gate::A_MOMENT,
    world::{SOON, START, World, it_works},
};

/// After a first failure.
const AGAIN: Duration = Duration::from_secs(10);
/// Whoever has not asked for that long runs no hooks.
const ABSENT: Duration = Duration::from_secs(10);

/// What hooks write, and what they are.
struct Book {
    folder: tempfile::TempDir,
    options: Options,
}

impl Book {
    /// With further hooks beside those that write: `route` is told of gates, `mail` of states.
    fn new(further: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name).display().to_string();
        // A line of what it was told, and the rest as it came.
        let script = format!(
            "#!/bin/sh\ncat > {}.$TCPSTALL_ON\nsleep 0.2\n\
             echo \"$TCPSTALL_HOOK: $TCPSTALL_UPSTREAM $TCPSTALL_ON ${{TCPSTALL_PREVIOUS:-new}} \
             $TCPSTALL_STATE $TCPSTALL_GATE $1\" >> {}\n",
            path("told"),
            path("book")
        );
        fs::write(path("write"), script).expect("it can be written");
        fs::set_permissions(path("write"), fs::Permissions::from_mode(0o755)).expect("it is ours");
        let write = path("write");
        let config = format!(
            "[[hook]]\nname = \"route\"\non = \"gate\"\ncommand = [{write:?}, \"$(reboot)\"]\n\
             [[hook]]\nname = \"mail\"\non = \"state\"\ncommand = [{write:?}]\n{further}\n"
        );
        let options = Options {
            config,
            socket: Some(folder.path().join("tcpstall.sock")),
            ..Options::default()
        };
        Self { folder, options }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A laboratory with traffic and a daemon that knows of the hooks, and all is well.
    fn watched(&self, upstreams: usize) -> Option<World> {
        let mut world = World::new(upstreams)?;
        for upstream in 0..upstreams {
            world.traffic(upstream, 0..20, Load::STEADY);
        }
        world.watch_with(&self.options);
        world.all_ok();
        Some(world)
    }

    /// Runs them.
    fn run(&self, world: &World) -> Program {
        self.run_with(world, &[], "log")
    }

    fn run_with(&self, world: &World, further: &[&str], log: &str) -> Program {
        let file = self.path("tcpstall.toml");
        fs::write(&file, config(&world.lab, &self.options)).expect("it can be written");
        let socket = self.path("tcpstall.sock");
        run_hooks(&world.lab, (&file, &socket), further, self.path(log))
    }

    /// What was written since the last time, in any order.
    fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("book")).unwrap_or_default();
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// Waits until exactly this has been written, and has it forgotten.
    #[track_caller]
    fn holds(&self, limit: Duration, expected: &[&str], log: &Program) {
        let expected: Vec<_> = expected.iter().map(|it| (*it).to_owned()).collect();
        self.holds_one_of(limit, &[expected], log);
    }

    /// The same with one of these.
    #[track_caller]
    fn holds_one_of(&self, limit: Duration, expected: &[Vec<String>], log: &Program) {
        let end = Instant::now() + limit;
        while !expected.contains(&self.lines()) {
            let (lines, log) = (self.lines(), log.log());
            assert!(
                Instant::now() < end,
                "{lines:#?} and not {expected:#?}\n{log}"
            );
            thread::sleep(Duration::from_millis(50));
        }
        let _ = fs::remove_file(self.path("book"));
    }
}

/// What the hook for states of `provider-b` writes.
fn mail(from: &str, to: &str, gate: &str) -> String {
    format!("mail: provider-b state {from} {to} {gate} ")
}

/// How often a hook has ended in that way.
fn ended(daemon: &Daemon, hook: &str, outcome: &str) -> f64 {
    let series = format!("tcpstall_hook_runs_total{{hook=\"{hook}\",outcome=\"{outcome}\"}}");
    it_works(daemon.metric(&series)).expect("it is there from the beginning")
}

#[track_caller]
fn until(limit: Duration, what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < end, "{what}: not within {limit:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

fn runner_is_up(daemon: &Daemon) -> Option<f64> {
    it_works(daemon.metric("tcpstall_hook_runner_up"))
}

#[test]
fn hooks_are_told_what_changes_and_nothing_twice() {
    let book = Book::new("");
    let Some(mut world) = book.watched(3) else {
        return;
    };
    assert_eq!(runner_is_up(world.daemon()), Some(0.0));
    let runner = book.run(&world);
    let beginning = [
        "route: provider-a gate new ok open $(reboot)",
        "route: provider-b gate new ok open $(reboot)",
        "route: provider-c gate new ok open $(reboot)",
    ];
    book.holds(A_MOMENT, &beginning, &runner);
    until(A_MOMENT, "it is known that hooks are run", || {
        runner_is_up(world.daemon()) == Some(1.0)
    });

    // That an upstream is ok counts when the daemon has looked for a while, and is no news then.
    world.hold(Duration::from_secs(6), "nothing is told", |_| {
        book.lines().is_empty()
    });
    world.break_(1, Fault::Blackhole(Direction::Both));
    // On the way there it may be degraded.
    let route = "route: provider-b gate open failing closed $(reboot)";
    let straight = [mail("ok", "failing", "closed"), route.to_owned()];
    let steps = |gate| {
        [
            mail("degraded", "failing", "closed"),
            mail("ok", "degraded", gate),
            route.to_owned(),
        ]
    };
    let all = [
        straight.to_vec(),
        steps("open").to_vec(),
        steps("closed").to_vec(),
    ];
    book.holds_one_of(SOON, &all, &runner);
    let told = fs::read(book.path("told.gate")).expect("it was told more");
    let told: Value = it_works(serde_json::from_slice(&told).map_err(Into::into));
    assert_eq!(told["upstream"]["name"], "provider-b");
    assert_eq!(told["upstream"]["gate"], "closed");
    assert_eq!(
        (&told["hook"], &told["previous"]),
        (&"route".into(), &"open".into())
    );

    // Another daemon that sees the same has nothing new to tell.
    let daemon = world.take_daemon();
    it_works(daemon.signal(Signal::KILL));
    until(A_MOMENT, "that nobody answers is said", || {
        runner.log().contains("no tcpstall daemon answers")
    });
    world.watch_with(&book.options);
    world.until(START, "it is blamed again", |status| {
        status.state_of("provider-b") == "failing"
    });
    world.hold(A_MOMENT, "nothing is new", |_| book.lines().is_empty());

    world.recovers(1);
    let all = [
        vec![mail("failing", "ok", "closed")],
        vec![
            mail("degraded", "ok", "closed"),
            mail("failing", "degraded", "closed"),
        ],
    ];
    book.holds_one_of(A_MOMENT, &all, &runner);
    let daemon = world.daemon();
    until(A_MOMENT, "what has ended is counted", || {
        ended(daemon, "mail", "succeeded") >= 1.0
    });
    for (hook, outcome) in [
        ("mail", "failed"),
        ("route", "failed"),
        ("route", "timeout"),
    ] {
        assert!(ended(daemon, hook, outcome) < 1.0, "{hook} {outcome}");
    }
    let log = runner.log();
    assert!(
        log.contains("hook route for provider-b: gate closed, was open: runs"),
        "{log}"
    );
    assert!(log.contains("the daemon answers again"), "{log}");
    drop(runner);
    until(2 * ABSENT, "it is known that nobody runs hooks", || {
        runner_is_up(world.daemon()) == Some(0.0)
    });
}

#[test]
fn a_hook_that_hangs_or_fails_is_counted_and_holds_up_no_other_upstream() {
    let book = Book::new(
        "[[hook]]\nname = \"hangs\"\non = \"gate\"\nupstreams = [\"provider-b\"]\n\
         command = [\"/bin/sleep\", \"60\"]\ntimeout = \"1s\"\n\
         [[hook]]\nname = \"fails\"\non = \"state\"\ncommand = [\"/bin/false\"]\n",
    );
    let Some(world) = book.watched(3) else {
        return;
    };
    let _runner = book.run(&world);
    let daemon = world.daemon();
    until(A_MOMENT, "what hangs is ended", || {
        ended(daemon, "hangs", "timeout") >= 1.0
    });
    until(A_MOMENT, "the others are not held up", || {
        ended(daemon, "route", "succeeded") >= 3.0
    });
    until(AGAIN + A_MOMENT, "a hook for gates is run again", || {
        ended(daemon, "hangs", "timeout") >= 2.0
    });
    world.break_(0, Fault::Blackhole(Direction::Both));
    world.until(SOON, "it is failing", |status| {
        status.state_of("provider-a") == "failing"
    });
    // It is told whatever those before it were told; on the way there that may have been `degraded`.
    let mails = || {
        let lines = book.lines();
        let of = lines
            .iter()
            .filter(|it| it.starts_with("mail: provider-a "));
        of.count() as f64
    };
    let all_is_told = || {
        let lines = book.lines();
        lines
            .iter()
            .any(|it| it.starts_with("mail: ") && it.contains(" failing "))
            && ended(daemon, "fails", "failed") >= mails()
    };
    until(SOON, "each word has reached it", all_is_told);
    let failed = ended(daemon, "fails", "failed");
    world.hold(AGAIN + A_MOMENT, "it is not run again", |_| {
        ended(daemon, "fails", "failed") <= failed
    });
    assert!(
        ended(daemon, "mail", "succeeded") >= 1.0,
        "others are told of it"
    );
}

#[test]
fn hooks_follow_the_configuration_and_a_dry_run_runs_none() {
    let book = Book::new("");
    let Some(world) = book.watched(2) else {
        return;
    };

    let file = book.path("tcpstall.toml");
    let dry = book.run_with(&world, &["--dry-run"], "dry");
    until(A_MOMENT, "it says what it would run", || {
        dry.log().matches("would run").count() == 2
    });
    assert_eq!(
        runner_is_up(world.daemon()),
        Some(0.0),
        "who runs none is no runner"
    );
    drop(dry);
    assert_eq!(book.lines(), [""; 0]);

    let runner = book.run(&world);
    let beginning = [
        "route: provider-a gate new ok open $(reboot)",
        "route: provider-b gate new ok open $(reboot)",
    ];
    book.holds(A_MOMENT, &beginning, &runner);
    let text = fs::read_to_string(&file).expect("it is there");
    let hangup = || it_works(runner.signal(Signal::HUP));
    // What is wrong changes nothing, and is said.
    fs::write(&file, "[[hook]]\nname = 7\n").expect("it can be written");
    hangup();
    until(A_MOMENT, "what is wrong is said", || {
        runner.log().contains("tcpstall.toml:2: hook.name: found 7")
    });
    // One that is new is told how it is, and no other.
    fs::write(
        &file,
        text.replace("\"mail\"\non = \"state\"", "\"more\"\non = \"gate\""),
    )
    .expect("ours");
    hangup();
    let more = [
        "more: provider-a gate new ok open ",
        "more: provider-b gate new ok open ",
    ];
    book.holds(A_MOMENT, &more, &runner);
    // The daemon has not been told of it: it counts what it knows.
    until(A_MOMENT, "that it cannot be counted is said", || {
        runner
            .log()
            .contains("no hook of the configuration is called \"more\"")
    });

    // Without any there is nothing to run.
    fs::write(&file, "").expect("it can be written");
    let none = it_works(run(
        &world.lab.host,
        &["hooks", "--config", &file.display().to_string()],
    ));
    assert_eq!(none.status.code(), Some(1));
    let said = String::from_utf8_lossy(&none.stderr).into_owned();
    assert!(said.contains("has no [[hook]]"), "{said}");
}

#[test]
fn a_hook_that_runs_is_let_end_and_the_second_word_ends_it() {
    let Some(mut world) = World::new(1) else {
        return;
    };
    world.traffic(0, 0..20, Load::STEADY);
    for (words, ends) in [(1, "it has ended"), (2, "")] {
        let mut book = Book::new("");
        let (begun, done) = (book.path("begun"), book.path("done"));
        let script = format!(
            "touch {} && sleep 4 && echo it has ended > {}",
            begun.display(),
            done.display()
        );
        book.options.config = format!(
            "[[hook]]\nname = \"slow\"\non = \"gate\"\ncommand = [\"/bin/sh\", \"-c\", {script:?}]\n"
        );
        world.watch_with(&book.options);
        world.all_ok();
        let mut runner = book.run(&world);
        until(A_MOMENT, "it has begun", || begun.exists());
        for _ in 0..words {
            it_works(runner.signal(Signal::TERM));
            thread::sleep(Duration::from_millis(500));
        }
        let end = Instant::now() + A_MOMENT;
        while !it_works(runner.has_ended()) {
            assert!(Instant::now() < end, "it goes on: {}", runner.log());
            thread::sleep(Duration::from_millis(50));
        }
        let written = fs::read_to_string(&done).unwrap_or_default();
        assert_eq!(written.trim(), ends, "{}", runner.log());
        it_works(world.take_daemon().stop());
    }
}

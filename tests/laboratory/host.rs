//! Hosts that do not allow everything: the sentence says what is missing and what to do.

use std::{
    collections::BTreeSet,
    env, fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use lab::{Direction, Fault, Load, Options, daemon};
use rustix::process::{Signal, kill_process};
use tempfile::TempDir;

use crate::world::{SOON, World, all_quiet, it_works, others_are_fine, own_machine, root};

/// A folder with a copy of the program that everybody may run.
fn installed() -> TempDir {
    let folder = it_works(tempfile::tempdir().map_err(Into::into));
    it_works(daemon::for_everybody(folder.path()));
    folder
}

/// Where a tool is: shells may have one of their own with the same name.
fn path_of(tool: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|it| it.join(tool));
    let mut found = found.filter(|it| it.is_file());
    found
        .next()
        .unwrap_or_else(|| panic!("{tool} is not there"))
}

/// Runs the program as nobody, with these rights and no others.
fn as_nobody(folder: &TempDir, rights: &str, arguments: &[&str]) -> Output {
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .args([
            format!("--inh-caps={rights}"),
            format!("--ambient-caps={rights}"),
        ])
        .arg(folder.path().join("tcpstall"))
        .args(arguments)
        .current_dir(folder.path())
        .output();
    it_works(output.map_err(Into::into))
}

/// Runs the program where the kernel's type information is hidden.
fn without_btf(folder: &TempDir, arguments: &[&str]) -> Output {
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c"])
        .arg("mount -t tmpfs none /sys/kernel/btf && exec \"$0\" \"$@\"")
        .arg(folder.path().join("tcpstall"))
        .args(arguments)
        .current_dir(folder.path())
        .output();
    it_works(output.map_err(Into::into))
}

/// Runs the program where the first half of the kernel's type information is all there is.
fn with_half_the_btf(folder: &TempDir, arguments: &[&str]) -> Output {
    let half = folder.path().join("half");
    let write = || {
        let all = fs::read("/sys/kernel/btf/vmlinux")?;
        fs::write(&half, &all[..all.len() / 2])
    };
    it_works(write().map_err(Into::into));
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c"])
        .arg("mount --bind half /sys/kernel/btf/vmlinux && exec \"$0\" \"$@\"")
        .arg(folder.path().join("tcpstall"))
        .args(arguments)
        .current_dir(folder.path())
        .output();
    it_works(output.map_err(Into::into))
}

const DAEMON: [&str; 5] = [
    "daemon",
    "--socket",
    "tcpstall.sock",
    "--metrics-address",
    "127.0.0.1:0",
];

#[track_caller]
fn refuses(output: &Output, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for word in words {
        assert!(said.contains(word), "{word} is not in: {said}");
    }
}

#[test]
fn without_rights_the_daemon_names_them_and_says_how_to_get_them() {
    if !root() {
        return;
    }
    let folder = installed();
    let none = as_nobody(&folder, "-all", &DAEMON);
    refuses(&none, &["CAP_BPF and CAP_PERFMON", "run as root"]);
    let half = as_nobody(&folder, "-all,+cap_39", &DAEMON);
    refuses(&half, &["lacks CAP_PERFMON", "run as root"]);
    let half = as_nobody(&folder, "-all,+cap_38", &DAEMON);
    refuses(&half, &["lacks CAP_BPF", "run as root"]);
    assert!(!folder.path().join("tcpstall.sock").exists());
}

#[test]
fn two_capabilities_are_all_that_the_kernel_asks_for() {
    if !root() {
        return;
    }
    let folder = installed();
    let doctor = as_nobody(&folder, "-all,+cap_38,+cap_39", &["doctor", "-o", "json"]);
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(doctor.status.success(), "{said}");
    let checks: serde_json::Value = it_works(serde_json::from_str(&said).map_err(Into::into));
    let programs = checks.as_array().and_then(|checks| {
        checks
            .iter()
            .find(|check| check["feature"] == "program:sweep")
    });
    assert_eq!(
        programs.map(|check| &check["ok"]),
        Some(&true.into()),
        "{said}"
    );
}

/// Maps count as locked memory until 5.10.
#[test]
fn the_right_to_lock_memory_is_asked_for_where_it_is_needed() {
    if !root() {
        return;
    }
    let release = it_works(fs::read_to_string("/proc/sys/kernel/osrelease").map_err(Into::into));
    let mut numbers = release
        .split(['.', '-'])
        .map(|it| it.parse::<u32>().unwrap_or(0));
    let version = (numbers.next(), numbers.next());
    let folder = installed();
    let doctor = Command::new("sh")
        .args(["-c", "ulimit -l 64 && exec \"$@\"", "sh"])
        .arg(path_of("setpriv"))
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .args(["--inh-caps=-all,+cap_38,+cap_39"])
        .args(["--ambient-caps=-all,+cap_38,+cap_39"])
        .arg(folder.path().join("tcpstall"))
        .arg("doctor")
        .output();
    let doctor = it_works(doctor.map_err(Into::into));
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    let needed = version < (Some(5), Some(11));
    assert_eq!(doctor.status.success(), !needed, "{said}");
    assert_eq!(said.contains("LimitMEMLOCK=infinity"), needed, "{said}");
}

#[test]
fn a_host_that_hides_its_processes_is_told_so() {
    if !root() {
        return;
    }
    let folder = installed();
    let doctor = |mount: &str| {
        let output = Command::new("unshare")
            .args(["--mount", "sh", "-c"])
            .arg(format!("{mount} exec \"$@\""))
            .arg("sh")
            .arg(path_of("setpriv"))
            .args(["--reuid=65534", "--regid=65534"])
            .args(["--clear-groups", "--inh-caps=-all,+cap_38,+cap_39"])
            .arg("--ambient-caps=-all,+cap_38,+cap_39")
            .arg(folder.path().join("tcpstall"))
            .args(["doctor", "-o", "json"])
            .output();
        let output = it_works(output.map_err(Into::into));
        let checks = serde_json::from_slice::<Vec<serde_json::Value>>(&output.stdout);
        let checks = it_works(checks.map_err(Into::into));
        let check = checks
            .into_iter()
            .find(|it| it["feature"] == "process-names");
        check.unwrap_or_else(|| panic!("it is not told: {output:?}"))
    };
    let open = doctor("");
    assert_eq!(open["ok"], true, "{open}");
    let hidden = doctor("mount -t proc -o hidepid=2 proc /proc &&");
    assert_eq!(hidden["ok"], false, "{hidden}");
    assert!(hidden["found"].to_string().contains("hidepid"), "{hidden}");
}

/// The capabilities of each thread, as `/proc` shows them, and whether it can get new ones.
fn rights(pid: u32) -> BTreeSet<String> {
    let tasks = it_works(fs::read_dir(format!("/proc/{pid}/task")).map_err(Into::into));
    let status = tasks.flatten().map(|task| {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let wanted = [
            "CapInh",
            "CapPrm",
            "CapEff",
            "CapBnd",
            "CapAmb",
            "NoNewPrivs",
        ];
        let lines = status.lines().filter(|line| {
            let name = line.split(':').next();
            name.is_some_and(|name| wanted.contains(&name))
        });
        lines.collect::<Vec<_>>().join("; ").replace('\t', " ")
    });
    // A thread that has ended meanwhile has no lines.
    status.filter(|lines| !lines.is_empty()).collect()
}

#[test]
fn what_is_not_needed_any_more_is_given_up() {
    let Some(world) = World::healthy() else {
        return;
    };
    // CAP_BPF is number 39.
    let (none, some) = ("0000000000000000", "0000008000000000");
    let expected = format!(
        "NoNewPrivs: 1; CapInh: {none}; CapPrm: {some}; CapEff: {some}; CapBnd: {some}; CapAmb: {none}"
    );
    let sorted = |line: &str| line.split("; ").map(str::to_owned).collect::<BTreeSet<_>>();
    for thread in rights(world.daemon().pid()) {
        assert_eq!(sorted(&thread), sorted(&expected));
    }
    let fenced = world
        .daemon()
        .metric("tcpstall_kernel_feature{feature=\"landlock\"}");
    let modules = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    let expected = f64::from(u8::from(modules.contains("landlock")));
    let fenced = it_works(fenced).expect("it is told");
    assert!(fenced >= expected, "{fenced}, with {modules}");
    // What is left is enough for all that it does.
    world.break_(1, Fault::Blackhole(Direction::Both));
    world.is_blamed(1, "blackhole");
    let stalls = world.stalls(&["--upstream", "provider-b"]);
    let held = stalls.iter().filter(|stall| stall.process.is_some());
    assert!(held.count() > 0, "{stalls:?}");
    world.recovers(1);
}

#[test]
fn with_two_capabilities_any_user_has_all_of_it() {
    let Some(mut world) = World::new(2) else {
        return;
    };
    world.traffic(0, 0..20, Load::STEADY);
    world.traffic(1, 0..20, Load::STEADY);
    world.watch_with(&Options {
        rights: Some("+cap_38,+cap_39"),
        ..Options::default()
    });
    world.all_ok();
    world.break_(1, Fault::Blackhole(Direction::Both));
    let status = world.is_blamed(1, "blackhole");
    let upstream = status.upstream("provider-b").expect("it is listed");
    let gateway = world.lab.upstreams[1].gateway.to_string();
    assert_eq!(upstream.gateway, Some(gateway));
    world.until(SOON, "who holds the connections is known", |_| {
        let stalls = world.stalls(&["--upstream", "provider-b"]);
        stalls.iter().any(|stall| stall.process.is_some())
    });
    let incidents = world.daemon().folder().join("state/incidents.jsonl");
    assert!(incidents.exists(), "it keeps what happens");
    world.recovers(1);
    it_works(world.take_daemon().stop());
}

/// It stands for both, as it did before there were those.
#[test]
fn with_the_old_capability_alone_it_starts_and_keeps_what_it_needs() {
    let Some(mut world) = World::new(2) else {
        return;
    };
    world.traffic(0, 0..20, Load::STEADY);
    world.traffic(1, 0..20, Load::STEADY);
    world.watch_with(&Options {
        rights: Some("+cap_21"),
        ..Options::default()
    });
    world.all_ok();
    for thread in rights(world.daemon().pid()) {
        // CAP_SYS_ADMIN is number 21.
        assert!(thread.contains("CapPrm: 0000000000200000"), "{thread}");
    }
    world.break_(1, Fault::Blackhole(Direction::Both));
    world.is_blamed(1, "blackhole");
}

#[test]
fn without_programs_in_the_kernel_no_right_is_kept() {
    let Some(mut world) = World::new(1) else {
        return;
    };
    world.watch_with(&Options {
        arguments: vec!["--sensor", "sock-diag"],
        ..Options::default()
    });
    for thread in rights(world.daemon().pid()) {
        assert!(thread.contains("CapPrm: 0000000000000000"), "{thread}");
    }
}

#[test]
fn without_type_information_the_daemon_says_what_it_needs() {
    if !root() {
        return;
    }
    let folder = installed();
    let words = ["/sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF=y"];
    refuses(&without_btf(&folder, &DAEMON), &words);
    let doctor = without_btf(&folder, &["doctor"]);
    assert_eq!(doctor.status.code(), Some(1));
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(words.iter().all(|word| said.contains(word)), "{said}");
}

#[test]
fn type_information_that_is_cut_off_is_said_to_be_damaged() {
    if !root() {
        return;
    }
    let folder = installed();
    let words = [
        "/sys/kernel/btf/vmlinux",
        "is damaged",
        "it ends before it should",
    ];
    refuses(&with_half_the_btf(&folder, &DAEMON), &words);
    let doctor = with_half_the_btf(&folder, &["doctor"]);
    assert_eq!(doctor.status.code(), Some(1));
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(words.iter().all(|word| said.contains(word)), "{said}");
}

#[test]
fn a_clock_that_jumps_changes_no_verdict() {
    if !own_machine() {
        return;
    }
    let Some(world) = World::healthy() else {
        return;
    };
    let jump = |seconds: i64| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = it_works(now.map_err(Into::into)).as_secs();
        let then = format!("@{}", now.saturating_add_signed(seconds));
        let set = Command::new("date").args(["-s", &then]).output();
        let set = it_works(set.map_err(Into::into));
        assert!(set.status.success(), "{set:?}");
    };
    for seconds in [3600, -90_000, 30 * 86_400, -29 * 86_400] {
        jump(seconds);
        world.hold(Duration::from_secs(3), "no verdict changes", all_quiet);
    }
    world.break_(1, Fault::Blackhole(Direction::Both));
    world.is_blamed(1, "blackhole");
    for seconds in [-86_400, 7200, -7200] {
        jump(seconds);
        world.hold(Duration::from_secs(3), "no verdict changes", |status| {
            status.is_failing("provider-b", "blackhole")
        });
    }
    let stalls = world.stalls(&["--upstream", "provider-b"]);
    for stall in &stalls {
        assert!((0.0..120.0).contains(&stall.stalled_seconds), "{stall:?}");
    }
    assert!(!stalls.is_empty());
    world.recovers(1);
}

/// Those that the host talks to sleep with it here: what is seen is what the kernel's clocks and timers
/// make of a sleep, not how long peers are patient.
#[test]
fn a_host_that_was_suspended_blames_nobody_for_its_sleep() {
    if !own_machine() {
        return;
    }
    let Some(world) = World::healthy() else {
        return;
    };
    let sleep = || -> std::io::Result<()> {
        fs::write("/sys/class/rtc/rtc0/wakealarm", "+15")?;
        fs::write("/sys/power/state", "mem")
    };
    it_works(sleep().map_err(Into::into));
    let told = || world.daemon().log().contains("the host was suspended for");
    let limit = Instant::now() + SOON;
    while !told() {
        assert!(Instant::now() < limit, "the sleep is told");
        assert!(all_quiet(&it_works(world.daemon().status())));
    }
    world.hold(SOON, "nobody is blamed", all_quiet);
    world.break_(1, Fault::Blackhole(Direction::Both));
    world.is_blamed(1, "blackhole");
    // Those that waited before have no say after it, and nobody else is blamed.
    it_works(sleep().map_err(Into::into));
    world.hold(SOON, "no other is blamed", |status| {
        others_are_fine(status, "provider-b");
        true
    });
    world.recovers(1);
}

#[test]
fn told_to_stop_while_it_starts_it_leaves_nothing() {
    if !root() {
        return;
    }
    let folder = installed();
    let socket = folder.path().join("tcpstall.sock");
    let daemon = Command::new(folder.path().join("tcpstall"))
        .args(DAEMON)
        .current_dir(folder.path())
        .stderr(Stdio::null())
        .spawn();
    let mut daemon = it_works(daemon.map_err(Into::into));
    let limit = Instant::now() + Duration::from_secs(10);
    while !socket.exists() {
        assert!(Instant::now() < limit, "the socket appears");
        std::thread::yield_now();
    }
    let pid = rustix::process::Pid::from_child(&daemon);
    it_works(kill_process(pid, Signal::HUP).map_err(Into::into));
    it_works(kill_process(pid, Signal::TERM).map_err(Into::into));
    let ended = it_works(daemon.wait().map_err(Into::into));
    assert!(ended.success(), "{ended}");
    assert!(!socket.exists());
}

//! The unit that is shipped, run by the real service manager.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use lab::{
    Direction, Fault, Load, Options,
    daemon::{self, METRICS_PORT},
    http,
    status::{Stall, Status},
};

use crate::world::{RECOVERY, START, World, all_quiet, has_service_manager, it_works};

const UNIT: &str = include_str!("../../packaging/tcpstall.service");
const HOOKS: &str = include_str!("../../packaging/tcpstall-hooks.service");
const UNITS: &str = "/etc/systemd/system";
const SOCKET: &str = "/run/tcpstall/tcpstall.sock";
/// In the place of two minutes.
const WATCHDOG: Duration = Duration::from_secs(15);
/// A verdict, on an emulated machine with a manager beside.
const SOON: Duration = Duration::from_secs(20);

/// There is one such service on a machine.
static ALONE: Mutex<()> = Mutex::new(());

/// The service, with a laboratory of two upstreams as its host.
struct Service {
    // In the order in which they go.
    world: World,
    _alone: MutexGuard<'static, ()>,
}

impl Service {
    fn start() -> Option<Self> {
        if !has_service_manager() {
            return None;
        }
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut world = World::new(2)?;
        world.traffic(0, 0..20, Load::STEADY);
        world.traffic(1, 0..20, Load::STEADY);
        it_works(install(&world).map_err(Into::into));
        let service = Self {
            world,
            _alone: alone,
        };
        systemctl(&["daemon-reload"]);
        systemctl(&["reset-failed"]);
        systemctl(&["start", "tcpstall"]);
        service.until(START, "every upstream is ok", |status| {
            status.state_of("provider-a") == "ok" && status.state_of("provider-b") == "ok"
        });
        Some(service)
    }

    fn status(&self) -> Option<Status> {
        let answer = http::get_unix(Path::new(SOCKET), "/v1/status").ok()?;
        serde_json::from_str(&answer.body).ok()
    }

    #[track_caller]
    fn until(&self, limit: Duration, what: &str, holds: impl Fn(&Status) -> bool) {
        let end = Instant::now() + limit;
        loop {
            let status = self.status();
            if status.as_ref().is_some_and(&holds) {
                return;
            }
            assert!(
                Instant::now() < end,
                "{what}: not within {limit:?}: {:?}; {}",
                status.map(|status| status.summary()),
                shown()
            );
            thread::sleep(Duration::from_millis(100));
        }
    }

    #[track_caller]
    fn provider_b_is_blamed(&self) {
        self.world.break_(1, Fault::Blackhole(Direction::Both));
        self.until(SOON, "provider-b is failing", |status| {
            status.is_failing("provider-b", "blackhole")
        });
    }

    /// Ids of the incidents that go on.
    fn incidents(&self) -> Vec<String> {
        let listed = self.cli(&["incidents", "-o", "json"]).stdout;
        let listed = serde_json::from_slice::<Vec<serde_json::Value>>(&listed);
        let listed = it_works(listed.map_err(Into::into));
        let open = listed.iter().filter(|it| it["ended_at"].is_null());
        open.map(|it| it["id"].to_string()).collect()
    }

    fn cli(&self, arguments: &[&str]) -> Output {
        it_works(daemon::run(&self.world.lab.host, arguments))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = Command::new("systemctl")
            .args(["stop", "tcpstall-hooks", "tcpstall"])
            .status();
    }
}

/// As a package does, and with what the laboratory wants otherwise.
fn install(world: &World) -> std::io::Result<()> {
    let extra = Path::new(UNITS).join("tcpstall.service.d");
    fs::create_dir_all(&extra)?;
    fs::create_dir_all("/etc/tcpstall")?;
    fs::create_dir_all("/usr/bin")?;
    fs::copy(it_works(daemon::binary()), "/usr/bin/tcpstall")?;
    fs::write(Path::new(UNITS).join("tcpstall.service"), UNIT)?;
    let config = daemon::config(&world.lab, &Options::default());
    fs::write("/etc/tcpstall/tcpstall.toml", config)?;
    fs::write(
        extra.join("laboratory.conf"),
        format!(
            "[Service]\nNetworkNamespacePath=/run/netns/{}\nWatchdogSec={}s\n\
             StandardOutput=append:/run/tcpstall.log\nStandardError=append:/run/tcpstall.log\n",
            world.lab.host.name(),
            WATCHDOG.as_secs(),
        ),
    )
}

#[track_caller]
fn systemctl(arguments: &[&str]) {
    let done = it_works(
        Command::new("systemctl")
            .args(arguments)
            .output()
            .map_err(Into::into),
    );
    assert!(
        done.status.success(),
        "systemctl {arguments:?}: {}; {}",
        String::from_utf8_lossy(&done.stderr),
        shown()
    );
}

/// A property of the service.
fn property(name: &str) -> String {
    let shown = Command::new("systemctl")
        .args(["show", "--value", "--property", name, "tcpstall"])
        .output();
    let shown = it_works(shown.map_err(Into::into)).stdout;
    String::from_utf8_lossy(&shown).trim().to_owned()
}

/// What the service has said, and what the manager knows of it.
fn shown() -> String {
    let log = fs::read_to_string("/run/tcpstall.log").unwrap_or_default();
    let lines: Vec<_> = log.lines().collect();
    let last = lines[lines.len().saturating_sub(15)..].join("\n");
    format!(
        "{} {} {}\n{last}",
        property("ActiveState"),
        property("Result"),
        property("StatusText")
    )
}

#[track_caller]
fn until_property(name: &str, value: &str, limit: Duration) {
    let end = Instant::now() + limit;
    while property(name) != value {
        assert!(
            Instant::now() < end,
            "{name} is {} and not {value}; {}",
            property(name),
            shown()
        );
        thread::sleep(Duration::from_millis(200));
    }
}

/// Features that are said to be there, or said not to be.
fn features(page: &str, value: &str) -> Vec<String> {
    let named = page.lines().filter_map(|line| {
        let (name, is) = line
            .strip_prefix("tcpstall_kernel_feature{feature=\"")?
            .split_once("\"} ")?;
        (is == value).then(|| name.to_owned())
    });
    named.collect()
}

#[test]
fn the_unit_lacks_nothing_of_what_root_has() {
    let Some(service) = Service::start() else {
        return;
    };
    let host = &service.world.lab.host;
    assert_eq!(property("ActiveState"), "active");
    let page = it_works(host.run(|| http::get_local(METRICS_PORT, "/metrics")));
    let page = it_works(page).body;
    let by_unit = features(&page, "0");
    assert!(!features(&page, "1").is_empty(), "{page}");
    // Beside it, one that root has started.
    let as_root = Options {
        metrics_port: Some(METRICS_PORT + 1),
        ..Options::default()
    };
    let by_root = it_works(daemon::Daemon::start_with(&service.world.lab, &as_root));
    let page = it_works(by_root.metrics());
    assert_eq!(by_unit, features(&page, "0"));
    it_works(by_root.stop());

    service.provider_b_is_blamed();
    let end = Instant::now() + SOON;
    loop {
        let stalls = service.cli(&["stalls", "-o", "json"]).stdout;
        let stalls = it_works(serde_json::from_slice::<Vec<Stall>>(&stalls).map_err(Into::into));
        if stalls.iter().any(|stall| stall.process.is_some()) {
            break;
        }
        assert!(Instant::now() < end, "who holds them is not told");
        thread::sleep(Duration::from_millis(200));
    }
    // It is told with a sweep, and an emulated machine takes its time for one.
    let end = Instant::now() + SOON;
    loop {
        let told = property("StatusText");
        if told.contains("provider-b is failing") {
            break;
        }
        assert!(Instant::now() < end, "{told}");
        thread::sleep(Duration::from_millis(200));
    }
    assert!(Path::new("/var/lib/tcpstall/incidents.jsonl").exists());
    systemctl(&["reload", "tcpstall"]);
    service.world.repair(1);
    service.until(RECOVERY, "provider-b is ok again", |status| {
        status.state_of("provider-b") == "ok"
    });
    systemctl(&["stop", "tcpstall"]);
    assert_eq!(property("ActiveState"), "inactive");
    assert_eq!(property("Result"), "success");
    assert!(!Path::new(SOCKET).exists());
}

#[test]
fn one_that_hangs_or_is_killed_is_started_again_and_knows_what_went_on() {
    let Some(service) = Service::start() else {
        return;
    };
    let main = || property("MainPID");
    let kill = |signal: &str| {
        systemctl(&["kill", "--kill-whom=main", "--signal", signal, "tcpstall"]);
    };
    // One that works is left alone.
    let end = Instant::now() + 2 * WATCHDOG;
    while Instant::now() < end {
        assert!(service.status().is_some_and(|status| all_quiet(&status)));
        thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(property("NRestarts"), "0");
    service.provider_b_is_blamed();
    let (before, known) = (main(), service.incidents());
    assert_eq!(known.len(), 1, "{known:?}");

    for (count, signal) in [("1", "SIGSTOP"), ("2", "SIGKILL")] {
        kill(signal);
        until_property("NRestarts", count, 3 * WATCHDOG);
        until_property("ActiveState", "active", START);
        service.until(SOON, "it is blamed again", |status| {
            status.is_failing("provider-b", "blackhole")
        });
        assert_eq!(service.incidents(), known, "the same one goes on");
    }
    assert_ne!(main(), before);
}

/// The daemon may do next to nothing, and what it is told of is done all the same.
#[test]
fn hooks_run_in_a_unit_of_their_own_and_may_do_what_root_may() {
    let Some(service) = Service::start() else {
        return;
    };
    let units = Path::new(UNITS);
    let extra = units.join("tcpstall-hooks.service.d");
    let write = |path: &Path, text: &str| it_works(fs::write(path, text).map_err(Into::into));
    it_works(fs::create_dir_all(&extra).map_err(Into::into));
    write(&units.join("tcpstall-hooks.service"), HOOKS);
    let fence = format!(
        "[Service]\nNetworkNamespacePath=/run/netns/{}\n",
        service.world.lab.host.name()
    );
    write(&extra.join("laboratory.conf"), &fence);
    let script = "cat /proc/self/cgroup > /run/told; ip link add $TCPSTALL_GATE type dummy";
    let options = Options {
        config: format!(
            "[[hook]]\nname = \"link\"\non = \"gate\"\nupstreams = [\"provider-b\"]\n\
             command = [\"/bin/sh\", \"-c\", {script:?}]\n"
        ),
        ..Options::default()
    };
    let config = daemon::config(&service.world.lab, &options);
    write(Path::new("/etc/tcpstall/tcpstall.toml"), &config);
    systemctl(&["daemon-reload"]);
    systemctl(&["reload", "tcpstall"]);
    systemctl(&["start", "tcpstall-hooks"]);
    service.provider_b_is_blamed();
    let host = &service.world.lab.host;
    let end = Instant::now() + SOON;
    for name in ["open", "closed"] {
        while !it_works(host.output("ip", &["link", "show", name]))
            .status
            .success()
        {
            assert!(Instant::now() < end, "{name}: {}", shown());
            thread::sleep(Duration::from_millis(200));
        }
    }
    let told = fs::read_to_string("/run/told").unwrap_or_default();
    assert!(told.contains("/tcpstall-hooks.service"), "{told}");
    systemctl(&["reload", "tcpstall-hooks"]);
    systemctl(&["stop", "tcpstall-hooks"]);
}

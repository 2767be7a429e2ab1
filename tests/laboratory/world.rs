//! A laboratory as the tests speak of it: every method panics with what it saw.

use std::{
    cell::Cell,
    env,
    io::Write,
    path::Path,
    sync::{Condvar, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, Instant},
};

use anyhow::Result;
use lab::{
    Daemon, Distance, Fault, Lab, Load, Options, Partial, Plan, Traffic,
    daemon::emulated,
    status::{Stall, Status},
};

/// Says that the machine was made for the laboratory.
pub(crate) const MACHINE: &str = "TCPSTALL_LAB_MACHINE";
/// Says that the long tests are wanted in full.
const ALL: &str = "TCPSTALL_LAB_ALL";
/// Limit for what takes two or three seconds on a machine that has nothing else to do.
pub(crate) const SOON: Duration = Duration::from_secs(10);
/// Limit for the first verdict after a start.
pub(crate) const START: Duration = Duration::from_secs(15);
/// From a repair to `ok`, at most, when it was broken for seconds.
pub(crate) const RECOVERY: Duration = Duration::from_secs(15);
/// The same beyond the time for which it was broken: timers that have backed off may need as long again.
const BEYOND: Duration = Duration::from_secs(8);

/// A laboratory with a detector and traffic.
pub(crate) struct World {
    // In the order in which they go.
    daemon: Option<Daemon>,
    traffic: Vec<Traffic>,
    /// Since when something is broken.
    broken_at: Cell<Option<Instant>>,
    pub(crate) lab: Lab,
    /// `None` for one that stands beside another.
    _turn: Option<Turn>,
}

impl World {
    /// A bare laboratory; `None` without root, and then the test ends (or fails, if required).
    #[track_caller]
    pub(crate) fn new(upstreams: usize) -> Option<Self> {
        Self::with(upstreams, Turn::wait)
    }

    /// The same while there is no other: it needs all that a process may have.
    #[track_caller]
    pub(crate) fn alone(upstreams: usize) -> Option<Self> {
        Self::with(upstreams, Turn::wait_for_all)
    }

    #[track_caller]
    fn with(upstreams: usize, turn: impl FnOnce() -> Turn) -> Option<Self> {
        if !root() {
            return None;
        }
        let turn = turn();
        let lab = it_works(Lab::start(upstreams));
        Some(Self {
            daemon: None,
            traffic: Vec::new(),
            broken_at: Cell::new(None),
            lab,
            _turn: Some(turn),
        })
    }

    /// Another bare laboratory, on the turn of this one.
    #[track_caller]
    pub(crate) fn beside(&self, upstreams: usize) -> Self {
        Self {
            daemon: None,
            traffic: Vec::new(),
            broken_at: Cell::new(None),
            lab: it_works(Lab::start(upstreams)),
            _turn: None,
        }
    }

    /// Three upstreams, each with traffic to 20 destinations, all of them `ok`.
    #[track_caller]
    pub(crate) fn healthy() -> Option<Self> {
        let mut world = Self::new(3)?;
        for upstream in 0..3 {
            world.traffic(upstream, 0..20, Load::STEADY);
        }
        world.watch();
        world.all_ok();
        Some(world)
    }

    /// A bare laboratory whose internet is that far away; `None` also when this kernel cannot
    /// emulate that.
    #[track_caller]
    pub(crate) fn far(upstreams: usize, distance: Distance) -> Option<Self> {
        let world = Self::new(upstreams)?;
        if it_works(world.lab.move_away(distance)) {
            return Some(world);
        }
        skip("a kernel with netem", MACHINE);
        None
    }

    /// Adds traffic and gives its place for [`World::counters`].
    #[track_caller]
    pub(crate) fn traffic(
        &mut self,
        upstream: usize,
        to: std::ops::Range<u8>,
        load: Load,
    ) -> usize {
        let traffic = it_works(self.lab.traffic(upstream, to, load));
        self.traffic.push(traffic);
        self.traffic.len() - 1
    }

    /// Keeps traffic of somebody else until the end.
    pub(crate) fn adopt(&mut self, traffic: Traffic) {
        self.traffic.push(traffic);
    }

    /// Adds traffic by plan.
    #[track_caller]
    pub(crate) fn plan(&mut self, plan: &Plan) -> usize {
        let traffic = it_works(Traffic::start(&self.lab.host, plan));
        self.traffic.push(traffic);
        self.traffic.len() - 1
    }

    /// Hangs up some traffic; what came after it is one place further in front.
    pub(crate) fn hang_up_one(&mut self, traffic: usize) {
        self.traffic.remove(traffic);
    }

    /// Hangs up: all connections are closed.
    pub(crate) fn hang_up(&mut self) {
        self.traffic.clear();
    }

    /// What has become of some traffic.
    pub(crate) fn counters(&self, traffic: usize) -> &lab::traffic::Counters {
        &self.traffic[traffic].counters
    }

    /// Starts the detector.
    #[track_caller]
    pub(crate) fn watch(&mut self) {
        self.watch_with(&Options::default());
    }

    /// Starts the detector in some way.
    #[track_caller]
    pub(crate) fn watch_with(&mut self, options: &Options) {
        self.daemon = Some(it_works(Daemon::start_with(&self.lab, options)));
    }

    /// The running detector.
    #[track_caller]
    pub(crate) fn daemon(&self) -> &Daemon {
        self.daemon
            .as_ref()
            .expect("the test has started the detector")
    }

    /// Takes the detector, to stop it.
    #[track_caller]
    pub(crate) fn take_daemon(&mut self) -> Daemon {
        self.daemon
            .take()
            .expect("the test has started the detector")
    }

    /// Breaks an upstream.
    #[track_caller]
    pub(crate) fn break_(&self, upstream: usize, fault: Fault) {
        it_works(self.lab.break_(upstream, fault));
        let since = self.broken_at.get().unwrap_or_else(Instant::now);
        self.broken_at.set(Some(since));
    }

    /// Breaks a part of an upstream, on top of what is broken already.
    #[track_caller]
    pub(crate) fn also_break(&self, upstream: usize, partial: Partial) {
        it_works(self.lab.also_break(upstream, partial));
    }

    /// Repairs an upstream.
    #[track_caller]
    pub(crate) fn repair(&self, upstream: usize) {
        it_works(self.lab.repair(upstream));
        self.broken_at.set(None);
    }

    /// Waits for something.
    #[track_caller]
    pub(crate) fn until(
        &self,
        limit: Duration,
        what: &str,
        holds: impl Fn(&Status) -> bool,
    ) -> Status {
        it_works(self.daemon().wait_until(limit, what, holds))
    }

    /// Something stays as it is.
    #[track_caller]
    pub(crate) fn hold(&self, time: Duration, what: &str, holds: impl Fn(&Status) -> bool) {
        it_works(self.daemon().hold(time, what, holds));
    }

    /// Waits until something holds of the traffic.
    #[track_caller]
    pub(crate) fn until_traffic(&self, limit: Duration, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = std::time::Instant::now() + limit;
        while !holds(self) {
            assert!(
                std::time::Instant::now() < end,
                "{what}: not within {limit:?}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until every upstream is `ok`.
    #[track_caller]
    pub(crate) fn all_ok(&self) -> Status {
        let names: Vec<_> = self
            .lab
            .upstreams
            .iter()
            .map(|upstream| upstream.name)
            .collect();
        self.until(START, "every upstream is ok", |status| {
            names.iter().all(|name| status.state_of(name) == "ok")
        })
    }

    /// Waits until an upstream is `failing` for that cause; until then no other upstream is said to
    /// be anything but fine.
    #[track_caller]
    pub(crate) fn is_blamed(&self, upstream: usize, cause: &str) -> Status {
        let name = self.lab.upstreams[upstream].name;
        let status = self.until(SOON, &format!("{name} is failing for {cause}"), |status| {
            others_are_fine(status, name);
            status.is_failing(name, cause)
        });
        assert_eq!(
            status.state, "failing",
            "the whole is as bad as its worst part"
        );
        status
    }

    /// Waits until an upstream is `ok` again.
    #[track_caller]
    pub(crate) fn recovers(&self, upstream: usize) -> Status {
        let broken = self.broken_at.get().map(|at| at.elapsed());
        self.repair(upstream);
        let limit = RECOVERY.max(broken.unwrap_or_default() + BEYOND);
        let name = self.lab.upstreams[upstream].name;
        self.until(limit, &format!("{name} is ok again"), |status| {
            others_are_fine(status, name);
            status.state_of(name) == "ok"
        })
    }

    /// Stalled and suspect connections.
    #[track_caller]
    pub(crate) fn stalls(&self, filters: &[&str]) -> Vec<Stall> {
        it_works(self.daemon().stalls(filters))
    }
}

/// Nobody but `name` is blamed.
#[track_caller]
pub(crate) fn others_are_fine(status: &Status, name: &str) {
    for other in &status.upstreams {
        assert!(
            other.name == name || matches!(other.state.as_str(), "ok" | "idle"),
            "{} is blamed for what {name} does: {}",
            other.name,
            status.summary()
        );
    }
}

/// Nobody is blamed.
pub(crate) fn all_quiet(status: &Status) -> bool {
    status
        .upstreams
        .iter()
        .all(|it| matches!(it.state.as_str(), "ok" | "idle"))
}

/// Whether this is root; without, the test ends (or fails, if it is required).
#[track_caller]
pub(crate) fn root() -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    skip("root", "TCPSTALL_LAB_REQUIRED");
    false
}

/// Whether the machine was made for the laboratory; else the test ends.
#[track_caller]
pub(crate) fn own_machine() -> bool {
    let own = emulated();
    if !own {
        skip("a machine of its own (`cargo xtask test-vm`)", MACHINE);
    }
    own
}

/// Whether a service manager runs on a machine that was made for the laboratory; else the test ends.
#[track_caller]
pub(crate) fn has_service_manager() -> bool {
    if !Path::new("/run/systemd/system").is_dir() {
        skip(
            "a machine of its own with systemd (`cargo xtask test-vm --way systemd`)",
            MACHINE,
        );
        return false;
    }
    own_machine()
}

/// Whether the long tests are wanted in full.
pub(crate) fn in_full() -> bool {
    env::var_os(ALL).is_some_and(|value| value == "1")
}

/// Whether this kernel has what was to be made; else the test ends.
#[track_caller]
pub(crate) fn kernel_has(what: &str, made: &Result<()>) -> bool {
    if made.is_err() {
        skip(&format!("a kernel with {what}"), MACHINE);
    }
    made.is_ok()
}

/// Says that a test is skipped for lack of something, or fails when that is required.
#[track_caller]
pub(crate) fn skip(lacking: &str, requirement: &str) {
    let required = env::var_os(requirement).is_some_and(|value| value == "1");
    assert!(!required, "needs {lacking}, and {requirement}=1");
    // Past the capture of the test's output: a skip must not look like a pass.
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    let _ = writeln!(std::io::stderr(), "SKIPPED: needs {lacking}: {test}");
}

/// The value, or a panic with the whole chain of reasons.
#[track_caller]
pub(crate) fn it_works<T>(result: Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error:#}"),
    }
}

/// The right to have a laboratory: the machine carries only so many at once.
pub(crate) struct Turn {
    _company: Company,
}

/// Whether others may have a laboratory too.
enum Company {
    Others(#[expect(dead_code, reason = "held")] RwLockReadGuard<'static, ()>),
    Nobody(#[expect(dead_code, reason = "held")] RwLockWriteGuard<'static, ()>),
}

static FREE: Mutex<Option<usize>> = Mutex::new(None);
static RETURNED: Condvar = Condvar::new();
static COMPANY: RwLock<()> = RwLock::new(());

impl Turn {
    pub(crate) fn wait() -> Self {
        let company = COMPANY.read().unwrap_or_else(PoisonError::into_inner);
        Self::take(Company::Others(company))
    }

    fn wait_for_all() -> Self {
        let company = COMPANY.write().unwrap_or_else(PoisonError::into_inner);
        Self::take(Company::Nobody(company))
    }

    fn take(company: Company) -> Self {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = env::var("TCPSTALL_LAB_PARALLEL")
            .ok()
            .and_then(|value| value.parse().ok());
        free.get_or_insert(wanted.unwrap_or(3).max(1));
        let mut free = RETURNED
            .wait_while(free, |free| *free == Some(0))
            .unwrap_or_else(PoisonError::into_inner);
        *free = free.map(|count| count - 1);
        Self { _company: company }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        *free = free.map(|count| count + 1);
        RETURNED.notify_one();
    }
}

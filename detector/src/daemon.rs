//! The loop: wait, feed the engine, publish what it says. Decides nothing.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use aya::maps::{MapData, RingBuf};
use jiff::Timestamp;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{broadcast, watch},
    task::{JoinError, JoinHandle},
};

use crate::{
    clock,
    config::{Config, Source},
    engine::{self, Attention, Engine},
    model::{ConnectionId, Input, Retries, State, Transition},
    sense::{
        Check, Sensor, decode,
        descriptors::{self, Walked},
        owners::{self, Owner},
        programs, retries,
        sweep::Cost,
        topology::{PATIENCE, Topology},
    },
    serve::{self, Board, Facts, Hooks, Kills, Published, Recordings, json, metrics::Metrics},
    state_dir, sys,
    time::Time,
};

mod baselines;
mod elsewhere;
mod gates;
mod holders;
mod incidents;
mod manager;
mod notice;
mod pace;
mod rights;
mod routes;
mod sensors;
mod stakes;
mod suspend;

use baselines::Baselines;
use elsewhere::Elsewhere;
use gates::Gates;
use holders::Owners;
use incidents::Incidents;
use manager::Manager;
use routes::Lookups;
use sensors::{Events, Read, Sensors};
use stakes::Stakes;
use suspend::Suspend;

/// Events of which subscribers may be behind.
const EVENTS_KEPT: usize = 256;
/// Between two snapshots while nothing changes.
const PUBLISH_EVERY: Duration = Duration::from_millis(500);
/// After a sweep that failed.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// Between two times that memory is given back while no upstream is bad.
const TIDY_EVERY: Duration = Duration::from_secs(60);
/// Events that are taken in before the others get a turn.
const EVENTS_AT_ONCE: usize = 4096;

/// Runs until it is told to stop (SIGTERM, SIGINT). Leaves no program, map or socket file behind.
///
/// # Errors
/// What keeps it from starting, and what to do.
pub fn run(config: Config, source: &Source, sensor: Sensor) -> anyhow::Result<()> {
    sys::keep_no_memory();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(start(config, source, sensor));
    // A walk that is still being read must not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn start(config: Config, source: &Source, sensor: Sensor) -> anyhow::Result<()> {
    let started_at = clock::wall();
    // Before anything is left behind that an early end would have to clean up.
    let mut signals = Signals::listen()?;
    // First what another daemon may hold: nothing is loaded in vain.
    let socket = serve::bind_socket(&config.socket)?;
    let listener = serve::bind_metrics(config.metrics_address).await?;
    let metrics_address = listener.local_addr()?;

    let hz = clock::jiffies_per_second();
    let opened = sensors::open(sensor, hz, &config.state_dir)?;
    let folders = [Some(config.state_dir.as_path()), config.socket.parent()];
    let folders: Vec<_> = folders.into_iter().flatten().collect();
    if let Err(error) = state_dir::make(&config.state_dir) {
        // Said again, and tried again, by whoever writes there.
        tracing::debug!("{}: {error}", config.state_dir.display());
    }
    let given_up = rights::give_up(&folders, opened.sensors.have_events())?;
    let (incidents, shown) = Incidents::open(&config.state_dir);
    let gates = Gates::open(&config.socket, &config.gates, clock::now());
    let (topology, interfaces) = Topology::open(opened.netns).await?;

    let (latest, board) = watch::channel(None);
    let board = Board {
        latest: board,
        incidents: shown,
        events: broadcast::Sender::new(EVENTS_KEPT),
        metrics: Arc::new(Metrics::new()?),
        recordings: Recordings::new(host_name(), programs::release(), (&config).into()),
        kills: Kills::default(),
        hooks: Hooks::default(),
    };
    board.hooks.configure(&config);
    board.metrics.hooks(&config);
    let mut daemon = Daemon {
        engine: Engine::new(settings(&config), clock::now()),
        budget: config.detect.sweep_budget,
        config,
        hz,
        board: board.clone(),
        latest,
        elsewhere: Elsewhere::new(
            opened.netns,
            opened.sensors.see_others(),
            opened.sensors.lack_routes(),
        ),
        lookups: Lookups::default(),
        sensors: opened.sensors,
        cost: None,
        swept_at: clock::now(),
        owners: Owners::default(),
        stakes: Stakes::default(),
        started_at,
        metrics_address,
        retries: retries::read(hz),
        checks: [opened.checks, given_up].concat(),
        reload: (true, started_at),
        host_name: host_name(),
        published_at: clock::now(),
        searchless: false,
        suspend: Suspend::new(clock::asleep()),
        incidents,
        gates,
        baselines: Baselines::default(),
        manager: Manager::start()?,
        troubled: false,
        tidied_at: clock::now(),
    };
    daemon.baselines = Baselines::load(&daemon.config.state_dir, &mut daemon.engine, clock::now());
    for input in interfaces {
        daemon.feed(input);
    }
    let api = async {
        tokio::join!(
            serve::serve_socket(&socket, board.clone()),
            serve::serve_metrics(&listener, board.clone())
        )
    };
    let result = tokio::select! {
        result = daemon.turn(opened.events, topology, source, &mut signals) => result,
        _ = api => Ok(()),
    };
    let learned = daemon.baselines.news(&daemon.engine);
    daemon.incidents.close(learned);
    result
}

/// What the daemon is told by others; from here on they do not end it on the spot.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

/// Everything that the loop holds.
struct Daemon {
    engine: Engine,
    config: Config,
    budget: f64,
    hz: u64,
    board: Board,
    latest: watch::Sender<Option<Arc<Published>>>,
    sensors: Sensors,
    cost: Option<Cost>,
    swept_at: Time,
    owners: Owners,
    stakes: Stakes,
    elsewhere: Elsewhere,
    lookups: Lookups,
    started_at: Timestamp,
    metrics_address: SocketAddr,
    retries: Retries,
    checks: Vec<Check>,
    reload: (bool, Timestamp),
    host_name: String,
    published_at: Time,
    /// Holders could not be looked for, and that was said.
    searchless: bool,
    suspend: Suspend,
    incidents: Incidents,
    gates: Gates,
    baselines: Baselines,
    manager: Manager,
    /// An upstream was bad when it was last looked.
    troubled: bool,
    tidied_at: Time,
}

/// What the thread that looks for holders brings back.
type Found = anyhow::Result<BTreeMap<u64, Owner>>;

impl Daemon {
    async fn turn(
        &mut self,
        mut events: Events,
        mut topology: Topology,
        source: &Source,
        signals: &mut Signals,
    ) -> anyhow::Result<()> {
        let mut walk: Option<JoinHandle<Read>> = Some(self.begin_sweep()?);
        let mut search: Option<JoinHandle<Found>> = None;
        let mut count: Option<JoinHandle<anyhow::Result<Walked>>> = None;
        loop {
            let wake = self.next_wake(walk.is_some());
            tokio::select! {
                guard = events.readable() => {
                    let mut guard = guard?;
                    if self.take_events(guard.get_inner_mut()) {
                        guard.clear_ready();
                    }
                }
                read = finished(&mut walk) => {
                    walk = None;
                    self.end_sweep(read?, &mut topology).await;
                    if search.is_none() {
                        search = self.begin_search();
                    }
                    if count.is_none() {
                        count = self.begin_count();
                    }
                }
                counted = finished(&mut count) => {
                    count = None;
                    self.end_count(counted?);
                }
                found = finished(&mut search) => {
                    search = None;
                    self.end_search(found?);
                }
                inputs = topology.next() => {
                    let inputs = inputs.context("netlink has ended; restart the daemon")?;
                    if topology.take_rerouted() {
                        self.elsewhere.rerouted();
                    }
                    inputs.into_iter().for_each(|input| self.feed(input));
                    self.incidents.routes(clock::now(), topology.take_route_changes());
                    self.incidents.moved(clock::now(), &topology.take_moved());
                }
                () = tokio::time::sleep(wake) => {
                    self.feed(Input::Tick);
                    if walk.is_none() && clock::now() >= self.due() {
                        walk = Some(self.begin_sweep()?);
                    }
                }
                _ = signals.hangup.recv() => self.reload(source),
                _ = signals.terminate.recv() => break,
                _ = signals.interrupt.recv() => break,
            }
        }
        tracing::info!("stopping");
        self.manager.stopping();
        Ok(())
    }

    /// Takes in what the ring holds; `true` when it is empty.
    fn take_events(&mut self, ring: &mut RingBuf<MapData>) -> bool {
        for _ in 0..EVENTS_AT_ONCE {
            let Some(record) = ring.next() else {
                return true;
            };
            let input = decode::event(&record, self.hz);
            drop(record);
            match input {
                Ok(Input::Timeout(sample)) => {
                    if let Some(sample) = self.elsewhere.place(sample) {
                        self.feed(Input::Timeout(sample));
                    }
                }
                Ok(input) => self.feed(input),
                Err(error) => tracing::warn!("an event is dropped: {error}"),
            }
        }
        false
    }

    fn feed(&mut self, input: Input) {
        // Before anything that was seen after the sleep.
        if let Some(slept) = self.suspend.news(clock::asleep()) {
            tracing::info!("the host was suspended for {} s", slept.as_secs());
            self.feed(Input::Suspended(slept));
        }
        // Before anything that tells of their end.
        if matches!(input, Input::Closed(_) | Input::Sweep(_)) {
            let killed = self.board.kills.take();
            if !killed.is_empty() {
                self.feed(Input::Killed(killed));
            }
        }
        let now = clock::now();
        let swept = matches!(input, Input::Sweep(_));
        self.incidents.notice(now, &input);
        let recordings = &self.board.recordings;
        recordings.tell(now, &input, || self.engine.learned());
        let transitions = self.engine.handle(now, input);
        for transition in &transitions {
            self.tell(transition);
        }
        // With thousands of stalls a snapshot is work: what has changed is shown at once, what has
        // only grown older from time to time.
        let judged = self.engine.judged_at() > self.published_at;
        let due = now.since(self.published_at) >= PUBLISH_EVERY;
        let changed = transitions
            .iter()
            .any(|it| matches!(it, Transition::Upstream { .. }));
        if judged && (swept || due || changed) {
            self.publish(now);
        }
    }

    fn tell(&self, transition: &Transition) {
        self.board.metrics.observe(transition);
        let Some(event) = json::event(transition, clock::wall()) else {
            return;
        };
        match event.to {
            State::Failing | State::Degraded => tracing::warn!("{}", event.message),
            State::Ok | State::Idle => tracing::info!("{}", event.message),
        }
        // Nobody listens: nothing is lost.
        let _ = self.board.events.send(event);
    }

    fn publish(&mut self, now: Time) {
        self.published_at = now;
        let snapshot = self.engine.snapshot(now);
        let lost = self.sensors.lost();
        self.board.metrics.events_lost(lost);
        let owners = snapshot
            .stalls
            .iter()
            .filter_map(|stall| Some((stall.sample.id, self.owners.of(stall.sample.inode?)?)))
            .collect::<BTreeMap<ConnectionId, serve::Owner>>();
        let facts = Facts {
            host: self.host_name.clone(),
            version: serve::VERSION.to_owned(),
            kernel: programs::release(),
            pid: std::process::id(),
            started_at: self.started_at,
            wall: clock::wall(),
            sweep_seconds: self.cost.map(|cost| cost.wall.as_secs_f64()),
            sweep_interval: self.interval(),
            events_lost: lost,
            metrics_address: Some(self.metrics_address),
            owners,
            stakes: self.stakes.known(now),
            retries: self.retries,
            checks: self.checks.clone(),
            reload: Some(self.reload),
            gates: self.gates.judged(&snapshot),
            hooks_are_run: self.board.hooks.are_run(now),
        };
        let published = Published { snapshot, facts };
        self.incidents.judged(&published, &self.board.metrics);
        self.latest.send_replace(Some(Arc::new(published)));
        if let Some(learned) = self.baselines.due(&self.engine, now) {
            self.incidents.keep_learned(learned);
        }
    }

    fn interval(&self) -> Duration {
        let own = self.cost.map_or(Duration::ZERO, |cost| cost.own);
        let now = clock::now();
        let cpu = own + self.elsewhere.extra(now);
        let attention = if self.elsewhere.calls(now) {
            Attention::Now
        } else {
            self.engine.attention(now)
        };
        pace::interval(attention, cpu, self.budget, self.sensors.have_events())
    }

    /// When the next walk should begin.
    fn due(&self) -> Time {
        self.swept_at.after(self.interval())
    }

    fn next_wake(&self, walking: bool) -> Duration {
        let now = clock::now();
        let walk = (!walking).then(|| self.due());
        let wake = [walk, self.engine.deadline()].into_iter().flatten().min();
        wake.map_or(Duration::from_secs(1), |time| time.since(now))
    }

    fn begin_sweep(&mut self) -> anyhow::Result<JoinHandle<Read>> {
        let others = self.elsewhere.look(clock::now(), self.budget);
        self.sensors.begin_sweep(others)
    }

    /// Looks for the holders of connections in trouble, on a thread of its own: there can be many
    /// processes, and the verdict must not wait for them.
    fn begin_search(&mut self) -> Option<JoinHandle<Found>> {
        let wanted = self.owners.wanted(&self.engine, clock::now());
        if wanted.is_empty() {
            return None;
        }
        let walk = self.sensors.open_holders(&wanted)?;
        Some(tokio::task::spawn_blocking(move || owners::read(walk?)))
    }

    /// Takes in who holds the connections in trouble.
    fn end_search(&mut self, found: Found) {
        match found {
            Ok(found) => self.owners.take(found),
            Err(error) => {
                self.owners.give_up();
                if !std::mem::replace(&mut self.searchless, true) {
                    tracing::warn!("the processes that hold connections are not known: {error:#}");
                }
            }
        }
        self.publish(clock::now());
    }

    /// Looks at what the processes that hold connections in trouble have left, on a thread of its own.
    fn begin_count(&mut self) -> Option<JoinHandle<anyhow::Result<Walked>>> {
        let holders = self.owners.pids();
        let wanted = self.stakes.wanted(holders, clock::now(), self.budget);
        if wanted.is_empty() {
            return None;
        }
        let groups = self.owners.groups();
        let walk = self.sensors.open_descriptors(&wanted)?;
        Some(tokio::task::spawn_blocking(move || {
            descriptors::read(walk?, wanted, groups)
        }))
    }

    /// Takes in what was counted. Without it nothing is foretold; `doctor` says why.
    fn end_count(&mut self, walked: anyhow::Result<Walked>) {
        let counted = walked.and_then(|walked| Ok((self.sensors.descriptors()?, walked)));
        match counted {
            Ok((open, walked)) => {
                let counted = walked.pids.iter().copied();
                let gone = counted.filter(|pid| !open.contains_key(pid)).collect();
                self.owners.forget(&gone);
                self.stakes.take(&open, &walked, clock::now());
            }
            Err(error) => tracing::debug!("descriptors are not counted: {error:#}"),
        }
    }

    async fn end_sweep(&mut self, (reader, read): Read, topology: &mut Topology) {
        self.sensors.end_sweep(reader);
        self.swept_at = clock::now();
        match read {
            Ok((seen, cost)) => {
                self.cost = Some(cost);
                if let Some(others) = cost.others {
                    self.elsewhere.looked(others);
                }
                self.board.metrics.sweep(cost.wall);
                let looked = tokio::time::timeout(PATIENCE, self.look_around(topology)).await;
                let asked = self.elsewhere.ask(topology, &seen);
                let asked = tokio::time::timeout(PATIENCE, asked).await;
                let sweep = self.elsewhere.place_all(seen);
                self.feed(Input::Sweep(sweep));
                let answers = self.look_up_routes(topology).await;
                if looked.is_err() || asked.is_err() || !answers {
                    tracing::warn!("netlink does not answer; going on without");
                }
                let published = self.latest.borrow().clone();
                if let Some(published) = published
                    && self.manager.alive(&published.snapshot, self.swept_at)
                {
                    self.announce();
                }
                self.tidy_up();
            }
            Err(error) => {
                self.swept_at = self.swept_at.after(AFTER_FAILURE);
                tracing::warn!("a sweep failed, the next one is a new chance: {error:#}");
            }
        }
    }

    /// When no upstream is bad any more, what trouble has taken is given back; and now and then what
    /// has become of the places between what is kept.
    fn tidy_up(&mut self) {
        let troubled = match &*self.latest.borrow() {
            Some(published) => matches!(published.snapshot.state, State::Failing | State::Degraded),
            None => false,
        };
        let over = std::mem::replace(&mut self.troubled, troubled);
        let due = self.swept_at.since(self.tidied_at) >= TIDY_EVERY;
        if !troubled && (over || due) {
            self.tidied_at = self.swept_at;
            sys::give_memory_back();
        }
    }

    /// Asks netlink what the kernel's sockets do not tell of connections in trouble.
    async fn look_around(&mut self, topology: &mut Topology) {
        for input in topology.underlays().await {
            self.feed(input);
        }
        let hops = self.engine.suspected_hops();
        if !hops.is_empty() {
            match topology.neighbours(&hops).await {
                Ok(inputs) => inputs.into_iter().for_each(|input| self.feed(input)),
                Err(error) => tracing::warn!("{error:#}"),
            }
        }
    }

    /// Asks netlink for the next hops that sockets in trouble have forgotten; whether it answers.
    async fn look_up_routes(&mut self, topology: &Topology) -> bool {
        let (lost, end) = self
            .lookups
            .begin(self.engine.without_route(), clock::now());
        let mut answers = true;
        for sample in lost {
            let asked = tokio::time::timeout(PATIENCE, topology.route(&sample)).await;
            answers = asked.is_ok();
            // Without a route now there is nothing to learn; the stall is shown without next hop.
            let found = asked.ok().and_then(Result::ok).flatten();
            self.lookups.asked(sample.id, found.is_some());
            if let Some(input) = found {
                self.feed(input);
            }
            if !answers || clock::now() >= end {
                break;
            }
        }
        self.lookups.end();
        answers
    }

    fn reload(&mut self, source: &Source) {
        self.manager.reloading();
        match source.load() {
            Ok(config) => {
                self.reload = (true, clock::wall());
                let fixed =
                    |it: &Config| (it.socket.clone(), it.metrics_address, it.state_dir.clone());
                if fixed(&config) != fixed(&self.config) {
                    tracing::warn!(
                        "the socket, the metrics address and the state folder change at the next \
                         start"
                    );
                }
                self.budget = config.detect.sweep_budget;
                let now = clock::now();
                self.board.recordings.configure(now, (&config).into());
                self.engine.configure(settings(&config), now);
                self.gates.configure(&config.gates, now);
                self.board.hooks.configure(&config);
                self.board.metrics.hooks(&config);
                self.config = config;
                tracing::info!("configuration reloaded");
            }
            Err(error) => {
                self.reload.0 = false;
                tracing::error!("the old configuration stays in force: {error}");
            }
        }
        self.publish(clock::now());
        self.manager.reloaded();
    }

    fn announce(&self) {
        tracing::info!(
            socket = %self.config.socket.display(),
            metrics = %self.metrics_address,
            upstreams = self.config.upstreams.len(),
            "watching"
        );
        for check in self.checks.iter().filter(|check| !check.ok) {
            tracing::warn!("{}: {}; lost: {}", check.feature, check.found, check.lost);
        }
    }
}

/// Waits for a thread to finish; for ever when there is none.
async fn finished<T>(thread: &mut Option<JoinHandle<T>>) -> Result<T, JoinError> {
    match thread {
        Some(thread) => thread.await,
        None => std::future::pending().await,
    }
}

fn settings(config: &Config) -> engine::Settings {
    engine::Settings {
        stall_after: config.detect.stall_after,
        ignore: config.detect.ignore.clone(),
        rules: config.upstreams.clone(),
    }
}

fn host_name() -> String {
    let uname = rustix::system::uname();
    uname.nodename().to_string_lossy().into_owned()
}

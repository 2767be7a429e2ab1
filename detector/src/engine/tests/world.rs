//! A made-up host: connections, faults on their way, and the sensors that watch them, in virtual
//! time. Nothing else in these tests touches the engine.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::Range,
    time::Duration,
};

use crate::{
    config::Rule,
    engine::{Attention, Engine, Settings, baseline::Baseline},
    model::{
        ConnectionId, Counts, Destination, IfIndex, Input, Interface, NetnsId, NextHop, Origin,
        Reachability, Sample, Snapshot, Stall, State, Sweep, TcpState, Transition, Upstream,
    },
    time::Time,
};

pub(in crate::engine) const NETNS: NetnsId = NetnsId(4_026_531_840);
const MSS: u64 = 1448;
const RTO: Duration = Duration::from_millis(200);
const RTO_MAX: Duration = Duration::from_secs(120);
const EVERY: Duration = Duration::from_millis(250);
const SEND_BUFFER: u64 = 65_536;
/// The host has been up for a day.
const START: Time = Time(86_400 * SECOND);
const SECOND: u64 = 1_000_000_000;
const EBUSY: i32 = 16;

/// What happens to packets on the way to a destination.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// All vanish.
    Hang,
    /// Those with more bytes of data vanish.
    Large(u64),
    /// So many of a hundred vanish.
    Loss(u64),
    /// The gateway does not answer on the link.
    Silent,
    /// They do not leave the host.
    Firewall,
}

#[derive(Debug, Clone)]
struct Conn {
    id: u64,
    upstream: usize,
    destination: u16,
    size: u64,
    every: Duration,
    next_message: Time,
    /// The peer does not read; it offers so much.
    window: Option<u32>,
    una: u64,
    written: u64,
    in_flight: u32,
    segments_out: u32,
    retransmissions: u32,
    sent_at: Time,
    acked_at: Time,
    heard_at: Time,
    received_at: Time,
    timer: Option<Time>,
    timeouts: u8,
    backoff: u8,
    persist: bool,
    probes: u8,
    probed_at: Option<Time>,
    stuck_since: Option<Time>,
    mapped: bool,
    /// Its own path is dead.
    hangs: bool,
}

impl Conn {
    fn segments(&self) -> u32 {
        u32::try_from(self.size.div_ceil(MSS)).unwrap()
    }

    fn largest(&self) -> u64 {
        self.size.min(MSS)
    }

    fn outstanding(&self) -> bool {
        self.written != self.una
    }

    fn looks_wrong(&self) -> bool {
        self.outstanding()
            && (self.timeouts >= 1 || (self.persist && (self.backoff > 0 || self.probes > 0)))
    }

    /// Messages up to `now`; on an open way they arrive at once, else they wait in the buffer.
    fn write(&mut self, now: Time, open: bool) {
        if self.every.is_zero() || self.next_message > now {
            return;
        }
        let every = u64::try_from(self.every.as_nanos()).unwrap();
        let messages = (now.0 - self.next_message.0) / every + 1;
        let last = Time(self.next_message.0 + (messages - 1) * every);
        self.next_message = Time(last.0 + every);
        self.written += messages * self.size;
        if open {
            self.una = self.written;
            self.segments_out += u32::try_from(messages).unwrap() * self.segments();
            (self.sent_at, self.acked_at, self.heard_at) = (last, last, last);
        } else {
            self.written = self.written.min(self.una + SEND_BUFFER);
        }
    }

    /// Everything that waited is acknowledged.
    fn deliver(&mut self, now: Time) {
        let fresh = (self.written - self.una).div_ceil(MSS) as u32;
        self.segments_out += fresh.saturating_sub(self.in_flight);
        self.una = self.written;
        self.in_flight = 0;
        (self.acked_at, self.heard_at) = (now, now);
        (self.timeouts, self.backoff, self.probes, self.persist) = (0, 0, 0, false);
        (self.timer, self.probed_at, self.stuck_since) = (None, None, None);
    }

    fn rto(&self) -> Duration {
        if self.persist {
            RTO
        } else {
            wait(self.backoff)
        }
    }
}

fn wait(backoff: u8) -> Duration {
    (RTO * (1 << u32::from(backoff).min(20))).min(RTO_MAX)
}

/// A made-up host.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) engine: Engine,
    settings: Settings,
    now: Time,
    names: Vec<String>,
    faults: BTreeMap<(usize, u16), Fault>,
    conns: BTreeMap<u64, Conn>,
    timers: BTreeSet<(Time, u64)>,
    next_id: u64,
    swept_at: Time,
    random: u64,
    /// What the engine was told, and when.
    pub(super) inputs: Vec<(Time, Input)>,
    /// What it answered, and when.
    pub(super) log: Vec<(Time, Transition)>,
    late: Vec<Input>,
    /// No events arrive, only sweeps.
    pub(super) deaf: bool,
    /// Events arrive after the next sweep.
    pub(super) slow_ring: bool,
    /// Sweeps show entries twice or not at all.
    pub(super) blurred: bool,
    /// Sweeps show connections in this other order.
    pub(super) shuffled: Option<u64>,
    /// The host looks routes up when the kernel has forgotten them.
    pub(super) looks_up_routes: bool,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with_rules(Vec::new())
    }

    /// Upstreams are configured, by interface.
    pub(super) fn configured(names: &[&str]) -> Self {
        let rules = names.iter().map(|name| by_interface(name)).collect();
        let mut world = Self::with_rules(rules);
        for name in names {
            world.upstream_index(name);
        }
        world
    }

    pub(super) fn with_rules(rules: Vec<Rule>) -> Self {
        let settings = Settings {
            stall_after: Duration::from_secs(3),
            ignore: Vec::new(),
            rules,
        };
        Self {
            engine: Engine::new(settings.clone(), START),
            settings,
            now: START,
            names: Vec::new(),
            faults: BTreeMap::new(),
            conns: BTreeMap::new(),
            timers: BTreeSet::new(),
            next_id: 1,
            swept_at: START,
            random: 88_172_645_463_325_252,
            inputs: Vec::new(),
            log: Vec::new(),
            late: Vec::new(),
            deaf: false,
            slow_ring: false,
            blurred: false,
            shuffled: None,
            looks_up_routes: true,
        }
    }

    /// Connections that send a message of 600 bytes four times a second.
    pub(super) fn open(self, upstream: &str, destinations: Range<u16>, each: u32) -> Self {
        self.open_with(upstream, destinations, each, |_| ())
    }

    /// Connections that send messages of so many bytes.
    pub(super) fn open_sized(self, upstream: &str, to: Range<u16>, each: u32, bytes: u64) -> Self {
        self.open_with(upstream, to, each, |conn| conn.size = bytes)
    }

    /// Connections that send a message this often.
    pub(super) fn open_paced(self, upstream: &str, to: Range<u16>, each: u32, every: u64) -> Self {
        self.open_with(upstream, to, each, |conn| {
            conn.every = Duration::from_secs(every)
        })
    }

    /// Connections on IPv6 sockets to mapped IPv4 peers.
    pub(super) fn open_mapped(self, upstream: &str, to: Range<u16>, each: u32) -> Self {
        self.open_with(upstream, to, each, |conn| conn.mapped = true)
    }

    /// Connections that never send.
    pub(super) fn idle(self, upstream: &str, to: Range<u16>, each: u32) -> Self {
        self.open_with(upstream, to, each, |conn| {
            (conn.every, conn.received_at) = (Duration::ZERO, conn.sent_at);
        })
    }

    /// Connections that have asked once and wait for an answer of the peer.
    pub(super) fn long_poll(self, upstream: &str, to: Range<u16>, each: u32) -> Self {
        self.open_with(upstream, to, each, |conn| {
            conn.every = Duration::ZERO;
            (conn.una, conn.written, conn.segments_out) = (400, 400, 1);
        })
    }

    /// Connections whose peer has stopped reading, and says so whenever asked.
    pub(super) fn slow_readers(
        self,
        upstream: &str,
        to: Range<u16>,
        each: u32,
        window: u32,
    ) -> Self {
        self.open_with(upstream, to, each, |conn| {
            conn.window = Some(window);
            conn.persist = true;
            conn.written = conn.una + 30_000;
            conn.timer = Some(conn.sent_at.after(RTO));
        })
    }

    fn open_with(
        mut self,
        upstream: &str,
        destinations: Range<u16>,
        each: u32,
        shape: impl Fn(&mut Conn),
    ) -> Self {
        let upstream = self.upstream_index(upstream);
        for destination in destinations {
            for _ in 0..each {
                let id = self.next_id;
                self.next_id += 1;
                let mut conn = Conn {
                    id,
                    upstream,
                    destination,
                    size: 600,
                    every: EVERY,
                    next_message: self.now,
                    window: None,
                    una: 0,
                    written: 0,
                    in_flight: 0,
                    segments_out: 0,
                    retransmissions: 0,
                    sent_at: self.now,
                    acked_at: self.now,
                    heard_at: self.now,
                    received_at: self.now.before(Duration::from_millis(5)),
                    timer: None,
                    timeouts: 0,
                    backoff: 0,
                    persist: false,
                    probes: 0,
                    probed_at: None,
                    stuck_since: None,
                    mapped: false,
                    hangs: false,
                };
                shape(&mut conn);
                let every = u64::try_from(conn.every.as_millis()).unwrap();
                let offset = if every == 0 { 0 } else { id * 37 % every };
                conn.next_message = self.now.after(Duration::from_millis(offset));
                self.conns.insert(id, conn);
                self.schedule(id);
            }
        }
        self
    }

    /// Nothing gets through any more.
    pub(super) fn hang(self, upstream: &str, destinations: Range<u16>) -> Self {
        self.break_with(upstream, destinations, Fault::Hang)
    }

    /// Connections whose number `hangs` lose everything from now on, their siblings nothing: one of
    /// several paths behind the router is dead.
    pub(super) fn hang_connections(mut self, upstream: &str, hangs: impl Fn(u64) -> bool) -> Self {
        self.catch_up();
        let index = self.upstream_index(upstream);
        for conn in self
            .conns
            .values_mut()
            .filter(|it| it.upstream == index && hangs(it.id))
        {
            conn.hangs = true;
        }
        self.schedule_all();
        self
    }

    /// Segments with more than so many bytes vanish.
    pub(super) fn hang_large(self, upstream: &str, bytes: u64) -> Self {
        self.break_with(upstream, 0..1000, Fault::Large(bytes))
    }

    /// So many packets of a hundred vanish.
    pub(super) fn lossy(self, upstream: &str, destinations: Range<u16>, percent: u64) -> Self {
        self.break_with(upstream, destinations, Fault::Loss(percent))
    }

    /// The gateway does not answer on its link.
    pub(super) fn silent_gateway(self, upstream: &str) -> Self {
        self.break_with(upstream, 0..1000, Fault::Silent)
    }

    /// Packets do not leave the host.
    pub(super) fn firewall(self, upstream: &str) -> Self {
        self.break_with(upstream, 0..1000, Fault::Firewall)
    }

    fn break_with(mut self, upstream: &str, destinations: Range<u16>, fault: Fault) -> Self {
        self.catch_up();
        let upstream = self.upstream_index(upstream);
        for destination in destinations {
            self.faults.insert((upstream, destination), fault);
        }
        self.schedule_all();
        self
    }

    /// Everything is repaired; who waits notices at its next repetition.
    pub(super) fn heal(self, upstream: &str) -> Self {
        self.heal_only(upstream, 0..1000)
    }

    /// The way to these is repaired.
    pub(super) fn heal_only(mut self, upstream: &str, destinations: Range<u16>) -> Self {
        self.catch_up();
        let upstream = self.upstream_index(upstream);
        self.faults
            .retain(|key, _| key.0 != upstream || !destinations.contains(&key.1));
        let hop = hop(upstream);
        self.tell(Input::Neighbour(hop, Some(Reachability::Answers)));
        self
    }

    /// The peers are told goodbye, or nobody waits any longer.
    pub(super) fn close(mut self, upstream: &str, destinations: Range<u16>) -> Self {
        self.catch_up();
        let upstream = self.upstream_index(upstream);
        let gone: Vec<_> = self
            .conns
            .values()
            .filter(|it| it.upstream == upstream && destinations.contains(&it.destination))
            .map(|it| (it.id, it.looks_wrong()))
            .collect();
        for (id, looked_wrong) in gone {
            self.conns.remove(&id);
            if looked_wrong && !self.deaf {
                self.tell(Input::Closed(ConnectionId(id)));
            }
        }
        self
    }

    /// The kernel sends all connections of one upstream through the other from now on.
    pub(super) fn reroute(mut self, from: &str, to: &str) -> Self {
        self.catch_up();
        let (from, to) = (self.upstream_index(from), self.upstream_index(to));
        for conn in self.conns.values_mut().filter(|conn| conn.upstream == from) {
            conn.upstream = to;
        }
        self.schedule_all();
        self
    }

    /// Other rules, from now on.
    pub(super) fn configure(mut self, rules: Vec<Rule>) -> Self {
        self.settings.rules = rules;
        self.engine.configure(self.settings.clone(), self.now);
        self
    }

    /// The daemon starts again and knows nothing.
    pub(super) fn restart(mut self) -> Self {
        self.engine = Engine::new(self.settings.clone(), self.now);
        self.inputs.clear();
        for index in 0..self.names.len() {
            self.announce(index);
        }
        self
    }

    /// The daemon starts again with what it wrote down.
    pub(super) fn restart_with(mut self, learned: BTreeMap<String, Baseline>) -> Self {
        self = self.restart();
        self.engine.remember(learned);
        self
    }

    /// What the engine has learned.
    pub(super) fn learned(&self) -> BTreeMap<String, Baseline> {
        self.engine.learned()
    }

    pub(super) fn run(self, seconds: u64) -> Self {
        let end = self.now.after(Duration::from_secs(seconds));
        self.run_until(end)
    }

    fn run_until(mut self, end: Time) -> Self {
        let mut ticks_at_once = 0;
        loop {
            let sweep_at = self.swept_at.after(self.interval());
            let deadline = self.engine.deadline().unwrap_or(end);
            let timer = self.timers.first().map_or(end, |timer| timer.0);
            let next = sweep_at.min(deadline).min(timer).min(end).max(self.now);
            ticks_at_once = if next > self.now { 0 } else { ticks_at_once };
            self.now = next;
            if self.now >= end {
                return self;
            }
            if timer <= self.now {
                self.fire();
            } else if sweep_at <= self.now {
                self.sweep();
            } else {
                ticks_at_once += 1;
                assert!(
                    ticks_at_once < 3,
                    "the engine asks to be called again and again"
                );
                self.tell(Input::Tick);
            }
        }
    }

    /// Runs for less than a second.
    pub(super) fn skip_milliseconds(&mut self, milliseconds: u64) {
        let end = self.now.after(Duration::from_millis(milliseconds));
        *self = self.clone().run_until(end);
    }

    /// Time passes while no sensor says anything.
    pub(super) fn later(&mut self, span: Duration) {
        let end = self.now.after(span);
        while let Some(deadline) = self.engine.deadline().filter(|deadline| *deadline < end) {
            self.now = self.now.max(deadline);
            self.tell(Input::Tick);
        }
        self.now = end;
        self.tell(Input::Tick);
    }

    /// These peers are not looked at.
    pub(super) fn ignoring(mut self, prefix: &str) -> Self {
        self.settings.ignore.push(prefix.parse().unwrap());
        self.engine.configure(self.settings.clone(), self.now);
        self
    }

    fn interval(&self) -> Duration {
        match self.engine.attention(self.now) {
            Attention::Quiet => Duration::from_secs(3),
            Attention::Alert => Duration::from_secs(1),
            Attention::Now => Duration::from_millis(250),
        }
    }

    fn tell(&mut self, input: Input) {
        self.inputs.push((self.now, input.clone()));
        let transitions = self.engine.handle(self.now, input);
        self.log.extend(
            transitions
                .into_iter()
                .map(|transition| (self.now, transition)),
        );
    }

    fn upstream_index(&mut self, name: &str) -> usize {
        if let Some(index) = self.names.iter().position(|known| known == name) {
            return index;
        }
        self.names.push(name.to_owned());
        let index = self.names.len() - 1;
        self.announce(index);
        index
    }

    fn announce(&mut self, index: usize) {
        let name = &self.names[index];
        let interface = Interface {
            name: format!("wan-{name}"),
            alias: Some(name.clone()),
            up: true,
            ..Interface::default()
        };
        self.tell(Input::Interface(
            NETNS,
            hop(index).interface,
            Some(interface),
        ));
    }

    fn open_way(&mut self, conn: &Conn) -> bool {
        match self.faults.get(&(conn.upstream, conn.destination)) {
            _ if conn.hangs => false,
            None => true,
            Some(Fault::Hang | Fault::Silent | Fault::Firewall) => false,
            Some(Fault::Large(bytes)) => conn.largest() <= *bytes,
            Some(Fault::Loss(percent)) => {
                self.random ^= self.random << 13;
                self.random ^= self.random >> 7;
                self.random ^= self.random << 17;
                self.random % 100 >= *percent
            }
        }
    }

    /// Lets the untroubled write what they wrote until now.
    fn catch_up(&mut self) {
        let now = self.now;
        for conn in self.conns.values_mut() {
            let open = !conn.outstanding()
                && !conn.hangs
                && !self.faults.contains_key(&(conn.upstream, conn.destination));
            if open || conn.outstanding() {
                conn.write(now, open);
            }
        }
    }

    fn schedule_all(&mut self) {
        let ids: Vec<_> = self.conns.keys().copied().collect();
        for id in ids {
            self.schedule(id);
        }
    }

    /// Notes when something next happens to a connection that is not simply well.
    fn schedule(&mut self, id: u64) {
        let Some(conn) = self.conns.get(&id) else {
            return;
        };
        let faulty = conn.hangs || self.faults.contains_key(&(conn.upstream, conn.destination));
        if let Some(timer) = conn.timer {
            self.timers.insert((timer, id));
        } else if faulty && !conn.every.is_zero() {
            self.timers.insert((conn.next_message, id));
        }
    }

    /// A message is due on a troubled way, or a timer has run out.
    fn fire(&mut self) {
        let Some((_, id)) = self.timers.pop_first() else {
            return;
        };
        let Some(mut conn) = self.conns.remove(&id) else {
            return;
        };
        let now = self.now;
        let fault = self.faults.get(&(conn.upstream, conn.destination)).copied();
        let open = self.open_way(&conn);
        let mut event = None;
        if !conn.outstanding() {
            conn.write(now, open);
            if !open && conn.outstanding() {
                conn.stuck_since = Some(now);
                conn.timer = Some(now.after(RTO));
                conn.persist = fault == Some(Fault::Firewall);
                if !conn.persist {
                    conn.in_flight = conn.segments();
                    conn.segments_out += conn.in_flight;
                    conn.sent_at = now;
                }
            }
        } else if conn.timer.is_some_and(|timer| timer <= now) {
            conn.write(now, false);
            if conn.persist {
                let reads = conn.window.is_none();
                if open && reads {
                    conn.deliver(now);
                } else {
                    if open {
                        (conn.heard_at, conn.probes, conn.probed_at) = (now, 0, None);
                    } else {
                        conn.probes += 1;
                        conn.probed_at.get_or_insert(now);
                    }
                    conn.backoff = (conn.backoff + 1).min(15);
                    conn.timer = Some(now.after(wait(conn.backoff)));
                }
            } else {
                conn.timeouts += 1;
                conn.retransmissions += 1;
                conn.segments_out += 1;
                conn.sent_at = now;
                let mut sample = self.sample(&conn, Origin::Timeout);
                sample.send_error = (fault == Some(Fault::Silent)).then_some(EBUSY);
                event = Some(sample);
                conn.backoff += 1;
                conn.timer = Some(now.after(wait(conn.backoff)));
                if open {
                    conn.deliver(now);
                }
            }
        }
        self.conns.insert(id, conn);
        self.schedule(id);
        match event {
            Some(sample) if self.slow_ring => self.late.push(Input::Timeout(sample)),
            Some(sample) if !self.deaf => self.tell(Input::Timeout(sample)),
            _ => {}
        }
    }

    fn sweep(&mut self) {
        self.catch_up();
        self.swept_at = self.now;
        let mut sweep = Sweep::default();
        let mut sampled: BTreeMap<(usize, u16), u32> = BTreeMap::new();
        for conn in self.conns.values() {
            let counts: &mut Counts = sweep.counts.entry(cached(conn)).or_default();
            let column = if conn.looks_wrong() {
                sweep.samples.push(self.sample(conn, Origin::Suspicious));
                &mut counts.suspicious
            } else if conn.outstanding() {
                &mut counts.busy
            } else if conn.segments_out == 0 {
                &mut counts.idle
            } else if self.now.since(conn.sent_at) <= Duration::from_secs(10) {
                &mut counts.app_limited
            } else if conn.sent_at > conn.received_at {
                &mut counts.waiting
            } else {
                &mut counts.idle
            };
            *column += 1;
            let at_work = !conn.looks_wrong()
                && (conn.outstanding()
                    || (conn.segments_out > 0
                        && self.now.since(conn.sent_at) <= Duration::from_secs(10)));
            let share = sampled
                .entry((conn.upstream, conn.destination))
                .or_default();
            if at_work && *share < 4 {
                *share += 1;
                sweep.samples.push(self.sample(conn, Origin::Active));
            }
        }
        if self.blurred {
            let turn = self.now.0 / 250_000_000;
            let mut seen = Vec::new();
            for sample in sweep.samples {
                match (sample.id.0 + turn) % 7 {
                    0 => {}
                    1 => seen.extend([sample.clone(), sample]),
                    _ => seen.push(sample),
                }
            }
            sweep.samples = seen;
        }
        if let Some(seed) = self.shuffled {
            sweep.samples.sort_by_key(|sample| {
                (sample.id.0 ^ seed)
                    .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                    .rotate_left(17)
            });
        }
        self.tell(Input::Sweep(sweep));
        for input in std::mem::take(&mut self.late) {
            self.tell(input);
        }
        self.answer_questions();
    }

    /// What the daemon looks up when the engine wonders.
    fn answer_questions(&mut self) {
        for hop in self.engine.suspected_hops() {
            let upstream = usize::try_from(hop.interface.0 - 10).unwrap();
            let silent = self
                .faults
                .iter()
                .any(|((it, _), fault)| *it == upstream && *fault == Fault::Silent);
            let reachability = if silent {
                Reachability::Silent
            } else {
                Reachability::Answers
            };
            self.tell(Input::Neighbour(hop, Some(reachability)));
        }
        if self.looks_up_routes {
            let ids: Vec<_> = self
                .engine
                .without_route()
                .map(|sample| sample.id)
                .collect();
            for id in ids {
                if let Some(conn) = self.conns.get(&id.0) {
                    self.tell(Input::Route(id, hop(conn.upstream)));
                }
            }
        }
    }

    fn sample(&self, conn: &Conn, origin: Origin) -> Sample {
        let outstanding = conn.written - conn.una;
        let unacked = (u64::from(conn.in_flight) * MSS)
            .min(conn.size)
            .min(outstanding);
        let unacked = if conn.in_flight == 0 { 0 } else { unacked };
        // Sequence numbers wrap in every test.
        let isn = u32::MAX - (conn.id as u32 * 7919) % 100_000;
        let remote = IpAddr::V4(Ipv4Addr::new(
            100,
            (conn.destination >> 8) as u8,
            conn.destination as u8,
            (conn.id % 200) as u8 + 1,
        ));
        let remote = match remote {
            IpAddr::V4(address) if conn.mapped => IpAddr::V6(address.to_ipv6_mapped()),
            other => other,
        };
        Sample {
            id: ConnectionId(conn.id),
            at: self.now,
            origin,
            netns: NETNS,
            local: SocketAddr::from(([192, 0, 2, 1], 1024 + (conn.id % 60_000) as u16)),
            remote: SocketAddr::new(remote, 25),
            tcp_state: TcpState::Established,
            next_hop: cached(conn),
            mark: 0,
            device: None,
            uid: 1000,
            inode: Some(10_000 + conn.id),
            snd_una: isn.wrapping_add(conn.una as u32),
            unacked: unacked as u32,
            unsent: (outstanding - unacked) as u32,
            packets_out: conn.in_flight,
            timeouts: conn.timeouts,
            probes: conn.probes,
            persist: conn.persist,
            backoff: conn.backoff,
            peer_window: conn.window.unwrap_or(65_535),
            mss: MSS as u32,
            head: (conn.in_flight > 0).then_some(conn.largest() as u32),
            rto: conn.rto(),
            srtt: Some(Duration::from_millis(20)),
            stuck_since: if conn.persist {
                conn.probed_at.map(|at| at.before(RTO))
            } else if conn.timeouts > 0 {
                conn.stuck_since
            } else {
                None
            },
            sent_at: conn.sent_at,
            acked_at: conn.acked_at,
            heard_at: conn.heard_at,
            bytes_acked: conn.una + 1,
            segments_out: conn.segments_out,
            retransmissions: conn.retransmissions,
            send_error: None,
            user_timeout: None,
            duplicates: 0,
            unreachable: None,
            next_try: None,
            rcv_nxt: 1,
            received_at: conn.received_at,
            bytes_received: 0,
            hole: false,
            memory: None,
        }
    }

    // What people see.

    pub(super) fn snapshot(&self) -> Snapshot {
        self.engine.snapshot(self.now)
    }

    pub(super) fn upstream(&self, name: &str) -> Upstream {
        self.snapshot()
            .upstreams
            .into_iter()
            .find(|upstream| upstream.name == name)
            .unwrap_or_else(|| panic!("{name} is not known"))
    }

    pub(super) fn stalls(&self) -> Vec<Stall> {
        self.snapshot().stalls
    }

    /// The story so far, one line for each change of an upstream.
    pub(super) fn story(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (at, transition) in &self.log {
            if let Transition::Upstream {
                upstream,
                from,
                to,
                scope,
                cause,
                ..
            } = transition
            {
                let seconds = at.since(START).as_secs();
                let scope = scope.filter(|scope| scope.word() == "common");
                let mut line = format!("{seconds}s {upstream} {from:?}->{to:?}");
                for word in [cause.map(|it| it.word()), scope.map(|it| it.word())] {
                    line.extend(word.map(|word| format!(" {word}")));
                }
                lines.push(line);
            }
        }
        lines
    }

    #[track_caller]
    pub(super) fn expect(self, story: &[&str]) -> Self {
        assert_eq!(self.story(), story);
        self
    }

    #[track_caller]
    pub(super) fn expect_state(self, name: &str, state: State) -> Self {
        assert_eq!(self.upstream(name).state, state, "{:#?}", self.story());
        self
    }

    /// When an upstream first came into a state after `since` seconds, in seconds after that.
    #[track_caller]
    pub(super) fn delay(&self, name: &str, state: State, since: u64) -> f64 {
        let since = START.after(Duration::from_secs(since));
        self.log
            .iter()
            .find_map(|(at, transition)| match transition {
                Transition::Upstream {
                    upstream, from, to, ..
                } if upstream == name && *to == state && from != to && *at >= since => {
                    Some(at.since(since).as_secs_f64())
                }
                _ => None,
            })
            .unwrap_or_else(|| panic!("{name} never became {state}: {:#?}", self.story()))
    }

    /// Tells another engine the same and compares everything that it says.
    pub(super) fn assert_replays(&self) {
        let mut engine = Engine::new(self.settings.clone(), START);
        let mut log = Vec::new();
        for (at, input) in &self.inputs {
            log.extend(
                engine
                    .handle(*at, input.clone())
                    .into_iter()
                    .map(|it| (*at, it)),
            );
        }
        assert_eq!(log, self.log);
        assert_eq!(engine.snapshot(self.now), self.snapshot());
    }

    /// Tells the engine whatever anybody likes.
    pub(super) fn inject(&mut self, input: Input) {
        self.tell(input);
    }

    /// A sample of the connection with this number as it is now.
    pub(super) fn look(&self, id: u64) -> Option<Sample> {
        self.conns
            .get(&id)
            .map(|conn| self.sample(conn, Origin::Suspicious))
    }
}

pub(in crate::engine) fn hop(upstream: usize) -> NextHop {
    NextHop {
        netns: NETNS,
        interface: IfIndex(10 + u32::try_from(upstream).unwrap()),
        gateway: Some(IpAddr::V4(Ipv4Addr::new(10, 0, upstream as u8, 1))),
    }
}

pub(super) fn by_interface(name: &str) -> Rule {
    Rule {
        name: name.to_owned(),
        interface: Some(format!("wan-{name}")),
        ..Rule::default()
    }
}

pub(in crate::engine) fn destination(number: u16) -> Destination {
    Destination::of(IpAddr::V4(Ipv4Addr::new(
        100,
        (number >> 8) as u8,
        number as u8,
        1,
    )))
}

/// The kernel drops its cached route after some timeouts (`tcp_write_timeout`, `tcp_retries1`).
fn cached(conn: &Conn) -> Option<NextHop> {
    (conn.timeouts < 4).then(|| hop(conn.upstream))
}

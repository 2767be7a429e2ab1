//! The newest judgement as gauges, made anew for each scrape: what has vanished has no series.
//!
//! **Invariant:** pure; next hops that share all labels are added up.

use std::collections::BTreeMap;

use jiff::Timestamp;
use prometheus::proto;

use super::super::{Facts, Published, REVISION, VERSION, json, stakes, words};
use crate::model::{Cause, Gate, NextHop, Scope, Snapshot, State, Upstream};

const LONGEST_LABEL: usize = 128;
/// Next hops for which a zero is shown for each cause that no connection has.
const ZEROS: usize = 100;

/// A label's value: bounded, and without anything that could steer a terminal.
pub(super) fn label(text: &str) -> String {
    let short: String = text.chars().take(LONGEST_LABEL).collect();
    words::clean(&short)
}

/// `tcpstall_build_info`, known before there is a judgement.
pub(super) fn build_info() -> Option<proto::MetricFamily> {
    let mut info = Gauge::new(
        "tcpstall_build_info",
        "Always 1; what this program was built from.",
        &["version", "revision"],
    );
    info.add([VERSION.to_owned(), REVISION.to_owned()], 1.0);
    info.family()
}

/// All that the newest judgement says.
pub(super) fn of(published: &Published) -> Vec<proto::MetricFamily> {
    let Published { snapshot, facts } = published;
    let mut gauges = by_upstream(snapshot, facts);
    gauges.extend(by_next_hop(snapshot));
    gauges.extend(at_stake(snapshot, facts));
    gauges.extend(of_daemon(snapshot, facts));
    gauges.into_iter().filter_map(Gauge::family).collect()
}

fn by_upstream(snapshot: &Snapshot, facts: &Facts) -> Vec<Gauge> {
    const LABELS: &[&str] = &["upstream"];
    let mut state = Gauge::new(
        "tcpstall_upstream_state",
        "1 for the state that the upstream is in, 0 for the others.",
        &["upstream", "state"],
    );
    let mut trouble = Gauge::new(
        "tcpstall_upstream_trouble_info",
        "1 while the upstream is degraded or failing: why, and how far it reaches.",
        &["upstream", "cause", "scope"],
    );
    let mut changed = Gauge::new(
        "tcpstall_upstream_state_change_timestamp_seconds",
        "When the upstream entered its state.",
        LABELS,
    );
    let mut confidence = Gauge::new(
        "tcpstall_upstream_confidence_ratio",
        "How sure the state is, from 0 to 1.",
        LABELS,
    );
    let mut active = Gauge::new(
        "tcpstall_active_destinations",
        "Destinations that had something to send lately.",
        LABELS,
    );
    let mut stalled = Gauge::new(
        "tcpstall_stalled_destinations",
        "Active destinations whose last word is a stall.",
        LABELS,
    );
    let mut outstanding = Gauge::new(
        "tcpstall_outstanding_bytes",
        "Bytes trapped in stalled connections.",
        LABELS,
    );
    let mut orphans = Gauge::new(
        "tcpstall_orphan_connections",
        "Stalled and suspect connections that no process holds any more.",
        LABELS,
    );
    let mut gate = Gauge::new(
        "tcpstall_upstream_gate",
        "1 when failover programs should use the upstream, 0 when they should avoid it.",
        LABELS,
    );
    for upstream in &snapshot.upstreams {
        let name = label(&upstream.name);
        if let Some(it) = facts.gates.get(&upstream.name) {
            gate.set([name.clone()], f64::from(u8::from(it.gate == Gate::Open)));
        }
        for it in State::ALL {
            let value = f64::from(u8::from(*it == upstream.state));
            state.add([name.clone(), it.word().to_owned()], value);
        }
        if matches!(upstream.state, State::Degraded | State::Failing) {
            let cause = upstream.cause.unwrap_or(Cause::Unknown).word();
            let scope = upstream.scope.unwrap_or(Scope::Upstream).word();
            trouble.set([name.clone(), cause.to_owned(), scope.to_owned()], 1.0);
        }
        changed.add(
            [name.clone()],
            seconds(facts.wall_at(snapshot.at, upstream.since)),
        );
        confidence.add([name.clone()], upstream.confidence);
        active.add([name.clone()], f64::from(upstream.active_destinations));
        let count = json::number(upstream.stalled_destinations.len());
        stalled.add([name.clone()], f64::from(count));
        outstanding.add([name.clone()], bytes(upstream.outstanding));
        orphans.add([name], f64::from(upstream.orphans));
    }
    vec![
        state,
        trouble,
        changed,
        confidence,
        active,
        stalled,
        outstanding,
        orphans,
        gate,
    ]
}

fn by_next_hop(snapshot: &Snapshot) -> Vec<Gauge> {
    const LABELS: &[&str] = &["upstream", "interface", "nexthop"];
    let mut info = Gauge::new(
        "tcpstall_upstream_info",
        "Always 1; the next hops that belong to the upstream.",
        LABELS,
    );
    let mut established = Gauge::new(
        "tcpstall_established_connections",
        "Connections past the handshake.",
        LABELS,
    );
    let mut active = Gauge::new(
        "tcpstall_active_connections",
        "Connections that send.",
        LABELS,
    );
    let mut suspect = Gauge::new(
        "tcpstall_suspect_connections",
        "Connections with outstanding data and two or more timeouts without progress.",
        LABELS,
    );
    let mut stalled = Gauge::new(
        "tcpstall_stalled_connections",
        "Connections without progress although progress was due.",
        &["upstream", "interface", "nexthop", "cause"],
    );
    let mut handshake = Gauge::new(
        "tcpstall_handshake_connections",
        "Connections whose first segment was repeated twice or more and is not answered.",
        LABELS,
    );
    let zeros = snapshot
        .upstreams
        .iter()
        .map(|it| it.next_hops.len())
        .sum::<usize>()
        <= ZEROS;
    for upstream in &snapshot.upstreams {
        for (next_hop, counts) in &upstream.next_hops {
            let labels = labels(upstream, Some(*next_hop), snapshot);
            info.set(labels.clone(), 1.0);
            established.add(labels.clone(), f64::from(counts.established()));
            active.add(labels.clone(), f64::from(counts.active()));
            handshake.add(labels.clone(), f64::from(counts.handshakes));
            suspect.add(labels.clone(), 0.0);
            for cause in Cause::ALL.iter().filter(|_| zeros) {
                stalled.add(with(labels.clone(), *cause), 0.0);
            }
        }
        for (next_hop, count) in &upstream.suspect {
            suspect.add(labels(upstream, *next_hop, snapshot), f64::from(*count));
        }
        for ((next_hop, cause), count) in &upstream.stalled {
            let labels = labels(upstream, *next_hop, snapshot);
            stalled.add(with(labels, *cause), f64::from(*count));
        }
    }
    vec![info, established, active, handshake, suspect, stalled]
}

/// Of the worst few, so that the number of series is bounded.
fn at_stake(snapshot: &Snapshot, facts: &Facts) -> Vec<Gauge> {
    let mut gauges = by_process(snapshot, facts);
    gauges.extend(by_unit(snapshot, facts));
    let mut used = Gauge::new(
        "tcpstall_tcp_memory_bytes",
        "Memory of all TCP connections of this host, while some hang.",
        &[],
    );
    let mut limit = Gauge::new(
        "tcpstall_tcp_memory_limit_bytes",
        "How much the kernel allows (tcp_mem, the third).",
        &[],
    );
    if let Some(memory) = facts.stakes.tcp.and_then(stakes::memory) {
        used.set([], memory.used_bytes as f64);
        limit.set([], memory.limit_bytes as f64);
    }
    gauges.extend([used, limit]);
    gauges
}

fn by_process(snapshot: &Snapshot, facts: &Facts) -> Vec<Gauge> {
    const LABELS: &[&str] = &["process", "pid"];
    let mut stuck = Gauge::new(
        "tcpstall_process_stuck_connections",
        "Stalled and suspect connections that a process holds; the ten worst.",
        LABELS,
    );
    let mut memory = Gauge::new(
        "tcpstall_process_kernel_memory_bytes",
        "Kernel memory of the stalled and suspect connections of such a process.",
        LABELS,
    );
    let mut open = Gauge::new(
        "tcpstall_process_open_descriptors",
        "Descriptors that such a process has open, of all kinds.",
        LABELS,
    );
    let mut limit = Gauge::new(
        "tcpstall_process_descriptor_limit",
        "How many descriptors such a process may have open.",
        LABELS,
    );
    let mut left = Gauge::new(
        "tcpstall_process_descriptors_run_out_seconds",
        "Until such a process has no descriptors left, if it goes on like this.",
        LABELS,
    );
    for process in stakes::processes(snapshot, facts) {
        let name = process
            .process
            .as_deref()
            .map_or("unknown".to_owned(), label);
        let labels = [name, process.pid.to_string()];
        stuck.set(labels.clone(), f64::from(process.stuck_connections));
        memory.set(labels.clone(), process.kernel_memory_bytes as f64);
        if let Some(number) = process.open_descriptors {
            open.set(labels.clone(), f64::from(number));
        }
        if let Some(number) = process.descriptor_limit {
            limit.set(labels.clone(), f64::from(number));
        }
        if let Some(seconds) = process.descriptors_run_out_seconds {
            left.set(labels, seconds);
        }
    }
    vec![stuck, memory, open, limit, left]
}

fn by_unit(snapshot: &Snapshot, facts: &Facts) -> Vec<Gauge> {
    const LABELS: &[&str] = &["cgroup"];
    let mut stuck = Gauge::new(
        "tcpstall_unit_stuck_connections",
        "Stalled and suspect connections of the processes of a control group; the ten worst.",
        LABELS,
    );
    let mut kernel = Gauge::new(
        "tcpstall_unit_kernel_memory_bytes",
        "Kernel memory of the stalled and suspect connections of such a group.",
        LABELS,
    );
    let mut used = Gauge::new(
        "tcpstall_unit_memory_bytes",
        "Memory of such a group that cannot be reclaimed, where it has a limit.",
        LABELS,
    );
    let mut limit = Gauge::new(
        "tcpstall_unit_memory_limit_bytes",
        "How much memory such a group may have.",
        LABELS,
    );
    let mut left = Gauge::new(
        "tcpstall_unit_memory_runs_out_seconds",
        "Until such a group has no memory left, if it goes on like this.",
        LABELS,
    );
    for unit in stakes::units(snapshot, facts) {
        let labels = [label(&unit.cgroup)];
        stuck.set(labels.clone(), f64::from(unit.stuck_connections));
        kernel.set(labels.clone(), unit.kernel_memory_bytes as f64);
        let Some(memory) = unit.memory else { continue };
        used.set(labels.clone(), memory.used_bytes as f64);
        limit.set(labels.clone(), memory.limit_bytes as f64);
        if let Some(seconds) = memory.run_out_seconds {
            left.set(labels, seconds);
        }
    }
    vec![stuck, kernel, used, limit, left]
}

fn of_daemon(snapshot: &Snapshot, facts: &Facts) -> Vec<Gauge> {
    let mut swept = Gauge::new(
        "tcpstall_last_sweep_timestamp_seconds",
        "When all connections were last walked over.",
        &[],
    );
    if let Some(at) = snapshot.swept_at {
        swept.set([], seconds(facts.wall_at(snapshot.at, at)));
    }
    let mut features = Gauge::new(
        "tcpstall_kernel_feature",
        "1 when the kernel and the host allow it, else 0; `tcpstall doctor` says what is lost.",
        &["feature"],
    );
    for check in &facts.checks {
        features.set([label(&check.feature)], f64::from(u8::from(check.ok)));
    }
    let mut reload = Gauge::new(
        "tcpstall_config_last_reload_successful",
        "Whether the configuration could be loaded when it was last tried.",
        &[],
    );
    let mut reloaded = Gauge::new(
        "tcpstall_config_last_reload_success_timestamp_seconds",
        "When the configuration was last loaded.",
        &[],
    );
    if let Some((successful, at)) = facts.reload {
        reload.set([], f64::from(u8::from(successful)));
        reloaded.set([], seconds(at));
    }
    let mut kernel = Gauge::new(
        "tcpstall_kernel_info",
        "Always 1; the kernel that is watched.",
        &["release"],
    );
    kernel.set([label(&facts.kernel)], 1.0);
    let mut runner = Gauge::new(
        "tcpstall_hook_runner_up",
        "1 while somebody runs the hooks of the configuration (`tcpstall hooks`), else 0.",
        &[],
    );
    if let Some(up) = facts.hooks_are_run {
        runner.set([], f64::from(u8::from(up)));
    }
    vec![swept, features, reload, reloaded, kernel, runner]
}

fn labels(upstream: &Upstream, next_hop: Option<NextHop>, snapshot: &Snapshot) -> Vec<String> {
    let unknown = || "unknown".to_owned();
    let interface = next_hop.map_or_else(unknown, |it| label(&json::interface(&it, snapshot)));
    let gateway = next_hop.map_or_else(unknown, |it| match it.gateway {
        Some(gateway) => gateway.to_string(),
        None => "on-link".to_owned(),
    });
    vec![label(&upstream.name), interface, gateway]
}

fn with(mut labels: Vec<String>, cause: Cause) -> Vec<String> {
    labels.push(cause.word().to_owned());
    labels
}

fn seconds(time: Timestamp) -> f64 {
    time.as_duration().as_secs_f64()
}

/// Beyond 2^53 the last digits are lost, and not missed.
fn bytes(count: u64) -> f64 {
    count as f64
}

/// A gauge and its series.
struct Gauge {
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    series: BTreeMap<Vec<String>, f64>,
}

impl Gauge {
    fn new(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Self {
        Self {
            name,
            help,
            labels,
            series: BTreeMap::new(),
        }
    }

    fn add(&mut self, labels: impl Into<Vec<String>>, value: f64) {
        *self.series.entry(labels.into()).or_default() += value;
    }

    fn set(&mut self, labels: impl Into<Vec<String>>, value: f64) {
        self.series.insert(labels.into(), value);
    }

    /// `None` without series: a family must not be empty.
    fn family(self) -> Option<proto::MetricFamily> {
        if self.series.is_empty() {
            return None;
        }
        let series = self.series.into_iter().map(|(values, value)| {
            let mut gauge = proto::Gauge::default();
            gauge.set_value(value);
            let mut metric = proto::Metric::from_gauge(gauge);
            // In the order that the crate gives the labels of counters.
            let pairs: BTreeMap<_, _> = self.labels.iter().zip(values).collect();
            let pairs = pairs.into_iter().map(|(name, value)| {
                let mut pair = proto::LabelPair::default();
                pair.set_name((*name).to_owned());
                pair.set_value(value);
                pair
            });
            metric.set_label(pairs.collect());
            metric
        });
        let mut family = proto::MetricFamily::default();
        family.set_name(self.name.to_owned());
        family.set_help(self.help.to_owned());
        family.set_field_type(proto::MetricType::GAUGE);
        family.set_metric(series.collect());
        Some(family)
    }
}

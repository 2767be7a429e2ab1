//! The metrics page: what was counted since the start, and the newest judgement.
//!
//! **Invariant:** labels never carry addresses of destinations or connection ids; the number of
//! series is bounded by configuration and next hops, not by traffic.

mod gauges;
#[cfg(test)]
pub(super) mod tests;

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry, TextEncoder,
    core::Collector, process_collector::ProcessCollector,
};

use super::Published;
#[cfg(test)]
use super::REVISION;
use crate::{
    config::Config,
    model::{Cause, HookOutcome, Outcome, Transition},
};

/// Content type of the page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upstreams whose counters start at zero before anything happens, so that the first event is an
/// increase; on hosts with more of them a counter appears with its first event.
const PRESET: usize = 100;
/// Upstreams that are remembered after they have vanished.
const REMEMBERED: usize = 1000;

const STALL_SECONDS: &[f64] = &[
    1.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 3600.0,
];
const SWEEP_SECONDS: &[f64] = &[0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// What is counted over the life of the daemon.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    stalls: IntCounterVec,
    stall_duration: HistogramVec,
    timeouts: IntCounterVec,
    incidents: IntCounterVec,
    sweep_duration: Histogram,
    events_lost: IntCounter,
    hook_runs: IntCounterVec,
    upstreams: Mutex<BTreeSet<String>>,
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let counters = |name, help, labels: &[&str]| {
            register(
                &registry,
                IntCounterVec::new(Opts::new(name, help), labels)?,
            )
        };
        let stalls = counters(
            "tcpstall_stalls_total",
            "Connections that stalled.",
            &["upstream", "cause"],
        )?;
        let timeouts = counters(
            "tcpstall_retransmission_timeouts_total",
            "Retransmission timeouts seen.",
            &["upstream"],
        )?;
        let incidents = counters(
            "tcpstall_incidents_total",
            "Incidents of the upstream that began, by the cause at that moment.",
            &["upstream", "cause"],
        )?;
        let stall_duration = HistogramOpts::new(
            "tcpstall_stall_duration_seconds",
            "How long stalls lasted that have ended, by how they ended.",
        );
        let stall_duration = register(
            &registry,
            HistogramVec::new(
                stall_duration.buckets(STALL_SECONDS.to_vec()),
                &["upstream", "outcome"],
            )?,
        )?;
        let sweep_duration = HistogramOpts::new(
            "tcpstall_sweep_duration_seconds",
            "How long a walk over all connections took.",
        );
        let sweep_duration = register(
            &registry,
            Histogram::with_opts(sweep_duration.buckets(SWEEP_SECONDS.to_vec()))?,
        )?;
        let events_lost = register(
            &registry,
            IntCounter::new(
                "tcpstall_events_lost_total",
                "Events that were lost because the ring was full; they cost latency, never \
                 correctness.",
            )?,
        )?;
        let hook_runs = counters(
            "tcpstall_hook_runs_total",
            "Hooks that have ended, by how.",
            &["hook", "outcome"],
        )?;
        let upstreams = Mutex::default();
        Ok(Self {
            registry,
            stalls,
            stall_duration,
            timeouts,
            incidents,
            sweep_duration,
            events_lost,
            hook_runs,
            upstreams,
        })
    }

    /// Counts what has changed.
    pub fn observe(&self, transition: &Transition) {
        match transition {
            // Not every change is an incident of its own.
            Transition::Upstream { .. } => {}
            Transition::StallBegan {
                upstream, cause, ..
            } => {
                self.stalls
                    .with_label_values(&[&*self.label(upstream), cause.word()])
                    .inc();
            }
            Transition::StallEnded {
                upstream,
                outcome,
                lasted,
                ..
            } => {
                self.stall_duration
                    .with_label_values(&[&*self.label(upstream), outcome.word()])
                    .observe(lasted.as_secs_f64());
            }
            Transition::Timeouts { upstream, count } => {
                self.timeouts
                    .with_label_values(&[&*self.label(upstream)])
                    .inc_by(*count);
            }
        }
    }

    /// Counts an incident that begins.
    pub fn incident(&self, upstream: &str, cause: Option<Cause>) {
        let cause = cause.unwrap_or(Cause::Unknown).word();
        self.incidents
            .with_label_values(&[&*self.label(upstream), cause])
            .inc();
    }

    /// Counts a walk over all connections.
    pub fn sweep(&self, took: Duration) {
        self.sweep_duration.observe(took.as_secs_f64());
    }

    /// So many events were lost since the start.
    pub fn events_lost(&self, total: u64) {
        self.events_lost
            .inc_by(total.saturating_sub(self.events_lost.get()));
    }

    /// Counts a hook that has ended; its name is one of the configuration.
    pub(super) fn hook(&self, hook: &str, outcome: HookOutcome) {
        self.hook_runs
            .with_label_values(&[&*gauges::label(hook), outcome.word()])
            .inc();
    }

    /// Starts the counters of the hooks of the configuration.
    pub fn hooks(&self, config: &Config) {
        for hook in &config.hooks {
            for outcome in HookOutcome::ALL {
                self.hook_runs
                    .with_label_values(&[&*gauges::label(&hook.name), outcome.word()]);
            }
        }
    }

    /// The page, in text format 0.0.4.
    pub fn page(&self, latest: Option<&Published>) -> prometheus::Result<String> {
        if let Some(published) = latest {
            self.keep_to(published);
        }
        let mut families = self.registry.gather();
        families.extend(gauges::build_info());
        if let Some(published) = latest {
            families.extend(gauges::of(published));
        }
        families.sort_by(|a, b| a.name().cmp(b.name()));
        TextEncoder::new().encode_to_string(&families)
    }

    fn label(&self, upstream: &str) -> String {
        let label = gauges::label(upstream);
        let mut known = self
            .upstreams
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !known.contains(&label) {
            known.insert(label.clone());
        }
        label
    }

    /// Starts the counters of new upstreams, and forgets vanished ones when there are too many.
    fn keep_to(&self, published: &Published) {
        let upstreams = &published.snapshot.upstreams;
        if upstreams.len() <= PRESET {
            for upstream in upstreams {
                let label = self.label(&upstream.name);
                self.timeouts.with_label_values(&[&*label]);
                for outcome in Outcome::ALL {
                    self.stall_duration
                        .with_label_values(&[&*label, outcome.word()]);
                }
                for cause in Cause::ALL {
                    self.stalls.with_label_values(&[&*label, cause.word()]);
                    if *cause != Cause::ZeroWindow {
                        self.incidents.with_label_values(&[&*label, cause.word()]);
                    }
                }
            }
        }
        let mut known = self
            .upstreams
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if known.len() > REMEMBERED {
            let present: BTreeSet<_> = upstreams.iter().map(|it| gauges::label(&it.name)).collect();
            for vanished in known.difference(&present) {
                self.forget(vanished);
            }
            known.retain(|it| present.contains(it));
        }
    }

    fn forget(&self, upstream: &str) {
        // Removing a series that never was is an error of no interest.
        let _ = self.timeouts.remove_label_values(&[upstream]);
        for cause in Cause::ALL {
            let _ = self.stalls.remove_label_values(&[upstream, cause.word()]);
            let _ = self
                .incidents
                .remove_label_values(&[upstream, cause.word()]);
        }
        for outcome in Outcome::ALL {
            let _ = self
                .stall_duration
                .remove_label_values(&[upstream, outcome.word()]);
        }
    }
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> prometheus::Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

//! What bad upstreams cost the processes and services of this host, and how long they have left.

use std::collections::BTreeMap;

use super::{Facts, Owner, Supply};
use crate::{
    api,
    model::{Snapshot, Stall},
};

/// Processes and control groups that are told: the worst.
const MOST: usize = 10;

/// Processes that hold stalled or suspect connections: those that run out first, then those with most.
pub(super) fn processes(snapshot: &Snapshot, facts: &Facts) -> Vec<api::Process> {
    let mut processes: BTreeMap<u32, api::Process> = BTreeMap::new();
    for (stall, owner) in owned(snapshot, facts) {
        let Some(pid) = owner.pid else { continue };
        let process = processes
            .entry(pid)
            .or_insert_with(|| process(pid, owner, facts));
        process.stuck_connections += 1;
        process.outstanding_bytes += stall.sample.outstanding();
        process.kernel_memory_bytes += kernel_memory(stall);
    }
    let left = |it: &api::Process| it.descriptors_run_out_seconds;
    worst(processes, left, |it| u64::from(it.stuck_connections))
}

/// Control groups whose processes hold some: those that run out of memory first, then those with most of it.
pub(super) fn units(snapshot: &Snapshot, facts: &Facts) -> Vec<api::Unit> {
    let mut units: BTreeMap<&str, api::Unit> = BTreeMap::new();
    for (stall, owner) in owned(snapshot, facts) {
        let Some(cgroup) = owner.cgroup.as_deref() else {
            continue;
        };
        let unit = units.entry(cgroup).or_insert_with(|| unit(cgroup, facts));
        unit.stuck_connections += 1;
        unit.outstanding_bytes += stall.sample.outstanding();
        unit.kernel_memory_bytes += kernel_memory(stall);
    }
    let left = |it: &api::Unit| it.memory?.run_out_seconds;
    worst(units, left, |it| it.kernel_memory_bytes)
}

/// Memory that has a limit.
pub(super) fn memory(supply: Supply) -> Option<api::Memory> {
    Some(api::Memory {
        used_bytes: supply.used,
        limit_bytes: supply.limit?,
        run_out_seconds: run_out(supply),
    })
}

fn owned<'a>(
    snapshot: &'a Snapshot,
    facts: &'a Facts,
) -> impl Iterator<Item = (&'a Stall, &'a Owner)> {
    let stalls = snapshot.stalls.iter();
    stalls.filter_map(|it| Some((it, facts.owners.get(&it.sample.id)?)))
}

fn kernel_memory(stall: &Stall) -> u64 {
    stall.sample.memory.map_or(0, u64::from)
}

/// Who runs out first comes first, then who has most.
fn worst<K, T>(
    all: BTreeMap<K, T>,
    left: impl Fn(&T) -> Option<f64>,
    most: impl Fn(&T) -> u64,
) -> Vec<T> {
    let mut all: Vec<_> = all.into_values().collect();
    let left = |it: &T| left(it).unwrap_or(f64::INFINITY);
    all.sort_by(|a, b| left(a).total_cmp(&left(b)).then(most(b).cmp(&most(a))));
    all.truncate(MOST);
    all
}

fn process(pid: u32, owner: &Owner, facts: &Facts) -> api::Process {
    let descriptors = facts.stakes.descriptors.get(&pid).copied();
    let number = |it| u32::try_from(it).unwrap_or(u32::MAX);
    api::Process {
        pid,
        process: owner.process.clone(),
        cgroup: owner.cgroup.clone(),
        stuck_connections: 0,
        outstanding_bytes: 0,
        kernel_memory_bytes: 0,
        open_descriptors: descriptors.map(|it| number(it.used)),
        descriptor_limit: descriptors.and_then(|it| it.limit).map(number),
        descriptors_run_out_seconds: descriptors.and_then(run_out),
    }
}

fn unit(cgroup: &str, facts: &Facts) -> api::Unit {
    api::Unit {
        cgroup: cgroup.to_owned(),
        stuck_connections: 0,
        outstanding_bytes: 0,
        kernel_memory_bytes: 0,
        memory: facts.stakes.memory.get(cgroup).copied().and_then(memory),
    }
}

/// In seconds, to the tenth.
fn run_out(supply: Supply) -> Option<f64> {
    let seconds = supply.run_out?.as_secs_f64();
    Some((seconds * 10.0).round() / 10.0)
}

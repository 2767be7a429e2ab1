//! What runs out: of descriptors, of memory.

use super::units;
use crate::{
    api,
    serve::words::{clean, count},
};

/// In a hundred: from there on it is said although the number does not grow.
const CLOSE: u64 = 80;

/// A sentence, without its full stop, for each that runs out or is close to it.
pub(super) fn lines(status: &api::Status) -> Vec<String> {
    let processes = status.processes.iter().filter_map(process);
    let units = status.units.iter().filter_map(unit);
    let host = status.tcp_memory.as_ref().and_then(host);
    processes.chain(units).chain(host).collect()
}

fn process(process: &api::Process) -> Option<String> {
    let (open, limit) = (process.open_descriptors?, process.descriptor_limit?);
    let name = process.process.as_deref();
    let name = name.map_or("a process".to_owned(), clean);
    let who = format!("{name} ({})", process.pid);
    let fate = fate(
        "descriptors",
        u64::from(open),
        u64::from(limit),
        process.descriptors_run_out_seconds,
    )?;
    Some(format!(
        "{who} {fate}; {open} of {limit} are open, among them {}",
        count(process.stuck_connections, "stuck connection")
    ))
}

fn unit(unit: &api::Unit) -> Option<String> {
    let memory = unit.memory.as_ref()?;
    Some(format!(
        "{} {}, {} of that by {}",
        clean(&unit.cgroup),
        of_memory(memory)?,
        units::bytes(unit.kernel_memory_bytes),
        count(unit.stuck_connections, "stuck connection"),
    ))
}

fn host(memory: &api::Memory) -> Option<String> {
    Some(format!("TCP on this host {}", of_memory(memory)?))
}

fn of_memory(memory: &api::Memory) -> Option<String> {
    let (used, limit) = (memory.used_bytes, memory.limit_bytes);
    let fate = fate("memory", used, limit, memory.run_out_seconds)?;
    let [used, limit] = [used, limit].map(units::bytes);
    Some(format!("{fate}; {used} of {limit} are used"))
}

/// What becomes of somebody; `None` when nothing does.
fn fate(of: &str, used: u64, limit: u64, left: Option<f64>) -> Option<String> {
    match left {
        _ if used >= limit => Some(format!("has no {of} left")),
        Some(left) => Some(format!(
            "runs out of {of} in {} at this rate",
            units::age(left)
        )),
        None if used.saturating_mul(100) >= limit.saturating_mul(CLOSE) => {
            Some(format!("is short of {of}"))
        }
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_runs_out_or_is_short_is_told() {
        let of = |used, left| fate("memory", used, 1000, left);
        assert_eq!(of(799, None), None);
        assert_eq!(of(800, None).as_deref(), Some("is short of memory"));
        assert_eq!(
            of(100, Some(90.0)).as_deref(),
            Some("runs out of memory in 1m 30s at this rate")
        );
        assert_eq!(of(1000, Some(0.0)).as_deref(), Some("has no memory left"));
        assert_eq!(fate("memory", u64::MAX, u64::MAX - 1, None), of(1001, None));
    }
}

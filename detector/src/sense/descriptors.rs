//! How many descriptors processes have open, and how many they may: a walk of the kernel over the open
//! files of all processes. Unlike a look through `/proc/PID/fd` it asks for no right to other processes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    time::Duration,
};

use anyhow::Context as _;

use super::{
    memory::{self, Use},
    owners,
    sweep::to_the_end,
};
use crate::clock;

/// What a walk has brought, besides what it has counted, and what was read beside it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Walked {
    /// Processes that were counted.
    pub pids: BTreeSet<u32>,
    /// Processor time that it took.
    pub cost: Duration,
    /// How many each process may have open (`RLIMIT_NOFILE`, soft); absent where that is not known or
    /// there is no limit.
    pub limits: BTreeMap<u32, u32>,
    /// Memory of the control groups that were asked for, where it is limited.
    pub groups: BTreeMap<String, Use>,
    /// Memory of all TCP connections.
    pub tcp: Option<Use>,
}

/// Reads a walk that counts to its end, the limits of the processes that are counted, and the memory of control
/// groups.
///
/// # Errors
/// When the kernel stops in the middle.
pub fn read(walk: File, pids: BTreeSet<u32>, groups: BTreeSet<String>) -> anyhow::Result<Walked> {
    let cpu = clock::thread_cpu();
    to_the_end(walk, &mut Vec::new()).context("the walk over the open files broke off")?;
    // In a container with numbers of its own other processes would be asked.
    let asked = owners::sees_the_host();
    let limits = pids.iter().filter(|_| asked);
    let limits = limits.filter_map(|pid| Some((*pid, limit(*pid)?)));
    Ok(Walked {
        limits: limits.collect(),
        groups: groups
            .into_iter()
            .filter_map(|it| Some((it.clone(), memory::of_group(&it)?)))
            .collect(),
        tcp: memory::of_tcp(),
        pids,
        cost: clock::thread_cpu() - cpu,
    })
}

/// What a process may have open: `/proc/PID/limits`, which everybody may read.
fn limit(pid: u32) -> Option<u32> {
    parse(&fs::read_to_string(format!("/proc/{pid}/limits")).ok()?)
}

/// The soft limit of the line `Max open files`.
fn parse(limits: &str) -> Option<u32> {
    let line = limits
        .lines()
        .find_map(|it| it.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max processes             96000                96000                processes \n\
                      Max open files            1024                 1048576              files     \n";
        assert_eq!(parse(limits), Some(1024));
        let unlimited = limits.replace("1024      ", "unlimited ");
        assert_eq!(parse(&unlimited), None);
        assert_eq!(parse(""), None);
        assert!(limit(std::process::id()).is_some());
        assert_eq!(limit(u32::MAX), None);
    }
}

//! Which process holds a connection: a walk of the kernel over the open files of all processes, for
//! connections in trouble only. Unlike a look through `/proc` it asks for no right to other processes.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read as _,
    os::unix::fs::MetadataExt as _,
};

use anyhow::Context as _;

use super::decode;

/// Who holds a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Process, as the host counts it.
    pub pid: u32,
    /// Its name (`/proc/PID/comm`).
    pub process: Option<String>,
    /// Its control group, the last line of `/proc/PID/cgroup`.
    pub cgroup: Option<String>,
}

/// Reads a walk to its end: the holder of each socket, by inode. Of several the one with the lowest
/// number is told: the parent, mostly.
///
/// # Errors
/// When the kernel stops in the middle.
pub fn read(mut walk: File) -> anyhow::Result<BTreeMap<u64, Owner>> {
    let mut bytes = Vec::new();
    walk.read_to_end(&mut bytes)
        .context("the walk over the open files broke off")?;
    let holders = lowest(decode::holders(&bytes)?);
    let describe = if sees_the_host() { describe } else { number };
    Ok(holders
        .into_iter()
        .map(|(inode, pid)| (inode, describe(pid)))
        .collect())
}

/// Whether our numbers of processes are the host's, which the kernel tells: in a container with
/// numbers of its own another process would be named. `PROC_PID_INIT_INO`, `include/linux/proc_ns.h`.
pub(super) fn sees_the_host() -> bool {
    const HOST: u64 = 0xefff_fffc;
    fs::metadata("/proc/self/ns/pid").is_ok_and(|it| it.ino() == HOST)
}

fn number(pid: u32) -> Owner {
    Owner {
        pid,
        process: None,
        cgroup: None,
    }
}

/// Of each inode the lowest process.
fn lowest(holders: impl IntoIterator<Item = (u64, u32)>) -> BTreeMap<u64, u32> {
    let mut lowest = BTreeMap::new();
    for (inode, pid) in holders {
        let first = lowest.entry(inode).or_insert(pid);
        *first = pid.min(*first);
    }
    lowest
}

fn describe(pid: u32) -> Owner {
    let cgroup = read_line(&format!("/proc/{pid}/cgroup"));
    Owner {
        pid,
        process: read_line(&format!("/proc/{pid}/comm")),
        cgroup: cgroup.and_then(|line| line.splitn(3, ':').nth(2).map(str::to_owned)),
    }
}

/// The last line: with both versions of control groups mounted, version 2 comes last.
fn read_line(path: &str) -> Option<String> {
    let text = String::from_utf8_lossy(&fs::read(path).ok()?).into_owned();
    text.lines().last().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_holders_the_lowest_is_told() {
        let holders = lowest([(7, 300), (8, 5), (7, 20), (7, 301)]);
        assert_eq!(holders, BTreeMap::from([(7, 20), (8, 5)]));
    }

    #[test]
    fn a_process_is_described_and_one_that_is_gone_is_a_number() {
        let own = describe(std::process::id());
        assert!(own.process.is_some() && own.cgroup.is_some(), "{own:?}");
        let gone = describe(u32::MAX);
        assert_eq!((gone.process, gone.cgroup), (None, None));
    }
}

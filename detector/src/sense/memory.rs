//! Memory that has a limit: of control groups, and of all TCP connections together.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

/// Where control groups are.
const GROUPS: &str = "/sys/fs/cgroup";

/// What is in use and what may be, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Use {
    /// In use, and not to be had back for the asking.
    pub used: u64,
    /// At most.
    pub limit: u64,
}

/// Memory of a control group (version 2) or of one around it: of those that are limited the one with least
/// left. `None` where none is limited. Files that the kernel keeps in memory do not count: it drops them when it
/// needs room (Linux, `Documentation/admin-guide/cgroup-v2.rst`).
pub fn of_group(cgroup: &str) -> Option<Use> {
    under(Path::new(GROUPS), cgroup)
}

fn under(root: &Path, cgroup: &str) -> Option<Use> {
    let below = Path::new(cgroup).strip_prefix("/").ok()?;
    // Of a process outside our part of the tree the kernel says `/../other`.
    let plain = below
        .components()
        .all(|it| matches!(it, Component::Normal(_)));
    let folders = below.ancestors().filter(|_| plain);
    let limited = |folder: PathBuf| {
        let limit = number(&folder.join("memory.max"))?;
        Some(Use {
            used: used(&folder)?,
            limit,
        })
    };
    let limited = folders.filter_map(|it| limited(root.join(it)));
    limited.min_by_key(|it| it.limit.saturating_sub(it.used))
}

fn used(folder: &Path) -> Option<u64> {
    let current = number(&folder.join("memory.current"))?;
    let stat = fs::read_to_string(folder.join("memory.stat")).ok()?;
    let dropped = ["active_file", "inactive_file", "slab_reclaimable"];
    let fields = stat.lines().filter_map(|line| line.split_once(' '));
    let dropped = fields.filter(|(name, _)| dropped.contains(name));
    let dropped: u64 = dropped.filter_map(|(_, it)| it.parse::<u64>().ok()).sum();
    Some(current.saturating_sub(dropped))
}

/// A file that holds a number; `None` for `max`, too.
fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Memory of all TCP connections of this host, and how much the kernel allows (`tcp_mem`, the third); `None` in
/// other network namespaces than the host's own, where the kernel does not tell the second.
pub fn of_tcp() -> Option<Use> {
    let read = |path: &str| fs::read_to_string(path).ok();
    let pages = tcp_pages(
        &read("/proc/net/sockstat")?,
        &read("/proc/sys/net/ipv4/tcp_mem")?,
    )?;
    let page = rustix::param::page_size() as u64;
    Some(Use {
        used: pages.used.saturating_mul(page),
        limit: pages.limit.saturating_mul(page),
    })
}

/// The same in pages.
fn tcp_pages(sockstat: &str, tcp_mem: &str) -> Option<Use> {
    let line = sockstat.lines().find_map(|it| it.strip_prefix("TCP: "))?;
    let mut words = line.split_whitespace().skip_while(|it| *it != "mem");
    Some(Use {
        used: words.nth(1)?.parse().ok()?,
        limit: tcp_mem.split_whitespace().nth(2)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(root: &Path, name: &str, max: &str) {
        let folder = root.join(name);
        fs::create_dir_all(&folder).expect("a folder");
        let write = |file: &str, text: &str| fs::write(folder.join(file), text).expect("written");
        write("memory.max", max);
        write("memory.current", "1000\n");
        write(
            "memory.stat",
            "anon 300\nfile 500\nsock 200\ninactive_file 400\nactive_file 90\nslab_reclaimable 10\n",
        );
    }

    #[test]
    fn the_limit_that_is_reached_first_counts_and_what_can_be_dropped_does_not() {
        let root = tempfile::tempdir().expect("a folder");
        group(root.path(), "system.slice", "2000\n");
        group(root.path(), "system.slice/postfix.service", "max\n");
        group(root.path(), "system.slice/dovecot.service", "600\n");
        group(root.path(), "system.slice/exim.service", "9000\n");
        group(root.path(), "user.slice", "max\n");
        let limit = |cgroup| under(root.path(), cgroup).map(|it| (it.used, it.limit));
        assert_eq!(limit("/system.slice/dovecot.service"), Some((500, 600)));
        assert_eq!(limit("/system.slice/postfix.service"), Some((500, 2000)));
        assert_eq!(limit("/system.slice/exim.service"), Some((500, 2000)));
        assert_eq!(limit("/system.slice/gone.service"), Some((500, 2000)));
        for none in ["/user.slice", "/", "", "user.slice", "/../system.slice"] {
            assert_eq!(limit(none), None, "{none:?}");
        }
    }

    #[test]
    fn memory_of_tcp_is_read() {
        let sockstat =
            "sockets: used 9\nTCP: inuse 5 orphan 0 tw 0 alloc 7 mem 31\nUDP: inuse 1 mem 2\n";
        assert_eq!(
            tcp_pages(sockstat, "190983\t254645\t381966\n"),
            Some(Use {
                used: 31,
                limit: 381_966
            })
        );
        assert_eq!(tcp_pages("", ""), None);
        assert_eq!(tcp_pages("TCP: inuse 5 mem\n", "1 2 3"), None);
        let told = Path::new("/proc/sys/net/ipv4/tcp_mem").exists();
        assert_eq!(of_tcp().is_some_and(|it| it.limit > it.used), told);
    }
}

//! Which process holds a connection: by the inode of its socket, looked for only for connections
//! that are in trouble.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// Who holds a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Process.
    pub pid: u32,
    /// Its name (`/proc/PID/comm`).
    pub process: Option<String>,
    /// Its control group, the last line of `/proc/PID/cgroup`.
    pub cgroup: Option<String>,
}

/// Looks through all processes for the holders of `inodes`. Of several the one with the lowest
/// number is told: the parent, mostly. Processes that may not be looked into are passed over.
pub fn find(inodes: &BTreeSet<u64>) -> BTreeMap<u64, Owner> {
    let mut pids: Vec<u32> = entries(Path::new("/proc"))
        .filter_map(|name| name.parse().ok())
        .collect();
    pids.sort_unstable();
    let mut found = BTreeMap::new();
    for pid in pids {
        if found.len() == inodes.len() {
            break;
        }
        let folder = format!("/proc/{pid}");
        let mut owner = None;
        for fd in entries(Path::new(&format!("{folder}/fd"))) {
            let Ok(target) = fs::read_link(format!("{folder}/fd/{fd}")) else {
                continue;
            };
            let Some(inode) = target.to_str().and_then(socket_inode) else {
                continue;
            };
            if inodes.contains(&inode) && !found.contains_key(&inode) {
                let owner = owner.get_or_insert_with(|| Owner {
                    pid,
                    process: read_line(&format!("{folder}/comm")),
                    cgroup: read_line(&format!("{folder}/cgroup"))
                        .and_then(|line| line.splitn(3, ':').nth(2).map(str::to_owned)),
                });
                found.insert(inode, owner.clone());
            }
        }
    }
    found
}

fn entries(folder: &Path) -> impl Iterator<Item = String> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
}

/// The last line: with both versions of control groups mounted, version 2 comes last.
fn read_line(path: &str) -> Option<String> {
    let text = String::from_utf8_lossy(&fs::read(path).ok()?).into_owned();
    text.lines().last().map(str::to_owned)
}

fn socket_inode(target: &str) -> Option<u64> {
    target
        .strip_prefix("socket:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, os::fd::AsRawFd as _};

    use super::*;

    #[test]
    fn a_socket_of_this_process_is_found_and_a_made_up_one_is_not() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let link = fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap();
        let inode = socket_inode(link.to_str().unwrap()).unwrap();
        let owners = find(&BTreeSet::from([inode, u64::MAX]));
        assert_eq!(owners[&inode].pid, std::process::id());
        assert!(owners[&inode].process.is_some());
        assert_eq!(owners.len(), 1);
    }

    #[test]
    fn only_sockets_have_a_socket_inode() {
        assert_eq!(socket_inode("socket:[123]"), Some(123));
        assert_eq!(socket_inode("/dev/null"), None);
        assert_eq!(socket_inode("socket:[x]"), None);
    }
}

//! Where network namespaces can be entered, by their inode numbers.
//!
//! **Invariant:** a file that is found is one of the namespace that was wanted: its number is looked at when
//! it is open, and stays the same for as long as it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs::{self, File},
    os::unix::{ffi::OsStringExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use rustix::io::Errno;

use crate::model::NetnsId;

/// That of the calling thread; `None` where `/proc` is not mounted.
pub(super) fn own() -> Option<NetnsId> {
    let metadata = fs::metadata("/proc/thread-self/ns/net").ok()?;
    u32::try_from(metadata.ino()).ok().map(NetnsId)
}

/// Files to enter those of `wanted` that can be found: through the processes that hold the connections, names
/// (`ip netns`, Docker), all processes and, last, all threads.
pub(super) fn find(
    mut wanted: BTreeSet<NetnsId>,
    holders: &BTreeSet<u32>,
) -> BTreeMap<NetnsId, File> {
    let held = holders
        .iter()
        .map(|pid| format!("/proc/{pid}/ns/net").into());
    let mounts = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let named = named(&mounts).collect::<Vec<_>>();
    let processes = || numbers("/proc".as_ref());
    let threads = processes().flat_map(|process| numbers(&process.join("task")));
    let inside = |it: PathBuf| it.join("ns/net");
    let all = held
        .chain(named)
        .chain(processes().map(inside))
        .chain(threads.map(inside));
    let mut found = BTreeMap::new();
    for path in all {
        if wanted.is_empty() {
            break;
        }
        if let Some((netns, file)) = open(&path, &wanted) {
            wanted.remove(&netns);
            found.insert(netns, file);
        }
    }
    found
}

/// The file of a namespace, when it is one of `wanted`.
fn open(path: &Path, wanted: &BTreeSet<NetnsId>) -> Option<(NetnsId, File)> {
    let number = |metadata: fs::Metadata| {
        let number = NetnsId(u32::try_from(metadata.ino()).ok()?);
        wanted.contains(&number).then_some(number)
    };
    number(fs::metadata(path).ok()?)?;
    let file = File::open(path).ok()?;
    // Processes end, and others take their numbers.
    Some((number(file.metadata().ok()?)?, file))
}

/// Entries of a folder whose names are numbers.
fn numbers(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let is_number = |name: OsString| {
        let name = name.into_encoded_bytes();
        name.iter().all(u8::is_ascii_digit)
    };
    entries
        .filter(move |it| is_number(it.file_name()))
        .map(|it| it.path())
}

/// Where network namespaces are mounted so that they have names, as `/proc/PID/mountinfo` tells (proc(5)).
fn named(mounts: &[u8]) -> impl Iterator<Item = PathBuf> {
    mounts.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let root = fields.nth(3)?;
        let place = fields.next()?;
        root.starts_with(b"net:[").then(|| unescaped(place))
    })
}

/// Spaces and the like are written as three octal digits.
fn unescaped(text: &[u8]) -> PathBuf {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| *first == b'\\');
        let digits = digits.and_then(|it| std::str::from_utf8(it).ok());
        match digits.and_then(|it| u8::from_str_radix(it, 8).ok()) {
            Some(byte) => {
                plain.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    OsString::from_vec(plain).into()
}

/// Why nothing can be done in a namespace that was not found.
pub(super) fn not_found(netns: NetnsId) -> String {
    format!(
        "its network namespace {} is not to be found: no process that can be seen from here is in it; try it \
         on the host itself",
        netns.0
    )
}

/// Why nothing can be done in a namespace that cannot be entered.
pub(super) fn not_entered(netns: NetnsId, error: Errno) -> String {
    let advice = match error {
        Errno::PERM => "that takes CAP_SYS_ADMIN: run it as root of the host, not in a container",
        _ => "try it again",
    };
    format!(
        "its network namespace {} cannot be entered ({error}); {advice}",
        netns.0
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_namespaces_are_read_from_the_mounts() {
        let mounts = b"24 29 0:22 / /sys rw - sysfs sysfs rw\n\
            40 29 0:4 net:[4026532280] /run/netns/blue rw shared:5 - nsfs nsfs rw\n\
            41 29 0:4 mnt:[4026532281] /run/mnt rw - nsfs nsfs rw\n\
            42 29 0:4 net:[4026532282] /run/a\\040b\\134c\\ rw - nsfs nsfs rw\n\
            \n43 29\n";
        let named: Vec<_> = named(mounts).collect();
        assert_eq!(
            named,
            [PathBuf::from("/run/netns/blue"), "/run/a b\\c\\".into()]
        );
    }

    #[test]
    fn our_own_is_found_and_one_that_is_not_there_is_not() {
        let own = own().unwrap();
        let us = BTreeSet::from([std::process::id()]);
        for holders in [us, BTreeSet::new()] {
            let found = find([own, NetnsId(1)].into(), &holders);
            assert_eq!(found.keys().copied().collect::<Vec<_>>(), [own]);
        }
        // A file with the wrong number is none.
        let path = Path::new("/proc/self/ns/net");
        assert!(open(path, &[NetnsId(1)].into()).is_none());
        assert!(open(Path::new("/nowhere"), &[own].into()).is_none());
    }
}

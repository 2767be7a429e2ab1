//! Who holds the connections in trouble: asked once for each, forgotten with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use detector_ebpf::MAX_WANTED;

use crate::{engine::Engine, sense::owners::Owner, serve, time::Time};

/// Between two searches for the owners of connections.
const OWNERS_EVERY: Duration = Duration::from_secs(2);

/// What is known of the holders of sockets.
#[derive(Debug, Default)]
pub(super) struct Owners {
    known: BTreeMap<u64, Option<Owner>>,
    asked: BTreeSet<u64>,
    searched_at: Time,
}

impl Owners {
    /// Sockets of connections in trouble whose holder was not looked for; forgets the others.
    pub(super) fn wanted(&mut self, engine: &Engine, now: Time) -> BTreeSet<u64> {
        let inodes = engine.inodes_in_trouble();
        self.known.retain(|inode, _| inodes.contains(inode));
        let new: BTreeSet<_> = inodes
            .into_iter()
            .filter(|inode| !self.known.contains_key(inode))
            .take(MAX_WANTED as usize)
            .collect();
        if new.is_empty() || now.since(self.searched_at) < OWNERS_EVERY {
            return BTreeSet::new();
        }
        self.searched_at = now;
        self.asked.clone_from(&new);
        new
    }

    pub(super) fn take(&mut self, found: BTreeMap<u64, Owner>) {
        for inode in std::mem::take(&mut self.asked) {
            self.known.insert(inode, found.get(&inode).cloned());
        }
    }

    /// The search has failed; the next one is a new chance.
    pub(super) fn give_up(&mut self) {
        self.asked.clear();
    }

    /// A process that is said to hold some is gone: whoever holds them now is looked for.
    pub(super) fn forget(&mut self, gone: &BTreeSet<u32>) {
        self.known
            .retain(|_, owner| owner.as_ref().is_none_or(|it| !gone.contains(&it.pid)));
    }

    /// The processes that are known to hold some.
    pub(super) fn pids(&self) -> BTreeSet<u32> {
        self.known.values().flatten().map(|it| it.pid).collect()
    }

    /// The control groups of these.
    pub(super) fn groups(&self) -> BTreeSet<String> {
        let holders = self.known.values().flatten();
        let groups: BTreeSet<_> = holders.filter_map(|it| it.cgroup.as_ref()).collect();
        groups.into_iter().cloned().collect()
    }

    pub(super) fn of(&self, inode: u64) -> Option<serve::Owner> {
        let owner = self.known.get(&inode)?.clone()?;
        Some(serve::Owner {
            pid: Some(owner.pid),
            process: owner.process,
            cgroup: owner.cgroup,
        })
    }
}

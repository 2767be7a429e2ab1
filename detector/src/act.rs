//! What is done to connections, with the rights of whoever asks for it: those that are stuck are reset.
//!
//! **Invariant:** nothing is reset that was not looked at just before, by its cookie, and found as stuck as
//! the daemon had seen it. Each connection that was to be reset has a [`Done`].

mod judge;
mod namespaces;
mod netlink;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    net::SocketAddr,
    os::fd::AsFd as _,
    thread,
};

use rustix::{
    io::Errno,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use serde::Serialize;

use crate::{
    api::Target,
    model::{Fate, NetnsId},
    sense::programs,
};
use judge::{Left, Verdict};
use netlink::{Asker, Found};

/// What became of a connection that was to be reset.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Done {
    /// Identity, such as `c-7f3a9c01`.
    pub id: String,
    /// Local address and port.
    pub local: SocketAddr,
    /// Remote address and port.
    pub remote: SocketAddr,
    /// Name of the process that holds it, as far as it is known.
    pub process: Option<String>,
    /// What became of it.
    pub outcome: Fate,
    /// Why, where it was not reset.
    pub because: Option<String>,
}

/// Resets those of `targets` that are as stuck as they were; one [`Done`] each, in the order given.
///
/// The calling thread's network namespace needs `CAP_NET_ADMIN`, others also `CAP_SYS_ADMIN`: they are
/// entered, by threads of their own.
pub fn reset(targets: &[Target]) -> Vec<Done> {
    let mut places: BTreeMap<NetnsId, Vec<(usize, &Target)>> = BTreeMap::new();
    for (index, target) in targets.iter().enumerate() {
        let place = places.entry(target.stall.netns).or_default();
        place.push((index, target));
    }
    let own = namespaces::own();
    let others: BTreeSet<_> = places
        .keys()
        .copied()
        .filter(|it| Some(*it) != own)
        .collect();
    let holders = targets.iter().filter_map(|it| it.stall.pid).collect();
    let files = namespaces::find(others, &holders);
    let mut done = Vec::with_capacity(targets.len());
    for (netns, targets) in places {
        done.extend(match files.get(&netns) {
            _ if Some(netns) == own => reset_here(&targets),
            Some(file) => reset_inside(file, netns, &targets),
            None => all_refused(&targets, &namespaces::not_found(netns)),
        });
    }
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, done)| done).collect()
}

/// The same inside another network namespace, on a thread that is gone afterwards.
fn reset_inside(file: &File, netns: NetnsId, targets: &[(usize, &Target)]) -> Vec<(usize, Done)> {
    let inside = || {
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(reset_here(targets))
    };
    let entered: Result<_, Errno> = thread::scope(|scope| {
        let thread = thread::Builder::new().name("inside".to_owned());
        match thread.spawn_scoped(scope, inside) {
            Ok(thread) => thread.join().unwrap_or(Err(Errno::CANCELED)),
            Err(_) => Err(Errno::AGAIN),
        }
    });
    entered.unwrap_or_else(|error| all_refused(targets, &namespaces::not_entered(netns, error)))
}

/// The same in the network namespace of the calling thread.
fn reset_here(targets: &[(usize, &Target)]) -> Vec<(usize, Done)> {
    let kernel = programs::release();
    let mut asker = match Asker::open() {
        Ok(asker) => asker,
        Err(error) => return all_refused(targets, &netlink::unable(&error)),
    };
    let reset = targets.iter().map(|(index, target)| {
        let left = reset_one(&mut asker, target, &kernel);
        (*index, done(target, left))
    });
    reset.collect()
}

/// `None` when it was reset.
fn reset_one(asker: &mut Asker, target: &Target, kernel: &str) -> Option<Left> {
    let found = match asker.look(target) {
        Ok(Found::Socket(found)) => found,
        Ok(Found::Nothing) => return Some(judge::gone()),
        Err(error) => return Some(judge::refused(netlink::unable(&error))),
    };
    let socket = match judge::verdict(target, &found, kernel) {
        Verdict::Reset(socket) => socket,
        Verdict::Leave(left) => return Some(left),
    };
    match asker.destroy(&socket) {
        Ok(Found::Socket(_)) => None,
        Ok(Found::Nothing) => Some(judge::gone()),
        Err(error) => Some(judge::refused(netlink::not_reset(&error))),
    }
}

fn all_refused(targets: &[(usize, &Target)], because: &str) -> Vec<(usize, Done)> {
    let refused = || Some(judge::refused(because.to_owned()));
    let targets = targets.iter();
    targets
        .map(|(index, target)| (*index, done(target, refused())))
        .collect()
}

fn done(target: &Target, left: Option<Left>) -> Done {
    let (outcome, because) = match left {
        Some(Left { fate, because }) => (fate, Some(because)),
        None => (Fate::Reset, None),
    };
    let stall = &target.stall;
    Done {
        id: stall.id.clone(),
        local: stall.local,
        remote: stall.remote,
        process: stall.process.clone(),
        outcome,
        because,
    }
}

#[cfg(test)]
mod tests;

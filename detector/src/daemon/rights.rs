//! What the daemon gives up once everything is loaded and open: what it does not need from then on,
//! nobody can make it do.
//!
//! **Invariant:** called before any other thread is started, since rights belong to threads.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use landlock::{
    ABI, AccessFs, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus,
    path_beneath_rules,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs,
};

use crate::sense::Check;

/// What is still needed where programs in the kernel are: each sweep opens a walk.
const NEEDED: CapabilitySet = CapabilitySet::BPF;
/// Where there is no `CAP_BPF`, it stands for that (`bpf_capable`, `include/linux/capability.h`).
const INSTEAD: CapabilitySet = CapabilitySet::SYS_ADMIN;

/// Keeps what is needed of the capabilities, for good, which is none without `programs` in the kernel,
/// and the right to make and change files below `folders` only. A folder that is not there stands for the
/// one that it can be made in. What the kernel does not offer is told.
///
/// # Errors
/// When the kernel refuses something that it offers.
pub(super) fn give_up(folders: &[&Path], programs: bool) -> anyhow::Result<Vec<Check>> {
    let kept = keep_capabilities(programs).context("the capabilities cannot be given up")?;
    set_no_new_privs(true).context("new privileges cannot be given up")?;
    let places: BTreeSet<PathBuf> = folders.iter().map(|it| existing(it)).collect();
    let fenced = fence(&places).context("the right to write cannot be given up")?;
    let kept = format!("the daemon keeps {kept} of its capabilities");
    let rights = Check::present("rights", false, kept);
    Ok(vec![rights, wall(fenced, &places)])
}

/// Their names, of those that are kept.
fn keep_capabilities(programs: bool) -> rustix::io::Result<String> {
    let had = capabilities(None)?.permitted;
    let needed = match programs {
        false => CapabilitySet::empty(),
        true if had.contains(NEEDED) => NEEDED,
        true => INSTEAD,
    };
    let kept = had & needed;
    for bit in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        if !kept.contains(one) {
            // Fails without the right to do so, and beyond the last that there is: no loss.
            let _ = remove_capability_from_bounding_set(one);
        }
    }
    // What is neither permitted nor inheritable is not ambient either.
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets)?;
    let names = [
        (CapabilitySet::BPF, "CAP_BPF"),
        (CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN"),
    ];
    let mut names = names.iter().filter(|(one, _)| kept.contains(*one));
    Ok(names.next().map_or("none", |(_, name)| name).to_owned())
}

/// How far the kernel holds us to it.
fn fence(places: &BTreeSet<PathBuf>) -> anyhow::Result<RulesetStatus> {
    // With 3 files cannot be cut off either. Later ones are about other things than files.
    let writing = AccessFs::from_write(ABI::V3);
    let status = Ruleset::default()
        .handle_access(writing)?
        .create()?
        .add_rules(path_beneath_rules(places, writing))?
        .restrict_self()?;
    Ok(status.ruleset)
}

/// The folder, or the one that it will be made in.
fn existing(folder: &Path) -> PathBuf {
    let there = folder.ancestors().find(|it| it.is_dir());
    let there = there.unwrap_or(Path::new("."));
    there.canonicalize().unwrap_or_else(|_| there.to_owned())
}

fn wall(fenced: RulesetStatus, places: &BTreeSet<PathBuf>) -> Check {
    if places.contains(Path::new("/")) {
        return Check {
            ok: false,
            lost: "a fence: all folders are within it".to_owned(),
            remedy: "make the state folder and that of the socket before the start".to_owned(),
            ..Check::present(
                "landlock",
                false,
                "a folder would have to be made in /".to_owned(),
            )
        };
    }
    let places: Vec<_> = places.iter().map(|it| it.display().to_string()).collect();
    let places = places.join(" and ");
    let (ok, found) = match fenced {
        RulesetStatus::FullyEnforced => (
            true,
            format!("the daemon can make and change files below {places} only"),
        ),
        RulesetStatus::PartiallyEnforced => (
            true,
            format!(
                "the daemon can make and change files below {places} only, but before 6.2 also cut \
                 others off"
            ),
        ),
        RulesetStatus::NotEnforced => (
            false,
            "this kernel has no Landlock, or it is switched off".to_owned(),
        ),
    };
    Check {
        ok,
        lost: "nothing, until somebody takes the daemon over: it could then write wherever its \
               user may"
            .to_owned(),
        remedy: "a kernel from 5.13 on with CONFIG_SECURITY_LANDLOCK=y and landlock among lsm="
            .to_owned(),
        ..Check::present("landlock", false, found)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::ErrorKind, thread};

    use super::*;

    /// On a thread of its own, which it leaves poorer.
    fn poorer<T: Send>(work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| scope.spawn(work).join().unwrap())
    }

    #[test]
    fn nothing_but_what_is_needed_is_kept() {
        poorer(|| {
            let had = capabilities(None).unwrap().permitted;
            let kept = keep_capabilities(true).unwrap();
            let now = capabilities(None).unwrap();
            assert_eq!(kept == "none", now.permitted.is_empty());
            assert!(NEEDED.union(INSTEAD).contains(now.permitted), "{now:?}");
            assert_eq!(now.permitted, now.effective);
            assert_eq!(now.inheritable, CapabilitySet::empty());
            assert_eq!(now.permitted & NEEDED, had & NEEDED);
            let back = CapabilitySets {
                effective: had,
                permitted: had,
                inheritable: had,
            };
            let gone = !now.permitted.contains(had);
            assert_eq!(set_capabilities(None, back).is_err(), gone);
        });
    }

    #[test]
    fn without_programs_nothing_is_kept() {
        poorer(|| {
            assert_eq!(keep_capabilities(false).unwrap(), "none");
            let now = capabilities(None).unwrap();
            assert!(now.permitted.is_empty() && now.effective.is_empty());
        });
    }

    #[test]
    fn a_fence_around_everything_is_none() {
        let told = |place: &str| {
            let places = BTreeSet::from([PathBuf::from(place), PathBuf::from("/run")]);
            wall(RulesetStatus::FullyEnforced, &places)
        };
        assert!(told("/var/lib").ok);
        assert!(!told("/").ok);
    }

    #[test]
    fn only_its_own_folders_can_be_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let (own, other) = (folder.path().join("own"), folder.path().join("other"));
        fs::create_dir(&own).unwrap();
        fs::create_dir(&other).unwrap();
        let checks = poorer(|| {
            let checks = give_up(&[&own], true).unwrap();
            fs::write(own.join("file"), "words").unwrap();
            fs::rename(own.join("file"), own.join("file.next")).unwrap();
            fs::remove_file(own.join("file.next")).unwrap();
            let denied = fs::write(other.join("file"), "words").err();
            let denied = denied.map(|error| error.kind());
            let fenced = checks.iter().any(|it| it.feature == "landlock" && it.ok);
            let modules = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
            assert!(fenced || !modules.contains("landlock"), "{checks:?}");
            let expected = fenced.then_some(ErrorKind::PermissionDenied);
            assert_eq!(denied, expected, "{checks:?}");
            fs::read_dir("/proc").unwrap();
            checks
        });
        assert!(checks.iter().any(|it| it.feature == "rights" && it.ok));
    }

    #[test]
    fn a_folder_that_is_not_there_yet_can_be_made() {
        let folder = tempfile::tempdir().unwrap();
        let later = folder.path().join("a/b");
        poorer(|| {
            give_up(&[&later], true).unwrap();
            fs::create_dir_all(&later).unwrap();
            fs::write(later.join("file"), "words").unwrap();
        });
    }
}

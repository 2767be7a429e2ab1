//! From judgements to the files that failover programs read. Decides nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
    time::Duration,
};

use crate::{
    gate::{self, Change, Seen, Shown, Why},
    model::{Gate, Snapshot},
    serve::words::clean,
    state_dir::{GateFolder, gate_folder},
    time::Time,
};

/// Between two looks whether the files say what they should, whoever has changed them.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// After a failure, until it is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The gates, and their files.
#[derive(Debug)]
pub(super) struct Gates {
    gates: gate::Gates,
    folder: GateFolder,
    /// What the files say; nothing when that is not known.
    written: BTreeMap<String, Gate>,
    looked_at: Time,
    /// It was said that they cannot be written.
    failed: bool,
}

impl Gates {
    /// Goes on with what an earlier run has left beside the socket, and leaves a file for each of `names`.
    pub(super) fn open(socket: &Path, names: &[String], now: Time) -> Self {
        let mut folder = GateFolder::new(gate_folder(socket));
        let left = match folder.path().exists() {
            true => folder.hold().and_then(|()| folder.gates()),
            false => Ok(BTreeMap::new()),
        };
        // What stands in the way is said by whoever writes there.
        let left = left.unwrap_or_default();
        let closed = left.iter().filter(|(_, gate)| **gate == Gate::Closed);
        let closed: BTreeSet<_> = closed.map(|(name, _)| name.clone()).collect();
        for name in names.iter().filter(|it| closed.contains(*it)) {
            let name = clean(name);
            tracing::info!("the gate of {name} is closed, as an earlier run has left it");
        }
        let (gates, changes) = gate::Gates::new(names, &closed, now);
        tell(&changes);
        let mut gates = Self {
            gates,
            folder,
            written: BTreeMap::new(),
            looked_at: now,
            failed: false,
        };
        gates.keep(now);
        gates
    }

    /// The configuration has changed.
    pub(super) fn configure(&mut self, names: &[String], now: Time) {
        tell(&self.gates.configure(names, now));
        self.keep(now);
    }

    /// Takes in a judgement, and gives what is shown of each gate.
    pub(super) fn judged(&mut self, snapshot: &Snapshot) -> BTreeMap<String, Shown> {
        let seen = snapshot.upstreams.iter().map(|it| {
            let (state, scope) = (it.state, it.scope);
            (it.name.as_str(), Seen { state, scope })
        });
        tell(&self.gates.handle(snapshot.at, &seen.collect()));
        self.keep(snapshot.at)
    }

    /// Has the files say what they should, and gives what that is.
    fn keep(&mut self, now: Time) -> BTreeMap<String, Shown> {
        let shown = self.gates.shown(now);
        let gates = shown.iter().map(|(name, it)| (name.clone(), it.gate));
        self.have(gates.collect(), now);
        shown
    }

    fn have(&mut self, wanted: BTreeMap<String, Gate>, now: Time) {
        if wanted.is_empty() && !self.folder.path().exists() {
            return;
        }
        let wait = match (self.failed, wanted == self.written) {
            (true, _) => RETRY,
            (false, true) => LOOK_EVERY,
            (false, false) => Duration::ZERO,
        };
        if now.since(self.looked_at) < wait {
            return;
        }
        self.looked_at = now;
        let written = self.write(&wanted);
        let folder = self.folder.path().display();
        match written {
            Ok(()) => {
                if std::mem::replace(&mut self.failed, false) {
                    tracing::info!("the gates in {folder} can be written again");
                }
                self.written = wanted;
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failed, true) {
                    tracing::warn!(
                        "the gates in {folder} cannot be written ({error}): failover programs find \
                         what was there before, and it is tried again; make it a folder with room \
                         that the daemon may write to"
                    );
                }
                self.written.clear();
            }
        }
    }

    /// Writes what is wrong or missing, and removes gates that are none any more. One that fails does not
    /// keep the others from being written.
    fn write(&mut self, wanted: &BTreeMap<String, Gate>) -> io::Result<()> {
        self.folder.hold()?;
        let there = self.folder.gates()?;
        let mut all = Ok(());
        for (name, gate) in wanted {
            if there.get(name) != Some(gate) {
                all = all.and(self.folder.write(name, *gate));
            }
        }
        for name in there.keys().filter(|it| !wanted.contains_key(*it)) {
            all = all.and(self.folder.remove(name));
        }
        all
    }
}

fn tell(changes: &[Change]) {
    for change in changes {
        match change {
            Change::Opened { .. } => tracing::info!("{}", words(change)),
            Change::Closed { .. } | Change::Kept { .. } => tracing::warn!("{}", words(change)),
        }
    }
}

fn words(change: &Change) -> String {
    match change {
        Change::Closed { upstream, hold } => format!(
            "the gate of {} is closed: it is failing, and others are not; it opens once it has been \
             neither failing nor degraded for {} s",
            clean(upstream),
            hold.as_secs()
        ),
        Change::Opened { upstream, why } => {
            let upstream = clean(upstream);
            match why {
                Why::Held(hold) => format!(
                    "the gate of {upstream} is open again: it was neither failing nor degraded for \
                     {} s",
                    hold.as_secs()
                ),
                Why::Needed(hold) => format!(
                    "the gate of {upstream} is open again: it was neither failing nor degraded for \
                     {} s, and whatever else is open is failing",
                    hold.as_secs()
                ),
                Why::Alone => format!("the gate of {upstream} is open again: no other is"),
            }
        }
        Change::Kept { upstream } => format!(
            "the gate of {} stays open although it is failing: no other is open",
            clean(upstream)
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        model::{Scope, State},
        serve::example,
    };

    struct Host {
        folder: tempfile::TempDir,
        gates: Gates,
        snapshot: Snapshot,
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    /// `provider-b` is failing, the others are not.
    fn host() -> Host {
        let folder = tempfile::tempdir().expect("a folder");
        let snapshot = example::snapshot();
        let gates = open(folder.path(), &["provider-a", "provider-b"], snapshot.at);
        Host {
            folder,
            gates,
            snapshot,
        }
    }

    fn open(folder: &Path, upstreams: &[&str], now: Time) -> Gates {
        Gates::open(&folder.join("t.sock"), &names(upstreams), now)
    }

    impl Host {
        fn files(&self) -> BTreeMap<String, String> {
            let files = fs::read_dir(self.folder.path().join("gate")).expect("a folder");
            let read = files.map(|file| {
                let path = file.expect("a file").path();
                let name = path.file_name().expect("a name").to_string_lossy();
                (name.into_owned(), fs::read_to_string(&path).expect("text"))
            });
            read.collect()
        }

        fn wait(&mut self, seconds: u64) -> BTreeMap<String, Shown> {
            self.snapshot.at = self.snapshot.at.after(Duration::from_secs(seconds));
            self.gates.judged(&self.snapshot)
        }

        fn heal(&mut self) {
            for upstream in &mut self.snapshot.upstreams {
                (upstream.state, upstream.scope) = (State::Ok, None);
            }
        }
    }

    fn files(all: &[(&str, &str)]) -> BTreeMap<String, String> {
        let owned = |(name, text): &(&str, &str)| ((*name).to_owned(), format!("{text}\n"));
        all.iter().map(owned).collect()
    }

    #[test]
    fn files_follow_the_verdict_and_the_clock() {
        let mut host = host();
        let open = files(&[("provider-a", "1"), ("provider-b", "1")]);
        let closed = files(&[("provider-a", "1"), ("provider-b", "0")]);
        assert_eq!(host.files(), open, "before anything is judged");
        let shown = host.wait(0);
        assert_eq!(host.files(), closed);
        let b = Shown {
            gate: Gate::Closed,
            opens: None,
        };
        assert_eq!(shown["provider-b"], b);
        assert!(!shown.contains_key("vpn"), "{shown:?}");
        host.heal();
        host.wait(1);
        host.wait(59);
        assert_eq!(host.files(), closed);
        host.wait(1);
        assert_eq!(host.files(), open);
    }

    #[test]
    fn a_restart_keeps_what_is_closed() {
        let mut host = host();
        host.wait(0);
        let Host {
            folder, snapshot, ..
        } = &host;
        fs::write(folder.path().join("gate/.next "), "").expect("written");
        fs::write(folder.path().join("gate/letter"), "dear reader").expect("written");
        fs::write(folder.path().join("gate/provider-x"), "0\n").expect("written");
        let again = || open(folder.path(), &["provider-a", "provider-b"], snapshot.at);
        // The one that still runs has it: nothing is written and nothing is removed.
        assert!(again().failed);
        host.gates = open(Path::new("/nonexistent"), &[], host.snapshot.at);
        host.gates = open(
            host.folder.path(),
            &["provider-a", "provider-b"],
            host.snapshot.at,
        );
        let mut left = files(&[("provider-a", "1"), ("provider-b", "0")]);
        left.insert("letter".to_owned(), "dear reader".to_owned());
        assert_eq!(host.files(), left);
    }

    #[test]
    fn files_follow_the_configuration() {
        let mut host = host();
        host.wait(0);
        let now = host.snapshot.at;
        host.gates.configure(&names(&["provider-b", "new"]), now);
        assert_eq!(host.files(), files(&[("new", "1"), ("provider-b", "0")]));
        host.gates.configure(&names(&["provider-b"]), now);
        assert_eq!(host.files(), files(&[("provider-b", "1")]));
        host.gates.configure(&[], now);
        assert_eq!(host.files(), files(&[]));
    }

    #[test]
    fn without_upstreams_there_is_no_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut gates = open(folder.path(), &[], Time(1));
        gates.judged(&example::snapshot());
        assert!(!folder.path().join("gate").exists());
    }

    #[test]
    fn files_that_others_change_are_put_right() {
        let mut host = host();
        host.wait(0);
        let gate = host.folder.path().join("gate");
        fs::write(gate.join("provider-b"), "1\n").expect("written");
        fs::remove_file(gate.join("provider-a")).expect("removed");
        host.wait(9);
        assert_eq!(host.files(), files(&[("provider-b", "1")]));
        let right = files(&[("provider-a", "1"), ("provider-b", "0")]);
        host.wait(1);
        assert_eq!(host.files(), right);
        fs::remove_dir_all(&gate).expect("removed");
        host.wait(10);
        assert_eq!(host.files(), right);
    }

    #[test]
    fn one_that_cannot_be_written_keeps_no_other_from_it_and_is_tried_again() {
        let mut host = host();
        let gate = host.folder.path().join("gate");
        fs::remove_file(gate.join("provider-a")).expect("removed");
        fs::create_dir(gate.join("provider-a")).expect("made");
        let shown = host.wait(0);
        assert_eq!(shown["provider-b"].gate, Gate::Closed);
        assert!(host.gates.failed);
        let b = fs::read_to_string(gate.join("provider-b"));
        assert_eq!(b.ok().as_deref(), Some("0\n"));
        fs::remove_dir(gate.join("provider-a")).expect("removed");
        host.wait(1);
        assert!(!host.gates.failed);
        let right = files(&[("provider-a", "1"), ("provider-b", "0")]);
        assert_eq!(host.files(), right);
    }

    #[test]
    fn the_last_one_stays_open() {
        let mut host = host();
        for upstream in &mut host.snapshot.upstreams {
            upstream.state = State::Failing;
            upstream.scope = Some(Scope::Upstream);
        }
        host.wait(0);
        let left = files(&[("provider-a", "0"), ("provider-b", "1")]);
        assert_eq!(host.files(), left);
    }

    #[test]
    fn changes_are_sentences() {
        let upstream = || "b".to_owned();
        let minute = Duration::from_secs(60);
        let opened = |why| Change::Opened {
            upstream: upstream(),
            why,
        };
        let closed = Change::Closed {
            upstream: upstream(),
            hold: minute * 2,
        };
        for (change, expected) in [
            (
                closed,
                "the gate of b is closed: it is failing, and others are not; it opens once it has \
                 been neither failing nor degraded for 120 s",
            ),
            (
                opened(Why::Held(minute)),
                "the gate of b is open again: it was neither failing nor degraded for 60 s",
            ),
            (
                opened(Why::Needed(minute)),
                "the gate of b is open again: it was neither failing nor degraded for 60 s, and \
                 whatever else is open is failing",
            ),
            (
                opened(Why::Alone),
                "the gate of b is open again: no other is",
            ),
            (
                Change::Kept {
                    upstream: upstream(),
                },
                "the gate of b stays open although it is failing: no other is open",
            ),
        ] {
            assert_eq!(words(&change), expected);
        }
    }
}

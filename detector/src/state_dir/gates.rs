//! The files that failover programs read: one for each gate, `1` (use it) or `0` (avoid it).
//!
//! **Invariant:** whoever reads one, at whatever moment, finds the old or the new value; what others have
//! put there is left alone; everybody may read.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, OFlags, flock};

use crate::model::Gate;

const FOLDER_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o644;
/// Where a value is written before it takes its place. The name of an upstream neither begins nor ends with a
/// blank, and files with a dot in front are not listed.
const NEXT: &str = ".next ";

/// Where the gates of the daemon with that socket are.
pub fn gate_folder(socket: &Path) -> PathBuf {
    socket.parent().unwrap_or(Path::new("")).join("gate")
}

/// What the file of a gate says; `None` when there is none, or it is no file of a gate.
///
/// # Errors
/// When it cannot be read.
pub fn read_gate(folder: &Path, name: &str) -> io::Result<Option<Gate>> {
    // Neither a link nor a pipe: somebody else's, and reading it could take for ever.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(folder.join(name));
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    let mut text = Vec::new();
    file.take(3).read_to_end(&mut text)?;
    Ok(match text.as_slice() {
        b"0" | b"0\n" => Some(Gate::Closed),
        b"1" | b"1\n" => Some(Gate::Open),
        _ => None,
    })
}

/// The folder, kept by one daemon at a time.
#[derive(Debug)]
pub struct GateFolder {
    path: PathBuf,
    held: Option<File>,
}

impl GateFolder {
    /// Not opened yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, held: None }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it when it is missing, and holds it.
    ///
    /// # Errors
    /// When it cannot be made, is no folder, or is another daemon's.
    pub fn hold(&mut self) -> io::Result<()> {
        if self.held.is_some() && self.path.is_dir() {
            return Ok(());
        }
        self.held = None;
        match DirBuilder::new().mode(FOLDER_MODE).create(&self.path) {
            // Whatever the mask says: the others are to read.
            Ok(()) => fs::set_permissions(&self.path, Permissions::from_mode(FOLDER_MODE))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        if !fs::symlink_metadata(&self.path)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let folder = File::open(&self.path)?;
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(io::Error::other("it is kept by another daemon"));
            }
            Err(error) => return Err(error.into()),
        }
        self.held = Some(folder);
        // Of a daemon that was killed; in nobody's way, should it stay.
        let _ = self.remove(NEXT);
        Ok(())
    }

    /// All gates that are there.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn gates(&self) -> io::Result<BTreeMap<String, Gate>> {
        let mut gates = BTreeMap::new();
        for entry in fs::read_dir(&self.path)? {
            let Ok(name) = entry?.file_name().into_string() else {
                continue;
            };
            // One that cannot be read is nobody's.
            if let Ok(Some(gate)) = read_gate(&self.path, &name) {
                gates.insert(name, gate);
            }
        }
        Ok(gates)
    }

    /// Puts a value in the place of the old one. A power cut leaves nothing of this folder, and a kill does not
    /// touch what was written: nothing waits for a disk.
    ///
    /// # Errors
    /// When it cannot be written; the old value stays.
    pub fn write(&self, name: &str, gate: Gate) -> io::Result<()> {
        let next = self.path.join(NEXT);
        // Of a daemon that was killed.
        self.remove(NEXT)?;
        let written = put(&next, gate).and_then(|()| fs::rename(&next, self.path.join(name)));
        if written.is_err() {
            // Half a file is of no use.
            let _ = fs::remove_file(&next);
        }
        written
    }

    /// Takes a file away, if it is there.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn put(path: &Path, gate: Gate) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path)?;
    file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    file.write_all(match gate {
        Gate::Open => b"1\n",
        Gate::Closed => b"0\n",
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    fn folder() -> (tempfile::TempDir, GateFolder) {
        let parent = tempfile::tempdir().expect("a folder");
        let mut folder = GateFolder::new(gate_folder(&parent.path().join("t.sock")));
        folder.hold().expect("it can be made");
        (parent, folder)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it is there").mode() & 0o7777
    }

    #[test]
    fn what_was_written_is_read_by_everybody() {
        let (_parent, folder) = folder();
        assert!(folder.path().ends_with("gate"));
        assert_eq!(folder.gates().expect("readable"), BTreeMap::new());
        for (gate, text) in [(Gate::Closed, "0\n"), (Gate::Open, "1\n")] {
            folder.write("provider-b", gate).expect("it can be written");
            let path = folder.path().join("provider-b");
            assert_eq!(fs::read_to_string(&path).ok().as_deref(), Some(text));
            let read = read_gate(folder.path(), "provider-b");
            assert_eq!(read.expect("readable"), Some(gate));
            assert_eq!((mode(folder.path()), mode(&path)), (0o755, 0o644));
        }
        let left = fs::read_dir(folder.path()).expect("a folder").count();
        assert_eq!(left, 1, "nothing but the gate is left");
    }

    #[test]
    fn what_is_no_gate_is_none_and_is_left_alone() {
        let (parent, folder) = folder();
        let path = |name: &str| folder.path().join(name);
        for (name, text) in [
            ("words", "dear reader"),
            ("nothing", ""),
            ("many", "1\n1\n"),
        ] {
            fs::write(path(name), text).expect("written");
        }
        fs::create_dir(path("folder")).expect("made");
        fs::write(parent.path().join("0"), "0\n").expect("written");
        symlink(parent.path().join("0"), path("link")).expect("made");
        rustix::fs::mkfifoat(rustix::fs::CWD, path("pipe"), rustix::fs::Mode::RWXU).expect("made");
        folder.write("b", Gate::Closed).expect("written");
        let gates = folder.gates().expect("readable");
        assert_eq!(gates, BTreeMap::from([("b".to_owned(), Gate::Closed)]));
        for name in ["nobody", "pipe", "folder"] {
            assert_eq!(read_gate(folder.path(), name).expect("readable"), None);
        }
        assert!(read_gate(folder.path(), "link").is_err());
    }

    #[test]
    fn what_a_killed_daemon_has_left_is_in_nobodys_way() {
        let (_parent, folder) = folder();
        fs::write(folder.path().join(NEXT), "").expect("written");
        folder.write("b", Gate::Closed).expect("it can be written");
        assert!(!folder.path().join(NEXT).exists());
        assert_eq!(read_gate(folder.path(), NEXT).expect("readable"), None);
    }

    #[test]
    fn one_that_cannot_be_replaced_stays() {
        let (_parent, folder) = folder();
        folder.write("b", Gate::Closed).expect("it can be written");
        // Not even root can put a file there.
        fs::create_dir(folder.path().join(NEXT)).expect("made");
        assert!(folder.write("b", Gate::Open).is_err());
        let read = read_gate(folder.path(), "b").expect("readable");
        assert_eq!(read, Some(Gate::Closed));
        let long = "ü".repeat(200);
        fs::remove_dir(folder.path().join(NEXT)).expect("removed");
        assert!(folder.write(&long, Gate::Open).is_err());
        assert!(!folder.path().join(NEXT).exists());
    }

    #[test]
    fn two_daemons_do_not_keep_the_same_gates() {
        let (_parent, mut first) = folder();
        let mut second = GateFolder::new(first.path().to_owned());
        let refused = second.hold().expect_err("it is taken").to_string();
        assert_eq!(refused, "it is kept by another daemon");
        first.hold().expect("it has it");
        drop(first);
        second.hold().expect("it is free");
    }

    #[test]
    fn one_that_was_taken_away_is_made_again() {
        let (parent, mut folder) = folder();
        fs::remove_dir(folder.path()).expect("removed");
        folder.hold().expect("it can be made");
        folder.write("b", Gate::Open).expect("it can be written");
        fs::remove_dir_all(folder.path()).expect("removed");
        symlink(parent.path(), folder.path()).expect("made");
        // A link leads to a folder of somebody else.
        folder.held = None;
        let error = folder.hold().expect_err("it is no folder");
        assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
    }
}

//! `incidents.jsonl`: a line for everything that is to be known of incidents, and the file before
//! it, `incidents.jsonl.1`.
//!
//! **Invariant:** lines are only added; what was complete once is never changed. One daemon at a
//! time writes: the folder is locked meanwhile.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use super::{make, options, sync_names};
use crate::incident::{KEPT, Kind, Line, Past};

/// Name of the file.
pub const INCIDENTS: &str = "incidents.jsonl";
/// Size at which a new file is begun.
pub const ROTATE_AT: u64 = 4 << 20;
/// Longer than any line; what is longer is none of ours.
const LONGEST: u64 = 1 << 20;

/// The two files.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    rotate_at: u64,
    /// From reading to writing.
    lock: Option<File>,
    file: Option<Open>,
    /// Newest full line of each incident that has not ended: a new file begins with them.
    lasting: BTreeMap<String, Line>,
}

/// The file, ready for the next line.
#[derive(Debug)]
struct Open {
    file: File,
    /// Up to here all lines are complete.
    length: u64,
    /// Up to here are lines about incidents that were going on when it was begun.
    begins_with: u64,
    /// Held for as long as the file may be written to.
    _lock: File,
}

impl Journal {
    /// Nothing is touched yet.
    pub fn new(folder: &Path, rotate_at: u64) -> Self {
        Self {
            folder: folder.to_owned(),
            rotate_at,
            lock: None,
            file: None,
            lasting: BTreeMap::new(),
        }
    }

    /// What the lines of earlier runs tell, and a sentence for the log on each file of which
    /// something could not be understood.
    ///
    /// It is enough that they can be read.
    ///
    /// # Errors
    /// When they cannot, or another daemon uses the folder.
    pub fn read(&mut self) -> io::Result<(Past, Vec<String>)> {
        self.lock = match lock(&self.folder) {
            Ok(lock) => Some(lock),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let mut past = Past::default();
        let mut sentences = Vec::new();
        for path in [self.older(), self.path()] {
            match fs::File::open(&path) {
                Ok(file) => {
                    let skipped = take_all(file, &mut past)?;
                    sentences.extend(skipped.sentence(&path));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        for line in past.open() {
            self.lasting.insert(line.incident.id.clone(), line.clone());
        }
        Ok((past, sentences))
    }

    /// Adds lines; when this returns without an error they survive a power cut.
    ///
    /// # Errors
    /// When that cannot be promised. Nothing of what was there before is lost, and the same lines
    /// may be given again: one that comes twice changes nothing.
    pub fn write(&mut self, lines: &[Line]) -> io::Result<()> {
        // Also without lines: whoever may not write must know.
        self.ready()?;
        for line in lines {
            let mut text = serde_json::to_vec(line)?;
            text.push(b'\n');
            if self.is_full(text.len())? {
                self.rotate()?;
            }
            self.append(&text)?;
            self.remember(line);
        }
        if let Some(open) = &self.file {
            let synced = open.file.sync_data();
            if synced.is_err() {
                // What the kernel dropped is not known: look at the file anew.
                self.file = None;
            }
            synced?;
        }
        Ok(())
    }

    fn path(&self) -> PathBuf {
        self.folder.join(INCIDENTS)
    }

    fn older(&self) -> PathBuf {
        self.folder.join(format!("{INCIDENTS}.1"))
    }

    /// Opens the file unless it is.
    fn ready(&mut self) -> io::Result<&mut Open> {
        let open = match self.file.take() {
            Some(open) => open,
            None => {
                make(&self.folder)?;
                let lock = match self.lock.take() {
                    Some(lock) => lock,
                    None => lock(&self.folder)?,
                };
                match self.open() {
                    Ok((file, length)) => Open {
                        file,
                        length,
                        begins_with: 0,
                        _lock: lock,
                    },
                    Err(error) => {
                        // The folder stays ours: what it holds is going on here.
                        self.lock = Some(lock);
                        return Err(error);
                    }
                }
            }
        };
        Ok(self.file.insert(open))
    }

    /// The file, and how long it is.
    fn open(&self) -> io::Result<(File, u64)> {
        let path = self.path();
        let is_new = !path.exists();
        let mut file = options().read(true).append(true).create(true).open(path)?;
        if is_new {
            sync_names(&self.folder)?;
        }
        let length = end_last_line(&mut file)?;
        Ok((file, length))
    }

    /// Whether so many more bytes are too many. With a great many incidents that last, a file may
    /// be larger, so that it is not rewritten for every line.
    fn is_full(&mut self, more: usize) -> io::Result<bool> {
        let rotate_at = self.rotate_at;
        let open = self.ready()?;
        let length = open.length + more as u64;
        Ok(open.length > 0 && length > rotate_at.max(2 * open.begins_with))
    }

    fn append(&mut self, text: &[u8]) -> io::Result<()> {
        let open = self.ready()?;
        match open.file.write_all(text) {
            Ok(()) => {
                open.length += text.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Half a line is taken back; where that fails it is ended when the file is opened
                // again, and skipped by whoever reads it.
                let _ = open.file.set_len(open.length);
                self.file = None;
                Err(error)
            }
        }
    }

    /// Begins a new file, with all that is known of incidents that last: the older file may go.
    /// Whatever happens in between, one of the files tells all of them.
    fn rotate(&mut self) -> io::Result<()> {
        let next = self.folder.join(format!("{INCIDENTS}.next"));
        let mut text = Vec::new();
        for line in self.lasting.values() {
            let mut line = line.clone();
            line.record = Kind::Evidence;
            serde_json::to_writer(&mut text, &line)?;
            text.push(b'\n');
        }
        let file = options()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&next);
        let written = file.and_then(|mut file| {
            file.write_all(&text)?;
            file.sync_all()
        });
        if written.is_err() {
            let _ = fs::remove_file(&next);
        }
        written?;
        self.ready()?.file.sync_data()?;
        self.file = None;
        fs::rename(self.path(), self.older())?;
        fs::rename(next, self.path())?;
        sync_names(&self.folder)?;
        self.ready()?.begins_with = text.len() as u64;
        Ok(())
    }

    fn remember(&mut self, line: &Line) {
        let id = &line.incident.id;
        match self.lasting.remove(id) {
            _ if line.incident.ended_at.is_some() => {}
            Some(earlier) => {
                let line = line.clone().on_top_of(&earlier);
                self.lasting.insert(id.clone(), line);
            }
            None => {
                self.lasting.insert(id.clone(), line.clone());
            }
        }
    }
}

/// Lines of a file that are not ours or not whole.
#[derive(Debug, Default, PartialEq, Eq)]
struct Skipped {
    lines: u64,
    /// Number of the first.
    first: u64,
}

impl Skipped {
    fn sentence(&self, path: &Path) -> Option<String> {
        let Self { lines, first } = self;
        (*lines > 0).then(|| {
            let which = if *lines == 1 {
                format!("line {first} is no complete record of an incident and is skipped")
            } else {
                format!(
                    "{lines} lines, the first of them line {first}, are no complete records of \
                     incidents and are skipped"
                )
            };
            format!(
                "{}: {which}; nothing needs to be done when the daemon or the host ended abruptly",
                path.display()
            )
        })
    }
}

/// Takes every line in that is understood.
fn take_all(file: File, past: &mut Past) -> io::Result<Skipped> {
    let mut reader = BufReader::new(file);
    let mut skipped = Skipped::default();
    let mut number = 0;
    let mut text = Vec::new();
    loop {
        text.clear();
        // A foreign file may be one line without an end.
        if reader.by_ref().take(LONGEST).read_until(b'\n', &mut text)? == 0 {
            return Ok(skipped);
        }
        number += 1;
        match serde_json::from_slice(&text) {
            Ok(line) => {
                past.take(line);
                past.keep(2 * KEPT);
            }
            Err(_) if text.trim_ascii().is_empty() => {}
            Err(_) => {
                skipped.lines += 1;
                if skipped.lines == 1 {
                    skipped.first = number;
                }
            }
        }
    }
}

/// Ends a last line that was torn, so that the next one stands alone; the length then.
fn end_last_line(file: &mut File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    if length == 0 {
        return Ok(0);
    }
    let mut last = [0];
    file.seek(SeekFrom::Start(length - 1))?;
    file.read_exact(&mut last)?;
    if last == *b"\n" {
        return Ok(length);
    }
    file.write_all(b"\n")?;
    Ok(length + 1)
}

/// The right to write in the folder, for as long as the value lives.
fn lock(folder: &Path) -> io::Result<File> {
    let lock = File::open(folder)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "another tcpstall daemon uses it; give each a state_dir of its own",
        )),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests;

//! The folder for what outlives a restart: incidents as they happen, and documents that are
//! replaced as a whole. And that of the gates, beside the socket, where failover programs read.
//!
//! **Invariant:** whenever the daemon or the host ends, what was written before can be read; a
//! folder that cannot be used costs a warning and never the daemon.

mod document;
mod gates;
mod journal;
mod keeper;

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

pub use self::{
    document::{load, replace, write},
    gates::{GateFolder, gate_folder, read_gate},
    journal::{INCIDENTS, Journal, ROTATE_AT},
    keeper::Keeper,
};

/// What is in there names peers and processes, as the socket does.
const FOLDER_MODE: u32 = 0o750;
const FILE_MODE: u32 = 0o640;

/// Makes the folder when it is missing.
///
/// # Errors
/// When it cannot be made.
pub fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(FOLDER_MODE)
        .create(folder)
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(FILE_MODE);
    options
}

/// A new, a renamed or a removed name survives a power cut only then.
fn sync_names(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

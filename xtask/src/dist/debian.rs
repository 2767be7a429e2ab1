//! A Debian to try a package in: made by debootstrap, below a folder, with a shell.
//!
//! **Invariant:** nothing is mounted or started outside namespaces that end with the command, and the Debian is gone
//! afterwards.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::folder;
use crate::{
    command::{Invocation, command, say, warn},
    root::as_root,
    workspace,
};

const SUITE: &str = "bookworm";
/// What apt and dpkg keep for themselves, and what is nobody's.
const THEIRS: &[&str] = &[
    "/var/lib/dpkg/",
    "/var/lib/apt/",
    "/var/cache/",
    "/var/log/",
    "/tmp",
    "/root",
    "/dev/",
    "/trial",
];

/// A Debian of its own, below a folder.
pub(crate) struct Debian {
    folder: PathBuf,
}

impl Debian {
    /// As small as it gets, from an archive that is made once.
    pub(crate) fn make() -> Result<Self> {
        let archive = workspace::tool("debian", SUITE)?.with_extension("tar");
        let debian = Self {
            folder: folder().join("debian"),
        };
        // Of a time that was broken off.
        debian.vanish()?;
        if archive.is_file() {
            fs::create_dir_all(&debian.folder)?;
            as_root(
                command("tar")
                    .arg("--extract")
                    .arg("--numeric-owner")
                    .arg("--file")
                    .arg(&archive)
                    .arg("--directory")
                    .arg(&debian.folder),
            )?
            .run()?;
            return Ok(debian);
        }
        say(&format!(
            "Making a Debian {SUITE} to try the package in (fetches 50 MB, once)"
        ));
        fs::create_dir_all(archive.parent().unwrap_or(&archive))?;
        // What it mounts goes with its namespace.
        as_root(
            command("unshare")
                .args(["--mount", "debootstrap", "--variant=minbase", SUITE])
                .arg(&debian.folder),
        )?
        .run()
        .context("debootstrap made no Debian")?;
        debian.run("apt-get clean")?;
        let part = archive.with_extension("part");
        as_root(
            command("tar")
                .args(["--create", "--numeric-owner", "--one-file-system", "--file"])
                .arg(&part)
                .arg("--directory")
                .arg(&debian.folder)
                .arg("."),
        )?
        .run()?;
        as_root(command("mv").arg(&part).arg(&archive))?.run()?;
        Ok(debian)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.folder
    }

    fn vanish(&self) -> Result<()> {
        if self.folder.exists() {
            as_root(
                command("rm")
                    .args(["-rf", "--one-file-system"])
                    .arg(&self.folder),
            )?
            .quietly()?;
        }
        Ok(())
    }

    /// A line for its shell, as root, with a `/proc` and processes of its own.
    fn line(&self, line: &str) -> Result<Invocation> {
        let mut proc = OsString::from("--mount-proc=");
        proc.push(self.folder.join("proc"));
        as_root(
            command("unshare")
                .args(["--mount", "--pid", "--fork", "--kill-child"])
                .arg(proc)
                .arg("chroot")
                .arg(&self.folder)
                .args([
                    "env",
                    "HOME=/root",
                    "LC_ALL=C.UTF-8",
                    "DEBIAN_FRONTEND=noninteractive",
                ])
                .arg("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
                .args(["sh", "-c", line]),
        )
    }

    pub(crate) fn run(&self, line: &str) -> Result<()> {
        self.line(line)?
            .run()
            .with_context(|| format!("in the Debian that was made: {line}"))
    }

    pub(super) fn read(&self, line: &str) -> Result<String> {
        self.line(line)?
            .read()
            .with_context(|| format!("in the Debian that was made: {line}"))
    }

    /// Lay packages at hand, and fetch the lists of others.
    pub(crate) fn take_in(&self, packages: &[(&Path, &str)]) -> Result<()> {
        as_root(command("mkdir").arg(self.folder.join("trial")))?.run()?;
        for (package, name) in packages {
            as_root(
                command("cp")
                    .arg(package)
                    .arg(self.folder.join("trial").join(name)),
            )?
            .run()?;
        }
        // Its log would want a terminal.
        self.run("echo 'Dpkg::Use-Pty \"0\";' > /etc/apt/apt.conf.d/99trial")?;
        self.run("apt-get update --quiet")
    }

    /// All that is there, with owners and modes.
    pub(super) fn files(&self) -> Result<BTreeSet<String>> {
        let listed = self.read(
            "find / -xdev -path /proc -prune -o -path /sys -prune -o -printf '%p %M %u:%g %l\\n'",
        )?;
        let ours = listed
            .lines()
            .filter(|line| !THEIRS.iter().any(|it| line.starts_with(it)));
        Ok(ours.map(str::to_owned).collect())
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        if let Err(error) = self.vanish() {
            warn(&format!(
                "{} is left behind: {error:#}",
                self.folder.display()
            ));
        }
    }
}

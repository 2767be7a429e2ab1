//! A network namespace by name: threads and programs that run inside it.
//!
//! **Invariant:** no thread of the caller ever changes its namespace; whatever has to run inside
//! runs on a thread made for it.

use std::{
    fs::{self, File},
    io::Write,
    os::{fd::AsFd, unix::fs::MetadataExt},
    process::{Command, Output, Stdio},
    thread::{self, JoinHandle},
};

use anyhow::{Context, Result, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where `ip netns` keeps the names.
pub const FOLDER: &str = "/run/netns";

/// A named network namespace.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    // An open namespace outlives its name; `Lab` closes it by being dropped.
    file: File,
}

impl Namespace {
    /// Opens the namespace called `name`.
    pub fn open(name: &str) -> Result<Self> {
        let path = format!("{FOLDER}/{name}");
        let file =
            File::open(&path).with_context(|| format!("cannot open the namespace {path}"))?;
        Ok(Self {
            name: name.to_owned(),
            file,
        })
    }

    /// Its name, as `ip netns` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number: the inode, as the detector shows it.
    pub fn inode(&self) -> Result<u64> {
        Ok(self.file.metadata()?.ino())
    }

    /// Starts a thread inside.
    pub fn spawn<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<Result<T>>> {
        let file = self.file.try_clone()?;
        let inside = self.name.clone();
        Ok(thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                enter(&file).with_context(|| format!("cannot enter {inside}"))?;
                Ok(work())
            })?)
    }

    /// Runs `work` inside and waits for it.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                enter(&self.file).with_context(|| format!("cannot enter {}", self.name))?;
                Ok(work())
            });
            match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Runs `ip -batch` inside.
    pub fn ip(&self, batch: &str) -> Result<()> {
        self.feed("ip", &["-batch", "-"], batch)
    }

    /// Runs `ip -6 -batch` inside, for what does not tell its family by its addresses.
    pub fn ip6(&self, batch: &str) -> Result<()> {
        self.feed("ip", &["-6", "-batch", "-"], batch)
    }

    /// Runs `nft -f` inside.
    pub fn nft(&self, rules: &str) -> Result<()> {
        self.feed("nft", &["-f", "-"], rules)
    }

    fn feed(&self, program: &str, arguments: &[&str], input: &str) -> Result<()> {
        self.run(|| feed(Command::new(program).args(arguments), input))?
            .with_context(|| format!("in {}", self.name))
            .map(drop)
    }

    /// Runs a program inside and gives its output, whatever its exit code.
    pub fn output(&self, program: &str, arguments: &[&str]) -> Result<Output> {
        self.run(|| {
            Command::new(program)
                .args(arguments)
                .stdin(Stdio::null())
                .output()
        })?
        .with_context(|| format!("cannot run {program} in {}", self.name))
    }

    /// Sets kernel parameters below `/proc/sys/net`, which shows each thread its own namespace.
    pub fn sysctl(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.run(|| {
            for (key, value) in settings {
                let path = format!("/proc/sys/net/{key}");
                fs::write(&path, value).with_context(|| format!("cannot write {path}"))?;
            }
            Ok(())
        })?
    }
}

fn enter(file: &File) -> rustix::io::Result<()> {
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
}

/// Runs a program that reads its instructions from standard input; a failure quotes what it said.
pub(crate) fn feed(command: &mut Command, input: &str) -> Result<Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {command:?}; is it installed?"))?;
    // The instructions are short and the programs read them before they say anything.
    child
        .stdin
        .take()
        .context("no standard input")?
        .write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{command:?} failed: {}\nwith the instructions\n{input}",
            said.trim()
        );
    }
    Ok(output)
}

/// Removes names; those that are not there do not keep the others from being removed.
pub(crate) fn delete(names: impl Iterator<Item = String>) -> Result<()> {
    let batch: String = names.map(|name| format!("netns del {name}\n")).collect();
    if batch.is_empty() {
        return Ok(());
    }
    feed(Command::new("ip").args(["-force", "-batch", "-"]), &batch).map(drop)
}

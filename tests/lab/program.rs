//! Somebody else's program inside a namespace: started, and stopped with the value.

use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::{daemon::Starter, namespace::Namespace, signal};

/// A folder with further programs, unpacked there for the laboratory.
const TOOLS: &str = "TCPSTALL_TOOLS";
/// How long a program may take to stop.
const STOP: Duration = Duration::from_secs(10);

/// Where the libraries of such programs are.
fn libraries() -> Option<OsString> {
    let tools = PathBuf::from(env::var_os(TOOLS)?);
    let machine = format!("{}-linux-gnu", env::consts::ARCH);
    let folders = ["lib", "usr/lib"].map(|it| tools.join(it).join(&machine));
    env::join_paths(folders).ok()
}

/// Where the first of `names` is: in the folder of the laboratory's tools, else in `PATH`.
pub fn find(names: &[&str]) -> Option<PathBuf> {
    let tools = env::var_os(TOOLS).map(PathBuf::from);
    let tools = tools.map(|folder| ["usr/bin", "usr/sbin"].map(|it| folder.join(it)));
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = tools
        .into_iter()
        .flatten()
        .chain(env::split_paths(&path))
        .collect();
    names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|program| program.is_file())
}

/// A running program.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    log: PathBuf,
    // Last: the program is told to end when this one does.
    _starter: Starter,
}

impl Program {
    /// Starts `program` inside, with what it says in `log`.
    pub fn start(
        inside: &Namespace,
        program: &Path,
        arguments: &[String],
        log: PathBuf,
    ) -> Result<Self> {
        let name = program.file_name().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        let said = fs::File::create(&log)?;
        let mut command = Command::new("setpriv");
        command
            // However this process ends, the program is told to end as well.
            .args(["--pdeathsig", "TERM", "--"])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said)
            .envs(libraries().map(|it| ("LD_LIBRARY_PATH", it)))
            .process_group(0);
        let (child, starter) = Starter::start(inside, command)?;
        let child = child.with_context(|| format!("cannot start {name}"))?;
        Ok(Self {
            name,
            child,
            log,
            _starter: starter,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it is `ready`; fails when it ends, or after `limit`, with what it said.
    pub fn wait_until(&mut self, limit: Duration, ready: impl Fn() -> bool) -> Result<()> {
        let end = Instant::now() + limit;
        while !ready() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}: {}", self.name, self.log());
            }
            if Instant::now() > end {
                bail!("{} is not ready after {limit:?}: {}", self.name, self.log());
            }
            signal::sleep(Duration::from_millis(50))?;
        }
        Ok(())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal)
            .with_context(|| format!("cannot signal {}", self.name))
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let end = Instant::now() + STOP;
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        }
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > end {
                eprintln!("laboratory: {} ignored SIGTERM and was killed", self.name);
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

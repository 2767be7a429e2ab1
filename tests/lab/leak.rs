//! A program that opens connections, writes to each and lets none of them go: a queue whose deliveries hang.

use std::{
    fs,
    net::IpAddr,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{
    namespace::Namespace,
    program::{Program, find},
    server,
};

/// Name of the program, as the host knows it.
pub const NAME: &str = "qmgr";
/// Bytes that it writes to each connection.
pub const MESSAGE: u32 = 8000;

/// How it behaves.
#[derive(Debug, Clone)]
pub struct Leak {
    /// To whom, in turn.
    pub peers: Vec<IpAddr>,
    /// Descriptors that it may have; it ends when there are no more.
    pub descriptors: u32,
    /// Seconds from connection to connection.
    pub every: f64,
    /// How many times around; it then waits, with what it has open. Without end by default.
    pub rounds: Option<u32>,
    /// The control group that it joins.
    pub group: Option<PathBuf>,
}

impl Leak {
    /// Five connections a second.
    pub fn new(peers: Vec<IpAddr>, descriptors: u32) -> Self {
        Self {
            peers,
            descriptors,
            every: 0.2,
            rounds: None,
            group: None,
        }
    }

    /// Starts it inside, from a script in `folder`.
    pub fn start(&self, inside: &Namespace, folder: &Path) -> Result<Program> {
        let bash = find(&["bash"]).context("bash is missing")?;
        let script = folder.join("script");
        fs::write(&script, self.script())?;
        // The host knows it by this name. Nothing is written here: a file that a thread beside this one holds
        // open for writing cannot be run.
        let program = folder.join(NAME);
        symlink(bash, &program)?;
        let arguments = [script.display().to_string()];
        Program::start(inside, &program, &arguments, folder.join("log"))
    }

    fn script(&self) -> String {
        let join = self.group.as_ref().map_or(String::new(), |group| {
            format!("echo $$ > {}\n", group.join("cgroup.procs").display())
        });
        let again = self.rounds.map_or("while true".to_owned(), |rounds| {
            format!("for round in $(seq {rounds})")
        });
        let peers: Vec<_> = self.peers.iter().map(IpAddr::to_string).collect();
        // Bash gives out numbers from ten on: those below are taken, so that none stays free.
        format!(
            "{join}ulimit -n {}\nexec 3</dev/null 4<&3 5<&3 6<&3 7<&3 8<&3 9<&3\n\
             {again}; do\n  for peer in {}; do\n    exec {{fd}}<>/dev/tcp/$peer/{} || exit 7\n    \
             printf '%{MESSAGE}s' x >&$fd\n    sleep {}\n  done\ndone\nexec sleep 120\n",
            self.descriptors,
            peers.join(" "),
            server::DISCARD,
            self.every
        )
    }
}

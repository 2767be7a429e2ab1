//! keepalived as operators run it: it moves an address to another host when this one has no way out.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use tempfile::TempDir;

use crate::{
    namespace::Namespace,
    program::{Program, find},
};

const START: Duration = Duration::from_secs(20);

/// Where keepalived is, if it is anywhere.
pub fn program() -> Option<PathBuf> {
    find(&["keepalived"])
}

/// A running keepalived, of which only the part for addresses is used (VRRP).
#[derive(Debug)]
pub struct Keepalived {
    program: Program,
    _folder: TempDir,
}

impl Keepalived {
    /// Starts it inside with that configuration.
    pub fn start(keepalived: &Path, inside: &Namespace, configuration: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("tcpstall-lab-").tempdir()?;
        let path = |name: &str| folder.path().join(name).display().to_string();
        fs::write(path("keepalived.conf"), configuration)?;
        let arguments = [
            "--dont-fork".to_owned(),
            "--log-console".to_owned(),
            "--no-syslog".to_owned(),
            "--log-detail".to_owned(),
            "--vrrp".to_owned(),
            format!("--use-file={}", path("keepalived.conf")),
            format!("--pid={}", path("pid")),
            format!("--vrrp_pid={}", path("vrrp.pid")),
        ];
        let log = folder.path().join("log");
        let mut program = Program::start(inside, keepalived, &arguments, log)?;
        let pid = path("vrrp.pid");
        program.wait_until(START, || Path::new(&pid).is_file())?;
        Ok(Self {
            program,
            _folder: folder,
        })
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        self.program.log()
    }
}

/// Whether a host has that address.
pub fn has(host: &Namespace, address: Ipv4Addr) -> Result<bool> {
    let output = host.output("ip", &["-oneline", "-4", "address", "show"])?;
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(shown.contains(&format!(" {address}/")))
}

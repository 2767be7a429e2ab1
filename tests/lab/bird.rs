//! BIRD as operators run it: it speaks BGP with routers and puts what it learns into the kernel's table.

use std::{
    fs,
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

/// Where BIRD and the program that asks it are, if they are anywhere.
pub fn programs() -> Option<(PathBuf, PathBuf)> {
    Some((find(&["bird"])?, find(&["birdcl"])?))
}

/// A running BIRD.
#[derive(Debug)]
pub struct Bird {
    program: Program,
    folder: TempDir,
}

impl Bird {
    /// Starts it inside with that configuration.
    pub fn start(bird: &Path, inside: &Namespace, configuration: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("tcpstall-lab-").tempdir()?;
        let path = |name: &str| folder.path().join(name).display().to_string();
        fs::write(path("bird.conf"), configuration)?;
        let arguments = ["-f", "-c", &path("bird.conf"), "-s", &path("control")].map(str::to_owned);
        let log = folder.path().join("log");
        let mut program = Program::start(inside, bird, &arguments, log)?;
        let control = folder.path().join("control");
        program.wait_until(START, || control.exists())?;
        Ok(Self { program, folder })
    }

    /// Where it can be asked.
    pub fn control(&self) -> PathBuf {
        self.folder.path().join("control")
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        self.program.log()
    }
}

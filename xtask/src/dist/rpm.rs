//! The package for Fedora, openSUSE and their relatives, made by cargo-generate-rpm.

use std::{env, path::PathBuf};

use anyhow::{Context as _, Result};

use super::{Release, folder};
use crate::{
    command::{command, say},
    tool, workspace,
};

const VERSION: &str = "0.21.1";

/// Make it; where it is.
pub(super) fn build(release: &Release) -> Result<PathBuf> {
    say("The package for rpm");
    let generator = tool::cargo("cargo-generate-rpm", VERSION, &[])?;
    let arch = env::consts::ARCH;
    let made = folder().join(format!("tcpstall-{}-1.{arch}.rpm", release.version));
    command(generator)
        .args(["--package", "detector"])
        // What it needs of the libraries is found the same way on every machine.
        .args(["--auto-req", "builtin"])
        .arg("--output")
        .arg(&made)
        .env("SOURCE_DATE_EPOCH", &release.epoch)
        .folder(workspace::root())
        .run()
        .context("cargo-generate-rpm made no package")?;
    Ok(made)
}

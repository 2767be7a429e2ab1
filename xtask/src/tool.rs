//! Tools of crates.io: found, or built for this project alone.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::{
    command::{cargo as cargo_itself, command, find, say},
    workspace,
};

/// Find a tool in just this version, or build it into a folder of its own, as its authors tested it. `features` are
/// arguments that leave out what we do not need of it.
pub(crate) fn cargo(name: &str, version: &str, features: &[&str]) -> Result<PathBuf> {
    let folder = workspace::tool(name, version)?;
    let installed = folder.join("bin").join(name);
    if installed.is_file() {
        return Ok(installed);
    }
    if let Some(found) = find(name) {
        let told = command(&found).arg("--version").ask();
        if told.is_some_and(|text| text.split_whitespace().nth(1) == Some(version)) {
            return Ok(found);
        }
    }
    say(&format!(
        "Installing {name} {version} into {} (some minutes)",
        folder.display()
    ));
    cargo_itself()
        .args(["install", name, "--version", version, "--locked"])
        .args(features)
        .arg("--root")
        .arg(&folder)
        .run()
        .with_context(|| format!("{name} {version} could not be built from crates.io"))?;
    Ok(installed)
}

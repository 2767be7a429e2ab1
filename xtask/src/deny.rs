//! cargo-deny: licences, sources, duplicates and known vulnerabilities of the dependencies.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::{
    command::{Invocation, command, find, say, warn},
    linker::install,
    workspace,
};

const VERSION: &str = "0.20.2";

/// Check the dependencies against `deny.toml`.
pub(crate) fn dependencies() -> Result<()> {
    let program = cargo_deny()?;
    let deny = |args: &[&str]| -> Invocation {
        command(&program)
            .args(["--workspace", "--locked"])
            .args(args)
            .folder(workspace::root())
    };
    deny(&[
        "check",
        "--hide-inclusion-graph",
        "bans",
        "licenses",
        "sources",
    ])
    .run()
    .context("a dependency brings what deny.toml does not allow; which one is said above")?;
    // The database of advisories is the one thing here that cannot be had without the network.
    if let Err(error) = deny(&["fetch", "db"]).run() {
        warn(&format!("{error:#}"));
        warn("NOT CHECKED: known vulnerabilities. Their database could not be fetched, see above");
        return Ok(());
    }
    deny(&["check", "--disable-fetch", "advisories"])
        .run()
        .context("a dependency has a known vulnerability; which one is said above")
}

/// Find cargo-deny, or install it for this project alone.
fn cargo_deny() -> Result<PathBuf> {
    let folder = workspace::tool("cargo-deny", VERSION)?;
    let installed = folder.join("bin/cargo-deny");
    if installed.is_file() {
        return Ok(installed);
    }
    if let Some(found) = find("cargo-deny") {
        let version = command(&found).arg("--version").ask();
        if version.is_some_and(|text| text.split_whitespace().nth(1) == Some(VERSION)) {
            return Ok(found);
        }
    }
    say(&format!(
        "Installing cargo-deny {VERSION} into {} (some minutes)",
        folder.display()
    ));
    install("cargo-deny", VERSION, &folder)?;
    Ok(installed)
}

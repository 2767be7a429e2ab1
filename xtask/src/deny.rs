//! cargo-deny: licences, sources, duplicates and known vulnerabilities of the dependencies.

use anyhow::{Context as _, Result};

use crate::{
    command::{Invocation, command, warn},
    tool, workspace,
};

const VERSION: &str = "0.20.2";

/// Check the dependencies against `deny.toml`.
pub(crate) fn dependencies() -> Result<()> {
    let program = tool::cargo("cargo-deny", VERSION, &[])?;
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

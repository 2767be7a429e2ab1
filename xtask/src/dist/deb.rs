//! The package for Debian and its relatives, made by cargo-deb.

use std::{env, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{Release, folder};
use crate::{
    command::{cargo, command, say},
    tool, workspace,
};

const VERSION: &str = "3.8.0";
/// The first package of a version.
pub(super) const FIRST: u32 = 1;

/// Make it, as the package of this number; where it is.
pub(super) fn build(release: &Release, revision: u32) -> Result<PathBuf> {
    say("The package for Debian");
    // Without a compressor of its own: dpkg has brought `xz` along.
    let cargo_deb = tool::cargo("cargo-deb", VERSION, &["--no-default-features"])?;
    let made = command(cargo_deb)
        .args(["--manifest-path", "detector/Cargo.toml", "--locked"])
        // All is built and stripped, and its warnings are about that. What matters is looked at below.
        .args(["--no-build", "--no-strip", "--quiet", "--compress-system"])
        .args(["--deb-revision", &revision.to_string()])
        .args(["--maintainer", &maintainer()?])
        .arg("--output")
        .arg(folder())
        .env("SOURCE_DATE_EPOCH", &release.epoch)
        .folder(workspace::root())
        .read()
        .context("cargo-deb made no package")?;
    let made = PathBuf::from(made.lines().last().unwrap_or_default());
    let depends = command("dpkg-deb")
        .arg("--field")
        .arg(&made)
        .arg("Depends")
        .read()?;
    ensure!(
        depends.contains("libc6 (>="),
        "the package asks for no version of libc6: `dpkg-shlibdeps` knows nothing of this machine's libraries, so \
         make it on Debian or a relative"
    );
    Ok(made)
}

/// Of the packaging; what is new in the program is in the other one.
pub(super) fn changelog(release: &Release) -> Result<String> {
    let date = command("date")
        .args(["--utc", "--rfc-email", "--date"])
        .arg(format!("@{}", release.epoch))
        .env("LC_ALL", "C")
        .read()?;
    Ok(format!(
        "tcpstall ({}-{FIRST}) unstable; urgency=medium\n\n  * What is new in {} is in changelog.gz.\n\n -- {}  {}\n",
        release.version.replace('-', "~"),
        release.version,
        maintainer()?,
        date.trim()
    ))
}

/// Who answers for the package: `DEBFULLNAME` and `DEBEMAIL`, as everywhere in Debian, or the metadata.
fn maintainer() -> Result<String> {
    if let (Ok(name), Ok(address)) = (env::var("DEBFULLNAME"), env::var("DEBEMAIL")) {
        return Ok(format!("{name} <{address}>"));
    }
    let text = cargo()
        .args(["metadata", "--no-deps", "--locked", "--format-version", "1"])
        .folder(workspace::root())
        .ask()
        .context("cargo does not say what is in detector/Cargo.toml")?;
    let metadata: Value = serde_json::from_str(&text)?;
    let packages = metadata["packages"].as_array();
    let detector = packages.and_then(|it| it.iter().find(|it| it["name"] == "detector"));
    let named = detector.and_then(|it| it["metadata"]["deb"]["maintainer"].as_str());
    let named = named.context("detector/Cargo.toml names no maintainer of the package")?;
    Ok(named.to_owned())
}

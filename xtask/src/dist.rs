//! `dist`: what others install: a package for Debian, one for rpm, and an archive for everybody else.
//!
//! All three hold the same tree ([`tree`]). What they need to know of it is metadata in `detector/Cargo.toml`.
//! The same program gives the same packages, byte for byte: nothing in them tells when they were made.

mod deb;
mod debian;
mod rpm;
#[cfg(test)]
mod tests;
mod third_party;
mod tree;
mod trial;

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

pub(crate) use debian::Debian;

use crate::{
    build,
    command::{command, say},
    packages, workspace,
};

/// What to make.
#[derive(Args, Default)]
pub(crate) struct Options {
    /// Also try the packages: inspect them, install, upgrade, remove and purge in a Debian made for that (as root)
    #[arg(long)]
    test: bool,
}

impl Options {
    /// Make and try them.
    pub(crate) fn tried() -> Self {
        Self { test: true }
    }
}

/// What is packed.
struct Release {
    /// Of the workspace.
    version: &'static str,
    /// The moment that everything in the packages is from, in seconds since 1970.
    epoch: String,
}

/// `cargo xtask dist`
pub(crate) fn task(options: &Options) -> Result<()> {
    packages::packaging()?;
    if options.test {
        packages::trials()?;
    }
    let release = Release::now()?;
    let tree = tree::lay_out(&release, &build::release()?)?;
    let archive = archive(&release, &tree)?;
    let deb = deb::build(&release, deb::FIRST)?;
    let rpm = rpm::build(&release)?;
    if options.test {
        trial::of_the_rpm(&tree, &rpm)?;
        // The same as a package that is newer.
        let newer = deb::build(&release, deb::FIRST + 1)?;
        let outcome = trial::of_the_deb(&release, &deb, &newer);
        let _ = fs::remove_file(newer);
        outcome?;
        say("dist: the packages do as promised");
    }
    for made in [deb, rpm, archive] {
        say(&format!("made {}", made.display()));
    }
    Ok(())
}

impl Release {
    fn now() -> Result<Self> {
        Ok(Self {
            version: env!("CARGO_PKG_VERSION"),
            epoch: epoch()?,
        })
    }
}

/// Make the package for Debian alone; where it is.
pub(crate) fn for_debian() -> Result<PathBuf> {
    packages::packaging()?;
    let release = Release::now()?;
    tree::lay_out(&release, &build::release()?)?;
    deb::build(&release, deb::FIRST)
}

/// Where everything is made. Always the same place: `detector/Cargo.toml` looks there.
fn folder() -> PathBuf {
    workspace::root().join("target/dist")
}

/// The tree as it is, for any distribution, below a folder of its own.
fn archive(release: &Release, tree: &Path) -> Result<PathBuf> {
    let arch = env::consts::ARCH;
    let name = format!("tcpstall-{}-{arch}-linux", release.version);
    let archive = folder().join(format!("{name}.tar.gz"));
    let plain = folder().join(format!("{name}.tar"));
    command("tar")
        .args(["--create", "--sort=name", "--format=ustar"])
        .args(["--owner=0", "--group=0", "--numeric-owner"])
        .arg(format!("--mtime=@{}", release.epoch))
        .arg(format!("--transform=s,^[.],{name},"))
        .arg("--file")
        .arg(&plain)
        .arg("--directory")
        .arg(tree)
        .arg(".")
        .run()?;
    compress(&plain)?;
    Ok(archive)
}

/// In its place, without its name and its time.
fn compress(file: &Path) -> Result<()> {
    command("gzip")
        .args(["-9", "--no-name", "--force"])
        .arg(file)
        .quietly()
        .with_context(|| format!("{} could not be compressed", file.display()))
}

/// `SOURCE_DATE_EPOCH`, or when what is packed was committed, or now.
fn epoch() -> Result<String> {
    const NAME: &str = "SOURCE_DATE_EPOCH";
    if let Some(chosen) = env::var_os(NAME) {
        let chosen = chosen.to_string_lossy().into_owned();
        ensure!(
            chosen.parse::<u32>().is_ok(),
            "{NAME} is {chosen:?} and should be a number of seconds since 1970, such as 1767225600"
        );
        return Ok(chosen);
    }
    let committed = command("git")
        .args(["log", "-1", "--format=%ct"])
        .folder(workspace::root())
        .ask();
    let committed = committed.or_else(|| command("date").arg("+%s").ask());
    let committed = committed.context("neither git nor `date` says what time it is")?;
    Ok(committed.trim().to_owned())
}

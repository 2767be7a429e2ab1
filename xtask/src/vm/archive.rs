//! Debian's kernels: found by version, fetched with an apt of our own, kept in the cache.
//!
//! **Invariant:** the machine's own apt is neither changed nor used.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    command::{Invocation, command, say},
    packages, workspace,
};

/// Where Debian is when the machine does not say otherwise.
const MIRROR: &str = "http://deb.debian.org/debian";
/// Where its security updates are.
const SECURITY: &str = "http://deb.debian.org/debian-security";
/// Suites that have kernels, from old to new.
const SUITES: &[&str] = &["bookworm", "trixie", "trixie-backports", "sid"];
/// The same, of security updates.
const SECURITY_SUITES: &[&str] = &["bullseye-security"];
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// The flavour: small, and all that networks need.
const FLAVOUR: &str = "-cloud-amd64";

/// A kernel on disk.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// As `uname -r` says.
    pub(crate) release: String,
    /// The folder with `vmlinuz` and `lib/modules`.
    pub(crate) folder: PathBuf,
}

/// Debian's archive, as far as it can be reached.
pub(crate) struct Archive {
    state: Result<PathBuf>,
}

impl Archive {
    /// Fetches the lists of packages.
    pub(crate) fn open() -> Self {
        Self { state: update() }
    }

    /// The newest kernel whose version begins so; one that was fetched before when the archive
    /// cannot be reached.
    pub(crate) fn kernel(&self, version: &str) -> Result<Kernel> {
        let state = match &self.state {
            Ok(state) => state,
            Err(error) => {
                return newest(cached()?, version).map(at).with_context(|| {
                    format!(
                        "the archive cannot be reached ({error:#}), and none was fetched before"
                    )
                })?;
            }
        };
        let release = newest(offered(state)?, version)
            .with_context(|| format!("the archive has no kernel {version}"))?;
        let kernel = at(release)?;
        if !kernel.folder.is_dir() {
            fetch(state, &kernel)?;
        }
        Ok(kernel)
    }
}

fn at(release: String) -> Result<Kernel> {
    let folder = workspace::tool("kernel", &release)?;
    Ok(Kernel { release, folder })
}

/// Releases that were fetched before.
fn cached() -> Result<Vec<String>> {
    let cache = workspace::tool("kernel", "")?;
    let entries = cache.parent().map(fs::read_dir);
    let entries = entries.into_iter().flatten().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    Ok(names
        .filter_map(|name| Some(name.strip_prefix("kernel-")?.to_owned()))
        .filter(|release| release.ends_with(FLAVOUR))
        .collect())
}

/// Releases that the archive has.
fn offered(state: &Path) -> Result<Vec<String>> {
    let pattern = format!("^linux-(image|base|binary|modules)-[0-9].*{FLAVOUR}$");
    let found = apt(state, "apt-cache")
        .args(["search", "--names-only", &pattern])
        .ask()
        .context("apt-cache does not answer")?;
    Ok(releases(&found))
}

/// Releases of which apt has found all parts. The archive goes on to list the name of a kernel that is
/// gone.
fn releases(found: &str) -> Vec<String> {
    let names: BTreeSet<_> = found
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    let of = |name: &str| name.splitn(3, '-').nth(2).map(str::to_owned);
    let all: BTreeSet<_> = names.iter().filter_map(|name| of(name)).collect();
    let is_whole = |release: &String| {
        let mut parts = parts(release).iter();
        parts.all(|part| names.contains(format!("linux-{part}-{release}").as_str()))
    };
    all.into_iter()
        // Packages such as linux-image-6.1-cloud-amd64 only name another.
        .filter(|release| number(release).len() >= 3 && is_whole(release))
        .collect()
}

/// The packages that a kernel consists of. From 6.19 on `linux-image` is empty.
fn parts(release: &str) -> &'static [&'static str] {
    if number(release) < vec![6, 19] {
        &["image"]
    } else {
        &["base", "binary", "modules"]
    }
}

/// The numbers of a version: 6.12.117+deb13 is 6, 12, 117.
fn number(release: &str) -> Vec<u32> {
    let end = release.find(|c: char| !c.is_ascii_digit() && c != '.');
    let version = &release[..end.unwrap_or(release.len())];
    version
        .split('.')
        .map_while(|part| part.parse().ok())
        .collect()
}

/// The newest release whose numbers begin like `version`.
fn newest(releases: Vec<String>, version: &str) -> Option<String> {
    let wanted = number(version);
    let fits = |release: &String| number(release).starts_with(&wanted);
    // Builds of the same version differ in the number behind it.
    let key = |release: &String| (number(release), build(release));
    releases.into_iter().filter(fits).max_by_key(key)
}

/// The number of the build: 5.10.0-46-cloud-amd64 is the 46th.
fn build(release: &str) -> u32 {
    let mut parts = release.split('-').skip(1);
    parts.find_map(|part| part.parse().ok()).unwrap_or(0)
}

/// An apt with lists and settings of its own.
fn apt(state: &Path, program: &str) -> Invocation {
    let set = |key: &str, value: &Path| format!("{key}={}", value.display());
    command(program)
        .arg("-o")
        .arg(set("Dir::State", state))
        .arg("-o")
        .arg(set("Dir::State::Lists", &state.join("lists")))
        .arg("-o")
        .arg(set("Dir::State::status", &state.join("status")))
        .arg("-o")
        .arg(set("Dir::Cache", &state.join("cache")))
        .arg("-o")
        .arg(set("Dir::Etc::SourceList", &state.join("sources.list")))
        .args([
            "-o",
            "Dir::Etc::SourceParts=-",
            "-o",
            "APT::Get::List-Cleanup=0",
        ])
        .args([
            "-o",
            "Acquire::Retries=2",
            "-o",
            "Acquire::http::Timeout=20",
        ])
        .args(["-o", "APT::Sandbox::User=root"])
}

fn update() -> Result<PathBuf> {
    ensure!(
        cfg!(target_arch = "x86_64"),
        "only machines with x86-64 processors are emulated"
    );
    let state = workspace::tool("apt", "1")?;
    for folder in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(state.join(folder))
            .with_context(|| format!("{} cannot be made", state.join(folder).display()))?;
    }
    fs::write(state.join("status"), "")?;
    fs::write(state.join("sources.list"), sources())?;
    say("Lists of Debian's kernels");
    apt(&state, "apt-get")
        .args(["--quiet", "--quiet", "update"])
        .run()?;
    Ok(state)
}

fn sources() -> String {
    let line =
        |base: &str, suite: &&str| format!("deb [signed-by={KEYRING}] {base} {suite} main\n");
    let suites = SUITES.iter().map(|suite| line(MIRROR, suite));
    let security = SECURITY_SUITES.iter().map(|suite| line(SECURITY, suite));
    suites.chain(security).collect()
}

/// Fetches and unpacks a kernel with its modules.
fn fetch(state: &Path, kernel: &Kernel) -> Result<()> {
    let release = &kernel.release;
    say(&format!("Kernel {release}"));
    let unpacked = workspace::tool("part-of-kernel", release)?;
    let _ = fs::remove_dir_all(&unpacked);
    let packages = unpacked.join("packages");
    fs::create_dir_all(&packages)?;
    let names = parts(release)
        .iter()
        .map(|part| format!("linux-{part}-{release}"));
    apt(state, "apt-get")
        .args(["--quiet", "--quiet", "download"])
        .args(names)
        .folder(&packages)
        .run()?;
    packages::unpack(&packages, &unpacked)?;
    arrange(&unpacked, release)?;
    fs::rename(&unpacked, &kernel.folder)?;
    Ok(())
}

/// Keeps the kernel and its modules, wherever the packages have put them.
fn arrange(unpacked: &Path, release: &str) -> Result<()> {
    let places = [
        format!("boot/vmlinuz-{release}"),
        format!("usr/lib/modules/{release}/vmlinuz"),
    ];
    let mut places = places.iter().map(|place| unpacked.join(place));
    let vmlinuz = places.find(|place| place.is_file());
    let vmlinuz = vmlinuz.with_context(|| format!("the packages of {release} have no vmlinuz"))?;
    fs::rename(vmlinuz, unpacked.join("vmlinuz"))?;
    if !unpacked.join("lib/modules").is_dir() {
        fs::create_dir_all(unpacked.join("lib"))?;
        fs::rename(
            unpacked.join("usr/lib/modules"),
            unpacked.join("lib/modules"),
        )
        .context("the packages have no modules")?;
    }
    for rest in ["boot", "usr", "packages"] {
        let _ = fs::remove_dir_all(unpacked.join(rest));
    }
    command("depmod")
        .arg("--basedir")
        .arg(unpacked)
        .arg(release)
        .run()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUND: &str = "\
linux-base-7.2.13+deb14-cloud-amd64 - Linux 7.2.13 for x86-64 cloud
linux-binary-6.19.14+deb13-cloud-amd64 - Binary for Linux 6.19.14 (signed)
linux-binary-7.3.4+deb13-cloud-amd64 - Linux 7.3.4 for x86-64 cloud
linux-binary-7.2.13+deb14-cloud-amd64 - Linux 7.2.13 for x86-64 cloud
linux-image-5.10.0-9-cloud-amd64 - Linux 5.10 for x86-64 cloud (signed)
linux-image-5.10.0-46-cloud-amd64 - Linux 5.10 for x86-64 cloud (signed)
linux-image-6.1-cloud-amd64 - Linux for x86-64 cloud (meta-package)
linux-image-6.1.0-50-cloud-amd64 - Linux 6.1 for x86-64 cloud (signed)
linux-image-6.12.117+deb13-cloud-amd64 - Linux 6.12 for x86-64 cloud (signed)
linux-image-6.18.15+deb13-cloud-amd64 - Linux 6.18.15 for x86-64 cloud (signed)
linux-image-6.19.15+deb13-cloud-amd64 - Linux 6.19.15 for x86-64 cloud
linux-modules-7.2.13+deb14-cloud-amd64 - Linux 7.2.13 for x86-64 cloud
linux-modules-7.3.4+deb13-cloud-amd64 - Linux 7.3.4 for x86-64 cloud";

    #[test]
    fn the_newest_of_each_line_is_found() {
        let newest = |version| newest(releases(FOUND), version);
        let is = |release: &str| Some(format!("{release}{FLAVOUR}"));
        assert_eq!(newest("5.10"), is("5.10.0-46"));
        assert_eq!(
            newest("6.1"),
            is("6.1.0-50"),
            "not 6.12, and none that is empty"
        );
        assert_eq!(newest("6.12"), is("6.12.117+deb13"));
        assert_eq!(newest("6"), is("6.18.15+deb13"), "6.19 is not whole");
        assert_eq!(newest("7"), is("7.2.13+deb14"), "7.3.4 lacks its base");
        assert_eq!(newest("4.19"), None);
    }
}

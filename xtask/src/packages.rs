//! Packages of the distribution: what is missing, and how to get it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    command::{Invocation, command, find, say},
    root::as_root,
    workspace,
};

/// A program that the laboratory needs, and the package that has it.
struct Needed {
    program: &'static str,
    what_for: &'static str,
    debian: &'static str,
    others: &'static str,
}

const LABORATORY: &[Needed] = &[
    Needed {
        program: "ip",
        what_for: "makes networks",
        debian: "iproute2",
        others: "iproute (dnf), iproute2 (pacman, apk, zypper)",
    },
    Needed {
        program: "nft",
        what_for: "breaks them",
        debian: "nftables",
        others: "nftables (dnf, pacman, apk, zypper)",
    },
    Needed {
        program: "ping",
        what_for: "looks whether they are up",
        debian: "iputils-ping",
        others: "iputils (dnf, pacman, apk, zypper)",
    },
];

const MACHINES: &[Needed] = &[
    Needed {
        program: "qemu-system-x86_64",
        what_for: "is the machine",
        debian: "qemu-system-x86",
        others: "qemu-system-x86 (dnf, pacman), qemu-system-x86_64 (apk)",
    },
    Needed {
        program: "busybox",
        what_for: "is its shell",
        debian: "busybox-static",
        others: "busybox (dnf, pacman), busybox-static (apk)",
    },
    Needed {
        program: "modprobe",
        what_for: "knows which modules belong together",
        debian: "kmod",
        others: "kmod (dnf, pacman, apk)",
    },
    Needed {
        program: "wg",
        what_for: "sets up the tunnels of a test",
        debian: "wireguard-tools",
        others: "wireguard-tools (dnf, pacman, apk, zypper)",
    },
    Needed {
        program: "xz",
        what_for: "unpacks modules",
        debian: "xz-utils",
        others: "xz (dnf, pacman, apk)",
    },
    Needed {
        program: "zstd",
        what_for: "unpacks modules",
        debian: "zstd",
        others: "zstd (dnf, pacman, apk)",
    },
];

const SERVICE_MANAGER: &[Needed] = &[
    Needed {
        program: "systemctl",
        what_for: "runs the unit that is shipped, in a machine",
        debian: "systemd",
        others: "systemd (dnf, pacman, zypper)",
    },
    Needed {
        program: "kill",
        what_for: "tells it to reload",
        debian: "procps",
        others: "procps-ng (dnf, pacman), procps (zypper)",
    },
];

/// What packages are made with.
const PACKAGING: &[Needed] = &[
    Needed {
        program: "dpkg-shlibdeps",
        what_for: "says which libraries a package needs",
        debian: "dpkg-dev",
        others: "dpkg-dev (dnf)",
    },
    Needed {
        program: "strip",
        what_for: "leaves out what only a debugger reads",
        debian: "binutils",
        others: "binutils (dnf, pacman, apk, zypper)",
    },
    Needed {
        program: "xz",
        what_for: "compresses packages",
        debian: "xz-utils",
        others: "xz (dnf, pacman, apk, zypper)",
    },
];

/// What a Debian is made with, for packages to be tried in.
const DEBIAN: &[Needed] = &[Needed {
    program: "debootstrap",
    what_for: "makes the Debian that packages are tried in",
    debian: "debootstrap",
    others: "debootstrap (dnf, pacman, apk, zypper)",
}];

/// What packages are inspected with.
const TRIALS: &[Needed] = &[
    Needed {
        program: "lintian",
        what_for: "checks a package for Debian",
        debian: "lintian",
        others: "lintian (dnf)",
    },
    Needed {
        program: "rpm",
        what_for: "looks into a package for rpm",
        debian: "rpm",
        others: "rpm (dnf, apk, zypper), rpm-tools (pacman)",
    },
];

/// What a measurement compares with. Where one is not to be had it says so and goes on.
const PEERS: &[Needed] = &[
    Needed {
        program: "bpftrace",
        what_for: "is one of those that are compared",
        debian: "bpftrace",
        others: "bpftrace (dnf, pacman, apk, zypper)",
    },
    Needed {
        program: "tcpretrans-bpfcc",
        what_for: "is another",
        debian: "bpfcc-tools",
        others: "bcc-tools (dnf, apk, zypper), bcc (pacman)",
    },
    Needed {
        program: "tcprtt",
        what_for: "is another",
        debian: "libbpf-tools",
        others: "libbpf-tools (dnf, zypper)",
    },
];

/// What alerts, plugins and gates are tried with; several names where distributions do not agree.
const MONITORING: &[&[&str]] = &[
    &["prometheus"],
    &["promtool"],
    &["prometheus-alertmanager", "alertmanager"],
    &["amtool"],
    &["nagios4", "nagios"],
    &["keepalived"],
    &["bird"],
    &["birdcl"],
];
/// Where Debian has them.
const MONITORING_PACKAGES: &[&str] = &["prometheus", "prometheus-alertmanager", "nagios4-core"];

/// Find the programs that make and break networks, or install them.
pub(crate) fn laboratory() -> Result<()> {
    provide(LABORATORY)
}

/// Find the programs that virtual machines are made of, or install them.
pub(crate) fn machines() -> Result<()> {
    provide(LABORATORY)?;
    provide(MACHINES)
}

/// Find the service manager that some of them boot, or install it.
pub(crate) fn service_manager() -> Result<()> {
    provide(SERVICE_MANAGER)
}

/// Find the programs that packages are made with, or install them.
pub(crate) fn packaging() -> Result<()> {
    provide(PACKAGING)
}

/// Find the program that makes a Debian, or install it.
pub(crate) fn debian() -> Result<()> {
    provide(DEBIAN)
}

/// Find the programs that packages are tried with, or install them.
pub(crate) fn trials() -> Result<()> {
    provide(DEBIAN)?;
    provide(TRIALS)
}

/// Find the programs that are compared with ours, or install them.
pub(crate) fn peers() {
    for needed in PEERS {
        if let Err(error) = provide(std::slice::from_ref(needed)) {
            say(&format!("going on without: {error:#}"));
        }
    }
}

/// Of those that Debian has, the ones that need libraries which few machines have.
const WITH_LIBRARIES: &[&str] = &["keepalived", "bird2"];

/// Find Prometheus, Alertmanager, Nagios, keepalived and BIRD, or fetch them: the folder below which they are, when
/// that is not the machine itself. They are unpacked and not installed, since a package would start a service.
pub(crate) fn monitoring() -> Result<Option<PathBuf>> {
    let is_missing = |names: &&[&str]| names.iter().all(|name| find(name).is_none());
    if !MONITORING.iter().any(is_missing) {
        return Ok(None);
    }
    if !has_apt() {
        bail!(
            "Prometheus, Alertmanager, Nagios, keepalived or BIRD is missing, with which alerts, \
             plugins and gates are tried: put `prometheus`, `promtool`, `alertmanager` and `amtool` \
             (https://prometheus.io/download), `nagios`, `keepalived`, `bird` and `birdcl` into the \
             PATH, then run this again"
        );
    }
    let folder = workspace::tool("monitoring", "3")?;
    if folder.is_dir() {
        return Ok(Some(folder));
    }
    say("Prometheus, Alertmanager, Nagios, keepalived and BIRD, unpacked and not installed");
    apt_update()?;
    let part = workspace::tool("part-of-monitoring", "3")?;
    // Of an attempt that was broken off.
    let _ = fs::remove_dir_all(&part);
    let mut all: BTreeSet<String> = MONITORING_PACKAGES
        .iter()
        .map(|it| (*it).to_owned())
        .collect();
    for package in WITH_LIBRARIES {
        all.extend(missing_for(package)?);
    }
    let all: Vec<_> = all.iter().map(String::as_str).collect();
    download(&all, &part)?;
    fs::rename(&part, &folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    Ok(Some(folder))
}

/// A package and all that it needs and this machine does not have.
fn missing_for(package: &str) -> Result<Vec<String>> {
    let plan = command("apt-get")
        .args(["install", "--simulate", "--quiet", "--quiet"])
        .args(["--no-install-recommends", package])
        .env("LC_ALL", "C")
        .read()?;
    let missing = installed_by(&plan);
    if missing.is_empty() {
        // It is installed, in a place where it was not found.
        return Ok(vec![package.to_owned()]);
    }
    Ok(missing)
}

/// What apt would install, by its plan.
fn installed_by(plan: &str) -> Vec<String> {
    let lines = plan.lines().filter_map(|line| line.strip_prefix("Inst "));
    lines
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect()
}

/// Fetch packages and unpack them below a folder.
fn download(packages: &[&str], folder: &Path) -> Result<()> {
    let fetched = folder.join("packages");
    fs::create_dir_all(&fetched)
        .with_context(|| format!("{} cannot be made", fetched.display()))?;
    command("apt-get")
        .args(["--quiet", "--quiet", "download"])
        // Root would otherwise fetch as a user who cannot write here.
        .args(["-o", "APT::Sandbox::User=root"])
        .args(packages)
        .folder(&fetched)
        .run()?;
    unpack(&fetched, folder)?;
    fs::remove_dir_all(&fetched)?;
    Ok(())
}

/// Unpack all packages of a folder into another.
pub(crate) fn unpack(packages: &Path, into: &Path) -> Result<()> {
    for package in fs::read_dir(packages)? {
        let package = package?.path();
        command("dpkg-deb")
            .arg("--extract")
            .arg(package)
            .arg(into)
            .run()?;
    }
    Ok(())
}

fn provide(needed: &[Needed]) -> Result<()> {
    let missing = |needed: &&Needed| find(needed.program).is_none();
    let absent: Vec<_> = needed.iter().filter(missing).collect();
    if absent.is_empty() {
        return Ok(());
    }
    for needed in &absent {
        say(&format!(
            "`{}` is missing: it {}",
            needed.program, needed.what_for
        ));
    }
    if !has_apt() {
        let packages: Vec<_> = absent.iter().map(|needed| needed.others).collect();
        bail!(
            "install these packages, then run this again: {}",
            packages.join("; ")
        );
    }
    let packages: Vec<_> = absent.iter().map(|needed| needed.debian).collect();
    apt_update()?;
    apt_install(&packages)
}

/// Whether this is a Debian or one of its relatives.
pub(crate) fn has_apt() -> bool {
    find("apt-get").is_some()
}

/// Fetch the list of packages; on a new machine there is none.
pub(crate) fn apt_update() -> Result<()> {
    as_root(apt_get("update"))?.run()
}

/// Install packages, and nothing that they only recommend.
pub(crate) fn apt_install(packages: &[&str]) -> Result<()> {
    let apt = apt_get("install").args(["--yes", "--no-install-recommends"]);
    as_root(apt.args(packages))?.run()
}

/// A new machine often updates itself in the background: wait for that instead of failing.
fn apt_get(subcommand: &str) -> Invocation {
    command("apt-get")
        .args([subcommand, "--quiet", "--option", "DPkg::Lock::Timeout=120"])
        .env("DEBIAN_FRONTEND", "noninteractive")
}

/// Whether apt knows a version of this package that it could install.
pub(crate) fn apt_offers(package: &str) -> bool {
    let policy = command("apt-cache")
        .args(["policy", package])
        .env("LC_ALL", "C")
        .ask();
    policy.is_some_and(|policy| has_candidate(&policy))
}

fn has_candidate(policy: &str) -> bool {
    let mut lines = policy.lines().map(str::trim);
    let candidate = lines.find_map(|line| line.strip_prefix("Candidate: "));
    candidate.is_some_and(|version| version != "(none)")
}

#[cfg(test)]
mod tests {
    use super::{has_candidate, installed_by};

    #[test]
    fn what_a_package_needs_is_read_from_the_plan() {
        let plan = "Inst libnl-3-200 (3.7.0-0.2+b1 Debian:12/stable [amd64])\n\
                    Inst keepalived (1:2.2.7-1+b2 Debian:12/stable [amd64])\n\
                    Conf libnl-3-200 (3.7.0-0.2+b1 Debian:12/stable [amd64])\n";
        assert_eq!(installed_by(plan), ["libnl-3-200", "keepalived"]);
        assert!(installed_by("").is_empty());
    }

    #[test]
    fn a_package_without_a_version_cannot_be_installed() {
        assert!(has_candidate(
            "rustc-web:\n  Installed: (none)\n  Candidate: 1.96.0+dfsg1\n"
        ));
        assert!(!has_candidate(
            "rustc-web:\n  Installed: (none)\n  Candidate: (none)\n"
        ));
        assert!(!has_candidate(""));
    }
}

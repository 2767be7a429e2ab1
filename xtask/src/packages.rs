//! Packages of the distribution: what is missing, and how to get it.

use anyhow::{Result, bail};

use crate::{
    command::{Invocation, command, find, say},
    root::as_root,
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

/// Find the programs that are compared with ours, or install them.
pub(crate) fn peers() {
    for needed in PEERS {
        if let Err(error) = provide(std::slice::from_ref(needed)) {
            say(&format!("going on without: {error:#}"));
        }
    }
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
    use super::has_candidate;

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

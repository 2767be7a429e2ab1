//! What this kernel and host allow, item by item, and what is lost by what is missing.

use std::{fs, os::unix::fs::MetadataExt as _};

use anyhow::Context as _;
use detector_ebpf::{ABSENT, Offsets, Settings};

use super::{
    Check,
    btf::Btf,
    offsets, owners,
    programs::{self, Programs, Sizes},
    settings::{self, Abilities},
};
use crate::{clock, model::NetnsId};

/// Where the kernel keeps its type information.
const BTF: &str = "/sys/kernel/btf/vmlinux";
/// What the daemon cannot do without, with the number in `include/uapi/linux/capability.h`.
const CAPABILITIES: &[(&str, u32)] = &[("CAP_BPF", 39), ("CAP_PERFMON", 38)];
/// How to get them.
const RIGHTS: &str = "run as root, or give the service AmbientCapabilities=CAP_BPF CAP_PERFMON";

/// What was learned about this host before loading anything.
#[derive(Debug)]
pub struct Host {
    /// Our network namespace.
    pub netns: NetnsId,
    /// Jiffies per second.
    pub hz: u64,
    /// Where the kernel's fields are.
    pub offsets: Offsets,
    /// What the programs are told.
    pub settings: Settings,
    /// What is there and what is not.
    pub checks: Vec<Check>,
}

/// Learns about this host.
///
/// # Errors
/// What is missing, what that costs and what to do.
pub fn inspect() -> anyhow::Result<Host> {
    let lacking = lacking_capabilities();
    anyhow::ensure!(
        lacking.is_empty(),
        "this process lacks {}: without that the kernel does not take the programs; {RIGHTS}",
        lacking.join(" and ")
    );
    let kernel = programs::release();
    let btf = btf(&kernel)?;
    let offsets = offsets::find(&btf).with_context(|| {
        format!("kernel {kernel} is laid out in a way that this version does not know")
    })?;
    let hz = clock::jiffies_per_second();
    let netns = netns()?;
    let others = other_netns(&btf, &offsets);
    let abilities = Abilities {
        send_errors: btf
            .tracepoint_arguments("tcp_retransmit_skb")
            .is_some_and(|count| count > 2),
        probe_reads: lockdown() != "confidentiality",
        cookies: btf.has_helper("bpf_get_socket_ptr_cookie"),
        other_netns: others.ok,
    };
    let settings = settings::of(netns, hz, abilities);
    let mut checks = vec![Check::present(
        "btf",
        true,
        format!("{BTF} of kernel {kernel}"),
    )];
    checks.extend(offsets::checks(&btf));
    checks.push(send_errors(abilities.send_errors));
    checks.push(probe_reads(abilities.probe_reads));
    checks.push(cookies(abilities.cookies));
    checks.push(others);
    checks.push(process_names());
    Ok(Host {
        netns,
        hz,
        offsets,
        settings,
        checks,
    })
}

/// Every check, also on a host where the daemon would not start.
pub fn doctor() -> Vec<Check> {
    let lacking = lacking_capabilities();
    let mut checks: Vec<_> = CAPABILITIES
        .iter()
        .map(|(name, _)| capability(name, !lacking.contains(name)))
        .collect();
    let kernel = programs::release();
    let btf = match btf(&kernel) {
        Ok(btf) => btf,
        Err(error) => {
            checks.push(missing(
                "btf",
                format!("{error:#}"),
                "everything: the daemon does not start",
                "run a kernel built with CONFIG_DEBUG_INFO_BTF=y, 5.10 or newer",
            ));
            return checks;
        }
    };
    if !lacking.is_empty() || offsets::find(&btf).is_err() {
        // The programs cannot be tried; what can be known without them is still told.
        let found = format!("{BTF} of kernel {kernel}");
        checks.push(Check::present("btf", true, found));
        checks.extend(offsets::checks(&btf));
        return checks;
    }
    let tried = inspect().and_then(|host| {
        let loaded = Programs::load(
            &host.offsets,
            &host.settings,
            &Sizes::default(),
            0,
            &mut |_, _| {},
        );
        checks.extend(host.checks);
        loaded
    });
    match tried {
        Ok((_, _, programs)) => checks.extend(programs),
        Err(error) => checks.push(missing(
            "program:sweep",
            format!("{error:#}"),
            "everything: the daemon does not start",
            "run as root, or report the lines above",
        )),
    }
    checks
}

/// The kernel's type information.
fn btf(kernel: &str) -> anyhow::Result<Btf> {
    let bytes = fs::read(BTF).with_context(|| no_btf(kernel))?;
    Btf::parse(bytes).with_context(|| format!("{BTF} of kernel {kernel} is damaged"))
}

/// Our network namespace.
///
/// # Errors
/// When `/proc` is not there.
pub fn netns() -> anyhow::Result<NetnsId> {
    let path = "/proc/self/ns/net";
    let inode = fs::metadata(path)
        .with_context(|| format!("cannot read {path}"))?
        .ino();
    Ok(NetnsId(u32::try_from(inode).unwrap_or(0)))
}

fn no_btf(kernel: &str) -> String {
    format!(
        "kernel {kernel} has no type information at {BTF}: without it the places of its fields \
         are not known and nothing can be read; run a kernel built with CONFIG_DEBUG_INFO_BTF=y \
         (every large distribution's is)"
    )
}

fn send_errors(there: bool) -> Check {
    if there {
        let found = "tcp_retransmit_skb tells why a packet did not leave";
        return Check::present("send-errors", false, found);
    }
    lacking(
        "send-errors",
        "tcp_retransmit_skb has no argument err before 6.17",
        "a dead next hop and a local firewall are told by slower signs",
        "a kernel from 6.17 on",
    )
}

fn probe_reads(allowed: bool) -> Check {
    if allowed {
        return Check::present(
            "gateways",
            false,
            "the gateway of a cached route can be read",
        );
    }
    lacking(
        "gateways",
        "the kernel is locked down for confidentiality",
        "gateways are looked up from outside, without marks and ports; the size of a waiting segment \
         is not known",
        "boot with lockdown=integrity, if that is acceptable",
    )
}

fn cookies(there: bool) -> Check {
    if there {
        let found = "connections are told apart by the kernel's cookies";
        return Check::present(Check::COOKIES, false, found);
    }
    lacking(
        Check::COOKIES,
        "programs cannot ask for the cookie of a socket before 5.12",
        "little: connections are told apart by their place in memory and their ports",
        "a kernel from 5.12 on",
    )
}

fn other_netns(btf: &Btf, offsets: &Offsets) -> Check {
    let without = |found, remedy| {
        let lost = "connections of other network namespaces, those of containers for instance";
        lacking("other-netns", found, lost, remedy)
    };
    if !owners::sees_the_host() {
        return without(
            "this daemon has a process namespace of its own and sees few of the host's processes",
            "run it with the host's (`--pid=host`, hostPID)",
        );
    }
    if offsets.socket_sk == ABSENT || !btf.has_helper("bpf_sock_from_file") {
        return without(
            "programs cannot have the socket behind an open file before 5.11",
            "a kernel from 5.11 on",
        );
    }
    Check::present(
        "other-netns",
        false,
        "connections of other network namespaces are seen through the files that hold them",
    )
}

/// Which process holds a connection is asked of the kernel, its name and control group of `/proc`.
fn process_names() -> Check {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut groups = rustix::process::getgroups().unwrap_or_default();
    groups.push(rustix::process::getegid());
    if hides_processes(&mounts, |group| {
        groups.iter().any(|it| it.as_raw() == group)
    }) {
        return lacking(
            "process-names",
            "/proc hides the processes of others (hidepid)",
            "the names, control groups and limits of processes; their numbers are shown, and when they run out of descriptors is not",
            "mount /proc without hidepid, or with gid= of a group of the daemon",
        );
    }
    Check::present("process-names", false, "/proc shows all processes")
}

/// Whether `/proc` is mounted so that who is in none of its groups sees no processes of others:
/// `proc_show_options`, `has_pid_permissions`, `fs/proc/{root,base}.c`.
fn hides_processes(mounts: &str, is_member: impl Fn(u32) -> bool) -> bool {
    // The last one covers those before.
    let mut proc = mounts.lines().rev();
    let proc = proc.find(|line| line.split(' ').nth(1) == Some("/proc"));
    let options = proc.and_then(|line| line.split(' ').nth(3));
    let option = |name: &str| {
        let mut options = options?.split(',').filter_map(|it| it.split_once('='));
        options.find(|(key, _)| *key == name).map(|(_, it)| it)
    };
    let group = option("gid").and_then(|it| it.parse().ok()).unwrap_or(0);
    match option("hidepid") {
        None | Some("0" | "off") => false,
        Some("4" | "ptraceable") => true,
        Some(_) => !is_member(group),
    }
}

/// The kernel's lockdown mode; empty when it has none.
fn lockdown() -> String {
    let text = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    let chosen = text
        .split_whitespace()
        .find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
    chosen.unwrap_or_default().to_owned()
}

/// Of [`CAPABILITIES`], the ones that this process lacks; `CAP_SYS_ADMIN` stands for each
/// (`include/linux/capability.h`, `bpf_capable`, `perfmon_capable`).
fn lacking_capabilities() -> Vec<&'static str> {
    const SYS_ADMIN: u32 = 21;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    let has = |bit: u32| effective & (1 << bit) != 0;
    CAPABILITIES
        .iter()
        .filter(|(_, bit)| !has(*bit) && !has(SYS_ADMIN))
        .map(|(name, _)| *name)
        .collect()
}

fn capability(name: &str, there: bool) -> Check {
    if there {
        return Check::present(name, true, format!("this process has {name}"));
    }
    missing(
        name,
        format!("this process lacks {name}"),
        "everything: the kernel does not take the programs",
        RIGHTS,
    )
}

/// Something without which the daemon does less.
fn lacking(feature: &str, found: &str, lost: &str, remedy: &str) -> Check {
    Check {
        required: false,
        ..missing(feature, found.to_owned(), lost, remedy)
    }
}

/// Something without which the daemon does not start.
fn missing(feature: &str, found: String, lost: &str, remedy: &str) -> Check {
    Check {
        feature: feature.to_owned(),
        ok: false,
        required: true,
        found,
        lost: lost.to_owned(),
        remedy: remedy.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::hides_processes;

    #[test]
    fn processes_are_hidden_by_the_mount_that_is_in_force_and_not_from_its_group() {
        let mounts = |options: &str| {
            format!(
                "sysfs /sys sysfs rw 0 0\nproc /proc proc rw,hidepid=invisible 0 0\n\
                 proc /proc proc rw,nosuid{options} 0 0\nproc /jail/proc proc rw,hidepid=2 0 0\n"
            )
        };
        let hides = |options: &str| hides_processes(&mounts(options), |group| group == 27);
        assert!(!hides(""));
        assert!(!hides(",hidepid=0") && !hides(",hidepid=off"));
        for hidden in ["1", "noaccess", "2", "invisible"] {
            assert!(hides(&format!(",hidepid={hidden}")), "of the group 0");
            assert!(hides(&format!(",gid=28,hidepid={hidden}")));
            assert!(!hides(&format!(",gid=27,hidepid={hidden}")));
        }
        assert!(hides(",gid=27,hidepid=ptraceable") && hides(",gid=27,hidepid=4"));
        assert!(!hides_processes("", |_| false), "nothing is known");
    }
}

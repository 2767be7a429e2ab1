//! What a machine boots into: a small Linux with the tools of the laboratory, all in memory.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{archive::Kernel, report};
use crate::{
    command::{command, find, quoted},
    workspace,
};

/// Programs that the laboratory calls.
const TOOLS: &[&str] = &["ip", "tc", "nft", "ping", "setpriv", "wg", "bash"];

/// Modules that the laboratory's networks need; a kernel that lacks one has it built in, or goes without.
const MODULES: &[&str] = &[
    "veth",
    "dummy",
    "bridge",
    "vxlan",
    "macvlan",
    "ipip",
    "ip_gre",
    "wireguard",
    "vrf",
    "sch_netem",
    "sch_tbf",
    "sch_fq",
    "nf_tables",
    "nft_ct",
    "nft_nat",
    "nft_masq",
    "nft_chain_nat",
    "nft_limit",
    "nft_reject_inet",
    "nft_log",
    "nft_numgen",
    "nft_hash",
    "nft_counter",
    "nft_quota",
    "nf_conntrack",
    "inet_diag",
    "tcp_diag",
    "tcp_bbr",
    "ifb",
    "act_mirred",
    "cls_u32",
    "sch_ingress",
];

/// Who starts the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Init {
    /// A script, and nothing else runs.
    Script,
    /// systemd, the one of this host.
    Systemd,
}

/// The service manager, and what it starts services with from version 254 on.
const MANAGER: &str = "/lib/systemd/systemd";
const EXECUTOR: &str = "/lib/systemd/systemd-executor";
/// Where its units are.
const UNITS: &str = "lib/systemd/system";
/// Targets that every service refers to.
const TARGETS: &[&str] = &[
    "basic",
    "local-fs",
    "multi-user",
    "network",
    "paths",
    "shutdown",
    "slices",
    "sockets",
    "swap",
    "sysinit",
    "timers",
    "umount",
];
/// What it starts at boot.
const TESTS: &str = "\
[Unit]
After=basic.target
Requires=basic.target
[Service]
Type=oneshot
TimeoutStartSec=infinity
ExecStart=/tests
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS1
LimitMEMLOCK=infinity
LimitNOFILE=65536
";

/// Builds the image for a kernel; where it is.
pub(super) fn build(
    kernel: &Kernel,
    programs: &[PathBuf; 2],
    init: Init,
    filters: &[String],
    folder: &Path,
) -> Result<PathBuf> {
    let root = folder.join("root");
    let _ = fs::remove_dir_all(&root);
    for inside in [
        "bin",
        "usr/sbin",
        "proc",
        "sys",
        "dev",
        "run",
        "tmp",
        "etc",
        "lib/modules",
    ] {
        fs::create_dir_all(root.join(inside))?;
    }
    let busybox = find("busybox").context("`busybox` is not there: install busybox-static")?;
    fs::copy(busybox, root.join("bin/busybox"))?;
    symlink("busybox", root.join("bin/sh"))?;
    for tool in TOOLS {
        let program = find(tool).with_context(|| format!("`{tool}` is not there"))?;
        add_program(&program, &format!("usr/sbin/{tool}"), &root)?;
    }
    let [tcpstall, laboratory] = programs;
    add_program(tcpstall, "usr/sbin/tcpstall", &root)?;
    add_program(laboratory, "usr/sbin/laboratory", &root)?;
    add_scenarios(&root)?;
    let modules = add_modules(kernel, &root)?;
    fs::write(root.join("lib/modules/list"), modules)?;
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/:/bin/sh\ntcpstall:x:990:990::/:/bin/false\n\
         nobody:x:65534:65534:nobody:/:/bin/sh\n",
    )?;
    fs::write(
        root.join("etc/group"),
        "root:x:0:\ntcpstall:x:990:\nnogroup:x:65534:\n",
    )?;
    let next = match init {
        Init::Script => "exec /tests",
        Init::Systemd => {
            add_manager(&root)?;
            ROOT_OF_ITS_OWN
        }
    };
    add_script(&root.join("init"), &format!("{BEGIN}{next}\n"))?;
    add_script(&root.join("tests"), &tests(filters))?;
    let image = folder.join("initramfs.cpio.gz");
    command("sh")
        .args(["-c", "find . | busybox cpio -o -H newc | gzip -1 > \"$0\""])
        .arg(&image)
        .folder(&root)
        .run()?;
    Ok(image)
}

/// A program, and the libraries that it is linked with.
fn add_program(program: &Path, place: &str, root: &Path) -> Result<()> {
    fs::copy(program, root.join(place))
        .with_context(|| format!("{} cannot be copied", program.display()))?;
    let libraries = command("ldd").arg(program).ask().unwrap_or_default();
    for library in linked(&libraries) {
        let inside = root.join(library.trim_start_matches('/'));
        if !inside.exists() {
            if let Some(folder) = inside.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::copy(library, &inside).with_context(|| format!("{library} cannot be copied"))?;
        }
    }
    Ok(())
}

/// The files that `ldd` names.
fn linked(ldd: &str) -> BTreeSet<&str> {
    ldd.split_whitespace()
        .filter(|word| word.starts_with('/'))
        .collect()
}

/// The service manager with the few units that it cannot do without; it starts the tests at boot.
fn add_manager(root: &Path) -> Result<()> {
    let units = root.join(UNITS);
    fs::create_dir_all(&units)?;
    add_program(Path::new(MANAGER), "lib/systemd/systemd", root)?;
    if Path::new(EXECUTOR).exists() {
        add_program(Path::new(EXECUTOR), "lib/systemd/systemd-executor", root)?;
    }
    let control = find("systemctl").context("`systemctl` is not there: install systemd")?;
    add_program(&control, "usr/sbin/systemctl", root)?;
    // The unit's `ExecReload=`. That of busybox asks for what the unit does not allow.
    let kill = find("kill").context("`kill` is not there: install procps")?;
    add_program(&kill, "bin/kill", root)?;
    for target in TARGETS {
        let file = format!("{target}.target");
        fs::copy(Path::new("/").join(UNITS).join(&file), units.join(&file))
            .with_context(|| format!("systemd's {file} cannot be copied"))?;
    }
    fs::write(units.join("tests.service"), TESTS)?;
    fs::write(
        units.join("default.target"),
        "[Unit]\nRequires=tests.service\n",
    )?;
    Ok(())
}

fn add_script(place: &Path, text: &str) -> Result<()> {
    fs::write(place, text)?;
    fs::set_permissions(place, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// The laboratory reads its scenarios where it was built.
fn add_scenarios(root: &Path) -> Result<()> {
    let scenarios = workspace::root().join("tests/scenarios");
    let inside = root.join(scenarios.strip_prefix("/").unwrap_or(&scenarios));
    fs::create_dir_all(&inside)?;
    for file in fs::read_dir(scenarios)? {
        let file = file?;
        fs::copy(file.path(), inside.join(file.file_name()))?;
    }
    Ok(())
}

/// The modules with all that they depend on, unpacked; their files in the order of loading.
fn add_modules(kernel: &Kernel, root: &Path) -> Result<String> {
    let mut list = String::new();
    let mut seen = BTreeSet::new();
    for module in MODULES {
        let files = command("modprobe")
            .arg("--dirname")
            .arg(&kernel.folder)
            .args(["--set-version", &kernel.release, "--show-depends", module])
            .ask()
            .unwrap_or_default();
        for file in loaded(&files).filter(|file| seen.insert((*file).to_owned())) {
            let name = unpack_module(Path::new(file), &root.join("lib/modules"))?;
            writeln!(list, "/lib/modules/{name}")?;
        }
    }
    Ok(list)
}

/// The files of `insmod FILE` in what modprobe would do.
fn loaded(modprobe: &str) -> impl Iterator<Item = &str> {
    let words = modprobe.lines().map(|line| line.split_whitespace());
    words.filter_map(|mut words| {
        (words.next() == Some("insmod"))
            .then(|| words.next())
            .flatten()
    })
}

fn unpack_module(file: &Path, folder: &Path) -> Result<String> {
    let name = file.file_name().and_then(|name| name.to_str());
    let name = name.context("a module without a name")?;
    let plain = name.trim_end_matches(".xz").trim_end_matches(".zst");
    fs::copy(file, folder.join(name)).with_context(|| format!("{}", file.display()))?;
    let unpack = match name.rsplit('.').next() {
        Some("xz") => command("xz").args(["--decompress", "--force", "--quiet"]),
        Some("zst") => command("zstd").args(["--decompress", "--rm", "--force", "--quiet"]),
        _ => return Ok(plain.to_owned()),
    };
    unpack.arg(folder.join(name)).quietly()?;
    Ok(plain.to_owned())
}

/// What the machine does first: mounts what programs expect, and loads modules.
const BEGIN: &str = "#!/bin/sh
export PATH=/usr/sbin:/bin HOME=/ TERM=dumb RUST_BACKTRACE=0
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
chmod 1777 /tmp
mount -t securityfs security /sys/kernel/security
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t tracefs trace /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
exec > /dev/ttyS1 2>&1 < /dev/null
while read -r module; do insmod \"$module\" || echo \"$module is not loaded\"; done < /lib/modules/list
ip link set lo up
hostname tcpstall
ulimit -n 65536
ulimit -l unlimited
";

/// What services are fenced in with moves the root of the file system, which that of the image cannot be.
const ROOT_OF_ITS_OWN: &str = "mkdir /new
mount -t tmpfs -o mode=755 root /new
for entry in /*; do
    case $entry in
        /new) ;;
        /dev | /proc | /run | /sys | /tmp) mkdir /new$entry; mount --move $entry /new$entry ;;
        *) cp -a $entry /new ;;
    esac
done
mkdir -p /new/home /new/root /new/var
exec switch_root /new /lib/systemd/systemd --log-target=kmsg";

/// Runs the tests, says how they ended, and goes off.
fn tests(filters: &[String]) -> String {
    let filters: Vec<_> = filters.iter().map(|it| quoted(it.as_ref())).collect();
    format!(
        "#!/bin/sh
export PATH=/usr/sbin:/bin HOME=/ TERM=dumb RUST_BACKTRACE=0
uname -a
echo \"{lockdown} $(cat /sys/kernel/security/lockdown)\"
echo \"{doctor} $(tcpstall doctor -o json | tr -d '\n')\"
TCPSTALL_BIN=/usr/sbin/tcpstall TCPSTALL_LAB_REQUIRED=1 TCPSTALL_LAB_MACHINE=1 TCPSTALL_LAB_PARALLEL=2 laboratory {filters}
echo \"{ended} $?\"
poweroff -f
",
        lockdown = report::LOCKDOWN,
        doctor = report::DOCTOR,
        filters = filters.join(" "),
        ended = report::ENDED,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_modules_are_read_from_what_the_tools_print() {
        let ldd = "\tlinux-vdso.so.1 (0x7ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x7f)\n\t/lib64/ld-linux-x86-64.so.2 (0x7f)\n";
        let files: Vec<_> = linked(ldd).into_iter().collect();
        assert_eq!(
            files,
            [
                "/lib/x86_64-linux-gnu/libc.so.6",
                "/lib64/ld-linux-x86-64.so.2"
            ]
        );
        let modprobe = "builtin ipv6\ninsmod /k/udp_tunnel.ko.xz \ninsmod /k/vxlan.ko.xz \n";
        let files: Vec<_> = loaded(modprobe).collect();
        assert_eq!(files, ["/k/udp_tunnel.ko.xz", "/k/vxlan.ko.xz"]);
    }
}

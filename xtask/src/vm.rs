//! `test-vm`: real kernels in virtual machines, and the laboratory in each.
//!
//! The machines are emulated (TCG): it works everywhere and is fast enough, since guests mostly wait.
//! Their clocks are honest to half a second or so, so that nothing is measured in them.

mod archive;
mod initramfs;
mod machine;
mod report;

use std::{
    env, fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use crate::{
    build,
    command::{say, warn},
    packages, test, workspace,
};
use archive::Kernel;
use initramfs::Init;
use report::{End, Report};

/// Kernels that are tried, the newest of each.
const KERNELS: &[&str] = &["5.10", "6.1", "6.12", "6", "7"];
/// Machines that run at once, with a processor each.
const AT_ONCE: usize = 2;
/// The page with the tables, below the workspace.
const PAGE: &str = "docs/kernels.md";
/// Behind this line of the page all is generated.
const GENERATED: &str = "<!-- generated: cargo xtask test-vm --write -->";

/// One way to boot a kernel, and what is tried then.
struct Way {
    key: &'static str,
    name: &'static str,
    parameters: &'static str,
    init: Init,
    /// What `/sys/kernel/security/lockdown` says then.
    lockdown: &'static str,
    tests: &'static [&'static str],
}

/// Those that are tried.
const WAYS: &[Way] = &[
    Way {
        key: "plain",
        name: "As Debian boots it",
        parameters: "",
        init: Init::Script,
        lockdown: "none",
        tests: &[
            "containers::",
            "distance::",
            "exclusions::a_peer_that_does_not_read",
            "families::",
            "faults::a_black_hole_is_named",
            "faults::a_firewall_on_the_host",
            "faults::a_router_that_does_not_answer",
            "faults::large_packets_that_vanish_are",
            "host::",
            "incidents::an_incident_is_told",
            "overflow::",
            "polling::",
            "sensors::",
            "stakes::",
            "traps::routes::connections_of_a_vrf",
            "traps::routes::ipv4_through",
            "traps::routes::of_a_group",
            "traps::tunnels::what_breaks",
        ],
    },
    Way {
        key: "integrity",
        name: "With `lockdown=integrity`, as Secure Boot turns it on",
        parameters: "lockdown=integrity",
        init: Init::Script,
        lockdown: "integrity",
        tests: LOCKED,
    },
    Way {
        key: "confidentiality",
        name: "With `lockdown=confidentiality`",
        parameters: "lockdown=confidentiality",
        init: Init::Script,
        lockdown: "confidentiality",
        tests: LOCKED,
    },
    Way {
        key: "systemd",
        name: "Under systemd, as the unit that is shipped",
        parameters: "",
        init: Init::Systemd,
        lockdown: "none",
        tests: &["service::"],
    },
];

const LOCKED: &[&str] = &[
    "faults::a_black_hole_is_named",
    "faults::a_firewall_on_the_host",
    "faults::a_router_that_does_not_answer",
    "faults::large_packets_that_vanish_are",
    "host::",
];

/// What is run in each machine.
#[derive(Args, Default)]
pub(crate) struct Options {
    /// Kernels, such as `6.12` for the newest 6.12 and `7` for the newest 7; all that are supported
    /// without it
    #[arg(value_name = "VERSION", value_parser = version)]
    kernels: Vec<String>,
    /// Only tests whose name contains one of these
    #[arg(long, value_name = "FILTER")]
    only: Vec<String>,
    /// Only machines booted in this way; with --only as Debian boots them
    #[arg(long, value_name = "WAY", value_parser = WAYS.iter().map(|way| way.key).collect::<Vec<_>>())]
    way: Option<String>,
    /// Not those again that have passed already with the same programs and tests
    #[arg(long)]
    resume: bool,
    /// A kernel that cannot be fetched is a failure
    #[arg(long)]
    required: bool,
    /// Write the tables of docs/kernels.md; no kernel may be missing then
    #[arg(long, conflicts_with_all = ["only", "kernels", "way"])]
    write: bool,
}

impl Options {
    /// Every kernel, and none may be missing.
    pub(crate) fn required() -> Self {
        Self {
            required: true,
            ..Self::default()
        }
    }
}

/// A version is numbers: anything else would fit every kernel.
fn version(text: &str) -> Result<String, String> {
    let digits = |part: &str| part.chars().all(|c| c.is_ascii_digit());
    let is_number = |part: &str| digits(part) && part.parse::<u32>().is_ok();
    if text.split('.').all(is_number) {
        return Ok(text.to_owned());
    }
    Err("expected numbers such as 6.12 for the newest 6.12, or 7 for the newest 7".to_owned())
}

/// `cargo xtask test-vm`
pub(crate) fn task(options: &Options) -> Result<()> {
    let wanted = ways(options);
    packages::machines()?;
    if wanted.iter().any(|way| way.init == Init::Systemd) {
        packages::service_manager()?;
    }
    let programs = [build::release()?, test::laboratory()?];
    let versions: Vec<&str> = if options.kernels.is_empty() {
        KERNELS.to_vec()
    } else {
        options.kernels.iter().map(String::as_str).collect()
    };
    let archive = archive::Archive::open();
    let (mut kernels, mut skipped) = (Vec::<Kernel>::new(), Vec::new());
    for version in versions {
        match archive.kernel(version) {
            // The newest 6 may be the newest 6.12.
            Ok(kernel) if kernels.iter().any(|it| it.release == kernel.release) => {}
            Ok(kernel) => kernels.push(kernel),
            Err(reason) => skipped.push(format!("{version}: {reason:#}")),
        }
    }
    let machines = machines(&kernels, &wanted, options);
    let attempt = Attempt {
        programs: &programs,
        fingerprint: fingerprint(&programs)?,
        resume: options.resume,
    };
    let reports = all(&machines, &attempt);
    let required = options.required || options.write;
    let passed = conclude(&machines, &reports, &skipped, required);
    if options.write && skipped.is_empty() {
        write(&machines, &reports)?;
    }
    passed
}

/// A machine that is to be tried.
struct Machine<'a> {
    kernel: &'a Kernel,
    way: &'static Way,
    tests: Vec<String>,
}

fn ways(options: &Options) -> Vec<&'static Way> {
    let plain = (!options.only.is_empty()).then_some(WAYS[0].key);
    let wanted = options.way.as_deref().or(plain);
    let ways = WAYS.iter();
    ways.filter(|way| wanted.is_none_or(|it| it == way.key))
        .collect()
}

fn machines<'a>(
    kernels: &'a [Kernel],
    ways: &[&'static Way],
    options: &Options,
) -> Vec<Machine<'a>> {
    let only = (!options.only.is_empty()).then_some(&options.only);
    let mut machines = Vec::new();
    for &way in ways {
        let tests = way.tests.iter().map(|&test| test.to_owned());
        let tests: Vec<_> = only.cloned().unwrap_or_else(|| tests.collect());
        machines.extend(kernels.iter().map(|kernel| Machine {
            kernel,
            way,
            tests: tests.clone(),
        }));
    }
    machines
}

/// Tries all machines, some at once; their reports in the same order.
fn all(machines: &[Machine<'_>], attempt: &Attempt<'_>) -> Vec<Report> {
    let next = AtomicUsize::new(0);
    let reports = Mutex::new(Vec::new());
    let work = || {
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(machine) = machines.get(place) else {
                return;
            };
            let report = attempt
                .at(machine)
                .unwrap_or_else(|error| Report::failed(format!("{error:#}")));
            let mut reports = reports.lock().unwrap_or_else(PoisonError::into_inner);
            reports.push((place, report));
        }
    };
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(work);
        }
    });
    let mut reports = reports.into_inner().unwrap_or_else(PoisonError::into_inner);
    reports.sort_by_key(|(place, _)| *place);
    reports.into_iter().map(|(_, report)| report).collect()
}

/// What is tried in each machine.
struct Attempt<'a> {
    programs: &'a [PathBuf; 2],
    fingerprint: u64,
    resume: bool,
}

impl Attempt<'_> {
    fn at(&self, machine: &Machine<'_>) -> Result<Report> {
        let Machine { kernel, way, tests } = machine;
        let folder = folder(machine);
        let passed = folder.join("passed");
        let what = format!("{:x} {} {tests:?}", self.fingerprint, way.parameters);
        let known = fs::read_to_string(&passed).is_ok_and(|it| it == what);
        if self.resume && known {
            say(&format!("known    Linux {}: {}", kernel.release, way.name));
            return machine::read(&folder, None).map(|it| it.in_mode(way.lockdown));
        }
        let _ = fs::remove_file(&passed);
        say(&format!("Linux {}: {}", kernel.release, way.name));
        let image = initramfs::build(kernel, self.programs, way.init, tests, &folder)?;
        let report = machine::boot(kernel, &image, way.parameters, &folder)?;
        let report = report.in_mode(way.lockdown);
        if report.end == End::Passed {
            fs::write(passed, what)?;
        }
        Ok(report)
    }
}

/// Of what is tried and of what tries it, this program included.
fn fingerprint(programs: &[PathBuf; 2]) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    for file in programs.iter().chain([&env::current_exe()?]) {
        fs::read(file)?.hash(&mut hasher);
    }
    Ok(hasher.finish())
}

/// Where a machine's image and logs are.
fn folder(machine: &Machine<'_>) -> PathBuf {
    let name = format!("{}-{}", machine.kernel.release, machine.way.key);
    workspace::target().join("vm").join(name)
}

fn conclude(
    machines: &[Machine<'_>],
    reports: &[Report],
    skipped: &[String],
    required: bool,
) -> Result<()> {
    let mut failed = if required { skipped.len() } else { 0 };
    for (machine, report) in machines.iter().zip(reports) {
        let name = format!("Linux {}: {}", machine.kernel.release, machine.way.name);
        match &report.end {
            End::Passed => say(&format!("passed   {name}")),
            End::Failed(why) => {
                failed += 1;
                let folder = folder(machine);
                warn(&format!(
                    "FAILED   {name}: {why}\n  its logs: {}",
                    folder.display()
                ));
            }
        }
    }
    for reason in skipped {
        warn(&format!("SKIPPED  Linux {reason}"));
    }
    if failed > 0 {
        bail!(
            "{failed} of {} machines did not pass",
            machines.len() + skipped.len()
        );
    }
    ensure!(!machines.is_empty() || !required, "no kernel was tried");
    Ok(())
}

fn write(machines: &[Machine<'_>], reports: &[Report]) -> Result<()> {
    let tried: Vec<_> = machines
        .iter()
        .zip(reports)
        .map(|(machine, report)| (machine.kernel.release.as_str(), machine.way.name, report))
        .collect();
    let page = workspace::root().join(PAGE);
    let text = fs::read_to_string(&page).with_context(|| format!("{PAGE} cannot be read"))?;
    let (before, _) = text
        .split_once(GENERATED)
        .with_context(|| format!("{PAGE} lacks the line {GENERATED}"))?;
    let tables = report::tables(&tried);
    fs::write(
        &page,
        format!("{before}{GENERATED}\n\n{}\n", tables.trim_end()),
    )?;
    say(&format!("wrote {PAGE}"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn what_is_no_version_is_refused() {
        for good in super::KERNELS {
            assert_eq!(version(good).as_deref(), Ok(*good));
        }
        for bad in ["", "newest", "6.", ".1", "6.x", "-6", "+6", "6 1"] {
            assert!(version(bad).is_err(), "{bad:?}");
        }
    }
}

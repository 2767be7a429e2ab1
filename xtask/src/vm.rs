//! `test-vm`: real kernels in virtual machines, and the laboratory in each.
//!
//! The machines are emulated (TCG): it works everywhere and is fast enough, since guests mostly wait.
//! Their clocks are honest to half a second or so, so that nothing is measured in them.

mod archive;
mod initramfs;
mod machine;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use crate::{
    build,
    command::{say, warn},
    packages, test, workspace,
};

/// Kernels that are tried, the newest of each.
const KERNELS: &[&str] = &["5.10", "6.1", "6.12", "6", "7"];

/// What is run in each machine.
#[derive(Args)]
pub(crate) struct Options {
    /// Kernels, such as `6.12` for the newest 6.12 and `7` for the newest 7; all that are supported
    /// without it
    #[arg(value_name = "VERSION", value_parser = version)]
    kernels: Vec<String>,
    /// Only tests whose name contains one of these
    #[arg(long, value_name = "FILTER")]
    only: Vec<String>,
    /// A kernel that cannot be fetched is a failure
    #[arg(long)]
    required: bool,
}

/// What came of one kernel.
enum Outcome {
    Passed(String),
    Failed(String),
    Skipped(String),
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
    packages::machines()?;
    let tcpstall = build::release()?;
    let laboratory = test::laboratory()?;
    let programs = [tcpstall, laboratory];
    let wanted: Vec<&str> = if options.kernels.is_empty() {
        KERNELS.to_vec()
    } else {
        options.kernels.iter().map(String::as_str).collect()
    };
    let archive = archive::Archive::open();
    let mut outcomes = Vec::new();
    for version in wanted {
        outcomes.push(match archive.kernel(version) {
            Ok(kernel) => try_kernel(&kernel, &programs, options)?,
            Err(reason) => Outcome::Skipped(format!("{version}: {reason:#}")),
        });
    }
    conclude(&outcomes, options.required)
}

fn try_kernel(
    kernel: &archive::Kernel,
    programs: &[PathBuf; 2],
    options: &Options,
) -> Result<Outcome> {
    say(&format!("Linux {}", kernel.release));
    let folder = workspace::target().join("vm").join(&kernel.release);
    let image = initramfs::build(kernel, programs, &options.only, &folder)?;
    let end = machine::boot(kernel, &image, &folder)?;
    let release = kernel.release.clone();
    Ok(match end {
        machine::End::Exit(0) => Outcome::Passed(release),
        machine::End::Exit(code) => {
            Outcome::Failed(format!("{release}: the tests ended with {code}"))
        }
        machine::End::Trouble(lines) => Outcome::Failed(format!(
            "{release}: the kernel's log has what must not be there, {} has all of it:\n{lines}",
            folder.join("kernel.log").display()
        )),
        machine::End::Lost(why) => Outcome::Failed(format!("{release}: {why}")),
    })
}

fn conclude(outcomes: &[Outcome], required: bool) -> Result<()> {
    let mut failed = 0;
    for outcome in outcomes {
        match outcome {
            Outcome::Passed(kernel) => say(&format!("passed   Linux {kernel}")),
            Outcome::Failed(why) => {
                failed += 1;
                warn(&format!("FAILED   Linux {why}"));
            }
            Outcome::Skipped(why) => {
                failed += u32::from(required);
                warn(&format!("SKIPPED  Linux {why}"));
            }
        }
    }
    if failed > 0 {
        bail!("{failed} of {} kernels did not pass", outcomes.len());
    }
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

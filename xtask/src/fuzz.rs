//! `fuzz`: what reads bytes from outside, fed with what a fuzzer makes of known ones.
//!
//! libFuzzer comes as a library; its instruments are options of the compiler, so that neither a nightly
//! toolchain nor a further program is needed.

use std::fs;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{
    command::{cargo, command, say},
    kernel, workspace,
};

/// What is fed. Each has a file in `fuzz/targets` and a folder in `fuzz/corpus`.
const TARGETS: &[&str] = &[
    "btf",
    "configuration",
    "kernel_records",
    "netlink",
    "query",
    "recording",
    "sock_diag",
];
/// Counts which branches are taken, and shows the fuzzer what is compared.
const INSTRUMENTS: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "--cfg=fuzzing",
];

/// How long each is fed.
const SECONDS: u32 = 10;

/// How long.
#[derive(Args)]
pub(crate) struct Options {
    /// Parsers to feed; all of them without it
    #[arg(value_name = "TARGET", value_parser = clap::builder::PossibleValuesParser::new(TARGETS))]
    targets: Vec<String>,
    /// Seconds for each
    #[arg(long, default_value_t = SECONDS, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
}

impl Default for Options {
    /// All of them, for a short while.
    fn default() -> Self {
        Self {
            targets: Vec::new(),
            seconds: SECONDS,
        }
    }
}

/// `cargo xtask fuzz`
pub(crate) fn task(options: &Options) -> Result<()> {
    // The daemon carries the kernel programs: without them it cannot be built.
    kernel::build()?;
    let host = host()?;
    let folder = workspace::target().join("fuzz");
    let fuzz = workspace::root().join("fuzz");
    cargo()
        .args(["build", "--release", "--locked", "--target", &host])
        .arg("--target-dir")
        .arg(&folder)
        .env("CARGO_ENCODED_RUSTFLAGS", INSTRUMENTS.join("\u{1f}"))
        .folder(&fuzz)
        .run()
        .context("the fuzzers do not build")?;
    let wanted: Vec<&str> = match &options.targets[..] {
        [] => TARGETS.to_vec(),
        some => some.iter().map(String::as_str).collect(),
    };
    for target in wanted {
        say(&format!("{target}, {} s", options.seconds));
        let (found, harmful) = (
            folder.join("found").join(target),
            folder.join("harmful").join(target),
        );
        for made in [&found, &harmful] {
            fs::create_dir_all(made)?;
        }
        command(folder.join(&host).join("release").join(target))
            .arg(&found)
            .arg(fuzz.join("corpus").join(target))
            .arg(format!("-max_total_time={}", options.seconds))
            .args(["-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1"])
            .args(["-verbosity=0", "-max_len=65536"])
            .arg(format!("-artifact_prefix={}/", harmful.display()))
            .run()
            .with_context(|| {
                format!(
                    "{target}: bytes that do harm are in {}; put them into fuzz/corpus/{target} \
                     with the repair",
                    harmful.display()
                )
            })?;
    }
    say("fuzz: passed");
    Ok(())
}

/// The machine that is built for. Named, so that what runs during the build has no instruments.
fn host() -> Result<String> {
    let version = command("rustc").arg("-vV").read()?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("rustc does not say for which machine it builds")?;
    Ok(host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_target_has_a_program_and_something_to_begin_with() {
        let fuzz = workspace::root().join("fuzz");
        let names = |folder: &str| {
            let files = fs::read_dir(fuzz.join(folder)).unwrap().flatten();
            let mut names: Vec<_> = files
                .map(|it| it.path().file_stem().unwrap().to_str().unwrap().to_owned())
                .collect();
            names.sort();
            names
        };
        assert_eq!(names("targets"), TARGETS);
        assert_eq!(names("corpus"), TARGETS);
        for target in TARGETS {
            let known = fs::read_dir(fuzz.join("corpus").join(target)).unwrap();
            assert!(known.count() > 0, "{target}");
        }
    }
}

//! `test`: the unit tests as the user, then the laboratory as root.
//!
//! The laboratory is built as the user too, so that root leaves no files behind.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use serde_json::Value;

use crate::{
    build,
    command::{Invocation, cargo, command, say, warn},
    packages,
    root::as_root,
    workspace,
};

/// Where `ip netns` keeps the names of network namespaces.
const NAMESPACES: &str = "/run/netns";
/// How the laboratory's namespaces begin.
const PREFIX: &str = "ts-";

/// Which tests to run.
#[derive(Args, Default)]
pub(crate) struct Options {
    /// Also run the laboratory's long tests
    #[arg(long)]
    all: bool,
    /// Only tests whose name contains one of these
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,
    /// Arguments for the test programs, such as `--nocapture`
    #[arg(last = true)]
    args: Vec<String>,
}

impl Options {
    /// Every test, and with `all` the long ones in full.
    pub(crate) fn with(all: bool) -> Self {
        Self {
            all,
            ..Self::default()
        }
    }
}

/// `cargo xtask test`
pub(crate) fn task(options: &Options) -> Result<()> {
    packages::laboratory()?;
    let tools = packages::monitoring().unwrap_or_else(|error| {
        // The laboratory's tests that need them say so and fail; all others run.
        warn(&format!("{error:#}"));
        None
    });
    let tcpstall = build::release()?;
    let harness: Vec<_> = options.filters.iter().chain(&options.args).collect();

    say("Unit tests");
    cargo()
        .args(["test", "--workspace", "--exclude", "tests", "--"])
        .args(&harness)
        .folder(workspace::root())
        .run()?;

    say("Laboratory");
    let before = namespaces();
    let mut outcomes = Vec::new();
    for program in laboratory_programs()? {
        let mut run = command(&program.executable)
            .args(&harness)
            .env("TCPSTALL_BIN", &tcpstall)
            .env("TCPSTALL_LAB_REQUIRED", "1")
            .folder(&workspace::root().join("tests"));
        if let Some(tools) = &tools {
            run = run.env("TCPSTALL_TOOLS", tools);
        }
        if options.all {
            run = run.env("TCPSTALL_LAB_ALL", "1");
        }
        outcomes.push(if program.needs_root {
            as_root(run)?.run()
        } else {
            run.run()
        });
    }
    // Looked at after a failure as well: a test that fails must clean up too.
    let cleanliness = cleanliness(&left_behind(&before, &namespaces()));
    if let Err(error) = &cleanliness {
        warn(&format!("{error:#}"));
    }
    outcomes.into_iter().collect::<Result<()>>()?;
    cleanliness?;
    say("test: passed (unit tests and laboratory; no network namespace left behind)");
    Ok(())
}

fn cleanliness(left: &[String]) -> Result<()> {
    ensure!(
        left.is_empty(),
        "the laboratory left network namespaces behind: {}. Remove them with `ip netns delete`, \
         then find the test that does not clean up",
        left.join(" ")
    );
    Ok(())
}

/// A test program of the laboratory's package.
#[derive(Debug, PartialEq, Eq)]
struct Program {
    executable: PathBuf,
    needs_root: bool,
}

/// Builds the laboratory, optimised, for machines that are slow; where it is.
pub(crate) fn laboratory() -> Result<PathBuf> {
    let programs = built(cargo().args(["test", "--release", "--package", "tests", "--no-run"]))?;
    let laboratory = programs.into_iter().find(|program| program.needs_root);
    Ok(laboratory.context("cargo built no laboratory")?.executable)
}

fn laboratory_programs() -> Result<Vec<Program>> {
    let programs = built(cargo().args(["test", "--package", "tests", "--no-run"]))?;
    if !programs.iter().any(|program| program.needs_root) {
        bail!("cargo built no laboratory: `[[test]]` is expected in tests/Cargo.toml");
    }
    Ok(programs)
}

fn built(build: Invocation) -> Result<Vec<Program>> {
    let messages = build
        .arg("--message-format=json-render-diagnostics")
        .folder(workspace::root())
        .read()
        .context("the laboratory does not build")?;
    Ok(programs(&messages))
}

/// The test programs that cargo's messages name. Only integration tests touch networks.
fn programs(messages: &str) -> Vec<Program> {
    let messages = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    messages
        .filter(|message| message["reason"] == "compiler-artifact")
        .filter(|message| message["profile"]["test"] == true)
        .filter_map(|message| {
            let executable = message["executable"].as_str()?.into();
            let needs_root = message["target"]["kind"][0] == "test";
            Some(Program {
                executable,
                needs_root,
            })
        })
        .collect()
}

fn namespaces() -> BTreeSet<String> {
    let entries = fs::read_dir(NAMESPACES).into_iter().flatten();
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect()
}

fn left_behind(before: &BTreeSet<String>, after: &BTreeSet<String>) -> Vec<String> {
    let new = after
        .difference(before)
        .filter(|name| name.starts_with(PREFIX));
    new.filter(|name| !owner_runs(name)).cloned().collect()
}

/// Whether the process that made `ts-4711-0-host` still runs: then it is another laboratory's.
fn owner_runs(name: &str) -> bool {
    let owner = name
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.split('-').next());
    owner.is_some_and(|pid| pid.parse::<u32>().is_ok() && Path::new("/proc").join(pid).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_laboratory_runs_as_root_and_unit_tests_do_not() {
        let messages = r#"
            {"reason":"compiler-artifact","target":{"kind":["lib"]},"profile":{"test":false},"executable":null}
            {"reason":"compiler-artifact","target":{"kind":["lib"]},"profile":{"test":true},"executable":"/t/lab-1"}
            {"reason":"compiler-artifact","target":{"kind":["test"]},"profile":{"test":true},"executable":"/t/laboratory-2"}
            {"reason":"build-finished","success":true}"#;
        let program = |executable: &str, needs_root| Program {
            executable: executable.into(),
            needs_root,
        };
        assert_eq!(
            programs(messages),
            [program("/t/lab-1", false), program("/t/laboratory-2", true)]
        );
    }

    #[test]
    fn only_new_namespaces_of_the_laboratory_count_as_left_behind() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let running = format!("ts-{}-0-host", std::process::id());
        let before = names(&["ts-old", "vpn"]);
        let after = names(&["ts-old", "ts-new", "vpn", "other", &running]);
        assert_eq!(left_behind(&before, &after), ["ts-new"]);
        assert!(left_behind(&after, &before).is_empty());
    }
}

//! `cargo xtask`: the only thing a developer types.
//!
//! Each command first finds or installs what is missing, says what it does and why, and prints
//! every command it runs, so that each can be run by hand.
//!
//! **Invariant:** nothing here changes the user's default toolchain.

mod bench;
mod build;
mod check;
mod ci;
mod command;
mod demo;
mod deny;
mod dist;
mod fuzz;
mod kernel;
mod linker;
mod packages;
mod root;
mod run;
mod test;
mod tool;
mod toolchain;
mod vm;
mod walk;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Build, run, test and check tcpstall.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the kernel programs and the daemon
    Build(build::Options),
    /// Build, then start the daemon on this host (as root)
    Run(run::Options),
    /// Build, then show a stall and its detection in made-up networks (as root)
    Demo(demo::Options),
    /// Run the unit tests, then the laboratory (as root)
    Test(test::Options),
    /// Run the laboratory on other kernels, in virtual machines
    TestVm(vm::Options),
    /// Feed every parser of bytes from outside with what a fuzzer makes up
    Fuzz(fuzz::Options),
    /// Churn, faults and containers at random for an hour, checked against ss (as root)
    Soak(bench::Options),
    /// Formatting, lints on both sides, licences and advisories
    Check,
    /// Everything that continuous integration runs: check, then test
    Ci(ci::Options),
    /// Build, then make packages for Debian and for rpm, and an archive
    Dist(dist::Options),
    /// Make a package, and walk through a bad day with it: installed, alerted, released, purged (as root)
    Walk(walk::Options),
    /// Build, then measure (as root)
    #[command(subcommand)]
    Bench(bench::Subject),
}

fn main() -> ExitCode {
    match perform(Cli::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            command::fail(&error);
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> Result<()> {
    match task {
        Task::Build(options) => build::task(&options),
        Task::Run(options) => run::task(&options),
        Task::Demo(options) => demo::task(&options),
        Task::Test(options) => test::task(&options),
        Task::TestVm(options) => vm::task(&options),
        Task::Fuzz(options) => fuzz::task(&options),
        Task::Soak(options) => bench::in_the_laboratory("soak", &options),
        Task::Check => check::task(),
        Task::Ci(options) => ci::task(&options),
        Task::Dist(options) => dist::task(&options),
        Task::Walk(options) => walk::task(&options),
        Task::Bench(subject) => bench::task(&subject),
    }
}

//! `tcpstall completions` and `tcpstall man`: made from the same words as `--help`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::CommandFactory;

use super::{Cli, output};

/// Print completions for a shell
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Example:\n  \
    tcpstall completions bash > /etc/bash_completion.d/tcpstall")]
pub(super) struct Completions {
    /// Which one
    shell: clap_complete::Shell,
}

/// Print the manual page
///
/// With `--dir`, write a page per command there instead.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:\n  \
    tcpstall man | man -l -\n  \
    tcpstall man --dir /usr/share/man/man1")]
pub(super) struct Man {
    /// Write a page per command to this folder
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) fn completions(args: &Completions) -> anyhow::Result<ExitCode> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "tcpstall", &mut text);
    output::print(&String::from_utf8(text)?)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn man(args: &Man) -> anyhow::Result<ExitCode> {
    match &args.dir {
        Some(dir) => {
            let failed = || {
                format!(
                    "cannot write to {}; name a folder you may write to",
                    dir.display()
                )
            };
            std::fs::create_dir_all(dir).with_context(failed)?;
            clap_mangen::generate_to(Cli::command(), dir).with_context(failed)?;
        }
        None => {
            let mut text = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut text)?;
            output::print(&String::from_utf8(text)?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

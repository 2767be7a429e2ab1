//! `tcpstall replay`.

mod report;

use std::{fs::File, path::PathBuf, process::ExitCode};

use anyhow::Context;

use super::{
    Common, FAILED,
    output::{self, Format},
    render,
};
use crate::{
    config::{Overrides, Source},
    record::{line::Settings, replay},
    serve::words::clean,
};
#[cfg(test)]
pub(super) use report::tests::example;
pub(super) use report::{Entry, Report, Said};

/// Run the engine again over a recording, and show where verdicts differ
///
/// Without --config, under the settings that were in force: the verdicts are the same, unless the
/// engine of this version decides otherwise. What was recorded stands beside what is said now, in
/// seconds since the recording began and as the clock of that host was (UTC). Verdicts are those
/// of an engine that began with the recording: trouble from before shows up as new. Needs no
/// daemon.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:\n  \
    tcpstall replay outage.rec\n  \
    tcpstall replay outage.rec --config /etc/tcpstall/tcpstall.toml\n  \
    tcpstall replay outage.rec -o jsonl | jq 'select(.same | not)'")]
pub(super) struct Args {
    /// File that `tcpstall record` wrote
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Configuration to use instead of the recorded one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) fn run(args: &Args, common: &Common) -> anyhow::Result<ExitCode> {
    let shown = args.file.display();
    let settings = match &args.config {
        Some(file) => Some(Settings::from(&load(file)?)),
        None => None,
    };
    let file = File::open(&args.file).with_context(|| {
        format!("cannot read {shown}; name a file that `tcpstall record` wrote")
    })?;
    // What is quoted from the file must not steer the terminal.
    let replay = replay(file, settings).map_err(|broken| {
        anyhow::anyhow!("{shown} cannot be replayed: {}", clean(&broken.to_string()))
    })?;
    let report = Report::of(&replay);
    match common.format() {
        Format::Json => output::json(&report)?,
        Format::Jsonl => output::jsonl(&report.verdicts)?,
        Format::Table | Format::Wide => output::print(&render::replay(&report))?,
    }
    let Some(broken) = replay.broken else {
        return Ok(ExitCode::SUCCESS);
    };
    output::say(&format!(
        "tcpstall: {shown} was not read to its end: {}",
        clean(&broken.to_string())
    ));
    Ok(ExitCode::from(FAILED))
}

fn load(file: &std::path::Path) -> Result<crate::config::Config, crate::config::Error> {
    let source = Source {
        file: Some(file.to_owned()),
        overrides: Overrides::default(),
    };
    source.load()
}

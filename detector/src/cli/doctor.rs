//! `tcpstall doctor`.

use std::process::ExitCode;

use serde::Serialize;

use super::{
    Common, FAILED,
    output::{self, Format},
    render,
};
use crate::sense::{self, Check};

/// Say what this kernel and host allow, and what is lost by what is missing
///
/// Works without a daemon and changes nothing. Fails when something is missing that the daemon
/// cannot do without. Run it as the user that the daemon runs as.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Example:\n  sudo tcpstall doctor")]
pub(super) struct Args {}

/// A row of `-o json`.
#[derive(Serialize)]
struct Row<'a> {
    feature: &'a str,
    ok: bool,
    required: bool,
    found: &'a str,
    lost: Option<&'a str>,
    remedy: Option<&'a str>,
}

pub(super) fn run(common: &Common) -> anyhow::Result<ExitCode> {
    let checks = sense::doctor();
    let rows: Vec<_> = checks.iter().map(row).collect();
    match common.format() {
        Format::Json => output::json(&rows)?,
        Format::Jsonl => output::jsonl(&rows)?,
        Format::Table | Format::Wide => output::print(&render::doctor(&checks))?,
    }
    let fit = checks.iter().all(|it| it.ok || !it.required);
    Ok(if fit {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FAILED)
    })
}

fn row(check: &Check) -> Row<'_> {
    fn known(text: &str) -> Option<&str> {
        (!text.is_empty()).then_some(text)
    }
    Row {
        feature: &check.feature,
        ok: check.ok,
        required: check.required,
        found: &check.found,
        lost: known(&check.lost),
        remedy: known(&check.remedy),
    }
}

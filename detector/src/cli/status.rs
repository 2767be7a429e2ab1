//! `tcpstall status`.

use std::process::ExitCode;

use super::{
    Common, client,
    output::{self, Format},
    render,
};
use crate::clock;

/// Say which upstream is bad, then a row per upstream
///
/// `-o wide` adds how sure each state is and which connections were not held against it; `-o json`
/// is what `GET /v1/status` on the socket answers.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:\n  \
    tcpstall status\n  \
    tcpstall status --json | jq -r '.upstreams[] | select(.state != \"ok\") | .name'")]
pub(super) struct Args {}

pub(super) fn run(common: &Common) -> anyhow::Result<ExitCode> {
    let status = client::status(&common.socket())?;
    if let Some(warning) = render::stale(&status, clock::wall()) {
        output::say(&warning);
    }
    match common.format() {
        Format::Json => output::json(&status)?,
        Format::Jsonl => output::jsonl(&status.upstreams)?,
        Format::Table => output::print(&render::status(&status, false))?,
        Format::Wide => output::print(&render::status(&status, true))?,
    }
    Ok(ExitCode::SUCCESS)
}

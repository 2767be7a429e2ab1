//! `tcpstall incidents`.

use std::process::ExitCode;

use anyhow::bail;

use super::{
    Common, client,
    output::{self, Format},
    render,
};
use crate::serve::Which;

/// List past and present incidents, the newest first
///
/// An incident is one stay of an upstream outside `ok` and `idle`; trouble that returns within a
/// minute of the all-clear is the same incident. With an ID, tell all that is known of that one:
/// its course, causes, destinations and processes, and what else happened on this host. Incidents
/// outlive restarts of the daemon.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:\n  \
    tcpstall incidents --limit 5\n  \
    tcpstall incidents i-7f3a9c01\n  \
    tcpstall incidents -o jsonl | jq -r 'select(.ended_at == null) | .upstream'")]
pub(super) struct Args {
    /// Id of an incident, as the table shows it [default: all]
    #[arg(value_name = "ID")]
    id: Option<String>,
    /// Only so many, the newest
    #[arg(long, value_name = "N", conflicts_with = "id")]
    limit: Option<usize>,
}

pub(super) fn run(args: &Args, common: &Common) -> anyhow::Result<ExitCode> {
    let which = Which {
        id: args.id.clone(),
        limit: args.limit,
    };
    let incidents = client::incidents(&common.socket(), &which)?;
    match (&args.id, incidents.as_slice()) {
        (Some(id), []) => bail!(render::unknown_incident(id)),
        (Some(_), [incident, ..]) => match common.format() {
            Format::Json => output::json(incident)?,
            Format::Jsonl => output::jsonl(std::slice::from_ref(incident))?,
            Format::Table | Format::Wide => output::print(&render::incident(incident))?,
        },
        (None, incidents) => match common.format() {
            Format::Json => output::json(&incidents)?,
            Format::Jsonl => output::jsonl(incidents)?,
            Format::Table => output::print(&render::incidents(incidents, false))?,
            Format::Wide => output::print(&render::incidents(incidents, true))?,
        },
    }
    let words = matches!(common.format(), Format::Table | Format::Wide);
    if words && incidents.is_empty() && args.limit != Some(0) {
        output::say(&"No incident is known: since they are kept, no upstream was bad.");
    }
    Ok(ExitCode::SUCCESS)
}

//! `tcpstall explain`.

use std::{path::Path, process::ExitCode};

use anyhow::bail;
use serde::Serialize;

use super::{
    Common, client,
    output::{self, Format},
    render,
};
use crate::{api, model::State, serve::Filter};

/// Say what a verdict, or the cause of one connection, rests on
///
/// For an upstream: what speaks for its state and what against, which connections were left out
/// and why, a few typical ones from their last acknowledgement to the moment when the kernel gives
/// them up, and what to check next. Without an argument, the same for every upstream that is bad.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:\n  \
    tcpstall explain provider-b\n  \
    tcpstall explain c-7f3a9c01")]
pub(super) struct Args {
    /// Name of an upstream, or id of a connection as `tcpstall stalls` prints it, or the beginning
    /// of one [default: every upstream that is bad]
    #[arg(value_name = "UPSTREAM|ID")]
    what: Option<String>,
}

/// `-o json` of an upstream.
#[derive(Serialize)]
struct Evidence<'a> {
    upstream: &'a api::Upstream,
    stalls: Vec<api::Stall>,
}

pub(super) fn run(args: &Args, common: &Common) -> anyhow::Result<ExitCode> {
    let socket = common.socket();
    let status = client::status(&socket)?;
    match args.what.as_deref() {
        None => bad(&socket, &status, common.format())?,
        Some(what) => match status.upstreams.iter().find(|it| it.name == what) {
            Some(found) => upstream(&socket, &status, found, common.format())?,
            None if render::is_id(what) => connection(&socket, &status, what, common.format())?,
            None => bail!(render::unknown_upstream(what, &status)),
        },
    }
    Ok(ExitCode::SUCCESS)
}

/// Every upstream that is bad.
fn bad(socket: &Path, status: &api::Status, format: Format) -> anyhow::Result<()> {
    let mut all = Vec::new();
    for upstream in &status.upstreams {
        if matches!(upstream.state, State::Degraded | State::Failing) {
            all.push(evidence(socket, upstream)?);
        }
    }
    match format {
        Format::Json => output::json(&all),
        Format::Jsonl => output::jsonl(&all),
        Format::Table | Format::Wide if all.is_empty() => {
            output::print(&render::summary(status, output::width()))
        }
        Format::Table | Format::Wide => {
            let mut each: Vec<_> = all.iter().map(|it| words(it, status)).collect();
            if all.len() > 1 {
                each.insert(0, render::summary(status, output::width()));
            }
            output::print(&each.join("\n"))
        }
    }
}

fn upstream(
    socket: &Path,
    status: &api::Status,
    upstream: &api::Upstream,
    format: Format,
) -> anyhow::Result<()> {
    let evidence = evidence(socket, upstream)?;
    match format {
        Format::Json => output::json(&evidence),
        Format::Jsonl => output::jsonl(&[evidence]),
        Format::Table | Format::Wide => output::print(&words(&evidence, status)),
    }
}

fn connection(socket: &Path, status: &api::Status, id: &str, format: Format) -> anyhow::Result<()> {
    let stalls = client::stalls(socket, &Filter::default())?;
    let stall = render::find(&stalls, id).map_err(anyhow::Error::msg)?;
    match format {
        Format::Json => output::json(stall),
        Format::Jsonl => output::jsonl(std::slice::from_ref(stall)),
        Format::Table | Format::Wide => {
            output::print(&render::explain_connection(stall, status, output::width()))
        }
    }
}

fn evidence<'a>(socket: &Path, upstream: &'a api::Upstream) -> anyhow::Result<Evidence<'a>> {
    let filter = Filter {
        upstream: Some(upstream.name.clone()),
        ..Filter::default()
    };
    Ok(Evidence {
        upstream,
        stalls: client::stalls(socket, &filter)?,
    })
}

fn words(evidence: &Evidence<'_>, status: &api::Status) -> String {
    let width = output::width();
    render::explain_upstream(evidence.upstream, status, &evidence.stalls, width)
}

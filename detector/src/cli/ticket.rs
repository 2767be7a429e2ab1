//! `tcpstall ticket`.

use std::process::ExitCode;

use anyhow::bail;

use super::{
    Common, client,
    output::{self, Format},
    render::{self, Ticket},
};
use crate::{
    api::{self, Incident},
    model::{Cause, Scope, State},
    serve::{Filter, Which, words::clean},
};

/// Write what the provider of an upstream needs to know
///
/// A text to be sent as it is: since when, through which gateway, what gets through and what does not,
/// which destinations, what works meanwhile through others, a few connections with their addresses and
/// moments (UTC), and what to look for. Of an upstream that is not bad now the last
/// incident is told. What speaks against sending it goes to stderr.
///
/// It names addresses of peers: read it before it leaves the house.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:\n  \
    tcpstall ticket provider-b\n  \
    tcpstall ticket provider-b | sendmail noc@provider.example")]
pub(super) struct Args {
    /// Name of an upstream, as `tcpstall status` shows it
    #[arg(value_name = "UPSTREAM")]
    upstream: String,
}

pub(super) fn run(args: &Args, common: &Common) -> anyhow::Result<ExitCode> {
    let socket = common.socket();
    let status = client::status(&socket)?;
    let incidents = client::incidents(&socket, &Which::default())?;
    let newest = incidents.iter().find(|it| it.upstream == args.upstream);
    let upstream = status.upstreams.iter().find(|it| it.name == args.upstream);
    let ticket = match upstream {
        Some(bad) if matches!(bad.state, State::Degraded | State::Failing) => {
            is_the_providers(&bad.name, bad.cause)?;
            let filter = Filter {
                upstream: Some(bad.name.clone()),
                ..Filter::default()
            };
            let stalls = client::stalls(&socket, &filter)?;
            for doubt in render::doubts(bad, &status) {
                output::say(&format!("before you send this: {doubt}"));
            }
            let lasting = newest.filter(|it| it.ended_at.is_none());
            render::ticket(bad, &status, &stalls, lasting)
        }
        other => past(&args.upstream, other, newest, &status)?,
    };
    match common.format() {
        Format::Json => output::json(&ticket)?,
        Format::Jsonl => output::jsonl(&[ticket])?,
        Format::Table | Format::Wide => output::print(&ticket.text())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Of an upstream that is not bad now.
fn past(
    name: &str,
    upstream: Option<&api::Upstream>,
    newest: Option<&Incident>,
    status: &api::Status,
) -> anyhow::Result<Ticket> {
    let Some(incident) = newest else {
        let Some(upstream) = upstream else {
            bail!(render::unknown_upstream(name, status));
        };
        bail!(
            "there is nothing to report: {} is {}, and no incident of it is known",
            clean(name),
            upstream.state
        );
    };
    is_the_providers(name, incident.cause)?;
    let now = upstream.map_or("not to be seen".to_owned(), |it| it.state.to_string());
    output::say(&format!(
        "{} is {now} now: this is about its last incident, {}",
        clean(name),
        clean(&incident.id)
    ));
    if incident.scope == Some(Scope::Common) {
        output::say(
            &"before you send this: every upstream that could be judged was bad at once; rule out \
              this host and what they share",
        );
    }
    Ok(render::past_ticket(incident, upstream, &status.host))
}

/// Whether a provider can do anything about it.
fn is_the_providers(name: &str, cause: Option<Cause>) -> anyhow::Result<()> {
    if cause == Some(Cause::Local) {
        bail!(
            "packets do not leave this host (local), so that the provider of {0} has nothing to look \
             for; `tcpstall explain {0}` says what to check here",
            clean(name)
        );
    }
    Ok(())
}

//! `tcpstall stalls`.

use std::process::ExitCode;

use super::{
    Common, client,
    output::{self, Format},
    render::{self, Key},
};
use crate::serve::Filter;

/// List stalled and suspect connections, oldest first
///
/// A connection is suspect after two retransmission timeouts without progress, and stalled when
/// progress was due for 3 seconds (`detect.stall_after`) and did not come.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:\n  \
    tcpstall stalls --upstream provider-b --min-age 30s\n  \
    tcpstall stalls --by process --dport 25\n  \
    tcpstall stalls -o jsonl | jq -r .remote")]
pub(super) struct Args {
    /// Group them
    #[arg(long, value_enum, value_name = "KEY")]
    by: Option<Key>,
    #[command(flatten)]
    filter: Filter,
}

pub(super) fn run(args: &Args, common: &Common) -> anyhow::Result<ExitCode> {
    let stalls = client::stalls(&common.socket(), &args.filter)?;
    let format = common.format();
    match args.by {
        Some(key) => {
            let groups = render::groups(&stalls, key);
            match format {
                Format::Json => output::json(&groups)?,
                Format::Jsonl => output::jsonl(&groups)?,
                Format::Table | Format::Wide => output::print(&render::grouped(&groups, key))?,
            }
        }
        None => match format {
            Format::Json => output::json(&stalls)?,
            Format::Jsonl => output::jsonl(&stalls)?,
            Format::Table => output::print(&render::stalls(&stalls, false))?,
            Format::Wide => output::print(&render::stalls(&stalls, true))?,
        },
    }
    if stalls.is_empty() && matches!(format, Format::Table | Format::Wide) {
        let which = if args.filter == Filter::default() {
            ""
        } else {
            " that fits the filters"
        };
        output::say(&format!("No connection{which} is stalled or suspect."));
    }
    Ok(ExitCode::SUCCESS)
}

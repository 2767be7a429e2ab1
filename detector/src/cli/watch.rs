//! `tcpstall watch`.

use std::process::ExitCode;

use super::{
    Common,
    client::{self, News},
    output::{self, Format},
    render,
};

/// Print changes of upstreams as they happen
///
/// A line per change, until the daemon ends or Ctrl-C. With `-o json` or `-o jsonl` each line is
/// the event that `GET /v1/events` on the socket sends.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Example:\n  \
    tcpstall watch --json | while read -r event; do logger -t tcpstall \"$event\"; done")]
pub(super) struct Args {}

pub(super) fn run(common: &Common) -> anyhow::Result<ExitCode> {
    let socket = common.socket();
    client::events(&socket, |news| match news {
        News::Changed(event) => match common.format() {
            Format::Json | Format::Jsonl => output::jsonl(&[event]),
            Format::Table | Format::Wide => output::print(&render::event(&event)),
        },
        News::Missed(count) => {
            output::say(&format!(
                "{count} changes were missed: this terminal is too slow"
            ));
            Ok(())
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

//! `tcpstall check`: for monitors that run plugins, and for failover programs.
//!
//! **Invariant:** one line on stdout and one of four exit codes, whatever happens; with `--gate` one of two.

use std::{path::Path, process::ExitCode};

use super::{Common, client, output, render};
use crate::{clock, config, model::Gate, state_dir};

/// Exit code for "cannot say".
pub(super) const UNKNOWN: u8 = 3;
/// With `--gate`: the upstream should be used.
pub(super) const USE: u8 = 0;
/// With `--gate`: it should be avoided.
const AVOID: u8 = 1;

/// Answer a monitoring plugin: one line with performance data
///
/// Exits 0 (OK), 1 (WARNING: degraded), 2 (CRITICAL: failing) or 3 (UNKNOWN: too little traffic to
/// judge, no daemon, or wrong usage). Without UPSTREAM the worst one counts, and idle ones do not.
///
/// That is not for failover: there, every exit code but 0 means "dead". With --gate it exits 0 (use the
/// upstream) or 1 (avoid it) and nothing else, 0 also for wrong usage: what its gate says, which closes
/// when the upstream is failing and no other is to blame, and opens by the clock.
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "Examples, for Nagios, Icinga and their kin, and for failover:\n  \
    command_line  /usr/bin/tcpstall check provider-b\n  \
    script        \"/usr/bin/tcpstall check --gate provider-b\""
)]
pub(super) struct Args {
    /// Only this upstream
    #[arg(value_name = "UPSTREAM")]
    upstream: Option<String>,
    /// Say whether to use this upstream, by exit code 0 or 1
    #[arg(
        long,
        value_name = "UPSTREAM",
        value_parser = gate,
        conflicts_with = "upstream"
    )]
    gate: Option<String>,
    /// With --gate: what to say when the daemon does not answer, or knows no such gate
    #[arg(
        long,
        value_enum,
        value_name = "ANSWER",
        requires = "gate",
        default_value_t = OnUnknown::Hold,
        hide_default_value = true
    )]
    on_unknown: OnUnknown,
}

/// What an answer is when there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum OnUnknown {
    /// 0, use it
    Pass,
    /// What was last known, and 0 when nothing is [default]
    Hold,
    /// 1, avoid it
    Fail,
}

/// The name of a gate, which is that of a file.
fn gate(text: &str) -> Result<String, String> {
    let expected = "expected the name of an upstream: 1 to 64 printable characters without \"/\"";
    config::upstream_name(text).ok_or_else(|| expected.to_owned())
}

pub(super) fn run(args: &Args, common: &Common) -> anyhow::Result<ExitCode> {
    if let Some(name) = &args.gate {
        return Ok(failover(name, args.on_unknown, &common.socket()));
    }
    let status = client::status(&common.socket()).map_err(|error| format!("{error:#}"));
    let (code, line) = render::check(status.as_ref(), args.upstream.as_deref(), clock::wall());
    output::print(&line)?;
    Ok(ExitCode::from(code))
}

/// Whether to use an upstream. That its line cannot be printed must not be taken for an answer.
fn failover(name: &str, on_unknown: OnUnknown, socket: &Path) -> ExitCode {
    let status = client::status_at_once(socket).map_err(|error| format!("{error:#}"));
    let (gate, line) = match render::gate(status.as_ref(), name, clock::wall()) {
        Ok(known) => known,
        Err(why) => {
            let (gate, because) = match on_unknown {
                OnUnknown::Pass => (Gate::Open, "as asked for".to_owned()),
                OnUnknown::Fail => (Gate::Closed, "as asked for".to_owned()),
                OnUnknown::Hold => last_known(socket, name),
            };
            (gate, render::unknown_gate(name, gate, &because, &why))
        }
    };
    let _ = output::print(&line);
    ExitCode::from(match gate {
        Gate::Open => USE,
        Gate::Closed => AVOID,
    })
}

/// What the gate's file says, and how that is known.
fn last_known(socket: &Path, name: &str) -> (Gate, String) {
    let folder = state_dir::gate_folder(socket);
    match state_dir::read_gate(&folder, name) {
        Ok(Some(gate)) => (gate, "as was last known".to_owned()),
        Ok(None) => (Gate::Open, "nothing is known against it".to_owned()),
        Err(error) => {
            let path = folder.join(name);
            let because = format!(
                "what was last known cannot be read: {}: {error}",
                path.display()
            );
            (Gate::Open, because)
        }
    }
}

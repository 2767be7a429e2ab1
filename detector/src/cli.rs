//! The command line: what can be asked, and with which exit code it ends.
//!
//! **Invariant:** data goes to stdout, words to stderr; 0 is done, 1 failed, 2 wrong usage, save
//! for `check`, whose codes are those of monitoring plugins, or with `--gate` 0 and 1 for failover programs.

mod check;
mod client;
mod daemon;
mod doctor;
mod explain;
mod fleet;
mod hooks;
mod incidents;
mod kill;
mod output;
mod record;
mod reference;
mod render;
mod replay;
mod stalls;
mod status;
#[cfg(test)]
mod tests;
mod ticket;
mod top;
mod watch;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::config::{Overrides, Source};
use output::Format;

const FAILED: u8 = 1;
const MISUSED: u8 = 2;

/// Names the upstream at fault when TCP connections are established but make no progress.
///
/// `tcpstall daemon` watches the TCP connections of this host from inside the kernel, without
/// probing. All other commands ask it over its unix socket.
#[derive(Debug, Parser)]
#[command(
    name = "tcpstall",
    version,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_long_help = "Examples:\n  \
        sudo tcpstall doctor         what this host allows\n  \
        sudo tcpstall daemon         watch, in the foreground\n  \
        tcpstall status              which upstream is bad\n  \
        tcpstall explain provider-b  why, and what to check next"
)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every command understands.
#[derive(Debug, Clone, clap::Args)]
struct Common {
    /// How to print the answer
    #[arg(
        short,
        long,
        global = true,
        display_order = 900,
        value_enum,
        value_name = "FORMAT",
        default_value_t,
        hide_default_value = true
    )]
    output: Format,
    /// Short for `-o json`
    #[arg(long, global = true, display_order = 901, conflicts_with = "output")]
    json: bool,
    /// Unix socket of the daemon [default: that of the configuration, else
    /// /run/tcpstall/tcpstall.sock]
    #[arg(
        long,
        global = true,
        display_order = 902,
        value_name = "PATH",
        env = "TCPSTALL_SOCKET",
        hide_env_values = true
    )]
    socket: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Daemon(daemon::Args),
    Status(status::Args),
    Stalls(stalls::Args),
    Explain(explain::Args),
    Incidents(incidents::Args),
    Ticket(ticket::Args),
    Kill(kill::Args),
    Watch(watch::Args),
    Top(top::Args),
    Check(check::Args),
    Hooks(hooks::Args),
    Fleet(fleet::Args),
    Record(record::Args),
    Replay(replay::Args),
    Doctor(doctor::Args),
    Completions(reference::Completions),
    Man(reference::Man),
}

impl Common {
    fn format(&self) -> Format {
        if self.json { Format::Json } else { self.output }
    }

    /// Where the daemon is.
    fn socket(&self) -> PathBuf {
        let overrides = Overrides {
            socket: self.socket.clone(),
            ..Overrides::default()
        };
        let file = std::env::var_os(daemon::CONFIG_VARIABLE).map(PathBuf::from);
        Source { file, overrides }.socket()
    }
}

/// Does what the command line says.
pub fn run() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return misused(&error, &arguments),
    };
    let done = match cli.command {
        Command::Daemon(args) => daemon::run(&args, &cli.common),
        Command::Status(_) => status::run(&cli.common),
        Command::Stalls(args) => stalls::run(&args, &cli.common),
        Command::Explain(args) => explain::run(&args, &cli.common),
        Command::Incidents(args) => incidents::run(&args, &cli.common),
        Command::Ticket(args) => ticket::run(&args, &cli.common),
        Command::Kill(args) => kill::run(&args, &cli.common),
        Command::Top(_) => top::run(&cli.common),
        Command::Watch(_) => watch::run(&cli.common),
        Command::Fleet(args) => fleet::run(&args, &cli.common),
        Command::Check(args) => check::run(&args, &cli.common),
        Command::Hooks(args) => hooks::run(&args, &cli.common),
        Command::Record(args) => record::run(&args, &cli.common),
        Command::Replay(args) => replay::run(&args, &cli.common),
        Command::Doctor(_) => doctor::run(&cli.common),
        Command::Completions(args) => reference::completions(&args),
        Command::Man(args) => reference::man(&args),
    };
    match done {
        Ok(code) => code,
        Err(error) if output::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::say(&format!("tcpstall: {error:#}"));
            ExitCode::from(FAILED)
        }
    }
}

/// Help and version are no misuse; for a monitor, wrong usage is UNKNOWN and not CRITICAL, and for a
/// failover program it is nothing against the upstream.
fn misused(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    // A closed pipe is no reason to complain about.
    let _ = error.print();
    let check = asks_for_check(arguments);
    match error.exit_code() {
        0 => ExitCode::SUCCESS,
        _ if check && asks_for_gate(arguments) => {
            let _ = output::print("use it; wrong usage, see `tcpstall check --help`\n");
            ExitCode::from(check::USE)
        }
        _ if check => {
            let _ = output::print("TCPSTALL UNKNOWN - wrong usage, see `tcpstall check --help`\n");
            ExitCode::from(check::UNKNOWN)
        }
        code => ExitCode::from(u8::try_from(code).unwrap_or(FAILED)),
    }
}

/// Whether it is about a gate, as far as it can be told from misused arguments.
fn asks_for_gate(arguments: &[OsString]) -> bool {
    let mut arguments = arguments.iter().filter_map(|it| it.to_str());
    arguments.any(|it| it.starts_with("--gate"))
}

/// Whether the command is `check`, as far as it can be told from misused arguments.
fn asks_for_check(arguments: &[OsString]) -> bool {
    const WITH_VALUE: [&str; 3] = ["-o", "--output", "--socket"];
    let mut rest = arguments.iter().skip(1).filter_map(|it| it.to_str());
    while let Some(argument) = rest.next() {
        if WITH_VALUE.contains(&argument) {
            rest.next();
        } else if !argument.starts_with('-') {
            return argument == "check";
        }
    }
    false
}

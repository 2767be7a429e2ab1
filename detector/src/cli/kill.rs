//! `tcpstall kill`.

use std::process::ExitCode;

use anyhow::bail;

use super::{
    Common, FAILED, MISUSED, client,
    output::{self, Format},
    render,
};
use crate::{
    act::{self, Done},
    model::Fate,
    serve::Filter,
};

/// Reset stalled connections, so that their programs connect anew
///
/// Without --yes it shows which connections are meant, and resets none. With it, and as root, each of them is
/// looked at once more: what makes progress again is left alone, what is still stuck is reset. The program that
/// holds it gets an error at once (ECONNABORTED) instead of waiting for minutes, and can try again,
/// through whatever link is in force then. Data that was not acknowledged is lost to that connection.
///
/// A filter must say which connections are meant. Suspects are never reset. The daemon writes down who has
/// reset how many; the resetting itself is done with the rights of whoever runs this, in containers, too.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:\n  \
    tcpstall kill --upstream provider-b                      what would be reset\n  \
    sudo tcpstall kill --upstream provider-b --yes           reset it\n  \
    sudo tcpstall kill --process smtpd --min-age 2m --yes    only what has waited for long\n  \
    sudo tcpstall kill --upstream provider-b --limit 1 --yes -o json\n\n\
    Exit codes: 0 done, or nothing to do; 1 some could not be reset; 2 wrong usage.")]
pub(super) struct Args {
    /// Reset them; without it they are only shown
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    filter: Filter,
}

pub(super) fn run(args: &Args, common: &Common) -> anyhow::Result<ExitCode> {
    let filter = match args.filter.clone().of_stalled() {
        Ok(filter) => filter,
        Err(why) => {
            output::say(&format!("tcpstall: {why}"));
            return Ok(ExitCode::from(MISUSED));
        }
    };
    if !args.yes {
        return show(&filter, common);
    }
    may_reset(rustix::process::geteuid().is_root())?;
    let targets = client::kill(&common.socket(), &filter)?;
    let done = act::reset(&targets);
    tell(&done, common.format())?;
    Ok(code(&done))
}

/// What would be reset.
fn show(filter: &Filter, common: &Common) -> anyhow::Result<ExitCode> {
    let stalls = client::stalls(&common.socket(), filter)?;
    match common.format() {
        Format::Json => output::json(&stalls)?,
        Format::Jsonl => output::jsonl(&stalls)?,
        Format::Table => output::print(&render::stalls(&stalls, false))?,
        Format::Wide => output::print(&render::stalls(&stalls, true))?,
    }
    output::say(&render::would_kill(stalls.len()));
    Ok(ExitCode::SUCCESS)
}

fn may_reset(root: bool) -> anyhow::Result<()> {
    if !root {
        bail!("only root can reset connections: run it again with sudo; nothing was done");
    }
    Ok(())
}

/// What was done.
fn tell(done: &[Done], format: Format) -> anyhow::Result<()> {
    let summary = render::killed(done);
    match format {
        Format::Json => output::json(&done)?,
        Format::Jsonl => output::jsonl(done)?,
        Format::Wide => output::print(&render::wide_killed(done))?,
        Format::Table => {}
    }
    match format {
        // Their answer is data alone, and nothing is none.
        Format::Table if !done.is_empty() => output::print(&format!("{summary}\n"))?,
        _ => output::say(&summary),
    }
    for refusal in render::refusals(done) {
        output::say(&refusal);
    }
    Ok(())
}

fn code(done: &[Done]) -> ExitCode {
    if done.iter().any(|it| it.outcome == Fate::Refused) {
        return ExitCode::from(FAILED);
    }
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_root_is_told_so_in_a_sentence() {
        assert!(may_reset(true).is_ok());
        let error = may_reset(false).unwrap_err().to_string();
        assert!(error.contains("sudo") && error.contains("nothing was done"));
        assert!(!error.contains('\n'));
    }

    #[test]
    fn only_what_was_refused_is_a_failure() {
        let done = |outcome| Done {
            outcome,
            ..render::tests::done(1)
        };
        for fate in Fate::ALL {
            let expected = match fate {
                Fate::Refused => ExitCode::from(FAILED),
                Fate::Reset | Fate::Recovered | Fate::Gone => ExitCode::SUCCESS,
            };
            let code = code(&[done(Fate::Reset), done(*fate)]);
            assert_eq!(format!("{code:?}"), format!("{expected:?}"), "{fate}");
        }
        assert_eq!(
            format!("{:?}", code(&[])),
            format!("{:?}", ExitCode::SUCCESS)
        );
    }
}

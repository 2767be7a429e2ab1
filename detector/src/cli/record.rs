//! `tcpstall record`.

use std::{
    fs::{File, OpenOptions},
    io::{self, IsTerminal, Write},
    ops::ControlFlow,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::bail;

use super::{
    Common, FAILED,
    client::{self, Stop, Told},
    output, render,
};
use crate::{
    config::duration,
    record::{Failed, Recorder},
};

/// Save what the engine sees, for `tcpstall replay`
///
/// Writes until the time is over, the file is full, or Ctrl-C. The file names the addresses of
/// peers: whoever gets it learns whom this host talks to. It is written for its owner only, and
/// can be replayed up to the last second even when the recording is killed.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:\n  \
    sudo tcpstall record outage.rec\n  \
    sudo tcpstall record --for 60s --max-size 20MB outage.rec && tcpstall replay outage.rec")]
pub(super) struct Args {
    /// File to write
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// End after this time, such as 60s or 10m [default: at Ctrl-C]
    #[arg(long = "for", value_name = "SPAN", value_parser = span)]
    lasting: Option<Duration>,
    /// End when the file is this large, such as 500kB, 20MB or 1GB
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "100MB")]
    max_size: u64,
    /// Overwrite a file that is there
    #[arg(long)]
    force: bool,
}

fn span(text: &str) -> Result<Duration, String> {
    let expected = || "expected a span of time such as 60s or 10m".to_owned();
    duration(text)
        .filter(|it| !it.is_zero())
        .ok_or_else(expected)
}

fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 4] = [
        ("kB", 1000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("B", 1),
    ];
    let (number, unit) = UNITS
        .into_iter()
        .find_map(|(unit, size)| Some((text.strip_suffix(unit)?, size)))
        .unwrap_or((text, 0));
    let number = number.trim_end().parse::<u64>().ok();
    let bytes = number.and_then(|it| it.checked_mul(unit));
    let expected = || "expected a size such as 500kB, 20MB or 1GB".to_owned();
    bytes.filter(|it| *it > 0).ok_or_else(expected)
}

pub(super) fn run(args: &Args, common: &Common) -> anyhow::Result<ExitCode> {
    // Told at once; whether it is still so is for the system to say when the file is opened.
    if !args.force && args.file.symlink_metadata().is_ok() {
        return Err(there_already(&args.file));
    }
    let mut tape = Tape {
        args,
        recorder: None,
        seconds: 0,
        shows: io::stderr().is_terminal(),
    };
    let stop = client::record(&common.socket(), args.lasting, |told| tape.take(told));
    tape.erase();
    tape.end(stop)
}

/// The recording under way.
struct Tape<'a> {
    args: &'a Args,
    /// Once the daemon has sent its first line.
    recorder: Option<Recorder<File>>,
    seconds: u64,
    shows: bool,
}

impl Tape<'_> {
    fn take(&mut self, told: Told<'_>) -> anyhow::Result<ControlFlow<()>> {
        let file = &self.args.file;
        let failed = |failed| explain(failed, file);
        match (told, &mut self.recorder) {
            (Told::Line(header), None) => {
                let out = open(file, self.args.force)?;
                self.recorder = Some(Recorder::begin(header, out).map_err(failed)?);
            }
            (Told::Line(line), Some(recorder)) => recorder.take(line).map_err(failed)?,
            (Told::Second, None) => {}
            (Told::Second, Some(recorder)) => {
                self.seconds += 1;
                recorder.flush().map_err(|why| explain(why.into(), file))?;
                self.show();
            }
        }
        let full = |recorder: &Recorder<File>| {
            recorder.bytes() >= self.args.max_size || recorder.ended().is_some()
        };
        Ok(match &self.recorder {
            Some(recorder) if full(recorder) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        })
    }

    fn show(&self) {
        let Some(recorder) = self.recorder.as_ref().filter(|_| self.shows) else {
            return;
        };
        let progress = render::recorded(self.seconds, recorder.bytes(), recorder.inputs());
        // Nobody is left to hear that this failed.
        let _ = write!(io::stderr(), "\r\x1b[K{progress}; Ctrl-C ends");
    }

    fn erase(&self) {
        if self.shows && self.recorder.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }

    /// Writes the last line and says what there is.
    fn end(self, stop: anyhow::Result<Stop>) -> anyhow::Result<ExitCode> {
        let Some(recorder) = self.recorder else {
            bail!(match stop? {
                Stop::Interrupted => "interrupted before anything came; nothing is written",
                Stop::Over | Stop::Enough | Stop::Ended =>
                    "the daemon has sent nothing; look at its log and record again",
            });
        };
        let file = &self.args.file;
        let shown = file.display();
        let (reason, asked) = match &stop {
            Ok(Stop::Over) => ("the time is over", true),
            Ok(Stop::Interrupted) => ("interrupted", true),
            Ok(Stop::Enough) => match recorder.ended() {
                Some(reason) => (reason, false),
                None => ("the file is full", true),
            },
            Ok(Stop::Ended) => (
                "the daemon sends no more: it has ended, or this reader was too slow",
                false,
            ),
            Err(_) => ("the recording failed", false),
        };
        let reason = reason.to_owned();
        let inputs = recorder.inputs();
        let finished = recorder.finish(&reason).and_then(|out| {
            out.sync_all()?;
            Ok(out.metadata()?.len())
        });
        stop?;
        let bytes = finished.map_err(|why| explain(why.into(), file))?;
        let what = render::recorded(self.seconds, bytes, inputs);
        let reason = crate::serve::words::clean(&reason);
        output::say(&format!(
            "{shown}: {what}; ended because {reason}. It names the addresses of peers."
        ));
        Ok(if asked {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(FAILED)
        })
    }
}

/// For its owner only: it names peers.
fn open(file: &Path, force: bool) -> anyhow::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    if force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    options.open(file).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => there_already(file),
        _ => anyhow::Error::from(error).context(format!(
            "cannot write {}; name a file in a folder that is yours",
            file.display()
        )),
    })
}

fn there_already(file: &Path) -> anyhow::Error {
    anyhow::anyhow!(
        "{} is there already; name another file, or overwrite it with --force",
        file.display()
    )
}

fn explain(failed: Failed, file: &Path) -> anyhow::Error {
    let shown = file.display();
    match failed {
        Failed::File(why) => anyhow::Error::from(why).context(format!(
            "cannot write {shown}; make room or name a file elsewhere: what was written so far \
             can be replayed"
        )),
        Failed::Stream(why) => anyhow::Error::from(why)
            .context("what the daemon sends is not understood; is it of this version?"),
    }
}

#[cfg(test)]
mod tests;

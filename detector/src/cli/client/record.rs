//! Following what the engine is told.
//!
//! **Invariant:** holds one line at a time, of bounded length.

use std::{ops::ControlFlow, path::Path, time::Duration};

use anyhow::{Context, bail};
use http_body_util::BodyExt;
use hyper::Method;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{interval, sleep, timeout},
};

use super::{ANSWER, SILENCE, ask, hung, not_understood, runtime};
use crate::record::line::LONGEST;

/// What happens while recording.
pub(in crate::cli) enum Told<'a> {
    /// A line came, its newline included.
    Line(&'a [u8]),
    /// Another second has passed.
    Second,
}

/// Why no more is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Stop {
    /// Whoever was told wanted no more.
    Enough,
    /// The time is over.
    Over,
    /// Ctrl-C, or SIGTERM.
    Interrupted,
    /// The daemon sends no more.
    Ended,
}

/// Hands each line to `tell`, until that has enough, the time is over, or somebody interrupts.
pub(in crate::cli) fn record(
    socket: &Path,
    lasting: Option<Duration>,
    mut tell: impl FnMut(Told<'_>) -> anyhow::Result<ControlFlow<()>>,
) -> anyhow::Result<Stop> {
    runtime()?.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let response = timeout(ANSWER, ask(socket, Method::GET, "/v1/record"))
            .await
            .map_err(|_| hung(socket, ANSWER))??;
        let mut body = response.into_body();
        let mut over = std::pin::pin!(sleep(lasting.unwrap_or(Duration::MAX)));
        let mut seconds = interval(Duration::from_secs(1));
        // The first one after a second, not at once.
        seconds.reset();
        let mut pending = Vec::new();
        let mut silent = Duration::ZERO;
        loop {
            tokio::select! {
                frame = body.frame() => {
                    silent = Duration::ZERO;
                    let Some(Ok(frame)) = frame else {
                        return Ok(Stop::Ended);
                    };
                    pending.extend_from_slice(frame.data_ref().map_or(&[][..], |it| it));
                    if split(&mut pending, |line| tell(Told::Line(line)))?.is_break() {
                        return Ok(Stop::Enough);
                    }
                    if pending.len() > LONGEST {
                        bail!(not_understood(socket));
                    }
                }
                _ = seconds.tick() => {
                    silent += Duration::from_secs(1);
                    if silent > SILENCE {
                        return Err(hung(socket, SILENCE)).context("the recording has ended");
                    }
                    if tell(Told::Second)?.is_break() {
                        return Ok(Stop::Enough);
                    }
                }
                () = &mut over => return Ok(Stop::Over),
                _ = interrupt.recv() => return Ok(Stop::Interrupted),
                _ = terminate.recv() => return Ok(Stop::Interrupted),
            }
        }
    })
}

/// Hands on the lines that are whole, and keeps the rest.
fn split(
    pending: &mut Vec<u8>,
    mut tell: impl FnMut(&[u8]) -> anyhow::Result<ControlFlow<()>>,
) -> anyhow::Result<ControlFlow<()>> {
    let whole = pending.iter().rposition(|byte| *byte == b'\n');
    let whole = whole.map_or(0, |end| end + 1);
    for line in pending[..whole].split_inclusive(|byte| *byte == b'\n') {
        if tell(line)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    pending.drain(..whole);
    Ok(ControlFlow::Continue(()))
}

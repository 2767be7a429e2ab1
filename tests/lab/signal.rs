//! Ctrl-C and SIGTERM as an error that unwinds: what was built is dropped on the way out.

use std::{
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
/// How soon an interruption is noticed.
const STEP: Duration = Duration::from_millis(20);

/// From now on Ctrl-C, SIGTERM and a closed terminal end the waits of this module instead of the
/// process.
pub fn watch() -> Result<()> {
    static STARTED: Once = Once::new();
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut signals = {
        let _inside = runtime.enter();
        [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
        ]
        .map(signal)
        .into_iter()
        .collect::<Result<Vec<_>, _>>()
        .context("cannot listen to signals")?
    };
    STARTED.call_once(|| {
        thread::spawn(move || {
            runtime.block_on(async {
                let [interrupt, terminate, hangup] = &mut signals[..] else {
                    return;
                };
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
                INTERRUPTED.store(true, Ordering::Relaxed);
            });
        });
    });
    Ok(())
}

/// Whether the user wants to stop.
pub fn raised() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Fails when the user wants to stop.
pub fn check() -> Result<()> {
    if raised() {
        bail!("interrupted");
    }
    Ok(())
}

/// Sleeps, or fails when the user wants to stop.
pub fn sleep(duration: Duration) -> Result<()> {
    let end = Instant::now() + duration;
    loop {
        check()?;
        match end.checked_duration_since(Instant::now()) {
            Some(left) if !left.is_zero() => thread::sleep(left.min(STEP)),
            _ => return Ok(()),
        }
    }
}

//! The outage, re-enacted: a router lets connections succeed and then hang, the usual tools see
//! nothing, and tcpstall names it.
//!
//! Everything shown is measured while it is shown. The exit code is 1 when the upstream was not
//! named in time, or the wrong one was, or the end of the queue was not foretold.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Result;
use clap::Parser;
use lab::{Lab, Load, signal};

#[path = "demo/acts.rs"]
mod acts;
#[path = "demo/dashboard.rs"]
mod dashboard;
#[path = "demo/metrics.rs"]
mod metrics;
#[path = "demo/picture.rs"]
mod picture;
#[path = "demo/stage.rs"]
mod stage;
#[path = "demo/tools.rs"]
mod tools;
#[path = "demo/watcher.rs"]
mod watcher;

use acts::Play;
use picture::Pictures;
use stage::Stage;

/// Re-enact the outage that tcpstall was written for, in a laboratory of network namespaces
///
/// Takes about a minute and a half and needs root. Nothing outside the namespaces is touched.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Without pauses for reading
    #[arg(long)]
    quick: bool,

    /// Draw what is seen into this folder, as SVG: `status` and `explain` ten seconds in (demo.svg), `top`
    /// then (top.svg), and the dashboard at the end (dashboard.svg)
    #[arg(long, value_name = "FOLDER")]
    pictures: Option<PathBuf>,
}

/// Time to read a paragraph.
const PAUSE: Duration = Duration::from_secs(4);

fn main() -> ExitCode {
    match play(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            anstream::eprintln!("\ndemo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Plays all acts; whether the right upstream, and no other, was named.
fn play(arguments: &Arguments) -> Result<bool> {
    signal::watch()?;
    let stage = Stage::new(if arguments.quick {
        Duration::ZERO
    } else {
        PAUSE
    });
    let lab = Lab::story(3)?;
    let traffic = (0..lab.upstreams.len())
        .map(|upstream| lab.traffic(upstream, 0..acts::DESTINATIONS, Load::mail(acts::SESSIONS)))
        .collect::<Result<Vec<_>>>()?;
    let mut play = Play::new(stage, &lab, &traffic)?;
    let mut pictures = match &arguments.pictures {
        Some(folder) => Some(Pictures::begin(folder, &lab, play.daemon())?),
        None => None,
    };
    play.prologue()?;
    play.an_ordinary_afternoon()?;
    let Some(watch) = play.a_router_goes_wrong()? else {
        return Ok(false);
    };
    play.ten_seconds_in(&watch)?;
    if let Some(pictures) = &mut pictures {
        pictures.in_the_middle(play.daemon(), play.culprit())?;
    }
    let foretold = play.the_queue_grows(&watch)?;
    Ok(play.the_repair(watch, pictures)? && foretold)
}

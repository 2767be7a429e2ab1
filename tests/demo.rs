//! The outage, re-enacted: a router lets connections succeed and then hang, the usual tools see
//! nothing, and tcpstall names it.
//!
//! Everything shown is measured while it is shown. The exit code is 1 when the upstream was not
//! named in time, or the wrong one was.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;
use lab::{Daemon, Fault, Lab, Load, signal};

#[path = "demo/metrics.rs"]
mod metrics;
#[path = "demo/stage.rs"]
mod stage;
#[path = "demo/tools.rs"]
mod tools;
#[path = "demo/watcher.rs"]
mod watcher;

use metrics::Page;
use stage::Stage;
use watcher::Watcher;

/// The upstream whose router goes wrong.
const CULPRIT: usize = 1;
/// Of the packets of open connections, this share is lost, in per cent.
const LOSS: u8 = 85;
/// Mail sessions at each upstream, and the destinations they go to.
const SESSIONS: u16 = 100;
const DESTINATIONS: u8 = 30;
/// Longest wait for a verdict, and for the all-clear.
const VERDICT: Duration = Duration::from_secs(15);
const ALL_CLEAR: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    match play() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            anstream::eprintln!("\ndemo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Plays all acts; whether the right upstream was named.
fn play() -> Result<bool> {
    signal::watch()?;
    let mut stage = Stage::new();
    stage.title("tcpstall: eight hours, re-enacted");
    stage.narrate(
        "A mail provider bought three upstream links, so that one could fail. One did: a router \
         there let every connection succeed and then hang. Nothing looked broken. The queue grew to \
         two million mails, the last software upgrade was blamed, and it took eight hours to find.",
    );
    let lab = Lab::story(3)?;
    let traffic = (0..lab.upstreams.len())
        .map(|upstream| lab.traffic(upstream, 0..DESTINATIONS, Load::mail(SESSIONS)))
        .collect::<Result<Vec<_>>>()?;
    let daemon = Daemon::start(&lab)?;
    let name = lab.upstreams[CULPRIT].name;

    stage.act("An ordinary afternoon");
    stage.narrate(&format!(
        "A mail host with three ways out, {} mail sessions at a time to {} destinations. tcpstall \
         watches the kernel's own connections; it sends nothing.",
        usize::from(SESSIONS) * lab.upstreams.len(),
        usize::from(DESTINATIONS) * lab.upstreams.len(),
    ));
    daemon.wait_until(Duration::from_secs(20), "every upstream is ok", |status| {
        lab.upstreams
            .iter()
            .all(|upstream| status.state_of(upstream.name) == "ok")
    })?;
    signal::sleep(Duration::from_secs(3))?;
    stage.command(&daemon, &["status"])?;
    let healthy = tools::established(&lab, CULPRIT)?;
    let before = Page::parse(&daemon.metrics()?);

    stage.act(&format!("A router at {name} goes wrong"));
    stage.narrate(&format!(
        "It now drops {LOSS} % of the larger packets of open connections. Handshakes, pings and \
         short commands pass. The usual questions get the usual answers:"
    ));
    let broken = lab.break_(CULPRIT, Fault::EstablishedLoss(LOSS))?;
    stage.fault_at(broken);
    let watcher = Watcher::start(daemon.socket(), name);
    stage.measured("ping the peer", &tools::ping(&lab, CULPRIT)?);
    stage.measured(
        "connect to port 25",
        &tools::connect(&lab, CULPRIT, DESTINATIONS)?,
    );
    stage.measured(
        "ss",
        &tools::compare(healthy, tools::established(&lab, CULPRIT)?),
    );
    let verdict = watcher.verdict(VERDICT)?;
    let Some(verdict) = verdict else {
        stage.narrate(&format!("tcpstall did not name {name} within {VERDICT:?}."));
        stage.command(&daemon, &["status"])?;
        return Ok(false);
    };
    let delay = verdict.at.saturating_duration_since(broken);
    stage.event(verdict.at, &verdict.words);

    stage.act("What tcpstall says");
    stage.command(&daemon, &["status"])?;

    stage.act("Ten seconds in");
    signal::sleep((broken + Duration::from_secs(10)).saturating_duration_since(Instant::now()))?;
    stage.narrate("Nobody has had a reason to look anywhere near the network yet:");
    stage.measured("ping the peer", &tools::ping(&lab, CULPRIT)?);
    stage.measured(
        "connect to port 25",
        &tools::connect(&lab, CULPRIT, DESTINATIONS)?,
    );
    stage.measured("the mail programs", &tools::sessions(&traffic));
    stage.lines(&[]);
    stage.narrate("tcpstall has seen it in the connections themselves, and says why it is sure:");
    stage.command(&daemon, &["explain", name])?;
    stage.narrate("Connection by connection, the oldest first:");
    stage.command(&daemon, &["stalls", "--upstream", name, "--limit", "4"])?;
    stage.narrate("And for the dashboards, what has changed on the metrics page:");
    stage.lines(&before.changes(&Page::parse(&daemon.metrics()?)));

    stage.act("The repair");
    stage.narrate("Five minutes of work, once one knows where. Here it takes a moment.");
    let repaired = lab.repair(CULPRIT)?;
    stage.event(repaired, "the router is repaired");
    let clear = watcher.all_clear(ALL_CLEAR)?;
    match &clear {
        Some(clear) => stage.event(clear.at, &clear.words),
        None => stage.narrate(&format!("{name} is not ok {ALL_CLEAR:?} after the repair.")),
    }
    stage.command(&daemon, &["status"])?;
    let wrongly = watcher.wrongly_blamed();
    drop(watcher);
    daemon.stop()?;

    stage.act("The end");
    if !wrongly.is_empty() {
        stage.narrate(&format!("Blamed without reason: {}.", wrongly.join(", ")));
    }
    if let Some(clear) = &clear {
        stage.narrate(&format!(
            "Then: eight hours. Now: {:.1} seconds from the fault to the name of the upstream, {:.1} \
             seconds from the repair to the all-clear.",
            delay.as_secs_f64(),
            clear.at.saturating_duration_since(repaired).as_secs_f64()
        ));
    }
    Ok(clear.is_some() && wrongly.is_empty())
}

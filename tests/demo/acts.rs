//! The acts, in their order.

use std::time::{Duration, Instant};

use anyhow::Result;
use lab::{Daemon, Family, Fault, Lab, Traffic, leak::Leak, program::Program, signal};

use crate::{
    metrics::Page,
    picture::Pictures,
    stage::Stage,
    tools::{self, Established},
    watcher::Watcher,
};

/// Mail sessions at each upstream.
pub(crate) const SESSIONS: u16 = 100;
/// Destinations of each upstream.
pub(crate) const DESTINATIONS: u8 = 30;

/// The upstream whose router goes wrong.
const CULPRIT: usize = 1;
/// Of the larger packets of open connections, this share is lost, in per cent.
const LOSS: u8 = 85;
/// Longest wait for the verdict.
const VERDICT: Duration = Duration::from_secs(15);
/// Longest wait for the all-clear.
const ALL_CLEAR: Duration = Duration::from_secs(30);
/// Descriptors of the queue manager: a few minutes' worth on a host, less here.
const DESCRIPTORS: u32 = 140;
/// Longest wait for the forecast, and from there to its end.
const FORECAST: Duration = Duration::from_secs(30);
/// From look to look at the queue.
const POLL: Duration = Duration::from_millis(50);
/// From the fault to the second look.
const LATER: Duration = Duration::from_secs(10);

/// Everybody and everything on the stage.
pub(crate) struct Play<'a> {
    stage: Stage,
    lab: &'a Lab,
    traffic: &'a [Traffic],
    daemon: Daemon,
    /// Name of the culprit.
    name: &'static str,
    healthy: Option<(Established, Page)>,
}

/// The fault, and the one who watches what is said of it.
pub(crate) struct Watch {
    broken: Instant,
    named: Instant,
    watcher: Watcher,
}

impl<'a> Play<'a> {
    pub(crate) fn new(stage: Stage, lab: &'a Lab, traffic: &'a [Traffic]) -> Result<Self> {
        let daemon = Daemon::start(lab)?;
        let name = lab.upstreams[CULPRIT].name;
        Ok(Self {
            stage,
            lab,
            traffic,
            daemon,
            name,
            healthy: None,
        })
    }

    pub(crate) fn prologue(&self) -> Result<()> {
        self.stage.title("tcpstall: eight hours, re-enacted");
        self.stage.narrate(
            "A mail provider bought three upstream links, so that one could fail. One did: a \
             router there let every connection succeed and then hang. Nothing looked broken. The \
             queue grew to two million mails, the last software upgrade was blamed, and it took \
             eight hours to find.",
        );
        self.stage.pause()
    }

    pub(crate) fn an_ordinary_afternoon(&mut self) -> Result<()> {
        self.stage.act("An ordinary afternoon");
        self.stage.narrate(&format!(
            "A mail host with three ways out, {} mail sessions at a time to {} destinations. \
             tcpstall watches the kernel's own connections; it sends nothing.",
            usize::from(SESSIONS) * self.lab.upstreams.len(),
            usize::from(DESTINATIONS) * self.lab.upstreams.len(),
        ));
        self.daemon
            .wait_until(Duration::from_secs(20), "every upstream is ok", |status| {
                let names = self.lab.upstreams.iter().map(|upstream| upstream.name);
                names.into_iter().all(|name| status.state_of(name) == "ok")
            })?;
        // A few sessions from beginning to end.
        signal::sleep(Duration::from_secs(2))?;
        self.stage.command(&self.daemon, &["status"])?;
        self.stage.pause()?;
        let page = Page::parse(&self.daemon.metrics()?);
        self.healthy = Some((tools::established(self.lab, CULPRIT)?, page));
        Ok(())
    }

    /// `None` when the culprit was not named.
    pub(crate) fn a_router_goes_wrong(&mut self) -> Result<Option<Watch>> {
        self.stage
            .act(&format!("A router at {} goes wrong", self.name));
        self.stage.narrate(&format!(
            "It will drop {LOSS} % of the larger packets of open connections. Handshakes, pings \
             and short commands pass. The usual questions get the usual answers:"
        ));
        self.stage.pause()?;
        let broken = self.lab.break_(CULPRIT, Fault::EstablishedLoss(LOSS))?;
        self.stage.fault_at(broken);
        let watcher = Watcher::start(self.daemon.socket(), self.name);
        self.stage.event(broken, "the router is broken");
        self.usual_questions()?;
        let now = tools::established(self.lab, CULPRIT)?;
        if let Some((before, _)) = &self.healthy {
            self.stage.measured("ss", &tools::compare(*before, now));
        }
        let Some(verdict) = watcher.verdict(VERDICT)? else {
            let words = format!("tcpstall did not name {} within {VERDICT:?}.", self.name);
            self.stage.narrate(&words);
            self.stage.command(&self.daemon, &["status"])?;
            return Ok(None);
        };
        self.stage.event(verdict.at, &verdict.words);
        self.stage.command(&self.daemon, &["status"])?;
        Ok(Some(Watch {
            broken,
            named: verdict.at,
            watcher,
        }))
    }

    pub(crate) fn ten_seconds_in(&mut self, watch: &Watch) -> Result<()> {
        let left = (watch.broken + LATER).saturating_duration_since(Instant::now());
        signal::sleep(left)?;
        self.stage.act("Ten seconds in");
        self.stage
            .narrate("Nobody has had a reason to look anywhere near the network yet:");
        self.usual_questions()?;
        self.stage
            .measured("the mail programs", &tools::sessions(self.traffic));
        self.stage.lines(&[]);
        self.stage.pause()?;
        self.stage.narrate(
            "tcpstall has seen it in the connections themselves, and says why it is sure:",
        );
        self.stage.command(&self.daemon, &["explain", self.name])?;
        self.stage.pause()?;
        self.stage
            .narrate("Connection by connection, the oldest first:");
        let oldest = ["stalls", "--upstream", self.name, "--limit", "4"];
        self.stage.command(&self.daemon, &oldest)?;
        self.stage.pause()?;
        self.stage
            .narrate("And for the dashboards, what has changed on the metrics page:");
        if let Some((_, before)) = &self.healthy {
            let now = Page::parse(&self.daemon.metrics()?);
            self.stage.lines(&before.changes(&now));
        }
        self.stage.pause()
    }

    /// What ended the day in the end: descriptors. Whether it was foretold, and came.
    pub(crate) fn the_queue_grows(&mut self, watch: &Watch) -> Result<bool> {
        self.stage.act("The queue grows");
        self.stage.narrate(&format!(
            "Nothing fails, so that nothing is given up: the queue manager goes on opening five \
             deliveries a second through {}, and each of them stays. It may have {DESCRIPTORS} \
             descriptors.",
            self.name
        ));
        let upstream = &self.lab.upstreams[CULPRIT];
        let peers = (0..DESTINATIONS).map(|number| upstream.destination(number, Family::V4));
        let folder = tempfile::tempdir()?;
        let leak = Leak::new(peers.collect(), DESCRIPTORS);
        let mut queue = leak.start(&self.lab.host, folder.path())?;
        let Some(foretold) = self.foretold(&queue)? else {
            self.stage
                .narrate("tcpstall has not foretold when they run out.");
            self.stage.command(&self.daemon, &["status"])?;
            return Ok(false);
        };
        self.stage.command(&self.daemon, &["status"])?;
        let end = Instant::now() + FORECAST + FORECAST;
        while !queue.has_ended()? {
            if Instant::now() > end {
                self.stage.narrate("It still has descriptors.");
                return Ok(false);
            }
            signal::sleep(POLL)?;
        }
        let ended = Instant::now();
        self.stage.event(
            ended,
            &format!(
                "the queue manager says: {}",
                queue.log().lines().last().unwrap_or("nothing")
            ),
        );
        let after = |at: Instant| at.saturating_duration_since(watch.broken).as_secs_f64();
        self.stage.narrate(&format!(
            "It was foretold for T +{:.0} s, and came at T +{:.0} s. On that day somebody raised the \
             limit; then memory ran out, which is foretold in the same way, by service.",
            after(foretold),
            after(ended)
        ));
        self.stage.pause()?;
        Ok(true)
    }

    /// When it is said that the program will have no descriptors left.
    fn foretold(&self, program: &Program) -> Result<Option<Instant>> {
        let end = Instant::now() + FORECAST;
        while Instant::now() < end {
            let status = self.daemon.status()?;
            let known = status.processes.iter().find(|it| it.pid == program.pid());
            if let Some(left) = known.and_then(|it| it.descriptors_run_out_seconds) {
                return Ok(Some(Instant::now() + Duration::from_secs_f64(left)));
            }
            signal::sleep(POLL)?;
        }
        Ok(None)
    }

    pub(crate) fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    /// Name of the upstream that goes wrong.
    pub(crate) fn culprit(&self) -> &'static str {
        self.name
    }

    /// Whether everything ended well.
    pub(crate) fn the_repair(mut self, watch: Watch, pictures: Option<Pictures>) -> Result<bool> {
        self.stage.act("The repair");
        self.stage
            .narrate("Five minutes of work, once one knows where. Here it takes a moment.");
        let repaired = self.lab.repair(CULPRIT)?;
        self.stage.event(repaired, "the router is repaired");
        let clear = watch.watcher.all_clear(ALL_CLEAR)?;
        let wrongly = watch.watcher.wrongly_blamed();
        match &clear {
            Some(clear) => self.stage.event(clear.at, &clear.words),
            None => {
                let words = format!("{} is not ok {ALL_CLEAR:?} after the repair.", self.name);
                self.stage.narrate(&words);
            }
        }
        self.stage.command(&self.daemon, &["status"])?;
        if let Some(pictures) = pictures {
            pictures.at_the_end()?;
        }
        self.daemon.stop()?;

        if !wrongly.is_empty() {
            let words = format!("Blamed without reason: {}.", wrongly.join(", "));
            self.stage.narrate(&words);
        }
        let Some(clear) = clear else { return Ok(false) };
        self.stage.narrate(&format!(
            "Then: eight hours. Now: {:.1} seconds from the fault to the name of the upstream, \
             {:.1} seconds from the repair to the all-clear.",
            watch
                .named
                .saturating_duration_since(watch.broken)
                .as_secs_f64(),
            clear.at.saturating_duration_since(repaired).as_secs_f64()
        ));
        Ok(wrongly.is_empty())
    }

    /// What somebody asks who suspects the network.
    fn usual_questions(&self) -> Result<()> {
        self.stage
            .measured("ping the peer", &tools::ping(self.lab, CULPRIT)?);
        let accepted = tools::connect(self.lab, CULPRIT, DESTINATIONS)?;
        self.stage.measured("connect to port 25", &accepted);
        Ok(())
    }
}

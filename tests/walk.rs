//! A bad day, walked through from the package to its purge: what an operator types, and what comes back.
//!
//! Every line of the transcript was typed by this program and answered by the real thing: apt, the daemon, its
//! hooks, Prometheus, Alertmanager and `ip`. The exit code is 1 when something was not as it should be.

use std::{
    fs,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use lab::{
    Direction, Fault, Lab, Load, Traffic,
    monitoring::{Message, Monitoring, Tools, shipped},
    program::Program,
    signal,
    status::Status,
};

#[path = "walk/host.rs"]
mod host;
#[path = "walk/transcript.rs"]
mod transcript;

use host::Host;
use transcript::Transcript;

/// Walk through a bad day, from an empty Debian to an empty Debian
///
/// Takes about ten minutes and needs root. Nothing outside the Debian and the network namespaces is touched.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The Debian, below a folder
    #[arg(long, value_name = "FOLDER")]
    debian: PathBuf,

    /// The package, as the Debian sees it
    #[arg(long, value_name = "FILE")]
    package: String,

    /// Write the transcript to this page
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

/// The upstream whose router goes wrong.
const CULPRIT: usize = 1;
/// From the fault to the pager, at most: what an operator is promised.
const PAGER: Duration = Duration::from_secs(30);
/// For what takes a moment.
const SOON: Duration = Duration::from_secs(20);
/// For an upstream that everybody has left to be forgotten, and its gate to open.
const FORGOTTEN: Duration = Duration::from_secs(480);
/// From look to look.
const POLL: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match walk(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("\nwalk: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn walk(arguments: &Arguments) -> Result<()> {
    signal::watch()?;
    let tools = Tools::find().context(
        "Prometheus and Alertmanager are missing: `cargo xtask walk` fetches them, or put them into the PATH",
    )?;
    let lab = Lab::story(3)?;
    let mut day = Day {
        host: Host::open(&arguments.debian, &lab)?,
        lab: &lab,
        told: Transcript::new("A bad day"),
        name: lab.upstreams[CULPRIT].name,
    };
    day.prologue()?;
    day.it_is_installed(&arguments.package)?;
    day.it_is_told_of_the_upstreams()?;
    let mut traffic = day.work_begins()?;
    let mut services = day.it_is_started()?;
    let monitoring = Monitoring::start(&tools, &lab.host, &["127.0.0.1:19293".to_owned()], 5)?;
    day.same_rules()?;
    day.a_router_goes_wrong(&monitoring)?;
    day.what_is_it()?;
    day.the_ticket()?;
    day.new_connections_are_elsewhere(&services)?;
    day.what_is_stuck_is_released(&traffic)?;
    day.it_is_repaired(&monitoring, &mut traffic)?;
    day.looking_back()?;
    // The manager would end them before the package goes, the last one first.
    while services.pop().is_some() {}
    drop(monitoring);
    drop(traffic);
    day.it_is_purged()?;
    let page = day.told.page();
    if let Some(file) = &arguments.write {
        fs::write(file, page).with_context(|| format!("cannot write {}", file.display()))?;
        anstream::println!("\nwrote {}", file.display());
    }
    Ok(())
}

/// Everybody and everything.
struct Day<'a> {
    host: Host,
    lab: &'a Lab,
    told: Transcript,
    /// Of the culprit.
    name: &'static str,
}

impl Day<'_> {
    fn prologue(&mut self) -> Result<()> {
        self.told.say(
            "What an operator types on a bad day, and what comes back, from an empty Debian to an empty Debian. All of \
             it happened as it is shown: `cargo xtask walk --write` types it, on the machine that it runs on, \
             with a network made for it: a mail host with three upstream links, an internet behind them, and \
             Prometheus and Alertmanager beside. Where an answer is shortened there is a line `[…]`.",
        );
        let release = self.host.read("uname -r")?;
        let system = self
            .host
            .read("sed -n 's/^PRETTY_NAME=//p' /etc/os-release")?;
        self.told.say(&format!(
            "{} on Linux {}, tcpstall {}.",
            system.trim().trim_matches('"'),
            release.trim(),
            env!("CARGO_PKG_VERSION")
        ));
        Ok(())
    }

    fn it_is_installed(&mut self, package: &str) -> Result<()> {
        self.told.heading("Installing it");
        let begun = Instant::now();
        let ours = |line: &str| line.contains("tcpstall") && !line.starts_with("Get:");
        self.type_and_show(
            &format!("apt-get install --yes --quiet --no-install-recommends iproute2 {package}"),
            &ours,
        )?;
        let took = begun.elapsed().as_secs();
        self.told.say(&format!(
            "That took {took} s, most of it for what a Debian this small does not have yet. `doctor` says what this host \
             allows:"
        ));
        self.type_inside("tcpstall doctor")?;
        Ok(())
    }

    fn it_is_told_of_the_upstreams(&mut self) -> Result<()> {
        self.told.heading("Telling it of the upstreams");
        self.told.say(
            "It would find them by itself and call them by gateway and interface. Names make better alerts. A hook \
             moves the route of one of them when it should be avoided, with a script from the package.",
        );
        let mut lines = vec!["cat >> /etc/tcpstall/tcpstall.toml <<'END'".to_owned()];
        for upstream in &self.lab.upstreams {
            lines.push("[[upstream]]".to_owned());
            lines.push(format!("name = \"{}\"", upstream.name));
            lines.push(format!("gateway = \"{}\"", upstream.gateway));
            lines.push(String::new());
        }
        let (prefix, gateway) = (self.prefix(), self.lab.upstreams[CULPRIT].gateway);
        lines.push("[[hook]]".to_owned());
        lines.push("name = \"route\"".to_owned());
        lines.push("on = \"gate\"".to_owned());
        lines.push(format!("upstreams = [\"{}\"]", self.name));
        lines.push(format!(
            "command = [\"/etc/tcpstall/route\", \"{prefix}\", \"{gateway}\"]"
        ));
        lines.push("END".to_owned());
        self.type_inside(&lines.join("\n"))?;
        self.type_inside(
            "install -m 755 /usr/share/doc/tcpstall/examples/route /etc/tcpstall/route",
        )?;
        let checked = self.type_inside("tcpstall daemon --check")?;
        ensure!(
            checked.contains("is valid"),
            "the configuration is refused: {checked}"
        );
        Ok(())
    }

    /// The destinations behind the culprit.
    fn prefix(&self) -> String {
        self.lab.upstreams[CULPRIT].aggregates().0
    }

    fn work_begins(&mut self) -> Result<Vec<Traffic>> {
        let (other, own) = (
            self.lab.upstreams[0].gateway,
            self.lab.upstreams[CULPRIT].gateway,
        );
        let prefix = self.prefix();
        self.lab.host.ip(&format!(
            "route add {prefix} via {other} metric 200\nroute add {prefix} via {own} metric 100\n\
             route del {prefix} via {own} metric 0\n"
        ))?;
        let mut traffic = Vec::new();
        for upstream in 0..self.lab.upstreams.len() {
            traffic.push(self.lab.traffic(upstream, 0..20, Load::STEADY)?);
        }
        traffic.push(self.lab.traffic(CULPRIT, 0..20, Load::Churn(20))?);
        Ok(traffic)
    }

    fn it_is_started(&mut self) -> Result<Vec<Program>> {
        self.told.heading("An ordinary day");
        self.told.say(
            "No service manager runs in this small Debian. What `systemctl enable --now tcpstall tcpstall-hooks` would \
             start is started as the installed units say: the daemon as the user tcpstall with two capabilities and no \
             more, the hooks as root.",
        );
        let daemon = self.host.start("tcpstall.service")?;
        self.until(SOON, "every upstream is ok", |status| {
            status
                .upstreams
                .iter()
                .filter(|it| it.state == "ok")
                .count()
                == 3
        })?;
        let hooks = self.host.start("tcpstall-hooks.service")?;
        signal::sleep(Duration::from_secs(3))?;
        self.type_inside("tcpstall status")?;
        let prefix = self.prefix();
        self.type_inside(&format!("ip route show {prefix}"))?;
        ensure!(self.way()? == CULPRIT, "the route is elsewhere already");
        Ok(vec![daemon, hooks])
    }

    /// What the package has for Prometheus is what this walk gives it.
    fn same_rules(&self) -> Result<()> {
        for name in ["tcpstall.rules.yml", "alertmanager.yml", "scrape.yml"] {
            let ours = fs::read(shipped().join(name))?;
            let installed = self
                .host
                .path(&format!("/usr/share/tcpstall/prometheus/{name}"));
            ensure!(
                fs::read(installed)? == ours,
                "the package has another {name}"
            );
        }
        Ok(())
    }

    fn a_router_goes_wrong(&mut self, monitoring: &Monitoring) -> Result<()> {
        // All that came before is of no interest any more.
        signal::sleep(Duration::from_secs(6))?;
        monitoring.messages();
        self.told
            .heading(&format!("A router of {} goes wrong", self.name));
        self.told.say(
            "It goes on answering pings and routing protocols, and forwards nothing any more. Nobody is told by it. What is \
             established stays established.",
        );
        let broken = self
            .lab
            .break_(CULPRIT, Fault::Blackhole(Direction::Both))?;
        self.told.fault_at(broken);
        let message = monitoring.told(PAGER, "TcpstallUpstreamFailing", "firing")?;
        let took = message.at - broken;
        ensure!(took <= PAGER, "the pager heard of it after {took:?}");
        self.told.say(&format!(
            "{:.1} s later, with the rules of the package and a scrape every five seconds, the pager says:",
            took.as_secs_f64()
        ));
        self.told.quote(&words_of(&message, "firing")?);
        Ok(())
    }

    fn what_is_it(&mut self) -> Result<()> {
        self.told.heading("What is it?");
        self.type_inside("tcpstall status")?;
        let name = self.name;
        let said = self.type_inside(&format!("tcpstall explain {name}"))?;
        ensure!(
            said.contains("blackhole"),
            "explain does not name the cause: {said}"
        );
        Ok(())
    }

    fn the_ticket(&mut self) -> Result<()> {
        self.told.heading("Telling the provider");
        let name = self.name;
        let said = self.type_inside(&format!("tcpstall ticket {name}"))?;
        ensure!(
            said.contains("\nSince 20"),
            "the ticket does not say since when: {said}"
        );
        Ok(())
    }

    fn new_connections_are_elsewhere(&mut self, services: &[Program]) -> Result<()> {
        self.told.heading("New connections are elsewhere already");
        self.told.say(&format!(
            "The gate of {} closed with the verdict, and the hook put the route behind the other one. Its log:",
            self.name
        ));
        let log = services.last().map(Program::log).unwrap_or_default();
        self.told.block(&log);
        let prefix = self.prefix();
        self.type_inside(&format!("ip route show {prefix}"))?;
        ensure!(self.way()? == 0, "the route was not moved:\n{log}");
        Ok(())
    }

    fn what_is_stuck_is_released(&mut self, traffic: &[Traffic]) -> Result<()> {
        self.told.heading("What is stuck is released");
        self.told.say(
            "Those that were established before still hang, and would for a quarter of an hour. Their programs would try \
             again if they only knew.",
        );
        let name = self.name;
        self.type_inside(&format!("tcpstall kill --upstream {name} --limit 5"))?;
        self.type_inside(&format!("tcpstall kill --upstream {name} --yes"))?;
        let begun = Instant::now();
        let other = self.lab.upstreams[0].name;
        let all = |status: &Status| {
            let upstream = status.upstream(other);
            upstream.is_some_and(|it| it.destinations.active >= 40)
        };
        self.until(
            SOON,
            "all destinations are in use through the other one",
            all,
        )?;
        ensure!(
            traffic[CULPRIT].counters.hanging() == 0,
            "something still hangs"
        );
        self.told.say(&format!(
            "{:.1} s later all destinations that hung are in use through {other}, and nothing hangs any more.",
            begun.elapsed().as_secs_f64(),
        ));
        self.type_inside("tcpstall status")?;
        Ok(())
    }

    fn it_is_repaired(
        &mut self,
        monitoring: &Monitoring,
        traffic: &mut Vec<Traffic>,
    ) -> Result<()> {
        self.told.heading("It is repaired");
        self.lab.repair(CULPRIT)?;
        self.told.say(&format!(
            "The provider has changed a line card. Nobody uses {} any more, so that nothing can be seen to heal there. \
             It is called failing for five minutes more, then idle; after a minute of that its gate opens, and the hook \
             takes the route back.",
            self.name
        ));
        let message = monitoring.told(FORGOTTEN, "TcpstallUpstreamFailing", "resolved")?;
        self.told.quote(&words_of(&message, "resolved")?);
        let begun = Instant::now();
        while self.way()? != CULPRIT {
            ensure!(begun.elapsed() < FORGOTTEN, "the route does not come back");
            signal::sleep(POLL)?;
        }
        let prefix = self.prefix();
        self.type_inside(&format!("ip route show {prefix}"))?;
        self.told
            .say("New connections leave through it again, and say that it does well:");
        traffic.push(self.lab.traffic(CULPRIT, 0..20, Load::STEADY)?);
        let name = self.name;
        self.until(SOON, "it is used and does well", |status| {
            status.state_of(name) == "ok"
        })?;
        self.type_inside("tcpstall status")?;
        Ok(())
    }

    fn looking_back(&mut self) -> Result<()> {
        self.told.heading("Looking back");
        self.type_inside("tcpstall incidents")?;
        Ok(())
    }

    fn it_is_purged(&mut self) -> Result<()> {
        self.told.heading("Taking it away");
        let ours = |line: &str| line.contains("tcpstall");
        self.type_and_show("apt-get purge --yes --quiet tcpstall", &ours)?;
        self.told.say("What is left: the user, as is usual in Debian, so that its number goes to nobody else.");
        let left = self.type_inside(
            "find / -xdev -iname '*tcpstall*' -not -path '/root/*' -not -path '/var/lib/dpkg/*' -not -path '/var/log/*'; \
             getent passwd tcpstall",
        )?;
        ensure!(
            left.lines().count() == 1 && left.starts_with("tcpstall:"),
            "a purge should leave the user and nothing else, and leaves:\n{left}"
        );
        Ok(())
    }

    /// Types a line in the network and shows all that comes back.
    fn type_inside(&mut self, line: &str) -> Result<String> {
        let answer = self.host.inside(line)?;
        self.told.typed(line, &answer, &|_| true);
        Ok(answer)
    }

    /// Types a line with the network of this machine, which leads to Debian's archive, and shows some lines.
    fn type_and_show(&mut self, line: &str, shown: &dyn Fn(&str) -> bool) -> Result<()> {
        let answer = self.host.read(line)?;
        self.told.typed(line, &answer, shown);
        Ok(())
    }

    fn until(&self, limit: Duration, what: &str, holds: impl Fn(&Status) -> bool) -> Result<()> {
        let end = Instant::now() + limit;
        loop {
            let status = self.host.status();
            if status.as_ref().is_ok_and(&holds) {
                return Ok(());
            }
            ensure!(
                Instant::now() < end,
                "{what}: not within {limit:?}: {status:?}"
            );
            signal::sleep(POLL)?;
        }
    }

    /// The upstream that the route to the culprit's destinations leads through.
    fn way(&self) -> Result<usize> {
        let to = self.prefix();
        let shown = self.lab.host.output("ip", &["route", "show", &to])?;
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        let metric = |line: &str| -> Option<u32> {
            let mut words = line.split_whitespace().skip_while(|it| *it != "metric");
            words.nth(1)?.parse().ok()
        };
        let best = shown.lines().min_by_key(|line| metric(line).unwrap_or(0));
        let best = best.with_context(|| format!("there is no route to {to}"))?;
        let mut upstreams = self.lab.upstreams.iter();
        match upstreams.position(|it| best.contains(&format!(" dev {} ", it.interface))) {
            Some(index) => Ok(index),
            None => bail!("{best} leads through no upstream"),
        }
    }
}

/// What a person reads of a message.
fn words_of(message: &Message, status: &str) -> Result<String> {
    let alerts = message.alerts("TcpstallUpstreamFailing", status);
    let alert = alerts.first().context("a message without an alert")?;
    let of = |name: &str| {
        alert["annotations"][name]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    Ok(match status {
        "firing" => format!(
            "**{}**\n\n{}\n\n{}",
            of("summary"),
            of("description"),
            of("runbook")
        ),
        _ => format!("**RESOLVED: {}**", of("summary")),
    })
}

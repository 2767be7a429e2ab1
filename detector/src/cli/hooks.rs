//! `tcpstall hooks`.
//!
//! **Invariant:** asks, as any other client does; what it runs is in the configuration and nowhere else.

mod program;

use std::{
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::bail;
use sd_notify::NotifyState;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use super::{Common, client, daemon, output};
use crate::{
    api::{self, SCHEMA, Status},
    clock,
    config::{Config, Hook, Overrides, Source},
    hooks::{Due, Level, Plan, Seen},
    model::{HookOutcome, Occasion},
    serve::words::clean,
};
use program::{End, Program};

/// Ends of hooks that are kept while no daemon answers.
const UNCOUNTED: usize = 1000;
/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// Run programs when an upstream changes, until Ctrl-C or SIGTERM
///
/// What is run is in the configuration, a [[hook]] each; see tcpstall.toml(5). It asks the daemon once a second and
/// runs a hook when what it is told of, the state of an upstream or its gate, is not as it was told last. For an
/// upstream one hook for gates and one for states runs at a time. A hook for gates is run once in the beginning, and
/// again when it fails.
///
/// The daemon itself starts no programs: it has not the rights. This has those of whoever starts it; as a
/// service it is tcpstall-hooks.service. SIGHUP reads the configuration again. When it is to end it waits for the
/// hooks that still run; told a second time, it does not.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:\n  \
    tcpstall hooks --dry-run                       what would be run, and when\n  \
    sudo systemctl enable --now tcpstall-hooks     run them, from now on\n\n\
    A hook finds in its environment:\n  \
    TCPSTALL_HOOK       its name\n  \
    TCPSTALL_ON         state or gate: what it is told of\n  \
    TCPSTALL_UPSTREAM   name of the upstream\n  \
    TCPSTALL_STATE      ok, degraded, failing or idle\n  \
    TCPSTALL_GATE       open or closed; empty without a gate\n  \
    TCPSTALL_PREVIOUS   the state, or the gate, before that; empty in the beginning\n  \
    TCPSTALL_CAUSE      why it is bad; empty when it is not\n  \
    TCPSTALL_SCOPE      upstream or common; empty when it is not bad\n  \
    TCPSTALL_INTERFACE  interface of the first next hop; empty when there is none\n  \
    TCPSTALL_NEXTHOP    gateway of the first next hop; empty when it is on the link\n  \
    TCPSTALL_SOCKET     where commands such as `tcpstall explain` find the daemon\n\
    and all that `tcpstall status` says of the upstream, as JSON, on its standard input.")]
pub(super) struct Args {
    /// Configuration [default: /etc/tcpstall/tcpstall.toml]
    #[arg(long, value_name = "FILE", env = daemon::CONFIG_VARIABLE, hide_env_values = true)]
    config: Option<PathBuf>,
    /// Only say what would be run
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(args: &Args, common: &Common) -> anyhow::Result<ExitCode> {
    let source = Source {
        file: args.config.clone(),
        overrides: Overrides {
            socket: common.socket.clone(),
            ..Overrides::default()
        },
    };
    let config = source.load()?;
    if config.hooks.is_empty() {
        bail!(
            "{} has no [[hook]]: there is nothing to run; `man tcpstall.toml` has an example",
            source.path().display()
        );
    }
    daemon::log_to_stderr("info")?;
    client::runtime()?.block_on(async {
        let hangup = signal(SignalKind::hangup())?;
        let stop = Stop::listen()?;
        // Without a manager nobody is told.
        let _ = sd_notify::notify(&[NotifyState::Ready]);
        Runner::new(config, args.dry_run)
            .turn(&source, hangup, stop)
            .await;
        Ok(ExitCode::SUCCESS)
    })
}

/// That this is to end.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn said(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// A hook that has ended.
struct Ended {
    hook: String,
    on: Occasion,
    upstream: String,
    end: End,
    took: Duration,
}

/// Everything that the loop holds.
struct Runner {
    socket: PathBuf,
    dry: bool,
    plan: Plan,
    running: JoinSet<Ended>,
    /// Why the daemon cannot be asked, as it was said.
    complaint: Option<String>,
    /// How hooks have ended, for the daemon to count.
    uncounted: VecDeque<api::Ran>,
}

impl Runner {
    fn new(config: Config, dry: bool) -> Self {
        tracing::info!("{}", summary(&config.hooks));
        Self {
            socket: config.socket,
            dry,
            plan: Plan::new(config.hooks),
            running: JoinSet::new(),
            complaint: None,
            uncounted: VecDeque::new(),
        }
    }

    async fn turn(&mut self, source: &Source, mut hangup: Signal, mut stop: Stop) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.look().await,
                Some(ended) = self.running.join_next() => {
                    if let Ok(ended) = ended {
                        self.ended(ended).await;
                    }
                    // There may be more to do for that upstream.
                    ticks.reset_immediately();
                }
                _ = hangup.recv() => self.reload(source),
                () = stop.said() => break,
            }
        }
        if !self.running.is_empty() {
            tracing::info!("stopping when {} have ended", self.running.len());
        }
        while !self.running.is_empty() {
            tokio::select! {
                Some(ended) = self.running.join_next() => {
                    if let Ok(ended) = ended {
                        self.ended(ended).await;
                    }
                }
                () = stop.said() => break,
            }
        }
        // What still runs is told to end.
        self.running.abort_all();
        while self.running.join_next().await.is_some() {}
    }

    async fn look(&mut self) {
        let status = match client::hooks(&self.socket, self.dry).await {
            Ok(status) => status,
            Err(error) => return self.complain(&format!("{error:#}")),
        };
        if self.complaint.take().is_some() {
            tracing::info!("the daemon answers again");
        }
        self.count().await;
        let seen = seen(&status);
        for due in self.plan.due(clock::now(), &seen) {
            let told = status.upstreams.iter().find(|it| it.name == due.upstream);
            if let Some(upstream) = told {
                self.start(&due, &status, upstream);
            }
        }
    }

    /// Once, and not every second.
    fn complain(&mut self, why: &str) {
        if self.complaint.as_deref() != Some(why) {
            tracing::warn!("{why}");
            self.complaint = Some(why.to_owned());
        }
    }

    fn start(&mut self, due: &Due, status: &Status, upstream: &api::Upstream) {
        let (hook, on) = (due.hook.name.clone(), due.hook.on);
        let what = occasion(due);
        if self.dry {
            let command = due.hook.command.join(" ");
            tracing::info!("{what}: would run {}", clean(&command));
            self.plan.ended(clock::now(), (&due.upstream, on), true);
            return;
        }
        tracing::info!("{what}: runs");
        let program = program(due, status, upstream, &self.socket);
        let upstream = due.upstream.clone();
        self.running.spawn(async move {
            let begun = clock::now();
            let end = program::run(program).await;
            Ended {
                hook,
                on,
                upstream,
                end,
                took: clock::now().since(begun),
            }
        });
    }

    async fn ended(&mut self, ended: Ended) {
        let Ended {
            hook,
            on,
            upstream,
            end,
            took,
        } = ended;
        let outcome = end.outcome();
        let well = outcome == HookOutcome::Succeeded;
        let again = self.plan.ended(clock::now(), (&upstream, on), well);
        let who = format!("hook {} for {}", clean(&hook), clean(&upstream));
        match again {
            _ if well => tracing::info!("{who} {end} after {:.1} s", took.as_secs_f64()),
            Some(wait) => tracing::error!(
                "{who} {end}; it is run again in {} s if the gate stays as it is",
                wait.as_secs()
            ),
            None => tracing::error!("{who} {end}; it is not run again for that"),
        }
        self.uncounted.push_back(api::Ran { hook, outcome });
        while self.uncounted.len() > UNCOUNTED {
            self.uncounted.pop_front();
        }
        self.count().await;
    }

    /// Tells the daemon what has ended, now or when it answers again.
    async fn count(&mut self) {
        while let Some(ran) = self.uncounted.front() {
            match client::ran(&self.socket, ran).await {
                Ok(None) => {}
                Ok(Some(refused)) => tracing::warn!("it is not counted: {refused}"),
                // Whoever asks next will hear of it.
                Err(_) => return,
            }
            self.uncounted.pop_front();
        }
    }

    fn reload(&mut self, source: &Source) {
        match source.load() {
            Ok(config) => {
                tracing::info!("configuration reloaded; {}", summary(&config.hooks));
                self.socket = config.socket;
                self.plan.configure(config.hooks);
            }
            Err(error) => tracing::error!("the old configuration stays in force: {error}"),
        }
    }
}

fn seen(status: &Status) -> BTreeMap<String, Seen> {
    let looked_for = status.observed_at.duration_since(status.daemon.started_at);
    let looked_for = Duration::try_from(looked_for).unwrap_or_default();
    let one = |it: &api::Upstream| {
        let seen = Seen {
            state: it.state,
            gate: it.gate,
            looked_for,
        };
        (it.name.clone(), seen)
    };
    status.upstreams.iter().map(one).collect()
}

fn summary(hooks: &[Hook]) -> String {
    if hooks.is_empty() {
        return "there are no hooks".to_owned();
    }
    let names: Vec<_> = hooks.iter().map(|it| clean(&it.name)).collect();
    format!("hooks: {}", names.join(", "))
}

/// "hook route for provider-b: gate closed, was open".
fn occasion(due: &Due) -> String {
    let before = due
        .previous
        .map_or(String::new(), |it| format!(", was {}", it.word()));
    format!(
        "hook {} for {}: {} {}{before}",
        clean(&due.hook.name),
        clean(&due.upstream),
        due.hook.on,
        due.level.word(),
    )
}

fn program(due: &Due, status: &Status, upstream: &api::Upstream, socket: &Path) -> Program {
    let hook = &due.hook;
    let previous = due.previous.map(Level::word);
    let word = |it: Option<&'static str>| it.unwrap_or_default().to_owned();
    let variables = vec![
        ("TCPSTALL_HOOK", clean(&hook.name)),
        ("TCPSTALL_ON", hook.on.word().to_owned()),
        ("TCPSTALL_UPSTREAM", clean(&upstream.name)),
        ("TCPSTALL_STATE", upstream.state.word().to_owned()),
        ("TCPSTALL_GATE", word(upstream.gate.map(|it| it.word()))),
        ("TCPSTALL_PREVIOUS", word(previous)),
        ("TCPSTALL_CAUSE", word(upstream.cause.map(|it| it.word()))),
        ("TCPSTALL_SCOPE", word(upstream.scope.map(|it| it.word()))),
        (
            "TCPSTALL_INTERFACE",
            clean(upstream.interface.as_deref().unwrap_or_default()),
        ),
        (
            "TCPSTALL_NEXTHOP",
            upstream.gateway.map_or(String::new(), |it| it.to_string()),
        ),
        ("TCPSTALL_SOCKET", socket.display().to_string()),
    ];
    let told = api::Told {
        schema: SCHEMA,
        host: status.host.clone(),
        observed_at: status.observed_at,
        hook: hook.name.clone(),
        on: hook.on,
        previous: previous.map(str::to_owned),
        upstream: upstream.clone(),
    };
    Program {
        command: hook.command.clone(),
        variables,
        // Plain data, which can always be written down.
        input: output::line(&told).unwrap_or_default(),
        limit: hook.timeout,
    }
}

#[cfg(test)]
mod tests;

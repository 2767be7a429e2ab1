//! What else can be asked on a host whose upstream has gone bad: what that costs, and what it answers.

use std::{
    cell::Cell,
    collections::BTreeSet,
    fs::{self, File},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use aya::{
    programs::loaded_programs,
    sys::{Stats, enable_stats},
};
use clap::Args;
use lab::{Daemon, Direction, Fault, Lab, daemon::Starter, signal};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::NamedTempFile;

use crate::{
    crowd::{Crowd, Habit},
    report::{Sheet, machine, progress, progress_done},
    sweep::ss,
    usage::process_time,
};

/// Where the figures are written.
const PART: &str = "<!-- generated: cargo xtask bench peers --write -->";
/// The upstream that breaks.
const BROKEN: usize = 1;
/// Some compile their programs when they start.
const SETTLE: Duration = Duration::from_secs(8);
/// Who does not end when asked is killed after this.
const GRACE: Duration = Duration::from_secs(10);
/// From the repair until everything flows again: timers have backed off.
const CALM: Duration = Duration::from_secs(45);
/// The walks of the daemon are part of its own processor time.
const WALKS: [&str; 4] = ["sweep", "sweep_others", "holders", "descriptors"];
/// Most of them ask the kernel's tracing for its events, which is not mounted everywhere: in sight of the tool
/// alone it is.
const TRACED: &str = "for it in tracefs:/sys/kernel/tracing debugfs:/sys/kernel/debug; do \
    mountpoint -q ${it#*:} || mount -t ${it%%:*} nodev ${it#*:}; done; exec \"$@\"";
/// More of a line is not shown.
const WIDTH: usize = 150;

/// Options of `peers`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many connections, over three upstreams
    #[arg(long, default_value_t = 6000)]
    connections: u32,
    /// How long one of the upstreams is broken while each looks, in seconds
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    /// Write the figures into docs/performance.md
    #[arg(long)]
    write: bool,
}

/// Something that people run.
struct Peer {
    name: &'static str,
    command: &'static [&'static str],
    /// What it says of *which upstream*, *why* and *since when*.
    answers: [&'static str; 3],
}

const PEERS: &[Peer] = &[
    Peer {
        name: "bpftrace, one line",
        command: &[
            "bpftrace",
            "-e",
            "tracepoint:tcp:tcp_retransmit_skb { @[ntop(args->daddr)] = count(); } \
             interval:s:1 { print(@); clear(@); }",
        ],
        answers: ["by destination", "no", "no"],
    },
    Peer {
        name: "tcpretrans.bt (bpftrace)",
        command: &["tcpretrans.bt"],
        answers: ["by destination", "no", "no"],
    },
    Peer {
        name: "tcpretrans (bcc)",
        command: &["tcpretrans-bpfcc"],
        answers: ["by destination", "no", "no"],
    },
    Peer {
        name: "tcpdrop (bcc)",
        command: &["tcpdrop-bpfcc"],
        answers: ["no", "drops of this host", "no"],
    },
    Peer {
        name: "tcprtt (libbpf-tools)",
        command: &["tcprtt", "-i", "1"],
        answers: ["no", "no", "no"],
    },
    Peer {
        name: "tcptop (bcc)",
        command: &["tcptop-bpfcc", "-C", "1"],
        answers: ["no", "no", "no"],
    },
];

/// What one of them took and said.
struct Outcome {
    /// Of its own, per second.
    process: f64,
    /// Of its programs in the kernel, per second.
    programs: f64,
    lines: usize,
    /// The last thing it said.
    said: String,
}

/// Measures. There is no limit to miss.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let lab = Lab::start(3)?;
    let _crowd = Crowd::open(&lab, 0..3, options.connections, Habit::Report)?;
    let _counting = enable_stats(Stats::RunTime).context("the kernel does not measure")?;
    let mut sheet = Sheet::default();
    sheet.line(&format!(
        "peers: {} connections that say a little each second, one of three upstreams loses everything for \
         {} s;\nprocessor time of one core, of the process and of its programs in the kernel; {}\n\n\
         {:<28}{:>9}{:>10}{:>8}   {:<20}{:<22}since when",
        options.connections,
        options.seconds,
        machine(),
        "",
        "process",
        "programs",
        "lines",
        "which upstream",
        "why",
    ));
    let mut said = Vec::new();
    let mut show = |name: &str, outcome: Result<Outcome>, answers: [&str; 3]| {
        let cells = match outcome {
            Ok(it) => {
                said.push((name.to_owned(), it.said));
                let share = |it: f64| format!("{:.3} %", it * 100.0);
                format!(
                    "{:>9}{:>10}{:>8}   {:<20}{:<22}{}",
                    share(it.process),
                    share(it.programs),
                    it.lines,
                    answers[0],
                    answers[1],
                    answers[2]
                )
            }
            Err(error) => format!("   {error:#}"),
        };
        sheet.line(&format!("{name:<28}{cells}"));
    };
    show(
        "tcpstall daemon",
        daemon(&lab, options),
        ["yes", "yes", "yes"],
    );
    show(
        "ss -tinH, each second",
        polls(&lab, options),
        ["by destination", "no", "of each connection"],
    );
    for peer in PEERS {
        signal::check()?;
        show(peer.name, tool(&lab, options, peer), peer.answers);
    }
    progress_done();
    signal::check()?;
    sheet.line("\nThe last that each of them said:");
    for (name, words) in said {
        sheet.line(&format!("\n{name}\n{words}"));
    }
    sheet.finish(PART, options.write)
}

/// What is asked while the upstream is broken.
struct Questions<'a, T> {
    /// Each second.
    each: &'a mut dyn FnMut() -> Result<()>,
    /// Processor time so far.
    used: &'a dyn Fn() -> Result<Duration>,
    /// At the end.
    last: &'a dyn Fn() -> Result<T>,
}

/// Breaks the upstream for a while; what was used meanwhile, for each second of it, and the last answer.
/// `before` are programs that others have in the kernel.
fn while_broken<T>(
    lab: &Lab,
    options: &Options,
    (name, before): (&str, &BTreeSet<u32>),
    questions: Questions<'_, T>,
) -> Result<(f64, f64, T)> {
    let begin = lab.break_(BROKEN, Fault::Blackhole(Direction::Both))?;
    let end = Duration::from_secs(options.seconds.into());
    let mut measure = || {
        let (spent, in_kernel) = ((questions.used)()?, programs_time(before)?);
        while begin.elapsed() < end {
            progress(&format!("{name}: {} s", begin.elapsed().as_secs()));
            signal::sleep(Duration::from_secs(1))?;
            (questions.each)()?;
        }
        let elapsed = begin.elapsed().as_secs_f64();
        let spent = (questions.used)()?.saturating_sub(spent);
        let in_kernel = programs_time(before)?.saturating_sub(in_kernel);
        let share = |time: Duration| time.as_secs_f64() / elapsed;
        Ok((share(spent), share(in_kernel), (questions.last)()?))
    };
    let measured = measure();
    // The next one meets the same, whatever happened to this one.
    lab.repair(BROKEN)?;
    progress(&format!("{name}: until everything flows again"));
    signal::sleep(CALM)?;
    measured
}

fn daemon(lab: &Lab, options: &Options) -> Result<Outcome> {
    let before = programs()?;
    let daemon = Daemon::start(lab)?;
    signal::sleep(SETTLE)?;
    let questions = Questions {
        each: &mut || Ok(()),
        used: &|| process_time(daemon.pid()),
        last: &|| daemon.cli_ok(&["status"]),
    };
    let measured = while_broken(lab, options, ("tcpstall", &before), questions);
    daemon.stop()?;
    let (process, programs, said) = measured?;
    Ok(Outcome {
        process,
        programs,
        lines: said.lines().count(),
        said,
    })
}

/// Asks each second.
fn polls(lab: &Lab, options: &Options) -> Result<Outcome> {
    let sum = Cell::new(Duration::ZERO);
    let questions = Questions {
        each: &mut || {
            sum.set(sum.get() + lab.host.run(ss)??.0);
            Ok(())
        },
        used: &|| Ok(sum.get()),
        last: &|| {
            let output = lab.host.output("ss", &["-tinH"])?;
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        },
    };
    let before = programs()?;
    let (process, programs, said) = while_broken(lab, options, ("ss", &before), questions)?;
    Ok(Outcome {
        process,
        programs,
        lines: said.lines().count(),
        said: last(&said, 2),
    })
}

fn tool(lab: &Lab, options: &Options, peer: &Peer) -> Result<Outcome> {
    let before = programs()?;
    let output = NamedTempFile::new()?;
    let mut child = Running::start(lab, peer, output.reopen()?)?;
    signal::sleep(SETTLE)?;
    child.is_up(&output)?;
    let pid = child.child.id();
    let questions = Questions {
        each: &mut || Ok(()),
        used: &|| process_time(pid),
        last: &|| Ok(()),
    };
    let (process, programs, ()) = while_broken(lab, options, (peer.name, &before), questions)?;
    child.is_up(&output)?;
    drop(child);
    let said = String::from_utf8_lossy(&fs::read(output.path())?).into_owned();
    Ok(Outcome {
        process,
        programs,
        lines: said.lines().count(),
        said: last(&said, 3),
    })
}

/// The last lines with words, cut to a width.
fn last(text: &str, count: usize) -> String {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let mut lines: Vec<String> = lines.rev().take(count).map(cut).collect();
    lines.reverse();
    lines.join("\n")
}

fn cut(line: &str) -> String {
    line.chars().take(WIDTH).collect()
}

/// A process that is ended when this is dropped, and with this one.
struct Running {
    child: Child,
    _starter: Starter,
}

impl Running {
    fn start(lab: &Lab, peer: &Peer, output: File) -> Result<Self> {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "INT", "--", "unshare", "--mount"])
            .args(["--propagation", "private", "sh", "-c", TRACED, "sh"])
            .args(peer.command)
            .env("PYTHONUNBUFFERED", "1")
            .stdin(Stdio::null())
            .stderr(output.try_clone()?)
            .stdout(output);
        let (child, starter) = Starter::start(&lab.host, command)?;
        Ok(Self {
            child: child?,
            _starter: starter,
        })
    }

    /// Fails with its last words when it has ended.
    fn is_up(&mut self, output: &NamedTempFile) -> Result<()> {
        if self.child.try_wait()?.is_none() {
            return Ok(());
        }
        let said = fs::read(output.path())?;
        let said = String::from_utf8_lossy(&said);
        let mut errors = said.lines().filter(|it| it.contains("ERROR"));
        let why = errors.next_back().map_or_else(|| last(&said, 1), cut);
        anyhow::bail!("does not run here: {why}")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let asked = kill_process(Pid::from_child(&self.child), Signal::INT);
        let begin = Instant::now();
        while asked.is_ok() && begin.elapsed() < GRACE {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Programs in the kernel now.
fn programs() -> Result<BTreeSet<u32>> {
    loaded_programs().map(|it| Ok(it?.id())).collect()
}

/// How long all others have run so far.
fn programs_time(before: &BTreeSet<u32>) -> Result<Duration> {
    let mut sum = Duration::ZERO;
    for program in loaded_programs() {
        let program = program?;
        let walk = program.name_as_str().is_some_and(|it| WALKS.contains(&it));
        if !walk && !before.contains(&program.id()) {
            sum += program.run_time();
        }
    }
    Ok(sum)
}

//! The detector under test: started inside the host, asked as a user asks, stopped in order.

use std::{
    env, fs,
    io::{self, BufRead},
    net::Ipv4Addr,
    os::unix::{fs::PermissionsExt as _, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    http::{self, Answer},
    namespace::Namespace,
    network::Lab,
    signal,
    status::{Stall, Status},
};

/// Port of the metrics page; every laboratory has a loopback of its own.
pub const METRICS_PORT: u16 = 19293;
/// How long a start may take: the programs are verified by the kernel, on a busy machine.
const START: Duration = Duration::from_secs(20);
/// The same on a machine that was made for the laboratory, and is emulated.
const START_EMULATED: Duration = Duration::from_secs(60);
/// There a sweep takes ten times as long, and by default would be made a tenth as often.
const SWEEPS_EMULATED: &str = "\n[detect]\nsweep_budget = 0.1\n";
/// How long a stop may take.
const STOP: Duration = Duration::from_secs(10);
/// How long a command may take.
const COMMAND: Duration = Duration::from_secs(30);
/// From look to look while waiting.
const POLL: Duration = Duration::from_millis(50);

/// How upstreams are named in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Naming {
    /// By their IPv4 gateway.
    #[default]
    Gateway,
    /// By their interface, which covers both families.
    Interface,
    /// Not at all: the detector finds names itself.
    None,
}

/// How to start it.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How upstreams are named.
    pub naming: Naming,
    /// Further lines for the top of the configuration.
    pub config: String,
    /// Socket to use; `None` for one of its own.
    pub socket: Option<PathBuf>,
    /// Folder for what outlives a restart; `None` for one of its own.
    pub state_dir: Option<PathBuf>,
    /// Metrics port, when not [`METRICS_PORT`].
    pub metrics_port: Option<u16>,
    /// Address that the metrics page listens on, when not the loopback.
    pub metrics_host: Option<Ipv4Addr>,
    /// Variables for its environment.
    pub environment: Vec<(&'static str, PathBuf)>,
    /// Runs as a user without a name, with these capabilities and no other, as `setpriv` takes them
    /// (`+cap_39`); as root without.
    pub rights: Option<&'static str>,
    /// Further arguments.
    pub arguments: Vec<&'static str>,
}

impl Options {
    /// Upstreams named by interface.
    pub fn by_interface() -> Self {
        Self {
            naming: Naming::Interface,
            ..Self::default()
        }
    }
}

/// The text of a configuration that names the upstreams of a laboratory.
pub fn config(lab: &Lab, options: &Options) -> String {
    let mut text = options.config.clone();
    for upstream in &lab.upstreams {
        let by = match options.naming {
            Naming::Gateway => format!("gateway = \"{}\"", upstream.gateway),
            Naming::Interface => format!("interface = \"{}\"", upstream.interface),
            Naming::None => continue,
        };
        text += &format!("\n[[upstream]]\nname = \"{}\"\n{by}\n", upstream.name);
    }
    text
}

/// Whether this is a machine of the laboratory, whose processor is emulated.
pub fn emulated() -> bool {
    env::var_os("TCPSTALL_LAB_MACHINE").is_some_and(|value| value == "1")
}

/// A running detector.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    host: Namespace,
    folder: TempDir,
    socket: PathBuf,
    metrics_port: u16,
    // Last: the detector is told to end when this one does.
    _starter: Starter,
}

impl Daemon {
    /// Starts it inside the host of `lab`, upstreams named by gateway; returns when it answers.
    pub fn start(lab: &Lab) -> Result<Self> {
        Self::start_with(lab, &Options::default())
    }

    /// Starts it in some other way; returns when it answers.
    pub fn start_with(lab: &Lab, options: &Options) -> Result<Self> {
        let mut daemon = Self::launch(lab, options)?;
        let limit = if emulated() { START_EMULATED } else { START };
        let end = Instant::now() + limit;
        loop {
            signal::check()?;
            if let Some(status) = daemon.child.try_wait()? {
                bail!(
                    "the detector ended at its start with {status}:\n{}",
                    daemon.log()
                );
            }
            match daemon.status() {
                Ok(_) => return Ok(daemon),
                Err(error) if Instant::now() > end => {
                    return Err(error.context(format!(
                        "the detector does not answer {limit:?} after its start; it said:\n{}",
                        daemon.log()
                    )));
                }
                Err(_) => thread::sleep(POLL),
            }
        }
    }

    /// Starts it without waiting for anything.
    pub fn launch(lab: &Lab, options: &Options) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("tcpstall-lab-").tempdir()?;
        let binary = match options.rights {
            Some(_) => for_everybody(folder.path())?,
            None => binary()?,
        };
        let file = folder.path().join("tcpstall.toml");
        let mut text = config(lab, options);
        if emulated() && !text.contains("[detect]") {
            text += SWEEPS_EMULATED;
        }
        fs::write(&file, text)?;
        let socket = options
            .socket
            .clone()
            .unwrap_or_else(|| folder.path().join("tcpstall.sock"));
        let state_dir = options
            .state_dir
            .clone()
            .unwrap_or_else(|| folder.path().join("state"));
        let metrics_port = options.metrics_port.unwrap_or(METRICS_PORT);
        let metrics_host = options.metrics_host.unwrap_or(Ipv4Addr::LOCALHOST);
        let log = fs::File::create(folder.path().join("log"))?;
        let mut command = Command::new("setpriv");
        if let Some(rights) = options.rights {
            command
                .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
                .arg(format!("--inh-caps=-all,{rights}"))
                .arg(format!("--ambient-caps=-all,{rights}"));
        }
        command
            // However this process ends, the detector is told to end as well.
            .args(["--pdeathsig", "TERM", "--"])
            .arg(&binary)
            .arg("daemon")
            .arg("--config")
            .arg(file)
            .arg("--socket")
            .arg(&socket)
            .arg("--state-dir")
            .arg(state_dir)
            .arg("--metrics-address")
            .arg(format!("{metrics_host}:{metrics_port}"))
            .args(&options.arguments)
            .envs(options.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C on the terminal is for the laboratory, which then stops the detector itself.
            .process_group(0);
        let (child, starter) = Starter::start(&lab.host, command)?;
        let child = child.with_context(|| format!("cannot start {}", binary.display()))?;
        let host = Namespace::open(lab.host.name())?;
        Ok(Self {
            child,
            host,
            folder,
            socket,
            metrics_port,
            _starter: starter,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Its folder, with everything that it may write.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What failover programs read of an upstream; `None` without a file.
    pub fn gate(&self, upstream: &str) -> Option<String> {
        let folder = self.socket.parent()?.join("gate");
        fs::read_to_string(folder.join(upstream)).ok()
    }

    /// Its configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.folder.path().join("tcpstall.toml")
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// `GET /v1/status`.
    pub fn status(&self) -> Result<Status> {
        let answer = self.get("/v1/status")?;
        serde_json::from_str(&answer.body).with_context(|| format!("not a status: {}", answer.body))
    }

    /// Stalled and suspect connections, oldest first, as the command shows them.
    pub fn stalls(&self, filters: &[&str]) -> Result<Vec<Stall>> {
        let text = self.cli_ok(&[&["stalls", "-o", "json"], filters].concat())?;
        serde_json::from_str(&text).with_context(|| format!("not a list of stalls: {text}"))
    }

    /// Anything on the socket.
    pub fn get(&self, path: &str) -> Result<Answer> {
        http::get_unix(&self.socket, path)
    }

    /// The metrics page.
    pub fn metrics(&self) -> Result<String> {
        let answer = self
            .host
            .run(|| http::get_local(self.metrics_port, "/metrics"))??;
        ensure!(
            answer.code == 200,
            "the metrics page was answered with {}",
            answer.code
        );
        Ok(answer.body)
    }

    /// The value of one series of the metrics page, written as it is there.
    pub fn metric(&self, series: &str) -> Result<Option<f64>> {
        let page = self.metrics()?;
        let value = page
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value
            .map(|value| value.parse().with_context(|| format!("{series} {value}")))
            .transpose()
    }

    /// Runs a command of the program inside the host, against this detector.
    pub fn cli(&self, arguments: &[&str]) -> Result<Output> {
        self.cli_as(arguments, Colour::No)
    }

    /// The same, with or without colours.
    pub fn cli_as(&self, arguments: &[&str], colour: Colour) -> Result<Output> {
        let socket = self
            .socket
            .to_str()
            .context("the socket's path is no text")?;
        run_as(
            &self.host,
            &[arguments, &["--socket", socket]].concat(),
            colour,
        )
    }

    /// The same; it must succeed, and gives what went to standard output.
    pub fn cli_ok(&self, arguments: &[&str]) -> Result<String> {
        let output = self.cli(arguments)?;
        ensure!(
            output.status.success(),
            "`tcpstall {}` ended with {}: {}",
            arguments.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Waits until `holds`; fails after `limit` with what it was waiting for and what it saw.
    pub fn wait_until(
        &self,
        limit: Duration,
        what: &str,
        holds: impl Fn(&Status) -> bool,
    ) -> Result<Status> {
        let end = Instant::now() + limit;
        loop {
            signal::check()?;
            let status = self.status()?;
            if holds(&status) {
                return Ok(status);
            }
            if Instant::now() > end {
                bail!(
                    "{what}: not within {limit:?}.\nAt the end: {}\nIt said:\n{}",
                    status.summary(),
                    tail(&self.log())
                );
            }
            thread::sleep(POLL);
        }
    }

    /// Looks for `duration` and fails as soon as it does not `hold`.
    pub fn hold(
        &self,
        duration: Duration,
        what: &str,
        holds: impl Fn(&Status) -> bool,
    ) -> Result<()> {
        let begin = Instant::now();
        while begin.elapsed() < duration {
            signal::check()?;
            let status = self.status()?;
            ensure!(
                holds(&status),
                "{what}: no longer after {:.1?}.\nSeen: {}\nIt said:\n{}\nIts oldest stalls:\n{}",
                begin.elapsed(),
                status.summary(),
                tail(&self.log()),
                self.oldest_stalls()
            );
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// What a person would ask next.
    pub fn oldest_stalls(&self) -> String {
        let asked = self.cli_ok(&["stalls", "-o", "jsonl", "--limit", "50"]);
        asked.unwrap_or_else(|error| format!("{error:#}"))
    }

    /// Follows the stream of events; each comes with the time at which it arrived.
    pub fn events(&self) -> Result<mpsc::Receiver<(Instant, Value)>> {
        let reader = http::stream_unix(&self.socket, "/v1/events")?;
        let (send, receive) = mpsc::channel();
        thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                let Some(data) = line.strip_prefix("data:") else {
                    continue;
                };
                let Ok(event) = serde_json::from_str(data.trim()) else {
                    continue;
                };
                if send.send((Instant::now(), event)).is_err() {
                    return;
                }
            }
        });
        Ok(receive)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).with_context(|| format!("cannot signal process {pid:?}"))
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(
                Instant::now() < end,
                "the detector has not ended after {limit:?}"
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Stops it as a service manager does; it must end well and take its socket with it.
    pub fn stop(mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let status = self.wait(STOP)?;
        ensure!(
            status.success(),
            "stopped with {status}; it said:\n{}",
            tail(&self.log())
        );
        ensure!(
            !self.socket.exists(),
            "the socket {} is still there",
            self.socket.display()
        );
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.signal(Signal::TERM);
            if self.wait(STOP).is_err() {
                eprintln!("laboratory: the detector ignored SIGTERM for {STOP:?} and was killed");
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
        }
    }
}

/// The thread that has started a program, for as long as the program is to run: the kernel takes
/// the end of that thread for the end of the parent.
#[derive(Debug)]
pub struct Starter {
    stay: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Starter {
    /// Starts a program on a thread of its own inside.
    pub fn start(inside: &Namespace, mut command: Command) -> Result<(io::Result<Child>, Self)> {
        let (started, is_started) = mpsc::channel();
        let (stay, go) = mpsc::channel();
        let thread = inside.spawn("lab-starter", move || {
            let _ = started.send(command.spawn());
            // Until the other end is dropped.
            let _ = go.recv();
        })?;
        let child = is_started
            .recv()
            .with_context(|| format!("cannot enter {}", inside.name()))?;
        Ok((
            child,
            Self {
                stay: Some(stay),
                thread: Some(thread),
            },
        ))
    }
}

impl Drop for Starter {
    fn drop(&mut self) {
        self.stay.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Whether a command's output is to be coloured though it goes into a pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// As the program decides: into a pipe it must not.
    No,
    /// Yes, since it is shown on a terminal after all.
    Yes,
}

/// Runs a command of the program inside a namespace; it is ended when it takes too long.
pub fn run(inside: &Namespace, arguments: &[&str]) -> Result<Output> {
    run_as(inside, arguments, Colour::No)
}

fn run_as(inside: &Namespace, arguments: &[&str], colour: Colour) -> Result<Output> {
    let mut command = Command::new(binary()?);
    if colour == Colour::Yes {
        command.env("CLICOLOR_FORCE", "1");
    }
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = inside
        .run(|| command.spawn())?
        .context("cannot run tcpstall")?;
    let pid = Pid::from_child(&child);
    let (done, is_done) = mpsc::channel::<()>();
    let timer = thread::spawn(move || {
        if is_done.recv_timeout(COMMAND) == Err(mpsc::RecvTimeoutError::Timeout) {
            let _ = kill_process(pid, Signal::KILL);
        }
    });
    let output = child.wait_with_output();
    drop(done);
    let _ = timer.join();
    output.with_context(|| format!("`tcpstall {}`", arguments.join(" ")))
}

/// The program under test: `TCPSTALL_BIN`, else the one built beside this program, else the
/// release build of the workspace.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = env::var_os("TCPSTALL_BIN") {
        let path = PathBuf::from(path);
        ensure!(
            path.exists(),
            "TCPSTALL_BIN names {}, which does not exist",
            path.display()
        );
        return Ok(path);
    }
    let beside = env::current_exe()
        .ok()
        .and_then(|exe| Some(exe.parent()?.join("tcpstall")));
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/tcpstall");
    let found = beside.into_iter().chain([built]).find(|path| path.exists());
    found.context("tcpstall is not built: `cargo build --release -p detector`, or set TCPSTALL_BIN")
}

/// A copy of the program that everybody may run, in a folder that everybody may write to.
pub fn for_everybody(folder: &Path) -> Result<PathBuf> {
    let program = folder.join("tcpstall");
    fs::copy(binary()?, &program)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o777))?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    Ok(program)
}

/// The last lines of a log.
fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

//! Prometheus and Alertmanager as operators run them, with the rules that are shipped, on the loopback of
//! a laboratory's host; and somebody who is told.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::mpsc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    http,
    namespace::Namespace,
    program::{Program, find},
    signal,
};

const PROMETHEUS: u16 = 9090;
const ALERTMANAGER: u16 = 9093;
/// Where the shipped configuration of Alertmanager sends its messages.
const WEBHOOK: u16 = 5001;
/// How long a start may take on a busy machine.
const START: Duration = Duration::from_secs(30);
/// How long an answer may take before it is asked for again.
const POLL: Duration = Duration::from_millis(250);

/// The programs, where they are found.
#[derive(Debug, Clone)]
pub struct Tools {
    /// `prometheus`.
    pub prometheus: PathBuf,
    /// `promtool`.
    pub promtool: PathBuf,
    /// `alertmanager`, or as Debian calls it.
    pub alertmanager: PathBuf,
    /// `amtool`.
    pub amtool: PathBuf,
}

impl Tools {
    /// Those of the laboratory, else those of the machine; `None` when one is missing.
    pub fn find() -> Option<Self> {
        Some(Self {
            prometheus: find(&["prometheus"])?,
            promtool: find(&["promtool"])?,
            alertmanager: find(&["prometheus-alertmanager", "alertmanager"])?,
            amtool: find(&["amtool"])?,
        })
    }
}

/// The folder of what is shipped for Prometheus.
pub fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/prometheus")
}

/// A message of Alertmanager, and when it came.
#[derive(Debug, Clone)]
pub struct Message {
    /// When.
    pub at: Instant,
    /// The webhook's JSON.
    pub body: Value,
}

impl Message {
    /// The alerts of it with that name and status (`firing`, `resolved`).
    pub fn alerts(&self, name: &str, status: &str) -> Vec<&Value> {
        let alerts = self.body["alerts"].as_array();
        let fits = |it: &&Value| it["labels"]["alertname"] == name && it["status"] == status;
        alerts.into_iter().flatten().filter(fits).collect()
    }
}

/// A series of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Seconds since 1970, and the value then.
    pub values: Vec<(f64, f64)>,
}

/// The running programs.
#[derive(Debug)]
pub struct Monitoring {
    inside: Namespace,
    prometheus: Program,
    alertmanager: Program,
    webhook: Webhook,
    _folder: TempDir,
}

impl Monitoring {
    /// Starts them inside; Prometheus asks each of `targets` every `interval` seconds.
    pub fn start(
        tools: &Tools,
        inside: &Namespace,
        targets: &[String],
        interval: u32,
    ) -> Result<Self> {
        let inside = Namespace::open(inside.name())?;
        let folder = tempfile::Builder::new().prefix("tcpstall-lab-").tempdir()?;
        let path = folder.path();
        let webhook = Webhook::start(&inside)?;
        let shown = |file: PathBuf| file.display().to_string();
        let arguments = [
            format!(
                "--config.file={}",
                shown(shipped().join("alertmanager.yml"))
            ),
            format!("--storage.path={}", shown(path.join("alertmanager"))),
            format!(
                "--web.listen-address={}:{ALERTMANAGER}",
                Ipv4Addr::LOCALHOST
            ),
            // Alone: nobody to agree with.
            "--cluster.listen-address=".to_owned(),
        ];
        let (program, arguments) = at_home(&tools.alertmanager, &arguments)?;
        let log = path.join("alertmanager.log");
        let mut alertmanager = Program::start(&inside, &program, &arguments, log)?;
        alertmanager.wait_until(START, || is_ready(&inside, ALERTMANAGER))?;
        let file = path.join("prometheus.yml");
        fs::write(&file, configuration(targets, interval)?)?;
        let mut prometheus = Program::start(
            &inside,
            &tools.prometheus,
            &[
                format!("--config.file={}", shown(file)),
                format!("--storage.tsdb.path={}", shown(path.join("prometheus"))),
                format!("--web.listen-address={}:{PROMETHEUS}", Ipv4Addr::LOCALHOST),
            ],
            path.join("prometheus.log"),
        )?;
        prometheus.wait_until(START, || is_ready(&inside, PROMETHEUS))?;
        Ok(Self {
            inside,
            prometheus,
            alertmanager,
            webhook,
            _folder: folder,
        })
    }

    /// The address of Prometheus, inside.
    pub fn url(&self) -> String {
        format!("http://{}:{PROMETHEUS}", Ipv4Addr::LOCALHOST)
    }

    /// The `data` of an answer of Prometheus' API to `path`, such as `/api/v1/alerts`.
    pub fn ask(&self, path: &str) -> Result<Value> {
        let answer = self.inside.run(|| http::get_local(PROMETHEUS, path))??;
        let mut body: Value = serde_json::from_str(&answer.body)
            .with_context(|| format!("{path} is answered with {}", answer.body))?;
        ensure!(
            body["status"] == "success",
            "{path} is answered with {body}"
        );
        Ok(body["data"].take())
    }

    /// The result of an expression at this moment.
    pub fn query(&self, expression: &str) -> Result<Vec<Value>> {
        let path = format!("/api/v1/query?query={}", encoded(expression));
        let mut data = self.ask(&path)?;
        match data["result"].take() {
            Value::Array(result) => Ok(result),
            other => bail!("{expression} gives {other}"),
        }
    }

    /// The series of an expression at this moment.
    pub fn instant(&self, expression: &str) -> Result<Vec<Series>> {
        let result = self.query(expression)?;
        Ok(result
            .iter()
            .map(|it| series(it, &[&it["value"]]))
            .collect())
    }

    /// The series of an expression over a span of time, a value per second.
    pub fn range(&self, expression: &str, (start, end): (f64, f64)) -> Result<Vec<Series>> {
        let path = format!(
            "/api/v1/query_range?query={}&start={start}&end={end}&step=1",
            encoded(expression)
        );
        let data = self.ask(&path)?;
        let result = data["result"].as_array().cloned().unwrap_or_default();
        let values = |it: &Value| it["values"].as_array().cloned().unwrap_or_default();
        Ok(result
            .iter()
            .map(|it| series(it, &values(it).iter().collect::<Vec<_>>()))
            .collect())
    }

    /// Waits until an expression has a result.
    pub fn wait_for(&self, limit: Duration, expression: &str) -> Result<Vec<Value>> {
        let end = Instant::now() + limit;
        loop {
            let result = self.query(expression)?;
            if !result.is_empty() {
                return Ok(result);
            }
            ensure!(
                Instant::now() < end,
                "{expression} has no result after {limit:?}; Prometheus said:\n{}",
                self.prometheus.log()
            );
            signal::sleep(POLL)?;
        }
    }

    /// Names of the alerts that fire.
    pub fn alerts(&self) -> Result<Vec<String>> {
        let data = self.ask("/api/v1/alerts")?;
        let alerts = data["alerts"].as_array().cloned().unwrap_or_default();
        let fire = alerts.iter().filter(|it| it["state"] == "firing");
        let name = |it: &Value| Some(it["labels"]["alertname"].as_str()?.to_owned());
        Ok(fire.filter_map(name).collect())
    }

    /// The next message that has such an alert.
    pub fn told(&self, limit: Duration, name: &str, status: &str) -> Result<Message> {
        let end = Instant::now() + limit;
        loop {
            signal::check()?;
            let left = end.saturating_duration_since(Instant::now());
            match self.webhook.messages.recv_timeout(left.min(POLL)) {
                Ok(message) if !message.alerts(name, status).is_empty() => return Ok(message),
                Ok(_) => {}
                Err(_) if left.is_zero() => bail!(
                    "nobody was told within {limit:?} that {name} is {status}.\n\
                     Prometheus has {:?} and said:\n{}\nAlertmanager said:\n{}",
                    self.alerts(),
                    self.prometheus.log(),
                    self.alertmanager.log()
                ),
                Err(_) => {}
            }
        }
    }

    /// The messages that have come and were not looked at.
    pub fn messages(&self) -> Vec<Message> {
        self.webhook.messages.try_iter().collect()
    }
}

/// Debian's Alertmanager looks for its templates where its package installs them. Where it was unpacked, they
/// are put there in sight of itself alone.
fn at_home(program: &Path, arguments: &[String]) -> Result<(PathBuf, Vec<String>)> {
    let share = program.ancestors().nth(2).map(|it| it.join("share"));
    let elsewhere = share.filter(|it| it.join("prometheus").is_dir() && !it.starts_with("/usr"));
    let Some(share) = elsewhere else {
        return Ok((program.to_owned(), arguments.to_vec()));
    };
    let unshare = find(&["unshare"]).context("unshare of util-linux is missing")?;
    let before = [
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        "mount --bind \"$0\" /usr/share && exec \"$@\"",
    ];
    let before = before.map(str::to_owned).into_iter();
    let paths = [share, program.to_owned()].map(|it| it.display().to_string());
    Ok((
        unshare,
        before
            .chain(paths)
            .chain(arguments.iter().cloned())
            .collect(),
    ))
}

/// `prometheus.yml`: the shipped rules, and the shipped way to scrape with other targets.
fn configuration(targets: &[String], interval: u32) -> Result<String> {
    let scrape = fs::read_to_string(shipped().join("scrape.yml"))?;
    let (head, usual) = scrape
        .split_once("    - targets: ")
        .context("scrape.yml has no target")?;
    ensure!(
        usual.starts_with("[127.0.0.1:19293]") && usual.ends_with("instance: mx1\n"),
        "scrape.yml has another target"
    );
    let each = (1..).zip(targets).map(|(number, target)| {
        let usual = usual.replace("127.0.0.1:19293", target);
        let named = usual.replace("instance: mx1", &format!("instance: mx{number}"));
        format!("    - targets: {named}")
    });
    let scrape = head.to_owned() + &each.collect::<String>();
    let usual = "scrape_interval: 5s";
    ensure!(scrape.contains(usual), "scrape.yml names another interval");
    let scrape = scrape.replace(usual, &format!("scrape_interval: {interval}s"));
    let scrape: String = scrape.lines().map(|line| format!("  {line}\n")).collect();
    Ok(format!(
        "rule_files:\n  - {}\n\
         alerting:\n  alertmanagers:\n    - static_configs:\n        - targets: ['{}:{ALERTMANAGER}']\n\
         scrape_configs:\n{scrape}",
        shipped().join("tcpstall.rules.yml").display(),
        Ipv4Addr::LOCALHOST
    ))
}

/// A series of the API's JSON; `values` are pairs of a time and a number as text.
fn series(it: &Value, values: &[&Value]) -> Series {
    let labels = it["metric"].as_object().into_iter().flatten();
    let value = |it: &&Value| Some((it[0].as_f64()?, it[1].as_str()?.parse().ok()?));
    Series {
        labels: labels
            .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
            .collect(),
        values: values.iter().filter_map(value).collect(),
    }
}

fn is_ready(inside: &Namespace, port: u16) -> bool {
    let asked = inside.run(|| http::get_local(port, "/-/ready"));
    asked.is_ok_and(|answer| answer.is_ok_and(|it| it.code == 200))
}

/// For a query string (RFC 3986 §2.1).
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// Whoever is told: takes messages until it is dropped.
#[derive(Debug)]
struct Webhook {
    messages: mpsc::Receiver<Message>,
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Webhook {
    fn start(inside: &Namespace) -> Result<Self> {
        let (send, messages) = mpsc::channel();
        let (stop, stopped) = mpsc::channel::<()>();
        let listener = inside.run(|| TcpListener::bind((Ipv4Addr::LOCALHOST, WEBHOOK)))??;
        listener.set_nonblocking(true)?;
        let thread = inside.spawn("lab-webhook", move || {
            while stopped.try_recv() != Err(mpsc::TryRecvError::Disconnected) {
                match listener.accept() {
                    // What is no message is none.
                    Ok((stream, _)) => {
                        if let Ok(body) = take(stream) {
                            let at = Instant::now();
                            let _ = send.send(Message { at, body });
                        }
                    }
                    Err(_) => thread::sleep(Duration::from_millis(20)),
                }
            }
        })?;
        Ok(Self {
            messages,
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One request, and its answer.
fn take(stream: TcpStream) -> Result<Value> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(&stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        ensure!(reader.read_line(&mut line)? > 0, "it ends in its headers");
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    (&stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
    Ok(serde_json::from_slice(&body)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_files_become_a_configuration() {
        let text = configuration(&["10.0.0.1:1".to_owned(), "10.0.0.2:1".to_owned()], 7)
            .expect("a configuration");
        for part in [
            "\n  - job_name: tcpstall\n    scrape_interval: 7s\n",
            "      - targets: [10.0.0.1:1]\n        labels:\n          instance: mx1\n",
            "      - targets: [10.0.0.2:1]\n        labels:\n          instance: mx2\n",
            "packaging/prometheus/tcpstall.rules.yml\n",
        ] {
            assert!(text.contains(part), "{part:?} in\n{text}");
        }
    }

    #[test]
    fn expressions_survive_an_address() {
        assert_eq!(encoded(r#"a{b="c d"}"#), "a%7Bb%3D%22c%20d%22%7D");
    }
}

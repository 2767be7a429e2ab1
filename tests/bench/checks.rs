//! What people run instead, against the same upstream: a ping and a TCP connect each second, three
//! failures in a row are an alarm. Monitors are mostly set to ask less often than that.

use std::{
    net::{IpAddr, SocketAddr, TcpStream},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::Result;
use lab::{Lab, namespace::Namespace, server};

/// From one question to the next, and how long an answer may take.
const EVERY: Duration = Duration::from_secs(1);
/// Failures in a row that are an alarm.
const FAILURES: u32 = 3;

/// A check that goes on until it is dropped.
#[derive(Debug)]
pub(crate) struct Check {
    /// When alarms began.
    alarms: Arc<Mutex<Vec<Instant>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Check {
    /// Echo requests to the first destination of an upstream.
    pub(crate) fn ping(lab: &Lab, upstream: usize) -> Result<Self> {
        let address = destination(lab, upstream);
        Self::start(&lab.host, move || {
            let ping = Command::new("ping")
                .args(["-n", "-c", "1", "-W", "1", &address.to_string()])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            ping.is_ok_and(|it| it.success())
        })
    }

    /// Handshakes with it.
    pub(crate) fn connect(lab: &Lab, upstream: usize) -> Result<Self> {
        let address = SocketAddr::new(destination(lab, upstream), server::MESSAGES);
        Self::start(&lab.host, move || {
            TcpStream::connect_timeout(&address, EVERY).is_ok()
        })
    }

    fn start(host: &Namespace, works: impl Fn() -> bool + Send + 'static) -> Result<Self> {
        let alarms = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, stopped) = (Arc::clone(&alarms), Arc::clone(&stop));
        let thread = host.spawn("lab-check", move || {
            let mut failures = 0;
            while !stopped.load(Ordering::Relaxed) {
                let begin = Instant::now();
                failures = if works() { 0 } else { failures + 1 };
                if failures == FAILURES {
                    let mut alarms = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    alarms.push(Instant::now());
                }
                std::thread::sleep(EVERY.saturating_sub(begin.elapsed()));
            }
        })?;
        Ok(Self {
            alarms,
            stop,
            thread: Some(thread),
        })
    }

    /// How long after `begin` the first alarm came, if any did.
    pub(crate) fn alarm_after(&self, begin: Instant) -> Option<Duration> {
        let alarms = self.alarms.lock().unwrap_or_else(PoisonError::into_inner);
        let first = alarms.iter().find(|it| **it >= begin)?;
        Some(first.duration_since(begin))
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn destination(lab: &Lab, upstream: usize) -> IpAddr {
    lab.upstreams[upstream].destination(0, lab::Family::V4)
}

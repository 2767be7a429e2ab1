//! What the usual tools say, asked at that moment.

use std::{
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use lab::{Family, Lab, Traffic, server, traffic::Counters};

/// `ping`: the summary line.
pub(crate) fn ping(lab: &Lab, upstream: usize) -> Result<String> {
    let peer = lab.upstreams[upstream]
        .destination(0, Family::V4)
        .to_string();
    let arguments = ["-n", "-c", "5", "-i", "0.1", "-W", "1", &peer];
    let output = lab.host.output("ping", &arguments)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let summary = text.lines().find(|line| line.contains("transmitted"));
    let summary = summary.context("ping gave no summary")?;
    // The time that follows is ping's own.
    Ok(summary.split(", time").next().unwrap_or(summary).to_owned())
}

/// What a monitor does: connect, read the greeting, hang up.
pub(crate) fn connect(lab: &Lab, upstream: usize, destinations: u8) -> Result<String> {
    let begin = Instant::now();
    let greeted = lab.host.run(|| {
        (0..destinations)
            .map(|number| lab.upstreams[upstream].destination(number, Family::V4))
            .filter(|peer| greeting(SocketAddr::new(*peer, server::MAIL)).is_ok())
            .count()
    })?;
    let each = begin.elapsed().as_secs_f64() * 1000.0 / f64::from(destinations);
    Ok(format!(
        "{greeted} of {destinations} accept and greet, {each:.1} ms each"
    ))
}

fn greeting(peer: SocketAddr) -> std::io::Result<()> {
    let limit = Duration::from_secs(1);
    let stream = TcpStream::connect_timeout(&peer, limit)?;
    stream.set_read_timeout(Some(limit))?;
    let mut line = String::new();
    match BufReader::new(stream).read_line(&mut line)? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// What the mail programs know of it themselves.
pub(crate) fn sessions(traffic: &[Traffic]) -> String {
    let sum =
        |count: fn(&Counters) -> u64| -> u64 { traffic.iter().map(|it| count(&it.counters)).sum() };
    format!(
        "{} sessions wait for an answer, {} ended with an error, {} were given up",
        sum(Counters::hanging),
        sum(Counters::errors),
        sum(Counters::given_up)
    )
}

/// What `ss` shows of the connections through an upstream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Established {
    connections: usize,
    retransmitting: usize,
}

/// Asks `ss`.
pub(crate) fn established(lab: &Lab, upstream: usize) -> Result<Established> {
    let local = lab.upstreams[upstream].local.to_string();
    let output = lab
        .host
        .output("ss", &["-tinHO", "state", "established", "src", &local])?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(Established {
        connections: text.lines().count(),
        retransmitting: text
            .lines()
            .filter(|line| line.contains(" backoff:"))
            .count(),
    })
}

/// Both looks side by side.
pub(crate) fn compare(before: Established, now: Established) -> String {
    format!(
        "{} established (before: {}), {} of them repeat themselves",
        now.connections, before.connections, now.retransmitting
    )
}

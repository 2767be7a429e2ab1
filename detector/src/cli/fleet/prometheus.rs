//! Asking Prometheus over HTTP (<https://prometheus.io/docs/prometheus/latest/querying/api/>).
//!
//! **Invariant:** never waits for longer than it says; every failure names the address and what to do.

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use http_body_util::{BodyExt, Limited};
use hyper::{Method, Uri};
use jiff::Timestamp;
use serde::Deserialize;
use tokio::{net::TcpStream, time::timeout};

use super::{Fleet, Host, SCHEMA, Upstream};
use crate::{
    cli::client,
    clock,
    model::State,
    serve::{json::urgency, words::clean},
};

/// For an answer as a whole.
const ANSWER: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });
/// An answer of more than this is none: thousands of hosts fit.
const LARGEST: usize = 64 << 20;
/// All that is needed, of one moment.
const QUESTION: &str = concat!(
    "{__name__=~\"tcpstall_upstream_(state|trouble_info|state_change_timestamp_seconds)\"}",
    " or up{job=\"tcpstall\"}"
);

/// Where a Prometheus is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    host: String,
    port: u16,
    /// In front of `/api`.
    prefix: String,
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected an address such as http://127.0.0.1:9090".to_owned();
        let uri: Uri = text.parse().map_err(|_| expected())?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(
                    "http:// only; let a proxy on this host, or `ssh -L`, speak TLS".to_owned(),
                );
            }
            _ => return Err(expected()),
        }
        let authority = uri.authority().ok_or_else(expected)?;
        if authority.as_str().contains('@') || uri.query().is_some() {
            return Err(format!(
                "{}, without a user, a password or a query",
                expected()
            ));
        }
        Ok(Self {
            host: authority.host().to_owned(),
            port: authority.port_u16().unwrap_or(80),
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}:{}{}", self.host, self.port, self.prefix)
    }
}

/// An answer of the API.
#[derive(Debug, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
enum Answer {
    Success { data: Data },
    Error { error: String },
}

#[derive(Debug, Deserialize)]
struct Data {
    result: Vec<Series>,
}

/// A series and its value at the moment.
#[derive(Debug, Deserialize)]
struct Series {
    metric: BTreeMap<String, String>,
    value: (f64, String),
}

impl Series {
    fn label(&self, name: &str) -> &str {
        self.metric.get(name).map_or("", String::as_str)
    }

    fn number(&self) -> Option<f64> {
        self.value.1.parse().ok()
    }
}

/// What is known of all hosts.
pub(super) fn fleet(address: &Address) -> anyhow::Result<Fleet> {
    let runtime = client::runtime()?;
    let body = runtime.block_on(async {
        timeout(ANSWER, ask(address)).await.map_err(|_| {
            anyhow!(
                "the Prometheus at {address} has not answered for {} seconds; it is overloaded, or \
                 something else listens there",
                ANSWER.as_secs()
            )
        })?
    });
    // A name that is still being looked up must not hold up the end.
    runtime.shutdown_background();
    let body = body?;
    let answer = serde_json::from_slice(&body).with_context(|| {
        format!("the answer of {address} is not understood; is it a Prometheus?")
    })?;
    match answer {
        Answer::Success { data } => gathered(&data.result, clock::wall()).with_context(|| {
            format!(
                "the Prometheus at {address} knows no upstream of tcpstall; let it scrape the hosts \
                 under the job `tcpstall` (port 19293)"
            )
        }),
        Answer::Error { error } => bail!("the Prometheus at {address} answers: {}", clean(&error)),
    }
}

async fn ask(address: &Address) -> anyhow::Result<Vec<u8>> {
    let host = address.host.trim_matches(['[', ']']);
    let stream = TcpStream::connect((host, address.port))
        .await
        .map_err(|error| {
            anyhow!(
                "no Prometheus answers at {address} ({error}); name its address with --prometheus \
                 or TCPSTALL_PROMETHEUS"
            )
        })?;
    let query = serde_urlencoded::to_string([("query", QUESTION)])?;
    let path = format!("{}/api/v1/query?{query}", address.prefix);
    let ended = || format!("the Prometheus at {address} has ended before it answered");
    let response = client::request(stream, Method::GET, &address.host, &path)
        .await
        .with_context(ended)?;
    let body = Limited::new(response.into_body(), LARGEST).collect().await;
    let body = body.map_err(|error| anyhow!("{}: {error}", ended()))?;
    Ok(body.to_bytes().to_vec())
}

/// What a series is about: all its labels but those that tell a state.
fn subject(series: &Series) -> BTreeMap<&str, &str> {
    let told = ["__name__", "state", "cause", "scope"];
    let labels = series.metric.iter().map(|(k, v)| (k.as_str(), v.as_str()));
    labels.filter(|(name, _)| !told.contains(name)).collect()
}

/// The series of one moment, by upstream and host; `None` when there is not a single one of ours.
fn gathered(series: &[Series], now: Timestamp) -> Option<Fleet> {
    let mut hosts: BTreeMap<BTreeMap<&str, &str>, Host> = BTreeMap::new();
    let mut unreachable = BTreeSet::new();
    for it in series.iter().filter(|it| it.label("__name__") == "up") {
        if it.number() == Some(0.0) {
            unreachable.insert(it.label("instance").to_owned());
        }
    }
    let of = |name| {
        let of = move |it: &&Series| it.label("__name__") == name;
        series.iter().filter(of)
    };
    for it in of("tcpstall_upstream_state").filter(|it| it.number() == Some(1.0)) {
        let Ok(state) = it.label("state").parse() else {
            continue;
        };
        let known = Host {
            host: it.label("instance").to_owned(),
            state,
            cause: None,
            scope: None,
            since: None,
        };
        hosts.insert(subject(it), known);
    }
    for it in of("tcpstall_upstream_trouble_info") {
        if let Some(host) = hosts.get_mut(&subject(it)) {
            host.cause = it.label("cause").parse().ok();
            host.scope = it.label("scope").parse().ok();
        }
    }
    for it in of("tcpstall_upstream_state_change_timestamp_seconds") {
        if let (Some(host), Some(seconds)) = (hosts.get_mut(&subject(it)), it.number()) {
            // To the millisecond, as everywhere.
            host.since = Timestamp::from_millisecond((seconds * 1000.0) as i64).ok();
        }
    }
    if hosts.is_empty() && unreachable.is_empty() {
        return None;
    }
    let mut upstreams: BTreeMap<&str, Vec<Host>> = BTreeMap::new();
    let mut ambiguous = BTreeSet::new();
    for (subject, host) in hosts {
        let upstream = subject.get("upstream").copied().unwrap_or_default();
        let known = upstreams.entry(upstream).or_default();
        if known.iter().any(|it| it.host == host.host) {
            ambiguous.insert(host.host.clone());
        }
        known.push(host);
    }
    let mut upstreams: Vec<_> = upstreams
        .into_iter()
        .map(|(upstream, mut hosts)| {
            hosts.sort_by(|a, b| (urgency(a.state), &a.host).cmp(&(urgency(b.state), &b.host)));
            Upstream {
                upstream: upstream.to_owned(),
                state: hosts.first().map_or(State::Idle, |it| it.state),
                hosts,
            }
        })
        .collect();
    upstreams.sort_by_key(|it| (urgency(it.state), std::cmp::Reverse(it.bad().count())));
    Some(Fleet {
        schema: SCHEMA,
        observed_at: now,
        upstreams,
        unreachable: unreachable.into_iter().collect(),
        ambiguous: ambiguous.into_iter().collect(),
    })
}

/// Six hosts with two providers; made up for tests.
#[cfg(test)]
pub(in crate::cli) fn example() -> Fleet {
    gathered(
        &example_series(),
        "2026-11-23T13:00:00Z".parse().expect("time"),
    )
    .expect("some")
}

#[cfg(test)]
fn example_series() -> Vec<Series> {
    let mut series = Vec::new();
    let mut add = |name: &str, labels: &[(&str, &str)], value: &str| {
        let labels = [labels, &[("__name__", name)]].concat();
        let owned = |it: (&str, &str)| (it.0.to_owned(), it.1.to_owned());
        series.push(Series {
            metric: labels.into_iter().map(owned).collect(),
            value: (0.0, value.to_owned()),
        });
    };
    for (upstream, host, state, why) in [
        (
            "provider-b",
            "mx1:19293",
            "failing",
            Some(("mtu", "upstream")),
        ),
        (
            "provider-b",
            "mx2:19293",
            "degraded",
            Some(("loss", "upstream")),
        ),
        (
            "provider-b",
            "mx3:19293",
            "failing",
            Some(("mtu", "common")),
        ),
        ("provider-b", "mx4:19293", "ok", None),
        ("provider-b", "mx5:19293", "idle", None),
        ("provider-a", "mx1:19293", "ok", None),
        ("provider-a", "mx4:19293", "ok", None),
        ("vpn", "mx4:19293", "idle", None),
    ] {
        let labels = [("upstream", upstream), ("instance", host)];
        for it in State::ALL {
            let value = if it.word() == state { "1" } else { "0" };
            let labels = [&labels[..], &[("state", it.word())]].concat();
            add("tcpstall_upstream_state", &labels, value);
        }
        let at = "tcpstall_upstream_state_change_timestamp_seconds";
        add(at, &labels, "1795438790.5");
        if let Some((cause, scope)) = why {
            let labels = [&labels[..], &[("cause", cause), ("scope", scope)]].concat();
            add("tcpstall_upstream_trouble_info", &labels, "1");
        }
    }
    add("up", &[("instance", "mx6:19293"), ("job", "tcpstall")], "0");
    add("up", &[("instance", "mx1:19293"), ("job", "tcpstall")], "1");
    series
}

#[cfg(test)]
mod tests;

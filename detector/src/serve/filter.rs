//! Which connections are wanted: the query string of `/v1/stalls`, the flags of the CLI.
//!
//! **Invariant:** pure; all that are given must match.

use std::{fmt, time::Duration};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{
    api,
    config::{duration, prefix},
    model::{Cause, NetnsId, Phase},
};

/// Which connections are wanted; all that are given must match.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, clap::Args)]
#[serde(deny_unknown_fields, default)]
#[command(next_help_heading = "Filters")]
pub struct Filter {
    /// Only those of this upstream.
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// Only those with this cause.
    #[arg(long, value_parser = causes())]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// Only those in this phase.
    #[arg(long, value_parser = phases())]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Only those without progress for at least this long, such as 30s or 2m.
    #[arg(long, value_name = "SPAN", value_parser = parse_duration)]
    #[serde(skip_serializing_if = "Option::is_none", with = "span")]
    pub min_age: Option<Duration>,
    /// Only those to this address or prefix.
    #[arg(long, value_name = "PREFIX", value_parser = parse_prefix)]
    #[serde(skip_serializing_if = "Option::is_none", with = "net")]
    pub dst: Option<IpNet>,
    /// Only those from this address or prefix.
    #[arg(long, value_name = "PREFIX", value_parser = parse_prefix)]
    #[serde(skip_serializing_if = "Option::is_none", with = "net")]
    pub src: Option<IpNet>,
    /// Only those to this port.
    #[arg(long, value_name = "PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dport: Option<u16>,
    /// Only those of this process.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Only those of processes with this name.
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
    /// Only those in the network namespace with this inode number.
    #[arg(long, value_name = "INODE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netns: Option<u32>,
    /// At most this many, the oldest.
    #[arg(long, value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// What to say when all stalled connections would be meant.
const NAME_WHICH: &str = "say which connections are to be reset, for instance with `--upstream provider-b`; all \
                          that are stalled are never meant";
/// What to say when suspects are meant.
const ONLY_STALLED: &str = "only stalled connections are reset, never suspects: most of those recover by \
                            themselves; leave `--phase suspect` out";

impl Filter {
    /// The same for connections that are to be reset: those that are stalled, and never all of them.
    ///
    /// # Errors
    /// A sentence that says what to name, when nothing narrows it down, or suspects are meant.
    pub fn of_stalled(self) -> Result<Self, &'static str> {
        if self.phase == Some(Phase::Suspect) {
            return Err(ONLY_STALLED);
        }
        if !self.narrows() {
            return Err(NAME_WHICH);
        }
        Ok(Self {
            phase: Some(Phase::Stalled),
            ..self
        })
    }

    /// Whether it leaves any stalled connection out for what it is.
    fn narrows(&self) -> bool {
        // All named, so that a new one is thought of here.
        let Self {
            upstream,
            cause,
            phase: _,
            min_age,
            dst,
            src,
            dport,
            pid,
            process,
            netns,
            limit: _,
        } = self;
        let some_net = |net: &Option<IpNet>| net.is_some_and(|it| it.prefix_len() > 0);
        upstream.is_some()
            || cause.is_some()
            || min_age.is_some_and(|it| !it.is_zero())
            || some_net(dst)
            || some_net(src)
            || dport.is_some()
            || pid.is_some()
            || process.is_some()
            || netns.is_some()
    }

    /// Whether `stall` is wanted, [`Filter::limit`] aside.
    pub fn matches(&self, stall: &api::Stall) -> bool {
        fn is<T: PartialEq>(wanted: Option<&T>, found: Option<&T>) -> bool {
            wanted.is_none() || wanted == found
        }
        fn within(wanted: Option<IpNet>, found: std::net::IpAddr) -> bool {
            wanted.is_none_or(|net| net.contains(&found))
        }
        is(self.upstream.as_ref(), Some(&stall.upstream))
            && is(self.cause.as_ref(), Some(&stall.cause))
            && is(self.phase.as_ref(), Some(&stall.phase))
            && self
                .min_age
                .is_none_or(|age| stall.stalled_seconds >= age.as_secs_f64())
            && within(self.dst, stall.remote.ip())
            && within(self.src, stall.local.ip())
            && is(self.dport.as_ref(), Some(&stall.remote.port()))
            && is(self.pid.as_ref(), stall.pid.as_ref())
            && is(self.process.as_ref(), stall.process.as_ref())
            && is(self.netns.map(NetnsId).as_ref(), Some(&stall.netns))
    }
}

/// As in the query string.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_urlencoded::to_string(self).map_err(|_| fmt::Error)?)
    }
}

fn causes() -> impl TypedValueParser<Value = Cause> {
    PossibleValuesParser::new(Cause::ALL.iter().map(|it| it.word())).try_map(|it| it.parse())
}

fn phases() -> impl TypedValueParser<Value = Phase> {
    PossibleValuesParser::new(Phase::ALL.iter().map(|it| it.word())).try_map(|it| it.parse())
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    duration(text).ok_or_else(|| "expected a span of time such as 30s or 2m".to_owned())
}

fn parse_prefix(text: &str) -> Result<IpNet, String> {
    prefix(text).ok_or_else(|| {
        "expected a prefix without host bits such as 192.0.2.0/24, or an address".to_owned()
    })
}

mod span {
    use super::{Deserialize, Duration, parse_duration};

    pub(super) fn serialize<S: serde::Serializer>(
        span: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        // As nanoseconds alone long ones would not be understood again.
        let span = jiff::SignedDuration::try_from(span.unwrap_or_default());
        serializer.collect_str(&span.unwrap_or(jiff::SignedDuration::MAX))
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_duration(&text)
            .map(Some)
            .map_err(serde::de::Error::custom)
    }
}

mod net {
    use super::{Deserialize, IpNet, parse_prefix};

    pub(super) fn serialize<S: serde::Serializer>(
        net: &Option<IpNet>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&net.unwrap_or_default())
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<IpNet>, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_prefix(&text)
            .map(Some)
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &str) -> Result<Filter, &'static str> {
        let filter: Filter = serde_urlencoded::from_str(query).unwrap();
        filter.of_stalled()
    }

    #[test]
    fn all_that_is_stalled_is_never_meant() {
        for query in [
            "",
            "limit=5",
            "phase=stalled",
            "phase=stalled&limit=5&min_age=0s",
            "dst=0.0.0.0/0",
            "src=::/0",
        ] {
            assert_eq!(asked(query), Err(NAME_WHICH), "{query}");
        }
        for query in ["phase=suspect", "phase=suspect&upstream=provider-b"] {
            assert_eq!(asked(query), Err(ONLY_STALLED), "{query}");
        }
    }

    #[test]
    fn whatever_narrows_it_down_is_enough_and_suspects_are_left_out() {
        for query in [
            "upstream=provider-b",
            "cause=mtu",
            "min_age=30s",
            "dst=192.0.2.0/24",
            "src=2001:db8::1",
            "dport=25",
            "pid=4711",
            "process=smtpd",
            "netns=4026531840",
            "upstream=provider-b&phase=stalled&limit=3",
        ] {
            let filter = asked(query).unwrap();
            assert_eq!(filter.phase, Some(Phase::Stalled), "{query}");
            let again: Filter = serde_urlencoded::from_str(&filter.to_string()).unwrap();
            assert_eq!(again, filter, "{filter}");
        }
    }
}

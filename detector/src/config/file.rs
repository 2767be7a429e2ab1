//! The meaning of each key of the file.
//!
//! **Invariant:** pure but for `read`, which is given.

use std::{net::SocketAddr, path::Path, time::Duration};

use ipnet::IpNet;

use super::{
    Config, Detect, Error, Hook, Problem, Read, Rule,
    document::{Document, Section, Value},
    error, value,
};
use crate::model::Occasion;

const TOP: &[&str] = &[
    "metrics_address",
    "socket",
    "state_dir",
    "detect",
    "upstream",
    "hook",
];
const DETECT: &[&str] = &["stall_after", "sweep_budget", "ignore"];
const UPSTREAM: &[&str] = &[
    "name",
    "gateway",
    "interface",
    "source",
    "mark",
    "vrf",
    "netns",
    "destinations",
    "destinations_file",
    "gate",
];
/// Those of them that say what belongs to an upstream.
const MATCHERS: std::ops::Range<usize> = 1..9;
const HOOK: &[&str] = &["name", "on", "upstreams", "command", "timeout"];

const STALL_AFTER: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(500)..=Duration::from_mins(10);
const TIMEOUT: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_mins(10);
const USUAL_TIMEOUT: Duration = Duration::from_secs(30);
const SWEEP_BUDGET: std::ops::RangeInclusive<f64> = 0.0001..=0.5;

/// The configuration that `document` describes.
pub(super) fn config(document: &Document<'_>, read: Read<'_>) -> Result<Config, Error> {
    let tree = document.tree()?;
    let top = Section::new(document, "", tree.get_ref(), TOP)?;
    let mut config = Config::default();
    if let Some(value) = top.get("metrics_address") {
        config.metrics_address = value.string(
            r#"an address and a port such as "127.0.0.1:19293" or "[::]:19293""#,
            |text| text.parse::<SocketAddr>().ok(),
        )?;
    }
    if let Some(value) = top.get("socket") {
        config.socket = path(
            &value,
            r#"an absolute path such as "/run/tcpstall/tcpstall.sock""#,
        )?;
    }
    if let Some(value) = top.get("state_dir") {
        config.state_dir = path(&value, r#"an absolute path such as "/var/lib/tcpstall""#)?;
    }
    if let Some(value) = top.get("detect") {
        config.detect = detect(&value.section("detect", "a table: [detect]", DETECT)?)?;
    }
    if let Some(value) = top.get("upstream") {
        (config.upstreams, config.gates) = upstreams(&value, document.path, read)?;
    }
    if let Some(value) = top.get("hook") {
        config.hooks = hooks(&value, &config)?;
    }
    Ok(config)
}

fn path(value: &Value<'_>, expected: &str) -> Result<std::path::PathBuf, Error> {
    value.string(expected, |text| {
        Path::new(text).is_absolute().then(|| text.into())
    })
}

/// A span of time within limits.
fn span(
    value: &Value<'_>,
    limits: &std::ops::RangeInclusive<Duration>,
    words: &str,
) -> Result<Duration, Error> {
    let expected = format!("{} {words}", value::A_DURATION);
    let read = |text: &str| value::duration(text).filter(|it| limits.contains(it));
    value.string(&expected, read)
}

fn detect(section: &Section<'_>) -> Result<Detect, Error> {
    let mut detect = Detect::default();
    if let Some(value) = section.get("stall_after") {
        detect.stall_after = span(&value, &STALL_AFTER, "from 500ms to 10m")?;
    }
    if let Some(value) = section.get("sweep_budget") {
        let expected = "a share of one core from 0.0001 to 0.5, such as 0.01";
        detect.sweep_budget = value.read(expected, |value| {
            let number = value.as_float().map(|it| it.as_str());
            let number = number.or_else(|| value.as_integer().map(|it| it.as_str()))?;
            number
                .parse()
                .ok()
                .filter(|share| SWEEP_BUDGET.contains(share))
        })?;
    }
    if let Some(value) = section.get("ignore") {
        detect.ignore = prefixes(&value)?;
    }
    Ok(detect)
}

fn prefixes(value: &Value<'_>) -> Result<Vec<IpNet>, Error> {
    let list = value.list(r#"a list of prefixes such as ["192.0.2.0/24"]"#)?;
    list.iter()
        .map(|item| item.string(value::A_PREFIX, value::prefix))
        .collect()
}

/// All of them, and the names of those that have a gate.
fn upstreams(
    value: &Value<'_>,
    file: &Path,
    read: Read<'_>,
) -> Result<(Vec<Rule>, Vec<String>), Error> {
    const EXPECTED: &str = "tables, each headed by [[upstream]]";
    let mut names = Names::new("upstreams");
    let mut rules = Vec::new();
    let mut gates = Vec::new();
    for item in value.list(EXPECTED)? {
        let section = item.section("upstream", EXPECTED, UPSTREAM)?;
        let name = needed(
            &section,
            &item,
            "name",
            r#"a name, such as name = "provider-b""#,
        )?;
        let rule = upstream(&section, &name, file, read)?;
        names.add(&rule.name, &name)?;
        if has_gate(&section)? {
            gates.push(rule.name.clone());
        }
        rules.push(rule);
    }
    Ok((rules, gates))
}

/// The names of some tables, each of which must have its own.
struct Names {
    what: &'static str,
    /// And their lines.
    seen: Vec<(String, usize)>,
}

impl Names {
    fn new(what: &'static str) -> Self {
        let seen = Vec::new();
        Self { what, seen }
    }

    fn add(&mut self, name: &str, value: &Value<'_>) -> Result<(), Error> {
        if let Some((name, first_line)) = self.seen.iter().find(|(seen, _)| seen == name) {
            return Err(value.error(Problem::DuplicateName {
                what: self.what,
                name: name.clone(),
                first_line: *first_line,
            }));
        }
        self.seen.push((name.to_owned(), value.line()));
        Ok(())
    }
}

/// A key that must be in a table.
fn needed<'a>(
    section: &Section<'a>,
    table: &Value<'_>,
    key: &'static str,
    example: &'static str,
) -> Result<Value<'a>, Error> {
    section
        .get(key)
        .ok_or_else(|| section.missing(key, table.line(), Problem::MissingKey(example)))
}

fn hooks(value: &Value<'_>, config: &Config) -> Result<Vec<Hook>, Error> {
    const EXPECTED: &str = "tables, each headed by [[hook]]";
    let mut names = Names::new("hooks");
    let mut hooks = Vec::new();
    for item in value.list(EXPECTED)? {
        let section = item.section("hook", EXPECTED, HOOK)?;
        let name = needed(&section, &item, "name", r#"a name, such as name = "route""#)?;
        let hook = hook(&section, &item, &name, config)?;
        names.add(&hook.name, &name)?;
        hooks.push(hook);
    }
    Ok(hooks)
}

fn hook(
    section: &Section<'_>,
    table: &Value<'_>,
    name: &Value<'_>,
    config: &Config,
) -> Result<Hook, Error> {
    let name = name.string(
        "a name of 1 to 64 printable characters without \"/\", such as \"route\"",
        value::name,
    )?;
    let on = needed(
        section,
        table,
        "on",
        r#"what it is told of: on = "gate" or on = "state""#,
    )?;
    let on = told_of_what(&on, config)?;
    let command = needed(
        section,
        table,
        "command",
        r#"what is run, such as command = ["/etc/tcpstall/route"]"#,
    )?;
    let command = argv(&command)?;
    let upstreams = match section.get("upstreams") {
        Some(value) => told_of(&value, on, config)?,
        None => Vec::new(),
    };
    let timeout = match section.get("timeout") {
        Some(value) => span(&value, &TIMEOUT, "from 1s to 10m")?,
        None => USUAL_TIMEOUT,
    };
    Ok(Hook {
        name,
        on,
        upstreams,
        command,
        timeout,
    })
}

/// Of gates, if there is one.
fn told_of_what(value: &Value<'_>, config: &Config) -> Result<Occasion, Error> {
    let on = value.string(r#""gate" or "state""#, |text| text.parse().ok())?;
    if on == Occasion::Gate && config.gates.is_empty() {
        return value.read(
            r#""state": no [[upstream]] of this file has a gate, so that there is none to be told of"#,
            |_| None,
        );
    }
    Ok(on)
}

/// A program and its arguments.
fn argv(value: &Value<'_>) -> Result<Vec<String>, Error> {
    let expected = r#"a list of a program, by its absolute path, and its arguments, such as ["/bin/echo", "hello"]"#;
    let whole = |text: &str| (!text.contains('\0')).then(|| text.to_owned());
    let mut command = Vec::new();
    for (index, item) in value.list(expected)?.iter().enumerate() {
        command.push(match index {
            0 => item.string(expected, |text| {
                whole(text).filter(|it| Path::new(it).is_absolute())
            })?,
            _ => item.string("an argument without a zero byte", whole)?,
        });
    }
    if command.is_empty() {
        return value.read(expected, |_| None);
    }
    Ok(command)
}

/// The upstreams that a hook is told of: those of the file, and for gates those that have one.
fn told_of(value: &Value<'_>, on: Occasion, config: &Config) -> Result<Vec<String>, Error> {
    let expected = match on {
        Occasion::State => "the name of an [[upstream]] of this file",
        Occasion::Gate => "the name of an [[upstream]] of this file that has a gate",
    };
    let known = |name: &str| match on {
        Occasion::State => config.upstreams.iter().any(|it| it.name == name),
        Occasion::Gate => config.gates.iter().any(|it| it == name),
    };
    let list = value.list(r#"a list of names such as ["provider-b"]"#)?;
    if list.is_empty() {
        return value.read(
            "a name at least, or no such key: then it is all of them",
            |_| None,
        );
    }
    let one = |item: &Value<'_>| item.string(expected, |text| known(text).then(|| text.to_owned()));
    list.iter().map(one).collect()
}

fn has_gate(section: &Section<'_>) -> Result<bool, Error> {
    match section.get("gate") {
        Some(value) => value.read("true, or false for what is no way out", |it| it.as_bool()),
        None => Ok(true),
    }
}

fn upstream(
    section: &Section<'_>,
    name: &Value<'_>,
    file: &Path,
    read: Read<'_>,
) -> Result<Rule, Error> {
    let expected = "a name of 1 to 64 printable characters without \"/\", such as \"provider-b\"";
    let mut rule = Rule {
        name: name.string(expected, value::name)?,
        ..Rule::default()
    };
    if let Some(value) = section.get("gateway") {
        let gateway = |text: &str| {
            text.parse()
                .ok()
                .map(|it: std::net::IpAddr| it.to_canonical())
        };
        rule.gateway = Some(value.string(r#"an address such as "192.0.2.1""#, gateway)?);
    }
    if let Some(value) = section.get("interface") {
        let expected = r#"the name of an interface such as "wan1", at most 15 bytes"#;
        rule.interface = Some(value.string(expected, value::interface)?);
    }
    if let Some(value) = section.get("source") {
        rule.source = Some(value.string(value::A_PREFIX, value::prefix)?);
    }
    if let Some(value) = section.get("mark") {
        rule.mark = Some(number(
            &value,
            "a socket mark from 0 to 4294967295, such as 0x20",
        )?);
    }
    if let Some(value) = section.get("vrf") {
        let expected = r#"the name of a VRF such as "blue", at most 15 bytes"#;
        rule.vrf = Some(value.string(expected, value::interface)?);
    }
    if let Some(value) = section.get("netns") {
        let expected = "the inode number of a network namespace, as `stat -Lc %i /run/netns/NAME` \
                        prints it";
        rule.netns = Some(number(&value, expected)?);
    }
    rule.destinations = destinations(section, file, read)?;
    if rule
        == (Rule {
            name: rule.name.clone(),
            ..Rule::default()
        })
    {
        let matchers = UPSTREAM.get(MATCHERS).unwrap_or_default();
        return Err(name.error(Problem::NoMatcher {
            name: rule.name,
            matchers,
        }));
    }
    Ok(rule)
}

fn number(value: &Value<'_>, expected: &str) -> Result<u32, Error> {
    value.read(expected, |value| {
        let integer = value.as_integer()?;
        u32::from_str_radix(integer.as_str(), integer.radix()).ok()
    })
}

/// The prefixes of `destinations` and of the file that `destinations_file` names.
fn destinations(
    section: &Section<'_>,
    file: &Path,
    read: Read<'_>,
) -> Result<Option<Vec<IpNet>>, Error> {
    let mut found = match section.get("destinations") {
        Some(value) => Some(prefixes(&value)?),
        None => None,
    };
    if let Some(value) = section.get("destinations_file") {
        let text = value.string("the path of a file with a prefix per line", |text| {
            (!text.is_empty()).then(|| text.to_owned())
        })?;
        let path = file.parent().unwrap_or(Path::new("")).join(text);
        let bytes = read(&path).map_err(|error| {
            Error::reading(&path, &error).asked_for_by(file, value.line(), value.key().to_owned())
        })?;
        found
            .get_or_insert_default()
            .extend(listed(&path, value.key(), &bytes)?);
    }
    Ok(found)
}

/// A prefix per line; `#` starts a comment.
fn listed(path: &Path, key: &str, bytes: &[u8]) -> Result<Vec<IpNet>, Error> {
    let mut found = Vec::new();
    for (index, line) in error::utf8(path, bytes)?.lines().enumerate() {
        let text = line.split('#').next().unwrap_or_default().trim();
        if text.is_empty() {
            continue;
        }
        let Some(prefix) = value::prefix(text) else {
            let found = format!("{:?}", text.chars().take(60).collect::<String>());
            let expected = format!("{}, or a comment after #", value::A_PREFIX);
            return Err(Error {
                file: path.to_owned(),
                line: Some(index + 1),
                key: Some(key.to_owned()),
                problem: Problem::BadValue { found, expected },
            });
        };
        found.push(prefix);
    }
    Ok(found)
}

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use proptest::prelude::*;

use super::*;

/// Understands `text` as `/etc/tcpstall/tcpstall.toml`, with one list of prefixes beside it.
fn read(text: &str) -> Result<Config, Error> {
    let files = BTreeMap::from([
        (
            "/etc/tcpstall/b.prefixes",
            "# provider b\n192.0.2.0/24\n\n2001:db8::/32 # v6\n",
        ),
        ("/etc/tcpstall/bad.prefixes", "192.0.2.0/24\n10.0.0/8\n"),
    ]);
    parse(Path::new(DEFAULT_CONFIG), text.as_bytes(), &|path| {
        let text = path.to_str().and_then(|path| files.get(path));
        text.map(|text| text.as_bytes().to_vec())
            .ok_or(io::ErrorKind::NotFound.into())
    })
}

/// The error that `text` gives, without the name of the file.
fn complaint(text: &str) -> String {
    let error = read(text).expect_err("must be refused").to_string();
    error.replace("/etc/tcpstall/tcpstall.toml", "F")
}

#[test]
fn nothing_means_the_defaults() {
    assert_eq!(read(""), Ok(Config::default()));
    let ignore: Vec<_> = Detect::default()
        .ignore
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(ignore, ["127.0.0.0/8", "::1/128"]);
}

#[test]
fn every_key_is_understood() {
    let config = read(
        r#"
        metrics_address = "[::]:9000"
        socket = "/run/t.sock"
        state_dir = "/var/t"
        [detect]
        stall_after = "500ms"
        sweep_budget = 0.02
        ignore = ["10.0.0.0/8", "192.0.2.7"]
        [[upstream]]
        name = "provider b"
        gateway = "::ffff:203.0.113.1"
        interface = "wan1"
        source = "192.0.2.9"
        mark = 0x20
        vrf = "blue"
        netns = 4026531840
        destinations = ["198.51.100.0/24"]
        destinations_file = "b.prefixes"
        [[upstream]]
        name = "vpn"
        interface = "wg0"
        gate = false
        [[hook]]
        name = "route"
        on = "gate"
        upstreams = ["provider b"]
        command = ["/etc/tcpstall/route", "-v"]
        timeout = "1m"
        [[hook]]
        name = "mail"
        on = "state"
        command = ["/usr/local/bin/mail"]
        "#,
    )
    .expect("valid");
    let [route, mail] = config.hooks.as_slice() else {
        panic!("{:?}", config.hooks);
    };
    assert_eq!((route.name.as_str(), route.on), ("route", Occasion::Gate));
    assert_eq!(route.command, ["/etc/tcpstall/route", "-v"]);
    assert_eq!(route.timeout, Duration::from_mins(1));
    assert!(route.is_for("provider b") && !route.is_for("vpn"));
    assert_eq!(
        (mail.on, mail.timeout),
        (Occasion::State, Duration::from_secs(30))
    );
    assert!(mail.is_for("vpn"));
    assert_eq!(config.gates, ["provider b"]);
    assert_eq!(
        config.metrics_address,
        "[::]:9000".parse().expect("address")
    );
    assert_eq!(config.socket, Path::new("/run/t.sock"));
    assert_eq!(config.state_dir, Path::new("/var/t"));
    assert_eq!(config.detect.stall_after, Duration::from_millis(500));
    assert!((config.detect.sweep_budget - 0.02).abs() < 1e-9);
    let net = |text: &str| prefix(text).expect("prefix");
    assert_eq!(
        config.detect.ignore,
        [net("10.0.0.0/8"), net("192.0.2.7/32")]
    );
    let nets = ["198.51.100.0/24", "192.0.2.0/24", "2001:db8::/32"];
    let first = Rule {
        name: "provider b".into(),
        gateway: Some("203.0.113.1".parse().expect("address")),
        interface: Some("wan1".into()),
        source: Some(net("192.0.2.9")),
        mark: Some(0x20),
        vrf: Some("blue".into()),
        netns: Some(4_026_531_840),
        destinations: Some(nets.into_iter().map(net).collect()),
    };
    let second = Rule {
        name: "vpn".into(),
        interface: Some("wg0".into()),
        ..Rule::default()
    };
    assert_eq!(config.upstreams, [first, second]);
}

#[test]
fn spans_of_time() {
    for (text, expected) in [
        ("3s", Some(Duration::from_secs(3))),
        ("500ms", Some(Duration::from_millis(500))),
        (" 2m ", Some(Duration::from_mins(2))),
        ("1h 30m", Some(Duration::from_mins(90))),
        ("1.5s", Some(Duration::from_millis(1500))),
        ("-3s", None),
        ("3", None),
        ("", None),
        ("3 parsecs", None),
        ("99999999999999999999h", None),
    ] {
        assert_eq!(duration(text), expected, "{text}");
    }
}

#[test]
fn what_is_wrong_is_said_with_line_and_key() {
    for (text, expected) in [
        (
            "\n[detect]\nstall_fter = \"3s\"",
            "F:3: detect.stall_fter: unknown key; did you mean stall_after?",
        ),
        (
            "metrics = 1",
            "F:1: metrics: unknown key; expected one of metrics_address, socket, state_dir, detect, upstream, hook",
        ),
        (
            "[[upstream]]\nname='a'\ngatway='192.0.2.1'",
            "F:3: upstream.gatway: unknown key; did you mean gateway?",
        ),
        (
            "socket = 7",
            "F:1: socket: found 7, expected an absolute path such as \"/run/tcpstall/tcpstall.sock\"",
        ),
        (
            "socket = 'run/t.sock'",
            "F:1: socket: found 'run/t.sock', expected an absolute path such as \"/run/tcpstall/tcpstall.sock\"",
        ),
        (
            "metrics_address = 'localhost'",
            "F:1: metrics_address: found 'localhost', expected an address and a port such as \"127.0.0.1:19293\" or \"[::]:19293\"",
        ),
        (
            "detect = 3",
            "F:1: detect: found 3, expected a table: [detect]",
        ),
        (
            "[detect]\nstall_after = 3",
            "F:2: detect.stall_after: found 3, expected a span of time such as \"500ms\", \"3s\" or \"2m\" from 500ms to 10m",
        ),
        (
            "[detect]\nstall_after = '3 parsecs'",
            "F:2: detect.stall_after: found '3 parsecs', expected a span of time such as \"500ms\", \"3s\" or \"2m\" from 500ms to 10m",
        ),
        (
            "[detect]\nstall_after = '499ms'",
            "F:2: detect.stall_after: found '499ms', expected a span of time such as \"500ms\", \"3s\" or \"2m\" from 500ms to 10m",
        ),
        (
            "[detect]\nstall_after = '601s'",
            "F:2: detect.stall_after: found '601s', expected a span of time such as \"500ms\", \"3s\" or \"2m\" from 500ms to 10m",
        ),
        (
            "[detect]\nsweep_budget = 1",
            "F:2: detect.sweep_budget: found 1, expected a share of one core from 0.0001 to 0.5, such as 0.01",
        ),
        (
            "[detect]\nsweep_budget = nan",
            "F:2: detect.sweep_budget: found nan, expected a share of one core from 0.0001 to 0.5, such as 0.01",
        ),
        (
            "[detect]\nignore = [\n'10.0.0.0/8',\n'10.0.0.1/8']",
            "F:4: detect.ignore: found '10.0.0.1/8', expected a prefix without host bits such as \"192.0.2.0/24\" or \"2001:db8::/32\", or an address",
        ),
        (
            "[detect]\nignore = '10.0.0.0/8'",
            "F:2: detect.ignore: found '10.0.0.0/8', expected a list of prefixes such as [\"192.0.2.0/24\"]",
        ),
        (
            "[upstream]\nname = 'a'",
            "F:1: upstream: found [upstream], expected tables, each headed by [[upstream]]",
        ),
        (
            "[[upstream]]\ngateway = '192.0.2.1'",
            "F:1: upstream.name: is missing; add a name, such as name = \"provider-b\"",
        ),
        (
            "[[upstream]]\nname = ''\nmark = 1",
            "F:2: upstream.name: found '', expected a name of 1 to 64 printable characters without \"/\", such as \"provider-b\"",
        ),
        (
            "[[upstream]]\nname = 'a/b'\nmark = 1",
            "F:2: upstream.name: found 'a/b', expected a name of 1 to 64 printable characters without \"/\", such as \"provider-b\"",
        ),
        (
            "[[upstream]]\nname = 'a'\ngateway = '192.0.2.256'",
            "F:3: upstream.gateway: found '192.0.2.256', expected an address such as \"192.0.2.1\"",
        ),
        (
            "[[upstream]]\nname = 'a'\nmark = -1",
            "F:3: upstream.mark: found -1, expected a socket mark from 0 to 4294967295, such as 0x20",
        ),
        (
            "[[upstream]]\nname = 'a'\ninterface = 'a-name-of-16-ch'\nsource = '1/2'",
            "F:4: upstream.source: found '1/2', expected a prefix without host bits such as \"192.0.2.0/24\" or \"2001:db8::/32\", or an address",
        ),
        (
            "[[upstream]]\nname = 'a'",
            "F:2: upstream.name: upstream \"a\" matches nothing; give at least one of gateway, interface, source, mark, vrf, netns, destinations, destinations_file",
        ),
        (
            "[[upstream]]\nname = 'a'\nmark = 1\ngate = 'no'",
            "F:4: upstream.gate: found 'no', expected true, or false for what is no way out",
        ),
        (
            "[[upstream]]\nname = 'a'\nmark = 1\n[[upstream]]\nname = 'a'\nmark = 2",
            "F:5: upstream.name: found \"a\", which line 2 uses already; names must differ, so rename one of the two upstreams or merge them",
        ),
        (
            "hook = 1",
            "F:1: hook: found 1, expected tables, each headed by [[hook]]",
        ),
        (
            "[[hook]]\non = 'gate'\ncommand = ['/bin/true']",
            "F:1: hook.name: is missing; add a name, such as name = \"route\"",
        ),
        (
            "[[hook]]\nname = 'a/b'",
            "F:2: hook.name: found 'a/b', expected a name of 1 to 64 printable characters without \"/\", such as \"route\"",
        ),
        (
            "[[hook]]\nname = 'a'\ncommand = ['/bin/true']",
            "F:1: hook.on: is missing; add what it is told of: on = \"gate\" or on = \"state\"",
        ),
        (
            "[[upstream]]\nname = 'b'\nmark = 1\ngate = false\n[[hook]]\nname = 'a'\non = 'gate'",
            "F:7: hook.on: found 'gate', expected \"state\": no [[upstream]] of this file has a gate, so that there is none to be told of",
        ),
        (
            "[[hook]]\nname = 'a'\non = 'failing'",
            "F:3: hook.on: found 'failing', expected \"gate\" or \"state\"",
        ),
        (
            "[[hook]]\nname = 'a'\non = 'state'",
            "F:1: hook.command: is missing; add what is run, such as command = [\"/etc/tcpstall/route\"]",
        ),
        (
            "[[hook]]\nname = 'a'\non = 'state'\ncommand = '/bin/true'",
            "F:4: hook.command: found '/bin/true', expected a list of a program, by its absolute path, and its arguments, such as [\"/bin/echo\", \"hello\"]",
        ),
        (
            "[[hook]]\nname = 'a'\non = 'state'\ncommand = []",
            "F:4: hook.command: found [], expected a list of a program, by its absolute path, and its arguments, such as [\"/bin/echo\", \"hello\"]",
        ),
        (
            "[[hook]]\nname = 'a'\non = 'state'\ncommand = ['true']",
            "F:4: hook.command: found 'true', expected a list of a program, by its absolute path, and its arguments, such as [\"/bin/echo\", \"hello\"]",
        ),
        (
            "[[hook]]\nname = 'a'\non = 'state'\ncommand = [\"/bin/true\", \"\\u0000\"]",
            "F:4: hook.command: found \"\\u0000\", expected an argument without a zero byte",
        ),
        (
            "[[hook]]\nname = 'a'\non = 'state'\ncommand = ['/bin/true']\ntimeout = '0s'",
            "F:5: hook.timeout: found '0s', expected a span of time such as \"500ms\", \"3s\" or \"2m\" from 1s to 10m",
        ),
        (
            "[[hook]]\nname = 'a'\non = 'state'\ncommand = ['/bin/true']\nupstreams = ['b']",
            "F:5: hook.upstreams: found 'b', expected the name of an [[upstream]] of this file",
        ),
        (
            "[[hook]]\nname = 'a'\non = 'state'\ncommand = ['/bin/true']\nupstreams = []",
            "F:5: hook.upstreams: found [], expected a name at least, or no such key: then it is all of them",
        ),
        (
            "[[upstream]]\nname = 'b'\nmark = 1\ngate = false\n[[upstream]]\nname = 'c'\nmark = 2\n[[hook]]\nname = 'a'\non = 'gate'\ncommand = ['/bin/true']\nupstreams = ['b']",
            "F:12: hook.upstreams: found 'b', expected the name of an [[upstream]] of this file that has a gate",
        ),
        (
            "[[hook]]\nname = 'a'\non = 'state'\ncommand = ['/bin/true']\n[[hook]]\nname = 'a'\non = 'state'\ncommand = ['/bin/true']",
            "F:6: hook.name: found \"a\", which line 2 uses already; names must differ, so rename one of the two hooks or merge them",
        ),
        (
            "[[upstream]]\nname = 'a'\ndestinations_file = 'c.prefixes'",
            "F:3: upstream.destinations_file: found \"/etc/tcpstall/c.prefixes\", which does not exist, expected the path of a readable file, relative to the folder of this one",
        ),
        (
            "[[upstream]]\nname = 'a'\ndestinations_file = 'bad.prefixes'",
            "/etc/tcpstall/bad.prefixes:2: upstream.destinations_file: found \"10.0.0/8\", expected a prefix without host bits such as \"192.0.2.0/24\" or \"2001:db8::/32\", or an address, or a comment after #",
        ),
    ] {
        assert_eq!(complaint(text), expected, "{text}");
    }
}

#[test]
fn what_is_not_toml_is_said_with_its_line() {
    let complaint = complaint("\n\nsocket = \n");
    assert!(
        complaint.starts_with("F:3: not valid TOML: "),
        "{complaint}"
    );
}

#[test]
fn what_is_not_utf8_is_said_with_its_line() {
    let error = parse(Path::new("F"), b"# ok\n# \xff\n", &|_| {
        Err(io::ErrorKind::NotFound.into())
    });
    let error = error.expect_err("must be refused").to_string();
    assert_eq!(
        error,
        "F:2: holds bytes that are not UTF-8; save it as UTF-8 text"
    );
}

#[test]
fn a_file_that_was_asked_for_must_exist() {
    let source = Source {
        file: Some(PathBuf::from("/nowhere/t.toml")),
        ..Source::default()
    };
    let error = source.load().expect_err("must be refused");
    let expected = "/nowhere/t.toml: there is no such file; create it, or name another one";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_file_that_cannot_be_read_is_said_so() {
    let folder = tempfile::tempdir().expect("tempdir");
    let source = Source {
        file: Some(folder.path().to_owned()),
        ..Source::default()
    };
    let error = source.load().expect_err("must be refused").to_string();
    assert!(error.contains("cannot be read (Is a directory"), "{error}");
}

#[test]
fn flags_win_over_the_file() {
    let folder = tempfile::tempdir().expect("tempdir");
    let file = folder.path().join("t.toml");
    std::fs::write(&file, "socket = '/a'\nstate_dir = '/b'\n").expect("write");
    let overrides = Overrides {
        socket: Some("/c".into()),
        ..Overrides::default()
    };
    let config = Source {
        file: Some(file),
        overrides,
    }
    .load()
    .expect("valid");
    assert_eq!(config.socket, Path::new("/c"));
    assert_eq!(config.state_dir, Path::new("/b"));
    assert_eq!(config.metrics_address, Config::default().metrics_address);
}

#[test]
fn a_client_finds_the_socket_although_the_file_is_broken() {
    let folder = tempfile::tempdir().expect("tempdir");
    let file = folder.path().join("t.toml");
    let source = Source {
        file: Some(file.clone()),
        ..Source::default()
    };
    assert_eq!(source.socket(), Path::new(DEFAULT_SOCKET));
    std::fs::write(&file, "socket = '/a'\n").expect("write");
    assert_eq!(source.socket(), Path::new("/a"));
    std::fs::write(&file, "socket = 7\n").expect("write");
    assert_eq!(source.socket(), Path::new(DEFAULT_SOCKET));
    let overrides = Overrides {
        socket: Some("/c".into()),
        ..Overrides::default()
    };
    assert_eq!(
        Source {
            overrides,
            ..source
        }
        .socket(),
        Path::new("/c")
    );
}

/// As it is installed.
const INSTALLED: &str = include_str!("../../../packaging/tcpstall.toml");
/// `tcpstall.toml(5)`.
const PAGE: &str = include_str!("../../../packaging/man/tcpstall.toml.5");
/// Where a table begins in the file and in the page.
const TABLES: [&str; 3] = ["[detect]", "[[upstream]]", "[[hook]]"];

/// Every key, with the table that it belongs to.
fn known_keys() -> BTreeSet<String> {
    let known = |text: &str| match read(text).expect_err("no such key").problem {
        Problem::UnknownKey { known, .. } => known,
        other => panic!("{text:?}: {other}"),
    };
    let detect = known("[detect]\nno-such-key = 1");
    let upstream = known("[[upstream]]\nno-such-key = 1");
    let hook = known("[[hook]]\nno-such-key = 1");
    let top = known("no-such-key = 1")
        .iter()
        .filter(|key| !TABLES.iter().any(|it| it.contains(**key)));
    top.map(|key| (*key).to_owned())
        .chain(detect.iter().map(|key| format!("[detect] {key}")))
        .chain(upstream.iter().map(|key| format!("[[upstream]] {key}")))
        .chain(hook.iter().map(|key| format!("[[hook]] {key}")))
        .collect()
}

/// The keys of some lines, of which `table` begins a table and `key` names a key.
fn keys_of<'a>(
    lines: impl Iterator<Item = &'a str>,
    table: impl Fn(&str) -> Option<&'static str>,
    key: impl Fn(&'a str) -> Option<&'a str>,
) -> BTreeSet<String> {
    let mut prefix = String::new();
    let mut found = BTreeSet::new();
    for line in lines {
        if let Some(table) = table(line) {
            prefix = format!("{table} ");
        } else if let Some(key) = key(line) {
            assert!(
                found.insert(format!("{prefix}{key}")),
                "{line} is there twice"
            );
        }
    }
    found
}

/// The file as it is with the `#` before every key taken away. Comments have a space behind it.
fn uncommented() -> String {
    let lines = INSTALLED.lines().map(|line| {
        let rest = line.strip_prefix('#');
        rest.filter(|rest| rest.starts_with(|it: char| it.is_ascii_lowercase() || it == '['))
            .unwrap_or(line)
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_installed_file_changes_nothing_and_has_every_key() {
    assert_eq!(read(INSTALLED), Ok(Config::default()));

    let uncommented = uncommented();
    let table = |line: &str| TABLES.into_iter().find(|it| line == *it);
    let key = |line| str::split_once(line, " = ").map(|(key, _)| key);
    let lines = uncommented.lines().filter(|line| !line.starts_with('#'));
    assert_eq!(keys_of(lines, table, key), known_keys());

    let all = uncommented.replace("provider-b.prefixes", "b.prefixes");
    let mut config = read(&all).expect("valid with every key");
    let [rule] = std::mem::take(&mut config.upstreams)
        .try_into()
        .expect("one example");
    let gates = std::mem::take(&mut config.gates);
    assert_eq!(gates, ["provider-b"], "as without the line");
    let hooks = std::mem::take(&mut config.hooks);
    let [hook] = hooks.as_slice() else {
        panic!("one example: {hooks:?}");
    };
    assert_eq!(hook.timeout, Duration::from_secs(30), "as without the line");
    // What is written there is what counts anyway.
    assert_eq!(config, Config::default());
    assert_eq!(rule.name, "provider-b");
    assert_eq!(rule.destinations.map(|it| it.len()), Some(4));
}

#[test]
fn the_manual_page_has_every_key() {
    let lines: Vec<_> = PAGE.lines().collect();
    let named = lines.windows(2).filter_map(|pair| match *pair {
        [".TP", name] => name.strip_prefix(".B "),
        [heading, _] => heading.strip_prefix(".SH ").map(|_| heading),
        _ => None,
    });
    let table = |line: &str| TABLES.into_iter().find(|it| line.ends_with(it));
    let key = |line: &'static str| (!line.starts_with(".SH ")).then_some(line);
    assert_eq!(keys_of(named, table, key), known_keys());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>) {
        let _ = parse(Path::new("F"), &bytes, &|_| Ok(bytes.clone()));
    }

    #[test]
    fn no_values_make_it_panic(
        key in "stall_after|sweep_budget|ignore|x.y",
        other in "name|gateway|mark|netns|destinations|destinations_file",
        value in r#"'[^'\n]{0,9}'|[-0-9a-fx._]{1,9}|\[['0-9a-f:/.,]{0,20}\]|\{ a = 1 \}"#,
    ) {
        let text = format!("[detect]\n{key} = {value}\n[[upstream]]\nname='a'\n{other} = {value}\n");
        let _ = parse(Path::new("F"), text.as_bytes(), &|_| Ok(value.clone().into_bytes()));
    }
}

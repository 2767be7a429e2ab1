use clap::CommandFactory;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split(' '))
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn help_is_as_promised() {
    let mut text = String::new();
    let mut command = Cli::command().term_width(100);
    command.build();
    text.push_str(&command.render_long_help().to_string());
    for subcommand in command.get_subcommands_mut() {
        let name = subcommand.get_name().to_owned();
        text.push_str(&format!("\n===== tcpstall {name}\n"));
        let help = subcommand
            .clone()
            .term_width(100)
            .render_long_help()
            .to_string();
        text.push_str(&help);
    }
    let lines: Vec<_> = text.lines().map(str::trim_end).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn every_command_has_an_example() {
    for command in Cli::command().get_subcommands() {
        assert!(
            command.get_after_long_help().is_some(),
            "{}",
            command.get_name()
        );
    }
}

#[test]
fn every_flag_is_understood() {
    for line in [
        "tcpstall status",
        "tcpstall status -o wide",
        "tcpstall -o jsonl status --socket /x",
        "tcpstall stalls --json --by nexthop --upstream b --cause zero-window --phase stalled \
         --min-age 30s --dst 192.0.2.0/24 --src 2001:db8::1 --dport 25 --pid 1 --process x \
         --netns 4026531840 --limit 5",
        "tcpstall explain",
        "tcpstall explain c-7f3a9c01",
        "tcpstall incidents --limit 3 -o wide",
        "tcpstall incidents i-7f3a9c01",
        "tcpstall ticket provider-b --json",
        "tcpstall kill --upstream provider-b --min-age 30s --limit 5 --yes -o jsonl",
        "tcpstall kill --dport 25",
        "tcpstall fleet",
        "tcpstall fleet --prometheus http://prometheus.example:9090/prefix -o wide",
        "tcpstall watch --json",
        "tcpstall top --socket /x",
        "tcpstall check",
        "tcpstall check provider-b",
        "tcpstall check --gate provider-b",
        "tcpstall check --gate provider-b --on-unknown pass",
        "tcpstall check --gate=provider-b --on-unknown=fail --socket /x",
        "tcpstall record /x",
        "tcpstall record --for 60s --max-size 20MB --force /x",
        "tcpstall replay /x --config /y -o jsonl",
        "tcpstall doctor",
        "tcpstall completions zsh",
        "tcpstall man --dir /tmp/x",
        "tcpstall daemon --config /x --check --state-dir /y --metrics-address [::]:9 --log \
         info,detector=debug",
    ] {
        let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(parse(&line).is_ok(), "{line}: {:?}", parse(&line).err());
    }
}

#[test]
fn wrong_usage_is_refused() {
    for (line, expected) in [
        (
            "tcpstall stalls --cause x",
            "possible values: blackhole, mtu, loss",
        ),
        (
            "tcpstall stalls --min-age 3",
            "expected a span of time such as 30s or 2m",
        ),
        (
            "tcpstall stalls --dst 192.0.2.1/24",
            "expected a prefix without host bits",
        ),
        (
            "tcpstall stalls --by x",
            "possible values: upstream, nexthop, interface",
        ),
        ("tcpstall status --json -o wide", "cannot be used with"),
        (
            "tcpstall daemon --log =",
            "expected error, warn, info, debug, trace",
        ),
        (
            "tcpstall daemon --metrics-address localhost",
            "invalid socket address",
        ),
        ("tcpstall incidents i-1 --limit 3", "cannot be used with"),
        ("tcpstall ticket", "<UPSTREAM>"),
        (
            "tcpstall fleet --prometheus https://x",
            "http:// only; let a proxy on this host",
        ),
        (
            "tcpstall fleet --prometheus x:9090",
            "expected an address such as http://",
        ),
        ("tcpstall kill provider-b", "unexpected argument"),
        ("tcpstall kill --phase hung", "possible values: suspect"),
        ("tcpstall check --on-unknown pass", "--gate <UPSTREAM>"),
        ("tcpstall check b --gate b", "cannot be used with"),
        (
            "tcpstall check --gate ../b",
            "expected the name of an upstream",
        ),
        (
            "tcpstall check --gate b --on-unknown x",
            "possible values: pass, hold, fail",
        ),
        ("tcpstall record", "<FILE>"),
        (
            "tcpstall record /x --for 0s",
            "expected a span of time such as 60s",
        ),
        (
            "tcpstall record /x --max-size 20",
            "expected a size such as 500kB",
        ),
        ("tcpstall stats", "unrecognized subcommand"),
    ] {
        let error = parse(line)
            .err()
            .map(|it| it.to_string())
            .unwrap_or_default();
        assert!(error.contains(expected), "{line}: {error}");
    }
}

#[test]
fn json_is_short_for_o_json() {
    assert_eq!(
        parse("tcpstall status --json")
            .expect("valid")
            .common
            .format(),
        Format::Json
    );
    assert_eq!(
        parse("tcpstall status").expect("valid").common.format(),
        Format::Table
    );
}

#[test]
fn misused_check_is_recognised() {
    for (line, expected) in [
        ("tcpstall check --nonsense", true),
        ("tcpstall --socket check -o json check -x", true),
        ("tcpstall --socket=/x check a b", true),
        ("tcpstall status check", false),
        ("tcpstall --socket check status", false),
        ("tcpstall", false),
    ] {
        let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        assert_eq!(asks_for_check(&arguments), expected, "{line}");
        assert!(!asks_for_gate(&arguments), "{line}");
    }
    for line in ["tcpstall check --gate", "tcpstall check -x --gate=b"] {
        let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        assert!(
            asks_for_check(&arguments) && asks_for_gate(&arguments),
            "{line}"
        );
    }
}

#[test]
fn only_a_reader_that_left_is_no_failure() {
    let left = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
    assert!(output::is_closed_pipe(
        &anyhow::Error::from(left).context("printing")
    ));
    assert!(!output::is_closed_pipe(&anyhow::anyhow!("no daemon")));
}

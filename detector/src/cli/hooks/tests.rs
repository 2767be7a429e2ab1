use super::*;
use crate::{
    config,
    hooks::tests::hook,
    model::{Gate, Occasion, State},
    serve::{example, json},
};

fn status() -> Status {
    json::status(&example::snapshot(), &example::facts())
}

fn due(on: Occasion, level: Level, previous: Option<Level>) -> Due {
    Due {
        hook: hook("route", on),
        upstream: "provider-b".to_owned(),
        level,
        previous,
    }
}

/// What a hook is told of `provider-b`.
fn told(due: &Due, status: &Status) -> (BTreeMap<&'static str, String>, api::Told) {
    let mut upstreams = status.upstreams.iter();
    let upstream = upstreams.find(|it| it.name.ends_with("provider-b"));
    let upstream = upstream.expect("it is there");
    let program = program(due, status, upstream, Path::new("/run/t.sock"));
    assert_eq!(program.input.matches('\n').count(), 1);
    let told = serde_json::from_str(&program.input).expect("it is JSON");
    (program.variables.into_iter().collect(), told)
}

#[test]
fn a_hook_finds_everything_in_its_environment_and_on_its_input() {
    let closed = Level::Gate(Gate::Closed);
    let due = due(Occasion::Gate, closed, Some(Level::Gate(Gate::Open)));
    let (variables, told) = told(&due, &status());
    let all: Vec<_> = variables.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(
        all,
        [
            "TCPSTALL_CAUSE=mtu",
            "TCPSTALL_GATE=closed",
            "TCPSTALL_HOOK=route",
            "TCPSTALL_INTERFACE=wan1",
            "TCPSTALL_NEXTHOP=203.0.113.1",
            "TCPSTALL_ON=gate",
            "TCPSTALL_PREVIOUS=open",
            "TCPSTALL_SCOPE=upstream",
            "TCPSTALL_SOCKET=/run/t.sock",
            "TCPSTALL_STATE=failing",
            "TCPSTALL_UPSTREAM=provider-b",
        ]
    );
    assert_eq!(told.previous.as_deref(), Some("open"));
    assert_eq!(told.upstream.gate, Some(Gate::Closed));
    assert_eq!((told.schema, told.hook.as_str()), (SCHEMA, "route"));
}

#[test]
fn what_is_not_known_is_empty_and_null() {
    let mut status = status();
    for upstream in &mut status.upstreams {
        upstream.cause = None;
        upstream.scope = None;
        upstream.gate = None;
        upstream.gateway = None;
        upstream.interface = None;
    }
    let due = due(Occasion::State, Level::State(State::Ok), None);
    let (variables, told) = told(&due, &status);
    for name in ["CAUSE", "SCOPE", "GATE", "NEXTHOP", "INTERFACE", "PREVIOUS"] {
        assert_eq!(variables[&*format!("TCPSTALL_{name}")], "", "{name}");
    }
    assert_eq!(told.previous, None);
    assert_eq!(told.upstream.gateway, None);
}

/// An upstream that nobody has named is called by its interface's alias, which somebody else may have set.
#[test]
fn names_steer_nothing() {
    let mut status = status();
    for upstream in &mut status.upstreams {
        upstream.name.insert_str(0, "\u{1b}[2J\n$(reboot) ");
    }
    let due = due(Occasion::State, Level::State(State::Failing), None);
    let (variables, told) = told(&due, &status);
    let name = r"\u{1b}[2J\u{a}$(reboot) provider-b";
    assert_eq!(variables["TCPSTALL_UPSTREAM"], name);
    assert!(
        told.upstream.name.starts_with('\u{1b}'),
        "as it is, in JSON"
    );
}

#[test]
fn what_happens_is_said_in_a_line() {
    let gate = |gate| Level::Gate(gate);
    let first = due(Occasion::Gate, gate(Gate::Open), None);
    assert_eq!(occasion(&first), "hook route for provider-b: gate open");
    let later = due(
        Occasion::State,
        Level::State(State::Failing),
        Some(Level::State(State::Ok)),
    );
    assert_eq!(
        occasion(&later),
        "hook route for provider-b: state failing, was ok"
    );
}

#[test]
fn without_hooks_there_is_nothing_to_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("t.toml");
    std::fs::write(&file, "").expect("written");
    let args = Args {
        config: Some(file),
        dry_run: false,
    };
    let common = Common {
        output: output::Format::Table,
        json: false,
        socket: None,
    };
    let error = run(&args, &common).expect_err("refused").to_string();
    assert!(error.contains("t.toml has no [[hook]]"), "{error}");
    let args = Args {
        config: Some(folder.path().join("none")),
        ..args
    };
    let error = run(&args, &common).expect_err("refused").to_string();
    assert!(error.contains("there is no such file"), "{error}");
    assert_eq!(config::Config::default().hooks, []);
}

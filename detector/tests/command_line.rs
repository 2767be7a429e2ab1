//! The binary as scripts and monitors see it: exit codes, and what goes where. Needs no daemon.

use std::process::{Command, Output, Stdio};

fn tcpstall(arguments: &[&str]) -> Output {
    command(arguments).output().expect("it runs")
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tcpstall"));
    command.args(arguments).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TCPSTALL_") {
            command.env_remove(name);
        }
    }
    command
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

#[test]
fn without_a_daemon_every_question_fails_with_what_to_do() {
    for command in ["status", "stalls", "explain", "watch"] {
        let output = tcpstall(&[command, "--socket", "/nonexistent/t.sock"]);
        assert_eq!(output.status.code(), Some(1), "{command}");
        assert_eq!(stdout(&output), "", "{command}");
        let words = stderr(&output);
        assert!(
            words.starts_with("tcpstall: no tcpstall daemon answers on /nonexistent/t.sock"),
            "{words}"
        );
        assert!(words.contains("`sudo tcpstall daemon`"), "{words}");
    }
}

#[test]
fn the_socket_can_be_named_by_the_environment_or_the_file() {
    let output = command(&["status"])
        .env("TCPSTALL_SOCKET", "/nonexistent/e.sock")
        .output()
        .expect("it runs");
    assert!(stderr(&output).contains("/nonexistent/e.sock"));
    let folder = tempfile::tempdir().expect("tempdir");
    let file = folder.path().join("t.toml");
    std::fs::write(&file, "socket = '/nonexistent/f.sock'").expect("written");
    let output = command(&["status"])
        .env("TCPSTALL_CONFIG", &file)
        .output()
        .expect("it runs");
    assert!(stderr(&output).contains("/nonexistent/f.sock"));
}

#[test]
fn a_monitor_is_answered_unknown_in_one_line() {
    for arguments in [
        &["check", "--socket", "/nonexistent/t.sock"][..],
        &["check", "--nonsense"],
        &["check", "a", "b"],
    ] {
        let output = tcpstall(arguments);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}");
        let line = stdout(&output);
        assert!(line.starts_with("TCPSTALL UNKNOWN - "), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
    }
}

#[test]
fn a_failover_program_is_answered_0_or_1_in_one_line_whatever_happens() {
    let folder = tempfile::tempdir().expect("tempdir");
    let socket = folder.path().join("t.sock");
    let socket = socket.to_str().expect("text");
    let gate = folder.path().join("gate");
    std::fs::create_dir(&gate).expect("made");
    std::fs::write(gate.join("closed"), "0\n").expect("written");
    std::fs::write(gate.join("open"), "1\n").expect("written");
    std::fs::write(gate.join("damaged"), "").expect("written");
    for (name, on_unknown, code, begin) in [
        (
            "closed",
            None,
            1,
            "closed: avoid it; as was last known (no ",
        ),
        ("open", None, 0, "open: use it; as was last known (no "),
        (
            "damaged",
            None,
            0,
            "damaged: use it; nothing is known against it (no ",
        ),
        (
            "nobody",
            None,
            0,
            "nobody: use it; nothing is known against it (no ",
        ),
        (
            "closed",
            Some("hold"),
            1,
            "closed: avoid it; as was last known (no ",
        ),
        (
            "closed",
            Some("pass"),
            0,
            "closed: use it; as asked for (no tcpstall daemon",
        ),
        (
            "open",
            Some("fail"),
            1,
            "open: avoid it; as asked for (no tcpstall daemon",
        ),
        ("a/b", None, 0, "use it; wrong usage"),
        ("closed", Some("maybe"), 0, "use it; wrong usage"),
    ] {
        let mut arguments = vec!["check", "--socket", socket, "--gate", name];
        arguments.extend(on_unknown.map(|it| ["--on-unknown", it]).iter().flatten());
        let output = tcpstall(&arguments);
        let line = stdout(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {line}");
        assert!(line.starts_with(begin), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
    }
    let unfinished = tcpstall(&["check", "--gate"]);
    assert_eq!(unfinished.status.code(), Some(0));
    let misused = tcpstall(&["check", "--on-unknown", "pass"]);
    assert_eq!(misused.status.code(), Some(3), "it is not about a gate");
}

#[test]
fn a_line_that_nobody_reads_is_no_answer_about_a_gate() {
    let folder = tempfile::tempdir().expect("tempdir");
    let gate = folder.path().join("gate");
    std::fs::create_dir(&gate).expect("made");
    std::fs::write(gate.join("b"), "0\n").expect("written");
    let socket = folder.path().join("t.sock");
    let socket = socket.to_str().expect("text");
    for (on_unknown, code) in [("hold", 1), ("pass", 0)] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let arguments = ["check", "--gate", "b", "--on-unknown", on_unknown];
        let mut command = command(&arguments);
        let output = command.args(["--socket", socket]).stdout(writer).output();
        assert_eq!(output.expect("it runs").status.code(), Some(code));
    }
}

#[test]
fn wrong_usage_is_2_and_help_is_0() {
    for (arguments, code) in [
        (&["stats"][..], 2),
        (&["stalls", "--cause", "x"], 2),
        (&["kill"], 2),
        (&["kill", "--yes", "--limit", "3"], 2),
        (&["kill", "--upstream", "b", "--phase", "suspect"], 2),
        (&[], 2),
        (&["--help"], 0),
        (&["check", "--help"], 0),
        (&["--version"], 0),
    ] {
        let output = tcpstall(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        let said = if code == 0 {
            &output.stdout
        } else {
            &output.stderr
        };
        assert!(!said.is_empty(), "{arguments:?}");
    }
}

#[test]
fn what_is_to_be_reset_must_be_named() {
    for arguments in [&["kill", "--yes"][..], &["kill", "--limit", "3"]] {
        let output = tcpstall(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(stdout(&output), "", "{arguments:?}");
        let words = stderr(&output);
        assert!(words.contains("`--upstream provider-b`"), "{words}");
        assert_eq!(words.lines().count(), 1, "{words}");
    }
    let named = [
        "kill",
        "--dport",
        "25",
        "--phase",
        "stalled",
        "--socket",
        "/nonexistent/t.sock",
    ];
    let output = tcpstall(&named);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no tcpstall daemon answers on /nonexistent/t.sock"));
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    for arguments in [&["man"][..], &["completions", "bash"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = command(arguments).stdout(writer).output().expect("it runs");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert_eq!(stderr(&output), "", "{arguments:?}");
    }
}

#[test]
fn a_configuration_is_checked_without_starting() {
    let folder = tempfile::tempdir().expect("tempdir");
    let file = folder.path().join("t.toml");
    let check = || {
        let file = file.to_str().expect("text");
        tcpstall(&["daemon", "--check", "--config", file])
    };
    std::fs::write(
        &file,
        "[[upstream]]\nname = 'provider-b'\ngateway = '203.0.113.1'\n",
    )
    .expect("written");
    let output = check();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stdout(&output).ends_with("is valid; upstreams, the first that matches wins: provider-b\n")
    );
    std::fs::write(&file, "\n[detect]\nstall_afer = '3s'\n").expect("written");
    let output = check();
    assert_eq!(output.status.code(), Some(1));
    let words = stderr(&output);
    let expected = format!(
        "tcpstall: {}:3: detect.stall_afer: unknown key; did you mean stall_after?\n",
        file.display()
    );
    assert_eq!(words, expected);
    assert_eq!(stdout(&output), "");
}

#[test]
fn there_is_a_manual_page_per_command() {
    let folder = tempfile::tempdir().expect("tempdir");
    let to = folder.path().join("man1");
    let output = tcpstall(&["man", "--dir", to.to_str().expect("text")]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for page in [
        "tcpstall.1",
        "tcpstall-status.1",
        "tcpstall-daemon.1",
        "tcpstall-explain.1",
        "tcpstall-kill.1",
    ] {
        assert!(to.join(page).is_file(), "{page}");
    }
    let output = tcpstall(&["man", "--dir", "/proc/nonexistent"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("name a folder you may write to"));
}

#[test]
fn doctor_prints_data_only() {
    let output = tcpstall(&["doctor", "--json"]);
    assert!(matches!(output.status.code(), Some(0 | 1)));
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let rows = rows.as_array().expect("a list");
    assert!(!rows.is_empty());
    for row in rows {
        assert!(
            row["feature"].is_string() && row["ok"].is_boolean(),
            "{row}"
        );
    }
}

#[test]
fn nothing_is_coloured_without_a_terminal() {
    let output = tcpstall(&["doctor"]);
    assert!(!stdout(&output).contains('\x1b'));
}

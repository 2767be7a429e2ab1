//! The commands, from where a user stands.

use std::process::Output;

use lab::{Direction, Fault, Load, daemon::run};

use crate::world::{World, it_works};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn without_a_daemon_the_answer_names_the_socket_and_how_to_start_one() {
    let Some(world) = World::new(1) else { return };
    let nowhere = "/nonexistent/tcpstall.sock";
    for command in ["status", "stalls", "explain", "watch"] {
        let output = it_works(run(&world.lab.host, &[command, "--socket", nowhere]));
        assert_eq!(
            output.status.code(),
            Some(1),
            "{command}: {}",
            said(&output)
        );
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(words.contains(nowhere), "{command}: {words}");
        assert!(
            words.contains("tcpstall daemon") || words.contains("systemctl"),
            "{words}"
        );
        assert!(
            output.stdout.is_empty(),
            "{command}: data only on standard output"
        );
    }
    let output = it_works(run(&world.lab.host, &["check", "--socket", nowhere]));
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
}

#[test]
fn check_follows_the_verdict() {
    let Some(world) = World::healthy() else {
        return;
    };
    let check = |upstream: &str| {
        let output = it_works(world.daemon().cli(&["check", upstream]));
        (output.status.code(), said(&output))
    };
    let (code, words) = check("provider-b");
    assert_eq!(code, Some(0), "{words}");
    world.break_(1, Fault::Blackhole(Direction::Both));
    world.is_blamed(1, "blackhole");
    let (code, words) = check("provider-b");
    assert_eq!(code, Some(2), "{words}");
    assert!(
        words.contains("CRITICAL") && words.contains("provider-b"),
        "{words}"
    );
    let (code, words) = check("provider-a");
    assert_eq!(code, Some(0), "{words}");
    let (code, words) = check("provider-x");
    assert_eq!(code, Some(3), "{words}");
}

#[test]
fn an_upstream_without_traffic_is_unknown_to_check() {
    let Some(mut world) = World::new(2) else {
        return;
    };
    world.traffic(0, 0..20, Load::STEADY);
    world.watch();
    let output = it_works(world.daemon().cli(&["check", "provider-b"]));
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
}

#[test]
fn every_view_of_an_incident_names_the_upstream_and_the_cause() {
    let Some(world) = World::healthy() else {
        return;
    };
    world.break_(1, Fault::Blackhole(Direction::Both));
    world.is_blamed(1, "blackhole");
    for command in [
        &["status"][..],
        &["status", "-o", "wide"],
        &["status", "-o", "json"],
        &["stalls"],
        &["stalls", "-o", "jsonl"],
        &["stalls", "--by", "upstream"],
        &["explain", "provider-b"],
    ] {
        let text = it_works(world.daemon().cli_ok(command));
        assert!(text.contains("provider-b"), "{command:?}:\n{text}");
        assert!(
            !text.contains('\u{1b}'),
            "{command:?} is coloured without a terminal"
        );
        // Grouped by upstream there is one row for all causes.
        assert!(
            text.contains("blackhole") || command.contains(&"--by"),
            "{command:?}:\n{text}"
        );
    }
    let metrics = it_works(world.daemon().metrics());
    let series = r#"tcpstall_upstream_state{state="failing",upstream="provider-b"} 1"#;
    assert!(metrics.contains(series), "no {series} in\n{metrics}");
    for kind in [
        "tcpstall_stalled_connections{",
        "tcpstall_stalled_destinations{",
    ] {
        assert!(metrics.contains(kind), "no {kind} in\n{metrics}");
    }
}

#[test]
fn the_stream_of_events_tells_of_begin_and_end() {
    let Some(world) = World::healthy() else {
        return;
    };
    let events = it_works(world.daemon().events());
    world.break_(1, Fault::Blackhole(Direction::Both));
    world.is_blamed(1, "blackhole");
    world.recovers(1);
    let seen: Vec<_> = events.try_iter().map(|(_, event)| event).collect();
    let tells = |from: &str, to: &str| {
        seen.iter()
            .any(|event| event["from"] == from && event["to"] == to)
    };
    assert!(
        seen.iter().all(|event| event["upstream"] == "provider-b"),
        "{seen:?}"
    );
    assert!(
        tells("ok", "failing") || tells("degraded", "failing"),
        "{seen:?}"
    );
    assert!(
        tells("failing", "ok") || tells("degraded", "ok"),
        "{seen:?}"
    );
}

#[test]
fn a_ticket_has_what_the_provider_needs_now_and_afterwards() {
    let Some(world) = World::healthy() else {
        return;
    };
    let nothing = it_works(world.daemon().cli(&["ticket", "provider-b"]));
    assert_eq!(nothing.status.code(), Some(1));
    assert!(said(&nothing).contains("there is nothing to report"));
    let nobody = it_works(world.daemon().cli(&["ticket", "provider-x"]));
    assert_eq!(nobody.status.code(), Some(1));
    assert!(said(&nobody).contains("known are provider-"));

    world.break_(1, Fault::Blackhole(Direction::Both));
    world.is_blamed(1, "blackhole");
    let ticket = it_works(world.daemon().cli_ok(&["ticket", "provider-b"]));
    let gateway = world.lab.upstreams[1].gateway;
    for part in [
        format!("Subject: TCP connections through your gateway {gateway} hang: nothing comes back"),
        "destinations stalled".to_owned(),
        "through our other links 0 of 40 destinations stalled".to_owned(),
        "sent again".to_owned(),
    ] {
        assert!(ticket.contains(&part), "{part:?} in\n{ticket}");
    }
    let stalls = world.stalls(&["--upstream", "provider-b"]);
    let an_example = stalls.iter().any(|it| ticket.contains(&it.remote));
    assert!(an_example, "no connection of {stalls:?} in\n{ticket}");

    world.recovers(1);
    let past = it_works(world.daemon().cli(&["ticket", "provider-b"]));
    let words = said(&past).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(past.status.success(), "{words}");
    assert!(
        words.contains("were established and then made no progress")
            && words.contains("provider-b is ok now: this is about its last incident"),
        "{words}"
    );
}

use jiff::{Timestamp, ToSpan};

use super::*;
use crate::{
    act::Done,
    model::{Cause, Excluded, Fate, Gate, Scope, State},
    sense::Check,
    serve::{Filter, example, json},
};

mod explained;

const WIDTH: usize = 80;

pub(in crate::cli) fn status() -> api::Status {
    json::status(&example::snapshot(), &example::facts())
}

pub(in crate::cli) fn stalls() -> Vec<api::Stall> {
    json::stalls(&example::snapshot(), &example::facts(), &Filter::default())
}

/// A connection that was reset.
pub(in crate::cli) fn done(id: u8) -> Done {
    Done {
        id: format!("c-7f3a9c{id:02x}"),
        local: "10.0.0.2:40000".parse().expect("address"),
        remote: format!("198.51.100.{id}:25").parse().expect("address"),
        process: Some("smtpd".to_owned()),
        outcome: Fate::Reset,
        because: None,
    }
}

/// One of each kind, and more of some.
fn all_done() -> Vec<Done> {
    let left = |id, outcome, because: &str| Done {
        outcome,
        because: Some(because.to_owned()),
        ..done(id)
    };
    vec![
        done(1),
        left(2, Fate::Recovered, "data was acknowledged since"),
        Done {
            process: Some("evil\u{1b}[2J".to_owned()),
            ..done(3)
        },
        left(4, Fate::Gone, "it has ended"),
        left(
            5,
            Fate::Refused,
            "its network namespace 4026532280 is not to be found",
        ),
        Done {
            process: None,
            ..left(6, Fate::Refused, "the kernel does not allow it")
        },
        left(7, Fate::Refused, "the kernel does not allow it"),
    ]
}

fn now() -> Timestamp {
    example::facts().wall
}

pub(super) fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

/// The host with its upstreams in these states.
fn with_states(states: &[State]) -> api::Status {
    let mut status = status();
    let template = status.upstreams[0].clone();
    status.upstreams = (b'a'..)
        .zip(states)
        .map(|(name, state)| api::Upstream {
            name: char::from(name).to_string(),
            state: *state,
            ..template.clone()
        })
        .collect();
    status
}

#[test]
fn status_is_a_sentence_and_a_row_per_upstream() {
    insta::assert_snapshot!(plain(&super::status(&status(), false)));
}

#[test]
fn wide_status_adds_certainty_and_exclusions() {
    insta::assert_snapshot!(plain(&super::status(&status(), true)));
}

#[test]
fn colours_follow_the_state() {
    insta::assert_snapshot!(super::status(&status(), false).replace('\x1b', "␛"));
}

#[test]
fn the_sentence_says_which_and_why() {
    use State::{Degraded, Failing, Idle, Ok};
    for (states, expected) in [
        (&[][..], "No upstream has been seen yet."),
        (&[Ok], "The only upstream is ok."),
        (&[Ok, Ok, Ok], "All 3 upstreams are ok."),
        (
            &[Ok, Idle],
            "1 upstream is ok; 1 with too little traffic to judge.",
        ),
        (
            &[Ok, Ok, Idle],
            "2 upstreams are ok; 1 with too little traffic to judge.",
        ),
        (&[Idle, Idle], "No upstream has enough traffic to judge."),
        (
            &[Failing, Degraded, Ok],
            "2 of 3 upstreams are bad: a is failing (mtu), b is degraded (mtu).",
        ),
        (
            &[Failing],
            "a has been failing for 12.3 s: only large segments vanish (mtu); 31 of 34 \
             destinations stalled.",
        ),
    ] {
        assert_eq!(sentence(&with_states(states)), expected);
    }
    let many = sentence(&with_states(&[Failing; 8]));
    assert!(many.ends_with("e is failing (mtu), 3 more."), "{many}");
    let mut common = with_states(&[Failing, Failing]);
    common.scope = Some(Scope::Common);
    let common = sentence(&common);
    assert!(
        common.starts_with("Every upstream that can be judged is bad at once"),
        "{common}"
    );
}

#[test]
fn an_old_judgement_is_not_passed_off_as_new() {
    let status = status();
    assert_eq!(stale(&status, now() + 59.seconds()), None);
    assert_eq!(stale(&status, now() - 60.seconds()), None);
    let warning = stale(&status, now() + 200.seconds()).expect("a warning");
    assert!(
        warning.starts_with("the newest judgement is 3m 20s old"),
        "{warning}"
    );
}

#[test]
fn what_was_reset_is_told_in_a_line_and_each_reason_once() {
    let told = [vec![killed(&all_done())], refusals(&all_done())].concat();
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn wide_what_was_reset_is_a_row_each() {
    let told = plain(&wide_killed(&all_done()));
    assert!(!told.contains('\u{1b}'), "{told:?}");
    insta::assert_snapshot!(told);
}

#[test]
fn sums_of_what_was_reset_agree_with_their_nouns() {
    let of = |fates: &[Fate]| {
        let done = |outcome: &Fate| Done {
            outcome: *outcome,
            ..done(1)
        };
        killed(&fates.iter().map(done).collect::<Vec<_>>())
    };
    let nothing = "No connection that fits the filters is stalled: there is nothing to reset.";
    assert_eq!(of(&[]), nothing);
    assert_eq!(would_kill(0), nothing);
    assert_eq!(of(&[Fate::Reset]), "1 connection reset.");
    assert_eq!(
        of(&[Fate::Recovered]),
        "0 connections reset; 1 had recovered and was left alone."
    );
    assert_eq!(
        of(&[Fate::Reset, Fate::Reset, Fate::Gone]),
        "2 connections reset; 1 had ended already."
    );
    assert!(would_kill(1).contains("this connection is"));
    assert!(would_kill(2).contains("these 2 connections are"));
    assert!(refusals(&[done(1)]).is_empty());
}

#[test]
fn stalls_are_a_row_each() {
    insta::assert_snapshot!(plain(&super::stalls(&stalls(), false)));
}

#[test]
fn wide_stalls_add_what_the_cause_rests_on() {
    insta::assert_snapshot!(plain(&super::stalls(&stalls(), true)));
}

#[test]
fn no_stalls_are_no_table() {
    assert_eq!(super::stalls(&[], false), "");
}

#[test]
fn groups_are_by_what_was_asked() {
    let mut text = String::new();
    for key in <Key as clap::ValueEnum>::value_variants() {
        text.push_str(&plain(&grouped(&groups(&stalls(), *key), *key)));
        text.push('\n');
    }
    insta::assert_snapshot!(text);
}

#[test]
fn every_connection_is_in_one_group() {
    for key in <Key as clap::ValueEnum>::value_variants() {
        let groups = serde_json::to_value(groups(&stalls(), *key)).expect("JSON");
        let groups = groups.as_array().expect("a list");
        let count = |it: &serde_json::Value| {
            it["stalled"].as_u64().expect("a number") + it["suspect"].as_u64().expect("a number")
        };
        assert_eq!(groups.iter().map(count).sum::<u64>(), 5, "{key:?}");
    }
}

#[test]
fn an_upstream_is_explained() {
    let status = status();
    insta::assert_snapshot!(plain(&explain_upstream(
        &status.upstreams[0],
        &status,
        &stalls(),
        WIDTH
    )));
}

/// What hangs is counted as lost when it gets through at last: of a black hole nothing is.
#[test]
fn where_all_hangs_nobody_is_told_that_nothing_was_lost() {
    let mut status = status();
    let explained = |status: &api::Status| {
        plain(&explain_upstream(
            &status.upstreams[0],
            status,
            &stalls(),
            WIDTH,
        ))
    };
    for (lost, told) in [(0.0, false), (0.3, true)] {
        status.upstreams[0].evidence.lost = Some(lost);
        let text = explained(&status);
        assert!(!text.contains("not a single segment"), "{text}");
        assert_eq!(text.contains("were lost lately"), told, "{text}");
    }
}

#[test]
fn a_single_destination_that_does_well_elsewhere_is_told_of_in_the_singular() {
    let mut status = status();
    for (destinations, fine, told) in [
        (
            1,
            1,
            "1 is in use through other upstreams too; it makes progress there",
        ),
        (
            2,
            2,
            "2 are in use through other upstreams too; all of them make progress there",
        ),
        (
            3,
            1,
            "3 are in use through other upstreams too; 1 of them makes progress there",
        ),
    ] {
        status.upstreams[0].counterfactual = api::Counterfactual {
            destinations,
            fine_elsewhere: fine,
        };
        let text = plain(&explain_upstream(
            &status.upstreams[0],
            &status,
            &stalls(),
            400,
        ));
        assert!(text.contains(told), "{text}");
    }
}

#[test]
fn an_upstream_that_is_fine_is_explained() {
    let status = status();
    insta::assert_snapshot!(plain(&explain_upstream(
        &status.upstreams[1],
        &status,
        &[],
        WIDTH
    )));
}

#[test]
fn a_connection_is_explained() {
    insta::assert_snapshot!(plain(&explain_connection(&stalls()[0], &status(), WIDTH)));
}

#[test]
fn a_peer_that_does_not_read_is_explained() {
    insta::assert_snapshot!(plain(&explain_connection(&stalls()[3], &status(), WIDTH)));
}

#[test]
fn every_cause_has_a_next_step() {
    for cause in Cause::ALL {
        let nowhere = next::steps(*cause, None, &next::Place::default());
        assert!(!nowhere.is_empty(), "{cause}");
        let mut stall = stalls().remove(0);
        stall.interface = Some("$(reboot)".to_owned());
        let place = next::Place::of_connection(&stall, None);
        let steps = format!("{:?}", next::steps(*cause, None, &place));
        assert!(!steps.contains("reboot"), "{steps}");
    }
}

#[test]
fn check_follows_the_worst_or_the_one_that_was_asked_for() {
    use State::{Degraded, Failing, Idle, Ok};
    for (states, upstream, code, begin) in [
        (
            &[Ok, Failing][..],
            None,
            2,
            "TCPSTALL CRITICAL - b: failing for 12.3 s, only large",
        ),
        (
            &[Ok, Failing],
            Some("a"),
            0,
            "TCPSTALL OK - a: 31 of 34 destinations stalled | 'a_",
        ),
        (
            &[Degraded, Failing],
            Some("a"),
            1,
            "TCPSTALL WARNING - a: degraded for",
        ),
        (
            &[Degraded, Ok],
            None,
            1,
            "TCPSTALL WARNING - a: degraded for",
        ),
        (
            &[Ok, Ok, Idle],
            None,
            0,
            "TCPSTALL OK - 2 upstreams ok, 1 idle | ",
        ),
        (
            &[Ok, Idle],
            Some("b"),
            3,
            "TCPSTALL UNKNOWN - b: too little traffic to judge | ",
        ),
        (
            &[Idle, Idle],
            None,
            3,
            "TCPSTALL UNKNOWN - too little traffic to judge any of 2 upstreams | ",
        ),
        (
            &[],
            None,
            3,
            "TCPSTALL UNKNOWN - no upstream has been seen yet\n",
        ),
        (
            &[Ok],
            Some("x"),
            3,
            "TCPSTALL UNKNOWN - there is no upstream called x; known are a\n",
        ),
    ] {
        let (found, line) = check(Result::Ok(&with_states(states)), upstream, now());
        assert_eq!(found, code, "{line}");
        assert!(line.starts_with(begin), "{line}");
        assert_eq!(line.matches('\n').count(), 1, "{line}");
    }
}

#[test]
fn check_gives_performance_data() {
    let (_, line) = check(Ok(&status()), Some("provider-b"), now());
    insta::assert_snapshot!(line);
}

#[test]
fn check_does_not_know_without_a_daemon_or_with_an_old_judgement() {
    let (code, line) = check(Err(&"no daemon\nat all | here".to_owned()), None, now());
    let expected = "TCPSTALL UNKNOWN - no daemon\\u{a}at all / here\n";
    assert_eq!((code, line.as_str()), (3, expected));
    let (code, line) = check(Ok(&status()), None, now() + 1.hours());
    assert_eq!(code, 3);
    assert!(
        line.starts_with("TCPSTALL UNKNOWN - the newest judgement is 1h 00m old"),
        "{line}"
    );
}

/// The host with gates: state, scope, gate and when it opens.
fn with_gates(upstreams: &[(State, Scope, Gate, Option<f64>)]) -> api::Status {
    let states: Vec<_> = upstreams.iter().map(|it| it.0).collect();
    let mut status = with_states(&states);
    for (upstream, (_, scope, gate, opens)) in status.upstreams.iter_mut().zip(upstreams) {
        upstream.scope = Some(*scope);
        upstream.gate = Some(*gate);
        upstream.gate_opens_seconds = *opens;
    }
    status
}

#[test]
fn a_gate_is_told_in_a_line() {
    use Gate::{Closed, Open};
    let status = with_gates(&[
        (State::Failing, Scope::Upstream, Closed, None),
        (State::Idle, Scope::Upstream, Closed, Some(42.0)),
        (State::Failing, Scope::Upstream, Open, None),
    ]);
    for (name, gate, line) in [
        (
            "a",
            Closed,
            "a: avoid it; its gate is closed until it has been neither failing nor degraded for a \
             while\n",
        ),
        (
            "b",
            Closed,
            "b: avoid it; its gate is closed, and opens in 42.0 s if nothing happens\n",
        ),
        ("c", Open, "c: use it; its gate is open\n"),
    ] {
        let told = super::gate(Ok(&status), name, now());
        assert_eq!(told, Ok((gate, line.to_owned())));
    }
    let late = super::gate(Ok(&status), "c", now() + 1.hours());
    assert!(late.is_err_and(|it| it.starts_with("the newest judgement is 1h 00m old")));
    let mut gateless = status.clone();
    gateless.upstreams[2].gate = None;
    for (status, name, expected) in [
        (Err("no\ndaemon"), "c", "no\ndaemon"),
        (
            Ok(&status),
            "x",
            "there is no upstream called x; known are a, b, c",
        ),
        (
            Ok(&gateless),
            "c",
            "c has no gate: the configuration gives none",
        ),
    ] {
        let no_daemon = status.as_ref().err().map(ToString::to_string);
        let status = status.map_err(|_| no_daemon.as_ref().expect("the same"));
        let why = super::gate(status, name, now()).expect_err("not known");
        assert_eq!(why, expected);
        let line = unknown_gate(name, Open, "as asked for", &why);
        let escaped = expected.replace('\n', "\\u{a}");
        assert_eq!(line, format!("{name}: use it; as asked for ({escaped})\n"));
    }
}

#[test]
fn what_is_out_of_the_ordinary_with_a_gate_is_a_sentence() {
    use Gate::{Closed, Open};
    let (upstream, common) = (Scope::Upstream, Scope::Common);
    for (second, first, expected) in [
        (
            (State::Ok, upstream, Open, None),
            (State::Ok, upstream, Open),
            None,
        ),
        (
            (State::Ok, upstream, Open, None),
            (State::Idle, upstream, Closed),
            Some(
                "Failover programs are told to avoid a: its gate is closed, and opens in 9.0 s if \
                 nothing happens.",
            ),
        ),
        (
            (State::Idle, upstream, Closed, Some(9.0)),
            (State::Failing, upstream, Open),
            Some(
                "Failover programs are told to use a although it is failing: no other gate is open.",
            ),
        ),
        (
            (State::Failing, common, Open, None),
            (State::Failing, common, Open),
            None,
        ),
        (
            (State::Ok, upstream, Open, None),
            (State::Failing, upstream, Open),
            None,
        ),
    ] {
        let opens = (first.2 == Closed).then_some(9.0);
        let status = with_gates(&[(first.0, first.1, first.2, opens), second]);
        let told = gate::sentence(&status.upstreams[0], &status);
        assert_eq!(told.as_deref(), expected);
        let said = |text: &str| {
            let words: Vec<_> = text.split_whitespace().collect();
            expected.is_some_and(|it| words.join(" ").contains(it))
        };
        assert_eq!(
            said(&plain(&super::status(&status, true))),
            expected.is_some()
        );
        let explained = explain_upstream(&status.upstreams[0], &status, &[], WIDTH);
        assert_eq!(said(&plain(&explained)), expected.is_some());
    }
}

#[test]
fn names_cannot_break_the_line_of_check() {
    let mut status = with_states(&[State::Failing]);
    status.upstreams[0].name = "a|b='c'\n".to_owned();
    let (_, line) = check(Ok(&status), None, now());
    assert_eq!(
        (line.matches('|').count(), line.matches('\n').count()),
        (1, 1),
        "{line}"
    );
    assert!(line.contains(r"'a_b__c_\u{a}_stalled'=55"), "{line}");
}

#[test]
fn nothing_from_outside_steers_the_terminal() {
    let bad = "\x1b]0;x\x07\u{202e}\n";
    let mut status = status();
    status.upstreams[0].name = bad.to_owned();
    status.upstreams[0].interface = Some(bad.to_owned());
    let mut stall = stalls().remove(0);
    stall.upstream = bad.to_owned();
    stall.process = Some(bad.to_owned());
    stall.cgroup = Some(bad.to_owned());
    stall.because = bad.to_owned();
    stall.interface = Some(bad.to_owned());
    let stalls = [stall];
    let mut event = example::event();
    event.message = bad.to_owned();
    let mut texts = vec![
        super::status(&status, true),
        super::stalls(&stalls, true),
        explain_upstream(&status.upstreams[0], &status, &stalls, WIDTH),
        explain_connection(&stalls[0], &status, WIDTH),
        unknown_upstream(bad, &status),
        super::event(&event),
        check(Ok(&status), None, now()).1,
    ];
    for key in <Key as clap::ValueEnum>::value_variants() {
        texts.push(grouped(&groups(&stalls, *key), *key));
    }
    for text in texts {
        let text = plain(&text);
        let steers = text.lines().any(|it| it.contains(crate::config::hidden));
        assert!(!steers && !text.contains("]0;x\n"), "{text:?}");
    }
}

#[test]
fn an_unknown_upstream_is_answered_with_the_known_ones() {
    let expected = "there is no upstream called x; known are provider-b, provider-a, vpn";
    assert_eq!(unknown_upstream("x", &status()), expected);
    let none = unknown_upstream("x", &with_states(&[]));
    assert_eq!(
        none,
        "there is no upstream called x; no upstream has been seen yet"
    );
    let many = unknown_upstream("x", &with_states(&[State::Ok; 23]));
    assert!(many.ends_with("t, 3 more (`tcpstall status`)"), "{many}");
}

#[test]
fn ids_are_recognised() {
    for (text, expected) in [
        ("c-7f3a9c01", true),
        ("c-1127f3a9c01", true),
        ("c-7f3a", true),
        ("c-", false),
        ("c-provider", false),
        ("b", false),
    ] {
        assert_eq!(is_id(text), expected, "{text}");
    }
}

/// Trap: kTLS, QUIC and other stacks: what is never seen is said, too.
#[test]
fn doctor_says_what_is_lost() {
    let check = |feature: &str, ok: bool, required: bool| Check {
        feature: feature.to_owned(),
        ok,
        required,
        found: "it was tried".to_owned(),
        lost: "something".to_owned(),
        remedy: "get it".to_owned(),
    };
    let all = [
        check("btf", true, true),
        check("owners", false, false),
        check("bpf", false, true),
    ];
    insta::assert_snapshot!(plain(&doctor(&all)));
    let end = |checks: &[Check]| plain(&doctor(checks)).lines().last().map(str::to_owned);
    let works = "Everything is there: `sudo tcpstall daemon` will work fully.";
    assert_eq!(end(&all[..1]).as_deref(), Some(works));
    let partly = "The daemon will work, without 1 item of no great importance.";
    assert_eq!(end(&all[..2]).as_deref(), Some(partly));
}

#[test]
fn a_replay_stands_beside_what_was_recorded() {
    let replay = crate::cli::replay::example();
    insta::assert_snapshot!(plain(&super::replay(&replay)));
}

#[test]
fn a_recording_under_way_is_a_line() {
    assert_eq!(
        super::recorded(12, 1_200_000, 340),
        "12.0 s, 1.2 MB, 340 inputs"
    );
    assert_eq!(super::recorded(0, 20, 1), "0 ms, 20 B, 1 input");
}

#[test]
fn containers_that_are_cut_off_are_explained() {
    let mut status = status();
    let upstream = &mut status.upstreams[0];
    upstream.excluded = [(Excluded::Namespace, 12)].into();
    let text = plain(&explain_upstream(
        &status.upstreams[0],
        &status,
        &stalls(),
        WIDTH,
    ));
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        text.contains("12 connections (namespace): nothing gets through"),
        "{text}"
    );
    assert!(
        text.contains("the bridge, the cable or the policy"),
        "{text}"
    );
}

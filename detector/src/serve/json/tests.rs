use super::{super::example, *};
use crate::model::Outcome;

fn stalls(query: &str) -> Vec<String> {
    let filter: Filter = serde_urlencoded::from_str(query).expect("a filter");
    let stalls = super::stalls(&example::snapshot(), &example::facts(), &filter);
    stalls.into_iter().map(|it| it.id).collect()
}

#[test]
fn status_is_as_promised() {
    let status = status(&example::snapshot(), &example::facts());
    insta::assert_snapshot!(serde_json::to_string_pretty(&status).expect("JSON"));
}

#[test]
fn stalls_are_as_promised() {
    let stalls = super::stalls(&example::snapshot(), &example::facts(), &Filter::default());
    insta::assert_snapshot!(serde_json::to_string_pretty(&stalls[1..4]).expect("JSON"));
}

#[test]
fn stalled_connections_are_the_sum_of_their_causes() {
    for upstream in status(&example::snapshot(), &example::facts()).upstreams {
        assert_eq!(
            upstream.connections.stalled,
            upstream.causes.values().sum::<u32>()
        );
    }
}

#[test]
fn an_interface_that_is_gone_is_known_by_its_index() {
    let mut snapshot = example::snapshot();
    snapshot.interfaces.clear();
    let status = status(&snapshot, &example::facts());
    assert_eq!(status.upstreams[0].interface.as_deref(), Some("if3"));
}

#[test]
fn filters_keep_what_they_say() {
    let all = [
        "c-7f3a9c01",
        "c-7f3a9c02",
        "c-7f3a9c03",
        "c-7f3a9c04",
        "c-7f3a9c05",
    ];
    for (query, expected) in [
        ("", &all[..]),
        ("upstream=provider-b", &all),
        ("upstream=provider-a", &[]),
        ("cause=blackhole", &all[2..3]),
        ("phase=suspect", &all[4..]),
        ("min_age=9s", &all[..3]),
        ("min_age=9001ms", &all[..2]),
        ("dst=198.51.0.0/16", &all),
        ("dst=198.51.9.9", &[]),
        ("src=10.0.0.2", &all),
        ("src=10.0.0.3", &[]),
        ("dport=25", &all),
        ("dport=26", &[]),
        ("pid=4711", &all[..1]),
        ("process=smtpd", &all[..1]),
        ("netns=4026531840", &all),
        ("netns=1", &[]),
        ("limit=2", &all[..2]),
        ("limit=1&cause=mtu&phase=suspect", &all[4..]),
    ] {
        assert_eq!(stalls(query), expected, "{query}");
    }
}

#[test]
fn a_filter_survives_the_way_to_the_daemon() {
    let filter = Filter {
        upstream: Some("a & b=c/ü".to_owned()),
        cause: Some(Cause::ReturnPath),
        phase: Some(crate::model::Phase::Stalled),
        min_age: Some(std::time::Duration::from_millis(1500)),
        dst: Some("2001:db8::/32".parse().expect("prefix")),
        src: Some("192.0.2.1/32".parse().expect("prefix")),
        dport: Some(25),
        pid: Some(1),
        process: Some("x".to_owned()),
        netns: Some(7),
        limit: Some(3),
    };
    let query = serde_urlencoded::to_string(&filter).expect("a query");
    assert_eq!(serde_urlencoded::from_str::<Filter>(&query), Ok(filter));
    for seconds in [0, 1, 1 << 40, i64::MAX.unsigned_abs()] {
        let filter = Filter {
            min_age: Some(std::time::Duration::new(seconds, 999_999_999)),
            ..Filter::default()
        };
        let query = serde_urlencoded::to_string(&filter).expect("a query");
        assert_eq!(serde_urlencoded::from_str::<Filter>(&query), Ok(filter));
    }
    assert_eq!(
        serde_urlencoded::to_string(Filter::default()).as_deref(),
        Ok("")
    );
}

#[test]
fn only_changes_of_upstreams_are_events() {
    let wall = example::facts().wall;
    let ended = Transition::StallEnded {
        id: crate::model::ConnectionId(1),
        upstream: "b".to_owned(),
        outcome: Outcome::Closed,
        lasted: std::time::Duration::ZERO,
    };
    assert_eq!(event(&ended, wall), None);
    let change = Transition::Upstream {
        upstream: "b".to_owned(),
        from: State::Ok,
        to: State::Failing,
        scope: None,
        cause: Some(Cause::Mtu),
        confidence: 0.5,
        stuck: 57,
        stalled_destinations: 31,
        active_destinations: 34,
    };
    let event = event(&change, wall).expect("an event");
    insta::assert_snapshot!(serde_json::to_string_pretty(&event).expect("JSON"));
}

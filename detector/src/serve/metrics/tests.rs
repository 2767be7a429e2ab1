use std::{collections::BTreeSet, time::Duration};

use super::{super::example, *};
use crate::{
    hooks::tests::hook,
    model::{ConnectionId, Occasion, Outcome},
};

const DOCS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md"));

/// A daemon to which a little has happened.
fn metrics() -> Metrics {
    let metrics = Metrics::new().expect("names and labels are valid");
    let upstream = || "provider-b".to_owned();
    for transition in [
        Transition::StallBegan {
            id: ConnectionId(1),
            upstream: upstream(),
            cause: Cause::Mtu,
        },
        Transition::StallEnded {
            id: ConnectionId(1),
            upstream: upstream(),
            outcome: Outcome::Recovered,
            lasted: Duration::from_secs(7),
        },
        Transition::Timeouts {
            upstream: upstream(),
            count: 5,
        },
    ] {
        metrics.observe(&transition);
    }
    metrics.incident("provider-b", Some(Cause::Mtu));
    metrics.sweep(Duration::from_millis(12));
    metrics.events_lost(3);
    metrics.events_lost(3);
    metrics.hooks(&Config {
        hooks: vec![hook("route", Occasion::Gate)],
        ..Config::default()
    });
    metrics.hook("route", HookOutcome::Failed);
    metrics
}

fn page() -> String {
    metrics().page(Some(&example::published())).expect("a page")
}

/// Names of the families of a page, without `process_*`.
fn families(page: &str) -> BTreeSet<String> {
    page.lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .filter(|name| !name.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_page_is_as_promised() {
    let ours: Vec<_> = page()
        .lines()
        .filter(|line| {
            let line = line
                .trim_start_matches("# HELP ")
                .trim_start_matches("# TYPE ");
            !line.starts_with("process_")
        })
        .map(|line| line.replace(&format!("revision={REVISION:?}"), "revision=\"…\""))
        .collect();
    insta::assert_snapshot!(ours.join("\n"));
}

#[test]
fn the_docs_name_every_metric_and_no_other() {
    let documented = DOCS
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .map(str::to_owned)
        .collect::<BTreeSet<_>>();
    assert_eq!(documented, families(&page()));
}

#[test]
fn process_metrics_are_there() {
    assert!(page().contains("\nprocess_open_fds "));
}

#[test]
fn before_the_first_judgement_there_is_a_page_too() {
    let page = Metrics::new().expect("valid").page(None).expect("a page");
    assert!(page.contains("tcpstall_build_info"), "{page}");
}

#[test]
fn what_has_vanished_has_no_gauges() {
    let metrics = metrics();
    let mut published = example::published();
    metrics.page(Some(&published)).expect("a page");
    published
        .snapshot
        .upstreams
        .retain(|it| it.name == "provider-a");
    let page = metrics.page(Some(&published)).expect("a page");
    let gauges = page
        .lines()
        .filter(|it| it.contains("provider-b") && !it.contains("_total"));
    let left: Vec<_> = gauges
        .filter(|it| !it.contains("_stall_duration_"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Trap: labels without end.
#[test]
fn counters_of_upstreams_that_come_and_go_do_not_pile_up() {
    let metrics = Metrics::new().expect("valid");
    for number in 0..REMEMBERED + 10 {
        metrics.observe(&Transition::Timeouts {
            upstream: format!("u{number}"),
            count: 1,
        });
    }
    let page = metrics.page(Some(&example::published())).expect("a page");
    let left = page
        .lines()
        .filter(|it| it.starts_with("tcpstall_retransmission_timeouts_total"));
    assert_eq!(left.count(), 3);
}

#[test]
fn next_hops_that_look_alike_are_added_up() {
    let mut published = example::published();
    let upstream = &mut published.snapshot.upstreams[0];
    let (next_hop, counts) = upstream.next_hops.first_key_value().expect("one");
    let (mut twin, counts) = (*next_hop, *counts);
    twin.netns = crate::model::NetnsId(7);
    upstream.next_hops.insert(twin, counts);
    published.snapshot.interfaces.insert(
        (twin.netns, twin.interface),
        crate::model::Interface {
            name: "wan0".to_owned(),
            ..Default::default()
        },
    );
    let page = metrics().page(Some(&published)).expect("a page");
    let labels = r#"{interface="wan0",nexthop="192.0.2.1",upstream="provider-a"}"#;
    assert!(
        page.contains(&format!("tcpstall_established_connections{labels} 242\n")),
        "{page}"
    );
    assert!(
        page.contains(&format!("tcpstall_upstream_info{labels} 1\n")),
        "{page}"
    );
}

#[test]
fn names_cannot_break_the_page() {
    let mut published = example::published();
    published.snapshot.upstreams[0].name = format!("a\"\\\n\x1b{}", "x".repeat(500));
    let page = metrics().page(Some(&published)).expect("a page");
    let line = page
        .lines()
        .find(|it| it.contains("u{1b}"))
        .expect("it is there");
    assert!(
        line.len() < 300 && line.contains(r#"upstream="a\"\\"#),
        "{line}"
    );
}

use std::time::Duration;

use super::*;
use crate::{
    model::{ConnectionId, Sweep},
    serve::example,
};

const AT: Time = Time(5_000_000_000);

fn hop() -> NextHop {
    NextHop {
        netns: NetnsId(1),
        interface: IfIndex(2),
        gateway: None,
    }
}

fn interface(name: &str) -> Interface {
    Interface {
        name: name.to_owned(),
        ..Interface::default()
    }
}

fn begin(recordings: &Recordings) -> Option<Lines> {
    recordings.begin(AT, "2026-11-23T13:00:00Z".parse().expect("a time"))
}

fn learned() -> Learned {
    let baseline = crate::engine::baseline::Baseline {
        stalled: 0.03,
        lost: 1.0 / 3.0,
        seconds: 600.0,
        ..crate::engine::baseline::Baseline::default()
    };
    Learned::from([("b".to_owned(), baseline)])
}

/// What there is to read now.
async fn read(lines: &mut Lines) -> Vec<line::Line> {
    let mut read = Vec::new();
    while let Ok(Some(line)) = tokio::time::timeout(Duration::ZERO, lines.next()).await {
        read.push(serde_json::from_slice(&line).expect("a line"));
    }
    read
}

#[tokio::test]
async fn a_recording_begins_with_what_still_holds() {
    let recordings = example::recordings();
    let wan = |index| (NetnsId(1), IfIndex(index));
    for input in [
        Input::Interface(wan(2).0, wan(2).1, Some(interface("old"))),
        Input::Interface(wan(2).0, wan(2).1, Some(interface("wan2"))),
        Input::Interface(wan(3).0, wan(3).1, Some(interface("gone"))),
        Input::Interface(wan(3).0, wan(3).1, None),
        Input::Neighbour(hop(), Some(Reachability::Silent)),
        Input::Closed(ConnectionId(1)),
        Input::Sweep(Sweep::default()),
    ] {
        recordings.tell(Time(1), &input, || unreachable!("nobody records"));
    }
    let mut lines = begin(&recordings).expect("a place");
    let header = lines.next().await.expect("a header");
    let header: Header = serde_json::from_slice(&header).expect("a header");
    assert_eq!((header.at, header.host.as_str()), (AT, "mx1"));
    let told: Vec<_> = read(&mut lines).await;
    assert!(told.iter().all(|line| line.at == AT));
    let told: Vec<_> = told.into_iter().filter_map(|line| line.input).collect();
    let expected = [
        Input::Interface(wan(2).0, wan(2).1, Some(interface("wan2"))),
        Input::Neighbour(hop(), Some(Reachability::Silent)),
    ];
    assert_eq!(told, expected);
    recordings.tell(Time(6_000_000_000), &Input::Tick, learned);
    let told = read(&mut lines).await;
    assert_eq!(told.len(), 2);
    assert_eq!(told[0].learned, Some(learned()));
    assert_eq!(told[1].input, Some(Input::Tick));
    recordings.tell(Time(7_000_000_000), &Input::Tick, || {
        unreachable!("told already")
    });
    assert_eq!(read(&mut lines).await.len(), 1);
}

#[tokio::test]
async fn there_are_places_for_two_and_who_leaves_makes_room() {
    let recordings = example::recordings();
    let _first = begin(&recordings).expect("a place");
    let second = begin(&recordings).expect("a place");
    assert!(begin(&recordings).is_none());
    drop(second);
    assert!(begin(&recordings).is_some());
}

#[tokio::test]
async fn whoever_reads_too_slowly_is_told_so_and_no_more() {
    let recordings = example::recordings();
    let mut slow = begin(&recordings).expect("a place");
    let mut quick = begin(&recordings).expect("a place");
    let neighbour = Input::Neighbour(hop(), None);
    let told = BEHIND / line::input(AT, &neighbour).expect("a line").len() + 10;
    let mut seen = 0;
    for _ in 0..told {
        recordings.tell(AT, &neighbour, Learned::new);
        seen += read(&mut quick)
            .await
            .iter()
            .filter(|line| line.input.is_some())
            .count();
    }
    assert_eq!(seen, told);
    let mut bytes = 0;
    let mut last = None;
    while let Ok(Some(line)) = tokio::time::timeout(Duration::from_secs(1), slow.next()).await {
        bytes += line.len();
        last = Some(line);
    }
    assert!(bytes <= BEHIND + 1000, "{bytes}");
    let last: line::Line = serde_json::from_slice(&last.expect("a line")).expect("a line");
    assert_eq!(last.end.expect("the end").reason, "the reader was too slow");
}

#[tokio::test]
async fn other_settings_are_told_and_kept_for_later_recordings() {
    let recordings = example::recordings();
    let mut lines = begin(&recordings).expect("a place");
    let other = Settings {
        stall_after: Duration::from_secs(9),
        ignore: Vec::new(),
        upstreams: Vec::new(),
    };
    recordings.configure(AT, other.clone());
    lines.next().await.expect("a header");
    assert_eq!(read(&mut lines).await[0].settings.as_ref(), Some(&other));
    let mut later = begin(&recordings).expect("a place");
    let header = later.next().await.expect("a header");
    let header: Header = serde_json::from_slice(&header).expect("a header");
    assert_eq!(header.settings, other);
}

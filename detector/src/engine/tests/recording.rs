//! Recordings made from a made-up host, damaged and replayed.

use std::{io::Write, time::Duration};

use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;

use super::{
    samples,
    world::{self, World},
};
use crate::{
    config::Config,
    engine::baseline::Baseline,
    model::{
        ConnectionId, Counts, IfIndex, Input, Interface, NextHop, Origin, Reachability, Sample,
        Sweep, TcpState, Transition,
    },
    record::{
        Broken, Recorder, Replay, Row, Verdict,
        line::{self, FORMAT, Header, LONGEST, Settings},
        replay,
    },
    time::Time,
};

/// Where every world begins.
const START: Time = Time(86_400_000_000_000);

fn settings() -> Settings {
    Settings {
        ignore: Vec::new(),
        ..Settings::from(&Config::default())
    }
}

fn header() -> Header {
    Header {
        tcpstall_recording: FORMAT,
        version: "0.1.0".to_owned(),
        host: "mx1".to_owned(),
        kernel: "6.18.0".to_owned(),
        started_at: "2026-11-23T13:00:00Z".parse().unwrap(),
        at: START,
        settings: settings(),
    }
}

/// A black hole that is repaired after a while.
fn outage() -> World {
    World::new()
        .open("a", 0..20, 1)
        .open("b", 0..20, 1)
        .run(20)
        .hang("b", 0..20)
        .run(15)
        .heal("b")
        .run(30)
}

/// What the daemon sends while `world` happens.
fn stream(world: &World) -> Vec<Vec<u8>> {
    let inputs = world.inputs.iter();
    let inputs = inputs.map(|(at, input)| line::input(*at, input).unwrap());
    std::iter::once(line::header(&header()).unwrap())
        .chain(inputs)
        .collect()
}

/// The same as a file.
fn recording(world: &World) -> Vec<u8> {
    recorded(&stream(world))
}

fn recorded(stream: &[Vec<u8>]) -> Vec<u8> {
    let mut recorder = Recorder::begin(&stream[0], Vec::new()).unwrap();
    for line in &stream[1..] {
        recorder.take(line).unwrap();
    }
    recorder.finish("the time is over").unwrap()
}

fn uncompressed(file: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(file), &mut text).unwrap();
    text
}

fn compressed(text: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::default());
    out.write_all(text).unwrap();
    out.finish().unwrap()
}

/// The story of both sides, one line for each row.
fn told(replay: &Replay) -> Vec<String> {
    let said = |verdict: &Option<Verdict>| match verdict {
        Some(it) => format!("{} at {:.1}", it.word, it.at.since(START).as_secs_f64()),
        None => "-".to_owned(),
    };
    let rows = replay.rows.iter();
    rows.map(|row| {
        format!(
            "{}: {} | {}",
            row.upstream(),
            said(&row.recorded),
            said(&row.now)
        )
    })
    .collect()
}

#[test]
fn a_replay_says_what_was_said() {
    let world = outage();
    let replay = replay(recording(&world).as_slice(), None).unwrap();
    assert!(replay.broken.is_none(), "{:?}", replay.broken);
    assert!(replay.identical);
    assert!(replay.rows.iter().all(Row::same));
    assert!(
        told(&replay)
            .iter()
            .any(|row| row.starts_with("b: failing (blackhole)"))
    );
    assert_eq!(replay.inputs, world.inputs.len() as u64);
    assert_eq!(replay.rows.len(), world.story().len());
    assert_eq!(replay.stalls.recorded, 20);
    assert_eq!(replay.stalls.now, 20);
    let end = replay.end.unwrap();
    assert_eq!(end.said, world.log.len() as u64);
    assert_eq!(end.inputs, replay.inputs);
    assert_eq!(end.reason, "the time is over");
}

#[test]
fn the_recorded_answers_are_those_of_the_engine_to_the_word() {
    let world = outage();
    let text = uncompressed(&recording(&world));
    let said: Vec<(Time, Transition)> = text
        .split_inclusive(|byte| *byte == b'\n')
        .skip(1)
        .map(|line| serde_json::from_slice::<line::Line>(line).unwrap())
        .filter_map(|line| Some((line.at, line.said?)))
        .collect();
    assert!(said.len() > 40);
    assert_eq!(said, world.log);
}

#[test]
fn under_another_patience_other_stalls_are_found() {
    let longer = Settings {
        stall_after: Duration::from_secs(60),
        ..settings()
    };
    let replay = replay(recording(&outage()).as_slice(), Some(longer)).unwrap();
    assert!(!replay.identical);
    assert_eq!((replay.stalls.recorded, replay.stalls.now), (20, 0));
}

#[test]
fn what_is_ignored_is_not_blamed_and_that_is_shown() {
    let ignoring = Settings {
        ignore: vec!["100.0.0.0/8".parse().unwrap()],
        ..settings()
    };
    let replay = replay(recording(&outage()).as_slice(), Some(ignoring)).unwrap();
    assert!(!replay.identical);
    assert_eq!(replay.stalls.now, 0);
    assert!(
        replay
            .rows
            .iter()
            .all(|row| row.now.is_none() && !row.same()),
        "{:?}",
        told(&replay)
    );
    assert!(
        told(&replay)
            .iter()
            .any(|row| row.starts_with("b: failing (blackhole)"))
    );
}

#[test]
fn settings_that_change_while_it_is_recorded_change_in_the_replay() {
    let world = outage();
    let mut stream = stream(&world);
    let middle = stream.len() / 2;
    let at = world.inputs[middle].0;
    let renamed = Settings {
        upstreams: vec![crate::config::Rule {
            name: "renamed".to_owned(),
            ..world::by_interface("b")
        }],
        ..settings()
    };
    stream.insert(middle, line::settings(at, &renamed).unwrap());
    let file = recorded(&stream);
    let obedient = replay(file.as_slice(), None).unwrap();
    assert!(obedient.identical && obedient.broken.is_none());
    let renamed = |row: &Row| row.now.as_ref().is_some_and(|it| it.upstream == "renamed");
    assert!(obedient.rows.iter().any(renamed), "{:?}", told(&obedient));
    let stubborn = replay(file.as_slice(), Some(settings())).unwrap();
    assert!(!stubborn.rows.iter().any(renamed) && !stubborn.identical);
}

#[test]
fn what_was_learned_before_counts_in_the_replay() {
    let world = World::new()
        .open("b", 0..20, 1)
        .run(20)
        .hang("b", 0..5)
        .run(10);
    let mut stream = stream(&world);
    let baseline = Baseline {
        stalled: 0.04,
        lost: 0.0,
        seconds: 43_200.0,
        ..Baseline::default()
    };
    let learned = [("b".to_owned(), baseline)].into();
    stream.insert(1, line::learned(START, &learned).unwrap());
    let file = recorded(&stream);
    let whole = replay(file.as_slice(), None).unwrap();
    assert!(whole.identical && whole.broken.is_none());
    let text = String::from_utf8(uncompressed(&file)).unwrap();
    let forgot: Vec<_> = text
        .split_inclusive('\n')
        .filter(|it| !it.contains("learned"))
        .collect();
    let forgot = replay(forgot.concat().as_bytes(), None).unwrap();
    assert!(!forgot.identical && forgot.broken.is_none());
}

#[test]
fn every_input_is_read_back_as_it_was_written() {
    let hop = world::hop(3);
    let local = NextHop {
        gateway: None,
        ..hop
    };
    let full = Sample {
        origin: Origin::Timeout,
        tcp_state: TcpState::LastAck,
        remote: "[2001:db8::1]:25".parse().unwrap(),
        device: Some(IfIndex(u32::MAX)),
        inode: Some(u64::MAX),
        head: Some(1),
        srtt: Some(Duration::from_nanos(1)),
        stuck_since: Some(Time(u64::MAX)),
        send_error: Some(-113),
        user_timeout: Some(Duration::from_secs(30)),
        unreachable: Some(113),
        next_try: Some(Time(1)),
        hole: true,
        memory: Some(u32::MAX),
        persist: true,
        ..samples::any()
    };
    let counts = Counts {
        suspicious: 1,
        fell_silent: 2,
        ..Counts::default()
    };
    let sweep = Sweep {
        samples: vec![full.clone(), samples::any()],
        counts: [
            (None, counts),
            (Some(hop), counts),
            (Some(local), Counts::default()),
        ]
        .into(),
    };
    let interface = Interface {
        name: "wan\"1\u{202e}".to_owned(),
        alias: Some(String::new()),
        vrf: Some("blue".to_owned()),
        up: true,
        underlay: Some(world::hop(1)),
    };
    let inputs = [
        Input::Timeout(full),
        Input::Timeout(samples::any()),
        Input::Closed(ConnectionId(u64::MAX)),
        Input::Sweep(sweep),
        Input::Sweep(Sweep::default()),
        Input::Interface(world::NETNS, IfIndex(3), Some(interface)),
        Input::Interface(world::NETNS, IfIndex(3), None),
        Input::Neighbour(hop, Some(Reachability::Silent)),
        Input::Neighbour(local, None),
        Input::Route(ConnectionId(1), hop),
        Input::Suspended(Duration::from_nanos(1)),
        Input::Killed(vec![ConnectionId(1), ConnectionId(u64::MAX)]),
        Input::Tick,
    ];
    for input in inputs {
        let line = line::input(Time(7), &input).unwrap();
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        let read: line::Line = serde_json::from_slice(&line).unwrap();
        assert_eq!((read.at, read.input.as_ref()), (Time(7), Some(&input)));
        // An input that is new must be thought of here.
        match input {
            Input::Timeout(_)
            | Input::Closed(_)
            | Input::Sweep(_)
            | Input::Interface(..)
            | Input::Neighbour(..)
            | Input::Route(..)
            | Input::Suspended(_)
            | Input::Killed(_)
            | Input::Tick => {}
        }
    }
}

#[test]
fn a_recording_of_the_first_format_stays_readable() {
    let replay = replay(&include_bytes!("../../record/format-1.jsonl")[..], None).unwrap();
    assert!(replay.broken.is_none(), "{:?}", replay.broken);
    assert_eq!(replay.header.host, "mx1");
    assert_eq!(replay.inputs, 12);
    assert_eq!(
        replay
            .rows
            .iter()
            .filter(|row| row.recorded.is_some())
            .count(),
        1
    );
    assert_eq!(replay.stalls.recorded, 1);
}

#[test]
fn what_is_unknown_is_ignored_and_what_is_missing_is_a_default() {
    let text = r#"{"tcpstall_recording":1,"started_at":"2026-11-23T13:00:00Z","at":5,"mood":"good",
        "settings":{"stall_after":3000000000,"colour":"red"}}"#
        .replace('\n', "");
    let text = text
        + "\n"
        + r#"{"at":6,"input":{"sweep":{"samples":[],"weather":1}},"mood":1}"#
        + "\n"
        + r#"{"at":7,"remark":"of a later version"}"#
        + "\n"
        + r#"{"end":{"at":7,"reason":"x"}}"#
        + "\n";
    let replay = replay(text.as_bytes(), None).unwrap();
    assert!(replay.broken.is_none(), "{:?}", replay.broken);
    assert_eq!(replay.inputs, 1);
    assert_eq!(replay.lasted, Duration::from_nanos(1));
}

fn complaint(file: &[u8]) -> String {
    match replay(file, None) {
        Ok(replay) => replay
            .broken
            .map_or("nothing is wrong".to_owned(), |it| it.to_string()),
        Err(broken) => broken.to_string(),
    }
}

#[test]
fn what_is_wrong_with_a_file_is_said_in_one_sentence() {
    let file = recording(&outage());
    let text = uncompressed(&file);
    let lines: Vec<_> = text.split_inclusive(|byte| *byte == b'\n').collect();
    let mut garbage = lines.clone();
    garbage.insert(3, b"{\"at\":1,\"input\":{\"weather\":1}}\n");
    let mut newer = header();
    newer.tcpstall_recording = FORMAT + 1;
    let without_end = lines[..lines.len() - 1].concat();
    let mut flipped = file.clone();
    let checksum = flipped.len() - 8;
    flipped[checksum] ^= 1;
    for (file, expected) in [
        (Vec::new(), "it is empty"),
        (compressed(b""), "it is empty"),
        (
            b"PK\x03\x04".to_vec(),
            "header of a recording (it does not end)",
        ),
        (
            b"\x1f\x8bPK is another method".to_vec(),
            "header of a recording (invalid gzip header)",
        ),
        (file[..12].to_vec(), "it is empty"),
        (
            b"#!/bin/sh\nexit\n".to_vec(),
            "line 1 is not the header of a recording",
        ),
        (
            b"{\"schema\":1}\n".to_vec(),
            "no `tcpstall_recording` in it",
        ),
        (
            line::header(&newer).unwrap(),
            "it has format 2, and this tcpstall",
        ),
        (compressed(&garbage.concat()), "line 4 (at byte "),
        (garbage.concat(), "unknown variant `weather`"),
        (compressed(&without_end), "it is cut off after line "),
        (without_end, "it is cut off after line "),
        (file[..file.len() - 4].to_vec(), "it is cut off after line "),
        (file[..file.len() / 2].to_vec(), "it is cut off after line "),
        (flipped, "its compressed bytes are damaged after line "),
        (file.clone(), "nothing is wrong"),
        (
            [&file[..], b"rubbish behind its end"].concat(),
            "nothing is wrong",
        ),
    ] {
        let complaint = complaint(&file);
        assert!(complaint.contains(expected), "{expected}: {complaint}");
        assert!(!complaint.contains('\n'), "{complaint}");
    }
}

#[test]
fn a_line_without_end_is_refused_before_it_fills_the_memory() {
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    out.write_all(&line::header(&header()).unwrap()).unwrap();
    let zeros = vec![b'0'; 1 << 20];
    for _ in 0..=(LONGEST >> 20) {
        out.write_all(&zeros).unwrap();
    }
    let bomb = out.finish().unwrap();
    assert!(bomb.len() < 1 << 20);
    let complaint = complaint(&bomb);
    assert!(complaint.contains("line 2 (at byte "), "{complaint}");
    assert!(complaint.contains("is longer than 64 MiB"), "{complaint}");
}

#[test]
fn a_recording_that_was_killed_can_be_replayed_up_to_the_last_flush() {
    let world = outage();
    let stream = stream(&world);
    let mut file = Vec::new();
    let mut recorder = Recorder::begin(&stream[0], &mut file).unwrap();
    let middle = stream.len() / 2;
    for line in &stream[1..middle] {
        recorder.take(line).unwrap();
    }
    recorder.flush().unwrap();
    let flushed = usize::try_from(recorder.bytes()).unwrap();
    for line in &stream[middle..] {
        recorder.take(line).unwrap();
    }
    recorder.finish("x").unwrap();
    file.truncate(flushed);
    let replay = replay(file.as_slice(), None).unwrap();
    assert!(
        matches!(replay.broken, Some(Broken::Cut { .. })),
        "{:?}",
        replay.broken
    );
    assert_eq!(replay.inputs as usize, middle - 1);
    assert!(replay.identical, "{:?}", told(&replay));
}

#[test]
fn a_cut_anywhere_is_no_difference() {
    let text = uncompressed(&recording(&outage()));
    let lines: Vec<_> = text.split_inclusive(|byte| *byte == b'\n').collect();
    for end in (1..lines.len()).step_by(7).chain([lines.len() - 1]) {
        let replay = replay(lines[..end].concat().as_slice(), None).unwrap();
        assert!(replay.identical, "cut after line {end}");
        assert!(replay.rows.iter().all(Row::same), "cut after line {end}");
        assert_eq!(
            replay.stalls.recorded, replay.stalls.now,
            "cut after line {end}"
        );
    }
}

#[test]
fn an_answer_that_is_missing_or_altered_is_a_difference() {
    let text = String::from_utf8(uncompressed(&recording(&outage()))).unwrap();
    let place = text.find(r#""stall-began""#).unwrap();
    let begin = text[..place].rfind('\n').unwrap() + 1;
    let end = begin + text[begin..].find('\n').unwrap() + 1;
    let missing = text[..begin].to_owned() + &text[end..];
    let altered = text.replacen(r#""cause":"blackhole""#, r#""cause":"mtu""#, 1);
    let doubled = text[..end].to_owned() + &text[begin..];
    for (what, text) in [
        ("missing", missing),
        ("altered", altered),
        ("doubled", doubled),
    ] {
        let replay = replay(text.as_bytes(), None).unwrap();
        assert!(replay.broken.is_none());
        assert!(!replay.identical, "{what}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn no_bytes_make_it_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        cut in any::<prop::sample::Index>(),
        compress in any::<bool>(),
    ) {
        let mut bytes = small().to_vec();
        if compress {
            bytes = compressed(&bytes);
        }
        for (place, byte) in &edits {
            let place = place.index(bytes.len());
            bytes[place] = *byte;
        }
        bytes.truncate(cut.index(bytes.len() * 2).max(1));
        let _ = replay(bytes.as_slice(), None);
    }

    #[test]
    fn no_digits_make_it_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 1_usize..12), 1..12),
    ) {
        let mut bytes = small().to_vec();
        let digits: Vec<_> = (0..bytes.len()).filter(|it| bytes[*it].is_ascii_digit()).collect();
        for (place, length) in &edits {
            let place = digits[place.index(digits.len())];
            let run = bytes[place..].iter_mut().take(*length);
            run.take_while(|it| it.is_ascii_digit()).for_each(|it| *it = b'9');
        }
        let _ = replay(bytes.as_slice(), None);
    }
}

/// A small recording with something of everything, uncompressed.
fn small() -> &'static [u8] {
    static SMALL: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    SMALL.get_or_init(|| {
        let world = World::new()
            .open("a", 0..4, 1)
            .slow_readers("a", 0..1, 1, 0)
            .run(4)
            .hang("a", 0..4)
            .run(5)
            .heal("a")
            .close("a", 0..1)
            .run(8);
        uncompressed(&recording(&world))
    })
}

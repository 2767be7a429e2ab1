use std::time::Duration;

use super::*;
use crate::{
    config::Config,
    model::{Cause, Scope, State},
    record::{
        Broken, Stalls,
        line::{End, FORMAT, Header, Settings},
    },
};

const START: Time = Time(1_000_000_000_000);

fn verdict(upstream: &str, tenths: u64, state: State, cause: Option<Cause>) -> Option<Verdict> {
    Some(Verdict {
        at: START.after(Duration::from_millis(tenths * 100)),
        upstream: upstream.to_owned(),
        word: Word {
            state,
            scope: cause.map(|_| Scope::Upstream),
            cause,
        },
    })
}

fn row(recorded: Option<Verdict>, now: Option<Verdict>) -> Row {
    Row { recorded, now }
}

fn same(verdict: Option<Verdict>) -> Row {
    row(verdict.clone(), verdict)
}

fn replay(rows: Vec<Row>) -> Replay {
    Replay {
        header: Header {
            tcpstall_recording: FORMAT,
            version: "0.1.0".to_owned(),
            host: "mx1".to_owned(),
            kernel: "6.18.0".to_owned(),
            started_at: "2026-11-23T13:00:00.5Z".parse().expect("a time"),
            at: START,
            settings: Settings::from(&Config::default()),
        },
        identical: rows.iter().all(Row::same),
        rows,
        stalls: Stalls {
            recorded: 20,
            now: 20,
        },
        inputs: 432,
        lasted: Duration::from_secs(60),
        end: Some(End {
            at: START,
            reason: "the time is over".to_owned(),
            inputs: 432,
            said: 9,
        }),
        broken: None,
    }
}

/// Everything that a row can be.
fn various() -> Vec<Row> {
    let hole = Some(Cause::Blackhole);
    vec![
        same(verdict("provider-a", 11, State::Ok, None)),
        row(
            verdict("provider-b", 121, State::Failing, hole),
            verdict("provider-b", 141, State::Failing, hole),
        ),
        row(
            verdict("provider-b", 200, State::Failing, Some(Cause::Mtu)),
            verdict("provider-b", 200, State::Degraded, hole),
        ),
        row(verdict("provider-b", 300, State::Failing, hole), None),
        row(None, verdict("wg\u{202e}0", 400, State::Failing, hole)),
    ]
}

pub(in crate::cli) fn example() -> Report {
    Report::of(&replay(various()))
}

#[test]
fn the_sentence_counts_the_differences_and_names_the_first() {
    let rows = various();
    let hole = Some(Cause::Blackhole);
    for (rows, expected) in [
        (Vec::new(), "no verdict, then or now."),
        (rows[..1].to_vec(), "the same verdict."),
        (vec![rows[0].clone(); 4], "the same 4 verdicts."),
        (
            rows[..2].to_vec(),
            "1 of 2 verdicts differs: provider-b is failing (blackhole) 2.0 s later.",
        ),
        (
            vec![row(
                verdict("b", 30, State::Failing, hole),
                verdict("b", 20, State::Failing, hole),
            )],
            "1 of 1 verdict differs: b is failing (blackhole) 1.0 s sooner.",
        ),
        (
            rows.clone(),
            "4 of 5 verdicts differ: provider-b is failing (blackhole) 2.0 s later, provider-b is \
             degraded (blackhole) instead of failing (mtu) at 20.0 s, provider-b is not failing \
             (blackhole) at 30.0 s, and 1 more.",
        ),
        (
            rows[4..].to_vec(),
            r"1 of 1 verdict differs: wg\u{202e}0 is failing (blackhole) at 40.0 s only now.",
        ),
    ] {
        assert_eq!(Report::of(&replay(rows)).summary, expected);
    }
}

#[test]
fn what_differs_behind_the_same_verdicts_is_said() {
    let mut fewer = replay(various()[..1].to_vec());
    fewer.stalls.now = 1;
    let expected = "the same verdict; 1 stall of single connections instead of 20.";
    assert_eq!(Report::of(&fewer).summary, expected);
    let mut figures = replay(various()[..1].to_vec());
    figures.identical = false;
    let expected = "the same verdict; single connections or figures differ.";
    assert_eq!(Report::of(&figures).summary, expected);
}

#[test]
fn the_json_is_as_promised() {
    let report = Report::of(&replay(various()[..2].to_vec()));
    insta::assert_snapshot!(serde_json::to_string_pretty(&report).expect("JSON"));
}

#[test]
fn a_recording_without_its_end_is_not_complete() {
    let mut cut = replay(Vec::new());
    (cut.end, cut.broken) = (None, Some(Broken::Cut { after: 7 }));
    let report = Report::of(&cut);
    assert!(!report.complete);
    assert_eq!(report.end, None);
}

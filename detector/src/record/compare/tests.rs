use proptest::prelude::*;

use super::*;

fn verdict(upstream: &str, at: u64, state: State) -> Verdict {
    Verdict {
        at: Time(at),
        upstream: upstream.to_owned(),
        word: Word {
            state,
            scope: None,
            cause: None,
        },
    }
}

/// Verdicts of upstream `b`: "o1 f5" is ok at 1 and failing at 5.
fn series(text: &str) -> Vec<Verdict> {
    let one = |word: &str| {
        let (upstream, word) = match word.strip_prefix("a:") {
            Some(word) => ("a", word),
            None => ("b", word),
        };
        let state = match &word[..1] {
            "o" => State::Ok,
            "d" => State::Degraded,
            "f" => State::Failing,
            _ => State::Idle,
        };
        verdict(upstream, word[1..].parse().unwrap(), state)
    };
    text.split_whitespace().map(one).collect()
}

fn shown(recorded: &str, now: &str) -> String {
    let side = |side: &Option<Verdict>| match side {
        Some(it) => format!("{}{}", &it.word.state.to_string()[..1], it.at.0),
        None => "-".to_owned(),
    };
    let rows = rows(series(recorded), series(now));
    let rows: Vec<_> = rows
        .iter()
        .map(|row| format!("{}|{}", side(&row.recorded), side(&row.now)))
        .collect();
    rows.join(" ")
}

#[test]
fn like_stands_beside_like() {
    for (recorded, now, expected) in [
        ("", "", ""),
        ("o1 f5", "o1 f5", "o1|o1 f5|f5"),
        ("o1 f5", "o1 f7", "o1|o1 f5|f7"),
        ("o1 d4 f5", "o1 f7", "o1|o1 d4|- f5|f7"),
        ("o1 f7", "o1 d4 f5", "o1|o1 -|d4 f7|f5"),
        ("o1 f5 o9", "o1", "o1|o1 f5|- o9|-"),
        ("", "o1", "-|o1"),
        ("f5", "d5", "f5|d5"),
        ("f5", "d6", "f5|- -|d6"),
        ("a:f5 o2", "o2 a:f3", "o2|o2 f5|f3"),
    ] {
        assert_eq!(shown(recorded, now), expected, "{recorded} / {now}");
    }
}

proptest! {
    #[test]
    fn each_verdict_stands_in_one_row(
        recorded in prop::collection::vec((0_u64..100, 0_usize..4), 0..60),
        now in prop::collection::vec((0_u64..100, 0_usize..4), 0..60),
    ) {
        let side = |mut side: Vec<(u64, usize)>| {
            side.sort();
            let verdicts = side.into_iter();
            let verdicts = verdicts.map(|(at, state)| verdict("b", at, State::ALL[state]));
            verdicts.collect::<Vec<_>>()
        };
        let (recorded, now) = (side(recorded), side(now));
        let rows = rows(recorded.clone(), now.clone());
        let sorted = |verdicts: Vec<Option<Verdict>>| {
            let mut verdicts: Vec<_> = verdicts.into_iter().flatten().collect();
            verdicts.sort_by_key(|it| (it.at, it.word.state));
            verdicts
        };
        let both = |verdicts: Vec<Verdict>| sorted(verdicts.into_iter().map(Some).collect());
        prop_assert_eq!(sorted(rows.iter().map(|it| it.recorded.clone()).collect()), both(recorded));
        prop_assert_eq!(sorted(rows.iter().map(|it| it.now.clone()).collect()), both(now));
    }
}

use proptest::prelude::*;

use super::*;

pub(crate) fn hook(name: &str, on: Occasion) -> Hook {
    Hook {
        name: name.to_owned(),
        on,
        upstreams: Vec::new(),
        command: vec!["/bin/true".to_owned()],
        timeout: Duration::from_secs(30),
    }
}

/// A daemon that has looked for long.
const LONG: Duration = Duration::from_secs(3600);
const GATE: Occasion = Occasion::Gate;
const STATE: Occasion = Occasion::State;

const A: &str = "provider-a";
const B: &str = "provider-b";

fn at(seconds: u64) -> Time {
    Time(1_000_000_000 * (1000 + seconds))
}

fn seen(all: &[(&str, State, Option<Gate>)]) -> BTreeMap<String, Seen> {
    let one = |(name, state, gate): &(&str, State, Option<Gate>)| {
        let (state, gate) = (*state, *gate);
        let seen = Seen {
            state,
            gate,
            looked_for: LONG,
        };
        ((*name).to_owned(), seen)
    };
    all.iter().map(one).collect()
}

/// What `due` says, in words: hook, upstream, level, previous.
fn words(due: &[Due]) -> Vec<String> {
    let one = |it: &Due| {
        let previous = it.previous.map_or("-", Level::word);
        let (hook, upstream, level) = (&it.hook.name, &it.upstream, it.level.word());
        format!("{hook} {upstream} {level} {previous}")
    };
    due.iter().map(one).collect()
}

const OPEN: Option<Gate> = Some(Gate::Open);
const CLOSED: Option<Gate> = Some(Gate::Closed);

/// Two hooks that have been told what is so.
fn settled() -> Plan {
    let mut plan = Plan::new(vec![hook("route", GATE), hook("mail", STATE)]);
    let all = seen(&[(A, State::Ok, OPEN), (B, State::Ok, OPEN)]);
    let due = plan.due(at(0), &all);
    assert_eq!(
        words(&due),
        ["route provider-a open -", "route provider-b open -"]
    );
    for upstream in [A, B] {
        assert_eq!(plan.ended(at(0), (upstream, GATE), true), None);
    }
    assert_eq!(plan.due(at(1), &all), []);
    plan
}

#[test]
fn what_changes_is_told_once_and_one_hook_after_the_other() {
    let mut plan = Plan::new(vec![hook("route", GATE), hook("more", GATE)]);
    let open = seen(&[(B, State::Ok, OPEN)]);
    for expected in ["route provider-b open -", "more provider-b open -"] {
        assert_eq!(words(&plan.due(at(0), &open)), [expected]);
        assert_eq!(plan.ended(at(0), (B, GATE), true), None);
    }
    let closed = seen(&[(B, State::Failing, CLOSED)]);
    assert_eq!(
        words(&plan.due(at(2), &closed)),
        ["route provider-b closed open"]
    );
    // It still runs.
    assert_eq!(plan.due(at(3), &closed), []);
    assert_eq!(plan.ended(at(4), (B, GATE), true), None);
    assert_eq!(
        words(&plan.due(at(4), &closed)),
        ["more provider-b closed open"]
    );
    plan.ended(at(4), (B, GATE), true);
    assert_eq!(plan.due(at(100), &closed), []);
}

#[test]
fn those_of_different_upstreams_run_side_by_side() {
    let mut plan = settled();
    let bad = seen(&[(A, State::Ok, CLOSED), (B, State::Ok, CLOSED)]);
    let expected = [
        "route provider-a closed open",
        "route provider-b closed open",
    ];
    assert_eq!(words(&plan.due(at(2), &bad)), expected);
}

#[test]
fn a_mail_that_hangs_holds_up_no_route() {
    let mut plan = Plan::new(vec![hook("mail", STATE), hook("route", GATE)]);
    let degraded = seen(&[(B, State::Degraded, None)]);
    assert_eq!(
        words(&plan.due(at(0), &degraded)),
        ["mail provider-b degraded -"]
    );
    let failing = seen(&[(B, State::Failing, CLOSED)]);
    assert_eq!(
        words(&plan.due(at(1), &failing)),
        ["route provider-b closed -"]
    );
    plan.ended(at(2), (B, GATE), true);
    assert_eq!(plan.due(at(2), &failing), []);
    plan.ended(at(30), (B, STATE), false);
    assert_eq!(
        words(&plan.due(at(30), &failing)),
        ["mail provider-b failing degraded"]
    );
}

/// A daemon that has just started calls everything idle until it has seen enough.
#[test]
fn a_daemon_that_starts_anew_ends_no_trouble() {
    let mut plan = Plan::new(vec![hook("mail", STATE)]);
    let after = |seconds, state| {
        let mut all = seen(&[(B, state, None)]);
        for seen in all.values_mut() {
            seen.looked_for = Duration::from_secs(seconds);
        }
        all
    };
    assert_eq!(plan.due(at(0), &after(3600, State::Failing)).len(), 1);
    plan.ended(at(0), (B, STATE), true);
    for (seconds, state) in [
        (0, State::Idle),
        (1, State::Failing),
        (4, State::Ok),
        (59, State::Idle),
    ] {
        assert_eq!(
            plan.due(at(1 + seconds), &after(seconds, state)),
            [],
            "{state}"
        );
    }
    for (seconds, state, told) in [
        (5, State::Ok, "mail provider-b ok failing"),
        (60, State::Idle, "mail provider-b idle ok"),
    ] {
        assert_eq!(words(&plan.due(at(100), &after(seconds, state))), [told]);
        plan.ended(at(100), (B, STATE), true);
    }
}

#[test]
fn what_has_come_and_gone_while_a_hook_ran_is_not_told() {
    let mut plan = settled();
    let closed = seen(&[(B, State::Ok, CLOSED)]);
    assert_eq!(plan.due(at(2), &closed).len(), 1);
    assert_eq!(plan.due(at(3), &seen(&[(B, State::Ok, OPEN)])), []);
    plan.ended(at(4), (B, GATE), true);
    assert_eq!(plan.due(at(4), &closed), []);
    // But what has not gone is, although it was so before.
    assert_eq!(plan.due(at(5), &seen(&[(B, State::Ok, OPEN)])).len(), 1);
}

#[test]
fn in_the_beginning_gates_are_told_as_they_are_and_states_when_they_are_bad() {
    for (state, told) in [
        (State::Ok, None),
        (State::Idle, None),
        (State::Degraded, Some("mail provider-b degraded -")),
        (State::Failing, Some("mail provider-b failing -")),
    ] {
        let mut plan = Plan::new(vec![hook("mail", STATE)]);
        let due = words(&plan.due(at(0), &seen(&[(B, state, None)])));
        assert_eq!(due.first().map(String::as_str), told);
    }
    for (gate, told) in [
        (None, None),
        (OPEN, Some("route provider-b open -")),
        (CLOSED, Some("route provider-b closed -")),
    ] {
        let mut plan = Plan::new(vec![hook("route", GATE)]);
        let due = words(&plan.due(at(0), &seen(&[(B, State::Ok, gate)])));
        assert_eq!(due.first().map(String::as_str), told);
    }
}

#[test]
fn an_upstream_that_was_ok_and_has_become_bad_is_told() {
    let mut plan = Plan::new(vec![hook("mail", STATE)]);
    assert_eq!(plan.due(at(0), &seen(&[(B, State::Idle, None)])), []);
    let due = plan.due(at(1), &seen(&[(B, State::Failing, None)]));
    assert_eq!(words(&due), ["mail provider-b failing idle"]);
}

#[test]
fn an_upstream_that_is_not_seen_is_not_told_of() {
    let mut plan = settled();
    assert_eq!(plan.due(at(2), &seen(&[])), []);
    let back = seen(&[(B, State::Ok, OPEN)]);
    assert_eq!(plan.due(at(3), &back), []);
}

#[test]
fn a_hook_for_gates_that_fails_is_run_again_later_and_later() {
    let mut plan = settled();
    let closed = seen(&[(B, State::Ok, CLOSED)]);
    let mut now = at(2);
    for wait in [10, 20, 40, 80, 160, 300, 300] {
        let wait = Duration::from_secs(wait);
        assert_eq!(
            words(&plan.due(now, &closed)),
            ["route provider-b closed open"]
        );
        assert_eq!(plan.ended(now, (B, GATE), false), Some(wait));
        let just_before = now.after(wait - Duration::from_secs(1));
        assert_eq!(plan.due(just_before, &closed), []);
        now = now.after(wait);
    }
    // The gate changes: at once, and all is forgotten.
    let open = seen(&[(B, State::Ok, OPEN)]);
    assert_eq!(
        words(&plan.due(now, &open)),
        ["route provider-b open closed"]
    );
    assert_eq!(plan.ended(now, (B, GATE), false), Some(FIRST));
    assert_eq!(plan.due(now.after(FIRST), &open).len(), 1);
    assert_eq!(plan.ended(now, (B, GATE), true), None);
    assert_eq!(plan.due(now.after(LONGEST), &open), []);
}

#[test]
fn a_hook_for_states_that_fails_is_not_run_again() {
    let mut plan = Plan::new(vec![hook("mail", STATE)]);
    let bad = seen(&[(B, State::Failing, None)]);
    assert_eq!(plan.due(at(0), &bad).len(), 1);
    assert_eq!(plan.ended(at(1), (B, STATE), false), None);
    assert_eq!(plan.due(at(9999), &bad), []);
}

#[test]
fn a_hook_is_told_of_its_upstreams_alone() {
    let mut only = hook("route", GATE);
    only.upstreams = vec![B.to_owned()];
    let mut plan = Plan::new(vec![only]);
    let all = seen(&[(A, State::Ok, OPEN), (B, State::Ok, OPEN)]);
    assert_eq!(words(&plan.due(at(0), &all)), ["route provider-b open -"]);
}

#[test]
fn a_hook_that_is_configured_anew_is_told_anew_and_no_other() {
    let mut plan = settled();
    let all = seen(&[(A, State::Ok, OPEN)]);
    let [mut route, mail] = [hook("route", GATE), hook("mail", STATE)];
    plan.configure(vec![mail.clone(), route.clone()]);
    assert_eq!(plan.due(at(2), &all), []);
    // Its end says nothing of the new one.
    let closed = seen(&[(A, State::Ok, CLOSED)]);
    assert_eq!(plan.due(at(2), &closed).len(), 1);
    route.command = vec!["/bin/false".to_owned()];
    plan.configure(vec![route.clone(), mail]);
    assert_eq!(plan.ended(at(3), (A, GATE), false), None);
    assert_eq!(
        words(&plan.due(at(3), &closed)),
        ["route provider-a closed -"]
    );
    plan.configure(vec![]);
    assert_eq!(plan.ended(at(4), (A, GATE), true), None);
    assert_eq!(plan.due(at(5), &all), []);
}

#[test]
fn what_ends_without_having_begun_is_of_no_interest() {
    assert_eq!(settled().ended(at(2), ("no such", GATE), true), None);
}

#[test]
fn upstreams_that_come_and_go_do_not_pile_up() {
    let mut plan = Plan::new(vec![hook("mail", STATE)]);
    for number in 0..=REMEMBERED {
        plan.due(at(0), &seen(&[(&format!("u{number}"), State::Ok, None)]));
    }
    assert_eq!(plan.told.len(), 1);
}

proptest! {
    /// Whatever happens: never two at a time for an upstream, and in the end everybody knows what is so.
    #[test]
    fn in_the_end_every_hook_knows(steps in prop::collection::vec((0..2_usize, 0..4_usize, 0..2_usize, any::<bool>()), 0..60)) {
        let mut plan = Plan::new(vec![
            hook("route", GATE),
            hook("mail", STATE),
            hook("more", GATE),
        ]);
        let mut all = seen(&[(A, State::Ok, OPEN), (B, State::Ok, OPEN)]);
        let mut told: BTreeMap<(String, String), Level> = BTreeMap::new();
        let mut running: BTreeMap<(String, Occasion), Due> = BTreeMap::new();
        let mut now = at(0);
        let mut run = |plan: &mut Plan, running: &mut BTreeMap<(String, Occasion), Due>, all: &BTreeMap<String, Seen>, now| {
            for due in plan.due(now, all) {
                let key = (due.hook.name.clone(), due.upstream.clone());
                told.insert(key, due.level);
                let place = (due.upstream.clone(), due.hook.on);
                assert!(running.insert(place, due).is_none());
            }
        };
        for (upstream, state, gate, ends) in steps {
            let upstream = [A, B][upstream];
            let news = Seen { state: State::ALL[state], gate: Some(Gate::ALL[gate]), looked_for: LONG };
            all.insert(upstream.to_owned(), news);
            run(&mut plan, &mut running, &all, now);
            let on = [GATE, STATE][gate];
            if ends && running.remove(&(upstream.to_owned(), on)).is_some() {
                plan.ended(now, (upstream, on), state % 2 == 0);
            }
            now = now.after(Duration::from_secs(1));
        }
        for _ in 0..4 {
            for (upstream, on) in std::mem::take(&mut running).keys() {
                plan.ended(now, (upstream, *on), true);
            }
            now = now.after(LONGEST);
            run(&mut plan, &mut running, &all, now);
        }
        prop_assert!(running.is_empty());
        for (upstream, seen) in &all {
            let level = told.get(&("route".to_owned(), upstream.clone())).copied();
            prop_assert_eq!(level, seen.gate.map(Level::Gate));
            let level = told.get(&("mail".to_owned(), upstream.clone())).copied();
            prop_assert!(level.is_none_or(|it| it == Level::State(seen.state)));
        }
    }
}

use proptest::prelude::*;

use super::*;

const START: Time = Time(7_000_000_000_000);

const FAILING: Seen = Seen {
    state: State::Failing,
    scope: Some(Scope::Upstream),
};
const COMMON: Seen = Seen {
    state: State::Failing,
    scope: Some(Scope::Common),
};
const DEGRADED: Seen = Seen {
    state: State::Degraded,
    scope: Some(Scope::Upstream),
};
const OK: Seen = Seen {
    state: State::Ok,
    scope: None,
};
const IDLE: Seen = Seen::NOTHING;

/// A host whose upstreams are `a`, `b` and so on, and what has happened to their gates.
struct Host {
    gates: Gates,
    now: Time,
    seen: BTreeMap<&'static str, Seen>,
    /// "closed b 60", "opened b held 60", "kept b", with the second in front.
    told: Vec<String>,
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

impl Host {
    fn new(upstreams: &[&'static str]) -> Self {
        Self::with_closed(upstreams, &[])
    }

    fn with_closed(upstreams: &[&'static str], closed: &[&str]) -> Self {
        let closed = names(closed).into_iter().collect();
        let (gates, changes) = Gates::new(&names(upstreams), &closed, START);
        let seen = upstreams.iter().map(|name| (*name, OK)).collect();
        let mut host = Self {
            gates,
            now: START,
            seen,
            told: Vec::new(),
        };
        host.tell(changes);
        host
    }

    fn tell(&mut self, changes: Vec<Change>) {
        let second = self.now.since(START).as_secs();
        for change in changes {
            let words = match change {
                Change::Closed { upstream, hold } => {
                    format!("closed {upstream} {}", hold.as_secs())
                }
                Change::Opened { upstream, why } => match why {
                    Why::Held(hold) => format!("opened {upstream} held {}", hold.as_secs()),
                    Why::Needed(hold) => format!("opened {upstream} needed {}", hold.as_secs()),
                    Why::Alone => format!("opened {upstream} alone"),
                },
                Change::Kept { upstream } => format!("kept {upstream}"),
            };
            self.told.push(format!("{second} {words}"));
        }
    }

    /// From now on this is said of that upstream.
    fn says(mut self, name: &'static str, seen: Seen) -> Self {
        self.seen.insert(name, seen);
        self.look()
    }

    /// Time passes, a look each second.
    fn run(mut self, seconds: u64) -> Self {
        for _ in 0..seconds {
            self.now = self.now.after(Duration::from_secs(1));
            self = self.look();
        }
        self
    }

    fn look(mut self) -> Self {
        let changes = self.gates.handle(self.now, &self.seen);
        self.tell(changes);
        self
    }

    fn configure(mut self, upstreams: &[&str]) -> Self {
        let changes = self.gates.configure(&names(upstreams), self.now);
        self.tell(changes);
        self
    }

    /// What has happened since this was last asked.
    #[track_caller]
    fn expect(mut self, expected: &[&str]) -> Self {
        assert_eq!(std::mem::take(&mut self.told), expected);
        self
    }

    fn closed(&self) -> Vec<String> {
        let shown = self.gates.shown(self.now).into_iter();
        let closed = shown.filter(|(_, it)| it.gate == Gate::Closed);
        closed.map(|(name, _)| name).collect()
    }

    fn opens(&self, name: &str) -> Option<u64> {
        Some(self.gates.shown(self.now).get(name)?.opens?.as_secs())
    }
}

#[test]
fn failing_closes_at_once_and_the_hold_opens() {
    let host = Host::new(&["a", "b", "c"])
        .run(600)
        .expect(&[])
        .says("b", FAILING)
        .expect(&["600 closed b 60"])
        .run(30);
    assert_eq!(host.opens("b"), None, "it is still failing");
    let host = host.says("b", OK).run(20);
    assert_eq!(host.opens("b"), Some(40));
    host.run(39)
        .expect(&[])
        .run(1)
        .expect(&["690 opened b held 60"]);
}

#[test]
fn idle_is_no_recovery_and_no_trouble_either() {
    Host::new(&["a", "b"])
        .says("b", IDLE)
        .run(3600)
        .expect(&[])
        .says("b", FAILING)
        .says("b", IDLE)
        .run(60)
        .expect(&["3600 closed b 60", "3660 opened b held 60"]);
}

#[test]
fn what_is_not_the_upstreams_doing_closes_nothing() {
    Host::new(&["a", "b"])
        .says("a", COMMON)
        .says("b", COMMON)
        .run(3600)
        .expect(&[]);
}

#[test]
fn degraded_neither_closes_nor_opens() {
    Host::new(&["a", "b"])
        .says("b", DEGRADED)
        .run(3600)
        .expect(&[])
        .says("b", FAILING)
        .says("b", DEGRADED)
        .run(3600)
        .expect(&["3600 closed b 60"])
        .says("b", OK)
        .run(60)
        .expect(&["7260 opened b held 60"]);
}

#[test]
fn trouble_during_the_hold_begins_it_anew() {
    Host::new(&["a", "b"])
        .says("b", FAILING)
        .says("b", OK)
        .run(59)
        .says("b", COMMON)
        .says("b", OK)
        .run(59)
        .expect(&["0 closed b 60"])
        .run(1)
        .expect(&["119 opened b held 60"]);
}

#[test]
fn each_relapse_doubles_the_hold_up_to_an_hour() {
    let mut host = Host::new(&["a", "b"]);
    let mut expected = 60;
    for _ in 0..9 {
        host = host.says("b", FAILING).says("b", IDLE);
        let second = host.now.since(START).as_secs();
        let closed = format!("{second} closed b {expected}");
        let opened = format!("{} opened b held {expected}", second + expected);
        host = host.run(expected).expect(&[&closed, &opened]);
        // Traffic returns and the link is as dead as before.
        host = host.run(2 * expected - 1);
        expected = (2 * expected).min(3600);
    }
    assert_eq!(expected, 3600);
}

#[test]
fn what_happens_later_is_no_relapse_and_long_good_conduct_is_rewarded() {
    let relapsed = || {
        Host::new(&["a", "b"])
            .says("b", FAILING)
            .says("b", OK)
            .run(60)
            .says("b", FAILING)
            .says("b", OK)
            .run(120)
            .expect(&[
                "0 closed b 60",
                "60 opened b held 60",
                "60 closed b 120",
                "180 opened b held 120",
            ])
    };
    for (later, hold) in [(239, 240), (240, 120), (1199, 120), (1200, 60)] {
        let host = relapsed().run(later).says("b", FAILING);
        host.expect(&[&format!("{} closed b {hold}", 180 + later)]);
    }
}

#[test]
fn the_last_open_gate_stays_open_until_another_opens() {
    Host::new(&["a", "b", "c"])
        .says("a", FAILING)
        .says("b", FAILING)
        .says("c", FAILING)
        .expect(&["0 closed a 60", "0 closed b 60", "0 kept c"])
        .run(3600)
        .expect(&[])
        .says("b", IDLE)
        .run(60)
        .expect(&["3660 opened b held 60", "3660 closed c 60"]);
}

#[test]
fn an_only_gate_never_closes() {
    let host = Host::new(&["a"]).says("a", FAILING).run(3600);
    assert_eq!(host.closed(), [""; 0]);
    host.expect(&["0 kept a"])
        .says("a", OK)
        .run(5)
        .says("a", FAILING)
        .expect(&["3605 kept a"]);
}

#[test]
fn what_it_did_while_it_should_have_been_closed_is_no_conduct() {
    // Kept for an hour, and a relapse only of what came after that.
    let host = Host::new(&["a", "b"])
        .says("b", FAILING)
        .says("b", OK)
        .run(60)
        .says("a", FAILING)
        .says("b", FAILING)
        .expect(&[
            "0 closed b 60",
            "60 opened b held 60",
            "60 closed a 60",
            "60 kept b",
        ]);
    host.run(3600)
        .says("b", OK)
        .says("a", OK)
        .run(60)
        .expect(&["3720 opened a held 60"])
        .run(59)
        .says("b", FAILING)
        .expect(&["3779 closed b 120"]);
}

#[test]
fn when_all_open_ways_lead_nowhere_the_first_hold_is_enough() {
    let relapsed = || {
        Host::new(&["a", "b"])
            .says("b", FAILING)
            .says("b", IDLE)
            .run(60)
            .says("b", FAILING)
            .says("b", IDLE)
            .expect(&["0 closed b 60", "60 opened b held 60", "60 closed b 120"])
            .run(10)
    };
    let host = relapsed().says("a", FAILING);
    assert_eq!(host.opens("b"), Some(50));
    host.run(50)
        .expect(&["70 kept a", "120 opened b needed 60", "120 closed a 60"]);
    let other = relapsed().says("a", DEGRADED).run(50).expect(&[]);
    assert_eq!(
        other.opens("b"),
        Some(60),
        "it still gets something through"
    );
}

#[test]
fn two_dead_links_take_turns_of_a_minute_and_the_first_that_heals_is_found() {
    // The one that is used fails, the other is idle.
    let mut host = Host::new(&["a", "b"]).says("a", FAILING).says("a", IDLE);
    host = host.says("b", FAILING);
    for _ in 0..20 {
        let before = host.closed();
        host = host.run(60);
        let after = host.closed();
        assert_ne!(before, after, "{:?}", host.told);
        // What is used now is found to be dead, and of the other nothing is seen any more.
        let used = if after == ["a"] { "b" } else { "a" };
        let other = if used == "a" { "b" } else { "a" };
        host = host.says(used, FAILING).says(other, IDLE);
    }
}

#[test]
fn what_an_earlier_run_has_closed_stays_closed_for_a_first_hold() {
    let host = Host::with_closed(&["a", "b"], &["b", "x"]);
    assert_eq!(host.closed(), ["b"]);
    assert_eq!(host.opens("b"), Some(60));
    host.run(59)
        .expect(&[])
        .run(1)
        .expect(&["60 opened b held 60"]);
}

#[test]
fn an_earlier_run_cannot_leave_all_closed() {
    let host = Host::with_closed(&["b", "a"], &["a", "b"]);
    assert_eq!(host.closed(), ["b"]);
    host.expect(&["0 opened a alone"]);
}

#[test]
fn gates_follow_the_configuration() {
    let host = Host::new(&["a", "b", "c"])
        .says("a", FAILING)
        .run(30)
        .says("b", FAILING)
        .says("b", DEGRADED)
        .says("a", OK)
        .expect(&["0 closed a 60", "30 closed b 60"])
        .run(5)
        .configure(&["a", "b", "d"])
        .expect(&[]);
    assert_eq!(host.closed(), ["a", "b"], "d is new, and open");
    let host = host.configure(&["a", "b"]).expect(&["35 opened a alone"]);
    let host = host.configure(&["b"]).expect(&["35 opened b alone"]);
    assert_eq!(host.configure(&[]).gates, Gates::default());
}

#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Say(usize, Seen),
    Configure(Vec<usize>),
}

const ALL: [&str; 4] = ["a", "b", "c", "d"];

fn step() -> impl Strategy<Value = Step> {
    let seen = prop::sample::select(vec![FAILING, FAILING, COMMON, DEGRADED, OK, IDLE]);
    prop_oneof![
        4 => (1_u64..200).prop_map(Step::Wait),
        4 => (0..ALL.len(), seen).prop_map(|(name, seen)| Step::Say(name, seen)),
        1 => prop::sample::subsequence(vec![0, 1, 2, 3], 0..=4).prop_map(Step::Configure),
    ]
}

proptest! {
    #[test]
    fn one_is_always_open_and_none_opens_before_its_time(
        steps in prop::collection::vec(step(), 1..120),
        left in prop::sample::subsequence(vec![0_usize, 1, 2, 3], 0..=4),
    ) {
        let mut configured = names(&ALL);
        let closed = left.iter().map(|it| ALL[*it].to_owned()).collect();
        let (mut gates, _) = Gates::new(&configured, &closed, START);
        let mut now = START;
        let mut seen: BTreeMap<&str, Seen> = BTreeMap::new();
        // When each was closed, and last seen to be bad.
        let mut closed_at: BTreeMap<String, (Time, Duration)> = BTreeMap::new();
        let mut bad_at: BTreeMap<String, Time> = BTreeMap::new();
        for step in steps {
            let changes = match step {
                Step::Wait(seconds) => {
                    now = now.after(Duration::from_secs(seconds));
                    gates.handle(now, &seen)
                }
                Step::Say(name, what) => {
                    seen.insert(ALL[name], what);
                    gates.handle(now, &seen)
                }
                Step::Configure(which) => {
                    configured = which.iter().map(|it| ALL[*it].to_owned()).collect();
                    closed_at.retain(|name, _| configured.contains(name));
                    gates.configure(&configured, now)
                }
            };
            for (name, what) in &seen {
                if what.is_bad() {
                    bad_at.insert((*name).to_owned(), now);
                }
            }
            for change in changes {
                match change {
                    Change::Closed { upstream, hold } => {
                        prop_assert!((FIRST..=LONGEST).contains(&hold));
                        prop_assert!(seen[upstream.as_str()].closes());
                        closed_at.insert(upstream, (now, hold));
                    }
                    Change::Opened { why: Why::Alone, .. } => {}
                    Change::Opened { upstream, why: why @ (Why::Held(needed) | Why::Needed(needed)) } => {
                        if let Some((at, hold)) = closed_at.get(&upstream) {
                            let expected = if why == Why::Held(needed) { *hold } else { FIRST };
                            prop_assert_eq!(needed, expected);
                            prop_assert!(now.since(*at) >= needed);
                        }
                        if let Some(at) = bad_at.get(&upstream) {
                            prop_assert!(now.since(*at) >= needed);
                        }
                    }
                    Change::Kept { upstream } => {
                        prop_assert!(seen[upstream.as_str()].closes());
                    }
                }
            }
            let shown = gates.shown(now);
            prop_assert!(shown.keys().eq(configured.iter()), "{shown:?} {configured:?}");
            let open = shown.values().filter(|it| it.gate == Gate::Open).count();
            prop_assert!(open > 0 || configured.is_empty());
            prop_assert!(shown.values().all(|it| it.gate == Gate::Closed || it.opens.is_none()));
        }
    }
}

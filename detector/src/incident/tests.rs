//! What happens to an upstream, second by second, and the incidents that come of it.

use std::net::SocketAddr;

use super::*;
use crate::{
    incident::marks::Subject,
    model::{ConnectionId, Destination, Phase, Scope},
    serve::example,
};

/// A host in virtual time.
struct World {
    tracker: Tracker,
    now: Time,
    marks: Marks,
    upstreams: Vec<Upstream>,
    stalls: Vec<Stall>,
    lines: Vec<Line>,
}

const BEGAN: i64 = 1_700_000_000;

impl World {
    fn new(upstreams: &[&str]) -> Self {
        Self::after(Past::default(), Time(0), upstreams)
    }

    /// A daemon that starts with what another has left.
    fn after(past: Past, now: Time, upstreams: &[&str]) -> Self {
        Self {
            tracker: Tracker::resume(past),
            now,
            marks: Marks::default(),
            upstreams: upstreams.iter().map(|name| well(name)).collect(),
            stalls: Vec::new(),
            lines: Vec::new(),
        }
    }

    fn wall(&self) -> Timestamp {
        let milliseconds = i64::try_from(self.now.0 / 1_000_000).expect("small");
        Timestamp::from_millisecond(BEGAN * 1000 + milliseconds).expect("a time")
    }

    /// Half a second passes, so many times.
    fn run(&mut self, seconds: u64) -> &mut Self {
        for _ in 0..seconds * 2 {
            self.look();
            self.now = self.now.after(Duration::from_millis(500));
        }
        self
    }

    fn look(&mut self) {
        let snapshot = Snapshot {
            at: self.now,
            upstreams: self.upstreams.clone(),
            stalls: self.stalls.clone(),
            ..example::snapshot()
        };
        let lines = self.tracker.handle(&Seen {
            snapshot: &snapshot,
            wall: self.wall(),
            process: &|stall| Some(format!("program{}", stall.sample.id.0 % 15)),
            marks: &self.marks,
        });
        self.lines.extend(lines);
    }

    fn set(&mut self, upstream: &str, change: impl FnOnce(&mut Upstream)) -> &mut Self {
        let mut all = self.upstreams.iter_mut();
        change(all.find(|it| it.name == upstream).expect("it is there"));
        self
    }

    fn fails(&mut self, upstream: &str, cause: Cause) -> &mut Self {
        self.set(upstream, |it| {
            it.state = State::Failing;
            it.scope = Some(Scope::Upstream);
            it.cause = Some(cause);
        })
    }

    fn recovers(&mut self, upstream: &str) -> &mut Self {
        self.set(upstream, |it| *it = well(&it.name))
    }

    fn stalls(&mut self, number: u32, cause: Cause) {
        self.upstreams[0].stalled = BTreeMap::from([((None, cause), number)]);
    }

    fn incidents(&self) -> Vec<Arc<Incident>> {
        self.tracker.incidents()
    }

    fn only(&self) -> Incident {
        let all = self.incidents();
        assert_eq!(all.len(), 1, "{all:#?}");
        (*all[0]).clone()
    }

    /// What a daemon finds that starts now.
    fn past(&self) -> Past {
        let mut past = Past::default();
        for line in &self.lines {
            // Through the file, as it were.
            let text = serde_json::to_string(line).expect("a line");
            past.take(serde_json::from_str(&text).expect("the same line"));
        }
        past
    }

    fn kinds(&self) -> Vec<Kind> {
        self.lines.iter().map(|it| it.record).collect()
    }
}

fn well(name: &str) -> Upstream {
    let snapshot = example::snapshot();
    let upstream = snapshot.upstreams.into_iter().next().expect("one");
    Upstream {
        name: name.to_owned(),
        state: State::Ok,
        ..upstream
    }
}

/// A connection in trouble at `a`.
fn stall(id: u64, destination: u8, cause: Cause) -> Stall {
    let remote: SocketAddr = format!("198.51.{destination}.9:25").parse().expect("valid");
    let mut stall = example::stall(id, 9000, cause);
    stall.sample.id = ConnectionId(id);
    stall.upstream = "a".to_owned();
    stall.destination = Destination::of(remote.ip());
    stall
}

fn second(number: i64) -> Timestamp {
    Timestamp::from_second(BEGAN + number).expect("a time")
}

#[test]
fn an_incident_begins_changes_and_ends() {
    let mut world = World::new(&["a", "b"]);
    world.run(10).fails("a", Cause::Blackhole).run(20);
    world.set("a", |it| it.cause = Some(Cause::Mtu)).run(30);
    let open = world.only();
    assert_eq!(open.ended_at, None);
    assert_eq!((open.upstream.as_str(), open.state), ("a", State::Failing));
    world.recovers("a").run(100);
    let ended = world.only();
    assert_eq!(ended.id, open.id);
    assert_eq!(ended.started_at, second(10));
    assert_eq!(ended.ended_at, Some(second(60)));
    assert_eq!(ended.duration_seconds.round(), 50.0);
    assert_eq!(ended.cause, Some(Cause::Mtu), "as last seen");
    assert_eq!(ended.scope, Some(Scope::Upstream));
    let causes: Vec<_> = ended.changes.iter().map(|it| (it.at, it.cause)).collect();
    assert_eq!(
        causes,
        [
            (second(10), Some(Cause::Blackhole)),
            (second(30), Some(Cause::Mtu))
        ]
    );
    assert_eq!(world.kinds().first(), Some(&Kind::Begin));
    assert_eq!(world.kinds().last(), Some(&Kind::End));
    assert!(world.kinds().contains(&Kind::Change));
    assert!(world.kinds().contains(&Kind::Evidence));
}

#[test]
fn nothing_wrong_is_no_incident() {
    let mut world = World::new(&["a", "b"]);
    world.set("b", |it| it.state = State::Idle);
    world.stalls = vec![stall(1, 1, Cause::Blackhole)];
    world.run(60).set("b", |it| it.state = State::Ok).run(3600);
    assert_eq!(world.incidents(), []);
    assert_eq!(world.lines, []);
    assert_eq!(world.tracker.last_words(), []);
}

#[test]
fn the_worst_state_is_kept() {
    let mut world = World::new(&["a"]);
    world.set("a", |it| it.state = State::Degraded).run(5);
    assert_eq!(world.only().state, State::Degraded);
    world.fails("a", Cause::Loss).run(5);
    world.set("a", |it| it.state = State::Degraded).run(5);
    assert_eq!(world.only().state, State::Failing);
    assert_eq!(world.only().changes.len(), 3);
}

#[test]
fn flapping_is_one_incident() {
    let mut world = World::new(&["a"]);
    for _ in 0..5 {
        world.fails("a", Cause::Loss).run(10);
        world.recovers("a").run(59);
    }
    let incident = world.only();
    assert_eq!(incident.relapses, 4);
    assert_eq!(incident.started_at, second(0));
    assert_eq!(incident.ended_at, Some(second(4 * 69 + 10)));
    let begun = world.kinds().into_iter().filter(|it| *it == Kind::Begin);
    assert_eq!(begun.count(), 1);
}

#[test]
fn trouble_that_comes_back_later_is_another() {
    let mut world = World::new(&["a"]);
    world.fails("a", Cause::Loss).run(10).recovers("a").run(61);
    world.fails("a", Cause::Loss).run(10);
    let all = world.incidents();
    assert_eq!(all.len(), 2);
    assert_eq!(all[0].started_at, second(71), "the newest first");
    assert_eq!(all[0].relapses + all[1].relapses, 0);
    assert_ne!(all[0].id, all[1].id);
}

#[test]
fn two_upstreams_are_two_incidents() {
    let mut world = World::new(&["a", "b"]);
    world.fails("a", Cause::Loss).fails("b", Cause::Mtu).run(10);
    world.recovers("a").run(10);
    let all = world.incidents();
    assert_eq!(all.len(), 2);
    assert_ne!(all[0].id, all[1].id, "although they began together");
    let open: Vec<_> = all.iter().filter(|it| it.ended_at.is_none()).collect();
    assert_eq!(open.len(), 1);
    assert_eq!(open[0].upstream, "b");
}

#[test]
fn ids_are_short_and_none_is_used_twice() {
    let names: Vec<String> = (0..50).map(|it| format!("u{it}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut world = World::new(&names);
    for name in &names {
        world.fails(name, Cause::Loss);
    }
    world.run(1);
    let ids: BTreeSet<_> = world.incidents().iter().map(|it| it.id.clone()).collect();
    assert_eq!(ids.len(), 50);
    for id in ids {
        let hex = id.strip_prefix("i-").expect("it begins so");
        assert!(hex.len() == 8 && hex.bytes().all(|it| it.is_ascii_hexdigit()));
    }
}

#[test]
fn peaks_and_causes_are_the_highest() {
    let mut world = World::new(&["a"]);
    world.fails("a", Cause::Blackhole);
    for (number, cause) in [(3, Cause::Mtu), (40, Cause::Blackhole), (2, Cause::Mtu)] {
        world.stalls(number, cause);
        world.upstreams[0].outstanding = u64::from(number) * 1000;
        world.run(2);
    }
    world.stalls(500, Cause::ZeroWindow);
    world.run(2);
    let incident = world.only();
    assert_eq!(incident.peak_stalled_connections, 40);
    assert_eq!(incident.peak_outstanding_bytes, 40_000);
    assert_eq!(
        incident.causes,
        BTreeMap::from([(Cause::Mtu, 3), (Cause::Blackhole, 40)])
    );
}

#[test]
fn destinations_and_processes_are_those_with_most_stuck() {
    let mut world = World::new(&["a", "b"]);
    world.fails("a", Cause::Blackhole);
    // Destination n has n connections; those whose peer does not read do not count.
    let mut id = 0;
    for destination in 1..=30 {
        for _ in 0..destination {
            id += 1;
            world.stalls.push(stall(id, destination, Cause::Blackhole));
        }
    }
    for id in 1000..1100 {
        world.stalls.push(stall(id, 99, Cause::ZeroWindow));
    }
    let mut other = stall(5000, 77, Cause::Blackhole);
    other.upstream = "b".to_owned();
    world.stalls.push(other);
    world.stalls[0].phase = Phase::Suspect;
    world.run(5);
    // Later there are fewer, elsewhere.
    world.stalls = (0..25).map(|it| stall(it, 200, Cause::Mtu)).collect();
    world.run(5);
    let incident = world.only();
    let counts: Vec<_> = incident
        .destinations
        .iter()
        .map(|it| it.stuck_connections)
        .collect();
    let mut expected: Vec<u32> = (12..=30).chain([25]).collect();
    expected.sort_by_key(|it| std::cmp::Reverse(*it));
    assert_eq!(counts, expected);
    assert_eq!(incident.processes.len(), 10);
    assert_eq!(incident.processes[0].stuck_connections, 31);
}

#[test]
fn a_week_takes_no_more_room_than_an_hour() {
    let mut world = World::new(&["a"]);
    world.fails("a", Cause::Blackhole);
    let mut longest = 0;
    for step in 0_u32..10_000 {
        world.stalls(if step == 5_000 { 999 } else { step % 7 }, Cause::Mtu);
        let flip = step % 50 == 0;
        world.set("a", |it| {
            it.cause = Some(if flip { Cause::Loss } else { Cause::Mtu });
        });
        let (now, wall) = (world.now, world.wall());
        let what = format!("link {step} went down");
        world.marks.add(now, wall, Subject::Link, what);
        world.look();
        world.now = world.now.after(Duration::from_secs(60));
        longest = longest.max(world.only().timeline.len());
    }
    let incident = world.only();
    assert!((60..=120).contains(&longest), "{longest}");
    assert!((60..=120).contains(&incident.timeline.len()));
    let highest = incident.timeline.iter().map(|it| it.stalled_connections);
    assert_eq!(highest.max(), Some(999), "peaks survive the thinning");
    assert!(incident.timeline.is_sorted_by_key(|it| it.at));
    assert_eq!((incident.marks.len(), incident.changes.len()), (50, 50));
    assert_eq!(incident.marks_omitted, 10_000 - 50);
    let last = world.lines.last().expect("lines");
    let size = |line: &Line| serde_json::to_string(line).expect("text").len();
    let largest = world.lines.iter().map(size).max().expect("lines");
    assert!(largest < 32_000, "{largest}");
    assert_eq!(last.incident.id, incident.id);
    // The same week without changes: signs of life, and evidence ever more rarely.
    let mut quiet = World::new(&["a"]);
    quiet.fails("a", Cause::Blackhole);
    for _ in 0..10_000 {
        quiet.look();
        quiet.now = quiet.now.after(Duration::from_secs(60));
    }
    let written: usize = quiet.lines.iter().map(size).sum();
    assert!(written < 1_500_000, "{written}");
}

#[test]
fn what_happened_from_a_minute_before_to_the_end_belongs_to_it() {
    let mut world = World::new(&["a"]);
    let mark = |world: &mut World, what: &str| {
        let (now, wall) = (world.now, world.wall());
        world.marks.add(now, wall, Subject::Route, what.to_owned());
    };
    mark(&mut world, "long before");
    world.run(30);
    mark(&mut world, "before");
    world.run(40).fails("a", Cause::Blackhole).run(10);
    mark(&mut world, "during");
    world.run(10);
    mark(&mut world, "at the end");
    world.recovers("a").run(10);
    mark(&mut world, "in between");
    world.run(10);
    let marks = |world: &World| {
        let marks = world.only().marks;
        marks.into_iter().map(|it| it.what).collect::<Vec<_>>()
    };
    assert_eq!(marks(&world), ["before", "during", "at the end"]);
    world.fails("a", Cause::Blackhole).run(10);
    assert_eq!(
        marks(&world),
        ["before", "during", "at the end", "in between"]
    );
}

#[test]
fn one_that_ends_unjudged_says_so() {
    let mut world = World::new(&["a", "b"]);
    world
        .fails("a", Cause::Loss)
        .fails("b", Cause::Loss)
        .run(10);
    world.set("a", |it| it.state = State::Idle);
    world.upstreams.pop();
    world.run(10);
    let notes: Vec<_> = world.incidents().iter().map(|it| it.note.clone()).collect();
    assert_eq!(
        notes,
        [
            Some("it ended because the upstream is no longer there".to_owned()),
            Some("it ended because too little is sent to judge".to_owned()),
        ]
    );
}

/// The world of a daemon that was away for so long since `world`.
fn restarted(world: &World, away: u64, upstreams: &[&str]) -> World {
    let now = world.now.after(Duration::from_secs(away));
    World::after(world.past(), now, upstreams)
}

#[test]
fn what_lasts_over_a_restart_keeps_its_id() {
    let mut before = World::new(&["a"]);
    before.fails("a", Cause::Blackhole).run(30);
    let mut after = restarted(&before, 3600, &["a"]);
    // Little is known at first.
    after.set("a", |it| it.state = State::Idle).run(20);
    assert_eq!(after.only().ended_at, None);
    assert_eq!(after.lines, [], "nothing is known that was not written");
    after.fails("a", Cause::Blackhole).run(10);
    let incident = after.only();
    assert_eq!(incident.id, before.only().id);
    assert_eq!(incident.started_at, second(0));
    assert_eq!((incident.ended_at, incident.relapses), (None, 0));
    assert!(
        incident.marks[0].what.starts_with("tcpstall runs again"),
        "{:?}",
        incident.marks
    );
    assert!(!after.kinds().contains(&Kind::Begin), "it is not doubled");
    after.recovers("a").run(10);
    assert_eq!(after.only().ended_at, Some(second(30 + 3600 + 30)));
    assert_eq!(after.only().note, None);
}

#[test]
fn what_was_repaired_meanwhile_ends_when_it_was_last_known() {
    let mut before = World::new(&["a", "b"]);
    before
        .fails("a", Cause::Blackhole)
        .fails("b", Cause::Mtu)
        .run(30);
    let last_known = before.lines.last().expect("lines").at;
    let mut after = restarted(&before, 3600, &["a", "b"]);
    after.set("b", |it| it.state = State::Idle);
    after.run(4);
    assert!(after.incidents().iter().all(|it| it.ended_at.is_none()));
    after.run(3);
    let closed = |world: &World, upstream: &str| {
        let all = world.incidents();
        let found = all.iter().find(|it| it.upstream == upstream);
        let found = found.expect("it is there").clone();
        (found.ended_at, found.note.clone())
    };
    let away = Some("the daemon was away when it ended".to_owned());
    assert_eq!(closed(&after, "a"), (Some(last_known), away.clone()));
    assert_eq!(
        closed(&after, "b"),
        (None, None),
        "nothing is sent there yet"
    );
    after.run(60);
    assert_eq!(closed(&after, "b"), (Some(last_known), away));
    assert_eq!(after.incidents().len(), 2);
    // And that too is kept.
    let again = restarted(&after, 5, &["a", "b"]);
    assert!(again.incidents().iter().all(|it| it.ended_at.is_some()));
    assert_eq!(again.incidents().len(), 2);
}

#[test]
fn a_look_that_comes_too_early_closes_nothing() {
    let mut before = World::new(&["a"]);
    before.fails("a", Cause::Blackhole).run(30);
    let mut after = restarted(&before, 300, &["a"]);
    // Healthy destinations were seen first.
    after.run(2).fails("a", Cause::Blackhole).run(10);
    assert_eq!(after.only().id, before.only().id);
    assert_eq!(after.only().ended_at, None);
}

#[test]
fn an_upstream_that_is_gone_after_a_restart_ends_its_incident() {
    let mut before = World::new(&["a"]);
    before.fails("a", Cause::Blackhole).run(30);
    let mut after = restarted(&before, 5, &["b"]);
    after.run(59);
    assert_eq!(after.only().ended_at, None);
    after.run(3);
    assert!(after.only().ended_at.is_some());
}

#[test]
fn of_two_open_incidents_of_one_upstream_the_older_ends() {
    let mut before = World::new(&["a", "b"]);
    before.fails("a", Cause::Blackhole).run(30);
    before.fails("b", Cause::Blackhole).run(30);
    // As if a line had gone missing.
    for line in &mut before.lines {
        line.incident.upstream = "a".to_owned();
    }
    let mut after = restarted(&before, 5, &["a"]);
    after.fails("a", Cause::Blackhole).run(5);
    let open = |it: &&Arc<Incident>| it.ended_at.is_none();
    assert_eq!(after.incidents().iter().filter(open).count(), 1);
    assert_eq!(after.lines[0].record, Kind::End);
    assert_eq!(
        restarted(&after, 5, &["a"])
            .incidents()
            .iter()
            .filter(open)
            .count(),
        1
    );
}

#[test]
fn the_last_words_tell_everything() {
    let mut before = World::new(&["a"]);
    before.fails("a", Cause::Blackhole).run(30);
    before.stalls(77, Cause::Blackhole);
    before.run(1);
    let words = before.tracker.last_words();
    assert_eq!(words.len(), 1);
    assert_eq!(words[0].at, second(30) + Duration::from_millis(500));
    before.lines.extend(words);
    let after = restarted(&before, 5, &["a"]);
    assert_eq!(after.only(), before.only());
}

#[test]
fn a_clock_that_is_set_back_breaks_nothing() {
    let mut world = World::new(&["a"]);
    world.now = Time(7200 * 1_000_000_000);
    world.fails("a", Cause::Blackhole).run(30);
    // The judgement's clock goes on; the one on the wall does not.
    let began = world.only().started_at;
    world.now = Time(3600 * 1_000_000_000);
    world.run(10).recovers("a").run(10);
    let incident = world.only();
    assert_eq!(incident.ended_at, Some(began));
    assert_eq!(incident.duration_seconds, 0.0);
}

#[test]
fn old_incidents_make_room_and_open_ones_stay() {
    let mut world = World::new(&["a", "b"]);
    world.fails("b", Cause::Mtu).run(1);
    let first = world.only().id;
    for _ in 0..KEPT + 50 {
        world.fails("a", Cause::Loss).look();
        world.now = world.now.after(Duration::from_secs(5));
        world.recovers("a").look();
        world.now = world.now.after(Duration::from_secs(61));
    }
    let all = world.incidents();
    assert_eq!(all.len(), KEPT);
    assert!(all.iter().any(|it| it.id == first), "it lasts");
}

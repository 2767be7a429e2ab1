//! Which upstream a connection belongs to, as people see it.

use super::world::{World, by_interface, destination};
use crate::{
    config::Rule,
    model::{Excluded, Scope, State},
};

#[test]
fn a_configured_upstream_is_idle_from_the_start() {
    let world = World::configured(&["a", "b"]);
    let names: Vec<_> = world
        .snapshot()
        .upstreams
        .into_iter()
        .map(|it| (it.name, it.state))
        .collect();
    assert_eq!(
        names,
        [("a".to_owned(), State::Idle), ("b".to_owned(), State::Idle)]
    );
}

#[test]
fn other_settings_keep_the_states_of_upstreams_that_keep_their_names() {
    let world = World::configured(&["a", "b"])
        .open("a", 0..20, 1)
        .open("b", 0..20, 1)
        .run(60)
        .hang("b", 0..20)
        .run(10)
        .configure(vec![
            by_interface("b"),
            by_interface("a"),
            by_interface("c"),
        ]);
    assert_eq!(world.upstream("b").state, State::Failing);
    assert_eq!(world.upstream("c").state, State::Idle);
    let before = world.story();
    let world = world.run(20);
    assert_eq!(world.story(), before, "nothing has changed");
}

#[test]
fn a_renamed_upstream_leaves_nothing_behind() {
    let renamed = Rule {
        name: "c".into(),
        ..by_interface("b")
    };
    let world = World::configured(&["a", "b"])
        .open("a", 0..20, 1)
        .open("b", 0..20, 1)
        .run(60)
        .hang("b", 0..20)
        .run(10)
        .configure(vec![by_interface("a"), renamed])
        .run(20);
    let snapshot = world.snapshot();
    let names: Vec<_> = snapshot.upstreams.iter().map(|it| &*it.name).collect();
    assert_eq!(names, ["c", "a"]);
    assert_eq!(world.upstream("c").state, State::Failing);
    assert_eq!(snapshot.scope, Some(Scope::Upstream));
}

#[test]
fn the_first_rule_that_matches_names_the_upstream() {
    let first = Rule {
        name: "everything".into(),
        gateway: Some([10, 0, 0, 1].into()),
        ..Rule::default()
    };
    let world = World::with_rules(vec![first, by_interface("a")])
        .open("a", 0..5, 1)
        .run(20);
    assert_eq!(world.upstream("everything").state, State::Ok);
    assert_eq!(world.upstream("a").state, State::Idle);
}

#[test]
fn an_alias_names_a_discovered_upstream() {
    World::new()
        .open("provider-a", 0..5, 1)
        .run(20)
        .expect(&["3s provider-a Idle->Ok"]);
}

#[test]
fn mapped_peers_are_the_same_destination_as_plain_ones() {
    let world = World::new()
        .open("a", 0..3, 1)
        .open_mapped("a", 0..3, 1)
        .run(60)
        .hang("a", 0..3)
        .run(10)
        .expect_state("a", State::Failing);
    let a = world.upstream("a");
    assert_eq!(
        a.stalled_destinations,
        [destination(0), destination(1), destination(2)]
    );
    assert_eq!(a.excluded.get(&Excluded::OneDestination), Some(&3));
}

#[test]
fn a_discovered_upstream_that_nobody_uses_is_forgotten_and_a_configured_one_is_not() {
    let world = World::configured(&["a"])
        .open("a", 0..5, 1)
        .open("b", 0..5, 1)
        .run(30)
        .close("a", 0..5)
        .close("b", 0..5)
        .run(200);
    let names: Vec<_> = world
        .snapshot()
        .upstreams
        .into_iter()
        .map(|it| it.name)
        .collect();
    assert_eq!(names, ["a"]);
}

#[test]
fn peers_that_are_ignored_are_not_looked_at() {
    let world = World::new()
        .ignoring("100.0.0.0/16")
        .open("a", 0..20, 1)
        .run(30)
        .hang("a", 0..20)
        .run(30)
        .expect(&[]);
    assert!(world.stalls().is_empty());
}

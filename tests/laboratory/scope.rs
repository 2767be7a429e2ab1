//! How far the trouble reaches, and what the other ways out say about it.

use lab::{Direction, Fault, Load, Plan};

use crate::world::{SOON, World};

#[test]
fn trouble_at_every_upstream_at_once_is_common() {
    let Some(mut world) = World::new(2) else {
        return;
    };
    world.traffic(0, 0..20, Load::STEADY);
    world.traffic(1, 0..20, Load::STEADY);
    world.watch();
    world.all_ok();
    world.break_(0, Fault::Blackhole(Direction::Both));
    world.break_(1, Fault::Blackhole(Direction::Both));
    let status = world.until(SOON, "both are failing and the scope is common", |status| {
        status.state_of("provider-a") == "failing"
            && status.state_of("provider-b") == "failing"
            && status.scope.as_deref() == Some("common")
    });
    for upstream in &status.upstreams {
        if upstream.state == "failing" {
            assert_eq!(upstream.scope.as_deref(), Some("common"), "{upstream:?}");
        }
    }
    world.repair(0);
    world.repair(1);
    world.all_ok();
}

#[test]
fn two_bad_upstreams_of_three_are_not_common() {
    let Some(world) = World::healthy() else {
        return;
    };
    world.break_(0, Fault::Blackhole(Direction::Both));
    world.break_(1, Fault::Blackhole(Direction::Both));
    let status = world.until(SOON, "both are failing", |status| {
        status.state_of("provider-a") == "failing" && status.state_of("provider-b") == "failing"
    });
    assert_eq!(status.state_of("provider-c"), "ok");
    assert_eq!(status.scope.as_deref(), Some("upstream"));
}

#[test]
fn destinations_that_work_elsewhere_testify_against_the_upstream() {
    let Some(mut world) = World::new(2) else {
        return;
    };
    // The same destinations through both, by source address.
    let [a, b] = &world.lab.upstreams[..] else {
        unreachable!("there are two")
    };
    let through_a = Plan::new(b, 0..20, Load::STEADY).via(a);
    let through_b = Plan::new(b, 0..20, Load::STEADY).via(b);
    world.plan(&through_a);
    world.plan(&through_b);
    world.watch();
    world.all_ok();
    world.break_(1, Fault::Blackhole(Direction::Both));
    world.is_blamed(1, "blackhole");
    world.until(SOON, "the counter-examples are counted", |status| {
        let Some(upstream) = status.upstream("provider-b") else {
            return false;
        };
        upstream.counterfactual.destinations >= 18 && upstream.counterfactual.fine_elsewhere >= 18
    });
}

//! Where programs in the kernel are not allowed netlink is polled: less is seen, and what is seen is
//! right.

use std::time::Duration;

use lab::{Direction, Fault, Load, Options};

use crate::world::{SOON, START, World, all_quiet, it_works, others_are_fine};

impl World {
    /// Three upstreams with traffic, polled by a user without any right.
    #[track_caller]
    fn polled() -> Option<Self> {
        let mut world = Self::new(3)?;
        for upstream in 0..3 {
            world.traffic(upstream, 0..20, Load::STEADY);
            world.traffic(upstream, 0..20, Load::Idle(10));
        }
        world.watch_with(&Options {
            rights: Some("-cap_39"),
            arguments: vec!["--sensor", "sock-diag"],
            ..Options::default()
        });
        world.all_ok();
        Some(world)
    }
}

#[test]
fn polling_needs_no_right_and_names_a_black_hole() {
    let Some(mut world) = World::polled() else {
        return;
    };
    world.until(START, "all are counted", |status| {
        let counted = |name| status.upstream(name).map(|it| it.connections.established);
        ["provider-a", "provider-b", "provider-c"]
            .into_iter()
            .all(|name| counted(name) == Some(30))
    });
    world.break_(1, Fault::Blackhole(Direction::Both));
    // On a slow machine polls are far apart.
    world.until(2 * SOON, "provider-b is failing", |status| {
        others_are_fine(status, "provider-b");
        status.is_failing("provider-b", "blackhole")
    });
    let stalls = world.stalls(&[]);
    for stall in &stalls {
        assert_eq!(stall.upstream, "provider-b", "{stall:?}");
        assert_eq!(stall.pid, None, "nobody can tell: {stall:?}");
    }
    assert!(stalls.len() >= 10, "{stalls:?}");
    world.recovers(1);
    world.hang_up();
    world.hold(Duration::from_secs(3), "nobody is blamed", all_quiet);
}

/// The quiet side, and what is lost is said.
#[test]
fn polling_holds_slow_readers_and_idle_connections_against_nobody_and_says_what_it_cannot_see() {
    let Some(mut world) = World::polled() else {
        return;
    };
    for upstream in 0..3 {
        world.traffic(upstream, 0..20, Load::SlowReaders(10));
        world.traffic(upstream, 0..20, Load::LongPoll(20));
    }
    world.hold(Duration::from_secs(8), "nobody is blamed", all_quiet);
    for lost in [
        "program:on_retransmit",
        "other-netns",
        "program:holders",
        "program:descriptors",
    ] {
        let feature = format!("tcpstall_kernel_feature{{feature=\"{lost}\"}}");
        assert_eq!(
            it_works(world.daemon().metric(&feature)),
            Some(0.0),
            "{lost}"
        );
    }
    let log = world.daemon().log();
    assert!(log.contains("polled through netlink"), "{log}");
    assert!(log.contains("the process that holds a connection"), "{log}");
}

/// What is stuck since before the start has no cached route any more; here nobody has one.
#[test]
fn polling_finds_what_hung_before_it_began() {
    let Some(mut world) = World::new(3) else {
        return;
    };
    for upstream in 0..3 {
        world.traffic(upstream, 0..20, Load::STEADY);
    }
    world.break_(1, Fault::Blackhole(Direction::Both));
    std::thread::sleep(Duration::from_secs(6));
    world.watch_with(&Options {
        arguments: vec!["--sensor", "sock-diag"],
        ..Options::default()
    });
    world.until(SOON, "provider-b is failing", |status| {
        others_are_fine(status, "provider-b");
        status.is_failing("provider-b", "blackhole")
    });
    for stall in world.stalls(&[]) {
        assert!(stall.stalled_seconds >= 4.0, "{stall:?}");
    }
}

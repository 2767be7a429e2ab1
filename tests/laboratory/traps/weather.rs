//! Trouble that comes and goes, and trouble that lets some packets through.

use std::{thread, time::Duration};

use lab::{Direction, Fault};

use super::{in_full, steady};
use crate::world::{SOON, World, it_works, others_are_fine};

/// Trap: flapping: a storm of alarms.
#[test]
fn an_upstream_that_flaps_is_told_a_handful_of_times_and_right_in_the_end() {
    let Some(world) = World::healthy() else {
        return;
    };
    let events = it_works(world.daemon().events());
    for _ in 0..3 {
        world.break_(1, Fault::Blackhole(Direction::Both));
        thread::sleep(Duration::from_secs(3));
        world.repair(1);
        thread::sleep(Duration::from_secs(3));
    }
    let status = world.recovers(1);
    assert_eq!(status.state, "ok", "{}", status.summary());
    world.hold(Duration::from_secs(4), "it stays ok", |status| {
        status.state == "ok"
    });
    let seen: Vec<_> = events.try_iter().map(|(_, event)| event).collect();
    let changes: Vec<_> = seen
        .iter()
        .filter(|event| event["from"] != event["to"])
        .collect();
    assert!((2..=9).contains(&changes.len()), "{changes:?}");
    assert!(
        changes
            .iter()
            .all(|event| event["upstream"] == "provider-b"),
        "{changes:?}"
    );
    // A chain: each begins where the one before ended, and the last where we are.
    for pair in changes.windows(2) {
        assert_eq!(pair[0]["to"], pair[1]["from"], "{changes:?}");
    }
    assert_eq!(changes.last().map(|it| &it["to"]), Some(&"ok".into()));
}

/// Breaks the second of two upstreams and waits until it is bad for that cause.
#[track_caller]
fn is_called(cause: &str, fault: Fault, limit: Duration) {
    let Some(mut world) = World::new(2) else {
        return;
    };
    world.traffic(0, 0..20, steady(2));
    world.traffic(1, 0..20, steady(2));
    world.watch();
    world.all_ok();
    world.break_(1, fault);
    world.until(limit, &format!("{fault} is called {cause}"), |status| {
        others_are_fine(status, "provider-b");
        super::is_bad(status, "provider-b") && status.cause_of("provider-b") == Some(cause)
    });
    world.repair(1);
    world.until(2 * SOON, "it is ok again", |status| status.state == "ok");
}

/// Trap: brown-outs: most packets pass, and yet everything crawls.
#[test]
fn a_third_of_the_packets_lost_is_called_loss() {
    is_called("loss", Fault::RandomLoss(30), Duration::from_secs(15));
}

/// Trap: brown-outs: less so; it takes longer to tell from bad weather.
#[test]
fn a_fifth_of_the_packets_lost_is_called_loss_in_the_end() {
    if in_full() {
        is_called("loss", Fault::RandomLoss(20), Duration::from_secs(60));
    }
}

/// Trap: the way back: all that is sent arrives and is repeated all the same, as acknowledgements get lost. The
/// pace of conversations falls to two fifths.
#[test]
fn half_of_the_acknowledgements_lost_is_called_return_path() {
    let fault = Fault::AcknowledgementsLost(50);
    is_called("return-path", fault, Duration::from_secs(40));
}

/// Trap: the way back, hardly felt: what one acknowledgement says, the next says, too.
#[test]
fn a_fifth_of_the_acknowledgements_lost_is_no_alarm() {
    is_nothing(Fault::AcknowledgementsLost(20));
}

/// Trap: brown-outs: bad weather, where everything is slow and nothing is broken.
#[test]
fn a_twentieth_of_the_packets_lost_is_no_alarm() {
    is_nothing(Fault::RandomLoss(5));
}

/// Breaks the second of two upstreams, and nothing is said.
#[track_caller]
fn is_nothing(fault: Fault) {
    let Some(mut world) = World::new(2) else {
        return;
    };
    world.traffic(0, 0..20, steady(2));
    world.traffic(1, 0..20, steady(2));
    world.watch();
    world.all_ok();
    world.break_(1, fault);
    let time = if in_full() { 60 } else { 10 };
    world.hold(Duration::from_secs(time), "it is nothing", |status| {
        status.state == "ok"
    });
}

//! Files of `tests/scenarios/`, staged once each: what is expected of the judgement in the simulator
//! holds with real TCP and the real detector.
//!
//! One more scenario is one more line.

use std::time::Duration;

use lab::{
    simulator::scenario::Scenario,
    staged::{self, missed},
};

use crate::world::{Turn, in_full, it_works, root};

/// A machine that tests in parallel is slower than one that does nothing else.
const TOLERANCE: Duration = Duration::from_secs(15);
/// What is no outage need not be watched for as long as its file says.
const QUIET: Duration = Duration::from_secs(15);

macro_rules! staged {
    ($($test:ident: $file:literal;)*) => {$(
        #[test]
        fn $test() {
            is_as_expected($file);
        }
    )*};
}

macro_rules! staged_in_full {
    ($($test:ident: $file:literal;)*) => {$(
        #[test]
        fn $test() {
            if in_full() {
                is_as_expected($file);
            }
        }
    )*};
}

staged! {
    black_hole: "blackhole";
    large_packets_lost: "mtu";
    third_of_packets_lost: "loss-30";
    some_packets_lost: "loss-03";
    half_of_the_paths: "blackhole-half-of-paths";
    peace: "peace";
}

staged_in_full! {
    silent_gateway: "neighbour";
    refused_by_the_host: "local";
    half_of_the_destinations: "blackhole-half-of-destinations";
    every_upstream: "everywhere";
    nothing_comes_back: "return-path-100";
}

/// Stages a file once and holds what came of it against what it expects.
#[track_caller]
fn is_as_expected(name: &str) {
    if !root() {
        return;
    }
    let _turn = Turn::wait();
    let scenario = it_works(Scenario::named(name));
    // Another world each time would be another test each time.
    let seed = 1;
    let Some(broken) = &scenario.fault else {
        let peace = it_works(staged::in_peace(&scenario, seed, QUIET));
        assert!(peace.alarms.is_empty(), "{:?}", peace.alarms);
        return;
    };
    let longest = if scenario.expect.found.is_some() || scenario.expect.cause.is_some() {
        Duration::from_nanos(broken.lasts.0)
    } else {
        QUIET
    };
    let outcome = it_works(staged::with_fault(&scenario, broken, seed, longest));
    let missed = missed(&scenario, &outcome, TOLERANCE);
    assert!(missed.is_empty(), "{missed:?}: {outcome:?}");
}

#[test]
fn what_the_laboratory_cannot_make_is_refused_before_anything_is_built() {
    for (name, reason) in [
        ("blackhole-far", "3 upstreams"),
        ("peace-with-every-trap", "virtual time only"),
    ] {
        let scenario = it_works(Scenario::named(name));
        let refused = staged::in_peace(&scenario, 1, QUIET);
        let said = refused.expect_err("it cannot be staged").to_string();
        assert!(said.starts_with(name) && said.contains(reason), "{said}");
    }
}

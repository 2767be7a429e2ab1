use super::*;
use crate::{
    model::{Cause, TcpState},
    serve::example,
};

const BEGIN: Time = Time(1_000_000_000_000);

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A kernel whose timers are never late.
fn punctual() -> Retries {
    Retries {
        jiffy: Duration::ZERO,
        ..Retries::default()
    }
}

/// First sent at [`BEGIN`], with this many timeouts since, each twice as long as the one before.
fn after(timeouts: u8, first: Duration) -> Sample {
    let longest = Retries::default().longest;
    let mut fired = BEGIN;
    let mut rto = first;
    for _ in 0..timeouts {
        fired = fired.after(rto);
        rto = (rto * 2).min(longest);
    }
    Sample {
        at: fired,
        timeouts,
        backoff: timeouts,
        rto,
        next_try: Some(fired.after(rto)),
        stuck_since: Some(BEGIN),
        user_timeout: None,
        ..example::stall(1, 0, Cause::Blackhole).sample
    }
}

/// Window probes, so many without an answer.
fn probing(probes: u8, backoff: u8) -> Sample {
    let rto = ms(200);
    Sample {
        persist: true,
        timeouts: 0,
        packets_out: 0,
        unacked: 0,
        peer_window: 0,
        probes,
        backoff,
        rto,
        next_try: Some(BEGIN.after(rto)),
        ..after(0, rto)
    }
}

fn orphan(sample: Sample) -> Sample {
    Sample {
        tcp_state: TcpState::FinWait1,
        inode: None,
        ..sample
    }
}

/// From the first copy to the end.
fn lasts(retries: &Retries, sample: &Sample) -> Option<Duration> {
    retries.gives_up(sample, BEGIN).map(|it| it.since(BEGIN))
}

#[test]
fn the_model_is_the_kernels() {
    let usual = punctual();
    // Documentation/networking/ip-sysctl.rst: 924.6 s for 15, more than 100 s for 8.
    for (retries, expected) in [
        (0, 200),
        (3, 3_000),
        (8, 102_200),
        (9, 204_600),
        (10, 324_600),
        (15, 924_600),
    ] {
        assert_eq!(usual.model(retries), ms(expected), "{retries}");
    }
    let short = Retries {
        longest: ms(1000),
        ..usual
    };
    // Two doublings fit (200, 400, 800), then a second each.
    assert_eq!(short.model(5), ms(1400 + 3 * 1000));
}

#[test]
fn it_ends_at_the_first_timer_after_the_model_counted_from_the_first_repetition() {
    let usual = punctual();
    // The timer at 924.6 s is 924.4 s after the first repetition: 0.2 s too early.
    let expected = Some(ms(1_044_600));
    for timeouts in 1..16 {
        let found = lasts(&usual, &after(timeouts, ms(200)));
        // From the limit on the kernel no longer tells where it began.
        if timeouts <= 9 {
            assert_eq!(found, expected, "{timeouts}");
        } else {
            let near = found.is_some_and(|it| it >= ms(924_600) && it <= ms(1_044_600));
            assert!(near, "{timeouts}: {found:?}");
        }
    }
    let few = Retries { data: 3, ..usual };
    assert_eq!(lasts(&few, &after(1, ms(200))), Some(ms(6_200)));
    assert_eq!(lasts(&few, &after(2, ms(1000))), Some(ms(7_000)));
}

#[test]
fn a_user_timeout_ends_it_on_the_spot() {
    let usual = punctual();
    for timeouts in 1..4 {
        let sample = Sample {
            user_timeout: Some(ms(5000)),
            ..after(timeouts, ms(200))
        };
        assert_eq!(
            lasts(&usual, &sample),
            Some(ms(5200)),
            "counted from the first repetition, after {timeouts} timeouts"
        );
    }
}

#[test]
fn before_the_first_timeout_nothing_is_foretold() {
    assert_eq!(lasts(&punctual(), &after(0, ms(200))), None);
    let unknown = Sample {
        next_try: None,
        ..after(3, ms(200))
    };
    assert_eq!(lasts(&punctual(), &unknown), None);
    assert_eq!(first_timeout(&after(0, ms(200)), BEGIN), None);
    assert_eq!(
        first_timeout(&after(4, ms(200)), BEGIN),
        Some(BEGIN.after(ms(200)))
    );
}

#[test]
fn orphans_are_given_up_sooner() {
    let usual = punctual();
    // 102.2 s after the first repetition; the timer before that is 0.2 s too early.
    let sample = orphan(after(3, ms(200)));
    assert_eq!(lasts(&usual, &sample), Some(ms(204_600)));
    let set = Retries { orphan: 2, ..usual };
    assert_eq!(lasts(&set, &sample), Some(ms(3_000)));
    let held = Sample {
        inode: Some(7),
        ..sample
    };
    assert_eq!(
        lasts(&set, &held),
        Some(ms(1_044_600)),
        "a process that has only shut its end down still holds it"
    );
}

#[test]
fn an_orphan_that_a_router_speaks_against_does_not_outlive_the_longest_timeout() {
    let many = Retries {
        orphan: 200,
        ..punctual()
    };
    let sample = Sample {
        unreachable: Some(113),
        ..orphan(after(5, ms(200)))
    };
    // The first timer whose timeout has reached 120 s.
    assert_eq!(lasts(&many, &sample), Some(ms(324_600)));
}

#[test]
fn a_peer_that_answers_probes_is_waited_for_for_ever() {
    let usual = punctual();
    assert_eq!(lasts(&usual, &probing(0, 4)), None);
    let closed = Sample {
        peer_window: 0,
        ..after(3, ms(200))
    };
    assert_eq!(lasts(&usual, &closed), None, "in flight, window closed");
    let limited = Sample {
        user_timeout: Some(ms(5000)),
        ..probing(0, 0)
    };
    assert_eq!(lasts(&usual, &limited), Some(ms(5200)));
}

#[test]
fn probes_without_an_answer_are_counted() {
    let few = Retries {
        data: 3,
        ..punctual()
    };
    // The third is out; at the next timer there is nothing to wait for.
    assert_eq!(lasts(&few, &probing(3, 3)), Some(ms(200)));
    // One is out; 400 and 800 ms for the second and third.
    assert_eq!(lasts(&few, &probing(1, 1)), Some(ms(200 + 800 + 1600)));
}

#[test]
fn no_sample_is_followed_for_ever() {
    let absurd = Retries {
        data: u32::MAX,
        orphan: u32::MAX,
        longest: ms(1),
        jiffy: Duration::MAX,
    };
    let sample = Sample {
        rto: Duration::from_secs(u64::from(u32::MAX)),
        backoff: 255,
        ..after(1, ms(200))
    };
    let _ = absurd.gives_up(&sample, BEGIN);
    let _ = absurd.gives_up(
        &Sample {
            persist: true,
            probes: 1,
            ..sample
        },
        BEGIN,
    );
}

#[test]
fn timers_are_late_and_the_coarser_the_further_ahead() {
    let usual = Retries::default();
    for (ahead, expected) in [
        (0, 2),
        (251, 2),
        (252, 16),
        (2_015, 16),
        (2_016, 128),
        (16_128, 1_024),
        (120_000, 1_024),
    ] {
        assert_eq!(usual.late(ms(ahead)), ms(expected), "{ahead}");
    }
    // The timer at 924.6 s is 0.2 s too early for 15 retries only if every timer is punctual.
    let end = lasts(&usual, &after(1, ms(200)));
    assert!(
        end.is_some_and(|it| it > ms(924_600) && it < ms(940_000)),
        "{end:?}"
    );
}

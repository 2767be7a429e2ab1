//! PURE. How far a connection is in trouble, and why.

use std::time::Duration;

use crate::{
    model::{Cause, Phase, Reachability, Sample},
    time::Time,
};

/// Answers that are still on their way when the first copy of a segment leaves must not count as
/// answers to it: this much, or two round trips.
const IN_FLIGHT: Duration = Duration::from_millis(250);
/// Window probes that may be unanswered at any moment while the peer does answer: one on its way
/// and one in reserve (the kernel resets the count at each acknowledgement, `net/ipv4/tcp_input.c`,
/// `tcp_ack`).
const PROBES_IN_FLIGHT: u8 = 2;
/// A hole that is there for this long has outlasted a timeout of the peer's.
const HOLE: Duration = Duration::from_millis(1500);
/// `EBUSY`: the copy sent last is still in a queue of this host, where it waits for the next
/// hop's link address (`net/ipv4/tcp_output.c`, `__tcp_retransmit_skb`).
const EBUSY: i32 = 16;

/// Decide the phase of a connection.
///
/// In order; the first that applies wins:
/// 1. nothing outstanding: nothing was due, so it is healthy however quiet
/// 2. fewer than two timeouts or two unanswered doublings of the persist timer: not yet
/// 3. no progress for `stall_after`: stalled
/// 4. otherwise suspect
pub fn phase(
    sample: &Sample,
    waiting_since: Option<Time>,
    stall_after: Duration,
    now: Time,
) -> Option<Phase> {
    if sample.outstanding() == 0 {
        return None;
    }
    // With the window closed over data in flight the kernel probes with that data and counts no
    // timeouts (`tcp_retransmit_timer`, `net/ipv4/tcp_timer.c`).
    let probes = sample.persist || sample.peer_window == 0;
    let persists = probes && (sample.backoff >= 2 || sample.probes >= 2);
    if sample.timeouts < 2 && !persists {
        return None;
    }
    match waiting_since {
        Some(since) if now.since(since) >= stall_after => Some(Phase::Stalled),
        _ => Some(Phase::Suspect),
    }
}

/// The same for data that arrived behind a hole, by how long that has been there: a repetition of
/// the peer fills it within a timeout of the peer's, a second at most at first.
pub fn hole_phase(waited: Option<Duration>, stall_after: Duration) -> Option<Phase> {
    match waited? {
        waited if waited >= stall_after => Some(Phase::Stalled),
        waited if waited >= HOLE => Some(Phase::Suspect),
        _ => None,
    }
}

/// What is known of segments that got through on the same upstream since a connection stalled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Passed {
    /// Destinations to which only segments surely smaller than the waiting one got through.
    pub smaller: usize,
    /// Some segment as large as the waiting one got through, or many of unknown size.
    pub as_large: bool,
}

/// All that bears on the cause of one stall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// The peer's window is too small for the next segment, and the peer keeps saying so.
    pub window_closed: bool,
    /// The outgoing interface is down.
    pub link_down: bool,
    /// What the kernel said when it tried to send again.
    pub send_error: Option<i32>,
    /// Data is unsent, nothing is in flight, and the window is open.
    pub nothing_leaves: bool,
    /// The next hop on its link.
    pub neighbour: Option<Reachability>,
    /// Other segments on this upstream.
    pub passed: Passed,
    /// Acknowledgements have come since the segment was first sent.
    pub heard: bool,
    /// Nothing of ours waits; what waits is data of the peer behind a hole.
    pub receiving: bool,
    /// Why the upstream is slow altogether: much is lost and some gets through.
    pub weather: Option<Cause>,
    /// What a router said of the way, an errno.
    pub unreachable: Option<i32>,
}

impl Evidence {
    /// Gathers what one sample says; the caller adds what others say.
    pub fn of(sample: &Sample, since: Time) -> Self {
        let next = sample.head.unwrap_or(sample.mss).min(sample.mss.max(1));
        let window_closed = sample.peer_window < next
            && (sample.persist || sample.peer_window == 0)
            && sample.probes <= PROBES_IN_FLIGHT
            && answers(sample);
        let slack = sample
            .srtt
            .map_or(IN_FLIGHT, |srtt| (2 * srtt).max(IN_FLIGHT));
        Self {
            window_closed,
            link_down: false,
            send_error: sample.send_error,
            nothing_leaves: sample.packets_out == 0
                && sample.unsent > 0
                && sample.peer_window >= next,
            neighbour: None,
            passed: Passed::default(),
            heard: sample.acked_at > since.after(slack),
            receiving: false,
            weather: None,
            unreachable: sample.unreachable,
        }
    }
}

/// Whether the peer answered the newest window probe or the one before.
fn answers(sample: &Sample) -> bool {
    // Probes are spaced by the timeout and its doublings; without probes the timeout itself doubles.
    let doublings = if sample.persist {
        u32::from(sample.backoff).min(16)
    } else {
        0
    };
    let wait = sample.rto.saturating_mul(1 << doublings);
    sample.at.since(sample.heard_at) <= 2 * wait + IN_FLIGHT
}

/// Why is it stalled? Rows are tried from the top; the first that fits names the cause, with the
/// words that `explain` uses.
pub fn cause(evidence: &Evidence) -> (Cause, &'static str) {
    match *evidence {
        Evidence {
            receiving: true, ..
        } => (
            Cause::ReceiveHole,
            "the peer's data arrives with a hole that does not fill",
        ),
        Evidence {
            window_closed: true,
            ..
        } => (
            Cause::ZeroWindow,
            "the peer's window is too small, and the peer keeps saying so",
        ),
        Evidence {
            link_down: true, ..
        } => (Cause::Local, "the outgoing interface is down"),
        Evidence {
            neighbour: Some(Reachability::Silent),
            ..
        } => (Cause::Neighbour, "the next hop does not answer on its link"),
        Evidence {
            send_error: Some(EBUSY),
            ..
        } => (
            Cause::Neighbour,
            "the last copy still waits in this host for the next hop's address",
        ),
        Evidence {
            send_error: Some(_),
            ..
        } => (
            Cause::Local,
            "this host refuses to send the packet (firewall or route)",
        ),
        Evidence {
            nothing_leaves: true,
            ..
        } => (
            Cause::Local,
            "data is unsent, the window is open, and nothing is in flight",
        ),
        Evidence {
            weather: Some(Cause::ReturnPath),
            ..
        } => (
            Cause::ReturnPath,
            "peers report that data arrives more than once: acknowledgements are lost on their way",
        ),
        Evidence {
            weather: Some(_), ..
        } => (
            Cause::Loss,
            "much is lost on this upstream, and some gets through",
        ),
        Evidence {
            passed:
                Passed {
                    smaller: 2..,
                    as_large: false,
                },
            ..
        } => (
            Cause::Mtu,
            "smaller segments got through meanwhile, none of this size did",
        ),
        Evidence {
            unreachable: Some(_),
            ..
        } => (
            Cause::Blackhole,
            "a router reports that the destination cannot be reached",
        ),
        Evidence { heard: false, .. } => (
            Cause::Blackhole,
            "nothing has come back since the segment was first sent",
        ),
        Evidence { heard: true, .. } => (
            Cause::Unknown,
            "acknowledgements arrive, but none for the waiting segment",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::samples;

    const SINCE: Time = Time(1_000_000_000_000);
    const STALL_AFTER: Duration = Duration::from_secs(3);

    fn phase_after(sample: &Sample, waited: Duration) -> Option<Phase> {
        phase(sample, Some(SINCE), STALL_AFTER, SINCE.after(waited))
    }

    #[test]
    fn phases_on_both_sides_of_each_limit() {
        let ms = Duration::from_millis;
        let stuck = |timeouts| Sample {
            unacked: 1,
            packets_out: 1,
            timeouts,
            ..samples::any()
        };
        let probing = |backoff, probes| Sample {
            unsent: 1,
            persist: true,
            backoff,
            probes,
            ..samples::any()
        };
        for (name, sample, waited, then) in [
            ("nothing outstanding", samples::any(), ms(9_000_000), None),
            (
                "nothing outstanding, old timeouts",
                Sample {
                    timeouts: 9,
                    ..samples::any()
                },
                ms(9_000),
                None,
            ),
            ("one timeout", stuck(1), ms(9_000), None),
            (
                "two timeouts, just short",
                stuck(2),
                ms(2_999),
                Some(Phase::Suspect),
            ),
            (
                "two timeouts, long enough",
                stuck(2),
                ms(3_000),
                Some(Phase::Stalled),
            ),
            (
                "one doubling of the probe timer",
                probing(1, 1),
                ms(9_000),
                None,
            ),
            (
                "two doublings of the probe timer",
                probing(2, 0),
                ms(2_999),
                Some(Phase::Suspect),
            ),
            (
                "two unanswered probes",
                probing(0, 2),
                ms(3_000),
                Some(Phase::Stalled),
            ),
            (
                "backoff without the probe timer",
                Sample {
                    persist: false,
                    ..probing(5, 5)
                },
                ms(9_000),
                None,
            ),
        ] {
            assert_eq!(phase_after(&sample, waited), then, "{name}");
        }
        assert_eq!(
            phase(&stuck(5), None, STALL_AFTER, SINCE),
            Some(Phase::Suspect),
            "unknown since"
        );
    }

    /// Nothing is known that would name a cause before the last rows.
    const NOTHING: Evidence = Evidence {
        window_closed: false,
        link_down: false,
        send_error: None,
        nothing_leaves: false,
        neighbour: None,
        passed: Passed {
            smaller: 0,
            as_large: false,
        },
        heard: false,
        receiving: false,
        weather: None,
        unreachable: None,
    };

    #[test]
    fn each_row_names_its_cause_and_yields_to_the_rows_above() {
        let mtu = Passed {
            smaller: 2,
            as_large: false,
        };
        // From the last row to the first: each is added to all that came before.
        let mut evidence = NOTHING;
        assert_eq!(cause(&evidence).0, Cause::Blackhole);
        evidence.heard = true;
        assert_eq!(cause(&evidence).0, Cause::Unknown);
        evidence.unreachable = Some(113);
        assert_eq!(cause(&evidence).0, Cause::Blackhole);
        assert!(cause(&evidence).1.contains("router"));
        evidence.passed = mtu;
        assert_eq!(cause(&evidence).0, Cause::Mtu);
        evidence.weather = Some(Cause::Loss);
        assert_eq!(cause(&evidence).0, Cause::Loss);
        evidence.weather = Some(Cause::ReturnPath);
        assert_eq!(cause(&evidence).0, Cause::ReturnPath);
        evidence.nothing_leaves = true;
        assert_eq!(cause(&evidence).0, Cause::Local);
        evidence.send_error = Some(1);
        assert_eq!(cause(&evidence).0, Cause::Local);
        assert!(cause(&evidence).1.contains("firewall"));
        evidence.send_error = Some(EBUSY);
        assert_eq!(cause(&evidence).0, Cause::Neighbour);
        evidence.neighbour = Some(Reachability::Silent);
        assert_eq!(cause(&evidence).0, Cause::Neighbour);
        evidence.link_down = true;
        assert_eq!(cause(&evidence).0, Cause::Local);
        evidence.window_closed = true;
        assert_eq!(cause(&evidence).0, Cause::ZeroWindow);
        evidence.receiving = true;
        assert_eq!(cause(&evidence).0, Cause::ReceiveHole);
    }

    #[test]
    fn what_does_not_name_a_cause() {
        let small = |smaller, as_large| Evidence {
            passed: Passed { smaller, as_large },
            ..NOTHING
        };
        for (name, evidence) in [
            (
                "a neighbour that answers",
                Evidence {
                    neighbour: Some(Reachability::Answers),
                    ..NOTHING
                },
            ),
            ("small segments to one destination", small(1, false)),
            ("large ones pass as well", small(9, true)),
        ] {
            assert_eq!(cause(&evidence).0, Cause::Blackhole, "{name}");
        }
    }

    fn waiting() -> Sample {
        Sample {
            at: SINCE.after(Duration::from_secs(60)),
            acked_at: SINCE,
            sent_at: SINCE,
            srtt: None,
            ..samples::any()
        }
    }

    #[test]
    fn an_answer_counts_when_it_cannot_have_been_on_its_way() {
        let heard = |srtt: Option<u64>, after: u64| {
            let sample = Sample {
                srtt: srtt.map(Duration::from_millis),
                acked_at: SINCE.after(Duration::from_millis(after)),
                ..waiting()
            };
            Evidence::of(&sample, SINCE).heard
        };
        assert!(!heard(None, 250));
        assert!(heard(None, 251));
        assert!(!heard(Some(20), 250));
        assert!(heard(Some(20), 251));
        assert!(!heard(Some(400), 800));
        assert!(heard(Some(400), 801));
    }

    #[test]
    fn a_closed_window_is_believed_while_the_peer_answers() {
        let probing = Sample {
            persist: true,
            unsent: 5_000,
            peer_window: 0,
            rto: Duration::from_millis(200),
            backoff: 3,
            heard_at: SINCE.after(Duration::from_secs(59)),
            ..waiting()
        };
        let closed = |change: &dyn Fn(&mut Sample)| {
            let mut sample = probing.clone();
            change(&mut sample);
            Evidence::of(&sample, SINCE).window_closed
        };
        assert!(closed(&|_| ()));
        assert!(
            closed(&|it| it.peer_window = 1447),
            "too small for the next segment"
        );
        assert!(!closed(&|it| it.peer_window = 1448), "large enough");
        assert!(
            closed(&|it| it.probes = 2),
            "two probes may be on their way"
        );
        assert!(!closed(&|it| it.probes = 3), "nobody answers");
        // 200 ms doubled three times, twice, and what is in flight: 3.45 s.
        assert!(closed(
            &|it| it.heard_at = it.at.before(Duration::from_millis(3450))
        ));
        assert!(!closed(
            &|it| it.heard_at = it.at.before(Duration::from_millis(3451))
        ));
        assert!(
            closed(&|it| it.acked_at = it.at.before(Duration::from_secs(60))),
            "that no data was acknowledged is what a closed window means"
        );
        // A window that shrank under data in flight.
        let shrunk = |it: &mut Sample| {
            (it.persist, it.unacked, it.packets_out, it.head) = (false, 1448, 1, Some(1448));
            (it.timeouts, it.rto) = (3, Duration::from_millis(1600));
        };
        assert!(closed(&shrunk));
        assert!(
            !closed(&|it| {
                shrunk(it);
                it.peer_window = 500;
            }),
            "a small window does not explain a segment in flight"
        );
        assert!(
            !closed(&|it| {
                shrunk(it);
                it.heard_at = it.at.before(Duration::from_millis(3451));
            }),
            "the retransmission timeout is doubled already"
        );
    }

    #[test]
    fn nothing_leaves_when_the_window_is_open_and_nothing_is_in_flight() {
        let local = |packets_out, unsent, peer_window| {
            let sample = Sample {
                packets_out,
                unsent,
                peer_window,
                ..waiting()
            };
            Evidence::of(&sample, SINCE).nothing_leaves
        };
        assert!(local(0, 1, 1448));
        assert!(!local(0, 1, 1447));
        assert!(!local(0, 0, 1448));
        assert!(!local(1, 1, 1448));
    }
}

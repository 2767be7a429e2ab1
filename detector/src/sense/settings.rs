//! PURE. What the kernel programs are told: what to write, and what to count as what.

use detector_ebpf::{MAX_ROUTES, Settings};

use crate::model::NetnsId;

/// A connection that sent data within this many milliseconds is at work.
const ACTIVE: u64 = 5000;
/// Samples of each destination per sweep.
const SAMPLES: u32 = 4;
/// From how many timeouts on a connection is reported.
const REPORT_TIMEOUTS: u32 = 1;
/// From how many repetitions of its first segment on a handshake is counted: one is lost now and then.
const HANDSHAKE_TIMEOUTS: u32 = 2;
/// Milliseconds that a hole stands before it is written: reordered and repeated segments take a
/// round trip or two.
const HOLE: u64 = 300;
/// Milliseconds within which data has arrived "lately".
const RECEIVING: u64 = 2000;
/// Milliseconds of silence from which a stream has stopped, and until which that is news.
const SILENT: u64 = 3000;
const SILENT_UNTIL: u64 = 15_000;
/// Milliseconds and bytes that make a stream.
const STREAM: u64 = 2000;
const STREAM_BYTES: u32 = 100_000;

/// What the programs may use of this kernel.
#[derive(Debug, Clone, Copy, Default)]
pub struct Abilities {
    /// `tcp_retransmit_skb` has the argument `err`.
    pub send_errors: bool,
    /// `bpf_probe_read_kernel` is allowed.
    pub probe_reads: bool,
    /// The sockets behind open files can be had.
    pub other_netns: bool,
    /// `bpf_get_socket_cookie` takes the sockets of tracepoints.
    pub cookies: bool,
}

/// For a network namespace, on a kernel with so many jiffies per second.
pub fn of(netns: NetnsId, hz: u64, abilities: Abilities) -> Settings {
    let jiffies = |milliseconds: u64| {
        let jiffies = milliseconds.saturating_mul(hz).div_ceil(1000);
        u32::try_from(jiffies).unwrap_or(u32::MAX)
    };
    Settings {
        netns: netns.0,
        other_netns: u32::from(abilities.other_netns),
        active_jiffies: jiffies(ACTIVE),
        samples_per_destination: SAMPLES,
        report_timeouts: REPORT_TIMEOUTS,
        has_err: u32::from(abilities.send_errors),
        may_probe: u32::from(abilities.probe_reads),
        has_cookies: u32::from(abilities.cookies),
        handshake_timeouts: HANDSHAKE_TIMEOUTS,
        hole_jiffies: jiffies(HOLE),
        receiving_jiffies: jiffies(RECEIVING),
        silent_jiffies: jiffies(SILENT),
        silent_until_jiffies: jiffies(SILENT_UNTIL),
        stream_jiffies: jiffies(STREAM),
        stream_bytes: STREAM_BYTES,
        route_mask: MAX_ROUTES - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Abilities = Abilities {
        send_errors: true,
        probe_reads: true,
        other_netns: true,
        cookies: true,
    };
    #[test]
    fn spans_are_the_same_whatever_a_jiffy_is() {
        for hz in [100, 250, 300, 1000] {
            let settings = of(NetnsId(7), hz, ALL);
            let seconds = |jiffies: u32| f64::from(jiffies) / hz as f64;
            assert!((seconds(settings.active_jiffies) - 5.0).abs() < 0.01);
            assert!((seconds(settings.hole_jiffies) - 0.3).abs() < 0.01);
            assert!((seconds(settings.silent_until_jiffies) - 15.0).abs() < 0.01);
        }
    }

    #[test]
    fn lately_ends_before_silence_begins_and_silence_before_it_is_no_news() {
        let settings = of(NetnsId(7), 250, Abilities::default());
        assert!(settings.receiving_jiffies < settings.silent_jiffies);
        assert!(settings.silent_jiffies < settings.silent_until_jiffies);
        assert_eq!((settings.has_err, settings.may_probe), (0, 0));
    }
}

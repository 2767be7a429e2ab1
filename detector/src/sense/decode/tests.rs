//! What the kernel writes, and what becomes of it.

use proptest::prelude::*;
use zerocopy::IntoBytes as _;

use super::*;

const HZ: u64 = 250;
const SIZE: usize = size_of::<RawSock>();

fn raw() -> RawSock {
    RawSock::read_from_bytes(&[0; SIZE]).unwrap()
}

/// An hour after the host came up, with the jiffies at this value.
fn at_jiffies(jiffies: u64) -> RawSock {
    RawSock {
        observed_ns: 3_600_000_000_000,
        jiffies,
        ..raw()
    }
}

fn decoded(raw: RawSock) -> Sample {
    let mut samples = records(raw.as_bytes(), HZ).unwrap();
    assert_eq!(samples.len(), 1);
    samples.remove(0)
}

fn mapped(a: u8, b: u8, c: u8, d: u8) -> [u8; 16] {
    Ipv4Addr::new(a, b, c, d).to_ipv6_mapped().octets()
}

fn v6(address: &str) -> [u8; 16] {
    address.parse::<Ipv6Addr>().unwrap().octets()
}

#[test]
fn a_mapped_address_is_an_ipv4_address() {
    let sample = decoded(RawSock {
        local: mapped(192, 0, 2, 1),
        local_port: 40_000,
        remote: mapped(198, 51, 100, 7),
        remote_port: 25,
        ..raw()
    });
    assert_eq!(sample.local.to_string(), "192.0.2.1:40000");
    assert_eq!(sample.remote.to_string(), "198.51.100.7:25");
}

#[test]
fn an_ipv6_address_stays_one() {
    let sample = decoded(RawSock {
        remote: v6("2001:db8::7"),
        remote_port: 25,
        ..raw()
    });
    assert_eq!(sample.remote.to_string(), "[2001:db8::7]:25");
}

#[test]
fn next_hops_of_each_kind() {
    let mut gateway4 = [0; 16];
    gateway4[..4].copy_from_slice(&[10, 0, 0, 1]);
    let hop = |ifindex, gateway, gateway_family| {
        let sample = decoded(RawSock {
            netns: 7,
            ifindex,
            gateway,
            gateway_family,
            ..raw()
        });
        let counted = next_hop(&RawNextHop {
            netns: 7,
            ifindex,
            gateway,
            gateway_family: gateway_family.into(),
        });
        assert_eq!(counted, sample.next_hop, "a sweep's two halves agree");
        sample.next_hop.map(|hop| {
            assert_eq!((hop.netns, hop.interface), (NetnsId(7), IfIndex(ifindex)));
            hop.gateway.map(|gateway| gateway.to_string())
        })
    };
    let some = |it: &str| Some(Some(it.to_owned()));
    assert_eq!(hop(3, gateway4, AF_INET), some("10.0.0.1"));
    assert_eq!(hop(3, v6("fe80::1"), AF_INET6), some("fe80::1"));
    assert_eq!(hop(3, mapped(10, 0, 0, 1), AF_INET6), some("10.0.0.1"));
    assert_eq!(hop(3, [0; 16], GATEWAY_ON_LINK), Some(None));
    assert_eq!(hop(3, [0; 16], detector_ebpf::GATEWAY_UNKNOWN), None);
    assert_eq!(hop(3, gateway4, 99), None, "a family that nobody knows");
    assert_eq!(hop(0, gateway4, AF_INET), None, "no interface");
}

#[test]
fn a_family_that_does_not_fit_is_not_known() {
    let key = RawNextHop {
        gateway: [0; 16],
        netns: 7,
        ifindex: 3,
        gateway_family: 0x1_0002,
    };
    assert_eq!(next_hop(&key), None);
}

#[test]
fn counts_keep_their_columns() {
    let raw = RawCounts {
        suspicious: 1,
        busy: 2,
        app_limited: 3,
        waiting: 4,
        idle: 5,
        handshakes: 6,
        receiving: 7,
        fell_silent: 8,
    };
    let expected = Counts {
        suspicious: 1,
        busy: 2,
        app_limited: 3,
        waiting: 4,
        idle: 5,
        handshakes: 6,
        receiving: 7,
        fell_silent: 8,
    };
    assert_eq!(counts(&raw), expected);
}

#[test]
fn flows_are_two_addresses_and_the_gateway_that_their_own_namespace_has() {
    let raw = RawFlow {
        local: mapped(172, 17, 0, 2),
        remote: v6("2001:db8::1"),
        next_hop: RawNextHop {
            gateway: mapped(172, 17, 0, 1),
            netns: 9,
            ifindex: 3,
            gateway_family: AF_INET6.into(),
        },
        reserved: 0,
    };
    let expected = Flow {
        netns: NetnsId(9),
        local: [172, 17, 0, 2].into(),
        remote: "2001:db8::1".parse().unwrap(),
        gateway: Some([172, 17, 0, 1].into()),
        device: None,
    };
    assert_eq!(flow(&raw), expected);
    let unknown = RawNextHop {
        ifindex: 0,
        ..raw.next_hop
    };
    let raw = RawFlow {
        next_hop: unknown,
        ..raw
    };
    assert_eq!(flow(&raw).gateway, None);
}

#[test]
fn what_is_zero_in_the_kernel_and_unknown_to_us() {
    let sample = decoded(raw());
    assert_eq!((sample.inode, sample.head, sample.srtt), (None, None, None));
    assert_eq!(
        (sample.send_error, sample.user_timeout, sample.stuck_since),
        (None, None, None)
    );
    assert_eq!(sample.device, None);
    let sample = decoded(RawSock {
        bound_dev_if: 3,
        inode: 4,
        head_len: 1448,
        srtt_us: 160_000,
        err: -16,
        user_timeout: 1500,
        ..raw()
    });
    assert_eq!((sample.inode, sample.head), (Some(4), Some(1448)));
    assert_eq!(sample.srtt, Some(Duration::from_millis(20)));
    assert_eq!(sample.device, Some(IfIndex(3)));
    assert_eq!(sample.send_error, Some(16));
    assert_eq!(sample.user_timeout, Some(Duration::from_millis(1500)));
    for no_error in [16, i32::MIN] {
        assert_eq!(
            decoded(RawSock {
                err: no_error,
                ..raw()
            })
            .send_error,
            None
        );
    }
}

#[test]
fn what_is_known_of_the_way_back() {
    let sample = decoded(raw());
    assert_eq!((sample.duplicates, sample.hole), (0, false));
    let sample = decoded(RawSock {
        dsack_dups: 3,
        hole: 1,
        rcv_nxt: 77,
        bytes_received: 1 << 40,
        lrcvtime: 900,
        ..at_jiffies(1000)
    });
    assert_eq!((sample.duplicates, sample.hole), (3, true));
    assert_eq!((sample.rcv_nxt, sample.bytes_received), (77, 1 << 40));
    let since = sample.at.since(sample.received_at);
    assert_eq!(since, Duration::from_millis(400));
}

#[test]
fn what_the_peer_repeats_is_no_acknowledgement_of_anything_new() {
    let heard = at_jiffies(1000);
    let at = decoded(heard).at;
    let ago = |rcv_tstamp, before: u64| {
        let delivered_us = (at.0 / 1000).saturating_sub(before);
        let sample = decoded(RawSock {
            rcv_tstamp,
            delivered_us,
            ..heard
        });
        [sample.acked_at, sample.heard_at].map(|it| sample.at.since(it).as_millis())
    };
    // Jiffies of four milliseconds.
    assert_eq!(ago(990, 2_000_000), [2000, 40], "data came since");
    assert_eq!(
        ago(900, 40_000),
        [400, 400],
        "sent again since, and it was early"
    );
    let unknown = RawSock {
        rcv_tstamp: 900,
        delivered_us: 0,
        ..heard
    };
    assert_eq!(at.since(decoded(unknown).acked_at).as_millis(), 400);
}

#[test]
fn the_places_of_columns_are_where_the_programs_count() {
    use detector_ebpf::Column as C;
    let columns = [
        C::Suspicious,
        C::Busy,
        C::AppLimited,
        C::Waiting,
        C::Idle,
        C::Handshakes,
        C::Receiving,
        C::FellSilent,
    ];
    let mut bytes = [0; size_of::<RawCounts>()];
    for (number, column) in (1..).zip(columns) {
        bytes[4 * column as usize] = number;
    }
    let raw = RawCounts::read_from_bytes(&bytes).unwrap();
    let expected = RawCounts {
        suspicious: 1,
        busy: 2,
        app_limited: 3,
        waiting: 4,
        idle: 5,
        handshakes: 6,
        receiving: 7,
        fell_silent: 8,
    };
    assert_eq!(raw, expected);
}

#[test]
fn sequence_numbers_wrap() {
    let sample = decoded(RawSock {
        snd_una: u32::MAX - 99,
        snd_nxt: 100,
        write_seq: 1100,
        ..raw()
    });
    assert_eq!(
        (sample.unacked, sample.unsent, sample.outstanding()),
        (200, 1000, 1200)
    );
}

#[test]
fn kinds() {
    let of = |kind| {
        event(
            RawSock {
                kind,
                cookie: 9,
                ..raw()
            }
            .as_bytes(),
            HZ,
        )
    };
    assert_eq!(of(KIND_CLOSED), Ok(Input::Closed(ConnectionId(9))));
    assert!(matches!(of(KIND_TIMEOUT), Ok(Input::Timeout(it)) if it.origin == Origin::Timeout));
    assert_eq!(of(KIND_ACTIVE), Err(DecodeError::Kind(KIND_ACTIVE)));
    assert_eq!(of(200), Err(DecodeError::Kind(200)));
    let of = |kind| records(RawSock { kind, ..raw() }.as_bytes(), HZ).map(|it| it[0].origin);
    assert_eq!(of(KIND_SUSPICIOUS), Ok(Origin::Suspicious));
    assert_eq!(of(KIND_ACTIVE), Ok(Origin::Active));
    assert_eq!(of(KIND_CLOSED), Err(DecodeError::Kind(KIND_CLOSED)));
}

#[test]
fn tcp_states_of_connections_and_the_rest() {
    let of = |state| decoded(RawSock { state, ..raw() }).tcp_state;
    assert_eq!(of(1), TcpState::Established);
    assert_eq!(of(4), TcpState::FinWait1);
    assert_eq!(of(5), TcpState::FinWait2);
    assert_eq!(of(8), TcpState::CloseWait);
    assert_eq!(of(9), TcpState::LastAck);
    assert_eq!(of(11), TcpState::Closing);
    for state in [0, 2, 3, 6, 7, 10, 12, 255] {
        assert_eq!(of(state), TcpState::Other);
    }
}

#[test]
fn torn_bytes_are_an_error_in_a_sentence() {
    let sentence = |bytes: &[u8]| records(bytes, HZ).unwrap_err().to_string();
    assert_eq!(
        sentence(&[0; SIZE + 1]),
        "the kernel wrote 241 bytes where a multiple of 240 was expected"
    );
    assert_eq!(
        event(&[0; 3], HZ),
        Err(DecodeError::Torn { want: SIZE, got: 3 })
    );
    assert_eq!(
        event(&[0; 2 * SIZE], HZ),
        Err(DecodeError::Torn {
            want: SIZE,
            got: 2 * SIZE
        })
    );
    assert_eq!(records(&[], HZ), Ok(Vec::new()), "a sweep may find nothing");
    assert_eq!(
        sentence(RawSock { kind: 9, ..raw() }.as_bytes()),
        "the kernel wrote a record of the unknown kind 9"
    );
}

#[test]
fn a_moment_slightly_ahead_is_now() {
    let raw = RawSock {
        lsndtime: 1001,
        ..at_jiffies(1000)
    };
    assert_eq!(decoded(raw).sent_at, decoded(raw).at);
}

#[test]
fn at_the_longest_timeout_the_doublings_say_nothing() {
    let capped = RawSock {
        retransmits: 12,
        backoff: 12,
        rto: (RTO_MAX * HZ) as u32,
        lsndtime: 900_000,
        ..at_jiffies(900_000)
    };
    assert_eq!(decoded(capped).stuck_since, None);
    let stamped = RawSock {
        retrans_stamp: 3_000_000,
        ..capped
    };
    let since = decoded(stamped).stuck_since.unwrap();
    let first = Time(3_000_000 * 1_000_000);
    assert!(since <= first && first.since(since) < Duration::from_millis(200));
}

#[test]
fn an_acknowledgement_after_the_first_repetition_began_a_new_wait() {
    let raw = RawSock {
        retransmits: 2,
        backoff: 2,
        rto: 200,
        lsndtime: 900_000,
        rcv_tstamp: 899_800,
        retrans_stamp: 3_000_000,
        ..at_jiffies(900_000)
    };
    // 0.8 s of timeout after two doublings: sent first 0.6 s before.
    let expected = decoded(raw).at.before(Duration::from_millis(600));
    assert_eq!(decoded(raw).stuck_since, Some(expected));
}

#[test]
fn probes_wait_since_one_timeout_before_the_first() {
    let probing = RawSock {
        pending: TIMER_PROBE,
        probes_out: 3,
        probes_tstamp: 899_500,
        rto: 50,
        ..at_jiffies(900_000)
    };
    let expected = decoded(probing).at.before(Duration::from_millis(2200));
    assert_eq!(decoded(probing).stuck_since, Some(expected));
    assert!(decoded(probing).persist);
    for other in [
        RawSock {
            probes_out: 0,
            ..probing
        },
        RawSock {
            probes_tstamp: 0,
            ..probing
        },
        // Left over from an earlier episode.
        RawSock {
            rcv_tstamp: 899_501,
            ..probing
        },
        RawSock {
            pending: 1,
            ..probing
        },
    ] {
        assert_eq!(decoded(other).stuck_since, None);
    }
}

/// What the kernel holds `after` jiffies after the last of `n` timeouts of a segment that was
/// first sent at jiffies `start`, and when that was.
fn stalled(n: u8, base: u64, start: u64, after: u64, stamped: bool) -> (RawSock, Time) {
    let limit = RTO_MAX * HZ;
    let waits: Vec<u64> = (0..=n)
        .map(|doublings| (base << doublings).min(limit))
        .collect();
    let last = start + waits[..usize::from(n)].iter().sum::<u64>();
    let jiffies = last + after;
    let nanoseconds = |jiffies: u64| jiffies * (1_000_000_000 / HZ);
    let since_boot = 60_000_000_000;
    let raw = RawSock {
        jiffies,
        observed_ns: since_boot + nanoseconds(jiffies - start),
        retransmits: n,
        backoff: n,
        rto: waits[usize::from(n)] as u32,
        lsndtime: last as u32,
        rcv_tstamp: start.wrapping_sub(10) as u32,
        retrans_stamp: if stamped {
            ((since_boot + nanoseconds(base)) / 1_000_000) as u32
        } else {
            0
        },
        ..raw()
    };
    (raw, Time(since_boot))
}

proptest! {
    #[test]
    fn jiffies_wrap(high in 0_u64..3, near in -1_000_000_i64..1_000_000, ago in 0_u64..800_000) {
        let jiffies = ((high + 1) << 32).wrapping_add_signed(near);
        let raw = RawSock { lsndtime: (jiffies - ago) as u32, ..at_jiffies(jiffies) };
        let expected = Duration::from_nanos(ago * (1_000_000_000 / HZ));
        prop_assert_eq!(decoded(raw).at.since(decoded(raw).sent_at), expected);
    }

    #[test]
    fn the_doublings_tell_when_the_first_copy_was_sent(
        n in 1_u8..16,
        base in 50_u64..800,
        start in (1_u64 << 32) - 200_000..(1_u64 << 32) + 200_000,
        after in 0_u64..1000,
        stamped in any::<bool>(),
    ) {
        let (raw, sent) = stalled(n, base, start, after, stamped);
        let at_limit = u64::from(raw.rto) >= RTO_MAX * HZ;
        match decoded(raw).stuck_since {
            Some(since) => {
                let jiffy = Duration::from_millis(1000 / HZ);
                prop_assert!(since >= sent.before(2 * jiffy), "never too early");
                // At the limit the first timeout is no longer known.
                let late = if at_limit { Duration::from_millis(base * 1000 / HZ) } else { 2 * jiffy };
                prop_assert!(since <= sent.after(late), "{since:?} {sent:?}");
            }
            None => prop_assert!(at_limit && !stamped),
        }
    }

    #[test]
    fn any_bytes_give_samples_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..3 * SIZE), hz in any::<u64>()) {
        let _ = (records(&bytes, hz), event(&bytes, hz));
    }

    #[test]
    fn any_record_gives_a_sample_or_an_error(bytes in prop::collection::vec(any::<u8>(), SIZE..=SIZE), kind in 0_u8..5, hz in prop_oneof![Just(0), Just(100), Just(1000), any::<u64>()]) {
        let raw = RawSock { kind, ..RawSock::read_from_bytes(&bytes[..]).unwrap() };
        prop_assert_eq!(records(raw.as_bytes(), hz).is_ok(), kind < KIND_CLOSED);
        prop_assert_eq!(event(raw.as_bytes(), hz).is_ok(), kind == KIND_TIMEOUT || kind == KIND_CLOSED);
    }
}

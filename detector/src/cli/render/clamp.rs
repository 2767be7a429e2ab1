//! The segment size that helps while large ones vanish.
//!
//! **Invariant:** pure; never larger than what is known not to pass.

/// What every path carries, less the headers of IP and TCP: 576 bytes by custom (RFC 9293 §3.7.1),
/// 1280 bytes by rule (RFC 8200 §5).
const LEAST_V4: u32 = 536;
const LEAST_V6: u32 = 1220;
/// Below this the kernel does not go (`TCP_MIN_MSS`, `include/net/tcp.h`).
const SMALLEST: u32 = 88;
/// Sizes are rounded down to a multiple of this: nobody believes 1013.
const STEP: u32 = 20;

/// A maximum segment size, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clamp {
    /// The maximum segment size to set.
    pub(super) mss: u32,
    /// The packet that it makes, with the headers of IP and TCP.
    pub(super) packet: u32,
    /// It is known to pass; else it is what every path carries.
    pub(super) known: bool,
}

/// The size to try, from the largest that passed and the smallest that waits (data, in bytes).
///
/// In order; the first that applies wins:
/// 1. nothing waits, as far as is known: none
/// 2. something as large as every path carries passed: that, rounded down
/// 3. what every path carries is smaller than what waits: that much
/// 4. something passed that the kernel would still send in pieces: that, rounded down
/// 5. otherwise none
///
/// Options are part of the maximum segment size and not of the data (RFC 6691), so the data of a
/// segment is as large as the clamp or smaller.
pub(super) fn clamp(passed: Option<u32>, waiting: Option<u32>, ipv6: bool) -> Option<Clamp> {
    let (least, headers) = if ipv6 { (LEAST_V6, 60) } else { (LEAST_V4, 40) };
    let waiting = waiting?;
    let passed = passed.filter(|it| *it < waiting);
    let rounded = |it: u32| it - it % STEP;
    let (mss, known) = match passed {
        Some(passed) if passed >= least => (rounded(passed).max(least), true),
        _ if least < waiting => (least, false),
        Some(passed) if rounded(passed) >= SMALLEST => (rounded(passed), true),
        _ => return None,
    };
    Some(Clamp {
        mss,
        packet: mss + headers,
        known,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_rule_on_both_sides_of_its_limit() {
        let of = |passed, waiting| clamp(passed, waiting, false).map(|it| (it.mss, it.known));
        for (passed, waiting, expected) in [
            (Some(1020), None, None),
            (Some(1021), Some(1448), Some((1020, true))),
            (Some(1448), Some(1448), Some((536, false))),
            (Some(540), Some(1448), Some((540, true))),
            (Some(539), Some(1448), Some((536, true))),
            (Some(536), Some(1448), Some((536, true))),
            (Some(535), Some(1448), Some((536, false))),
            (None, Some(1448), Some((536, false))),
            (None, Some(537), Some((536, false))),
            (Some(500), Some(536), Some((500, true))),
            (Some(99), Some(400), None),
            (Some(100), Some(400), Some((100, true))),
            (None, Some(536), None),
        ] {
            assert_eq!(of(passed, waiting), expected, "{passed:?} {waiting:?}");
        }
        let v6 = clamp(Some(600), Some(1428), true);
        let expected = Clamp {
            mss: 1220,
            packet: 1280,
            known: false,
        };
        assert_eq!(v6, Some(expected), "IPv6 has a larger least");
    }

    proptest! {
        #[test]
        fn it_is_smaller_than_what_waits(passed in proptest::option::of(0_u32..70_000), waiting in 0_u32..70_000, ipv6: bool) {
            if let Some(clamp) = clamp(passed, Some(waiting), ipv6) {
                prop_assert!(clamp.mss < waiting);
            }
        }
    }
}

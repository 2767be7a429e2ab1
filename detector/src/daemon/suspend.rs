//! PURE. Whether the host was suspended: its clocks drift apart while it sleeps.

use std::time::Duration;

/// The clocks are not read at the same instant: what is shorter is no sleep.
const SLEEP: Duration = Duration::from_millis(500);

/// What is known of the host's sleep.
#[derive(Debug, Clone, Copy)]
pub(super) struct Suspend {
    /// All sleep since the host came up, when it was last told.
    told: Duration,
}

impl Suspend {
    /// The host has slept for `asleep` since it came up: that is no news.
    pub(super) fn new(asleep: Duration) -> Self {
        Self { told: asleep }
    }

    /// The host has slept for `asleep` since it came up; what is new of that, once.
    pub(super) fn news(&mut self, asleep: Duration) -> Option<Duration> {
        let new = asleep.saturating_sub(self.told);
        if new <= SLEEP {
            return None;
        }
        self.told = asleep;
        Some(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_sleep_is_told_once_and_the_next_one_again() {
        let mut suspend = Suspend::new(ms(7_000));
        assert_eq!(suspend.news(ms(7_000)), None, "sleep before the start");
        assert_eq!(suspend.news(ms(67_000)), Some(ms(60_000)));
        assert_eq!(suspend.news(ms(67_000)), None);
        assert_eq!(suspend.news(ms(68_000)), Some(ms(1_000)));
    }

    #[test]
    fn clocks_that_were_read_one_after_the_other_are_no_sleep() {
        let mut suspend = Suspend::new(ms(7_000));
        for asleep in [7_001, 7_499, 6_990, 7_500, 0] {
            assert_eq!(suspend.news(ms(asleep)), None, "{asleep}");
        }
        assert_eq!(suspend.news(ms(7_501)), Some(ms(501)), "it adds up");
    }
}

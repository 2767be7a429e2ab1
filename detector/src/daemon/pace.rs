//! PURE. How often to sweep, and to look for containers: as the trouble asks, as the budget allows.

use std::time::Duration;

use crate::engine::Attention;

/// Nothing is wrong: this share of the budget is enough where events tell of trouble. So much of it is for
/// sweeps, and so much for looks for containers while none is known.
const QUIET_SHARE: f64 = SWEEPS + LOOKS;
const SWEEPS: f64 = 0.19;
const LOOKS: f64 = 0.06;
/// New trouble may take this much more than the budget for a moment.
const URGENT_SHARE: f64 = 10.0;
/// Between sweeps at least, by attention.
const QUIET: Duration = Duration::from_secs(1);
const ALERT: Duration = Duration::from_millis(500);
const NOW: Duration = Duration::from_millis(100);
/// Between sweeps at most, however large the host.
const LONGEST: Duration = Duration::from_secs(30);

/// Between looks for containers while none is known: they are not always there.
const LOOK: Duration = Duration::from_secs(10);
const LONGEST_LOOK: Duration = Duration::from_secs(300);

/// Between counts of descriptors while connections hang: some are needed for a forecast.
const COUNT: Duration = Duration::from_secs(2);
const LONGEST_COUNT: Duration = Duration::from_secs(30);

/// Time from one sweep to the next, when the last one took `cpu` of a processor and the budget
/// is that share of one core. Without `events` a sweep must find trouble in the first place.
pub(super) fn interval(attention: Attention, cpu: Duration, budget: f64, events: bool) -> Duration {
    let (shortest, share) = match attention {
        Attention::Quiet if events => (QUIET, budget * SWEEPS),
        Attention::Quiet => (QUIET, budget),
        Attention::Alert => (ALERT, budget),
        Attention::Now => (NOW, budget * URGENT_SHARE),
    };
    affordable(cpu, share).clamp(shortest, LONGEST)
}

/// Time from one look for containers to the next while none is known, when the last one took `cpu` of
/// a processor. An event of one calls for a look at once, so a share of the budget is enough.
pub(super) fn look_interval(cpu: Duration, budget: f64) -> Duration {
    affordable(cpu, budget * LOOKS).clamp(LOOK, LONGEST_LOOK)
}

/// Time from one count of descriptors to the next, when the last one took `cpu` of a processor.
pub(super) fn count_interval(cpu: Duration, budget: f64) -> Duration {
    affordable(cpu, budget * QUIET_SHARE).clamp(COUNT, LONGEST_COUNT)
}

/// How far apart pieces of work must be that take `cpu` each, and that `share` of a processor together.
fn affordable(cpu: Duration, share: f64) -> Duration {
    Duration::try_from_secs_f64(cpu.as_secs_f64() / share.max(1e-6)).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: f64 = 0.01;

    #[test]
    fn a_small_host_is_swept_as_often_as_is_of_use() {
        let cpu = Duration::from_millis(1);
        for events in [true, false] {
            let of = |attention| interval(attention, cpu, BUDGET, events);
            assert_eq!(of(Attention::Quiet), QUIET);
            assert_eq!(of(Attention::Alert), ALERT);
            assert_eq!(of(Attention::Now), NOW);
        }
    }

    #[test]
    fn a_large_host_is_swept_as_often_as_the_budget_allows() {
        let cpu = Duration::from_millis(125);
        let of = |attention| interval(attention, cpu, BUDGET, true);
        assert_eq!(of(Attention::Quiet), LONGEST);
        assert_eq!(of(Attention::Alert), Duration::from_millis(12_500));
        assert_eq!(of(Attention::Now), Duration::from_millis(1_250));
        let polled = interval(Attention::Quiet, cpu, BUDGET, false);
        assert_eq!(polled, Duration::from_millis(12_500), "nobody calls it");
    }

    #[test]
    fn trouble_is_never_looked_at_less_often_than_quiet() {
        let costs = [0, 10, 1_000, 50_000, 10_000_000];
        for (micros, events) in costs.into_iter().flat_map(|it| [(it, true), (it, false)]) {
            let cpu = Duration::from_micros(micros);
            let of = |attention| interval(attention, cpu, BUDGET, events);
            assert!(of(Attention::Now) <= of(Attention::Alert));
            assert!(of(Attention::Alert) <= of(Attention::Quiet));
        }
    }

    #[test]
    fn containers_are_looked_for_as_the_budget_allows() {
        let of = |milliseconds| look_interval(Duration::from_millis(milliseconds), BUDGET);
        assert_eq!(of(1), LOOK);
        assert_eq!(of(12), Duration::from_secs(20));
        assert_eq!(of(60_000), LONGEST_LOOK);
    }
}

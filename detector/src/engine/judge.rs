//! PURE. From votes to an opinion, from opinions to a state.

use std::time::Duration;

use crate::{model::State, time::Time};

/// An opinion against an upstream is wrong at most this often, if destinations fail on their own. It
/// is asked some thousand times a day.
const DOUBT: f64 = 1e-6;
/// The same for destinations that failed together: that alone is seldom enough.
const DOUBT_TOGETHER: f64 = 1e-4;
/// As often as this, so many stalled destinations are expected; then nothing is wrong.
const USUAL: f64 = 0.01;
/// Destinations below which nothing is said.
const FEWEST: u32 = 3;
/// A bad upstream has at least this share of its destinations stalled: how sure `ok` is.
const BAD_SHARE: f64 = 0.3;
/// Whatever is usual, more than this share of stalled destinations is not expected.
const USUAL_AT_MOST: f64 = 0.25;

/// Where chance does what is seen at most this often, nothing is gained by a longer look.
const BEYOND_DOUBT: f64 = 1e-9;

/// How long an opinion must last before a worse state is entered.
pub const ENTER: Duration = Duration::from_millis(400);
/// For `failing`, where it is beyond doubt by now: how long something must have been wrong, the smaller part or
/// the larger.
const ENTER_BEYOND_DOUBT: Duration = Duration::from_millis(200);
/// How long it may waver between the smaller and the larger part before the smaller is believed.
pub const WAVER: Duration = Duration::from_millis(800);
/// How long a sweep is waited for before events alone are believed.
const CONFIRM: Duration = Duration::from_millis(1500);
/// How long it must last before a better state is entered.
pub const LEAVE: Duration = Duration::from_secs(4);
/// How long there must be too little to judge before `ok` becomes `idle`.
pub const FADE: Duration = Duration::from_secs(30);
/// The same for `degraded` and `failing`: nobody uses a dead link, and it is not well for that.
pub const FORGET: Duration = Duration::from_secs(300);

/// What this moment's votes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opinion {
    /// Too few destinations.
    TooLittle,
    /// As always.
    Normal,
    /// Neither normal nor surely abnormal.
    Unsure,
    /// Surely abnormal; `most`: half or more of the destinations.
    Abnormal {
        /// The larger part.
        most: bool,
    },
}

/// One vote per destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Votes {
    /// Destinations that had something to send lately.
    pub active: u32,
    /// Those whose last word is a stall.
    pub stalled: u32,
    /// Further ones that are at work and have no vote.
    pub without: u32,
}

impl Opinion {
    /// The graver of two.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let rank = |opinion| match opinion {
            Self::TooLittle => 0,
            Self::Normal => 1,
            Self::Unsure => 2,
            Self::Abnormal { most: false } => 3,
            Self::Abnormal { most: true } => 4,
        };
        if rank(other) > rank(self) {
            other
        } else {
            self
        }
    }
}

/// Share of `active` destinations that must be expected to be stalled: what was `learned`, or twice
/// the number `expected` of peers that walk away one by one.
pub fn usual(learned: f64, expected: f64, active: u32) -> f64 {
    let walked_away = 2.0 * expected / f64::from(active.max(1));
    walked_away.min(USUAL_AT_MOST).max(learned)
}

/// What the votes say; `together` tells how many began to stall in an event with others.
///
/// In order:
/// 1. fewer than three destinations, those without a vote included: too little
/// 2. three or more stalled, and that by chance at most once in a million, where the share `usual` is
///    stalled anyway: abnormal
/// 3. three or more stalled together, and so many by chance at most once in 10,000: abnormal
/// 4. as many stalled as chance gives once in a hundred or more often: normal
/// 5. otherwise unsure
pub fn opinion(votes: Votes, usual: f64, together: impl FnOnce() -> u32) -> Opinion {
    if votes.active + votes.without < FEWEST || votes.active == 0 {
        return Opinion::TooLittle;
    }
    let chance = doubt(votes, usual);
    let surely =
        |together| together >= FEWEST && at_least(together, votes.active, usual) < DOUBT_TOGETHER;
    if votes.stalled >= FEWEST && (chance < DOUBT || chance < DOUBT_TOGETHER && surely(together()))
    {
        return Opinion::Abnormal {
            most: 2 * votes.stalled >= votes.active,
        };
    }
    if chance >= USUAL {
        Opinion::Normal
    } else {
        Opinion::Unsure
    }
}

/// The chance that so many destinations are stalled of themselves.
pub fn doubt(votes: Votes, usual: f64) -> f64 {
    at_least(votes.stalled, votes.active, usual)
}

/// How sure a state is, 0 to 1: against it stands the chance that the votes came about otherwise.
pub fn confidence(state: State, votes: Votes, usual: f64) -> f64 {
    let doubt = match state {
        State::Degraded | State::Failing => doubt(votes, usual),
        State::Ok => 1.0 - at_least(votes.stalled + 1, votes.active, BAD_SHARE),
        State::Idle => return 0.0,
    };
    (1.0 - doubt).clamp(0.0, 1.0)
}

/// ```text
///              normal at once                 abnormal 0.4 s
///     idle ───────────────────► ok ───────────────────────────► degraded ◄──┐
///       ▲  ◄─ nothing for 30 s ─┘ ▲ ◄── normal 4 s ─────────────┘  │  most  │ fewer
///       │                         └──── normal 4 s ──────────┐     ▼ 0.4 s  │ 4 s
///       └────────── nothing for 5 min ────────────────────── failing ───────┘
/// ```
/// Unsure for 4 s takes `failing` to `degraded`, and for 30 s that to `ok`: it is not surely abnormal
/// any more. Where the larger part is stalled beyond `doubt`, 0.2 s are enough for `failing`. `held` is
/// how long the opinion has been the same, `abnormal` how long it has been abnormal of either kind.
pub fn next(
    state: State,
    opinion: Opinion,
    doubt: f64,
    held: Duration,
    abnormal: Duration,
) -> State {
    use Opinion as O;
    use State as S;
    let entered = held >= ENTER;
    let failed = entered || doubt < BEYOND_DOUBT && abnormal >= ENTER_BEYOND_DOUBT;
    let left = held >= LEAVE;
    match (state, opinion) {
        (S::Idle, O::Normal) => S::Ok,
        (S::Idle | S::Ok | S::Degraded, O::Abnormal { most: true }) if failed => S::Failing,
        (S::Idle | S::Ok, O::Abnormal { most: false }) if entered => S::Degraded,
        (S::Failing, O::Abnormal { most: false } | O::Unsure) if left => S::Degraded,
        (S::Degraded | S::Failing, O::Normal) if left => S::Ok,
        (S::Degraded, O::Unsure) if held >= FADE => S::Ok,
        (S::Ok, O::TooLittle) if held >= FADE => S::Idle,
        (S::Degraded | S::Failing, O::TooLittle) if held >= FORGET => S::Idle,
        (S::Idle | S::Ok, O::Abnormal { .. })
        | (S::Degraded | S::Failing, O::Abnormal { .. } | O::Normal)
        | (S::Ok, O::Normal)
        | (S::Idle | S::Ok | S::Degraded | S::Failing, O::TooLittle | O::Unsure) => state,
    }
}

/// The chance that of `n` destinations, each stalled with chance `p` on its own, `k` or more are:
/// the upper tail of the binomial distribution.
pub fn at_least(k: u32, n: u32, p: f64) -> f64 {
    if k == 0 {
        return 1.0;
    }
    if k > n {
        return 0.0;
    }
    // Logarithms, since the coefficients leave the range of a float at a thousand destinations.
    let mut coefficient = 0.0;
    let mut tail = 0.0;
    for i in 0..=n {
        if i > 0 {
            coefficient += f64::from(n - i + 1).ln() - f64::from(i).ln();
        }
        if i >= k {
            let term = coefficient + f64::from(i) * p.ln() + f64::from(n - i) * (-p).ln_1p();
            tail += term.exp();
        }
    }
    tail.clamp(0.0, 1.0)
}

/// An opinion and since when it is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The opinion.
    pub opinion: Opinion,
    /// Since when.
    pub since: Time,
    /// Since when it is abnormal, whether most or some; only while it is.
    abnormal_since: Option<Time>,
}

impl Held {
    /// Holds it from now on.
    pub fn new(opinion: Opinion, now: Time) -> Self {
        let abnormal = matches!(opinion, Opinion::Abnormal { .. });
        Self {
            opinion,
            since: now,
            abnormal_since: abnormal.then_some(now),
        }
    }

    /// Takes the newest opinion in.
    pub fn update(&mut self, opinion: Opinion, now: Time) {
        if self.opinion != opinion {
            let abnormal_since = self.abnormal_since;
            *self = Self::new(opinion, now);
            if self.abnormal_since.is_some() {
                self.abnormal_since = abnormal_since.or(Some(now));
            }
        }
    }

    /// The state after `state`, given the chance that what is seen came about of itself. Whoever wavers
    /// between "most" and "some" is surely abnormal all the while, and at least degraded.
    pub fn next(&self, state: State, doubt: f64, now: Time) -> State {
        let abnormal = self
            .abnormal_since
            .map_or(Duration::ZERO, |it| now.since(it));
        let to = next(state, self.opinion, doubt, now.since(self.since), abnormal);
        match (to, self.abnormal_since) {
            (State::Idle | State::Ok, Some(since)) if now.since(since) >= WAVER => State::Degraded,
            _ => to,
        }
    }

    /// Whether a sweep has been taken in since this is held, or should have been: events alone
    /// can be old.
    pub fn is_confirmed(&self, swept_at: Option<Time>, now: Time) -> bool {
        let since = self.abnormal_since.unwrap_or(self.since);
        swept_at.is_some_and(|at| at > since) || now.since(since) >= CONFIRM
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::baseline;

    const USUAL: f64 = baseline::STALLED;

    fn votes(stalled: u32, active: u32) -> Opinion {
        opinion(
            Votes {
                active,
                stalled,
                without: 0,
            },
            USUAL,
            || stalled,
        )
    }

    #[test]
    fn two_of_two_is_not_forty_of_forty() {
        assert_eq!(votes(2, 2), Opinion::TooLittle);
        assert_eq!(votes(40, 40), Opinion::Abnormal { most: true });
        assert_eq!(votes(3, 3), Opinion::Abnormal { most: true });
    }

    #[test]
    fn few_of_few_must_have_stalled_together() {
        let votes = |stalled, active, together| {
            let votes = Votes {
                active,
                stalled,
                without: 0,
            };
            opinion(votes, USUAL, || together)
        };
        let most = Opinion::Abnormal { most: true };
        assert_eq!(votes(3, 4, 0), Opinion::Unsure);
        assert_eq!(votes(3, 4, 2), Opinion::Unsure, "two of them");
        assert_eq!(votes(3, 4, 3), most);
        assert_eq!(votes(4, 4, 0), most, "all of four in any case");
        let some = Opinion::Abnormal { most: false };
        assert_eq!(votes(5, 20, 3), Opinion::Unsure, "three of twenty together");
        assert_eq!(votes(5, 20, 5), some);
        assert_eq!(votes(7, 20, 0), some);
    }

    #[test]
    fn one_dead_destination_is_normal_however_few_there_are() {
        for active in 3..200 {
            assert_eq!(votes(1, active), Opinion::Normal, "1 of {active}");
        }
    }

    #[test]
    fn the_smaller_part_is_degraded_and_a_few_of_many_are_not() {
        assert_eq!(votes(6, 20), Opinion::Abnormal { most: false });
        assert_eq!(votes(10, 20), Opinion::Abnormal { most: true });
        assert_eq!(votes(3, 20), Opinion::Unsure);
        assert_eq!(votes(5, 300), Opinion::Normal);
    }

    #[test]
    fn the_tail_is_that_of_the_textbook() {
        // 1 - 0.98^20
        assert!((at_least(1, 20, 0.02) - 0.332_392).abs() < 1e-6);
        assert!((at_least(3, 3, 0.5) - 0.125).abs() < 1e-12);
        assert!(at_least(500, 1000, 0.02) < 1e-300);
        assert_eq!(at_least(4, 3, 0.5), 0.0);
    }

    #[test]
    fn every_pair_of_state_and_opinion() {
        use Opinion as O;
        use State as S;
        let ms = Duration::from_millis;
        let most = O::Abnormal { most: true };
        let some = O::Abnormal { most: false };
        for (state, opinion, held, then) in [
            (S::Idle, O::Normal, ms(0), S::Ok),
            (S::Idle, O::TooLittle, ms(1_000_000), S::Idle),
            (S::Idle, O::Unsure, ms(1_000_000), S::Idle),
            (S::Idle, most, ms(399), S::Idle),
            (S::Idle, most, ms(400), S::Failing),
            (S::Idle, some, ms(400), S::Degraded),
            (S::Ok, O::Normal, ms(1_000_000), S::Ok),
            (S::Ok, most, ms(399), S::Ok),
            (S::Ok, most, ms(400), S::Failing),
            (S::Ok, some, ms(399), S::Ok),
            (S::Ok, some, ms(400), S::Degraded),
            (S::Ok, O::Unsure, ms(1_000_000), S::Ok),
            (S::Ok, O::TooLittle, ms(29_999), S::Ok),
            (S::Ok, O::TooLittle, ms(30_000), S::Idle),
            (S::Degraded, most, ms(400), S::Failing),
            (S::Degraded, some, ms(1_000_000), S::Degraded),
            (S::Degraded, O::Unsure, ms(29_999), S::Degraded),
            (S::Degraded, O::Unsure, ms(30_000), S::Ok),
            (S::Degraded, O::Normal, ms(3_999), S::Degraded),
            (S::Degraded, O::Normal, ms(4_000), S::Ok),
            (S::Degraded, O::TooLittle, ms(299_999), S::Degraded),
            (S::Degraded, O::TooLittle, ms(300_000), S::Idle),
            (S::Failing, most, ms(1_000_000), S::Failing),
            (S::Failing, some, ms(3_999), S::Failing),
            (S::Failing, some, ms(4_000), S::Degraded),
            (S::Failing, O::Unsure, ms(3_999), S::Failing),
            (S::Failing, O::Unsure, ms(4_000), S::Degraded),
            (S::Failing, O::Normal, ms(3_999), S::Failing),
            (S::Failing, O::Normal, ms(4_000), S::Ok),
            (S::Failing, O::TooLittle, ms(299_999), S::Failing),
            (S::Failing, O::TooLittle, ms(300_000), S::Idle),
        ] {
            assert_eq!(
                next(state, opinion, DOUBT, held, held),
                then,
                "{state} {opinion:?} {held:?}"
            );
        }
    }

    #[test]
    fn beyond_doubt_half_the_wait_is_enough_and_only_for_the_larger_part() {
        let ms = Duration::from_millis;
        let most = Opinion::Abnormal { most: true };
        let some = Opinion::Abnormal { most: false };
        let after = |opinion, doubt, held| next(State::Ok, opinion, doubt, ms(held), ms(held));
        assert_eq!(after(most, 1e-10, 199), State::Ok);
        assert_eq!(after(most, 1e-10, 200), State::Failing);
        assert_eq!(after(most, 1e-8, 399), State::Ok, "in doubt");
        assert_eq!(after(some, 1e-10, 399), State::Ok, "the smaller part");
        assert_eq!(after(some, 1e-10, 400), State::Degraded);
        // It has just become the larger part, and something was wrong before.
        let just = |abnormal| next(State::Ok, most, 1e-10, ms(0), ms(abnormal));
        assert_eq!((just(199), just(200)), (State::Ok, State::Failing));
    }

    proptest! {
        #[test]
        fn who_is_abnormal_without_a_break_is_in_a_bad_state(
            opinions in prop::collection::vec((any::<bool>(), 1_u64..399), 1..60),
        ) {
            let mut now = Time(0);
            let mut held = Held::new(Opinion::Normal, now);
            let mut state = State::Ok;
            for (most, step) in opinions {
                held.update(Opinion::Abnormal { most }, now);
                state = held.next(state, DOUBT, now);
                prop_assert!(now < Time(0).after(WAVER) || state != State::Ok, "at {now:?}");
                now = now.after(Duration::from_millis(step));
            }
        }

        #[test]
        fn more_stalled_destinations_never_lower_the_confidence(active in 3_u32..500, stalled in 0_u32..499) {
            let stalled = stalled.min(active - 1);
            let less = confidence(State::Failing, Votes { active, stalled, without: 0 }, USUAL);
            let more = confidence(State::Failing, Votes { active, stalled: stalled + 1, without: 0 }, USUAL);
            prop_assert!(more >= less - 1e-9);
        }

        #[test]
        fn a_chance_is_a_chance(k in 0_u32..2000, n in 0_u32..2000, p in 0.0001_f64..0.9999) {
            let chance = at_least(k, n, p);
            prop_assert!((0.0..=1.0).contains(&chance));
        }
    }
}

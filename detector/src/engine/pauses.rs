//! PURE. Pauses of a link that end by themselves: a radio link that reconnects, a router that
//! changes over. How long they usually last is learned; younger stalls have no vote then.

use std::time::Duration;

use super::onsets::TOGETHER;
use crate::time::Time;

/// Shorter ones are usual everywhere.
pub const SHORTEST: Duration = Duration::from_secs(1);
/// While one lasts, failures later than this count: the second timeout of a near peer is among them.
const FAILED: Duration = Duration::from_millis(800);
/// When nobody got through for so long it is not excused any more, whoever tried meanwhile.
const SILENT: Duration = Duration::from_millis(1300);
/// Longer ones are outages, however often they come. A gap of five seconds looks as long as ten when
/// nobody tries meanwhile: connections repeat after ever longer waits.
pub const LONGEST: Duration = Duration::from_secs(10);
/// Pauses that follow each other sooner are a fault, not a habit.
const APART: Duration = Duration::from_secs(60);
/// To so many destinations something must get through before a pause is over.
pub const QUORUM: usize = 3;

/// The stalls that a pause explains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Excuse {
    /// They began then or later.
    began: Time,
    /// And have not failed since.
    until: Time,
}

impl Excuse {
    /// Until when stalls may have failed that it explains.
    pub fn until(self) -> Time {
        self.until
    }

    /// Whether it explains a stall that began and last failed then.
    pub fn explains(self, began: Time, failed: Time) -> bool {
        began >= self.began && failed <= self.until
    }
}

/// The pauses of one next hop.
#[derive(Debug, Clone, Default)]
pub struct Pauses {
    /// When the one that lasts began.
    open: Option<Time>,
    /// When the one before ended.
    ended_at: Option<Time>,
    /// What it explains; nothing, when it was longer than usual.
    over: Option<Excuse>,
}

impl Pauses {
    /// Looks how it is now: an `event` of stalls that began together, and when something first got
    /// through to each other destination since any moment, oldest first. What gets through is known
    /// up to a `trip` there and back later. Answers with how long a pause has lasted that is over and
    /// may be a habit of the link, for which up to `usual` is known.
    pub fn watch(
        &mut self,
        event: Option<Time>,
        passed_since: impl FnOnce(Time) -> Vec<Time>,
        usual: Duration,
        trip: Duration,
        now: Time,
    ) -> Option<Duration> {
        let was_open = self.open.is_some();
        if !was_open {
            let ended = self.ended_at.unwrap_or_default();
            self.open = event.filter(|began| *began > ended && now.since(*began) <= LONGEST);
        }
        let began = self.open?;
        let passed = passed_since(began);
        let (Some(resumed), Some(ended)) = (passed.first(), passed.get(QUORUM - 1).copied()) else {
            if now.since(began) > LONGEST + TOGETHER {
                // An outage; what follows soon after is no habit either.
                *self = Self {
                    ended_at: Some(now),
                    ..Self::default()
                };
            }
            return None;
        };
        let (length, apart) = (ended.since(began), self.is_apart(began));
        let excuse = Excuse {
            began: began.before(TOGETHER),
            until: ended,
        };
        // Where few have something to say the third comes late.
        if resumed.since(began) < SHORTEST + trip {
            (self.open, self.over) = (None, Some(excuse));
            return None;
        }
        *self = Self {
            open: None,
            ended_at: Some(ended),
            over: (apart && length <= usual).then_some(excuse),
        };
        // Of one that is heard of afterwards nobody knows how long it was.
        (was_open && apart && length <= LONGEST).then_some(length)
    }

    /// What is explained now, when pauses usually last up to `usual`. While one lasts: everything
    /// that began in it. When it is over: who has not tried again since, whatever begins meanwhile.
    /// One that lasts explains nothing when several destinations have failed later than it can, the
    /// third of them at `failed`.
    pub fn excuse(&self, usual: Duration, failed: Option<Time>, now: Time) -> Option<Excuse> {
        let Some(began) = self.open else {
            return self.over;
        };
        let longer = failed > Some(began.after(usual.max(FAILED)));
        let old = now.since(began) >= usual.max(SILENT);
        let excused = !longer && !old && self.is_apart(began);
        let excuse = Excuse {
            began: began.before(TOGETHER),
            until: now,
        };
        if excused { Some(excuse) } else { self.over }
    }

    /// Whether one lasts.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    fn is_apart(&self, began: Time) -> bool {
        self.ended_at
            .is_none_or(|ended| began.since(ended) >= APART)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGAN: Time = Time(500_000_000_000);
    const USUAL: Duration = Duration::from_secs(4);
    const TRIP: Duration = Duration::from_millis(20);

    fn at(milliseconds: u64) -> Time {
        BEGAN.after(Duration::from_millis(milliseconds))
    }

    /// A pause that begins `from` and ends `until`, in milliseconds; how long it was, if it counts.
    fn pass(pauses: &mut Pauses, from: u64, until: u64) -> Option<Duration> {
        let nothing = |_: Time| vec![at(until); 2];
        assert_eq!(
            pauses.watch(Some(at(from)), nothing, USUAL, TRIP, at(from + 600)),
            None
        );
        pauses.watch(
            Some(at(from)),
            |_| vec![at(until); 3],
            USUAL,
            TRIP,
            at(until + 100),
        )
    }

    #[test]
    fn how_long_it_was() {
        let ms = Duration::from_millis;
        for (until, length) in [
            (900, None),
            (1019, None),
            (1020, Some(ms(1020))),
            (10_000, Some(ms(10_000))),
            (10_001, None),
        ] {
            assert_eq!(pass(&mut Pauses::default(), 0, until), length, "{until}");
        }
    }

    #[test]
    fn one_that_is_heard_of_afterwards_is_excused_and_not_learned() {
        let mut pauses = Pauses::default();
        let length = pauses.watch(Some(at(0)), |_| vec![at(3000); 3], USUAL, TRIP, at(5000));
        assert_eq!(length, None);
        let excuse = pauses.excuse(USUAL, None, at(5000)).unwrap();
        assert!(excuse.explains(at(0), at(3000)));
        assert!(!excuse.explains(at(0), at(3001)));
    }

    #[test]
    fn a_short_one_is_forgiven_although_most_have_nothing_to_say_for_a_while_afterwards() {
        let mut pauses = Pauses::default();
        pauses.watch(Some(BEGAN), |_| Vec::new(), USUAL, TRIP, at(600));
        let passed = |_: Time| vec![at(950), at(1300), at(1400)];
        let length = pauses.watch(Some(BEGAN), passed, USUAL, TRIP, at(1500));
        assert_eq!(length, None);
        let excuse = pauses.excuse(Duration::ZERO, Some(at(900)), at(1500));
        assert!(excuse.unwrap().explains(BEGAN, at(1399)));
    }

    #[test]
    fn two_in_a_minute_are_no_habit_and_not_excused() {
        let mut pauses = Pauses::default();
        assert!(pass(&mut pauses, 0, 3000).is_some());
        assert!(pauses.excuse(USUAL, None, at(3200)).is_some());
        assert_eq!(pass(&mut pauses, 62_000, 64_000), None);
        assert_eq!(pauses.excuse(USUAL, None, at(64_100)), None);
        let mut pauses = Pauses::default();
        pass(&mut pauses, 0, 3000);
        pauses.watch(Some(at(62_900)), |_| Vec::new(), USUAL, TRIP, at(63_500));
        let excuse = pauses.excuse(USUAL, None, at(63_500)).unwrap();
        assert!(!excuse.explains(at(62_900), at(63_400)), "while it lasts");
        assert!(pass(&mut pauses, 124_000, 126_000).is_none(), "still open");
        assert!(pass(&mut pauses, 190_000, 192_000).is_some());
    }

    #[test]
    fn while_it_lasts_all_of_it_is_excused_until_it_is_longer_than_usual() {
        let mut pauses = Pauses::default();
        assert_eq!(pauses.excuse(USUAL, None, at(0)), None);
        pauses.watch(Some(BEGAN), |_| Vec::new(), USUAL, TRIP, at(600));
        let excuse = pauses.excuse(USUAL, None, at(3999)).unwrap();
        assert!(excuse.explains(at(0), at(3999)));
        assert!(excuse.explains(BEGAN.before(TOGETHER), at(3999)));
        assert!(
            !excuse.explains(BEGAN.before(TOGETHER * 2), at(3999)),
            "older"
        );
        assert_eq!(pauses.excuse(USUAL, None, at(4000)), None);
        let failed = Some(at(4001));
        assert_eq!(pauses.excuse(USUAL, failed, at(3999)), None, "beyond that");
        let short = |failed, now| pauses.excuse(Duration::ZERO, Some(at(failed)), at(now));
        assert!(short(800, 1299).is_some(), "usual everywhere");
        assert!(short(801, 1000).is_none(), "it lasts longer");
        assert!(short(800, 1300).is_none(), "silent for too long");
    }

    #[test]
    fn when_it_is_over_those_are_excused_that_have_not_tried_again() {
        let mut pauses = Pauses::default();
        pass(&mut pauses, 0, 3000);
        let excuse = pauses.excuse(USUAL, None, at(5000)).unwrap();
        assert!(excuse.explains(at(0), at(3000)));
        assert!(!excuse.explains(at(0), at(3001)), "it failed afterwards");
        let mut pauses = Pauses::default();
        pass(&mut pauses, 0, 4100);
        assert_eq!(
            pauses.excuse(USUAL, None, at(5000)),
            None,
            "longer than usual"
        );
    }

    #[test]
    fn trouble_that_begins_just_after_a_pause_leaves_its_excuse_to_others() {
        let mut pauses = Pauses::default();
        pass(&mut pauses, 0, 3000);
        pauses.watch(Some(at(3100)), |_| Vec::new(), USUAL, TRIP, at(3700));
        assert!(pauses.is_open());
        let excuse = pauses.excuse(USUAL, None, at(3800)).unwrap();
        assert!(excuse.explains(at(0), at(3000)), "has not tried again");
        assert!(!excuse.explains(at(0), at(3400)), "has failed again");
        assert!(!excuse.explains(at(3100), at(3400)), "began afterwards");
    }

    #[test]
    fn an_outage_is_no_pause() {
        let mut pauses = Pauses::default();
        pauses.watch(Some(BEGAN), |_| Vec::new(), USUAL, TRIP, at(600));
        pauses.watch(Some(BEGAN), |_| Vec::new(), USUAL, TRIP, at(13_001));
        let ended = pauses.watch(
            Some(BEGAN),
            |_| vec![at(20_000); 9],
            USUAL,
            TRIP,
            at(20_100),
        );
        assert_eq!(ended, None);
        assert_eq!(pass(&mut pauses, 40_000, 42_000), None, "soon after it");
    }
}

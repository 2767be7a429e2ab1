//! PURE. What is remembered of one connection.

use std::{sync::Arc, time::Duration};

use super::{
    classify,
    ledger::{Account, Trials},
    passes::{Pass, Passes},
    tally,
};
use crate::{
    model::{Cause, Destination, Excluded, NextHop, Origin, Phase, Retries, Sample},
    time::Time,
};

/// Timeouts in a row after which a connection is surely worse off than its siblings.
const LASTING: u8 = 3;

/// What an acknowledgement and the look at it take beyond two round trips.
const ANSWER: Duration = Duration::from_millis(150);

/// One connection that was sampled lately.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The newest sample.
    pub sample: Sample,
    /// Its destination.
    pub destination: Destination,
    /// The next hop in force when it began to wait: the stall belongs to that one.
    pub next_hop: Option<NextHop>,
    /// Its upstream; `None` while the next hop is not known.
    pub upstream: Option<Arc<str>>,
    /// What the upstream was found with: the epoch of names, the next hop and the mark.
    pub attributed_with: Option<(u64, Option<NextHop>, u32)>,
    /// Since when outstanding data waits.
    pub waiting_since: Option<Time>,
    /// When data was last seen to be acknowledged; nothing waits since before that.
    progressed_at: Option<Time>,
    /// How far its transmissions are accounted for.
    account: Account,
    /// Since when data waits behind a hole that does not fill.
    hole_since: Option<Time>,
    /// Why this stall is held against nobody, as long as it lasts.
    pub excused: Option<Excluded>,
    /// Others of its destination got through while it failed again and again.
    pub passed_by: bool,
    /// How far it is.
    pub phase: Option<Phase>,
    /// Why, as of the last judgement.
    pub cause: Cause,
    /// What the cause rests on.
    pub because: &'static str,
    /// The stall has been announced, at this cause.
    pub announced: Option<Cause>,
    /// Sweep in which it was last seen.
    pub generation: u64,
}

/// What a sample has changed.
#[derive(Debug, Clone, PartialEq)]
pub struct News {
    /// Data was acknowledged.
    pub pass: Option<Pass>,
    /// What has become certain of transmissions.
    pub trials: Option<Trials>,
    /// Timeouts since the sample before.
    pub timeouts: u64,
    /// A stall ended, that had begun then.
    pub recovered: Option<Time>,
}

impl Connection {
    /// First sight of a connection.
    pub fn new(sample: Sample, generation: u64) -> (Self, News) {
        let destination = Destination::of(sample.remote.ip());
        let (account, trials) = Account::new(&sample);
        let news = News {
            pass: Pass::between(None, &sample, destination),
            trials,
            timeouts: u64::from(sample.timeouts),
            recovered: None,
        };
        let connection = Self {
            destination,
            next_hop: sample.next_hop,
            upstream: None,
            attributed_with: None,
            waiting_since: waiting_since(None, &sample),
            progressed_at: None,
            account,
            hole_since: sample.hole.then_some(sample.at),
            excused: None,
            passed_by: false,
            phase: None,
            cause: Cause::Unknown,
            because: "",
            announced: None,
            generation,
            sample,
        };
        (connection, news)
    }

    /// Takes in a newer sample. Samples that come late, such as an event that was queued while a
    /// sweep ran, change nothing.
    pub fn update(&mut self, sample: Sample, generation: u64) -> News {
        self.generation = generation;
        if sample.at < self.sample.at {
            return News {
                pass: None,
                trials: None,
                timeouts: 0,
                recovered: None,
            };
        }
        let progressed = sample.snd_una != self.sample.snd_una;
        let before = if progressed { 0 } else { self.sample.timeouts };
        // Of two next hops nobody knows which one did well meanwhile.
        let other = sample.next_hop.is_some() && sample.next_hop != self.next_hop;
        let of_one = !other || self.phase.is_some() || self.next_hop.is_none();
        let news = News {
            pass: (progressed && of_one)
                .then(|| Pass::between(Some(&self.sample), &sample, self.destination))
                .flatten(),
            trials: self.account.take(&sample).filter(|_| of_one),
            timeouts: u64::from(sample.timeouts.saturating_sub(before)),
            recovered: if self.received(&sample) || (progressed && self.hole_since.is_none()) {
                self.stalled_since()
            } else {
                None
            },
        };
        self.look_for_hole(&sample);
        // The head that waits now was not the head when the acknowledgement came.
        let known = self.waiting_since.filter(|_| !progressed);
        if progressed {
            self.progressed_at = Some(sample.acked_at);
        }
        self.waiting_since = waiting_since(known, &sample)
            .map(|since| self.progressed_at.map_or(since, |at| since.max(at)));
        if news.recovered.is_some() || (progressed && self.hole_since.is_none()) {
            self.announced = None;
        }
        if progressed {
            self.excused = None;
        }
        self.passed_by &= !progressed;
        // A connection in trouble keeps the next hop under which the trouble began; the kernel
        // drops its cached route meanwhile, or takes another.
        let in_trouble = sample.timeouts > 0 || sample.persist;
        if self.next_hop.is_none() || (!in_trouble && sample.next_hop.is_some()) {
            self.next_hop = sample.next_hop.or(self.next_hop);
        }
        let (head, send_error) = (self.sample.head, self.sample.send_error);
        self.sample = sample;
        if !progressed && self.sample.timeouts > 0 {
            self.sample.head = self.sample.head.or(head);
            // Only events carry it; a sweep must not take it away.
            if self.sample.origin != Origin::Timeout {
                self.sample.send_error = send_error;
            }
        }
        news
    }

    /// Whether the hole that data waited behind has been filled.
    fn received(&self, sample: &Sample) -> bool {
        self.hole_since.is_some() && (!sample.hole || sample.rcv_nxt != self.sample.rcv_nxt)
    }

    fn look_for_hole(&mut self, sample: &Sample) {
        self.hole_since = match self.hole_since {
            Some(since) if sample.hole && !self.received(sample) => Some(since),
            _ => sample.hole.then_some(sample.at),
        };
    }

    /// Brings the phase up to date.
    pub fn judge(&mut self, stall_after: Duration, now: Time) {
        let sending = classify::phase(&self.sample, self.waiting_since, stall_after, now);
        let hole = self.hole_since.map(|since| now.since(since));
        self.phase = sending.max(classify::hole_phase(hole, stall_after));
        if self.phase.is_none() {
            self.excused = None;
        }
    }

    /// Looks whether segments as large of the same destination got through between its failures.
    pub fn compare(&mut self, passes: &Passes) {
        if let Some(began) = self
            .waiting_since
            .filter(|_| self.sample.timeouts >= LASTING)
        {
            let meanwhile = (began.after(tally::SLACK), self.failed_at());
            let head = self.sample.head;
            self.passed_by |= passes.carried_between(self.destination, meanwhile, head);
        }
    }

    /// Whether so far it has only failed as often as a short pause of the link explains.
    /// The newest repetition has not failed as long as its acknowledgement can be on its way.
    pub fn may_be_a_pause(&self) -> bool {
        let open = u8::from(!self.has_failed_again());
        self.sample.packets_out > 0 && self.sample.timeouts.saturating_sub(open) < LASTING
    }

    /// When it last failed, for certain; with nothing in flight and no probe either, just now.
    pub fn surely_failed_at(&self) -> Time {
        let sample = &self.sample;
        if sample.packets_out == 0 {
            return self.last_probe().unwrap_or(sample.at);
        }
        if self.has_failed_again() {
            return self.failed_at();
        }
        // The wait has doubled since the repetition before.
        sample.sent_at.before(sample.rto / 2)
    }

    /// When the newest window probe left of which the sample shows that it was not answered.
    fn last_probe(&self) -> Option<Time> {
        let sample = &self.sample;
        let next = sample
            .next_try
            .filter(|_| sample.persist && sample.probes > 0)?;
        // The timer of the kernel: `tcp_send_probe0` in net/ipv4/tcp_output.c, 6.18.
        let doublings = 2_u32.saturating_pow(u32::from(sample.backoff));
        let wait = sample.rto.saturating_mul(doublings);
        let wait = wait.min(Retries::default().longest);
        let newest = next.before(wait);
        let is_open = sample.at < newest.after(self.answer_takes());
        Some(if is_open {
            newest.before(wait / 2)
        } else {
            newest
        })
    }

    /// Whether the newest sample shows that the newest repetition was not answered.
    fn has_failed_again(&self) -> bool {
        self.sample.at >= self.answered_at()
    }

    /// Whether the next look at it will tell what became of the newest repetition.
    pub fn is_overdue(&self, now: Time) -> bool {
        self.phase.is_some() && !self.has_failed_again() && now >= self.answered_at()
    }

    /// When the newest repetition must have been answered.
    fn answered_at(&self) -> Time {
        self.sample.sent_at.after(self.answer_takes())
    }

    /// An answer that has not come after that will not come.
    fn answer_takes(&self) -> Duration {
        2 * self.sample.srtt.unwrap_or_default() + ANSWER
    }

    /// When more is known, although nothing is seen: a suspect becomes a stall, or the newest
    /// repetition has failed.
    pub fn next_change(&self, stall_after: Duration, now: Time) -> Option<Time> {
        let stalls_at = self.since().map(|since| since.after(stall_after));
        let waits = self.phase.is_some() && self.sample.packets_out > 0;
        let changes = [
            stalls_at.filter(|_| self.phase == Some(Phase::Suspect)),
            waits.then(|| self.answered_at()),
        ];
        changes.into_iter().flatten().filter(|at| *at > now).min()
    }

    /// Since when there is no progress: of the data that waits here, or of that which the peer
    /// sends.
    pub fn since(&self) -> Option<Time> {
        match (self.waiting_since, self.hole_since) {
            (Some(waiting), Some(hole)) if !self.is_behind() => Some(hole.max(waiting)),
            (waiting, hole) => waiting.or(hole),
        }
    }

    /// Whether what it waits for is the peer's data.
    pub fn is_receiving(&self) -> bool {
        self.hole_since.is_some() && !self.is_behind()
    }

    /// When its announced stall began.
    pub fn stalled_since(&self) -> Option<Time> {
        self.announced.and(self.since())
    }

    /// When it began to wait.
    pub fn began(&self) -> Time {
        self.waiting_since.unwrap_or(self.sample.at)
    }

    /// Whether it says little of the way: no process holds it any more, or no data was ever exchanged
    /// on it. Scanners look like that.
    pub fn is_weak(&self) -> bool {
        self.sample.is_orphan() || self.sample.is_stranger()
    }

    /// When it was last shown not to get through: the newest repetition that followed a timeout.
    pub fn failed_at(&self) -> Time {
        if self.sample.packets_out == 0 || self.is_receiving() {
            self.sample.at
        } else {
            self.sample.sent_at
        }
    }

    /// Who must answer on the link: the gateway, or the peer itself.
    pub fn neighbour(&self) -> Option<NextHop> {
        self.next_hop.map(|hop| NextHop {
            gateway: hop.gateway.or(Some(self.sample.remote.ip())),
            ..hop
        })
    }

    /// Whether data waits and a timer has run out: what a sweep calls suspicious.
    pub fn is_behind(&self) -> bool {
        let sample = &self.sample;
        let probed = sample.backoff > 0 || (sample.persist && sample.probes > 0);
        sample.outstanding() > 0 && (sample.timeouts > 0 || probed)
    }

    /// Whether there is nothing to judge.
    pub fn is_well(&self) -> bool {
        self.phase.is_none() && self.hole_since.is_none() && !self.is_behind()
    }

    /// Whether this stall is held against anybody: the peer's window is the peer's doing.
    pub fn counts(&self) -> bool {
        self.phase.is_some() && self.cause != Cause::ZeroWindow && self.excused.is_none()
    }
}

/// The earlier of what is remembered and what the kernel's timers tell.
fn waiting_since(known: Option<Time>, sample: &Sample) -> Option<Time> {
    if sample.outstanding() == 0 {
        return None;
    }
    match (known, sample.stuck_since) {
        (Some(known), Some(stuck)) => Some(known.min(stuck)),
        (Some(at), None) | (None, Some(at)) => Some(at),
        (None, None) => Some(sample.at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::{samples, world};

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// The same connection later: `change` says what happened.
    fn later(sample: &Sample, by: u64, change: impl Fn(&mut Sample)) -> Sample {
        let mut sample = sample.clone();
        sample.at = sample.at.after(ms(by));
        change(&mut sample);
        sample
    }

    fn waiting() -> Sample {
        let at = samples::any().at;
        Sample {
            unacked: 500,
            packets_out: 1,
            timeouts: 2,
            bytes_acked: 1001,
            segments_out: 5,
            retransmissions: 2,
            head: Some(500),
            stuck_since: Some(at.before(ms(600))),
            acked_at: at.before(ms(900)),
            ..samples::any()
        }
    }

    #[test]
    fn it_waits_since_the_kernel_says_so_or_else_since_it_was_seen() {
        let sample = waiting();
        let (connection, _) = Connection::new(sample.clone(), 0);
        assert_eq!(connection.waiting_since, sample.stuck_since);
        let unknown = Sample {
            stuck_since: None,
            ..sample.clone()
        };
        let (mut connection, _) = Connection::new(unknown.clone(), 0);
        assert_eq!(connection.waiting_since, Some(sample.at));
        connection.update(later(&unknown, 100, |_| ()), 0);
        assert_eq!(
            connection.waiting_since,
            Some(sample.at),
            "no later than known"
        );
        connection.update(later(&sample, 200, |_| ()), 0);
        assert_eq!(
            connection.waiting_since, sample.stuck_since,
            "the kernel knew better"
        );
        assert_eq!(
            Connection::new(samples::any(), 0).0.waiting_since,
            None,
            "nothing waits"
        );
    }

    #[test]
    fn progress_ends_a_stall_once_and_proves_a_pass() {
        let sample = waiting();
        let (mut connection, news) = Connection::new(sample.clone(), 0);
        assert_eq!((news.timeouts, news.recovered), (2, None));
        connection.announced = Some(Cause::Blackhole);
        let moved = later(&sample, 400, |it| {
            (it.snd_una, it.bytes_acked) = (it.snd_una.wrapping_add(500), it.bytes_acked + 500);
            (it.unacked, it.packets_out, it.timeouts, it.stuck_since) = (0, 0, 0, None);
            it.acked_at = it.at;
        });
        let news = connection.update(moved.clone(), 1);
        assert_eq!(news.recovered, sample.stuck_since);
        assert_eq!(
            news.pass.map(|pass| (pass.at_least, pass.at_most)),
            Some((500, 500))
        );
        assert_eq!(connection.waiting_since, None);
        let news = connection.update(later(&moved, 400, |_| ()), 2);
        assert_eq!(
            news,
            News {
                pass: None,
                trials: None,
                timeouts: 0,
                recovered: None
            }
        );
    }

    /// Trap: numbers that wrap.
    #[test]
    fn a_sequence_number_that_wraps_is_progress_like_any_other() {
        let sample = Sample {
            snd_una: u32::MAX,
            ..waiting()
        };
        let (mut connection, _) = Connection::new(sample.clone(), 0);
        connection.announced = Some(Cause::Blackhole);
        let news = connection.update(later(&sample, 1, |it| it.snd_una = 3), 0);
        assert!(news.recovered.is_some());
    }

    #[test]
    fn timeouts_are_those_since_the_last_sample() {
        let sample = waiting();
        let (mut connection, _) = Connection::new(sample.clone(), 0);
        let mut timeouts = |by, count, progress: u32| {
            let next = later(&sample, by, |it| {
                (it.timeouts, it.snd_una) = (count, it.snd_una + progress);
            });
            connection.update(next, 0).timeouts
        };
        assert_eq!(timeouts(1, 2, 0), 0);
        assert_eq!(timeouts(2, 5, 0), 3);
        assert_eq!(timeouts(3, 1, 9), 1, "after progress they start again");
        assert_eq!(timeouts(4, 0, 9), 0);
    }

    #[test]
    fn what_comes_late_changes_nothing_but_shows_that_it_is_there() {
        let sample = waiting();
        let (mut connection, _) = Connection::new(sample.clone(), 0);
        let mut old = later(&sample, 0, |it| it.snd_una = 99);
        old.at = sample.at.before(ms(1));
        assert_eq!(
            connection.update(old, 7),
            News {
                pass: None,
                trials: None,
                timeouts: 0,
                recovered: None
            }
        );
        assert_eq!((connection.sample, connection.generation), (sample, 7));
    }

    #[test]
    fn of_a_connection_that_changed_its_next_hop_nobody_knows_which_one_did_well() {
        let sample = Sample {
            next_hop: Some(world::hop(0)),
            ..samples::any()
        };
        let on = |hop| {
            later(&sample, 1000, |it| {
                (it.snd_una, it.bytes_acked) = (it.snd_una + 500, it.bytes_acked + 500);
                (it.segments_out, it.next_hop) = (it.segments_out + 1, hop);
            })
        };
        let proves = |hop| {
            let (mut connection, _) = Connection::new(sample.clone(), 0);
            connection.update(on(hop), 1).pass.is_some()
        };
        assert!(proves(Some(world::hop(0))));
        assert!(proves(None), "the kernel has just forgotten its route");
        assert!(!proves(Some(world::hop(1))));
        let (mut stuck, _) = Connection::new(sample.clone(), 0);
        stuck.phase = Some(Phase::Stalled);
        let pass = stuck.update(on(Some(world::hop(1))), 1).pass;
        assert!(pass.is_some(), "what was stuck moves on the new way");
    }

    #[test]
    fn a_window_probe_has_failed_when_it_left_and_not_just_now() {
        let at = samples::any().at;
        let probing = |next: u64, srtt| Sample {
            unsent: 500,
            persist: true,
            probes: 2,
            backoff: 3,
            rto: ms(200),
            srtt: Some(ms(srtt)),
            next_try: Some(at.after(ms(next))),
            ..samples::any()
        };
        let failed = |sample| Connection::new(sample, 0).0.surely_failed_at();
        assert_eq!(failed(probing(600, 10)), at.before(ms(1000)));
        let open = at.after(ms(1590)).before(ms(1600 + 800));
        assert_eq!(failed(probing(1590, 10)), open, "the one before");
        let none = Sample {
            probes: 0,
            ..probing(600, 10)
        };
        assert_eq!(failed(none), at, "nothing leaves");
        let deep = Sample {
            backoff: 30,
            rto: Duration::MAX,
            ..probing(50_000, 10)
        };
        assert_eq!(failed(deep), at.before(ms(70_000)), "the longest wait");
    }

    #[test]
    fn in_trouble_it_keeps_the_next_hop_under_which_the_trouble_began() {
        let (mut connection, _) = Connection::new(waiting(), 0);
        let with = |by, timeouts, hop| {
            later(&waiting(), by, |it| {
                (it.timeouts, it.next_hop) = (timeouts, hop)
            })
        };
        connection.update(with(1, 3, None), 0);
        assert_eq!(
            connection.next_hop,
            Some(world::hop(0)),
            "the kernel forgot it"
        );
        connection.update(with(2, 4, Some(world::hop(1))), 0);
        assert_eq!(
            connection.next_hop,
            Some(world::hop(0)),
            "the kernel took another"
        );
        connection.update(with(3, 0, None), 0);
        assert_eq!(connection.next_hop, Some(world::hop(0)));
        connection.update(with(4, 0, Some(world::hop(1))), 0);
        assert_eq!(
            connection.next_hop,
            Some(world::hop(1)),
            "it is well and has moved"
        );
    }

    #[test]
    fn a_sweep_does_not_take_away_what_only_events_carry() {
        let event = Sample {
            origin: Origin::Timeout,
            send_error: Some(16),
            ..waiting()
        };
        let (mut connection, _) = Connection::new(event.clone(), 0);
        let swept = |by| {
            later(&event, by, |it| {
                (it.origin, it.send_error, it.head) = (Origin::Suspicious, None, None);
            })
        };
        connection.update(swept(1), 0);
        assert_eq!(
            (connection.sample.send_error, connection.sample.head),
            (Some(16), Some(500))
        );
        connection.update(later(&event, 2, |it| it.send_error = None), 0);
        assert_eq!(
            connection.sample.send_error, None,
            "an event without it does"
        );
        connection.update(later(&event, 3, |it| it.send_error = Some(1)), 0);
        connection.update(later(&swept(4), 0, |it| it.snd_una += 1), 0);
        assert_eq!(connection.sample.send_error, None, "and so does progress");
    }

    #[test]
    fn it_is_passed_by_when_others_get_through_between_its_failures() {
        let at = waiting().at;
        let of = |passed: u64, size, timeouts| {
            let stuck = Sample {
                timeouts,
                stuck_since: Some(at.before(ms(5000))),
                sent_at: at.before(ms(1000)),
                ..waiting()
            };
            let (mut connection, _) = Connection::new(stuck, 0);
            let mut passes = Passes::default();
            passes.add(Pass {
                at: at.before(ms(passed)),
                after: at.before(ms(passed)),
                destination: connection.destination,
                netns: world::NETNS,
                at_least: size,
                at_most: size,
            });
            connection.compare(&passes);
            connection.passed_by
        };
        assert!(of(2000, 500, 3));
        assert!(!of(2000, 500, 2), "two timeouts may be chance");
        assert!(!of(2000, 449, 3), "smaller ones");
        assert!(!of(1000, 500, 3), "only after it failed last");
        assert!(!of(4700, 500, 3), "on its way before");
    }

    #[test]
    fn it_failed_when_it_was_last_sent_or_with_nothing_in_flight_when_it_was_seen() {
        let sent_at = waiting().at.before(ms(77));
        let failed = |packets_out| {
            Connection::new(
                Sample {
                    sent_at,
                    packets_out,
                    ..waiting()
                },
                0,
            )
            .0
            .failed_at()
        };
        assert_eq!(failed(1), sent_at);
        assert_eq!(failed(0), waiting().at);
    }
}

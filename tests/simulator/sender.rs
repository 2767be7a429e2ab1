//! The sending half of a Linux connection, as far as the kernel's figures show it.
//!
//! Modelled: segments with selective acknowledgements, loss found by time (RACK), the tail loss
//! probe, the retransmission timer with its doublings, the window-probe timer, duplicates that the
//! peer reports, answers that the peer repeats until they arrive. Not modelled: reordering, Nagle,
//! pacing, undo of needless repetitions.

use std::collections::VecDeque;

use super::{
    MILLISECOND, Nanos, SECOND,
    random::Random,
    way::{Block, Way},
};

mod acks;
mod timers;

/// Bytes of data in a full segment.
pub const MSS: u32 = 1448;
/// `TCP_RTO_MIN` and `TCP_RTO_MAX`, `include/net/tcp.h`.
const RTO_MIN: Nanos = 200 * MILLISECOND;
const RTO_MAX: Nanos = 120 * SECOND;
/// `TCP_INIT_CWND`.
const FIRST_WINDOW: f64 = 10.0;
/// Segments in the peer's window.
const LARGEST_WINDOW: f64 = 45.0;
/// Doublings of the window-probe timer that are counted.
const BACKOFF_MAX: u8 = 15;
/// After so long without progress the kernel gives up: `tcp_retries2`, 15 doublings.
const PATIENCE: Nanos = 924_600 * MILLISECOND;
/// The same when no process holds the socket: `tcp_orphan_retries`, 8 doublings.
const PATIENCE_FOR_ORPHANS: Nanos = 102_200 * MILLISECOND;

/// A piece of the queue from the first unacknowledged byte on.
#[derive(Debug, Clone, Copy)]
struct Segment {
    bytes: u32,
    sent_at: Nanos,
    /// Transmissions.
    copies: u32,
    /// The how-manieth arrival at the peer it was; 0 when it is not there.
    arrived: u64,
    /// The peer has said that it is there.
    sacked: bool,
    /// Given up for lost, to be sent again.
    lost: bool,
}

/// An acknowledgement on its way back.
#[derive(Debug, Clone, Copy)]
struct Ack {
    at: Nanos,
    /// Covers all arrivals up to this one.
    upto: u64,
    /// Segments reported as arrived more than once.
    duplicates: u32,
    /// When that was sent which it answers.
    sent_at: Nanos,
    /// It comes with an answer that the peer had to repeat.
    repeated: bool,
}

/// Congestion state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Open,
    Recovery,
    Loss,
}

/// Which timer is pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// Tail loss probe.
    LossProbe,
    /// Retransmission.
    Retransmission,
    /// Window probe.
    WindowProbe,
}

/// What a timer has led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fired {
    /// Nothing that the sensors report.
    Unseen,
    /// A retransmission timeout, with what the kernel said when it sent again; the caller looks at
    /// the connection, then calls [`Sender::back_off`].
    Timeout(Option<i32>),
    /// The kernel has given up.
    Dead,
}

/// The sending half of a connection.
#[derive(Debug, Clone)]
pub struct Sender {
    queue: VecDeque<Segment>,
    /// Segments of the queue that were sent at least once.
    sent: usize,
    /// Segments that have left the queue.
    passed: u64,
    cwnd: f64,
    ssthresh: f64,
    mode: Mode,
    /// Recovery ends when so many segments have left the queue.
    high: u64,
    probing_tail: bool,
    acks: VecDeque<Ack>,
    arrivals: u64,
    rttvar: Nanos,
    /// The next segments get through, so many, and then one does not.
    pub fate: Option<u64>,
    /// The next acknowledgement is lost.
    pub ack_fate: bool,
    /// The peer reads.
    pub window_open: bool,
    /// The peer answers what it has read, and repeats its answers until they arrive.
    pub answered: bool,
    /// No process holds the socket.
    pub orphan: bool,
    /// Bytes acknowledged.
    pub una: u64,
    /// Smoothed round trip.
    pub srtt: Nanos,
    /// Pending timer, and when it fires.
    pub timer: Option<(Nanos, Timer)>,
    /// `icsk_rto`.
    pub rto: Nanos,
    /// `icsk_backoff`.
    pub backoff: u8,
    /// `icsk_retransmits`.
    pub timeouts: u8,
    /// `icsk_probes_out`.
    pub probes: u8,
    /// `icsk_probes_tstamp`.
    pub probed_at: Option<Nanos>,
    /// `retrans_stamp`.
    pub repeated_at: Option<Nanos>,
    /// `lsndtime`.
    pub sent_at: Nanos,
    /// When the newest data was acknowledged, `delivered_mstamp`.
    pub acked_at: Nanos,
    /// When the peer was last heard, `rcv_tstamp`.
    pub heard_at: Nanos,
    /// `data_segs_out`.
    pub segments_out: u64,
    /// `total_retrans`.
    pub repeats: u64,
    /// `dsack_dups`.
    pub duplicates: u32,
}

impl Sender {
    /// Past the handshake, nothing sent.
    pub fn new(way: &Way, now: Nanos) -> Self {
        let mut sender = Self {
            queue: VecDeque::new(),
            sent: 0,
            passed: 0,
            cwnd: FIRST_WINDOW,
            ssthresh: f64::MAX,
            mode: Mode::Open,
            high: 0,
            probing_tail: false,
            acks: VecDeque::new(),
            arrivals: 0,
            rttvar: 0,
            fate: None,
            ack_fate: false,
            window_open: true,
            answered: false,
            orphan: false,
            una: 0,
            srtt: 0,
            timer: None,
            rto: 0,
            backoff: 0,
            timeouts: 0,
            probes: 0,
            probed_at: None,
            repeated_at: None,
            sent_at: now,
            acked_at: now,
            heard_at: now,
            segments_out: 0,
            repeats: 0,
            duplicates: 0,
        };
        sender.settle_rtt(way);
        sender
    }

    /// The estimate of the round trip has found its value.
    pub fn settle_rtt(&mut self, way: &Way) {
        self.srtt = way.rtt;
        self.rttvar = (way.rtt as f64 * way.jitter / 2.0) as Nanos;
        self.rto = self.first_rto();
    }

    /// Timeout before any doubling (RFC 6298, with Linux' floor under the variation).
    fn first_rto(&self) -> Nanos {
        let rto = self.srtt + RTO_MIN.max(4 * self.rttvar);
        rto.next_multiple_of(timers::TICK).min(RTO_MAX)
    }

    /// Nothing waits and nothing is to come.
    pub fn is_at_rest(&self) -> bool {
        self.queue.is_empty() && self.acks.is_empty()
    }

    /// Data waits.
    pub fn is_waiting(&self) -> bool {
        !self.queue.is_empty()
    }

    /// The window-probe timer runs.
    pub fn persists(&self) -> bool {
        matches!(self.timer, Some((_, Timer::WindowProbe)))
    }

    /// Bytes and segments in flight.
    pub fn in_flight(&self) -> (u64, u32) {
        let sent = self.queue.iter().take(self.sent);
        (sent.map(|it| u64::from(it.bytes)).sum(), self.sent as u32)
    }

    /// Bytes that were not sent.
    pub fn unsent(&self) -> u64 {
        let rest = self.queue.iter().skip(self.sent);
        rest.map(|it| u64::from(it.bytes)).sum()
    }

    /// Bytes of the first segment, when it was sent.
    pub fn head(&self) -> Option<u32> {
        (self.sent > 0).then(|| self.queue[0].bytes)
    }

    /// When the next acknowledgement or timer is due.
    pub fn due(&self) -> Option<Nanos> {
        let ack = self.acks.front().map(|ack| ack.at);
        let timer = self.timer.map(|(at, _)| at);
        match (ack, timer) {
            (Some(ack), Some(timer)) => Some(ack.min(timer)),
            (one, other) => one.or(other),
        }
    }

    /// The application writes; the last segment that was not sent is filled up first.
    pub fn write(&mut self, bytes: u32) {
        let mut left = bytes;
        if self.queue.len() > self.sent
            && let Some(last) = self.queue.back_mut()
        {
            let more = left.min(MSS - last.bytes);
            last.bytes += more;
            left -= more;
        }
        while left > 0 {
            let bytes = left.min(MSS);
            left -= bytes;
            self.queue.push_back(Segment {
                bytes,
                sent_at: 0,
                copies: 0,
                arrived: 0,
                sacked: false,
                lost: false,
            });
        }
    }

    /// A message that was sent a moment ago without trouble and whose acknowledgement comes.
    pub fn adopt(&mut self, bytes: u32, sent_at: Nanos, acked_at: Nanos) {
        self.write(bytes);
        while self.sent < self.queue.len() {
            self.arrivals += 1;
            let segment = &mut self.queue[self.sent];
            (segment.sent_at, segment.copies, segment.arrived) = (sent_at, 1, self.arrivals);
            self.sent += 1;
            self.segments_out += 1;
        }
        self.sent_at = sent_at;
        self.acks.push_back(Ack {
            at: acked_at,
            upto: self.arrivals,
            duplicates: 0,
            sent_at,
            repeated: false,
        });
        self.start_over(sent_at);
    }

    /// Acknowledgements on their way are lost.
    pub fn forget_acks(&mut self) {
        self.acks.clear();
    }

    /// Nothing happens for a while: what was due until `until` happens then.
    pub fn freeze(&mut self, until: Nanos, random: &mut Random) {
        let mut late = || until + (random.share() * 5e6) as Nanos;
        if let Some((at, _)) = &mut self.timer {
            *at = (*at).max(late());
        }
        let at = late();
        for ack in &mut self.acks {
            ack.at = ack.at.max(at);
        }
    }

    /// Sends what the windows allow.
    pub fn push(&mut self, now: Nanos, way: &Way, random: &mut Random) {
        if way.block == Some(Block::Local) || !self.window_open {
            if self.sent == 0 && self.is_waiting() && self.timer.is_none() {
                let at = timers::fires(now, self.rto.max(RTO_MIN));
                self.timer = Some((at, Timer::WindowProbe));
            }
            return;
        }
        let mut burst = Burst::default();
        while self.pipe() < self.cwnd {
            let Some(place) = self.next_to_send() else {
                break;
            };
            self.transmit(place, now, way, random, &mut burst);
        }
        if burst.sent > 0 {
            if self.persists() {
                (self.backoff, self.probes, self.probed_at) = (0, 0, None);
                self.timer = None;
            }
            self.answer(&burst, now, way, random);
            // The first segment again: the timer starts again (`tcp_xmit_retransmit_queue`).
            self.arm(now, self.timer.is_none() || burst.head);
        }
    }

    /// First what is lost, then what is new.
    fn next_to_send(&self) -> Option<usize> {
        if self.mode != Mode::Open {
            let lost = self.queue.iter().take(self.sent).position(|it| it.lost);
            if lost.is_some() {
                return lost;
            }
        }
        (self.sent < self.queue.len()).then_some(self.sent)
    }

    fn pipe(&self) -> f64 {
        let sent = self.queue.iter().take(self.sent);
        sent.filter(|it| !it.sacked && !it.lost).count() as f64
    }

    fn transmit(
        &mut self,
        place: usize,
        now: Nanos,
        way: &Way,
        random: &mut Random,
        burst: &mut Burst,
    ) {
        let passes = self.passes(self.queue[place].bytes, way, random);
        let segment = &mut self.queue[place];
        segment.sent_at = now;
        segment.copies += 1;
        segment.lost = false;
        if segment.copies > 1 {
            self.repeats += 1;
            if self.mode != Mode::Open {
                self.repeated_at.get_or_insert(now);
            }
        }
        if passes && segment.arrived > 0 {
            burst.duplicates += 1;
        } else if passes {
            self.arrivals += 1;
            segment.arrived = self.arrivals;
            burst.arrived += 1;
        }
        burst.sent += 1;
        burst.head |= place == 0 && segment.copies > 1;
        self.sent = self.sent.max(place + 1);
        self.segments_out += 1;
        self.sent_at = now;
    }

    fn passes(&mut self, bytes: u32, way: &Way, random: &mut Random) -> bool {
        if way.block.is_some() || way.limit.is_some_and(|limit| bytes > limit) {
            return false;
        }
        match self.fate.take() {
            Some(0) => false,
            Some(left) => {
                self.fate = Some(left - 1);
                true
            }
            None => !random.chance(way.loss),
        }
    }
}

/// Segments sent at one moment.
#[derive(Debug, Default)]
struct Burst {
    sent: u32,
    /// The first of the queue was among them, again.
    head: bool,
    arrived: u64,
    duplicates: u32,
}

#[cfg(test)]
mod tests;

//! One connection: what its application does, and how its sender fares.
//!
//! While all goes well nothing is computed: [`Connection::settle`] catches up in one step, and the
//! next message that will meet with loss is drawn in advance. From that message on each segment
//! counts, until all is acknowledged again.

use super::{
    Nanos, SECOND,
    random::Random,
    sender::{Fired, MSS, Sender},
    way::Way,
};

mod well;

/// Never.
pub const NEVER: Nanos = Nanos::MAX;
/// Bytes that the application may write ahead of the peer.
const SEND_BUFFER: u64 = 262_144;

/// What an application does with its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It writes whether or not what it wrote before has arrived.
    Stream,
    /// It waits for the answer before it asks again.
    Request,
    /// Nothing, ever; it may have said something long ago.
    Rest,
    /// It writes to a peer that reads only now and then.
    SlowReader,
}

/// What a connection is to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// Index of its upstream.
    pub upstream: usize,
    /// Index of its destination.
    pub destination: usize,
    /// What its application does.
    pub manner: Manner,
    /// Messages, one after the other and from the beginning again; 0 bytes end the row.
    pub messages: [u32; 6],
    /// From one message to the next.
    pub every: Nanos,
    /// Bytes that come back for each byte sent.
    pub answer: f64,
    /// How long it lives.
    pub lifetime: Nanos,
    /// How long its application waits for an acknowledgement.
    pub patience: Nanos,
}

/// Life of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// The handshake goes on; so many first segments were sent.
    Opening(u32),
    /// Past the handshake.
    Open,
    /// Closed by the application, its last data under way.
    Orphan,
    /// There is none.
    Gone,
}

/// What has happened at a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A timeout, and what the kernel said when it sent again.
    Timeout(Option<i32>),
    /// It has ended; whether it looked wrong then.
    Closed(bool),
    /// Its application has given up; the kernel goes on trying.
    Abandoned,
}

/// A connection.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Socket cookie.
    pub id: u64,
    /// What it is.
    pub plan: Plan,
    /// Where it is in its life.
    pub life: Life,
    /// The peer is gone, and says nothing any more.
    pub deserted: bool,
    /// What packets meet.
    pub way: Way,
    /// Its sending half.
    pub sender: Sender,
    /// Number of the next message.
    pub message: u64,
    /// When it is due.
    pub next_message: Nanos,
    /// All is well until then, and nothing needs to be computed; `None` while it is not.
    pub well_until: Option<Nanos>,
    /// What will be lost then.
    fate: Fate,
    /// The application ends it then.
    pub ends_at: Nanos,
    /// The application gives up then.
    gives_up_at: Nanos,
    /// The peer reads, or stops reading, then.
    turns_at: Nanos,
    /// Stale entries in the queue of events have another number.
    pub stamp: u32,
}

/// What happens to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Chance decides.
    Open,
    /// So many of its segments get through, then one does not.
    Segment(u64),
    /// Its last acknowledgement is lost.
    Acknowledgement,
}

impl Connection {
    /// Past the handshake now.
    pub fn open(id: u64, plan: Plan, way: Way, now: Nanos, random: &mut Random) -> Self {
        let mut connection = Self {
            id,
            plan,
            life: Life::Open,
            deserted: false,
            way,
            sender: Sender::new(&way, now),
            message: 0,
            next_message: NEVER,
            well_until: Some(NEVER),
            fate: Fate::Open,
            ends_at: now.saturating_add(plan.lifetime),
            gives_up_at: NEVER,
            turns_at: NEVER,
            stamp: 0,
        };
        connection.sender.answered = plan.answer > 0.0;
        match plan.manner {
            Manner::Rest => {}
            Manner::SlowReader => {
                connection.turns_at = now + (random.exponential(20.0) * 1e9) as Nanos;
                connection.next_message = now + (random.share() * plan.every as f64) as Nanos;
            }
            Manner::Stream | Manner::Request => {
                connection.next_message = now + (random.share() * plan.every as f64) as Nanos;
            }
        }
        connection.foresee(random);
        connection
    }

    /// Bytes and segments of a message.
    fn size(&self, message: u64) -> (u32, u64) {
        let row = self.row();
        let bytes = row[(message % row.len() as u64) as usize];
        (bytes, u64::from(bytes.div_ceil(MSS)))
    }

    /// Whether the answer to a message gets through: a way that is too narrow for large segments is
    /// so in both directions.
    fn is_answered(&self, message: u64) -> bool {
        let bytes = f64::from(self.size(message).0) * self.plan.answer;
        let segment = (bytes as u32).min(MSS);
        self.way.limit.is_none_or(|limit| segment <= limit)
    }

    fn row(&self) -> &[u32] {
        let end = self.plan.messages.iter().position(|bytes| *bytes == 0);
        &self.plan.messages[..end.unwrap_or(self.plan.messages.len()).max(1)]
    }

    /// Whether anything is computed segment by segment at present.
    pub fn is_awake(&self) -> bool {
        self.well_until.is_none()
    }

    /// When it next needs attention.
    pub fn due(&self) -> Nanos {
        if matches!(self.life, Life::Opening(_)) {
            // The next try; a peer that it has not reached neither reads nor stops to.
            return self.ends_at;
        }
        let end = self.ends_at.min(self.turns_at);
        match self.well_until {
            Some(until) => until.min(end),
            None => {
                let sender = self.sender.due().unwrap_or(NEVER);
                sender.min(self.next_message).min(end).min(self.gives_up_at)
            }
        }
    }

    /// Does what is due.
    pub fn act(&mut self, now: Nanos, random: &mut Random) -> Option<Event> {
        if !self.is_awake() && self.well_until.is_some_and(|until| until <= now) {
            self.wake(now, false);
        }
        if self.turns_at <= now {
            self.turn(now, random);
        }
        if self.ends_at <= now
            && let Some(event) = self.end(now)
        {
            return Some(event);
        }
        if !self.is_awake() {
            return None;
        }
        let event = self.advance(now, random);
        if event.is_none() && self.gives_up_at <= now {
            self.gives_up_at = NEVER;
            if self.sender.is_waiting() && self.life == Life::Open {
                self.abandon();
                return Some(Event::Abandoned);
            }
        }
        event
    }

    fn advance(&mut self, now: Nanos, random: &mut Random) -> Option<Event> {
        let way = self.way;
        let moved = self.sender.hear(now, &way, random);
        if self.plan.manner == Manner::SlowReader && !self.sender.window_open {
            // An answered probe tells that the peer reads again.
            let answered = self.sender.heard_at == now && self.turns_at == NEVER;
            if answered {
                self.sender.window_open = true;
                self.turns_at = now + (random.exponential(30.0) * 1e9) as Nanos;
                self.sender.push(now, &way, random);
            }
        }
        if moved {
            self.gives_up_at = if self.sender.is_waiting() {
                now.saturating_add(self.plan.patience)
            } else {
                NEVER
            };
        }
        if self.next_message <= now {
            self.write(now, random);
        }
        let mut event = None;
        if self.sender.timer.is_some_and(|(at, _)| at <= now) {
            event = match self.sender.fire(now, &way, random) {
                Fired::Unseen => None,
                Fired::Timeout(error) => Some(Event::Timeout(error)),
                Fired::Dead => Some(self.close()),
            };
        }
        event.or_else(|| self.rest(now, random))
    }

    /// Nothing waits any more: all is well until something happens again.
    fn rest(&mut self, now: Nanos, random: &mut Random) -> Option<Event> {
        if !self.sender.is_at_rest() {
            return None;
        }
        if self.life == Life::Orphan {
            return Some(self.close());
        }
        self.gives_up_at = NEVER;
        if self.next_message == NEVER
            && self.plan.manner == Manner::Request
            && self.is_answered(self.message.wrapping_sub(1))
        {
            let pause = random.between(0.5, 1.5) * self.plan.every as f64;
            self.next_message = now + pause as Nanos;
        }
        self.foresee(random);
        None
    }

    fn write(&mut self, now: Nanos, random: &mut Random) {
        let (bytes, _) = self.size(self.message);
        let waiting = self.sender.in_flight().0 + self.sender.unsent();
        self.next_message = match self.plan.manner {
            // The next question comes with the answer.
            Manner::Request => NEVER,
            Manner::Stream | Manner::SlowReader | Manner::Rest => {
                let late = now.saturating_sub(self.next_message) / self.plan.every;
                self.next_message + (late + 1) * self.plan.every
            }
        };
        if waiting + u64::from(bytes) > SEND_BUFFER {
            return;
        }
        if waiting == 0 {
            self.gives_up_at = now.saturating_add(self.plan.patience);
        }
        self.message += 1;
        self.sender.write(bytes);
        let way = self.way;
        self.sender.push(now, &way, random);
    }

    /// The peer stops reading, or reads again and says so.
    fn turn(&mut self, now: Nanos, random: &mut Random) {
        if self.sender.window_open {
            if self.sender.is_waiting() {
                self.turns_at = now + SECOND;
                return;
            }
            self.sender.window_open = false;
            self.turns_at = now + (random.pareto(5.0, 1.0).min(600.0) * 1e9) as Nanos;
            return;
        }
        self.turns_at = NEVER;
        let told = self.way.block.is_none() && !random.chance(self.way.ack_loss);
        if told {
            self.sender.window_open = true;
            self.sender.heard_at = now;
            self.turns_at = now + (random.exponential(30.0) * 1e9) as Nanos;
            let way = self.way;
            self.sender.push(now, &way, random);
        }
    }

    /// The application closes when nothing waits; else the kernel goes on without it.
    fn end(&mut self, now: Nanos) -> Option<Event> {
        self.ends_at = NEVER;
        self.settle(now);
        if self.is_awake() && self.sender.is_waiting() {
            self.abandon();
            return Some(Event::Abandoned);
        }
        Some(self.close())
    }

    fn abandon(&mut self) {
        self.life = Life::Orphan;
        self.sender.orphan = true;
        self.next_message = NEVER;
    }

    /// The kernel forgets it.
    pub fn close(&mut self) -> Event {
        self.life = Life::Gone;
        let wrong = self.is_awake()
            && self.sender.is_waiting()
            && (self.sender.timeouts > 0 || self.sender.probes > 0);
        self.well_until = Some(NEVER);
        Event::Closed(wrong)
    }

    /// Whether a sweep would call it suspicious.
    pub fn looks_wrong(&self) -> bool {
        let sender = &self.sender;
        self.is_awake()
            && sender.is_waiting()
            && (sender.timeouts > 0
                || (sender.persists() && (sender.backoff > 0 || sender.probes > 0)))
    }

    /// The host stands still until then.
    pub fn freeze(&mut self, now: Nanos, until: Nanos, random: &mut Random) {
        if !self.is_awake() {
            if self.under_way(now) > 0 {
                self.wake(now, false);
            }
            self.settle(now);
        }
        self.sender.freeze(until, random);
        let late = |at: Nanos, random: &mut Random| {
            if at == NEVER {
                NEVER
            } else {
                at.max(until + (random.share() * 20e6) as Nanos)
            }
        };
        self.next_message = late(self.next_message, random);
        self.ends_at = late(self.ends_at, random);
        self.turns_at = late(self.turns_at, random);
        self.gives_up_at = late(self.gives_up_at, random);
        if !self.is_awake() {
            self.foresee(random);
        }
    }
}

#[cfg(test)]
mod tests;

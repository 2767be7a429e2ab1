//! The daemon's part: when to sweep, what to look up, what the engine has said.

use std::{collections::BTreeSet, fmt};

use detector::{
    engine::{Attention, Engine, Settings},
    model::{
        Cause, ConnectionId, Input, Interface, NextHop, Reachability, Sample, Scope, State, Sweep,
        Transition,
    },
    time::Time,
};

use super::{
    MILLISECOND, Nanos, SECOND,
    observe::{NETNS, next_hop},
    seconds,
    world::START,
};

/// Routes that the daemon looks up after one sweep.
const ROUTES_AT_ONCE: usize = 2048;

/// An upstream entered another state, cause or scope.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// When.
    pub at: Nanos,
    /// Index of the upstream.
    pub upstream: usize,
    /// Before.
    pub from: State,
    /// After.
    pub to: State,
    /// Why.
    pub cause: Option<Cause>,
    /// How far.
    pub scope: Option<Scope>,
    /// What the verdict was reached with: destinations stalled, of those judged.
    pub votes: (u32, u32),
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let common = self.scope.filter(|scope| *scope == Scope::Common);
        write!(
            f,
            "{:>10.3}  {} {} -> {} {}{} ({} of {} destinations stalled)",
            seconds(self.at - START),
            name(self.upstream),
            self.from,
            self.to,
            self.cause.map_or("", Cause::word),
            common.map_or("", |_| " common"),
            self.votes.0,
            self.votes.1,
        )
    }
}

/// The engine, and the loop around it.
#[derive(Debug)]
pub struct Watcher {
    engine: Engine,
    settings: Settings,
    upstreams: usize,
    swept_at: Nanos,
    deadline: Option<Nanos>,
    /// Nothing is taken in until then.
    starved_until: Option<Nanos>,
    backlog: Vec<Input>,
    /// What the engine said of upstreams.
    pub turns: Vec<Turn>,
    /// Says every turn aloud, with the stalls behind it.
    pub trace: bool,
}

impl Watcher {
    /// A daemon that starts now, with the defaults, and swept so long ago for the last time.
    pub fn new(upstreams: usize, now: Nanos, swept_ago: Nanos) -> Self {
        let detect = detector::config::Detect::default();
        let settings = Settings {
            stall_after: detect.stall_after,
            ignore: detect.ignore,
            rules: Vec::new(),
        };
        let mut watcher = Self {
            engine: Engine::new(settings.clone(), Time(now)),
            settings,
            upstreams,
            swept_at: now.saturating_sub(swept_ago),
            deadline: None,
            starved_until: None,
            backlog: Vec::new(),
            turns: Vec::new(),
            trace: false,
        };
        watcher.introduce(now);
        watcher
    }

    /// It ends and starts again; what was learned is on disk, all else is forgotten.
    pub fn restart(&mut self, now: Nanos) {
        let learned = self.engine.learned();
        self.engine = Engine::new(self.settings.clone(), Time(now));
        self.engine.remember(learned);
        self.backlog.clear();
        self.swept_at = now.saturating_sub(SECOND);
        self.introduce(now);
    }

    fn introduce(&mut self, now: Nanos) {
        for upstream in 0..self.upstreams {
            let interface = Interface {
                name: format!("wan{upstream}"),
                alias: Some(name(upstream)),
                up: true,
                ..Interface::default()
            };
            let index = next_hop(upstream).interface;
            self.tell(now, Input::Interface(NETNS, index, Some(interface)));
        }
    }

    /// Whether it has learned that a link pauses now and then.
    pub fn knows_pauses(&self, upstream: usize) -> bool {
        let learned = self.engine.learned();
        let baseline = learned.get(&name(upstream));
        baseline.is_some_and(|it| !it.usual_pause().is_zero())
    }

    /// Gets no processor until then; what happens meanwhile it learns afterwards.
    pub fn starve(&mut self, until: Nanos) {
        self.starved_until = Some(until);
    }

    /// When it wants to run next, be it to sweep or because the engine asks.
    pub fn due(&self) -> Nanos {
        let due = self.sweep_due().min(self.deadline.unwrap_or(Nanos::MAX));
        due.max(self.starved_until.unwrap_or(0))
    }

    /// When the next sweep begins. On a small host the budget never holds it back.
    fn sweep_due(&self) -> Nanos {
        let interval = match self.engine.attention(Time(self.swept_at)) {
            Attention::Quiet => SECOND,
            Attention::Alert => 500 * MILLISECOND,
            Attention::Now => 100 * MILLISECOND,
        };
        self.swept_at + interval
    }

    /// Whether a sweep is due now; if not, the engine asks for the time.
    pub fn wants_sweep(&self, now: Nanos) -> bool {
        self.sweep_due() <= now
    }

    /// Takes in what has piled up.
    pub fn catch_up(&mut self, now: Nanos) {
        self.starved_until = None;
        for input in std::mem::take(&mut self.backlog) {
            self.tell(now, input);
        }
    }

    /// An event of the kernel's.
    pub fn event(&mut self, now: Nanos, input: Input) {
        if self.starved_until.is_some_and(|until| now < until) {
            self.backlog.push(input);
        } else {
            self.tell(now, input);
        }
    }

    /// A sweep has been read; `silent` and `route` answer what netlink is asked.
    pub fn swept(
        &mut self,
        now: Nanos,
        sweep: Sweep,
        silent: impl Fn(NextHop) -> bool,
        route: impl Fn(ConnectionId) -> Option<NextHop>,
    ) {
        self.swept_at = now;
        let hops: BTreeSet<_> = self.engine.suspected_hops();
        for hop in hops {
            let answer = if silent(hop) {
                Reachability::Silent
            } else {
                Reachability::Answers
            };
            self.tell(now, Input::Neighbour(hop, Some(answer)));
        }
        self.tell(now, Input::Sweep(sweep));
        let lost: Vec<_> = self
            .engine
            .without_route()
            .take(ROUTES_AT_ONCE)
            .map(|sample: &Sample| sample.id)
            .collect();
        for id in lost {
            if let Some(hop) = route(id) {
                self.tell(now, Input::Route(id, hop));
            }
        }
    }

    /// Tells the engine.
    pub fn tell(&mut self, now: Nanos, input: Input) {
        let turns = self.turns.len();
        for transition in self.engine.handle(Time(now), input) {
            self.note(now, transition);
        }
        if self.trace {
            self.tell_turns(turns, now);
        }
        // Whoever asks to be called again at once is called a moment later.
        let soonest = now + MILLISECOND;
        self.deadline = self.engine.deadline().map(|time| time.0.max(soonest));
    }

    fn note(&mut self, now: Nanos, transition: Transition) {
        let Transition::Upstream {
            upstream,
            from,
            to,
            scope,
            cause,
            stalled_destinations,
            active_destinations,
            ..
        } = transition
        else {
            return;
        };
        let Some(upstream) = (0..self.upstreams).find(|index| name(*index) == upstream) else {
            return;
        };
        self.turns.push(Turn {
            at: now,
            upstream,
            from,
            to,
            cause,
            scope,
            votes: (stalled_destinations, active_destinations),
        });
    }

    /// Prints the turns from the numbered one on, and the stalls behind the bad ones.
    fn tell_turns(&self, from: usize, now: Nanos) {
        for turn in self.turns.iter().skip(from) {
            println!("{turn}");
            if !matches!(turn.to, State::Degraded | State::Failing) {
                continue;
            }
            let snapshot = self.engine.snapshot(Time(now));
            let name = name(turn.upstream);
            for upstream in snapshot.upstreams.iter().filter(|it| it.name == name) {
                let usual = 100.0 * upstream.evidence.baseline;
                let stalled = upstream.stalled_destinations.iter();
                let stalled: Vec<_> = stalled.map(ToString::to_string).collect();
                println!(
                    "            {usual:.0} % usual, stalled: {}",
                    stalled.join(" ")
                );
            }
            for stall in snapshot.stalls.iter().filter(|it| it.upstream == name) {
                let (sample, waited) = (&stall.sample, Time(now).since(stall.since));
                println!(
                    "            {} {} {} {} for {:.1} s, {} timeouts, head {:?}, {} unsent: {}",
                    sample.id,
                    sample.remote,
                    stall.phase,
                    stall.cause,
                    waited.as_secs_f64(),
                    sample.timeouts,
                    sample.head.unwrap_or(0),
                    sample.unsent,
                    stall.because
                );
            }
        }
    }

    /// The engine, to look at.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }
}

/// Name of an upstream: `provider-a` is the first.
pub fn name(upstream: usize) -> String {
    format!("provider-{}", char::from(b'a' + upstream as u8))
}

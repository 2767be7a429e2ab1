//! The engine run again over a recording.
//!
//! **Invariant:** pure, the reader aside; what was read before a fault counts.

use std::{io::Read, time::Duration};

use super::{
    compare::{self, Row, Verdict},
    line::{End, Header, Line, Settings},
    read::{Broken, Lines},
};
use crate::{engine::Engine, model::Transition, time::Time};

/// Verdicts on one side at most: no link changes so often, and memory is bounded.
const MOST: usize = 100_000;

/// What came of a replay.
#[derive(Debug)]
pub struct Replay {
    /// The first line.
    pub header: Header,
    /// Verdicts as recorded and as reached now, side by side, in the order of time.
    pub rows: Vec<Row>,
    /// Stalls that began.
    pub stalls: Stalls,
    /// Everything that the engine says now was said then, to the word.
    pub identical: bool,
    /// Inputs that were read.
    pub inputs: u64,
    /// From the first line to the last.
    pub lasted: Duration,
    /// How the recording ended; `None` when it was cut off.
    pub end: Option<End>,
    /// What kept it from being read to the end.
    pub broken: Option<Broken>,
}

/// Stalls of single connections that began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stalls {
    /// As recorded.
    pub recorded: u64,
    /// In the replay.
    pub now: u64,
}

/// Tells an engine what was recorded, under the recorded settings or under `other`.
///
/// # Errors
/// When there is nothing to tell: the first line is missing, foreign or too new.
pub fn replay(from: impl Read, other: Option<Settings>) -> Result<Replay, Broken> {
    let mut lines = Lines::open(from)?;
    let header = lines.header()?;
    let settings = other.clone().unwrap_or_else(|| header.settings.clone());
    let mut run = Run {
        engine: Engine::new(settings.into(), header.at),
        obeys: other.is_none(),
        at: header.at,
        inputs: 0,
        recorded: Side::default(),
        now: Side::default(),
        answers: Vec::new(),
        matched: 0,
        identical: true,
    };
    let (end, broken) = match run.tell(&mut lines) {
        Ok(end) => (Some(end), None),
        Err(broken) => (None, Some(broken)),
    };
    run.settle(broken.is_some());
    let (recorded, now) = (run.recorded, run.now);
    Ok(Replay {
        rows: compare::rows(recorded.verdicts, now.verdicts),
        stalls: Stalls {
            recorded: recorded.stalls,
            now: now.stalls,
        },
        identical: run.identical,
        inputs: run.inputs,
        lasted: run.at.since(header.at),
        end,
        broken,
        header,
    })
}

/// What one engine has said.
#[derive(Debug, Default)]
struct Side {
    verdicts: Vec<Verdict>,
    stalls: u64,
}

impl Side {
    fn take(&mut self, at: Time, said: &Transition) {
        self.stalls += u64::from(matches!(said, Transition::StallBegan { .. }));
        self.verdicts.extend(Verdict::of(at, said));
    }

    fn is_full(&self) -> bool {
        self.verdicts.len() > MOST
    }
}

struct Run {
    engine: Engine,
    /// Settings in the recording count.
    obeys: bool,
    at: Time,
    inputs: u64,
    recorded: Side,
    now: Side,
    /// What the engine says now to the last input, and how much of it was recorded so far.
    answers: Vec<Transition>,
    matched: usize,
    identical: bool,
}

impl Run {
    fn tell(&mut self, lines: &mut Lines<'_>) -> Result<End, Broken> {
        while let Some(line) = lines.line()? {
            let number = lines.number();
            if let Some(end) = line.end {
                // What follows is not of interest, but whether the bytes are whole.
                lines.line()?;
                return Ok(end);
            }
            self.take(line);
            if self.recorded.is_full() || self.now.is_full() {
                return Err(Broken::Busy { number });
            }
        }
        let after = lines.number();
        Err(Broken::Cut { after })
    }

    fn take(&mut self, line: Line) {
        if let Some(said) = &line.said {
            self.recorded.take(line.at, said);
            let same = self.at == line.at && self.answers.get(self.matched) == Some(said);
            self.identical &= same;
            self.matched += 1;
            return;
        }
        // Of a later version; answers may still follow.
        if line.input.is_none() && line.settings.is_none() && line.learned.is_none() {
            return;
        }
        self.settle(false);
        self.at = self.at.max(line.at);
        if let Some(settings) = line.settings.filter(|_| self.obeys) {
            self.engine.configure(settings.into(), line.at);
        }
        if let Some(learned) = line.learned {
            self.engine.remember(learned);
        }
        if let Some(input) = line.input {
            self.inputs += 1;
            self.answers = self.engine.handle(line.at, input);
        }
    }

    /// Takes down what is said now to the last input. Where the recording breaks off, answers may
    /// be missing behind the last one: they are no difference.
    fn settle(&mut self, broken_off: bool) {
        let answers = std::mem::take(&mut self.answers);
        let missing = answers.len() > self.matched;
        let counted = if broken_off {
            self.matched
        } else {
            answers.len()
        };
        self.identical &= broken_off || !missing;
        for said in answers.iter().take(counted) {
            self.now.take(self.at, said);
        }
        self.matched = 0;
    }
}

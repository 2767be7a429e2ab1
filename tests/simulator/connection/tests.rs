//! Connections by themselves.

use super::{
    super::{MILLISECOND, sender::Timer, way::Block},
    *,
};

const START: Nanos = 1_000 * SECOND;

fn plan() -> Plan {
    Plan {
        upstream: 0,
        destination: 0,
        manner: Manner::Stream,
        messages: [4_000, 0, 0, 0, 0, 0],
        every: 500 * MILLISECOND,
        answer: 1.0,
        lifetime: NEVER,
        patience: NEVER,
    }
}

fn way(loss: f64) -> Way {
    Way {
        loss,
        ..Way::clear(50 * MILLISECOND)
    }
}

/// A connection and all that happened to it.
struct Course {
    connection: Connection,
    random: Random,
    events: Vec<(Nanos, Event)>,
    steps: u64,
}

impl Course {
    fn new(plan: Plan, way: Way, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let connection = Connection::open(1, plan, way, START, &mut random);
        Self {
            connection,
            random,
            events: Vec::new(),
            steps: 0,
        }
    }

    /// Looked at segment by segment when `closely`, else only when it must be.
    fn until(&mut self, end: Nanos, closely: bool) {
        while self.connection.life != Life::Gone {
            if closely
                && self
                    .connection
                    .well_until
                    .is_some_and(|until| until > START)
            {
                let next = self.connection.next_message;
                self.connection.well_until = Some(next.min(end));
            }
            let due = self.connection.due();
            if due >= end {
                break;
            }
            self.steps += 1;
            if closely {
                self.connection.fate = Fate::Open;
            }
            if let Some(event) = self.connection.act(due, &mut self.random) {
                if let Event::Timeout(_) = event {
                    self.connection.sender.back_off(due);
                }
                self.events.push((due, event));
            }
        }
        self.connection.settle(end);
    }

    fn timeouts(&self) -> usize {
        let is = |event: &&(Nanos, Event)| matches!(event.1, Event::Timeout(_));
        self.events.iter().filter(is).count()
    }
}

#[test]
fn what_is_skipped_comes_out_as_if_it_had_been_looked_at() {
    let span = 100_000 * SECOND;
    let of = |closely| {
        let mut life = Course::new(plan(), way(0.02), 5);
        life.until(START + span, closely);
        let sender = &life.connection.sender;
        (
            sender.una as f64,
            sender.repeats as f64,
            life.timeouts() as f64,
            life.steps,
        )
    };
    let (skipped, looked) = (of(false), of(true));
    let near = |a: f64, b: f64, by: f64| assert!((a / b - 1.0).abs() < by, "{a} {b}");
    near(skipped.0, looked.0, 0.001);
    near(skipped.1, looked.1, 0.05);
    near(skipped.2, looked.2, 0.15);
    assert!(skipped.3 * 2 < looked.3, "{} {}", skipped.3, looked.3);
}

#[test]
fn a_healthy_connection_costs_nothing() {
    let mut life = Course::new(plan(), way(0.0), 5);
    life.until(START + 3_600 * SECOND, false);
    assert_eq!(life.steps, 0);
    let sent = life.connection.sender.una / 4_000;
    assert!((7_198..=7_200).contains(&sent), "{sent}");
    assert_eq!(life.connection.sender.segments_out, 3 * sent);
}

#[test]
fn who_vanishes_is_given_up_after_a_quarter_of_an_hour() {
    let mut life = Course::new(plan(), way(0.0), 5);
    life.until(START + 10 * SECOND, false);
    let gone = Way {
        block: Some(Block::Hole),
        ..way(0.0)
    };
    let now = START + 10 * SECOND;
    life.connection.reroute(gone, now, &mut life.random);
    life.until(START + 3_600 * SECOND, false);
    let (at, event) = *life.events.last().unwrap();
    assert_eq!(event, Event::Closed(true));
    let minutes = (at - now) / (60 * SECOND);
    assert!((15..=18).contains(&minutes), "{minutes}");
    assert!((14..=16).contains(&life.timeouts()), "{}", life.timeouts());
}

#[test]
fn whose_application_gives_up_is_tried_for_less_long() {
    let impatient = Plan {
        patience: 20 * SECOND,
        ..plan()
    };
    let gone = Way {
        block: Some(Block::Hole),
        ..way(0.0)
    };
    let mut life = Course::new(impatient, gone, 5);
    life.until(START + 3_600 * SECOND, false);
    let abandoned = life.events.iter().find(|it| it.1 == Event::Abandoned);
    let seconds = (abandoned.unwrap().0 - START) / SECOND;
    assert!((20..=21).contains(&seconds), "{seconds}");
    let (at, event) = *life.events.last().unwrap();
    assert_eq!(event, Event::Closed(true));
    assert!(at < START + 300 * SECOND);
}

#[test]
fn a_slow_reader_is_behind_and_never_times_out() {
    let slow = Plan {
        manner: Manner::SlowReader,
        ..plan()
    };
    let mut life = Course::new(slow, way(0.0), 5);
    let mut behind = 0;
    for second in 0..600 {
        life.until(START + second * SECOND, false);
        behind += u32::from(life.connection.looks_wrong());
        let probing = matches!(life.connection.sender.timer, Some((_, Timer::WindowProbe)));
        assert!(probing || !life.connection.looks_wrong());
    }
    assert!(behind > 30, "{behind}");
    assert_eq!(life.timeouts(), 0);
}

#[test]
fn a_question_waits_for_the_answer_to_the_one_before() {
    let asking = Plan {
        manner: Manner::Request,
        ..plan()
    };
    let gone = Way {
        block: Some(Block::Hole),
        ..way(0.0)
    };
    let waiting = |plan| {
        let mut life = Course::new(plan, gone, 5);
        life.until(START + 20 * SECOND, false);
        let sender = &life.connection.sender;
        sender.in_flight().0 + sender.unsent()
    };
    assert_eq!(waiting(asking), 4_000);
    assert!(waiting(plan()) > 100_000);
}

#[test]
fn an_answer_that_is_too_large_is_waited_for_until_large_ones_pass() {
    let narrow = Way {
        limit: Some(1_000),
        ..way(0.0)
    };
    let asked = |answer| {
        let asking = Plan {
            manner: Manner::Request,
            messages: [200, 0, 0, 0, 0, 0],
            answer,
            ..plan()
        };
        let mut life = Course::new(asking, narrow, 5);
        life.until(START + 20 * SECOND, false);
        let before = life.connection.message;
        let waits = life.connection.sender.is_waiting();
        let now = START + 20 * SECOND;
        life.connection.reroute(way(0.0), now, &mut life.random);
        life.until(START + 60 * SECOND, false);
        life.connection.settle(START + 60 * SECOND);
        (before, waits, life.connection.message > before + 10)
    };
    assert_eq!(asked(10.0), (1, false, true), "nothing of ours waits");
    let (before, _, goes_on) = asked(1.0);
    assert!(goes_on && before != 1, "{before}");
}

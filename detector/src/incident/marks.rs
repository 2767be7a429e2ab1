//! PURE. What else happens on this host: the last changes of links, neighbours and routes, for
//! whoever wants to know what changed when an incident began.
//!
//! **Invariant:** however much changes, what is kept is bounded, and one flood does not wash away
//! what came before it.

use std::{collections::VecDeque, time::Duration};

use jiff::Timestamp;

use crate::{api::Mark, time::Time};

/// Marks that are remembered.
const KEPT: usize = 200;
/// Changes of one kind within [`WINDOW`] that are told one by one.
const IN_WINDOW: u32 = 10;
const WINDOW: Duration = Duration::from_secs(10);

/// What has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A link.
    Link,
    /// A neighbour.
    Neighbour,
    /// A route.
    Route,
}

/// The last marks, numbered.
#[derive(Debug, Default)]
pub struct Marks {
    kept: VecDeque<Mark>,
    /// Number of the first that is kept.
    first: u64,
    windows: [Window; 3],
}

/// How many changes of one subject there were lately.
#[derive(Debug, Default, Clone, Copy)]
struct Window {
    began: Time,
    told: u32,
    untold: u32,
}

impl Marks {
    /// Something changed.
    pub fn add(&mut self, now: Time, wall: Timestamp, subject: Subject, what: String) {
        self.count_untold(now, wall);
        let window = &mut self.windows[subject as usize];
        if window.told == 0 {
            window.began = now;
        }
        if window.told >= IN_WINDOW {
            window.untold += 1;
            return;
        }
        window.told += 1;
        self.push(Mark { at: wall, what });
    }

    /// So many changes were not described.
    pub fn add_uncounted(&mut self, now: Time, wall: Timestamp, subject: Subject, count: u32) {
        self.count_untold(now, wall);
        let window = &mut self.windows[subject as usize];
        if window.told == 0 {
            window.began = now;
            window.told = 1;
        }
        window.untold = window.untold.saturating_add(count);
    }

    /// Tells how many were left out once their time is over.
    pub fn count_untold(&mut self, now: Time, wall: Timestamp) {
        for subject in [Subject::Link, Subject::Neighbour, Subject::Route] {
            let window = &mut self.windows[subject as usize];
            if window.told == 0 || now.since(window.began) < WINDOW {
                continue;
            }
            let untold = std::mem::take(window).untold;
            if untold > 0 {
                let noun = match subject {
                    Subject::Link => "changes of links",
                    Subject::Neighbour => "changes of neighbours",
                    Subject::Route => "changes of routes",
                };
                let what = format!("{untold} more {noun} within {} seconds", WINDOW.as_secs());
                self.push(Mark { at: wall, what });
            }
        }
    }

    /// Number that the next one will have.
    pub(super) fn next(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    /// Those with this number or a later one.
    pub(super) fn from(&self, number: u64) -> impl Iterator<Item = &Mark> {
        let skipped = usize::try_from(number.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.kept.iter().skip(skipped)
    }

    fn push(&mut self, mark: Mark) {
        self.kept.push_back(mark);
        if self.kept.len() > KEPT {
            self.kept.pop_front();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> (Time, Timestamp) {
        let wall = Timestamp::from_second(1_700_000_000 + seconds.cast_signed()).expect("a time");
        (Time(seconds * 1_000_000_000), wall)
    }

    fn told(marks: &Marks) -> Vec<String> {
        marks.from(0).map(|it| it.what.clone()).collect()
    }

    #[test]
    fn few_changes_are_told_one_by_one() {
        let mut marks = Marks::default();
        for second in 0..5 {
            let (now, wall) = at(second);
            marks.add(now, wall, Subject::Link, format!("change {second}"));
        }
        let (now, wall) = at(100);
        marks.count_untold(now, wall);
        assert_eq!(told(&marks).len(), 5);
    }

    #[test]
    fn a_flood_of_routes_is_counted_and_hides_no_link() {
        let mut marks = Marks::default();
        let (now, wall) = at(0);
        for route in 0..500 {
            marks.add(now, wall, Subject::Route, format!("route {route}"));
        }
        marks.add_uncounted(now, wall, Subject::Route, 1000);
        marks.add(now, wall, Subject::Link, "link wan2 went down".to_owned());
        assert_eq!(
            told(&marks).len(),
            11,
            "nothing more before the time is over"
        );
        let (now, wall) = at(10);
        marks.count_untold(now, wall);
        let told = told(&marks);
        assert_eq!(told.len(), 12);
        assert_eq!(told[10], "link wan2 went down");
        assert_eq!(told[11], "1490 more changes of routes within 10 seconds");
    }

    #[test]
    fn only_the_last_are_kept_and_numbers_go_on() {
        let mut marks = Marks::default();
        for second in 0..1000 {
            let (now, wall) = at(second * 5);
            marks.add(now, wall, Subject::Link, format!("change {second}"));
        }
        assert_eq!(told(&marks).len(), KEPT);
        assert_eq!(marks.next(), 1000);
        let last: Vec<_> = marks.from(998).map(|it| it.what.as_str()).collect();
        assert_eq!(last, ["change 998", "change 999"]);
        assert_eq!(marks.from(1000).count(), 0);
        assert_eq!(marks.from(3).count(), KEPT, "those that are gone are gone");
    }
}

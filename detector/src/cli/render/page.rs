//! Paragraphs, points and steps, broken at the width of the terminal.
//!
//! **Invariant:** commands are not broken, however long: they are there to be copied.

use super::table::{heading, painted};
use crate::model::State;

/// Columns below which lines are not broken any more: a terminal says what it likes.
const NARROWEST: usize = 40;
/// In front of the time of a row of a timeline, and behind it.
const MARGIN: usize = 4;
const GAP: usize = 2;
/// The longest time of a timeline: "12m 34s ago".
const WHEN: usize = 12;

/// Something to try, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    /// What for.
    pub(super) say: String,
    /// Commands, a line each.
    pub(super) run: Vec<String>,
}

/// A step without a command.
pub(super) fn say(words: impl Into<String>) -> Step {
    let say = words.into();
    Step {
        say,
        run: Vec::new(),
    }
}

/// A step with one command.
pub(super) fn run(words: impl Into<String>, command: impl Into<String>) -> Step {
    Step {
        say: words.into(),
        run: vec![command.into()],
    }
}

/// A text that grows downwards.
pub(super) struct Page {
    text: String,
    width: usize,
}

impl Page {
    pub(super) fn new(width: usize) -> Self {
        Self {
            text: String::new(),
            width: width.max(NARROWEST),
        }
    }

    /// The whole text.
    pub(super) fn text(self) -> String {
        self.text
    }

    /// A sentence in the colour of a state.
    pub(super) fn painted(&mut self, sentence: &str, state: State) {
        for line in wrap(sentence, self.width) {
            self.line(&painted(&line, state));
        }
    }

    /// A sentence.
    pub(super) fn sentence(&mut self, sentence: &str) {
        self.hanging("", "", sentence);
    }

    /// A heading below an empty line.
    pub(super) fn heading(&mut self, title: &str) {
        self.text.push('\n');
        self.text.push_str(&heading(title));
    }

    /// A heading and its points; nothing without any.
    pub(super) fn section(&mut self, title: &str, points: &[String]) {
        if points.is_empty() {
            return;
        }
        self.heading(title);
        for point in points {
            self.hanging("  - ", "    ", point);
        }
    }

    /// A heading and numbered steps; nothing without any.
    pub(super) fn steps(&mut self, title: &str, steps: &[Step]) {
        if steps.is_empty() {
            return;
        }
        self.heading(title);
        for (number, step) in (1..).zip(steps) {
            self.hanging(&format!(" {number:>2}. "), "     ", &step.say);
            for command in &step.run {
                self.line(&format!("       {command}"));
            }
        }
    }

    /// A row of a timeline: when, and what.
    pub(super) fn moment(&mut self, when: &str, what: &str) {
        let first = format!("{:MARGIN$}{when:>WHEN$}{:GAP$}", "", "");
        let rest = " ".repeat(MARGIN + WHEN + GAP);
        self.hanging(&first, &rest, what);
    }

    /// A paragraph of which the first line begins differently from the others.
    pub(super) fn hanging(&mut self, first: &str, rest: &str, text: &str) {
        let mut start = first;
        for line in wrap(text, self.width.saturating_sub(rest.chars().count())) {
            self.line(&format!("{start}{line}"));
            start = rest;
        }
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }
}

/// The text in lines of at most `width` characters; what cannot be broken stays whole.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for piece in pieces(text) {
        let Some(line) = lines.last_mut() else { break };
        let room = width.saturating_sub(line.chars().count());
        if line.is_empty() {
            line.push_str(&piece);
        } else if piece.chars().count() < room {
            line.push(' ');
            line.push_str(&piece);
        } else {
            lines.push(piece);
        }
    }
    lines
}

/// Words that belong together: a number and its unit, a command in backticks.
fn pieces(text: &str) -> Vec<String> {
    const UNITS: [&str; 8] = ["ms", "s", "B", "kB", "MB", "GB", "TB", "%"];
    let mut pieces: Vec<String> = Vec::new();
    let mut quoted = false;
    for word in text.split(' ') {
        let bare = word.trim_end_matches(['.', ',', ';', ':', ')']);
        let number = |it: &String| it.ends_with(|last: char| last.is_ascii_digit());
        match pieces.last_mut() {
            Some(piece) if quoted || (UNITS.contains(&bare) && number(piece)) => {
                piece.push(' ');
                piece.push_str(word);
            }
            _ => pieces.push(word.to_owned()),
        }
        if word.matches('`').count() % 2 == 1 {
            quoted = !quoted;
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_longer_than_the_terminal_is_wide() {
        let text = "a bb ccc dddd eeeee ffffff";
        assert_eq!(wrap(text, 9), ["a bb ccc", "dddd", "eeeee", "ffffff"]);
        assert_eq!(wrap(text, 8), ["a bb ccc", "dddd", "eeeee", "ffffff"]);
        assert_eq!(wrap(text, 100), [text]);
        assert_eq!(wrap("", 10), [""]);
    }

    #[test]
    fn what_belongs_together_stays_together() {
        assert_eq!(wrap("waits 12.3 s. Then", 9), ["waits", "12.3 s.", "Then"]);
        assert_eq!(
            wrap("try `ip route get` now", 8),
            ["try", "`ip route get`", "now"]
        );
        assert_eq!(
            wrap("2001:db8::1234:5678 x", 8),
            ["2001:db8::1234:5678", "x"]
        );
        assert_eq!(wrap("is s here", 5), ["is s", "here"]);
    }

    #[test]
    fn commands_are_not_broken() {
        let mut page = Page::new(40);
        let command = format!("ping -I wan1 {}", "x".repeat(60));
        page.steps("Next", &[run("see whether it answers", command.clone())]);
        let text = anstream::adapter::strip_str(&page.text()).to_string();
        assert_eq!(
            text,
            format!("\nNext\n  1. see whether it answers\n       {command}\n")
        );
    }

    #[test]
    fn a_terminal_of_no_width_is_no_trouble() {
        let mut page = Page::new(0);
        page.moment("12.3 s ago", "nothing at all came back from there");
        let text = page.text();
        assert!(text.lines().all(|it| it.chars().count() <= 40), "{text}");
    }
}

//! What is typed and what comes back, on the screen while it happens and as a page afterwards.

use std::time::Instant;

use anstream::println;
use anstyle::{AnsiColor, Style};

const HEADING: Style = AnsiColor::Cyan.on_default().bold();
const TYPED: Style = Style::new().bold();
const PROMPT: &str = "mx1# ";
/// Stands for lines that are left out.
const CUT: &str = "[…]";

/// All of it so far.
pub(crate) struct Transcript {
    page: String,
    fault: Option<Instant>,
}

impl Transcript {
    pub(crate) fn new(title: &str) -> Self {
        println!("{HEADING}{title}{HEADING:#}");
        Self {
            page: format!("# {title}\n"),
            fault: None,
        }
    }

    /// From here on the time since then is beside each heading.
    pub(crate) fn fault_at(&mut self, at: Instant) {
        self.fault = Some(at);
    }

    pub(crate) fn heading(&mut self, words: &str) {
        let time = self
            .fault
            .map(|at| format!(" ({} s in)", at.elapsed().as_secs()));
        let words = format!("{words}{}", time.unwrap_or_default());
        println!("\n{HEADING}{words}{HEADING:#}");
        self.page += &format!("\n## {words}\n");
    }

    /// A paragraph.
    pub(crate) fn say(&mut self, words: &str) {
        println!("\n{words}");
        self.page += "\n";
        let mut column = 0;
        for word in words.split_whitespace() {
            let length = word.chars().count();
            if column > 0 && column + 1 + length > 116 {
                self.page.push('\n');
                column = 0;
            } else if column > 0 {
                self.page.push(' ');
                column += 1;
            }
            self.page += word;
            column += length;
        }
        self.page.push('\n');
    }

    /// What somebody else has said.
    pub(crate) fn quote(&mut self, words: &str) {
        println!("\n{words}");
        self.page.push('\n');
        for line in words.lines() {
            self.page += format!("> {line}").trim_end();
            self.page.push('\n');
        }
    }

    /// Lines as they are.
    pub(crate) fn block(&mut self, lines: &str) {
        println!("\n{}", lines.trim_end());
        self.page += &format!("\n```text\n{}\n```\n", lines.trim_end());
    }

    /// A line that was typed, and what of the answer is shown.
    pub(crate) fn typed(&mut self, line: &str, answer: &str, shown: &dyn Fn(&str) -> bool) {
        let mut lines: Vec<&str> = Vec::new();
        for line in answer.lines() {
            if shown(line) {
                lines.push(line.trim_end());
            } else if lines.last() != Some(&CUT) {
                lines.push(CUT);
            }
        }
        let answer = lines.join("\n");
        println!("\n{TYPED}{PROMPT}{line}{TYPED:#}\n{answer}");
        let block = format!("{PROMPT}{line}\n{answer}");
        self.page += &format!("\n```console\n{}\n```\n", block.trim_end());
    }

    /// The page.
    pub(crate) fn page(&self) -> &str {
        &self.page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_marked_once() {
        let mut told = Transcript::new("A day");
        told.typed("ls", "a\nb\nc\nd\n", &|line| line == "c");
        told.say(&"word ".repeat(60));
        assert!(
            told.page()
                .contains("```console\nmx1# ls\n[…]\nc\n[…]\n```\n")
        );
        assert!(told.page().lines().all(|line| line.len() <= 116));
    }
}

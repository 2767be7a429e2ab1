//! How it is shown: acts, narration, what was measured and when.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use anstream::println;
use anstyle::{AnsiColor, Style};
use anyhow::Result;
use lab::{Daemon, daemon::Colour, signal};

/// Lines of narration are broken here.
const WIDTH: usize = 88;
/// In front of what belongs to a line before it.
const INDENT: &str = "             ";

const HEADING: Style = AnsiColor::Cyan.on_default().bold();
const COMMAND: Style = Style::new().bold();
const TIME: Style = AnsiColor::Yellow.on_default();
const QUIET: Style = Style::new().italic();

/// Where it is shown.
pub(crate) struct Stage {
    act: u8,
    /// Time to read a paragraph.
    pause: Duration,
    fault: Option<Instant>,
}

impl Stage {
    pub(crate) fn new(pause: Duration) -> Self {
        Self {
            act: 0,
            pause,
            fault: None,
        }
    }

    /// From here on times are counted from the fault.
    pub(crate) fn fault_at(&mut self, at: Instant) {
        self.fault = Some(at);
    }

    pub(crate) fn title(&self, words: &str) {
        println!("{HEADING}{words}\n{}{HEADING:#}\n", "═".repeat(WIDTH));
    }

    /// Begins the next act.
    pub(crate) fn act(&mut self, words: &str) {
        self.act += 1;
        let heading = format!("─── {}. {words} ", self.act);
        let rest = "─".repeat(WIDTH.saturating_sub(heading.chars().count()));
        println!("\n{HEADING}{heading}{rest}{HEADING:#}\n");
    }

    /// Says something to the audience.
    pub(crate) fn narrate(&self, words: &str) {
        for line in wrap(words, WIDTH) {
            println!("{QUIET}{line}{QUIET:#}");
        }
        println!();
    }

    /// Lets the audience read.
    pub(crate) fn pause(&self) -> Result<()> {
        signal::sleep(self.pause)
    }

    /// What a measurement found just now.
    pub(crate) fn measured(&self, what: &str, found: &str) {
        let mut lines = found.lines();
        let time = self.time(Instant::now());
        println!(
            "{TIME}{time}{TIME:#} {COMMAND}{what:<19}{COMMAND:#} {}",
            lines.next().unwrap_or("")
        );
        for line in lines {
            println!("{INDENT}{:<19} {line}", "");
        }
    }

    /// Something that happened at some time.
    pub(crate) fn event(&self, at: Instant, words: &str) {
        let time = self.time(at);
        println!("{TIME}{time}{TIME:#} {HEADING}▶ {words}{HEADING:#}\n");
    }

    /// Runs a command of the program and shows what it says.
    pub(crate) fn command(&self, daemon: &Daemon, arguments: &[&str]) -> Result<()> {
        let time = self.time(Instant::now());
        println!(
            "{TIME}{time}{TIME:#} {COMMAND}$ tcpstall {}{COMMAND:#}\n",
            arguments.join(" ")
        );
        let coloured = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let output = daemon.cli_as(arguments, if coloured { Colour::Yes } else { Colour::No })?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        self.lines(
            &(words + &text)
                .lines()
                .map(str::to_owned)
                .collect::<Vec<_>>(),
        );
        Ok(())
    }

    /// Shows lines as they are, indented.
    pub(crate) fn lines(&self, lines: &[String]) {
        for line in lines {
            println!("  {line}");
        }
        println!();
    }

    /// A time relative to the fault, always of the same width.
    fn time(&self, at: Instant) -> String {
        match self.fault {
            None => format!("{:<12}", ""),
            Some(fault) => {
                format!(
                    "T +{:>5.1} s   ",
                    at.saturating_duration_since(fault).as_secs_f64()
                )
            }
        }
    }
}

/// Breaks a text into lines.
fn wrap(words: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in words.split_whitespace() {
        let last = lines.last_mut().expect("it starts with one line");
        if last.is_empty() {
            last.push_str(word);
        } else if last.chars().count() + 1 + word.chars().count() <= width {
            last.push(' ');
            last.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::wrap;

    #[test]
    fn no_line_is_longer_than_asked() {
        assert_eq!(wrap("a bb  ccc\ndddd", 4), ["a bb", "ccc", "dddd"]);
    }
}

//! How answers reach the terminal, a pipe or a program.
//!
//! **Invariant:** colours only on a terminal; a reader that leaves is no error.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
};

use serde::Serialize;

use crate::config::hidden;

/// How to print an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(super) enum Format {
    /// For people
    #[default]
    Table,
    /// For people with wide terminals
    Wide,
    /// One JSON value
    Json,
    /// A JSON value per row
    Jsonl,
}

/// Prints `text` to stdout.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = anstream::AutoStream::auto(io::stdout().lock());
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// Columns of the terminal; 80 in a pipe or a file.
pub(super) fn width() -> usize {
    const USUAL: usize = 80;
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return USUAL;
    }
    match rustix::termios::tcgetwinsize(stdout) {
        Ok(size) if size.ws_col > 0 => size.ws_col.into(),
        _ => USUAL,
    }
}

/// Prints one JSON value.
pub(super) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    print(&format!(
        "{}\n",
        plain(&serde_json::to_string_pretty(value)?)
    ))
}

/// Prints a JSON value per row.
pub(super) fn jsonl<T: Serialize>(rows: &[T]) -> anyhow::Result<()> {
    let mut text = String::new();
    for row in rows {
        text.push_str(&line(row)?);
    }
    print(&text)
}

/// One JSON value on a line of its own.
pub(super) fn line(value: &impl Serialize) -> serde_json::Result<String> {
    Ok(plain(&serde_json::to_string(value)?) + "\n")
}

/// The same JSON without anything that could steer a terminal or hide something: what stands for a
/// character in JSON means the same to a program. Outside of strings there is nothing but ASCII.
fn plain(json: &str) -> String {
    let mut plain = String::with_capacity(json.len());
    for char in json.chars() {
        if char == '\n' || !hidden(char) {
            plain.push(char);
            continue;
        }
        for unit in char.encode_utf16(&mut [0; 2]) {
            plain.push_str(&format!("\\u{unit:04x}"));
        }
    }
    plain
}

/// Says something on stderr that is not the answer.
pub(super) fn say(words: &impl fmt::Display) {
    // Nobody is left to hear that this failed.
    let _ = writeln!(anstream::AutoStream::auto(io::stderr().lock()), "{words}");
}

/// Whether `error` is that the reader of stdout has left.
pub(super) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|it| it.downcast_ref::<io::Error>())
        .any(|it| it.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_steers_no_terminal_and_says_the_same() {
        let bad = "a\u{1b}[2J\u{9b}2J\u{202e}\u{e0041}\u{7f}é\n";
        let text = plain(&serde_json::to_string_pretty(&[bad]).expect("JSON"));
        assert!(text.chars().all(|it| it == '\n' || !hidden(it)), "{text:?}");
        let same: Vec<String> = serde_json::from_str(&text).expect("JSON");
        assert_eq!(same, [bad]);
        assert!(text.contains('é'), "what harms nobody stays: {text}");
    }
}

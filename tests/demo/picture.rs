//! What an operator sees, as a picture for the documentation.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use lab::{Daemon, daemon::Colour};

/// Columns of the terminal in the picture.
const WIDTH: usize = 100;

/// Runs the two commands that answer "which, and why", and draws what they say.
pub(crate) fn write(path: &Path, daemon: &Daemon, upstream: &str) -> Result<()> {
    let mut screen = String::new();
    for arguments in [&["status"][..], &["explain", upstream]] {
        let output = daemon.cli_as(arguments, Colour::Yes)?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        screen.push_str(&format!(
            "\x1b[1m$ tcpstall {}\x1b[0m\n",
            arguments.join(" ")
        ));
        for line in said.lines() {
            screen.push_str(&fit(line));
            screen.push('\n');
        }
        screen.push('\n');
    }
    let drawing = anstyle_svg::Term::new().render_svg(screen.trim_end());
    fs::write(path, drawing).with_context(|| format!("cannot write {}", path.display()))
}

/// Breaks a line between words where a terminal would break it anywhere.
fn fit(line: &str) -> String {
    if line.contains('\x1b') || line.chars().count() <= WIDTH {
        return line.to_owned();
    }
    let mut rows = String::new();
    let mut column = 0;
    for word in line.split_inclusive(' ') {
        let length = word.chars().count();
        if column + length > WIDTH {
            rows.push_str("\n    ");
            column = 4;
        }
        rows.push_str(word);
        column += length;
    }
    rows
}

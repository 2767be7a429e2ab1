//! Tables without lines, and colours by meaning.
//!
//! **Invariant:** a row is one line, however wide.

use anstyle::{AnsiColor, Style};
use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, presets};

use crate::model::{Phase, State};

/// A heading, and whether numbers stand below it.
pub(super) struct Column(pub(super) &'static str, pub(super) CellAlignment);

/// A column of words.
pub(super) const fn words(heading: &'static str) -> Column {
    Column(heading, CellAlignment::Left)
}

/// A column of numbers.
pub(super) const fn numbers(heading: &'static str) -> Column {
    Column(heading, CellAlignment::Right)
}

/// The table; nothing when it has no rows.
pub(super) fn table(columns: &[Column], rows: Vec<Vec<Cell>>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.enforce_styling();
    table.set_header(columns.iter().map(|it| it.0));
    table.add_rows(rows);
    for (column, Column(_, alignment)) in table.column_iter_mut().zip(columns) {
        column.set_cell_alignment(*alignment);
        column.set_padding((0, 2));
    }
    let faint = Style::new().dimmed();
    let mut text = String::new();
    for (index, line) in table.lines().enumerate() {
        match (index, line.trim_end()) {
            (0, headings) => text.push_str(&format!("{faint}{headings}{faint:#}\n")),
            (_, row) => text.push_str(&format!("{row}\n")),
        }
    }
    text
}

/// A state in its colour.
pub(super) fn state(state: State) -> Cell {
    stated(&state.to_string(), state)
}

/// Text in a cell with the colour of `state`.
pub(super) fn stated(text: &str, state: State) -> Cell {
    let cell = Cell::new(text);
    match state {
        State::Ok => cell.fg(Color::DarkGreen),
        State::Degraded => cell.fg(Color::DarkYellow),
        State::Failing => cell.fg(Color::DarkRed).add_attribute(Attribute::Bold),
        State::Idle => cell.add_attribute(Attribute::Dim),
    }
}

/// A phase in its colour.
pub(super) fn phase(phase: Phase) -> Cell {
    let cell = Cell::new(phase);
    match phase {
        Phase::Suspect => cell.fg(Color::DarkYellow),
        Phase::Stalled => cell.fg(Color::DarkRed),
    }
}

/// Text in the colour of `state`.
pub(super) fn painted(text: &str, state: State) -> String {
    let style = match state {
        State::Ok => AnsiColor::Green.on_default(),
        State::Degraded => AnsiColor::Yellow.on_default(),
        State::Failing => AnsiColor::Red.on_default().bold(),
        State::Idle => Style::new().dimmed(),
    };
    format!("{style}{text}{style:#}")
}

/// A heading.
pub(super) fn heading(text: &str) -> String {
    let style = Style::new().bold();
    format!("{style}{text}{style:#}\n")
}

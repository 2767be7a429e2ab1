//! The part of `docs/reliability.md` that says what a soak has found.

use std::path::Path;

use anyhow::Result;

use super::books::Books;
use crate::{
    judge::page::{Part, lines},
    report::{Times, machine, verdict},
    usage::mebibytes,
};

/// The part that is written here.
const PART: Part = Part {
    page: "reliability.md",
    begin: "<!-- generated: cargo xtask soak --write -->",
};
const COLUMNS: [&str; 7] = [
    "trouble",
    "times",
    "named",
    "median",
    "latest",
    "over, median",
    "over, latest",
];

/// Puts the findings into the page.
pub(super) fn write(
    books: &Books,
    minutes: f64,
    seed: u64,
    most_growth: u64,
    folder: &Path,
) -> Result<()> {
    let rows: Vec<_> = books
        .troubles
        .iter()
        .map(|(name, (count, found, over))| {
            let at = |times: &Times, share| match times.quantile(share) {
                Some(time) => format!("{:.1} s", time.as_secs_f64()),
                None => String::new(),
            };
            vec![
                (*name).to_owned(),
                count.to_string(),
                found.len().to_string(),
                at(found, 0.5),
                at(found, 1.0),
                at(over, 0.5),
                at(over, 1.0),
            ]
        })
        .collect();
    let sums = [
        (
            "wrong verdicts",
            books.wrong.len().to_string(),
            books.wrong.is_empty(),
        ),
        (
            "differences from `ss`",
            books.differences.len().to_string(),
            books.differences.is_empty(),
        ),
        (
            "growth of memory once settled",
            mebibytes(books.growth()),
            books.growth() <= most_growth,
        ),
        (
            "descriptors, first and last",
            format!("{}, {}", books.descriptors.0, books.descriptors.1),
            !books.leaked(),
        ),
    ];
    let sums: Vec<_> = sums
        .into_iter()
        .map(|(name, value, met)| vec![name.to_owned(), value, verdict(met).to_owned()])
        .collect();
    let text = format!(
        "{minutes} minutes, seed {seed}; {}. {} looks at the verdicts; {} comparisons of {} sockets with \
         what `ss` says of them, of which {} were stuck; {} containers that came and went; {} times killed, \
         {} times reloaded; {} events lost.\n\n{}\n{}",
        machine(),
        books.looks,
        books.comparisons,
        books.compared,
        books.stuck,
        books.namespaces,
        books.kills,
        books.reloads,
        books.lost,
        lines(&["what", "", ""], &sums),
        lines(&COLUMNS, &rows),
    );
    PART.write(folder, &text)
}

//! The measured parts of `docs/judgement.md`.

use std::{fs, io::ErrorKind, path::Path};

use anyhow::{Context as _, Result};

use super::{
    picture,
    row::{Figures, Row},
    table,
};

/// The part that is written here.
const PART: Part = Part {
    page: "judgement.md",
    begin: "<!-- generated: cargo xtask bench judge -->",
};
/// Ends every part.
const END: &str = "<!-- end -->";

/// Puts the figures into the page and draws the pictures beside it.
pub(crate) fn write(rows: &[Row], folder: &Path) -> Result<()> {
    picture::draw(rows, folder)?;
    PART.write(folder, &part(rows))
}

/// Puts the rows of single scenarios into the tables that are there.
pub(crate) fn write_rows(rows: &[Row], folder: &Path) -> Result<()> {
    let path = folder.join("judgement.md");
    let mut page =
        fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    for row in rows {
        let name = &row.scenario.name;
        page = replace_row(&page, name, &cells(row)).with_context(|| {
            format!(
                "{} has no row of {name} yet: run all scenarios with --write first",
                path.display()
            )
        })?;
    }
    fs::write(&path, page).with_context(|| format!("{} cannot be written", path.display()))
}

/// The page with other cells in the row that `name` begins.
fn replace_row(page: &str, name: &str, cells: &[String]) -> Option<String> {
    let begin = format!("| {name} |");
    let old = page.lines().find(|line| line.starts_with(&begin))?;
    Some(page.replacen(old, &format!("| {} |", cells.join(" | ")), 1))
}

fn cells(row: &Row) -> Vec<String> {
    match &row.figures {
        Figures::Outage(outage) => table::outage_cells(row, outage).to_vec(),
        Figures::Peace(quiet) => table::quiet_cells(row, quiet).to_vec(),
    }
}

/// A part of a page that a measurement writes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    /// The page, in `docs/`.
    pub(crate) page: &'static str,
    /// The line that begins it.
    pub(crate) begin: &'static str,
}

impl Part {
    /// Puts another text in its place; all else stays as it is.
    pub(crate) fn write(self, folder: &Path, text: &str) -> Result<()> {
        let path = folder.join(self.page);
        let begin = self.begin;
        let page = match fs::read_to_string(&path) {
            Ok(page) => page,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                format!("{begin}\n{END}\n")
            }
            Err(error) => return Err(error).context(format!("{} cannot be read", path.display())),
        };
        let page = self.replace(&page, text).with_context(|| {
            format!(
                "{} has no line `{begin}` with a line `{END}` after it: add both where the figures \
                 belong",
                path.display()
            )
        })?;
        fs::write(&path, page).with_context(|| format!("{} cannot be written", path.display()))
    }

    /// The page with another text between the marks; `None` when it has no marks.
    fn replace(self, page: &str, text: &str) -> Option<String> {
        let begin = self.begin;
        let (before, rest) = page.split_once(begin)?;
        let (_, after) = rest.split_once(END)?;
        Some(format!("{before}{begin}\n\n{text}\n{END}{after}"))
    }
}

fn part(rows: &[Row]) -> String {
    let is_outage = |row: &&Row| matches!(row.figures, Figures::Outage(_));
    let (outages, quiets): (Vec<_>, Vec<_>) = rows.iter().partition(is_outage);
    let table = |rows: Vec<&Row>| rows.into_iter().map(cells).collect::<Vec<_>>();
    let abouts = rows.iter().map(|row| {
        let scenario = &row.scenario;
        format!("- `{}`: {}\n", scenario.name, scenario.about)
    });
    let mut text = "Scenarios with a fault, seeds from 0 on.\n\n".to_owned();
    text += &lines(&table::OUTAGE, &table(outages));
    text += "\n![How soon a fault is found](judgement-time.svg)\n";
    text += "\n![How much loss is found](judgement-loss.svg)\n";
    text += "\nWithout a fault, in days of one upstream. Alarms of the simpler rules are in 1000 \
             days, too.\n\n";
    text += &lines(&table::QUIET, &table(quiets));
    text += "\nThe scenarios, in `tests/scenarios/`:\n\n";
    text + &abouts.collect::<String>()
}

/// A table in Markdown, numbers to the right.
pub(crate) fn lines(head: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells: Vec<_> = cells.collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let mut text = line(&mut head.iter().copied());
    text += "|---|";
    text += &"---:|".repeat(head.len() - 1);
    text += "\n";
    for row in rows {
        text += &line(&mut row.iter().map(String::as_str));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Part = Part {
        page: "judgement.md",
        begin: "<!-- generated: one -->",
    };
    const OTHER: Part = Part {
        page: "judgement.md",
        begin: "<!-- generated: other -->",
    };

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let (one, other) = (ONE.begin, OTHER.begin);
        let page = format!("# A\n{one}\nold\n{END}\nB\n{other}\nold\n{END}\nC\n");
        let new = OTHER.replace(&page, "new\n").unwrap();
        let expected = format!("# A\n{one}\nold\n{END}\nB\n{other}\n\nnew\n\n{END}\nC\n");
        assert_eq!(new, expected);
        assert_eq!(OTHER.replace(&new, "new\n").unwrap(), new, "again the same");
        let both = ONE.replace(&new, "new\n").unwrap();
        assert_eq!(both.matches("new").count(), 2, "{both}");
    }

    #[test]
    fn a_page_without_marks_is_left_alone() {
        let begin = ONE.begin;
        for page in ["# A\n", begin, END, &format!("{END}{begin}")] {
            assert_eq!(ONE.replace(page, "new"), None, "{page}");
        }
    }

    #[test]
    fn a_row_takes_the_place_of_the_one_with_its_name() {
        let page = "| a | b |\n|---|---:|\n| x | 1 |\n| x-y | 2 |\n";
        let cells = ["x".to_owned(), "3".to_owned()];
        let new = replace_row(page, "x", &cells).unwrap();
        assert_eq!(new, page.replace("| x | 1 |", "| x | 3 |"));
        assert_eq!(replace_row(page, "y", &cells), None);
    }

    #[test]
    fn a_table_is_markdown() {
        let text = lines(&["a", "b"], &[vec!["x".to_owned(), "1".to_owned()]]);
        assert_eq!(text, "| a | b |\n|---|---:|\n| x | 1 |\n");
    }
}

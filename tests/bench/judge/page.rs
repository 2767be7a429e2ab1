//! The measured parts of `docs/judgement.md`.

use std::{fs, io::ErrorKind, path::Path};

use anyhow::{Context as _, Result};

use super::{
    picture,
    row::{Figures, Row},
    table,
};

/// The part that is written here.
const PART: Part = Part("<!-- generated: cargo xtask bench judge -->");
/// Ends every part.
const END: &str = "<!-- end -->";

/// Puts the figures into the page and draws the pictures beside it.
pub(crate) fn write(rows: &[Row], runs: u64, days: f64, folder: &Path) -> Result<()> {
    picture::draw(rows, folder)?;
    PART.write(folder, &part(rows, runs, days))
}

/// A part of the page that a measurement writes, by the line that begins it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part(pub(crate) &'static str);

impl Part {
    /// Puts another text in its place; all else stays as it is.
    pub(crate) fn write(self, folder: &Path, text: &str) -> Result<()> {
        let path = folder.join("judgement.md");
        let begin = self.0;
        let page = match fs::read_to_string(&path) {
            Ok(page) => page,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                format!("# Judgement\n\n{begin}\n{END}\n")
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
        let begin = self.0;
        let (before, rest) = page.split_once(begin)?;
        let (_, after) = rest.split_once(END)?;
        Some(format!("{before}{begin}\n\n{text}\n{END}{after}"))
    }
}

fn part(rows: &[Row], runs: u64, days: f64) -> String {
    let mut outages = Vec::new();
    let mut quiets = Vec::new();
    for row in rows {
        match &row.figures {
            Figures::Outage(outage) => outages.push(table::outage_cells(row, outage).to_vec()),
            Figures::Peace(quiet) => quiets.push(table::quiet_cells(row, quiet).to_vec()),
        }
    }
    let abouts = rows.iter().map(|row| {
        let scenario = &row.scenario;
        format!("- `{}`: {}\n", scenario.name, scenario.about)
    });
    let mut text = format!("{runs} runs of each scenario with a fault, seeds from 0 on.\n\n");
    text += &lines(&table::OUTAGE, &outages);
    text += "\n![How soon a fault is found](judgement-time.svg)\n";
    text += "\n![How much loss is found](judgement-loss.svg)\n";
    text += &format!(
        "\nWithout a fault, {days:.1} days of one upstream each. Alarms of the simpler rules are in \
         1000 days, too.\n\n"
    );
    text += &lines(&table::QUIET, &quiets);
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

    const ONE: Part = Part("<!-- generated: one -->");
    const OTHER: Part = Part("<!-- generated: other -->");

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let (one, other) = (ONE.0, OTHER.0);
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
        let begin = ONE.0;
        for page in ["# A\n", begin, END, &format!("{END}{begin}")] {
            assert_eq!(ONE.replace(page, "new"), None, "{page}");
        }
    }

    #[test]
    fn a_table_is_markdown() {
        let text = lines(&["a", "b"], &[vec!["x".to_owned(), "1".to_owned()]]);
        assert_eq!(text, "| a | b |\n|---|---:|\n| x | 1 |\n");
    }
}

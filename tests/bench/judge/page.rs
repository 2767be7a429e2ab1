//! The measured part of `docs/judgement.md`.

use std::{fs, io::ErrorKind, path::Path};

use anyhow::{Context as _, Result};

use super::{
    picture,
    row::{Figures, Row},
    table,
};

/// Around the part that is written here.
const BEGIN: &str = "<!-- generated: cargo xtask bench judge -->";
const END: &str = "<!-- end -->";

/// Puts the figures into the page and draws the pictures beside it.
pub(crate) fn write(rows: &[Row], runs: u64, days: f64, folder: &Path) -> Result<()> {
    picture::draw(rows, folder)?;
    let path = folder.join("judgement.md");
    let page = match fs::read_to_string(&path) {
        Ok(page) => page,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            format!("# Judgement\n\n{BEGIN}\n{END}\n")
        }
        Err(error) => return Err(error).context(format!("{} cannot be read", path.display())),
    };
    let page = with_part(&page, &part(rows, runs, days)).with_context(|| {
        format!(
            "{} has no line `{BEGIN}` with a line `{END}` after it: add both where the figures \
             belong",
            path.display()
        )
    })?;
    fs::write(&path, page).with_context(|| format!("{} cannot be written", path.display()))
}

/// The page with another part between the marks; `None` when it has no marks.
fn with_part(page: &str, part: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{part}\n{END}{after}"))
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
fn lines(head: &[&str], rows: &[Vec<String>]) -> String {
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

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let page = format!("# A\n{BEGIN}\nold\n{END}\nB\n");
        let new = with_part(&page, "new\n").unwrap();
        assert_eq!(new, format!("# A\n{BEGIN}\n\nnew\n\n{END}\nB\n"));
        assert_eq!(with_part(&new, "new\n").unwrap(), new, "again the same");
    }

    #[test]
    fn a_page_without_marks_is_left_alone() {
        for page in ["# A\n", BEGIN, END, &format!("{END}{BEGIN}")] {
            assert_eq!(with_part(page, "new"), None, "{page}");
        }
    }

    #[test]
    fn a_table_is_markdown() {
        let text = lines(&["a", "b"], &[vec!["x".to_owned(), "1".to_owned()]]);
        assert_eq!(text, "| a | b |\n|---|---:|\n| x | 1 |\n");
    }
}

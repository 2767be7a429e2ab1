//! Two looks at the metrics page, and what differs.

use std::collections::BTreeMap;

/// As many changes as fit on a screen.
const MOST: usize = 16;

/// The values of a metrics page by series.
#[derive(Debug)]
pub(crate) struct Page(BTreeMap<String, String>);

impl Page {
    /// Reads the text format.
    pub(crate) fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let series = lines.filter_map(|line| line.rsplit_once(' '));
        Self(
            series
                .map(|(series, value)| (series.to_owned(), value.to_owned()))
                .collect(),
        )
    }

    /// What is other now, or new, of the series that tell of upstreams.
    pub(crate) fn changes(&self, now: &Self) -> Vec<String> {
        let told = |series: &str| {
            series.contains("upstream=")
                && !series.contains("_bucket{")
                && !series.contains("_timestamp_")
        };
        let changed = now.0.iter().filter(|(series, value)| {
            told(series) && self.0.get(*series).map_or("0", String::as_str) != value.as_str()
        });
        // Healthy upstreams change a little all the time; the states and the stalls come first.
        let mut changed: Vec<_> = changed.collect();
        changed.sort_by_key(|(series, _)| (rank(series), series.as_str()));
        changed
            .into_iter()
            .take(MOST)
            .map(|(series, value)| {
                let before = self.0.get(series).map_or("-", String::as_str);
                format!("{series}  {before} → {value}")
            })
            .collect()
    }
}

fn rank(series: &str) -> u8 {
    const FIRST: [&str; 5] = [
        "_upstream_state",
        "_upstream_gate",
        "_stalled_",
        "_suspect_",
        "_outstanding_",
    ];
    let place = FIRST.iter().position(|part| series.contains(part));
    place.map_or(FIRST.len() as u8, |place| place as u8)
}

#[cfg(test)]
mod tests {
    use super::Page;

    #[test]
    fn only_what_changed_is_shown() {
        let before = Page::parse("# HELP x\nx{upstream=\"a\"} 1\ny{upstream=\"a\"} 2\nz 1\n");
        let now =
            Page::parse("x{upstream=\"a\"} 1\ny{upstream=\"a\"} 3\nw{upstream=\"a\"} 1\nz 2\n");
        assert_eq!(
            before.changes(&now),
            ["w{upstream=\"a\"}  - → 1", "y{upstream=\"a\"}  2 → 3"]
        );
    }
}

//! `tcpstall doctor`.
//!
//! **Invariant:** what is missing says what is lost by it and what to do.

use comfy_table::{Attribute, Cell, Color};

use super::table::{table, words};
use crate::{
    sense::Check,
    serve::words::{clean, count},
};

/// What no kernel shows.
const UNSEEN: &str = "Not seen on any kernel: QUIC and other UDP; TCP stacks outside the kernel; what \
                      this host forwards for others; connections of other network namespaces that \
                      do not leave through the daemon's.\n";

/// A row per item, then what is missing, then what is never seen.
pub(in crate::cli) fn doctor(checks: &[Check]) -> String {
    let rows = checks.iter().map(|it| {
        let verdict = match (it.ok, it.required) {
            (true, _) => Cell::new("yes").fg(Color::DarkGreen),
            (false, true) => Cell::new("NO")
                .fg(Color::DarkRed)
                .add_attribute(Attribute::Bold),
            (false, false) => Cell::new("no").fg(Color::DarkYellow),
        };
        vec![
            verdict,
            Cell::new(clean(&it.feature)),
            Cell::new(clean(&it.found)),
        ]
    });
    let mut text = table(
        &[words("OK"), words("FEATURE"), words("FOUND")],
        rows.collect(),
    );
    for check in checks.iter().filter(|it| !it.ok) {
        text.push_str(&missing(check));
    }
    text.push('\n');
    text.push_str(UNSEEN);
    text.push('\n');
    text.push_str(&conclusion(checks));
    text
}

fn missing(check: &Check) -> String {
    let mut text = format!("\n{} is missing.\n", clean(&check.feature));
    if !check.lost.is_empty() {
        text.push_str(&format!("  lost: {}\n", clean(&check.lost)));
    }
    if !check.remedy.is_empty() {
        text.push_str(&format!("  to do: {}\n", clean(&check.remedy)));
    }
    text
}

fn conclusion(checks: &[Check]) -> String {
    let missing = |required: bool| {
        let it = checks
            .iter()
            .filter(|it| !it.ok && it.required == required)
            .count();
        u32::try_from(it).unwrap_or(u32::MAX)
    };
    match (missing(true), missing(false)) {
        (0, 0) => "Everything is there: `sudo tcpstall daemon` will work fully.\n".to_owned(),
        (0, optional) => format!(
            "The daemon will work, without {} of no great importance.\n",
            count(optional, "item")
        ),
        (required, _) => {
            format!(
                "The daemon will not start: {} missing.\n",
                count(required, "required item")
            )
        }
    }
}

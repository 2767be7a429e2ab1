//! A recording and its replay.

use anstyle::Style;
use comfy_table::Cell;
use jiff::Timestamp;

use super::{
    table::{numbers, stated, table, words},
    units,
};
use crate::{
    cli::replay::{Entry, Report, Said},
    serve::words::{clean, count},
};

/// What a recording holds: "12 s, 1.2 MB, 340 inputs".
pub(in crate::cli) fn recorded(seconds: u64, size: u64, number: u64) -> String {
    let (time, size) = (units::age(seconds as f64), units::bytes(size));
    format!("{time}, {size}, {}", inputs(number))
}

/// Whose recording it is, the verdicts side by side, and the sentence.
pub(in crate::cli) fn replay(report: &Report) -> String {
    let columns = [
        numbers("AFTER"),
        words("CLOCK (UTC)"),
        words("UPSTREAM"),
        words("RECORDED"),
        words("NOW"),
        words(""),
    ];
    let rows = report.verdicts.iter().map(row).collect();
    let (faint, bold) = (Style::new().dimmed(), Style::new().bold());
    let end = match &report.end {
        Some(reason) => format!("ended because {}", clean(reason)),
        None => "cut off".to_owned(),
    };
    format!(
        "{faint}Recorded on {} by tcpstall {} from {} for {}: {}; {end}{faint:#}\n\
         {}{bold}{}{bold:#}\n",
        clean(&report.host),
        clean(&report.version),
        report.started_at.strftime("%Y-%m-%d %H:%M:%S UTC"),
        units::age(report.seconds),
        inputs(report.inputs),
        table(&columns, rows),
        capitalised(&report.summary),
    )
}

fn inputs(number: u64) -> String {
    count(u32::try_from(number).unwrap_or(u32::MAX), "input")
}

fn row(entry: &Entry) -> Vec<Cell> {
    let times = [&entry.recorded, &entry.now].into_iter().flatten();
    let first = times.min_by(|one, other| one.seconds.total_cmp(&other.seconds));
    let remark = match (&entry.recorded, &entry.now) {
        _ if entry.same => String::new(),
        (Some(then), Some(now)) if then.word == now.word => {
            let later = now.seconds - then.seconds;
            let way = if later > 0.0 { "later" } else { "sooner" };
            format!("{} {way}", units::age(later.abs()))
        }
        (Some(_), None) => "no longer".to_owned(),
        (None, _) => "new".to_owned(),
        (Some(_), Some(_)) => "differs".to_owned(),
    };
    vec![
        Cell::new(first.map_or(String::new(), |it| format!("{:.1} s", it.seconds))),
        Cell::new(first.map_or(String::new(), |it| clock(it.at))),
        Cell::new(clean(&entry.upstream)),
        said(entry.recorded.as_ref()),
        said(entry.now.as_ref()),
        Cell::new(remark),
    ]
}

fn clock(at: Timestamp) -> String {
    at.strftime("%H:%M:%S%.3f").to_string()
}

fn said(said: Option<&Said>) -> Cell {
    match said {
        Some(said) => stated(&said.word.to_string(), said.word.state),
        None => Cell::new("-"),
    }
}

fn capitalised(sentence: &str) -> String {
    let mut letters = sentence.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => String::new(),
    }
}

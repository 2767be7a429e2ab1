//! PURE. What a machine has said, and the table that is made of it.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::Value;

/// Begins the line that says how the tests ended.
pub(super) const ENDED: &str = "tcpstall-vm: ended with";
/// Begins the line with what `tcpstall doctor` found.
pub(super) const DOCTOR: &str = "tcpstall-vm: doctor";
/// Begins the line with the kernel's mode of lockdown.
pub(super) const LOCKDOWN: &str = "tcpstall-vm: lockdown";

/// What a healthy kernel never says.
const TROUBLE: &[&str] = &[
    "BUG:",
    "WARNING:",
    "Oops",
    "self-detected stall",
    "detected stalls on CPUs",
    "soft lockup",
    "hung_task",
    "Kernel panic",
];

/// What became of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// Every test has passed.
    Passed,
    /// A test has failed, or the kernel has complained, or nothing was said of an end.
    Failed(String),
}

/// What a machine has said.
#[derive(Debug, Clone)]
pub(super) struct Report {
    pub(super) end: End,
    /// The mode of lockdown that the kernel shows.
    pub(super) lockdown: String,
    /// What `tcpstall doctor` says of each feature.
    pub(super) features: BTreeMap<String, bool>,
    /// Of each group of tests, how many passed, and how many there are.
    pub(super) tests: BTreeMap<String, (u32, u32)>,
}

impl Report {
    /// One that never came to a test.
    pub(super) fn failed(why: String) -> Self {
        Self {
            end: End::Failed(why),
            lockdown: String::new(),
            features: BTreeMap::new(),
            tests: BTreeMap::new(),
        }
    }

    /// It counts only when the kernel was locked down as it was meant to be.
    pub(super) fn in_mode(mut self, lockdown: &str) -> Self {
        if self.end == End::Passed && self.lockdown != lockdown {
            let found = &self.lockdown;
            let why = format!("lockdown was to be [{lockdown}], the kernel says [{found}]");
            self.end = End::Failed(why);
        }
        self
    }
}

/// Reads the kernel's log and the output of the tests. `over` says why the machine was ended, if it
/// did not end by itself.
pub(super) fn read(log: &str, output: &str, over: Option<String>) -> Report {
    let (tests, features) = (tests(output), features(output));
    let mut end = end(log, output, over, &tests);
    if end == End::Passed && features.is_empty() {
        end = End::Failed("`tcpstall doctor` has said nothing".to_owned());
    }
    Report {
        end,
        lockdown: lockdown(output),
        features,
        tests,
    }
}

fn end(log: &str, output: &str, over: Option<String>, tests: &BTreeMap<String, (u32, u32)>) -> End {
    let complains = |line: &&str| TROUBLE.iter().any(|trouble| line.contains(trouble));
    let complaints: Vec<_> = log.lines().filter(complains).take(5).collect();
    if !complaints.is_empty() {
        let lines = complaints.join("\n");
        return End::Failed(format!(
            "the kernel's log has what must not be there:\n{lines}"
        ));
    }
    if let Some(over) = over {
        return End::Failed(over);
    }
    let code = output
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix(ENDED));
    match code.map(str::trim) {
        Some("0") if tests.is_empty() => {
            End::Failed("no test has run: does a name contain the filter?".to_owned())
        }
        Some("0") => End::Passed,
        Some(code) => End::Failed(format!("the tests ended with {code}")),
        None => End::Failed("it went off before the tests had ended".to_owned()),
    }
}

/// From a line such as `none [integrity] confidentiality`.
fn lockdown(output: &str) -> String {
    let line = output.lines().find_map(|line| line.strip_prefix(LOCKDOWN));
    let word = line.and_then(|line| line.split_once('[')?.1.split_once(']'));
    word.map(|(word, _)| word.to_owned()).unwrap_or_default()
}

/// From the JSON of `tcpstall doctor`.
fn features(output: &str) -> BTreeMap<String, bool> {
    let json = output.lines().find_map(|line| line.strip_prefix(DOCTOR));
    let checks = json.and_then(|json| serde_json::from_str::<Value>(json).ok());
    let checks = checks.as_ref().and_then(Value::as_array);
    let checks = checks.into_iter().flatten();
    checks
        .filter_map(|check| {
            Some((
                check["feature"].as_str()?.to_owned(),
                check["ok"].as_bool()?,
            ))
        })
        .collect()
}

/// From lines such as `test faults::a_black_hole_is_named ... ok`, by what stands before `::`.
fn tests(output: &str) -> BTreeMap<String, (u32, u32)> {
    let mut groups = BTreeMap::new();
    let tests = output.lines().filter_map(|line| line.strip_prefix("test "));
    for (name, outcome) in tests.filter_map(|line| line.split_once(" ... ")) {
        let group = name.split("::").next().unwrap_or(name);
        let (passed, all) = groups.entry(group.to_owned()).or_insert((0, 0));
        *passed += u32::from(outcome == "ok");
        *all += 1;
    }
    groups
}

/// A machine that was tried: the kernel's release, in what way it was booted, and what it said.
pub(super) type Tried<'a> = (&'a str, &'a str, &'a Report);

/// The page's tables: a column for each kernel.
pub(super) fn tables(tried: &[Tried<'_>]) -> String {
    let kernels = in_order(tried.iter().map(|(kernel, ..)| *kernel));
    let ways = in_order(tried.iter().map(|(_, way, _)| *way));
    let mut page = String::new();
    for way in ways {
        let of: BTreeMap<_, _> = tried
            .iter()
            .filter(|(_, other, _)| *other == way)
            .map(|(kernel, _, report)| (*kernel, *report))
            .collect();
        let _ = writeln!(page, "### {way}\n\n| |{}|", columns(&kernels, short));
        let _ = writeln!(page, "|---|{}|", columns(&kernels, |_| ":-:".to_owned()));
        let mut row = |name: &str, cell: &dyn Fn(&Report) -> String| {
            let cells = columns(&kernels, |kernel| {
                of.get(kernel)
                    .map_or_else(|| "–".to_owned(), |report| cell(report))
            });
            let _ = writeln!(page, "| {name} |{cells}|");
        };
        let features = in_order(
            of.values()
                .flat_map(|it| it.features.keys().map(String::as_str)),
        );
        for feature in features {
            row(
                &format!("`{feature}`"),
                &|report| match report.features.get(feature) {
                    Some(true) => "yes".to_owned(),
                    Some(false) => "**no**".to_owned(),
                    None => "–".to_owned(),
                },
            );
        }
        let groups = in_order(
            of.values()
                .flat_map(|it| it.tests.keys().map(String::as_str)),
        );
        for group in groups {
            row(&format!("tests: {group}"), &|report| {
                report.tests.get(group).map_or_else(
                    || "–".to_owned(),
                    |(passed, all)| format!("{passed} of {all}"),
                )
            });
        }
        row("all of it", &|report| match report.end {
            End::Passed => "passed".to_owned(),
            End::Failed(_) => "**FAILED**".to_owned(),
        });
        page.push('\n');
    }
    page
}

fn columns(kernels: &[&str], cell: impl Fn(&str) -> String) -> String {
    let cells: Vec<_> = kernels
        .iter()
        .map(|kernel| format!(" {} ", cell(kernel)))
        .collect();
    cells.join("|")
}

/// What Debian adds to the name is the same for all.
fn short(release: &str) -> String {
    release.split("-cloud").next().unwrap_or(release).to_owned()
}

/// Each once, in the order of their first coming.
fn in_order<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
Linux tcpstall 6.1
tcpstall-vm: lockdown none [integrity] confidentiality
tcpstall-vm: doctor [{\"feature\": \"btf\", \"ok\": true}, {\"feature\": \"send-errors\", \"ok\": false}]
running 3 tests
test faults::a_black_hole_is_named ... ok
test faults::a_pulled_cable_is_noticed ... FAILED
test host::of_all_things ... ok
tcpstall-vm: ended with 101
";

    fn passing() -> String {
        OUTPUT.replace("FAILED", "ok").replace("101", "0")
    }

    #[test]
    fn features_and_tests_are_counted() {
        let report = read("", OUTPUT, None);
        assert_eq!(
            report.end,
            End::Failed("the tests ended with 101".to_owned())
        );
        assert!(report.features["btf"]);
        assert!(!report.features["send-errors"]);
        assert_eq!(report.tests["faults"], (1, 2));
        assert_eq!(report.tests["host"], (1, 1));
        assert_eq!(read("", &passing(), None).end, End::Passed);
    }

    #[test]
    fn nothing_passes_by_chance() {
        let fails = |log: &str, output: &str, over: Option<&str>, why: &str| {
            let end = read(log, output, over.map(str::to_owned)).end;
            let End::Failed(said) = end else {
                panic!("{why}: it has passed");
            };
            assert!(said.contains(why), "{said}");
        };
        fails("WARNING: CPU: 0 at x", &passing(), None, "WARNING: CPU: 0");
        fails("", &passing(), Some("it took too long"), "too long");
        fails("", "tcpstall-vm: ended with 0", None, "no test has run");
        fails("", "test a ... ok", None, "went off");
        fails("", "", None, "went off");
        let without = passing().replace("tcpstall-vm: doctor", "doctor");
        fails("", &without, None, "doctor");
        let report = read("", &passing(), None);
        assert_eq!(report.clone().in_mode("integrity").end, End::Passed);
        let End::Failed(said) = report.in_mode("none").end else {
            panic!("it was locked down");
        };
        assert!(
            said.contains("[none]") && said.contains("[integrity]"),
            "{said}"
        );
    }

    #[test]
    fn a_table_has_a_column_for_each_kernel_and_a_row_for_each_feature() {
        let (bad, good) = (read("", OUTPUT, None), read("", &passing(), None));
        let tables = tables(&[
            ("5.10.0-46-cloud-amd64", "As it is", &bad),
            ("6.1.0-50-cloud-amd64", "As it is", &good),
            ("6.1.0-50-cloud-amd64", "Locked down", &good),
        ]);
        let expected = "\
### As it is

| | 5.10.0-46 | 6.1.0-50 |
|---| :-: | :-: |
| `btf` | yes | yes |
| `send-errors` | **no** | **no** |
| tests: faults | 1 of 2 | 2 of 2 |
| tests: host | 1 of 1 | 1 of 1 |
| all of it | **FAILED** | passed |

### Locked down

| | 5.10.0-46 | 6.1.0-50 |
|---| :-: | :-: |
| `btf` | – | yes |
";
        assert!(tables.starts_with(expected), "{tables}");
    }
}

//! House rules that a compiler does not know. Each rule is shown a deliberate breach first.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// What the pure part must not contain outside its tests, and why.
const IMPURE: &[(&str, &str)] = &[
    ("::now()", "the clock is read in clock.rs; take `now: Time`"),
    ("std::fs", "no I/O"),
    ("std::thread", "no threads"),
    ("tokio", "no runtime"),
    ("aya", "no kernel"),
    ("async fn", "nothing to wait for"),
    (".unwrap()", "impossible input is a value"),
    (".expect(", "impossible input is a value"),
    ("panic!(", "impossible input is a value"),
    (
        "HashMap",
        "its order differs from run to run; replay would not repeat",
    ),
    (
        "HashSet",
        "its order differs from run to run; replay would not repeat",
    ),
];

/// Folder or file, and the modules that it must not import.
const DIRECTIONS: &[(&str, &[&str])] = &[
    (
        "engine",
        &["sense", "serve", "daemon", "cli", "clock", "api"],
    ),
    (
        "forecast",
        &["engine", "sense", "serve", "daemon", "cli", "clock", "api"],
    ),
    (
        "gate",
        &["engine", "sense", "serve", "daemon", "cli", "clock", "api"],
    ),
    (
        "hooks",
        &["engine", "sense", "serve", "daemon", "cli", "clock", "api"],
    ),
    (
        "incident",
        &["engine", "sense", "serve", "daemon", "cli", "clock"],
    ),
    (
        "state_dir",
        &["engine", "sense", "serve", "daemon", "cli", "clock"],
    ),
    (
        "model",
        &[
            "engine", "sense", "serve", "daemon", "cli", "config", "clock", "api",
        ],
    ),
    (
        "time",
        &[
            "engine", "sense", "serve", "daemon", "cli", "config", "clock", "model", "api",
        ],
    ),
    (
        "record",
        &["sense", "serve", "daemon", "cli", "clock", "api"],
    ),
    ("serve", &["engine", "daemon", "cli"]),
    ("cli", &["engine"]),
    ("act", &["engine", "serve", "daemon", "cli", "clock"]),
    ("sense", &["engine", "serve", "daemon", "cli"]),
];

/// The only files of the daemon in which `unsafe` is written.
const UNSAFE_IN_DAEMON: &[&str] = &["sys.rs"];

/// The only files of the kernel programs in which `unsafe` is written; in `main.rs` it is part of
/// attributes only.
const UNSAFE_IN_KERNEL: &[&str] = &["kernel.rs", "lib.rs", "main.rs"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// All Rust files below a folder, as path and text.
fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else {
        return found;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
    found.sort();
    found
}

fn is_test(path: &Path) -> bool {
    path.components()
        .any(|it| it.as_os_str() == "tests" || it.as_os_str() == "tests.rs")
}

/// Lines of code: without comments, and without the tests at the foot.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    text[..end]
        .lines()
        .enumerate()
        .map(|(number, line)| (number + 1, line.split("//").next().unwrap_or(line)))
}

/// Sources of a module: `name.rs` and everything in `name/`, tests left out.
fn module(name: &str) -> Vec<(PathBuf, String)> {
    let folder = root().join("src");
    sources(&folder)
        .into_iter()
        .filter(|(path, _)| {
            let inside = path.strip_prefix(&folder).unwrap();
            inside.starts_with(name) || inside == Path::new(&format!("{name}.rs"))
        })
        .filter(|(path, _)| !is_test(path))
        .collect()
}

/// Breaches of purity in a text.
fn impure(text: &str) -> Vec<String> {
    let mut breaches = Vec::new();
    for (number, line) in code(text) {
        for (word, reason) in IMPURE {
            if line.contains(word) {
                breaches.push(format!("line {number}: {word}: {reason}"));
            }
        }
    }
    breaches
}

/// Imports in a text of modules that it must not know: `crate::name`, alone or in a list.
fn astray(text: &str, forbidden: &[&str]) -> Vec<String> {
    let code: String = code(text)
        .map(|(_, line)| line.trim())
        .collect::<Vec<_>>()
        .join(" ");
    let mut breaches = Vec::new();
    for part in code.split("crate::").skip(1) {
        let names: Vec<&str> = match part.strip_prefix('{') {
            Some(list) => top_level(list),
            None => vec![first_word(part)],
        };
        for name in names.into_iter().filter(|name| forbidden.contains(name)) {
            breaches.push(format!("it uses crate::{name}"));
        }
    }
    breaches
}

/// First words of the entries of `{a::b, c::{d, e}}`, the opening brace already gone.
fn top_level(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut names) = (0_u32, 0, Vec::new());
    for (place, letter) in list.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => {
                names.push(first_word(list[start..place].trim()));
                return names;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(first_word(list[start..place].trim()));
                start = place + 1;
            }
            _ => {}
        }
    }
    names
}

fn first_word(text: &str) -> &str {
    text.split(|letter: char| !letter.is_alphanumeric() && letter != '_')
        .next()
        .unwrap_or(text)
}

/// Lines with the keyword `unsafe`; the lint `unsafe_code` has another name.
fn unsafe_lines(text: &str) -> Vec<(usize, &str)> {
    code(text)
        .filter(|(_, line)| {
            line.split(|letter: char| !letter.is_alphanumeric() && letter != '_')
                .any(|word| word == "unsafe")
        })
        .collect()
}

#[test]
fn the_pure_part_is_pure() {
    let mut files = 0;
    for name in [
        "engine", "forecast", "gate", "hooks", "incident", "model", "time",
    ] {
        for (path, text) in module(name) {
            files += 1;
            assert_eq!(impure(&text), [""; 0], "{}", path.display());
        }
    }
    assert!(
        files >= 10,
        "only {files} files were found: look at the paths in this test"
    );
}

#[test]
fn imports_point_one_way() {
    for (name, forbidden) in DIRECTIONS {
        for (path, text) in module(name) {
            assert_eq!(astray(&text, forbidden), [""; 0], "{}", path.display());
        }
    }
}

#[test]
fn unsafe_stays_at_the_border_to_the_kernel() {
    let daemon = root().join("src");
    for (path, text) in sources(&daemon) {
        let name = path.strip_prefix(&daemon).unwrap().to_str().unwrap();
        if !UNSAFE_IN_DAEMON.contains(&name) {
            assert_eq!(unsafe_lines(&text), [], "{name}");
        }
    }
    let kernel = root().join("../detector-ebpf/src");
    let mut files = 0;
    for (path, text) in sources(&kernel) {
        files += 1;
        let name = path
            .strip_prefix(&kernel)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        for (number, line) in unsafe_lines(&text) {
            let place = format!("{name}:{number}: {line}");
            assert!(UNSAFE_IN_KERNEL.contains(&name.as_str()), "{place}");
            assert!(
                name != "main.rs" || line.trim_start().starts_with("#[unsafe("),
                "{place}"
            );
            assert!(
                name != "lib.rs" || line.contains("unsafe impl aya::Pod for"),
                "{place}"
            );
        }
    }
    assert!(
        files >= 3,
        "only {files} files were found: look at the paths in this test"
    );
}

#[test]
fn every_pure_file_says_what_it_must_not() {
    let pure = ["engine", "gate", "hooks", "incident"];
    for (path, text) in pure.into_iter().flat_map(module) {
        assert!(
            text.starts_with("//! PURE."),
            "{} does not say so",
            path.display()
        );
    }
}

#[test]
fn each_rule_catches_a_breach() {
    for (word, _) in IMPURE {
        assert_eq!(impure(&format!("fn it() {{ {word} }}")).len(), 1, "{word}");
    }
    assert_eq!(impure("// Instant::now() is for clock.rs"), [""; 0]);
    assert_eq!(
        impure("#[cfg(test)]\nmod tests {\n    it.unwrap();\n}"),
        [""; 0]
    );
    let forbidden = &["sense", "serve"];
    for breach in [
        "use crate::sense::decode;",
        "use crate::{model::Sample, sense::decode};",
        "use crate::{\n    model::{Sample, State},\n    serve,\n};",
        "fn it() { crate::serve::bind() }",
    ] {
        assert_eq!(astray(breach, forbidden).len(), 1, "{breach}");
    }
    for fine in [
        "use crate::model::{sense, Sample};",
        "use crate::sensible::decode;",
        "/// See [`crate::sense::decode`].\nfn it() {}",
    ] {
        assert_eq!(astray(fine, forbidden), [""; 0], "{fine}");
    }
    assert_eq!(unsafe_lines("unsafe { *it }").len(), 1);
    assert_eq!(unsafe_lines("#![expect(unsafe_code, reason = \"\")]"), []);
}

/// A row of the table of traps.
struct Trap {
    name: String,
    /// Why there is no test, where there is none.
    reason: String,
    tests: Vec<String>,
}

/// The table of traps in a page.
fn traps(page: &str) -> Vec<Trap> {
    table(page, "| trap |")
}

/// The table that begins so: its first two columns, and the tests in its last.
fn table(page: &str, header: &str) -> Vec<Trap> {
    let table = page.lines().skip_while(|line| !line.starts_with(header));
    let rows = table.skip(2).take_while(|line| line.starts_with("| "));
    rows.map(|row| {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        Trap {
            name: cells[1].to_owned(),
            reason: cells[2].to_owned(),
            tests: cells[cells.len() - 2]
                .split('`')
                .skip(1)
                .step_by(2)
                .map(str::to_owned)
                .collect(),
        }
    })
    .collect()
}

/// What the comment above the function `name` says, in one line; `None` without such a function.
fn description(sources: &str, name: &str) -> Option<String> {
    let place = sources.find(&format!("fn {name}("))?;
    let above = sources[..place].lines().rev().map(str::trim);
    let mut lines: Vec<_> = above
        .skip_while(|line| !line.starts_with("///") && (line.is_empty() || line.starts_with("#[")))
        .map_while(|line| line.strip_prefix("///"))
        .map(str::trim)
        .collect();
    lines.reverse();
    Some(lines.join(" "))
}

/// What is wrong with the table of traps, given all sources.
fn faults(traps: &[Trap], sources: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for Trap {
        name,
        reason,
        tests,
    } in traps
    {
        if tests.is_empty() && !reason.starts_with("none: ") {
            faults.push(format!("{name}: neither a test nor a reason"));
        }
        let descriptions: Vec<_> = tests.iter().map(|it| description(sources, it)).collect();
        for (test, _) in tests
            .iter()
            .zip(&descriptions)
            .filter(|(_, it)| it.is_none())
        {
            faults.push(format!("{name}: there is no test {test}"));
        }
        let trap = format!("Trap: {name}");
        let said = descriptions
            .iter()
            .flatten()
            .any(|it| it.starts_with(&trap));
        if !tests.is_empty() && !said {
            faults.push(format!("{name}: none of its tests says `{trap}`"));
        }
    }
    faults
}

/// Traps that tests speak of and the table does not know.
fn unknown<'a>(traps: &[Trap], sources: &'a str) -> Vec<&'a str> {
    let said = sources
        .lines()
        .filter_map(|line| line.trim().strip_prefix("/// Trap: "));
    said.filter(|said| !traps.iter().any(|trap| said.starts_with(&trap.name)))
        .collect()
}

#[test]
fn each_trap_has_a_test_that_names_it() {
    let workspace = root().join("..");
    let sources = all_sources();
    let page = fs::read_to_string(workspace.join("docs/judgement.md")).unwrap();
    let traps = traps(&page);
    assert!(traps.len() > 40, "the table of traps is gone");
    assert_eq!(faults(&traps, &sources), [""; 0], "docs/judgement.md");
    assert_eq!(
        unknown(&traps, &sources),
        [""; 0],
        "docs/judgement.md lacks"
    );
}

/// Rows of the page about failures that name no test, or one that is not there.
fn unproven(page: &str, sources: &str) -> Vec<String> {
    let tables = page.split("\n## ").map(|part| table(part, "| failure |"));
    let rows = tables.flatten();
    let proven = |test: &String| description(sources, test).is_some();
    rows.filter(|row| row.tests.is_empty() || !row.tests.iter().all(proven))
        .map(|row| row.name)
        .collect()
}

/// The page without the parts that measurements write.
fn written_by_hand(page: &str) -> String {
    let mut parts = page.split("<!-- generated: ");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text += part.split_once("<!-- end -->").map_or("", |(_, rest)| rest);
    }
    text
}

#[test]
fn each_promise_for_a_failure_has_its_test() {
    let workspace = root().join("..");
    let page = fs::read_to_string(workspace.join("docs/reliability.md")).unwrap();
    let page = written_by_hand(&page);
    let rows = |line: &&str| line.starts_with("| ") && !line.starts_with("| failure |");
    let parts = page.split("\n## ");
    let read: usize = parts.map(|part| table(part, "| failure |").len()).sum();
    let all = page.lines().filter(rows).count();
    assert_eq!(read, all, "a row is outside its table");
    assert!(read > 20, "the tables are gone");
    assert_eq!(
        unproven(&page, &all_sources()),
        [""; 0],
        "docs/reliability.md"
    );
    let row = |row: &str| format!("\n## Night\n\n| failure | tests |\n|---|---|\n{row}\n");
    let source = "#[test]\nfn it_is_dark() {}";
    assert_eq!(unproven(&row("| fog | `it_is_dark` |"), source), [""; 0]);
    assert_eq!(unproven(&row("| fog | `it_is_gone` |"), source), ["fog"]);
    assert_eq!(unproven(&row("| fog | |"), source), ["fog"]);
}

/// Every line of the daemon and the laboratory.
fn all_sources() -> String {
    ["detector/src", "tests"]
        .iter()
        .flat_map(|folder| sources(&root().join("..").join(folder)))
        .map(|(_, text)| text + "\n")
        .collect()
}

#[test]
fn a_trap_without_its_test_is_a_breach() {
    let of = |row: &str| traps(&format!("| trap | how | tests |\n|---|---|---|\n{row}\n"));
    let source = "/// Trap: night: nobody\n/// talks.\n#[test]\nfn it_is_dark() {}\nfn bare() {}";
    assert_eq!(
        description(source, "it_is_dark").as_deref(),
        Some("Trap: night: nobody talks.")
    );
    let good = of("| night | patience | `it_is_dark`, `bare` |");
    assert_eq!(faults(&good, source), [""; 0]);
    assert_eq!(unknown(&good, source), [""; 0]);
    assert_eq!(
        faults(&of("| fog | none: no kernel has it | |"), source),
        [""; 0]
    );
    for row in [
        "| fog | patience | |",
        "| fog | patience | `it_is_dark` |",
        "| night | patience | `bare` |",
        "| night | patience | `it_is_dark`, `it_is_gone` |",
    ] {
        assert_eq!(faults(&of(row), source).len(), 1, "{row}");
    }
    assert_eq!(unknown(&of("| fog | patience | |"), source).len(), 1);
}

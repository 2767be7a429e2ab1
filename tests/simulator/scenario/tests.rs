//! What is understood, and the sentence when it is not.

use std::fs;

use super::*;

const GOOD: &str = r#"
name = "it"
about = "something"

[world]
upstreams = [2, 5]
rtt = ["1ms", "300ms"]
background_loss = 0.01
traps = ["dead-destinations", "pauses"]

[fault]
kind = "loss"
severity = 0.3
lasts = "1m"

[expect]
found = 0.99
within = "15s"
cause = "loss"
"#;

fn parse(text: &str) -> Result<Scenario, String> {
    Scenario::parse(Path::new("it.toml"), text).map_err(|mistake| mistake.to_string())
}

#[test]
fn a_file_is_understood() {
    let scenario = parse(GOOD).unwrap();
    assert_eq!(scenario.world.upstreams, Range::new(Number(2), Number(5)));
    assert_eq!(scenario.world.rtt.high, Span(300_000_000));
    assert_eq!(scenario.world.background_loss, Range::just(Share(0.01)));
    assert_eq!(scenario.world.destinations, Shape::default().destinations);
    assert!(scenario.has(Trap::Pauses) && !scenario.has(Trap::Night));
    assert_eq!(scenario.expect.cause, Some(Cause::Loss));
    let broken = scenario.fault.unwrap();
    assert_eq!(
        (broken.connections, broken.lasts),
        (1.0, Span(60_000_000_000))
    );
}

/// `change` is put in place of `line`; the sentence begins and contains as said.
#[track_caller]
fn refused(line: &str, change: &str, begins: &str, contains: &[&str]) {
    assert!(GOOD.contains(line), "{line}");
    let sentence = parse(&GOOD.replace(line, change)).unwrap_err();
    assert!(sentence.starts_with(begins), "{sentence}");
    assert!(!sentence.contains('\n'), "{sentence}");
    for part in contains {
        assert!(sentence.contains(part), "{part}: {sentence}");
    }
}

#[test]
fn what_is_not_understood_is_named_with_its_line_and_what_was_expected() {
    refused(
        "found = 0.99",
        "fuond = 0.99",
        "it.toml:17: ",
        &["`fuond`", "expected one of `found`"],
    );
    refused(
        "upstreams = [2, 5]",
        "upstreams = [5, 2]",
        "it.toml:6: upstreams: ",
        &["ends before it begins", "expected"],
    );
    refused(
        "upstreams = [2, 5]",
        "upstreams = [1, 2, 3]",
        "it.toml:6: upstreams: ",
        &["found 3 values", "expected one"],
    );
    refused(
        "upstreams = [2, 5]",
        "upstreams = 0",
        "it.toml:6: upstreams: ",
        &["found 0", "expected a number above"],
    );
    refused(
        "upstreams = [2, 5]",
        "upstreams = 21",
        "it.toml:6: ",
        &["1 to 20"],
    );
    refused(
        "\"300ms\"]",
        "\"300 miles\"]",
        "it.toml:7: rtt: ",
        &["300 miles", "expected a span of time such as"],
    );
    refused(
        "background_loss = 0.01",
        "background_loss = 2.0",
        "it.toml:8: background_loss: ",
        &["found 2", "a share from 0 to 1"],
    );
    refused(
        "\"pauses\"",
        "\"paws\"",
        "it.toml:9: traps: ",
        &["`paws`", "expected one of", "`pauses`"],
    );
    refused(
        "kind = \"loss\"",
        "kind = \"lost\"",
        "it.toml:12: kind: ",
        &["`lost`", "`blackhole`"],
    );
    refused(
        "severity = 0.3\n",
        "",
        "it.toml:12: ",
        &["needs the key `severity`"],
    );
    refused(
        "kind = \"loss\"",
        "kind = \"mtu\"",
        "it.toml:12: ",
        &["needs the key `largest_packet`"],
    );
    refused(
        "cause = \"loss\"",
        "cause = \"lots\"",
        "it.toml:19: cause: ",
        &["`lots`", "`mtu`"],
    );
    refused("name = \"it\"\n", "", "it.toml:", &["missing field `name`"]);
    refused("[world]", "[world", "it.toml:5: ", &[]);
}

#[test]
fn every_file_in_the_folder_is_understood_and_called_by_its_name() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut files = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let scenario = Scenario::parse(&path, &text).unwrap_or_else(|mistake| panic!("{mistake}"));
        assert_eq!(path.file_stem().unwrap().to_str(), Some(&*scenario.name));
        files += 1;
    }
    assert!(files >= 20, "{files}");
}

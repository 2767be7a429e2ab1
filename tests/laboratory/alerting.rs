//! From the fault to the pager: the rules that are shipped, in a real Prometheus and Alertmanager.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use lab::{
    Direction, Fault, Load, Options,
    daemon::{METRICS_PORT, run},
    monitoring::{Message, Monitoring, Tools, shipped},
};

use crate::world::{World, in_full, it_works, skip};

/// From the fault to the message, at most.
const TOLD: Duration = Duration::from_secs(30);
/// From the repair to the all-clear: timers that have backed off, the verdict, a scrape, and Alertmanager's
/// next group.
const ALL_CLEAR: Duration = Duration::from_secs(90);

/// The programs; without them the test ends.
#[track_caller]
fn tools() -> Option<Tools> {
    let tools = Tools::find();
    if tools.is_none() {
        skip(
            "Prometheus and Alertmanager (`cargo xtask test` fetches them)",
            "TCPSTALL_LAB_REQUIRED",
        );
    }
    tools
}

#[track_caller]
fn accepts(program: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(shipped())
        .output();
    let output = output.expect("the program runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    said
}

#[test]
fn the_rules_are_valid_and_fire_when_they_must() {
    let Some(tools) = tools() else { return };
    accepts(&tools.promtool, &["check", "rules", "tcpstall.rules.yml"]);
    let said = accepts(
        &tools.promtool,
        &["test", "rules", "tcpstall.rules.test.yml"],
    );
    assert!(said.contains("SUCCESS"), "{said}");
    accepts(&tools.amtool, &["check-config", "alertmanager.yml"]);
}

/// Names of alerts in a file of rules or of their tests.
fn named<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let lines = text.lines().map(str::trim);
    let mut names: Vec<_> = lines.filter_map(|line| line.strip_prefix(key)).collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[test]
fn every_alert_has_its_test_and_its_page() {
    let read = |name: &str| fs::read_to_string(shipped().join(name)).expect("a file");
    let rules = read("tcpstall.rules.yml");
    let alerts = named(&rules, "- alert: ");
    assert!(alerts.len() > 5, "{alerts:?}");
    let tests = read("tcpstall.rules.test.yml");
    assert_eq!(named(&tests, "- alertname: "), alerts, "tests of rules");
    for alert in &alerts {
        let page = shipped().join(format!("../../docs/runbooks/{alert}.md"));
        let text = fs::read_to_string(&page).unwrap_or_default();
        assert!(
            text.starts_with(&format!("# {alert}\n")),
            "docs/runbooks/{alert}.md begins with the alert's name"
        );
        // Once to fire, once to stay quiet.
        let mentions = tests.matches(&format!("- alertname: {alert}\n")).count();
        assert!(mentions > 1, "{alert} has no test in which it stays quiet");
        let named = format!("runbook: docs/runbooks/{alert}.md");
        assert!(rules.contains(&named), "{alert} names its page");
    }
    let pages = fs::read_dir(shipped().join("../../docs/runbooks")).expect("a folder");
    assert_eq!(
        pages.count(),
        alerts.len(),
        "a page per alert, and no other"
    );
}

#[test]
fn a_fault_reaches_the_pager_with_upstream_and_cause_and_its_end_does_too() {
    let Some(tools) = tools() else { return };
    let Some(world) = World::healthy() else {
        return;
    };
    let target = [format!("127.0.0.1:{METRICS_PORT}")];
    let monitoring = it_works(Monitoring::start(&tools, &world.lab.host, &target, 5));
    it_works(monitoring.wait_for(TOLD, r#"tcpstall_upstream_state{state="ok"} == 1"#));

    // The page is clean in the eyes of Prometheus' own tool.
    let page = it_works(world.daemon().metrics());
    lint(&tools, &page);

    let began = Instant::now();
    world.break_(1, Fault::Blackhole(Direction::Both));
    let message = it_works(monitoring.told(TOLD, "TcpstallUpstreamFailing", "firing"));
    let took = message.at - began;
    assert!(took < TOLD, "told after {took:?}");
    println!("from the fault to the pager: {took:.1?}");
    names(&message, "provider-b", "blackhole");
    the_dashboard_is_filled(&monitoring);

    let repaired = Instant::now();
    world.repair(1);
    let message = it_works(monitoring.told(ALL_CLEAR, "TcpstallUpstreamFailing", "resolved"));
    println!(
        "from the repair to the all-clear: {:.1?}",
        message.at - repaired
    );
    assert_eq!(it_works(monitoring.alerts()), [""; 0]);
}

/// The message is about this upstream alone, and names the cause.
#[track_caller]
fn names(message: &Message, upstream: &str, cause: &str) {
    let alerts = message.alerts("TcpstallUpstreamFailing", "firing");
    let [alert] = alerts[..] else {
        panic!("one alert was expected: {}", message.body);
    };
    assert_eq!(alert["labels"]["upstream"], upstream, "{alert}");
    let summary = alert["annotations"]["summary"].as_str().unwrap_or_default();
    assert!(
        summary.starts_with(&format!("{upstream} is failing on "))
            && summary.ends_with(&format!(": {cause}")),
        "{summary}"
    );
    let description = alert["annotations"]["description"].as_str();
    assert!(
        description.is_some_and(|it| it.contains("of 20 destinations stalled")),
        "{description:?}"
    );
}

#[track_caller]
fn lint(tools: &Tools, page: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("page");
    fs::write(&file, page).expect("written");
    let output = Command::new(&tools.promtool)
        .args(["check", "metrics"])
        .stdin(fs::File::open(&file).expect("open"))
        .output()
        .expect("promtool runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

/// Ten minutes in full, else half a minute.
#[test]
fn healthy_churn_calls_nobody() {
    let Some(tools) = tools() else { return };
    let Some(mut world) = World::healthy() else {
        return;
    };
    for upstream in 0..3 {
        world.traffic(upstream, 0..20, Load::Churn(50));
    }
    let target = [format!("127.0.0.1:{METRICS_PORT}")];
    let monitoring = it_works(Monitoring::start(&tools, &world.lab.host, &target, 5));
    it_works(monitoring.wait_for(TOLD, r#"tcpstall_upstream_state{state="ok"} == 1"#));
    let long = Duration::from_secs(if in_full() { 600 } else { 30 });
    let end = Instant::now() + long;
    while Instant::now() < end {
        assert_eq!(it_works(monitoring.alerts()), [""; 0]);
        it_works(lab::signal::sleep(Duration::from_secs(1)));
    }
    let told = monitoring.messages();
    assert!(told.is_empty(), "{told:?}");
}

/// Two hosts, one provider: the fleet's alert instead of two of single hosts.
#[test]
fn what_two_hosts_say_of_one_provider_is_told_once() {
    let Some(tools) = tools() else { return };
    let Some(mut one) = World::new(2) else { return };
    let mut two = one.beside(2);
    for world in [&mut one, &mut two] {
        for upstream in 0..2 {
            world.traffic(upstream, 0..20, Load::STEADY);
        }
    }
    it_works(one.lab.host.ip(&format!(
        "link add fleet type veth peer name fleet netns {}\n\
         link set fleet up\naddr add 10.98.0.1/30 dev fleet",
        two.lab.host.name()
    )));
    it_works(
        two.lab
            .host
            .ip("link set fleet up\naddr add 10.98.0.2/30 dev fleet"),
    );
    one.watch();
    two.watch_with(&Options {
        metrics_host: Some("10.98.0.2".parse().expect("an address")),
        ..Options::default()
    });
    one.all_ok();
    two.all_ok();
    let targets = ["127.0.0.1", "10.98.0.2"].map(|host| format!("{host}:{METRICS_PORT}"));
    let monitoring = it_works(Monitoring::start(&tools, &one.lab.host, &targets, 5));
    let both =
        r#"sum by (upstream) (tcpstall_upstream_state{state="ok",upstream="provider-b"}) == 2"#;
    it_works(monitoring.wait_for(TOLD, both));

    one.break_(1, Fault::Blackhole(Direction::Both));
    one.is_blamed(1, "blackhole");
    // One host alone may be that host's own trouble.
    it_works(monitoring.told(TOLD, "TcpstallUpstreamFailing", "firing"));
    let fleet = "TcpstallProviderFailingOnManyHosts".to_owned();
    assert!(!it_works(monitoring.alerts()).contains(&fleet));

    two.break_(1, Fault::Blackhole(Direction::Both));
    two.is_blamed(1, "blackhole");
    let message = it_works(monitoring.told(TOLD, &fleet, "firing"));
    let alerts = message.alerts(&fleet, "firing");
    let summary = alerts[0]["annotations"]["summary"].as_str();
    assert_eq!(summary, Some("provider-b is failing on 2 of 2 hosts"));
    let description = alerts[0]["annotations"]["description"].as_str();
    assert!(
        description.is_some_and(|it| it.contains("blackhole on 2;")),
        "{description:?}"
    );

    let url = monitoring.url();
    let fleet = |arguments: &[&str]| {
        let arguments = [&["fleet", "--prometheus", &url], arguments].concat();
        let output = it_works(run(&one.lab.host, &arguments));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{output:?}");
        said
    };
    let text = fleet(&[]);
    assert!(
        text.starts_with("1 of 2 upstreams is bad: provider-b on 2 of 2 hosts (blackhole 2)."),
        "{text}"
    );
    let rows: serde_json::Value = serde_json::from_str(&fleet(&["--json"])).expect("JSON");
    assert_eq!(rows["upstreams"][0]["upstream"], "provider-b", "{rows}");
    assert_eq!(
        rows["upstreams"][0]["hosts"][1]["cause"], "blackhole",
        "{rows}"
    );
}

/// Everything that the dashboard asks for, with its variables filled in.
fn panels() -> Vec<(String, String)> {
    let file = shipped().join("../grafana/tcpstall.json");
    let text = fs::read_to_string(file).expect("a dashboard");
    let dashboard: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let mut asked = Vec::new();
    collect(&dashboard, "", &mut asked);
    asked
}

/// Expressions, each with the title of the panel it belongs to.
fn collect(value: &serde_json::Value, title: &str, asked: &mut Vec<(String, String)>) {
    let name = |it: &serde_json::Value| it.as_str().map(str::to_owned);
    let own = name(&value["title"]).or_else(|| name(&value["name"]));
    let title = own.as_deref().unwrap_or(title);
    if let Some(expression) = value["expr"].as_str() {
        let filled = expression
            .replace("$instance", ".*")
            .replace("$upstream", ".*")
            .replace("$__rate_interval", "30s");
        asked.push((title.to_owned(), filled));
    }
    match value {
        serde_json::Value::Array(items) => {
            items.iter().for_each(|it| collect(it, title, asked));
        }
        serde_json::Value::Object(fields) => {
            fields.values().for_each(|it| collect(it, title, asked));
        }
        _ => {}
    }
}

/// While something is wrong every panel shows something, but for the one of what a kernel lacks. A rate wants
/// two scrapes of what has just begun.
#[track_caller]
fn the_dashboard_is_filled(monitoring: &Monitoring) {
    let panels = panels();
    assert!(panels.len() > 15, "{panels:?}");
    for (title, expression) in panels {
        assert!(!expression.contains('$'), "{title}: {expression}");
        if title == "What kernels do not allow" {
            it_works(monitoring.query(&expression));
        } else {
            it_works(monitoring.wait_for(TOLD, &expression));
        }
    }
}

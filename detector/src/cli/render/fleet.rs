//! `tcpstall fleet`.
//!
//! **Invariant:** the first line alone answers "which, and on how many hosts".

use std::collections::BTreeMap;

use comfy_table::Cell;
use jiff::Timestamp;

use super::{
    table::{Column, numbers, painted, state, table, words},
    units,
};
use crate::{
    cli::fleet::{Fleet, Host, Upstream},
    model::State,
    serve::words::{clean, count},
};

/// Names of hosts in a row.
const MOST: usize = 4;

/// A sentence, then a row per upstream, or per upstream and host.
pub(in crate::cli) fn fleet(fleet: &Fleet, wide: bool) -> String {
    let worst = fleet.upstreams.first().map_or(State::Idle, |it| it.state);
    let mut text = painted(&sentence(fleet), worst);
    text.push('\n');
    let rows: Vec<_> = if wide {
        let each = fleet.upstreams.iter().flat_map(|it| {
            let host = |host| host_row(it, host, fleet.observed_at);
            it.hosts.iter().map(host)
        });
        each.collect()
    } else {
        let each = fleet.upstreams.iter();
        each.map(|it| row(it, fleet.observed_at)).collect()
    };
    if !rows.is_empty() {
        text.push('\n');
        text.push_str(&table(if wide { WIDE } else { NARROW }, rows));
    }
    text
}

/// Who could not be asked.
pub(in crate::cli) fn unreachable(fleet: &Fleet) -> String {
    let names: Vec<_> = fleet.unreachable.iter().map(|it| clean(it)).collect();
    format!(
        "Prometheus cannot reach the tcpstall of {}: {}",
        count(number(names.len()), "host"),
        some(&names)
    )
}

/// Which hosts cannot be told apart.
pub(in crate::cli) fn ambiguous(fleet: &Fleet) -> String {
    let names: Vec<_> = fleet.ambiguous.iter().map(|it| clean(it)).collect();
    format!(
        "several hosts have the same `instance`: {}; let Prometheus call each differently \
         (packaging/prometheus/scrape.yml)",
        some(&names)
    )
}

fn sentence(fleet: &Fleet) -> String {
    const MOST: usize = 5;
    let bad: Vec<_> = fleet
        .upstreams
        .iter()
        .filter(|it| it.bad().count() > 0)
        .collect();
    let total = number(fleet.upstreams.len());
    if bad.is_empty() {
        let judged = fleet.upstreams.iter().filter(|it| it.judged() > 0).count();
        return match (total, number(judged)) {
            (0, _) => "No upstream has been seen yet.".to_owned(),
            (_, 0) => "No upstream has enough traffic to judge on any host.".to_owned(),
            (1, _) => "The only upstream is ok on all hosts that can judge it.".to_owned(),
            (all, judged) if all == judged => {
                format!("All {all} upstreams are ok on all hosts that can judge them.")
            }
            (all, judged) => format!(
                "{judged} of {} ok on all hosts that can judge them; the others have too little \
                 traffic.",
                count(all, "upstream")
            ),
        };
    }
    let mut each: Vec<_> = bad
        .iter()
        .take(MOST)
        .map(|it| {
            format!(
                "{} on {} of {} ({})",
                clean(&it.upstream),
                it.bad().count(),
                count(number(it.judged()), "host"),
                causes(it)
            )
        })
        .collect();
    if bad.len() > MOST {
        each.push(format!("{} more", bad.len() - MOST));
    }
    let verb = if bad.len() == 1 { "is" } else { "are" };
    format!(
        "{} of {} {verb} bad: {}.",
        bad.len(),
        count(total, "upstream"),
        each.join(", ")
    )
}

const NARROW: &[Column] = &[
    words("STATE"),
    words("UPSTREAM"),
    numbers("BAD"),
    numbers("IDLE"),
    words("CAUSES"),
    numbers("FOR"),
    words("BAD ON"),
];

const WIDE: &[Column] = &[
    words("STATE"),
    words("UPSTREAM"),
    words("HOST"),
    words("CAUSE"),
    words("SCOPE"),
    numbers("FOR"),
];

fn row(upstream: &Upstream, now: Timestamp) -> Vec<Cell> {
    let names: Vec<_> = upstream.bad().map(|it| clean(&it.host)).collect();
    let longest = upstream.bad().filter_map(|it| it.since).min();
    let idle = upstream.hosts.len() - upstream.judged();
    vec![
        state(upstream.state),
        Cell::new(clean(&upstream.upstream)),
        Cell::new(format!("{}/{}", names.len(), upstream.judged())),
        Cell::new(idle),
        Cell::new(causes(upstream)),
        Cell::new(age(longest, now)),
        Cell::new(some(&names)),
    ]
}

fn host_row(upstream: &Upstream, host: &Host, now: Timestamp) -> Vec<Cell> {
    let none = || "-".to_owned();
    vec![
        state(host.state),
        Cell::new(clean(&upstream.upstream)),
        Cell::new(clean(&host.host)),
        Cell::new(host.cause.map_or_else(none, |it| it.to_string())),
        Cell::new(host.scope.map_or_else(none, |it| it.to_string())),
        Cell::new(age(host.since, now)),
    ]
}

/// "mtu 12, loss 2".
fn causes(upstream: &Upstream) -> String {
    let mut causes = BTreeMap::<_, u32>::new();
    for cause in upstream.bad().filter_map(|it| it.cause) {
        *causes.entry(cause).or_default() += 1;
    }
    let mut causes: Vec<_> = causes.into_iter().collect();
    causes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let each: Vec<_> = causes
        .into_iter()
        .map(|(cause, count)| format!("{cause} {count}"))
        .collect();
    if each.is_empty() {
        "-".to_owned()
    } else {
        each.join(", ")
    }
}

fn age(since: Option<Timestamp>, now: Timestamp) -> String {
    since.map_or("-".to_owned(), |it| {
        units::age(now.duration_since(it).as_secs_f64())
    })
}

/// A few names, and how many more.
fn some(names: &[String]) -> String {
    match names.len() {
        0 => "-".to_owned(),
        all if all <= MOST => names.join(", "),
        all => format!("{}, {} more", names[..MOST].join(", "), all - MOST),
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fleet::example;

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn upstreams_are_a_row_each() {
        insta::assert_snapshot!(plain(&super::fleet(&example(), false)));
    }

    #[test]
    fn wide_has_a_row_per_upstream_and_host() {
        insta::assert_snapshot!(plain(&super::fleet(&example(), true)));
    }

    #[test]
    fn quiet_fleets_are_a_sentence() {
        let mut fleet = example();
        fleet.upstreams.retain(|it| it.upstream != "provider-b");
        let expected = "1 of 2 upstreams ok on all hosts that can judge them; the others have too \
                        little traffic.";
        assert_eq!(sentence(&fleet), expected);
        fleet.upstreams.retain(|it| it.upstream == "provider-a");
        let expected = "The only upstream is ok on all hosts that can judge it.";
        assert_eq!(sentence(&fleet), expected);
        fleet.upstreams.clear();
        assert_eq!(plain(&super::fleet(&fleet, false)).lines().count(), 1);
    }

    #[test]
    fn those_who_could_not_be_asked_are_named() {
        let mut fleet = example();
        let expected = "Prometheus cannot reach the tcpstall of 1 host: mx6:19293";
        assert_eq!(unreachable(&fleet), expected);
        fleet.unreachable = (0..6).map(|it| format!("mx{it}\x1b")).collect();
        let text = unreachable(&fleet);
        assert!(text.ends_with(r"mx3\u{1b}, 2 more"), "{text}");
        fleet.ambiguous = vec!["127.0.0.1:19293".to_owned()];
        let text = ambiguous(&fleet);
        assert!(
            text.contains("the same `instance`: 127.0.0.1:19293;"),
            "{text}"
        );
    }
}

use super::*;
use crate::{
    cli::render::tests::{stalls, status},
    serve::{Which, example, incidents},
};

fn kept() -> Vec<Incident> {
    let now = Some(example::facts().wall);
    incidents::incidents(&example::incidents(), &Which::default(), now)
}

fn of_now(status: &api::Status, stalls: &[api::Stall]) -> String {
    ticket(&status.upstreams[0], status, stalls, Some(&kept()[0])).text()
}

/// Without the ends of lines.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn trouble_that_goes_on_is_told_to_the_provider() {
    insta::assert_snapshot!(of_now(&status(), &stalls()));
}

#[test]
fn trouble_that_is_over_is_told_to_the_provider() {
    let incident = &kept()[1];
    let upstream = &status().upstreams[0];
    insta::assert_snapshot!(past_ticket(incident, Some(upstream), "mx1").text());
    let link = format!("through the link that we call {}", incident.upstream);
    let gone = past_ticket(incident, None, "mx1");
    assert!(gone.subject.contains(&link), "{}", gone.subject);
    // With several gateways nobody knows any more which one it was.
    let mut several = upstream.clone();
    several.next_hops.push(several.next_hops[0].clone());
    let unsure = past_ticket(incident, Some(&several), "mx1");
    assert!(unsure.subject.contains(&link), "{}", unsure.subject);
}

/// Traffic is moved away, and nobody knows whether the link is well.
#[test]
fn what_has_left_our_sight_is_not_told_as_over() {
    let mut incident = kept().remove(1);
    incident.note = Some("it ended because too little is sent to judge".to_owned());
    let noted = past_ticket(&incident, None, "mx1");
    // The daemon started again, and has not seen it since.
    (incident.note, incident.ended_at) = (None, None);
    let open = past_ticket(&incident, None, "mx1");
    for ticket in [noted, open] {
        let text = ticket
            .text()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        assert!(
            text.contains("do not send enough there to tell whether it is over")
                && text.contains("last seen")
                && !text.contains("were established"),
            "{text}"
        );
    }
}

#[test]
fn trouble_that_is_held_for_a_moment_is_not_overstated() {
    let mut status = status();
    status.upstreams[0].destinations.stalled = 0;
    status.upstreams[0].stalled_destinations.clear();
    let text = of_now(&status, &[]);
    assert!(
        words(&text).contains("which is too soon to call it over")
            && text.contains("  - 0 of 34 destinations stalled\n"),
        "{text}"
    );
}

#[test]
fn the_gateway_is_the_one_that_stuck_connections_were_sent_to() {
    let mut stalls = stalls();
    for stall in &mut stalls {
        stall.nexthop = Some("2001:db8::1".parse().expect("address"));
    }
    let v6 = of_now(&status(), &stalls);
    assert!(
        v6.contains("your gateway 2001:db8::1") && !v6.contains("203.0.113.1"),
        "{v6}"
    );
    stalls[0].nexthop = Some("203.0.113.1".parse().expect("address"));
    let both = of_now(&status(), &stalls);
    assert!(
        both.contains("your gateways 203.0.113.1 and 2001:db8::1 hang"),
        "{both}"
    );
}

#[test]
fn what_speaks_against_it_is_told_to_the_sender() {
    let mut status = status();
    assert_eq!(doubts(&status.upstreams[0], &status), [""; 0]);
    status.upstreams[0].scope = Some(crate::model::Scope::Common);
    status.upstreams[0].counterfactual.fine_elsewhere = 2;
    let doubts = doubts(&status.upstreams[0], &status);
    assert!(
        doubts
            .iter()
            .any(|it| it.contains("4 make no progress through other")),
        "{doubts:?}"
    );
    assert!(
        doubts.iter().any(|it| it.contains("every other upstream")),
        "{doubts:?}"
    );
}

#[test]
fn every_cause_asks_for_something() {
    let mut asked = Vec::new();
    for cause in Cause::ALL {
        let mut page = Page::new(WIDTH);
        ask(&mut page, Some(*cause), "through your gateway", None);
        asked.push(page.text());
    }
    assert!(asked.iter().all(|it| !it.is_empty()));
}

#[test]
fn public_addresses_are_not_said_to_be_translated() {
    let mut stalls = stalls();
    assert!(of_now(&status(), &stalls).contains("you see them translated"));
    for stall in &mut stalls {
        stall.local = "192.0.2.10:40000".parse().expect("address");
    }
    assert!(!of_now(&status(), &stalls).contains("translated"));
}

#[test]
fn nobody_else_learns_of_processes() {
    let text = of_now(&status(), &stalls());
    for ours in ["smtpd", "postfix", "4711", "101"] {
        assert!(!text.contains(ours), "{ours}: {text}");
    }
}

#[test]
fn nothing_from_outside_steers_the_terminal() {
    let bad = "\x1b]0;x\x07\u{202e}\n";
    let mut status = status();
    status.host = bad.to_owned();
    let upstream = &mut status.upstreams[0];
    (upstream.gateway, upstream.interface) = (None, Some(bad.to_owned()));
    let mut incident = kept().remove(1);
    incident.upstream = bad.to_owned();
    let past = past_ticket(&incident, None, bad).text();
    let mut stalls = stalls();
    stalls.iter_mut().for_each(|it| it.nexthop = None);
    for text in [of_now(&status, &stalls), past] {
        let steers = text.lines().any(|it| it.contains(crate::config::hidden));
        assert!(!steers && !text.contains("]0;x\n"), "{text:?}");
    }
}

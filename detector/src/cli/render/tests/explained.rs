//! What `explain` says in each situation, word for word.

use super::*;

/// The host as usual, except that `provider-b` fails for `cause`.
fn failing(cause: Cause) -> (api::Status, Vec<api::Stall>) {
    let mut status = status();
    let b = &mut status.upstreams[0];
    b.cause = Some(cause);
    b.causes = [(cause, 55)].into();
    b.excluded.clear();
    if cause != Cause::Mtu {
        b.evidence.largest_passed_bytes = None;
        b.evidence.smallest_waiting_bytes = None;
    }
    b.orphans = 0;
    let mut stall = stalls().swap_remove(2);
    stall.cause = cause;
    stall.local = "203.0.113.2:40000".parse().expect("address");
    (status, vec![stall])
}

fn explained(situation: &(api::Status, Vec<api::Stall>)) -> String {
    let (status, stalls) = situation;
    let text = explain_upstream(&status.upstreams[0], status, stalls, WIDTH);
    plain(&text)
}

/// The same without line ends.
fn flat(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    words.join(" ")
}

#[test]
fn a_black_hole() {
    let mut it = failing(Cause::Blackhole);
    it.1[0].unreachable = Some("host unreachable".to_owned());
    insta::assert_snapshot!(explained(&it));
}

#[test]
fn large_segments_when_only_small_ones_were_tried() {
    let mut it = failing(Cause::Mtu);
    it.0.upstreams[0].evidence.largest_passed_bytes = Some(31);
    insta::assert_snapshot!(explained(&it));
}

#[test]
fn loss() {
    let mut it = failing(Cause::Loss);
    let b = &mut it.0.upstreams[0];
    b.state = State::Degraded;
    b.evidence.lost = Some(0.12);
    b.evidence.chance = Some(0.000_3);
    b.evidence.leg = Some(api::NextHop {
        interface: "wan2".to_owned(),
        gateway: Some("203.0.113.9".parse().expect("address")),
        netns: example::NETNS,
    });
    it.1[0].retransmits = 1;
    it.1[0].backoff = 0;
    it.1[0].because = "it makes progress and loses most of its time to timeouts".to_owned();
    insta::assert_snapshot!(explained(&it));
}

#[test]
fn the_return_path() {
    let mut it = failing(Cause::ReturnPath);
    it.1[0].duplicates = 7;
    it.1[0].because = "the peer has got data twice, and its word of it is lost".to_owned();
    insta::assert_snapshot!(explained(&it));
}

#[test]
fn a_hole_in_what_arrives() {
    let mut it = failing(Cause::ReceiveHole);
    let b = &mut it.0.upstreams[0];
    b.evidence.receiving = Some(api::Receiving {
        connections: 40,
        fell_silent: 12,
    });
    let stall = &mut it.1[0];
    stall.hole = true;
    stall.received_bytes = 4_000_000;
    stall.last_received_seconds = Some(0.4);
    (stall.unacked_bytes, stall.unsent_bytes, stall.retransmits) = (0, 0, 0);
    (stall.next_try_seconds, stall.gives_up_seconds) = (None, None);
    stall.first_timeout_seconds = None;
    stall.because = "what arrives has a hole that is not filled".to_owned();
    insta::assert_snapshot!(explained(&it));
}

#[test]
fn a_silent_neighbour() {
    let mut it = failing(Cause::Neighbour);
    it.1[0].unreachable = Some("host unreachable".to_owned());
    it.1[0].because = "the next hop does not answer".to_owned();
    insta::assert_snapshot!(explained(&it));
}

#[test]
fn this_host_itself() {
    let mut it = failing(Cause::Local);
    it.1[0].because = "the kernel refuses to send it".to_owned();
    it.1[0].user_timeout_seconds = Some(30.0);
    it.1[0].gives_up_seconds = Some(21.0);
    insta::assert_snapshot!(explained(&it));
}

#[test]
fn nobody_knows() {
    let mut it = failing(Cause::Unknown);
    // An old daemon, or one that has just started, knows no figures.
    it.0.upstreams[0].evidence = api::Evidence::default();
    it.1[0].because = "none of the known patterns fits".to_owned();
    (it.1[0].next_try_seconds, it.1[0].gives_up_seconds) = (None, None);
    insta::assert_snapshot!(explained(&it));
}

#[test]
fn everything_at_once_is_looked_for_on_this_host_first() {
    let mut it = failing(Cause::Blackhole);
    it.0.scope = Some(Scope::Common);
    it.0.upstreams[0].scope = Some(Scope::Common);
    it.0.upstreams[1].state = State::Failing;
    it.0.upstreams[1].destinations.stalled = 60;
    insta::assert_snapshot!(explained(&it));
}

#[test]
fn nothing_to_judge() {
    let status = status();
    let text = explain_upstream(&status.upstreams[2], &status, &[], WIDTH);
    insta::assert_snapshot!(plain(&text));
}

#[test]
fn too_little_to_judge() {
    let mut status = status();
    let vpn = &mut status.upstreams[2];
    vpn.connections.active = 2;
    vpn.destinations = api::Destinations {
        active: 2,
        stalled: 1,
    };
    let text = explain_upstream(&status.upstreams[2], &status, &[], WIDTH);
    let text = flat(&plain(&text));
    for words in [
        "2 connections through it, of which 2 sent something lately",
        "2 destinations had something to send lately",
        "1 of 2 destinations stalled; that can be the far ends' own trouble",
    ] {
        assert!(text.contains(words), "{words}:\n{text}");
    }
}

#[test]
fn fine_with_one_that_is_stalled() {
    let mut status = status();
    let a = &mut status.upstreams[1];
    a.destinations.stalled = 1;
    a.connections.stalled = 1;
    a.evidence.lost = Some(0.001);
    let text = explain_upstream(&status.upstreams[1], &status, &[], WIDTH);
    let text = flat(&plain(&text));
    for words in [
        "1 in 1,000 segments were lost lately",
        "1 of 71 destinations stalled: no more than usual (usually 1 in 50",
        "1 connection stalled, 0 suspect",
    ] {
        assert!(text.contains(words), "{words}:\n{text}");
    }
    assert!(!text.contains("What to check next"), "{text}");
}

#[test]
fn what_is_left_of_a_closed_connection() {
    let stalls = stalls();
    insta::assert_snapshot!(plain(&explain_connection(&stalls[4], &status(), WIDTH)));
}

#[test]
fn a_peer_that_answers_probes_is_not_given_up() {
    let reader = stalls().swap_remove(3);
    assert!(reader.gives_up_seconds.is_some(), "one probe is on its way");
    let text = flat(&plain(&explain_connection(&reader, &status(), WIDTH)));
    assert!(!text.contains("the kernel gives it up"), "{text}");
    assert!(text.contains("does not give it up as long as"), "{text}");
    let limited = api::Stall {
        user_timeout_seconds: Some(30.0),
        ..reader
    };
    let text = flat(&plain(&explain_connection(&limited, &status(), WIDTH)));
    assert!(
        text.contains("has set TCP_USER_TIMEOUT to 30.0 s"),
        "{text}"
    );
}

#[test]
fn every_line_ends_where_the_terminal_does_except_commands() {
    let status = status();
    let stalls = stalls();
    for width in [40, 80, 132] {
        let text = explain_upstream(&status.upstreams[0], &status, &stalls, width)
            + &explain_connection(&stalls[0], &status, width)
            + &summary(&with_states(&[State::Failing; 8]), width);
        for line in plain(&text).lines() {
            let command = line.starts_with("       ") && !line.contains(" ago  ");
            let fits = line.chars().count() <= width;
            assert!(
                fits || command || line.split_whitespace().count() <= 2,
                "{width}: {line}"
            );
        }
    }
}

#[test]
fn when_all_that_is_in_use_belongs_to_one_site_it_may_be_that() {
    let net = |text: &str| crate::model::Destination(text.parse().expect("a prefix"));
    let mut it = failing(Cause::Blackhole);
    let b = &mut it.0.upstreams[0];
    b.stalled_destinations = ["100.7.0.0/24", "100.7.1.0/24", "100.7.2.0/24"]
        .map(net)
        .into();
    b.fine_destinations = vec![net("100.7.3.0/24")];
    b.destinations = api::Destinations {
        active: 4,
        stalled: 3,
    };
    let says = |it: &_| flat(&explained(it)).contains("belong to one site, 100.7.0.0/16: it may");
    assert!(says(&it), "{}", explained(&it));
    it.0.upstreams[0].destinations.active = 5;
    assert!(!says(&it), "one more, of which nothing is known");
    it.0.upstreams[0].destinations.active = 4;
    it.0.upstreams[0].fine_destinations = vec![net("100.8.3.0/24")];
    assert!(!says(&it), "another site does well");
}

#[test]
fn of_a_link_that_is_known_to_pause_it_is_said_how_long_it_may() {
    let mut status = status();
    let a = &mut status.upstreams[1];
    a.evidence.usual_pause_seconds = Some(8.0);
    let text = explain_upstream(&status.upstreams[1], &status, &[], WIDTH);
    let text = flat(&plain(&text));
    let expected = "when everything stops at once, that is left out for its first 8.0 s";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn an_id_is_found_by_its_beginning_if_that_is_the_only_one() {
    let stalls = stalls();
    let find = |id| super::find(&stalls, id).map(|it| it.id.as_str());
    assert_eq!(find("c-7f3a9c03"), Ok("c-7f3a9c03"));
    assert_eq!(
        find("c-7f3a"),
        Err(
            "c-7f3a is the beginning of 5 connections, give more of it: c-7f3a9c01, c-7f3a9c02, \
             c-7f3a9c03, c-7f3a9c04, c-7f3a9c05"
                .to_owned()
        )
    );
    let none = find("c-9").expect_err("there is none");
    assert!(
        none.starts_with("c-9 is neither stalled nor suspect now"),
        "{none}"
    );
    let mut longer = stalls.clone();
    longer[1].id = "c-7f3a9c011".to_owned();
    let exact = super::find(&longer, "c-7f3a9c01").map(|it| it.id.as_str());
    assert_eq!(exact, Ok("c-7f3a9c01"), "the whole id means itself");
}

#[test]
fn commands_name_the_broken_leg() {
    let (mut status, stalls) = failing(Cause::Neighbour);
    status.upstreams[0].evidence.leg = Some(api::NextHop {
        interface: "wan9".to_owned(),
        gateway: Some("2001:db8::1".parse().expect("address")),
        netns: example::NETNS,
    });
    let text = explained(&(status, stalls));
    assert!(text.contains("ip neigh show dev wan9"), "{text}");
    assert!(text.contains("ndisc6 2001:db8::1 wan9"), "{text}");
}

#[test]
fn no_command_is_named_that_does_not_exist() {
    use clap::CommandFactory as _;
    let command = crate::cli::Cli::command();
    let known: Vec<_> = command.get_subcommands().map(|it| it.get_name()).collect();
    for cause in Cause::ALL {
        let text = explained(&failing(*cause));
        for part in text.split("tcpstall ").skip(1) {
            let word = part.split([' ', '`', '\n']).next().unwrap_or_default();
            let verb = word.ends_with('s') && !known.contains(&word);
            assert!(known.contains(&word) || verb, "{cause}: tcpstall {word}");
        }
    }
}

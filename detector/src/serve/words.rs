//! Causes and counts in plain words, the same in events, in `explain` and in tables.
//!
//! **Invariant:** pure; nothing from outside is repeated without being escaped.

use crate::{
    api::Destinations,
    config::hidden,
    model::{Cause, Scope, State},
};

/// What a cause means, as a clause: "only large segments vanish".
pub fn meaning(cause: Cause) -> &'static str {
    match cause {
        Cause::Blackhole => "nothing comes back",
        Cause::Mtu => "only large segments vanish",
        Cause::Loss => "most packets are lost, a few get through",
        Cause::ReturnPath => "data arrives there, acknowledgements do not come back",
        Cause::ReceiveHole => "data arrives with a hole that never fills",
        Cause::ZeroWindow => "the peers do not read",
        Cause::Neighbour => "the next hop does not answer ARP or neighbour discovery",
        Cause::Local => "packets do not leave this host",
        Cause::Unknown => "no known pattern fits",
    }
}

/// The clause and the word: "only large segments vanish (mtu)".
pub fn cause(cause: Cause) -> String {
    format!("{} ({cause})", meaning(cause))
}

/// "31 of 34 destinations stalled".
pub fn stalled(destinations: Destinations) -> String {
    let Destinations { active, stalled } = destinations;
    format!("{stalled} of {} stalled", count(active, "destination"))
}

/// "1 destination", "2 destinations".
pub fn count(number: u32, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// What the kernel was told of the way to a peer, as a noun phrase; an errno from
/// `net/ipv4/icmp.c`, `icmp_err_convert`, or `net/ipv6/icmp.c`, `tab_unreach`.
pub fn unreachable(errno: i32) -> String {
    match errno {
        libc::ENETUNREACH | libc::ENONET => "network unreachable".to_owned(),
        libc::EHOSTUNREACH | libc::EHOSTDOWN => "host unreachable".to_owned(),
        libc::ECONNREFUSED => "port unreachable".to_owned(),
        libc::ENOPROTOOPT => "protocol unreachable".to_owned(),
        libc::EACCES => "prohibited by an administrator".to_owned(),
        libc::EMSGSIZE => "packet too big".to_owned(),
        other => format!("error {other}"),
    }
}

/// A change of an upstream in one sentence.
pub fn change(
    upstream: &str,
    from: State,
    to: State,
    why: (Option<Scope>, Option<Cause>),
    destinations: Destinations,
) -> String {
    let (scope, reason) = why;
    let mut text = clean(upstream);
    text.push_str(&match to {
        State::Ok if matches!(from, State::Degraded | State::Failing) => " is ok again".to_owned(),
        State::Idle => " has too little traffic to judge".to_owned(),
        _ if from == to => format!(" is still {to}"),
        _ => format!(" is {to}"),
    });
    if let Some(reason) = reason {
        text.push_str(": ");
        text.push_str(&cause(reason));
    }
    if destinations.active > 0 {
        text.push_str("; ");
        text.push_str(&stalled(destinations));
    }
    if scope == Some(Scope::Common) {
        text.push_str("; every other upstream that can be judged is bad too");
    }
    text.push('.');
    text
}

/// The text without anything that could steer a terminal or hide something.
pub fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for char in text.chars() {
        if hidden(char) {
            clean.extend(char.escape_unicode());
        } else {
            clean.push(char);
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_sentences() {
        let d = |active, stalled| Destinations { active, stalled };
        for (from, to, why, destinations, expected) in [
            (
                State::Ok,
                State::Failing,
                (Some(Scope::Upstream), Some(Cause::Mtu)),
                d(34, 31),
                "b is failing: only large segments vanish (mtu); 31 of 34 destinations stalled.",
            ),
            (
                State::Idle,
                State::Degraded,
                (Some(Scope::Common), None),
                d(1, 1),
                "b is degraded; 1 of 1 destination stalled; every other upstream that can be \
                 judged is bad too.",
            ),
            (
                State::Failing,
                State::Failing,
                (Some(Scope::Upstream), Some(Cause::Loss)),
                d(0, 0),
                "b is still failing: most packets are lost, a few get through (loss).",
            ),
            (
                State::Failing,
                State::Ok,
                (None, None),
                d(34, 0),
                "b is ok again; 0 of 34 destinations stalled.",
            ),
            (State::Idle, State::Ok, (None, None), d(0, 0), "b is ok."),
            (
                State::Ok,
                State::Idle,
                (None, None),
                d(0, 0),
                "b has too little traffic to judge.",
            ),
        ] {
            assert_eq!(change("b", from, to, why, destinations), expected);
        }
    }

    #[test]
    fn reports_of_routers_are_words() {
        assert_eq!(unreachable(113), "host unreachable");
        assert_eq!(unreachable(101), "network unreachable");
        assert_eq!(unreachable(13), "prohibited by an administrator");
        assert_eq!(unreachable(7777), "error 7777");
    }

    #[test]
    fn nothing_reaches_a_terminal_that_could_steer_it() {
        assert_eq!(clean("a\x1b[2J\u{202e}é\n"), r"a\u{1b}[2J\u{202e}é\u{a}");
    }
}

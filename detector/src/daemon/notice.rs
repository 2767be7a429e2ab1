//! PURE. Which changes of links and neighbours are worth a mark beside an incident, in words.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    incident::marks::Subject,
    model::{IfIndex, Input, Interface, NetnsId, NextHop, Reachability, Snapshot},
    sense::topology::Moved,
};

/// What was known before.
#[derive(Debug, Default)]
pub(super) struct Notice {
    links: BTreeMap<(NetnsId, IfIndex), Interface>,
    /// Next hops in use. A neighbour that is none does not matter: on a large link there are many.
    hops: BTreeSet<NextHop>,
    silent: BTreeSet<NextHop>,
    /// What was there at the start has been told.
    settled: bool,
}

impl Notice {
    /// Which next hops are in use.
    pub(super) fn look(&mut self, snapshot: &Snapshot) {
        self.settled = true;
        let upstreams = snapshot.upstreams.iter();
        self.hops = upstreams
            .flat_map(|it| it.next_hops.keys().copied())
            .collect();
        self.silent.retain(|hop| self.hops.contains(hop));
    }

    /// The change in words; `None` when it is none, or does not matter.
    pub(super) fn of(&mut self, input: &Input) -> Option<(Subject, String)> {
        match input {
            Input::Interface(netns, index, now) => {
                let before = match now {
                    Some(now) => self.links.insert((*netns, *index), now.clone()),
                    None => self.links.remove(&(*netns, *index)),
                };
                let words = link(before.as_ref(), now.as_ref())?;
                self.settled.then_some((Subject::Link, words))
            }
            Input::Neighbour(hop, reachability) => {
                let words = match reachability {
                    Some(Reachability::Silent) => (self.hops.contains(hop)
                        && self.silent.insert(*hop))
                    .then_some("does not answer on"),
                    Some(Reachability::Answers) => {
                        self.silent.remove(hop).then_some("answers again on")
                    }
                    None => None,
                }?;
                let words = format!("next hop {} {words} {}", hop.gateway?, self.link_of(hop));
                Some((Subject::Neighbour, words))
            }
            _ => None,
        }
    }

    /// A neighbour that has moved, in words; `None` when it is no next hop in use.
    pub(super) fn of_move(&self, moved: &Moved) -> Option<String> {
        let Moved { hop, from, to } = moved;
        let gateway = self.hops.contains(hop).then_some(hop.gateway)??;
        let link = self.link_of(hop);
        Some(format!(
            "next hop {gateway} on {link} changed its hardware address from {from} to {to}"
        ))
    }

    fn link_of(&self, hop: &NextHop) -> &str {
        let link = self.links.get(&(hop.netns, hop.interface));
        link.map_or("its link", |it| &it.name)
    }
}

fn link(before: Option<&Interface>, now: Option<&Interface>) -> Option<String> {
    match (before, now) {
        (None, Some(new)) => {
            let up = if new.up { "up" } else { "down" };
            Some(format!("link {} was added, {up}", new.name))
        }
        (Some(old), None) => Some(format!("link {} was removed", old.name)),
        (Some(old), Some(new)) if old.name != new.name => {
            Some(format!("link {} was renamed to {}", old.name, new.name))
        }
        (Some(old), Some(new)) if old.up != new.up => {
            let up = if new.up { "came up" } else { "went down" };
            Some(format!("link {} {up}", new.name))
        }
        (Some(_), Some(_)) | (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::example::{self, NETNS};

    const WAN: IfIndex = IfIndex(3);

    fn interface(name: &str, up: bool) -> Input {
        let interface = Interface {
            name: name.to_owned(),
            up,
            ..Interface::default()
        };
        Input::Interface(NETNS, WAN, Some(interface))
    }

    fn hop(last: u8) -> NextHop {
        NextHop {
            netns: NETNS,
            interface: WAN,
            gateway: Some(std::net::Ipv4Addr::new(203, 0, 113, last).into()),
        }
    }

    fn neighbour(last: u8, reachability: Option<Reachability>) -> Input {
        Input::Neighbour(hop(last), reachability)
    }

    /// A host that has seen its links and one judgement.
    fn settled() -> Notice {
        let mut notice = Notice::default();
        assert_eq!(notice.of(&interface("wan1", true)), None, "it was there");
        notice.look(&example::snapshot());
        notice
    }

    #[test]
    fn links_that_change_are_told() {
        let mut notice = settled();
        for (input, expected) in [
            (interface("wan1", false), Some("link wan1 went down")),
            (interface("wan1", false), None),
            (interface("wan1", true), Some("link wan1 came up")),
            (
                interface("wan9", true),
                Some("link wan1 was renamed to wan9"),
            ),
            (
                Input::Interface(NETNS, WAN, None),
                Some("link wan9 was removed"),
            ),
            (interface("wan1", true), Some("link wan1 was added, up")),
            (Input::Tick, None),
        ] {
            let words = notice.of(&input).map(|(_, words)| words);
            assert_eq!(words.as_deref(), expected, "{input:?}");
        }
    }

    #[test]
    fn a_next_hop_that_falls_silent_is_told_once_and_when_it_answers() {
        use Reachability::{Answers, Silent};
        let mut notice = settled();
        for (input, expected) in [
            (neighbour(1, Some(Answers)), None),
            (
                neighbour(1, Some(Silent)),
                Some("next hop 203.0.113.1 does not answer on wan1"),
            ),
            (neighbour(1, Some(Silent)), None),
            (neighbour(1, None), None),
            (
                neighbour(1, Some(Answers)),
                Some("next hop 203.0.113.1 answers again on wan1"),
            ),
            (neighbour(77, Some(Silent)), None),
            (neighbour(77, Some(Answers)), None),
        ] {
            let words = notice.of(&input).map(|(_, words)| words);
            assert_eq!(words.as_deref(), expected, "{input:?}");
        }
    }

    #[test]
    fn a_next_hop_that_moves_is_told_and_any_other_neighbour_is_not() {
        let notice = settled();
        let moved = |last| Moved {
            hop: hop(last),
            from: "02:00:00:00:00:0a".to_owned(),
            to: "02:00:00:00:00:0b".to_owned(),
        };
        let words = "next hop 203.0.113.1 on wan1 changed its hardware address \
                     from 02:00:00:00:00:0a to 02:00:00:00:00:0b";
        assert_eq!(notice.of_move(&moved(1)).as_deref(), Some(words));
        assert_eq!(notice.of_move(&moved(77)), None);
    }
}

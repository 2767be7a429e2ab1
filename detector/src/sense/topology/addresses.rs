//! Hardware addresses of neighbours, and which of them change: another router has taken over.
//!
//! **Invariant:** however many neighbours there are, few are remembered.

use std::collections::BTreeMap;

use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage};

use crate::model::NextHop;

/// Neighbours that are remembered.
const KEPT: usize = 4096;
/// Changes that are told between two calls of [`Addresses::take`].
const TOLD: usize = 20;

/// A neighbour is at another hardware address than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The neighbour.
    pub hop: NextHop,
    /// Where it was, such as "02:00:5e:00:01:0a".
    pub from: String,
    /// Where it is.
    pub to: String,
}

/// What is known of neighbours. One that the kernel has forgotten is remembered: it may come back
/// at another address.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    known: BTreeMap<NextHop, Vec<u8>>,
    moved: Vec<Moved>,
}

impl Addresses {
    /// A neighbour's entry was set. One that is being looked for has no address, which is no news.
    pub(super) fn note(&mut self, hop: NextHop, neighbour: &NeighbourMessage) {
        let attributes = neighbour.attributes.iter();
        let address = attributes
            .filter_map(|attribute| match attribute {
                NeighbourAttribute::LinkLayerAddress(address) => Some(address),
                _ => None,
            })
            .next();
        let Some(to) = address.filter(|it| !it.is_empty()) else {
            return;
        };
        // All that is lost with it are a few marks.
        if self.known.len() >= KEPT && !self.known.contains_key(&hop) {
            self.known.clear();
        }
        let from = self.known.insert(hop, to.clone());
        if let Some(from) = from.filter(|from| from != to && self.moved.len() < TOLD) {
            let (from, to) = (words(&from), words(to));
            self.moved.push(Moved { hop, from, to });
        }
    }

    /// Who has moved since the last call.
    pub(super) fn take(&mut self) -> Vec<Moved> {
        std::mem::take(&mut self.moved)
    }
}

fn words(address: &[u8]) -> String {
    let bytes: Vec<_> = address.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{IfIndex, NetnsId};

    const OLD: [u8; 6] = [2, 0, 0x5e, 0, 1, 10];
    const NEW: [u8; 6] = [2, 0, 0x5e, 0, 1, 11];

    fn hop(number: u32) -> NextHop {
        NextHop {
            netns: NetnsId(1),
            interface: IfIndex(2),
            gateway: Some(std::net::Ipv4Addr::from(number).into()),
        }
    }

    fn at(address: &[u8]) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        let address = NeighbourAttribute::LinkLayerAddress(address.to_vec());
        message.attributes.push(address);
        message
    }

    #[test]
    fn who_is_at_another_address_has_moved() {
        let mut addresses = Addresses::default();
        addresses.note(hop(1), &at(&OLD));
        addresses.note(hop(1), &at(&OLD));
        addresses.note(hop(2), &at(&NEW));
        addresses.note(hop(1), &NeighbourMessage::default());
        assert_eq!(addresses.take(), [], "nobody has");
        addresses.note(hop(1), &at(&NEW));
        let moved = Moved {
            hop: hop(1),
            from: "02:00:5e:00:01:0a".to_owned(),
            to: "02:00:5e:00:01:0b".to_owned(),
        };
        assert_eq!(addresses.take(), [moved]);
        addresses.note(hop(1), &at(&NEW));
        assert_eq!(addresses.take(), [], "it is told once");
    }

    #[test]
    fn on_a_large_link_few_are_remembered() {
        let mut addresses = Addresses::default();
        for number in 0..3 * KEPT as u32 {
            addresses.note(hop(number), &at(&OLD));
            assert!(addresses.known.len() <= KEPT);
        }
        for number in 3 * KEPT as u32 - 2 * TOLD as u32..3 * KEPT as u32 {
            addresses.note(hop(number), &at(&NEW));
        }
        assert_eq!(addresses.take().len(), TOLD);
    }
}

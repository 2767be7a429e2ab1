//! What breaks at an upstream, and for whom.

use super::{
    random::mix,
    way::{Block, Way},
};

/// Bytes of a packet that are not data: addresses, ports, timestamps.
const HEADERS: u32 = 52;

/// What happens to packets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// All vanish, in both directions.
    Blackhole,
    /// Those with more bytes vanish.
    Mtu(u32),
    /// This share vanishes on the way there.
    Loss(f64),
    /// This share of the acknowledgements vanishes.
    ReturnPath(f64),
    /// The gateway does not answer on its link.
    Neighbour,
    /// They do not leave the host.
    Local,
}

/// What breaks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fault {
    /// What happens to packets.
    pub kind: Kind,
    /// To this share of the connections, by their ports: one path of several.
    pub connections: f64,
    /// To this share of the destinations.
    pub destinations: f64,
    /// Decides which.
    pub salt: u64,
}

impl Fault {
    /// Whether a connection meets it.
    pub fn hits(&self, connection: u64, destination: usize) -> bool {
        self.lot(connection.wrapping_mul(3)) < self.connections
            && self.lot(mix(destination as u64)) < self.destinations
    }

    /// A number from 0 to 1 that is drawn once for each.
    fn lot(&self, number: u64) -> f64 {
        mix(number ^ self.salt) as f64 / u64::MAX as f64
    }

    /// Of these destinations the share is hit as it is said, not about so many by chance.
    pub fn hit_exactly(&mut self, destinations: &[usize]) {
        if self.destinations >= 1.0 {
            return;
        }
        let mut lots: Vec<_> = destinations
            .iter()
            .map(|destination| self.lot(mix(*destination as u64)))
            .collect();
        lots.sort_by(f64::total_cmp);
        let count = (self.destinations * lots.len() as f64).round() as usize;
        self.destinations = lots.get(count).copied().unwrap_or(1.0);
    }

    /// What a way becomes that it hits.
    pub fn apply(&self, way: &mut Way) {
        match self.kind {
            Kind::Blackhole => way.block = Some(Block::Hole),
            Kind::Mtu(bytes) => way.limit = Some(bytes.saturating_sub(HEADERS)),
            Kind::Loss(share) => way.lose(share, 0.0),
            Kind::ReturnPath(share) => way.lose(0.0, share),
            Kind::Neighbour => way.block = Some(Block::Neighbour),
            Kind::Local => way.block = Some(Block::Local),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_connections_is_hit_and_the_same_ones_each_time() {
        let fault = Fault {
            kind: Kind::Blackhole,
            connections: 0.25,
            destinations: 1.0,
            salt: 7,
        };
        let hit = |id: u64| fault.hits(id, (id % 9) as usize);
        let count = (0..10_000).filter(|id| hit(*id)).count();
        assert!((2_300..2_700).contains(&count), "{count}");
        assert!((0..100).all(|id| hit(id) == hit(id)));
    }

    #[test]
    fn a_share_of_the_destinations_is_hit_with_all_their_connections() {
        let fault = Fault {
            kind: Kind::Blackhole,
            connections: 1.0,
            destinations: 0.5,
            salt: 7,
        };
        let count = (0..1_000).filter(|number| fault.hits(1, *number)).count();
        assert!((430..570).contains(&count), "{count}");
        assert!((0..100).all(|id| fault.hits(id, 5) == fault.hits(0, 5)));
        for salt in 0..50 {
            let few = [3, 1, 4, 15, 92, 65];
            let mut fault = Fault { salt, ..fault };
            fault.hit_exactly(&few);
            assert_eq!(few.iter().filter(|it| fault.hits(1, **it)).count(), 3);
        }
    }
}

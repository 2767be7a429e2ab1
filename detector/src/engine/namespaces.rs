//! PURE. Network namespaces that are cut off: what hangs there is not held against the upstream.
//!
//! A container whose cable, bridge or policy has failed has connections that hang through every
//! upstream, while those of the host and of others get through the same next hop to the same
//! destinations. An upstream that loses some of its paths takes from all alike.

use std::collections::{BTreeMap, BTreeSet};

use super::{connection::Connection, passes::MEMORY, tally::SLACK};
use crate::{
    model::{Destination, NetnsId},
    time::Time,
};

/// How unlikely it must be that an upstream took these connections and hardly any other.
const CHANCE: f64 = 1e-4;
/// Destinations that others must have reached since.
const WITNESSES: usize = 3;

/// When something last got through from each destination to each namespace, at one next hop.
#[derive(Debug, Clone, Default)]
pub struct Heard(BTreeMap<(NetnsId, Destination), Time>);

impl Heard {
    /// Something got through.
    pub fn note(&mut self, netns: NetnsId, destination: Destination, at: Time) {
        let last = self.0.entry((netns, destination)).or_default();
        *last = at.max(*last);
    }

    /// Forgets what is too old.
    pub fn forget(&mut self, now: Time) {
        self.0.retain(|_, at| now.since(*at) <= MEMORY);
    }

    /// Namespaces that are cut off, of those whose packets are sent on by `own`; `stuck` are all that
    /// hang at this next hop.
    ///
    /// Each of them, and all of them together, since a bridge may carry many.
    pub fn cut_off(&self, own: NetnsId, stuck: &[&Connection]) -> BTreeSet<NetnsId> {
        let others: BTreeSet<_> = stuck
            .iter()
            .map(|it| it.sample.netns)
            .filter(|netns| *netns != own)
            .collect();
        if others.len() > 1 && self.is_cut_off(|netns| netns != own, stuck) {
            return others;
        }
        let alone = |netns: &NetnsId| self.is_cut_off(|it| it == *netns, stuck);
        others.into_iter().filter(alone).collect()
    }

    /// Whether nothing gets through to these namespaces, and it would be chance if that were the
    /// upstream's doing: were connections taken at random, with the share of destinations that hang
    /// for the others, it would hardly ever take all of these.
    fn is_cut_off(&self, is_theirs: impl Fn(NetnsId) -> bool, stuck: &[&Connection]) -> bool {
        let heard = self.0.iter();
        let (theirs, others): (Vec<_>, Vec<_>) = heard.partition(|((it, _), _)| is_theirs(*it));
        let silent_since = theirs.into_iter().map(|(_, at)| at.before(SLACK)).max();
        let (theirs, hang): (Vec<&Connection>, Vec<_>) =
            stuck.iter().partition(|it| is_theirs(it.sample.netns));
        let theirs = theirs
            .into_iter()
            .filter(|it| Some(it.began()) >= silent_since);
        let Some(began) = theirs.clone().map(Connection::began).min() else {
            return false;
        };
        let trip = theirs.clone().filter_map(|it| it.sample.srtt).max();
        let since = began.after((trip.unwrap_or_default() * 5 / 4).max(SLACK));
        let taken: BTreeSet<_> = theirs.map(|it| it.destination).collect();
        let hang: BTreeSet<_> = hang.into_iter().map(|it| it.destination).collect();
        let reached = others.into_iter().filter(|(_, at)| **at > since);
        let reached: BTreeSet<_> = reached.map(|((_, destination), _)| destination).collect();
        let share = (hang.len() + 1) as f64 / (hang.len() + reached.len() + 1) as f64;
        let chance = taken.iter().fold(1.0, |chance, _| chance * share);
        reached.len() >= WITNESSES && chance < CHANCE
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        engine::tests::{samples, world::destination},
        model::{ConnectionId, Phase, Sample},
    };

    const NOW: Time = Time(500_000_000_000);
    const OWN: NetnsId = NetnsId(1);

    fn ago(milliseconds: u64) -> Time {
        NOW.before(Duration::from_millis(milliseconds))
    }

    /// Connections of a namespace that hang since so long ago.
    fn hanging(netns: u32, to: std::ops::Range<u16>, milliseconds: u64) -> Vec<Connection> {
        let one = |number: u16| {
            let sample = Sample {
                id: ConnectionId(u64::from(number)),
                netns: NetnsId(netns),
                at: NOW,
                sent_at: ago(500),
                stuck_since: Some(ago(milliseconds)),
                unacked: 1000,
                packets_out: 1,
                timeouts: 3,
                ..samples::any()
            };
            let (mut connection, _) = Connection::new(sample, 0);
            connection.destination = destination(number);
            connection.phase = Some(Phase::Stalled);
            connection
        };
        to.map(one).collect()
    }

    /// What got through to a namespace so long ago.
    fn heard(of: &[(u32, std::ops::Range<u16>, u64)]) -> Heard {
        let mut heard = Heard::default();
        for (netns, to, milliseconds) in of {
            for number in to.clone() {
                heard.note(NetnsId(*netns), destination(number), ago(*milliseconds));
            }
        }
        heard
    }

    fn cut_off(heard: &Heard, stuck: &[Vec<Connection>]) -> Vec<u32> {
        let stuck: Vec<_> = stuck.iter().flatten().collect();
        let found = heard.cut_off(OWN, &stuck).into_iter();
        found.map(|netns| netns.0).collect()
    }

    #[test]
    fn one_that_hangs_altogether_while_others_get_through_is_cut_off() {
        let stuck = [hanging(2, 0..10, 2000)];
        let well = (1, 0..10, 100);
        assert_eq!(cut_off(&heard(std::slice::from_ref(&well)), &stuck), [2]);
        let before = (2, 0..10, 2100);
        assert_eq!(cut_off(&heard(&[well.clone(), before]), &stuck), [2]);
        let since = (2, 3..4, 1600);
        let partly = heard(&[well.clone(), since]);
        assert!(cut_off(&partly, &stuck).is_empty(), "one got through");
        let all_hang = [stuck[0].clone(), hanging(1, 0..10, 2000)];
        let earlier = heard(&[(1, 0..10, 1701)]);
        assert!(
            cut_off(&earlier, &all_hang).is_empty(),
            "nobody gets through"
        );
        assert!(
            cut_off(&earlier, &stuck).is_empty(),
            "nor is anything heard"
        );
        let few = heard(&[(1, 0..2, 100)]);
        assert!(cut_off(&few, &stuck).is_empty(), "two others");
    }

    #[test]
    fn it_takes_so_many_that_it_is_no_chance() {
        let well = heard(&[(1, 0..20, 100)]);
        assert_eq!(cut_off(&well, &[hanging(2, 0..4, 2000)]), [2]);
        assert!(cut_off(&well, &[hanging(2, 0..3, 2000)]).is_empty());
        let twice = [hanging(2, 0..2, 2000), hanging(2, 0..2, 2000)].concat();
        assert!(cut_off(&well, &[twice]).is_empty(), "to two destinations");
        let half = [hanging(2, 0..8, 2000), hanging(1, 20..40, 2000)];
        assert!(cut_off(&well, &half).is_empty(), "half of the paths");
        let many = [hanging(2, 0..18, 2000), hanging(1, 20..40, 2000)];
        assert_eq!(cut_off(&well, &many), [2], "and all of these, by chance?");
    }

    #[test]
    fn containers_with_a_connection_each_are_judged_together() {
        let well = (1, 0..10, 100);
        let pods: Vec<_> = (2..12)
            .map(|netns| hanging(netns, netns as u16..netns as u16 + 1, 2000))
            .collect();
        let all: Vec<_> = (2..12).collect();
        assert_eq!(cut_off(&heard(std::slice::from_ref(&well)), &pods), all);
        let one_works = heard(&[well, (20, 0..1, 100)]);
        assert!(cut_off(&one_works, &pods).is_empty(), "some paths, perhaps");
    }

    #[test]
    fn what_the_host_itself_does_not_hear_is_nobodys_cable() {
        let containers = heard(&[(2, 0..10, 100)]);
        assert!(cut_off(&containers, &[hanging(1, 0..10, 2000)]).is_empty());
    }

    #[test]
    fn one_that_has_been_silent_before_is_asked_since_it_hangs() {
        // It had nothing to send for ten seconds; then the upstream broke.
        let quiet = heard(&[(2, 0..10, 12_000), (1, 0..10, 2100)]);
        assert!(cut_off(&quiet, &[hanging(2, 0..10, 2000)]).is_empty());
    }

    #[test]
    fn what_is_old_is_forgotten() {
        let mut old = heard(&[(1, 0..10, 61_000), (2, 0..1, 59_000)]);
        old.forget(NOW);
        assert_eq!(old.0.len(), 1);
    }
}

//! PURE. Network namespaces that are cut off: what hangs there is not held against the upstream.
//!
//! A container whose cable, bridge or policy has failed has connections that hang, whatever their
//! upstream, while those of the host and of others get through to the same destinations. An upstream
//! that loses some of its paths takes from all alike.

use std::collections::{BTreeMap, BTreeSet};

use super::{connection::Connection, passes::Passes, tally::SLACK};
use crate::{
    model::{ConnectionId, Destination, NetnsId, NextHop},
    time::Time,
};

/// How unlikely it must be that an upstream took these connections and left the others.
const CHANCE: f64 = 1e-6;

/// A connection that hangs, and what got through at its next hop.
#[derive(Debug, Clone, Copy)]
pub struct Hanging<'a> {
    /// The connection.
    pub connection: &'a Connection,
    /// The next hop in force when it began to.
    pub next_hop: NextHop,
    /// What got through there, to anybody.
    pub passes: &'a Passes,
}

impl Hanging<'_> {
    fn netns(&self) -> NetnsId {
        self.connection.sample.netns
    }

    /// Whether the namespace's packets are sent on by another.
    fn is_elsewhere(&self) -> bool {
        self.netns() != self.next_hop.netns
    }

    fn place(&self) -> (NextHop, Destination) {
        (self.next_hop, self.connection.destination)
    }

    /// What is acknowledged later was sent after it began to hang.
    fn began_for_sure(&self) -> Time {
        let trip = self.connection.sample.srtt.unwrap_or_default() * 5 / 4;
        self.connection.began().after(trip.max(SLACK))
    }
}

/// Connections that hang because their namespace is cut off. `heard` is when something last got through
/// to each namespace, by any way.
///
/// Each namespace is asked by itself, and all together that are not the host's, since a bridge carries
/// many.
pub fn cut_off(hanging: &[Hanging<'_>], heard: &BTreeMap<NetnsId, Time>) -> BTreeSet<ConnectionId> {
    let mut who: BTreeMap<_, BTreeSet<NetnsId>> = BTreeMap::new();
    let mut by_netns: BTreeMap<_, Vec<&Hanging<'_>>> = BTreeMap::new();
    for it in hanging {
        who.entry(it.place()).or_default().insert(it.netns());
        // Who only receives may have had all that was sent acknowledged.
        if it.is_elsewhere() && !it.connection.is_receiving() {
            by_netns.entry(it.netns()).or_default().push(it);
        }
    }
    let hosts: BTreeSet<_> = hanging.iter().map(|it| it.next_hop.netns).collect();
    let mut all = Vec::new();
    let mut found = BTreeSet::new();
    for (netns, theirs) in &by_netns {
        let silent = since_silent(theirs, heard.get(netns).copied());
        if is_cut_off(&silent, &who, |it| it == *netns) {
            found.extend(silent.iter().map(|it| it.connection.sample.id));
        }
        all.extend(silent);
    }
    // One of them that does well speaks for all.
    let others = heard.iter().filter(|(netns, _)| !hosts.contains(netns));
    let last = others.map(|(_, at)| *at).max();
    let all: Vec<_> = since_silent(&all, last);
    if by_netns.len() > 1 && is_cut_off(&all, &who, |it| !hosts.contains(&it)) {
        found.extend(all.iter().map(|it| it.connection.sample.id));
    }
    found
}

/// Those that have begun to hang since something got through to theirs.
fn since_silent<'a, 'b>(theirs: &[&'a Hanging<'b>], last: Option<Time>) -> Vec<&'a Hanging<'b>> {
    let since = theirs.iter().copied();
    since
        .filter(|it| Some(it.began_for_sure()) >= last)
        .collect()
}

/// Whether others got through where these hang, so often that it is no chance: of destinations at which
/// some hang and some get through, it is always these that hang.
///
/// A destination counts when none of the others hangs there and a segment as large got through to them
/// since. One where others hang as well counts against it.
fn is_cut_off(
    theirs: &[&Hanging<'_>],
    who: &BTreeMap<(NextHop, Destination), BTreeSet<NetnsId>>,
    is_theirs: impl Fn(NetnsId) -> bool,
) -> bool {
    let (mut alone, mut shared) = (BTreeSet::new(), BTreeSet::new());
    for it in theirs {
        let place = it.place();
        let hang = who.get(&place);
        if hang.is_some_and(|hang| hang.iter().any(|netns| !is_theirs(*netns))) {
            shared.insert(place);
            continue;
        }
        let (since, head) = (it.began_for_sure(), it.connection.sample.head);
        let others = |netns| !is_theirs(netns);
        if it.passes.surely_carried(place.1, since, head, others) {
            alone.insert(place);
        }
    }
    chance(alone.len(), shared.len()) < CHANCE
}

/// The likelihood ratio of one share of lost paths for everybody to none for the others, when all of
/// these hang, at `alone` destinations without the others and at `shared` with them.
fn chance(alone: usize, shared: usize) -> f64 {
    let (alone, shared) = (alone as f64, shared as f64);
    // n · ln n, as in the likelihood of the best share.
    let term = |n: f64| if n > 0.0 { n * n.ln() } else { 0.0 };
    let alike = term(alone + 2.0 * shared) + term(alone) - term(2.0 * (alone + shared));
    let apart = term(shared) + term(alone) - term(alone + shared);
    (alike - apart).exp()
}

#[cfg(test)]
mod tests {
    use std::{ops::Range, time::Duration};

    use super::*;
    use crate::{
        engine::{
            passes::Pass,
            tests::{
                samples,
                world::{NETNS, destination, hop},
            },
        },
        model::{Phase, Sample},
    };

    const NOW: Time = Time(500_000_000_000);

    fn ago(milliseconds: u64) -> Time {
        NOW.before(Duration::from_millis(milliseconds))
    }

    /// What is seen at two next hops.
    #[derive(Default)]
    struct Host {
        connections: Vec<(usize, Connection)>,
        passes: [Passes; 2],
        heard: BTreeMap<NetnsId, Time>,
    }

    impl Host {
        /// Connections of a namespace hang since so long ago, with 1000 bytes in front.
        fn hangs(mut self, netns: NetnsId, leg: usize, to: Range<u16>, since: u64) -> Self {
            for number in to {
                let sample = Sample {
                    id: ConnectionId(self.connections.len() as u64),
                    netns,
                    at: NOW,
                    sent_at: ago(500),
                    stuck_since: Some(ago(since)),
                    unacked: 1000,
                    packets_out: 1,
                    head: Some(1000),
                    timeouts: 3,
                    next_hop: Some(hop(leg)),
                    ..samples::any()
                };
                let (mut connection, _) = Connection::new(sample, 0);
                connection.destination = destination(number);
                connection.phase = Some(Phase::Stalled);
                self.connections.push((leg, connection));
            }
            self
        }

        /// Segments of a size got through to a namespace so long ago.
        fn hears(self, netns: NetnsId, leg: usize, to: Range<u16>, at: u64) -> Self {
            self.hears_of(netns, leg, to, at, 1000)
        }

        fn hears_of(
            mut self,
            netns: NetnsId,
            leg: usize,
            to: Range<u16>,
            at: u64,
            size: u32,
        ) -> Self {
            for number in to {
                self.passes[leg].add(Pass {
                    at: ago(at),
                    after: ago(at),
                    destination: destination(number),
                    netns,
                    at_least: size,
                    at_most: size,
                });
            }
            let last = self.heard.entry(netns).or_default();
            *last = ago(at).max(*last);
            self
        }

        /// How many are excused.
        fn excused(&self) -> usize {
            let hanging: Vec<_> = self
                .connections
                .iter()
                .map(|(leg, connection)| Hanging {
                    connection,
                    next_hop: hop(*leg),
                    passes: &self.passes[*leg],
                })
                .collect();
            cut_off(&hanging, &self.heard).len()
        }
    }

    /// A container; [`NETNS`] is the host.
    const fn pod(number: u32) -> NetnsId {
        NetnsId(1000 + number)
    }

    #[test]
    fn one_that_hangs_where_others_get_through_is_cut_off() {
        let host = Host::default().hangs(pod(1), 0, 0..10, 2000);
        assert_eq!(host.hears(NETNS, 0, 0..10, 100).excused(), 10);
        let before = Host::default().hangs(pod(1), 0, 0..10, 2000);
        let before = before.hears(pod(1), 0, 0..10, 2100);
        assert_eq!(before.hears(NETNS, 0, 0..10, 1699).excused(), 10);
        let another = Host::default().hangs(pod(1), 0, 0..10, 2000);
        assert_eq!(another.hears(pod(2), 0, 0..10, 100).excused(), 10);
        let both_ways = Host::default().hangs(pod(1), 0, 0..5, 2000);
        let both_ways = both_ways.hangs(pod(1), 1, 5..10, 2000);
        let both_ways = both_ways.hears(NETNS, 0, 0..5, 100);
        assert_eq!(both_ways.hears(NETNS, 1, 5..10, 100).excused(), 10);
    }

    #[test]
    fn it_takes_so_many_that_it_is_no_chance() {
        let nine = Host::default().hangs(pod(1), 0, 0..9, 2000);
        assert_eq!(nine.hears(NETNS, 0, 0..9, 100).excused(), 0);
        let twice = Host::default().hangs(pod(1), 0, 0..9, 2000);
        let twice = twice.hangs(pod(1), 0, 0..9, 2000);
        assert_eq!(twice.hears(NETNS, 0, 0..9, 100).excused(), 0);
        let some_paths = Host::default().hangs(pod(1), 0, 0..20, 2000);
        let some_paths = some_paths.hangs(NETNS, 0, 10..20, 2000);
        assert_eq!(some_paths.hears(NETNS, 0, 0..20, 100).excused(), 0);
        let a_dead_peer = Host::default().hangs(pod(1), 0, 0..20, 2000);
        let a_dead_peer = a_dead_peer.hangs(NETNS, 0, 19..20, 300_000);
        assert_eq!(a_dead_peer.hears(NETNS, 0, 0..19, 100).excused(), 20);
    }

    #[test]
    fn one_that_talks_to_others_than_the_host_does_is_not_told_from_a_broken_upstream() {
        let abroad = Host::default().hangs(pod(1), 0, 0..20, 2000);
        assert_eq!(abroad.hears(NETNS, 0, 20..60, 100).excused(), 0);
        let elsewhere = Host::default().hangs(pod(1), 0, 0..20, 2000);
        assert_eq!(elsewhere.hears(NETNS, 1, 0..20, 100).excused(), 0);
    }

    #[test]
    fn one_to_which_something_gets_through_is_not_cut_off() {
        let works = |leg, at| {
            let host = Host::default().hangs(pod(1), 0, 0..20, 2000);
            let host = host.hears(NETNS, 0, 0..20, 100);
            host.hears(pod(1), leg, 30..31, at).excused()
        };
        assert_eq!(works(0, 1000), 0);
        assert_eq!(works(1, 1000), 0, "by another way");
        assert_eq!(works(1, 1700), 20, "on its way when it was cut off");
        assert_eq!(works(1, 1699), 0);
        let dead_peer = Host::default().hangs(pod(1), 0, 0..20, 2000);
        let dead_peer = dead_peer.hangs(pod(1), 0, 40..41, 300_000);
        let dead_peer = dead_peer.hears(pod(1), 0, 30..31, 2100);
        assert_eq!(dead_peer.hears(NETNS, 0, 0..20, 100).excused(), 20);
    }

    #[test]
    fn what_got_through_to_others_must_be_as_large_and_surely_later() {
        let of = |at, size| {
            let host = Host::default().hangs(pod(1), 0, 0..20, 2000);
            host.hears_of(NETNS, 0, 0..20, at, size).excused()
        };
        assert_eq!(of(1699, 900), 20);
        assert_eq!(of(1699, 899), 0, "large ones vanish, perhaps");
        assert_eq!(of(1700, 900), 0, "sent before, perhaps");
    }

    #[test]
    fn a_dead_peer_from_before_does_not_make_witnesses_of_what_got_through_before() {
        // Silent for long, with one dead peer; then the upstream breaks.
        let host = Host::default().hangs(pod(1), 0, 0..20, 2000);
        let host = host.hangs(pod(1), 0, 40..41, 30_000);
        assert_eq!(host.hears(NETNS, 0, 0..41, 2100).excused(), 0);
    }

    #[test]
    fn containers_with_a_connection_each_are_judged_together() {
        let pods = || {
            (0..10).fold(Host::default(), |host, number: u16| {
                host.hangs(pod(number.into()), 0, number..number + 1, 2000)
            })
        };
        assert_eq!(pods().hears(NETNS, 0, 0..10, 100).excused(), 10);
        let one_works = pods().hears(NETNS, 0, 0..10, 100);
        assert_eq!(one_works.hears(pod(20), 0, 0..1, 100).excused(), 0);
        let nobody = pods().hears(NETNS, 0, 0..10, 1800);
        assert_eq!(nobody.excused(), 0, "the upstream is dead");
    }

    #[test]
    fn the_host_itself_is_never_cut_off() {
        let host = Host::default().hangs(NETNS, 0, 0..20, 2000);
        assert_eq!(host.hears(pod(1), 0, 0..20, 100).excused(), 0);
    }
}

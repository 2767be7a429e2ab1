//! PURE. Through which uplink of this network namespace connections leave whose own socket does not
//! tell: those of other namespaces (containers and the like), whose next hop is an address of this host,
//! and our own when all that is known of them is what netlink says.
//!
//! Answers of the routing table are remembered until it changes; what is not known yet is asked for.
//! Connections in trouble do not come first: while the others wait, their destinations would seem dead.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use super::sweep::Seen;
use crate::{
    model::{IfIndex, NetnsId, NextHop, Sample, Sweep},
    time::Time,
};

/// Questions after one sweep.
const AT_ONCE: usize = 2048;
/// An answer is asked for again after this, in case that something changes that is not announced.
const FRESH: Duration = Duration::from_secs(300);
/// An answer that nobody needed for so long is forgotten.
const KEPT: Duration = Duration::from_secs(60);
/// Answers that are remembered at most.
const CAPACITY: usize = 65_536;

/// Two addresses that connections are between. Ports are left out: the kernel spreads what it forwards
/// over several routes by addresses, in IPv6 by flow labels, too, unless told otherwise
/// (`fib_multipath_hash_policy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Their namespace.
    pub netns: NetnsId,
    /// Their own address.
    pub local: IpAddr,
    /// Their peer's.
    pub remote: IpAddr,
    /// The gateway that their namespace sends them to, if that is known.
    pub gateway: Option<IpAddr>,
    /// The only interface of ours that they may use.
    pub device: Option<IfIndex>,
}

impl From<&Sample> for Flow {
    fn from(sample: &Sample) -> Self {
        Self {
            netns: sample.netns,
            local: sample.local.ip(),
            remote: sample.remote.ip(),
            gateway: sample.next_hop.and_then(|hop| hop.gateway),
            device: sample.device,
        }
    }
}

impl Flow {
    fn source(&self) -> Source {
        (self.netns, self.local)
    }

    fn ends(&self) -> Ends {
        (self.source(), self.remote, self.device)
    }
}

/// An address of another network namespace.
type Source = (NetnsId, IpAddr);
/// With the address that it speaks to, and the interface that it is bound to.
type Ends = (Source, IpAddr, Option<IfIndex>);

/// An answer of the routing table.
#[derive(Debug, Clone, Copy)]
pub struct Answer<T> {
    /// `None` when there is no way.
    pub value: Option<T>,
    at: Time,
    used_at: Time,
}

/// What is known of the ways out.
#[derive(Debug)]
pub struct Uplinks {
    netns: NetnsId,
    ours_too: bool,
    /// The interface behind which an address is.
    devices: BTreeMap<Source, Answer<IfIndex>>,
    /// The gateway that its own namespace has for it, which sockets in trouble do not tell.
    gateways: BTreeMap<Source, (IpAddr, Time)>,
    /// Where its packets go on to.
    ways: BTreeMap<Ends, Answer<NextHop>>,
    changed_at: Time,
}

impl Uplinks {
    /// Of the namespace that the daemon is in; `ours_too` when our own connections come without the
    /// routes that the kernel holds for them.
    pub fn new(netns: NetnsId, ours_too: bool) -> Self {
        Self {
            netns,
            ours_too,
            devices: BTreeMap::new(),
            gateways: BTreeMap::new(),
            ways: BTreeMap::new(),
            changed_at: Time::default(),
        }
    }

    /// Whether nothing must be asked to place a connection.
    pub fn knows(&self, sample: &Sample) -> bool {
        !self.is_asked_for(sample) || self.ways.contains_key(&self.flow(sample).ends())
    }

    /// Whether any connection of another namespace leaves through this one.
    pub fn are_used(&self) -> bool {
        self.ways.values().any(|way| way.value.is_some())
    }

    /// The routing table has changed: what is remembered is used until it was asked for again.
    pub fn change(&mut self, now: Time) {
        self.changed_at = now;
    }

    /// What must be asked to place everything that was seen: what is not known, then what may have
    /// changed.
    pub fn open(&mut self, seen: &Seen, now: Time) -> Vec<Flow> {
        let samples = seen.sweep.samples.iter();
        let samples = samples.filter(|it| self.is_asked_for(it));
        let samples: Vec<_> = samples.map(|it| self.flow(it)).collect();
        let all = || {
            samples
                .iter()
                .chain(seen.flows.iter().map(|(flow, _)| flow))
        };
        for flow in all() {
            if let Some(gateway) = flow.gateway {
                self.gateways.insert(flow.source(), (gateway, now));
            }
        }
        let mut open = BTreeMap::<(bool, Ends), Flow>::new();
        for flow in all() {
            let known = self.ways.get(&flow.ends());
            if known.is_some_and(|way| self.is_fresh(way.at, now)) {
                continue;
            }
            let gateway = self.gateways.get(&flow.source());
            let flow = Flow {
                gateway: gateway.map(|(gateway, _)| *gateway),
                ..*flow
            };
            open.insert((known.is_some(), flow.ends()), flow);
        }
        open.into_values().take(AT_ONCE).collect()
    }

    /// Behind which interface the flow's own end is, when that need not be asked.
    pub fn device(&self, flow: &Flow, now: Time) -> Option<Answer<IfIndex>> {
        let answer = self.devices.get(&flow.source())?;
        self.is_fresh(answer.at, now).then_some(*answer)
    }

    /// Takes in behind which interface the flow's own end is.
    pub fn learn_device(&mut self, flow: &Flow, device: Option<IfIndex>, now: Time) {
        put(&mut self.devices, flow.source(), device, now);
    }

    /// Takes in where the flow's packets go on to. When they go nowhere any more, the way that they
    /// went before stays: that is where their trouble belongs.
    pub fn learn_way(&mut self, flow: &Flow, way: Option<NextHop>, now: Time) {
        let before = self.ways.get(&flow.ends()).and_then(|it| it.value);
        put(&mut self.ways, flow.ends(), way.or(before), now);
    }

    /// The same connection, with the next hop that its packets take from here; `None` for one of
    /// another namespace that does not leave through this one or is not known yet.
    pub fn place(&mut self, mut sample: Sample, now: Time) -> Option<Sample> {
        if self.is_elsewhere(&sample) {
            // Without a process that holds it the next sweep would not see it.
            sample.inode?;
            sample.next_hop = Some(self.way(&self.flow(&sample), now)?);
        } else if self.ours_too {
            sample.next_hop = self.way(&self.flow(&sample), now);
        }
        Some(sample)
    }

    /// All that was seen, with the next hops that packets take from here.
    pub fn place_all(&mut self, seen: Seen, now: Time) -> Sweep {
        let samples = seen.sweep.samples.into_iter();
        let mut placed = Sweep {
            samples: samples.filter_map(|it| self.place(it, now)).collect(),
            counts: seen.sweep.counts,
        };
        for (flow, counts) in seen.flows {
            let way = self.way(&flow, now);
            if way.is_some() || flow.netns == self.netns {
                placed.counts.entry(way).or_default().add(&counts);
            }
        }
        self.devices.retain(|_, it| now.since(it.used_at) < KEPT);
        self.gateways.retain(|_, (_, at)| now.since(*at) < FRESH);
        self.ways.retain(|_, it| now.since(it.used_at) < KEPT);
        placed
    }

    fn way(&mut self, flow: &Flow, now: Time) -> Option<NextHop> {
        if let Some(device) = self.devices.get_mut(&flow.source()) {
            device.used_at = now;
        }
        let way = self.ways.get_mut(&flow.ends())?;
        way.used_at = now;
        way.value
    }

    /// The flow of a connection; to whom others' are bound is an interface of theirs.
    fn flow(&self, sample: &Sample) -> Flow {
        let flow = Flow::from(sample);
        let device = flow.device.filter(|_| !self.is_elsewhere(sample));
        Flow { device, ..flow }
    }

    fn is_elsewhere(&self, sample: &Sample) -> bool {
        sample.netns != self.netns
    }

    fn is_asked_for(&self, sample: &Sample) -> bool {
        self.ours_too || self.is_elsewhere(sample)
    }

    fn is_fresh(&self, at: Time, now: Time) -> bool {
        at > self.changed_at && now.since(at) < FRESH
    }
}

fn put<K: Ord, T>(answers: &mut BTreeMap<K, Answer<T>>, key: K, value: Option<T>, now: Time) {
    if answers.len() < CAPACITY || answers.contains_key(&key) {
        let answer = Answer {
            value,
            at: now,
            used_at: now,
        };
        answers.insert(key, answer);
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::{
        engine::tests::samples,
        model::{Counts, Origin},
    };

    const HOST: NetnsId = NetnsId(1);
    const POD: NetnsId = NetnsId(2);
    const BRIDGE: IfIndex = IfIndex(9);
    const WAN: NextHop = NextHop {
        netns: HOST,
        interface: IfIndex(3),
        gateway: None,
    };

    fn at(seconds: u64) -> Time {
        Time(1_000_000_000 * (1000 + seconds))
    }

    fn of_pod(last: u8, origin: Origin) -> Sample {
        Sample {
            netns: POD,
            local: SocketAddr::from(([172, 17, 0, 2], 40_000)),
            remote: SocketAddr::from(([198, 51, 100, last], 25)),
            inode: Some(7),
            next_hop: Some(NextHop {
                netns: POD,
                interface: IfIndex(2),
                gateway: Some([172, 17, 0, 1].into()),
            }),
            origin,
            ..samples::any()
        }
    }

    fn seen(samples: Vec<Sample>) -> Seen {
        Seen {
            sweep: Sweep {
                samples,
                ..Sweep::default()
            },
            flows: Vec::new(),
        }
    }

    /// Everything that is asked for goes out by that next hop.
    fn answer(uplinks: &mut Uplinks, seen: &Seen, way: Option<NextHop>, now: Time) -> usize {
        let open = uplinks.open(seen, now);
        for flow in &open {
            uplinks.learn_device(flow, Some(BRIDGE), now);
            uplinks.learn_way(flow, way, now);
        }
        open.len()
    }

    #[test]
    fn our_own_connections_stay_as_they_are() {
        let mut uplinks = Uplinks::new(HOST, false);
        let own = Sample {
            netns: HOST,
            inode: None,
            next_hop: None,
            ..samples::any()
        };
        assert!(uplinks.knows(&own));
        assert!(uplinks.open(&seen(vec![own.clone()]), at(0)).is_empty());
        assert_eq!(uplinks.place(own.clone(), at(0)), Some(own));
    }

    #[test]
    fn our_own_are_asked_for_when_their_sockets_do_not_tell() {
        let mut uplinks = Uplinks::new(HOST, true);
        let own = Sample {
            netns: HOST,
            next_hop: None,
            ..samples::any()
        };
        let mut all = seen(vec![own.clone()]);
        all.flows.push((Flow::from(&own), Counts::default()));
        assert!(!uplinks.knows(&own));
        let unknown = uplinks.place(own.clone(), at(0));
        assert_eq!(
            unknown,
            Some(own.clone()),
            "in trouble it is shown all the same"
        );
        assert_eq!(answer(&mut uplinks, &all, Some(WAN), at(0)), 1);
        let sweep = uplinks.place_all(all, at(1));
        assert_eq!(sweep.samples[0].next_hop, Some(WAN));
        assert!(sweep.counts.contains_key(&Some(WAN)));
    }

    #[test]
    fn connections_of_others_get_the_next_hop_that_they_take_from_here() {
        let mut uplinks = Uplinks::new(HOST, false);
        let sample = of_pod(1, Origin::Active);
        assert_eq!(uplinks.place(sample.clone(), at(0)), None, "not known yet");
        let mut all = seen(vec![sample.clone(), of_pod(2, Origin::Active)]);
        let counts = Counts {
            idle: 5,
            ..Counts::default()
        };
        all.flows.push((Flow::from(&sample), counts));
        assert_eq!(answer(&mut uplinks, &all, Some(WAN), at(0)), 2);
        assert!(uplinks.knows(&sample) && uplinks.are_used());
        let device = uplinks.device(&Flow::from(&sample), at(0));
        assert_eq!(device.and_then(|it| it.value), Some(BRIDGE));
        let sweep = uplinks.place_all(all, at(1));
        let hops: Vec<_> = sweep.samples.iter().map(|it| it.next_hop).collect();
        assert_eq!(hops, [Some(WAN), Some(WAN)]);
        assert!(
            sweep.samples.iter().all(|it| it.netns == POD),
            "still theirs"
        );
        assert_eq!(sweep.counts[&Some(WAN)], counts);
    }

    #[test]
    fn what_does_not_leave_through_this_namespace_is_left_out() {
        let mut uplinks = Uplinks::new(HOST, false);
        let mut all = seen(vec![of_pod(1, Origin::Suspicious)]);
        let flow = Flow::from(&all.sweep.samples[0]);
        all.flows.push((flow, Counts::default()));
        assert_eq!(answer(&mut uplinks, &all, None, at(0)), 1);
        assert!(!uplinks.are_used());
        assert!(
            uplinks.knows(&all.sweep.samples[0]),
            "and is not asked again"
        );
        assert_eq!(uplinks.place_all(all, at(1)), Sweep::default());
    }

    #[test]
    fn one_that_no_process_holds_is_left_out() {
        let mut uplinks = Uplinks::new(HOST, false);
        let held = of_pod(1, Origin::Timeout);
        answer(&mut uplinks, &seen(vec![held.clone()]), Some(WAN), at(0));
        let orphan = Sample {
            inode: None,
            ..held.clone()
        };
        assert_eq!(uplinks.place(orphan, at(1)), None);
        assert!(uplinks.place(held, at(1)).is_some());
    }

    #[test]
    fn what_is_not_known_is_asked_for_before_what_may_have_changed() {
        let mut uplinks = Uplinks::new(HOST, false);
        let known = of_pod(1, Origin::Suspicious);
        let one = seen(vec![known.clone()]);
        answer(&mut uplinks, &one, Some(WAN), at(0));
        uplinks.change(at(1));
        let all = [
            known.clone(),
            of_pod(2, Origin::Active),
            of_pod(3, Origin::Suspicious),
        ];
        let open = uplinks.open(&seen(all.into()), at(2));
        let open: Vec<_> = open.iter().map(|it| it.remote).collect();
        let expected = [2, 3, 1].map(|last| of_pod(last, Origin::Active).remote.ip());
        assert_eq!(open, expected);
        let placed = uplinks.place(known, at(2)).map(|it| it.next_hop);
        assert_eq!(placed, Some(Some(WAN)), "the old answer serves until then");
    }

    #[test]
    fn in_trouble_they_keep_the_way_that_they_had_and_the_gateway_that_they_told() {
        let mut uplinks = Uplinks::new(HOST, false);
        let well = of_pod(1, Origin::Active);
        let one = seen(vec![well.clone()]);
        answer(&mut uplinks, &one, Some(WAN), at(0));
        uplinks.change(at(1));
        // The kernel has dropped the cached route.
        let stuck = Sample {
            next_hop: None,
            ..of_pod(1, Origin::Suspicious)
        };
        let all = seen(vec![stuck.clone()]);
        let asked = uplinks.open(&all, at(2));
        assert_eq!(asked[0].gateway, Some([172, 17, 0, 1].into()));
        answer(&mut uplinks, &all, None, at(2));
        let placed = uplinks.place(stuck, at(2));
        assert_eq!(placed.and_then(|it| it.next_hop), Some(WAN));
    }

    #[test]
    fn answers_grow_old_and_are_forgotten_when_nobody_needs_them() {
        let mut uplinks = Uplinks::new(HOST, false);
        let all = || seen(vec![of_pod(1, Origin::Active)]);
        answer(&mut uplinks, &all(), Some(WAN), at(0));
        for second in 1..=299 {
            assert!(uplinks.open(&all(), at(second)).is_empty());
            assert_eq!(uplinks.place_all(all(), at(second)).samples.len(), 1);
        }
        assert_eq!(uplinks.open(&all(), at(301)).len(), 1, "after five minutes");
        uplinks.place_all(seen(Vec::new()), at(350));
        assert!(uplinks.are_used());
        uplinks.place_all(seen(Vec::new()), at(359));
        assert!(!uplinks.are_used(), "{uplinks:?}");
    }

    #[test]
    fn questions_and_answers_have_a_limit() {
        let mut uplinks = Uplinks::new(HOST, false);
        let all: Vec<_> = (0..2100_u16)
            .map(|number| Sample {
                remote: SocketAddr::from(([198, 18, (number >> 8) as u8, number as u8], 25)),
                ..of_pod(1, Origin::Active)
            })
            .collect();
        let all = seen(all);
        assert_eq!(answer(&mut uplinks, &all, Some(WAN), at(0)), 2048);
        assert_eq!(answer(&mut uplinks, &all, Some(WAN), at(1)), 52);
    }
}

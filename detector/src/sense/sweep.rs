//! The walks over all connections: reads them to their ends, and says what that cost.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _},
    time::Duration,
};

use anyhow::Context as _;
use aya::{
    Pod,
    maps::{Array, HashMap, MapData},
};
use detector_ebpf::{MAX_ROUTES, RawCounts, RawFlow, RawNextHop, RawRoute, RawRoutes};

use super::{decode, uplinks::Flow};
use crate::{
    clock,
    model::{Counts, NextHop, Sweep},
};

/// What the walks of one sweep cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Processor time for our own connections.
    pub own: Duration,
    /// Processor time for those of other network namespaces, if they were looked for.
    pub others: Option<Duration>,
    /// From begin to end.
    pub wall: Duration,
}

/// What the walks of one sweep have shown.
#[derive(Debug, Default)]
pub struct Seen {
    /// Connections, and what was counted at this namespace's next hops.
    pub sweep: Sweep,
    /// What was counted between addresses: of other namespaces, or where the gateway is not known.
    pub flows: Vec<(Flow, Counts)>,
}

/// The maps in which walks count.
pub struct Tables {
    /// By next hop.
    pub next_hops: HashMap<MapData, RawNextHop, RawCounts>,
    /// By cached route, as far as there is room.
    pub routes: Array<MapData, RawRoutes>,
    /// Between addresses of other network namespaces.
    pub flows: HashMap<MapData, RawFlow, RawCounts>,
}

/// Reads walks.
pub struct Sweeper {
    tables: Tables,
    hz: u64,
    buffer: Vec<u8>,
}

/// No route is at hand.
static NO_ROUTES: &RawRoutes = &[RawRoute::NONE; MAX_ROUTES as usize];
/// A buffer that a storm has made larger than this is given back.
const KEEP: usize = 1 << 20;

impl Sweeper {
    /// With `hz` jiffies a second.
    pub fn new(tables: Tables, hz: u64) -> Self {
        Self {
            tables,
            hz,
            buffer: Vec::new(),
        }
    }

    /// Reads the walk over our own connections to its end, then that over others', if there is one: that
    /// they cannot be seen costs them alone. It blocks for as long as the kernel needs.
    ///
    /// # Errors
    /// When the kernel stops in the middle; the next walk is a new chance.
    pub fn read(&mut self, own: File, others: Option<File>) -> anyhow::Result<(Seen, Cost)> {
        let (cpu, wall) = (clock::thread_cpu(), clock::now());
        empty(&mut self.tables.next_hops)?;
        empty(&mut self.tables.flows)?;
        self.buffer.clear();
        let walked = to_the_end(own, &mut self.buffer);
        // Also of a walk that broke off, or the next would find what its routes have counted.
        let counts = self.counts()?;
        walked.context("the walk over the connections broke off")?;
        let mut seen = Seen {
            flows: self.flows()?,
            ..Seen::default()
        };
        let others = others
            .map(|walk| self.read_others(walk, &mut seen))
            .transpose()?;
        seen.sweep.samples = decode::records(&self.buffer, self.hz)?;
        self.buffer.clear();
        self.buffer.shrink_to(KEEP);
        seen.sweep.counts = counts;
        let cost = Cost {
            own: clock::thread_cpu() - cpu - others.unwrap_or_default(),
            others,
            wall: clock::now().since(wall),
        };
        Ok((seen, cost))
    }

    /// Reads the walk over others' connections; the processor time it took.
    fn read_others(&mut self, walk: File, seen: &mut Seen) -> anyhow::Result<Duration> {
        let cpu = clock::thread_cpu();
        let ours = self.buffer.len();
        match to_the_end(walk, &mut self.buffer) {
            Ok(()) => seen.flows.extend(self.flows()?),
            Err(error) => {
                tracing::warn!("other network namespaces are not seen this time: {error}");
                self.buffer.truncate(ours);
            }
        }
        Ok(clock::thread_cpu() - cpu)
    }

    /// What the walk over our own has counted at next hops.
    fn counts(&mut self) -> anyhow::Result<BTreeMap<Option<NextHop>, Counts>> {
        let mut sums: BTreeMap<_, Counts> = BTreeMap::new();
        let mut add = |hop: &RawNextHop, counts: &RawCounts| {
            let sum = sums.entry(decode::next_hop(hop)).or_default();
            sum.add(&decode::counts(counts));
        };
        for entry in self.tables.next_hops.iter() {
            let (hop, counts) = entry?;
            add(&hop, &counts);
        }
        let routes = self.tables.routes.get(&0, 0)?;
        let used = routes.iter().filter(|it| it.counts != RawCounts::ZERO);
        used.for_each(|it| add(&it.next_hop, &it.counts));
        self.tables.routes.set(0, NO_ROUTES, 0)?;
        Ok(sums)
    }

    /// What a walk has counted between addresses, for the next walk to begin anew: that over others
    /// counts them, and that over our own where gateways cannot be read.
    fn flows(&mut self) -> anyhow::Result<Vec<(Flow, Counts)>> {
        let entries: Result<Vec<_>, _> = self.tables.flows.iter().collect();
        let flows = entries?
            .into_iter()
            .map(|(flow, counts)| (decode::flow(&flow), decode::counts(&counts)));
        let flows = flows.collect();
        empty(&mut self.tables.flows)?;
        Ok(flows)
    }
}

/// Reads a walk to its end. After a million objects without a word the kernel takes a breath
/// (`MAX_ITER_OBJECTS`, `kernel/bpf/bpf_iter.c`) and goes on where it was.
///
/// # Errors
/// When the kernel stops in the middle.
pub fn to_the_end(mut walk: File, buffer: &mut Vec<u8>) -> io::Result<()> {
    loop {
        match walk.read_to_end(buffer) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Removes all entries of a map.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn empty<K: Pod, V: Pod>(map: &mut HashMap<MapData, K, V>) -> anyhow::Result<()> {
    let keys: Vec<_> = map.keys().collect::<Result<_, _>>()?;
    for key in keys {
        map.remove(&key)?;
    }
    Ok(())
}

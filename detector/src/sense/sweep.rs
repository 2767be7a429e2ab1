//! The walk over all connections: opens the iterator, reads it to the end, and says what it cost.

use std::{fs::File, io::Read as _, time::Duration};

use anyhow::Context as _;
use aya::maps::{HashMap, MapData};
use detector_ebpf::{RawCounts, RawNextHop};

use super::decode;
use crate::{clock, model};

/// What a walk cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Processor time.
    pub cpu: Duration,
    /// From begin to end.
    pub wall: Duration,
}

/// Reads walks.
pub struct Sweeper {
    next_hops: HashMap<MapData, RawNextHop, RawCounts>,
    hz: u64,
    buffer: Vec<u8>,
}

/// A buffer that a storm has made larger than this is given back.
const KEEP: usize = 1 << 20;

impl Sweeper {
    /// Takes the map in which the walk counts.
    pub fn new(next_hops: HashMap<MapData, RawNextHop, RawCounts>, hz: u64) -> Self {
        Self {
            next_hops,
            hz,
            buffer: Vec::new(),
        }
    }

    /// Reads a walk to its end. It blocks for as long as the kernel needs.
    ///
    /// # Errors
    /// When the kernel stops in the middle; the next walk is a new chance.
    pub fn read(&mut self, mut walk: File) -> anyhow::Result<(model::Sweep, Cost)> {
        let (cpu, wall) = (clock::thread_cpu(), clock::now());
        let stale: Vec<_> = self.next_hops.keys().collect::<Result<_, _>>()?;
        for key in stale {
            self.next_hops.remove(&key)?;
        }
        self.buffer.clear();
        self.buffer.shrink_to(KEEP);
        walk.read_to_end(&mut self.buffer)
            .context("the walk over the connections broke off")?;
        let samples = decode::records(&self.buffer, self.hz)?;
        let mut sweep = model::Sweep {
            samples,
            ..model::Sweep::default()
        };
        for entry in self.next_hops.iter() {
            let (hop, counts) = entry?;
            let (hop, counts) = decode::counts(&hop, &counts);
            sweep.counts.entry(hop).or_default().add(&counts);
        }
        let cost = Cost {
            cpu: clock::thread_cpu() - cpu,
            wall: clock::now().since(wall),
        };
        Ok((sweep, cost))
    }
}

//! How far away the internet is: delay, jitter, reordering and loss in the routers, by the kernel's
//! own emulator (netem), for kernels that have it.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::network::{Lab, Upstream};

/// What every packet goes through, half of it on each way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distance {
    /// From a packet to its answer.
    pub round_trip: Duration,
    /// Share of the packets that are lost on the round trip, in per cent.
    pub lost: f64,
}

impl Distance {
    /// A distance with a hundredth of the packets lost.
    pub const fn of_milliseconds(round_trip: u64) -> Self {
        Self {
            round_trip: Duration::from_millis(round_trip),
            lost: 1.0,
        }
    }

    /// Arguments for `tc`: half of the delay, of which a tenth is jitter, so that packets overtake one
    /// another all the time; one in a hundred is not delayed at all.
    fn netem(self) -> String {
        let one_way = self.round_trip.as_micros() / 2;
        let (jitter, lost) = (one_way / 10, self.lost / 2.0);
        format!("netem delay {one_way}us {jitter}us reorder 1% loss random {lost}% limit 10000")
    }
}

/// Moves everything behind an upstream away; `false` when this kernel cannot emulate that.
pub(crate) fn install(upstream: &Upstream, distance: Distance) -> Result<bool> {
    for device in ["wan", "core"] {
        let words = format!("qdisc replace dev {device} root {}", distance.netem());
        let words: Vec<_> = words.split(' ').collect();
        let output = upstream.router.output("tc", &words)?;
        if output.status.success() {
            continue;
        }
        let said = String::from_utf8_lossy(&output.stderr);
        if said.contains("qdisc kind is unknown") {
            return Ok(false);
        }
        bail!("tc {}: {}", words.join(" "), said.trim());
    }
    Ok(true)
}

impl Lab {
    /// Moves the internet away; `false` when this kernel cannot emulate that, and nothing has changed.
    pub fn move_away(&self, distance: Distance) -> Result<bool> {
        for upstream in &self.upstreams {
            if !install(upstream, distance)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

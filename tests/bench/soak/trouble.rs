//! What can go wrong in a soak, and what must be said of it.

use std::{fmt, time::Duration};

use lab::{Direction, Fault};

/// Until the last that waited has been heard, after a repair.
pub(super) const RECOVERY: Duration = Duration::from_secs(60);

/// A fault with the names that it may be given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trouble {
    name: &'static str,
    fault: Fault,
    /// Causes that are right; none for what must not be held against an upstream at all.
    causes: &'static [&'static str],
    /// Seconds within which it must be called so.
    limit: u64,
}

/// Each as likely as any other.
pub(super) const TROUBLES: &[Trouble] = &[
    Trouble {
        name: "black hole",
        fault: Fault::Blackhole(Direction::Both),
        causes: &["blackhole"],
        limit: 10,
    },
    Trouble {
        name: "black hole, outbound",
        fault: Fault::Blackhole(Direction::Out),
        causes: &["blackhole"],
        limit: 10,
    },
    Trouble {
        name: "black hole, inbound",
        fault: Fault::Blackhole(Direction::Back),
        causes: &["blackhole", "return-path"],
        limit: 10,
    },
    Trouble {
        name: "large packets lost",
        fault: Fault::DropLargerThan(600),
        causes: &["mtu"],
        limit: 15,
    },
    Trouble {
        name: "router silent",
        fault: Fault::NeighbourSilent,
        causes: &["neighbour"],
        limit: 15,
    },
    Trouble {
        name: "local firewall",
        fault: Fault::LocalFirewall,
        causes: &["local"],
        limit: 15,
    },
    Trouble {
        name: "40 % loss",
        fault: Fault::RandomLoss(40),
        causes: &["loss", "blackhole"],
        limit: 40,
    },
    Trouble {
        name: "3 % loss",
        fault: Fault::RandomLoss(3),
        causes: &[],
        limit: 15,
    },
    Trouble {
        name: "one destination dead",
        fault: Fault::OneDestination(3),
        causes: &[],
        limit: 15,
    },
];

impl Trouble {
    pub(super) fn name(self) -> &'static str {
        self.name
    }

    pub(super) fn fault(self) -> Fault {
        self.fault
    }

    /// Whether nobody must be blamed for it.
    pub(super) fn is_quiet(self) -> bool {
        self.causes.is_empty()
    }

    pub(super) fn is_called(self, cause: Option<&str>) -> bool {
        cause.is_some_and(|cause| self.causes.contains(&cause))
    }

    /// Within which it must be called so.
    pub(super) fn limit(self) -> Duration {
        Duration::from_secs(self.limit)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

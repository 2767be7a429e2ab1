//! The kernel programs without a daemon: what they bring is promised to the engine, not to users.

use std::fs::File;

use anyhow::Result;
use aya::maps::{MapData, RingBuf};
use detector::sense::{
    doctor,
    programs::{Programs, Sizes},
    sweep::{Cost, Seen, Sweeper},
};
use detector_ebpf::Settings;

use crate::namespace::Namespace;

/// The programs, loaded; dropped, they are gone.
pub struct Sensors {
    /// To open walks.
    pub programs: Programs,
    /// What they announce.
    pub events: RingBuf<MapData>,
    /// Jiffies per second.
    pub hz: u64,
    sweeper: Sweeper,
}

impl Sensors {
    /// Loads them with maps of some size, to watch `host`. `change` may change what this kernel and
    /// host allow.
    pub fn load(
        host: &Namespace,
        sizes: &Sizes,
        change: impl FnOnce(&mut Settings),
    ) -> Result<Self> {
        let found = doctor::inspect()?;
        let mut settings = Settings {
            netns: u32::try_from(host.inode()?)?,
            ..found.settings
        };
        change(&mut settings);
        let (programs, outlets, _) =
            Programs::load(&found.offsets, &settings, sizes, 0, &mut |_, _| {})?;
        Ok(Self {
            programs,
            events: outlets.events,
            hz: found.hz,
            sweeper: Sweeper::new(outlets.tables, found.hz),
        })
    }

    /// One sweep over the connections of `host`.
    pub fn sweep(&mut self, host: &Namespace) -> Result<(Seen, Cost)> {
        self.sweep_with(host, None)
    }

    /// The same, and over those of all other namespaces.
    pub fn sweep_all(&mut self, host: &Namespace) -> Result<(Seen, Cost)> {
        let others = host.run(|| self.programs.open_others())??;
        self.sweep_with(host, Some(others))
    }

    /// The same, with some walk over the others.
    pub fn sweep_with(&mut self, host: &Namespace, others: Option<File>) -> Result<(Seen, Cost)> {
        let own = host.run(|| self.programs.open_sweep())??;
        self.read(own, others)
    }

    /// Reads walks, as the daemon does.
    pub fn read(&mut self, own: File, others: Option<File>) -> Result<(Seen, Cost)> {
        self.sweeper.read(own, others)
    }
}

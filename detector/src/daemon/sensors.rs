//! What sees the connections: programs in the kernel or, where those are not allowed, netlink.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    future, io,
    path::Path,
};

use anyhow::Context as _;
use aya::maps::{MapData, RingBuf};
use detector_ebpf::Counter;
use tokio::{
    io::unix::{AsyncFd, AsyncFdReadyMutGuard},
    task::JoinHandle,
};

use crate::{
    model::NetnsId,
    sense::{
        Check, Sensor, doctor,
        programs::{Programs, Sizes},
        sock_diag::{self, Poller},
        sweep::{Cost, Seen, Sweeper},
    },
    state_dir, sys,
};

/// What has been opened.
pub(super) struct Opened {
    pub(super) sensors: Sensors,
    pub(super) events: Events,
    /// Our network namespace.
    pub(super) netns: NetnsId,
    /// What this kernel and host allow.
    pub(super) checks: Vec<Check>,
}

/// The sensors.
pub(super) struct Sensors {
    programs: Option<Programs>,
    /// Whether all that is known of our own connections' routes is the routing table.
    lack_routes: bool,
    /// Away while a sweep is being read.
    reader: Option<Reader>,
    overflowed: BTreeSet<u32>,
}

/// What reads a sweep.
pub(super) enum Reader {
    Walks(Box<Sweeper>),
    Netlink(Poller),
}

/// What the thread that reads a sweep brings back.
pub(super) type Read = (Reader, anyhow::Result<(Seen, Cost)>);

/// Opens a sensor. The verifier's word on a program that the kernel refuses is kept in `state_dir`.
///
/// # Errors
/// What is missing, what that costs and what to do.
pub(super) fn open(sensor: Sensor, hz: u64, state_dir: &Path) -> anyhow::Result<Opened> {
    match sensor {
        Sensor::Ebpf => open_programs(hz, state_dir),
        Sensor::SockDiag => open_netlink(),
    }
}

fn open_programs(hz: u64, state_dir: &Path) -> anyhow::Result<Opened> {
    let host = doctor::inspect()?;
    let log_level = if tracing::enabled!(target: "tcpstall_ebpf", tracing::Level::DEBUG) {
        4
    } else {
        0
    };
    let (mut programs, outlets, taken) = Programs::load(
        &host.offsets,
        &host.settings,
        &Sizes::default(),
        log_level,
        &mut |program, log| keep_verifier_log(state_dir, program, log),
    )?;
    sys::give_memory_back();
    if log_level > 0 {
        forward_kernel_log(&mut programs)?;
    }
    let sweeper = Sweeper::new(outlets.tables, hz);
    Ok(Opened {
        sensors: Sensors {
            programs: Some(programs),
            lack_routes: host.settings.may_probe == 0,
            reader: Some(Reader::Walks(Box::new(sweeper))),
            overflowed: BTreeSet::new(),
        },
        events: Events(Some(sys::ring(outlets.events)?)),
        netns: host.netns,
        checks: [host.checks, taken].concat(),
    })
}

fn open_netlink() -> anyhow::Result<Opened> {
    let netns = doctor::netns()?;
    let checks = sock_diag::checks();
    let lost: Vec<_> = checks.iter().map(|check| check.lost.as_str()).collect();
    tracing::warn!(
        "connections are polled through netlink; not to be had that way: {}",
        lost.join("; ")
    );
    Ok(Opened {
        sensors: Sensors {
            programs: None,
            lack_routes: true,
            reader: Some(Reader::Netlink(Poller::new(netns))),
            overflowed: BTreeSet::new(),
        },
        events: Events(None),
        netns,
        checks,
    })
}

impl Sensors {
    /// Whether all that is known of our own connections' routes is the routing table.
    pub(super) fn lack_routes(&self) -> bool {
        self.lack_routes
    }

    /// Whether trouble is told as it begins.
    pub(super) fn have_events(&self) -> bool {
        self.programs.is_some()
    }

    /// Whether connections of other network namespaces can be seen.
    pub(super) fn see_others(&self) -> bool {
        self.programs.as_ref().is_some_and(Programs::sees_others)
    }

    /// Begins a sweep, read on a thread of its own; [`Sensors::end_sweep`] takes the reader back.
    pub(super) fn begin_sweep(&mut self, others: bool) -> anyhow::Result<JoinHandle<Read>> {
        let reader = self.reader.take().context("two sweeps at once")?;
        let walks = self.open_walks(others);
        Ok(tokio::task::spawn_blocking(move || match reader {
            Reader::Walks(mut sweeper) => {
                let read = walks.and_then(|walks| {
                    let (own, others) = walks.context("there are no programs")?;
                    sweeper.read(own, others)
                });
                (Reader::Walks(sweeper), read)
            }
            Reader::Netlink(mut poller) => {
                let read = poller.read();
                (Reader::Netlink(poller), read)
            }
        }))
    }

    pub(super) fn end_sweep(&mut self, reader: Reader) {
        self.reader = Some(reader);
        self.warn_of_overflow();
    }

    fn open_walks(&mut self, others: bool) -> anyhow::Result<Option<(File, Option<File>)>> {
        let Some(programs) = &mut self.programs else {
            return Ok(None);
        };
        let own = programs.open_sweep()?;
        let others = others.then(|| programs.open_others());
        let others = others.and_then(|opened| {
            opened
                .inspect_err(|error| tracing::warn!("other namespaces are not seen: {error:#}"))
                .ok()
        });
        Ok(Some((own, others)))
    }

    /// A walk over the open files, for the holders of these sockets; `None` where there is none.
    pub(super) fn open_holders(&mut self, inodes: &BTreeSet<u64>) -> Option<anyhow::Result<File>> {
        let programs = self.programs.as_mut()?;
        Some(programs.open_holders(inodes))
    }

    /// A walk over the open files that counts those of these processes; `None` where there is none.
    pub(super) fn open_descriptors(
        &mut self,
        pids: &BTreeSet<u32>,
    ) -> Option<anyhow::Result<File>> {
        let programs = self.programs.as_mut()?;
        Some(programs.open_descriptors(pids))
    }

    /// What the last such walk has counted.
    pub(super) fn descriptors(&self) -> anyhow::Result<BTreeMap<u32, u32>> {
        let programs = self.programs.as_ref().context("there are no programs")?;
        programs.descriptors()
    }

    /// Events that found the ring full.
    pub(super) fn lost(&self) -> u64 {
        self.counter(Counter::RingFull)
    }

    fn counter(&self, counter: Counter) -> u64 {
        let programs = self.programs.as_ref();
        programs.map_or(0, |programs| programs.counter(counter))
    }

    /// Says once that the kernel could not tell everything apart.
    fn warn_of_overflow(&mut self) {
        let full = [
            (
                Counter::NextHopsFull,
                detector_ebpf::MAX_NEXT_HOPS,
                "next hops",
            ),
            (
                Counter::FlowsFull,
                detector_ebpf::MAX_FLOWS,
                "pairs of addresses of other network namespaces",
            ),
        ];
        for (counter, most, of_what) in full {
            if self.counter(counter) > 0 && self.overflowed.insert(counter as u32) {
                tracing::warn!(
                    "more than {most} {of_what} are in use: connections at further ones are not \
                     counted, stalls there are still found"
                );
            }
        }
    }
}

/// The ring of events, where there is one.
pub(super) struct Events(Option<AsyncFd<RingBuf<MapData>>>);

impl Events {
    /// Waits for events; for ever where there are none.
    pub(super) async fn readable(
        &mut self,
    ) -> io::Result<AsyncFdReadyMutGuard<'_, RingBuf<MapData>>> {
        match &mut self.0 {
            Some(ring) => ring.readable_mut().await,
            None => future::pending().await,
        }
    }
}

/// Keeps what the verifier says of a program that the kernel refuses: its end alone is seldom enough.
fn keep_verifier_log(folder: &Path, program: &str, log: &str) {
    let name = format!("verifier-{program}.log");
    match state_dir::write(folder, &name, log.as_bytes()) {
        Ok(()) => tracing::warn!(
            "the kernel refused the program {program}: all that its verifier says is in {}",
            folder.join(name).display()
        ),
        Err(error) => tracing::warn!("the verifier's log cannot be kept: {error}"),
    }
}

/// Log records of the kernel programs, as they come.
fn forward_kernel_log(programs: &mut Programs) -> anyhow::Result<()> {
    let logger = aya_log::EbpfLogger::init(programs.ebpf())?;
    let mut logger = sys::kernel_log(logger)?;
    tokio::spawn(async move {
        while let Ok(mut guard) = logger.readable_mut().await {
            guard.get_inner_mut().flush();
            guard.clear_ready();
        }
    });
    Ok(())
}

//! Loads and attaches the kernel programs, and hands out what they write.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io,
};

use anyhow::Context as _;
use aya::{
    Btf as AyaBtf, Ebpf, EbpfLoader,
    maps::{HashMap, MapData, PerCpuArray, RingBuf},
    programs::{BtfTracePoint, Iter, ProgramError},
};
use detector_ebpf::{
    Counter, MAX_DESTINATIONS, MAX_FLOWS, MAX_NEXT_HOPS, MAX_STREAMS, Offsets, RING_BYTES, Settings,
};

use super::{
    Check,
    sweep::{Tables, empty},
};

/// The kernel programs, built by `cargo xtask build`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tcpstall.bpf.o"));

/// The tracepoints, and what is lost without each.
pub const TRACEPOINTS: &[(&str, &str, &str)] = &[
    (
        "on_retransmit",
        "tcp_retransmit_skb",
        "events: stalls are then found by sweeps alone, seconds later",
    ),
    (
        "on_destroy",
        "tcp_destroy_sock",
        "the end of a stall is seen at the next sweep only",
    ),
];

/// The walk over open files, and what is lost without it.
const HOLDERS: (&str, &str, &str) = (
    "holders",
    "task_file",
    "the process and control group of a stalled connection",
);

/// The walk that counts descriptors, and what is lost without it.
const DESCRIPTORS: (&str, &str, &str) = (
    "descriptors",
    "task_file",
    "how many descriptors processes with stalled connections have open, and when they run out",
);

/// The walk over the connections of other network namespaces, and what is lost without it.
const OTHERS: (&str, &str, &str) = (
    "sweep_others",
    "task_file",
    "connections of other network namespaces, those of containers for instance",
);

/// How large the maps are whose overflow costs something.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Bytes of the ring that carries events.
    pub ring: u32,
    /// Next hops that a sweep can count.
    pub next_hops: u32,
    /// Pairs of addresses of other network namespaces that a sweep can count.
    pub flows: u32,
    /// Destinations of which a sweep remembers how many connections it has shown.
    pub destinations: u32,
    /// Connections to which data streams that sweeps remember.
    pub streams: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            ring: RING_BYTES,
            next_hops: MAX_NEXT_HOPS,
            flows: MAX_FLOWS,
            destinations: MAX_DESTINATIONS,
            streams: MAX_STREAMS,
        }
    }
}

/// The loaded programs. Dropping it detaches and unloads everything: nothing is pinned.
pub struct Programs {
    ebpf: Ebpf,
    counters: PerCpuArray<MapData, u64>,
    wanted: HashMap<MapData, u64, u32>,
    processes: HashMap<MapData, u32, u32>,
    sees_others: bool,
}

/// The maps that a reader takes with it.
pub struct Outlets {
    /// Events.
    pub events: RingBuf<MapData>,
    /// What the sweep counts.
    pub tables: Tables,
}

impl Programs {
    /// Loads and attaches, and says what the kernel took. `log_level` is 0 for silence up to 5 for everything
    /// (`aya_log_common::Level`); at 0 the verifier removes the log statements. `keep` is given the
    /// name of each program that the kernel refuses, with the whole of the verifier's log.
    ///
    /// # Errors
    /// The program, the kernel's answer and the end of the verifier's log.
    pub fn load(
        offsets: &Offsets,
        settings: &Settings,
        sizes: &Sizes,
        log_level: u8,
        keep: &mut dyn FnMut(&str, &str),
    ) -> anyhow::Result<(Self, Outlets, Vec<Check>)> {
        let btf = AyaBtf::from_sys_fs().context("cannot read the kernel's type information")?;
        let mut ebpf = EbpfLoader::new()
            .btf(None)
            .override_global("OFFSETS", offsets, true)
            .override_global("SETTINGS", settings, true)
            .override_global("AYA_LOG_LEVEL", &log_level, true)
            .map_max_entries("EVENTS", sizes.ring)
            .map_max_entries("NEXT_HOPS", sizes.next_hops)
            .map_max_entries("FLOWS", sizes.flows)
            .map_max_entries("SAMPLED", sizes.destinations)
            .map_max_entries("STREAMS", sizes.streams)
            .load(OBJECT)
            .context(
                "the kernel refused the maps of the programs: CAP_BPF is needed, and before 5.11 \
                 the right to lock memory (LimitMEMLOCK=infinity)",
            )?;
        let mut checks = Vec::new();
        for (name, tracepoint, lost) in TRACEPOINTS {
            let attached = attach(&mut ebpf, name, tracepoint, &btf, keep);
            let found = format!("attached to {tracepoint}");
            checks.push(outcome(name, found, lost, attached));
        }
        load_walk(&mut ebpf, "sweep", "tcp", &btf, keep)?;
        let mut take = |name: &str| {
            ebpf.take_map(name)
                .with_context(|| format!("the object lacks the map {name}"))
        };
        let outlets = Outlets {
            events: take("EVENTS")?.try_into()?,
            tables: Tables {
                next_hops: take("NEXT_HOPS")?.try_into()?,
                routes: take("ROUTES")?.try_into()?,
                flows: take("FLOWS")?.try_into()?,
            },
        };
        let counters = take("COUNTER")?.try_into()?;
        let wanted = take("WANTED")?.try_into()?;
        let processes = take("PROCESSES")?.try_into()?;
        for (name, walk, lost) in [HOLDERS, DESCRIPTORS] {
            let loaded = load_walk(&mut ebpf, name, walk, &btf, keep);
            let found = "the kernel takes the walk over open files".to_owned();
            checks.push(outcome(name, found, lost, loaded));
        }
        let mut sees_others = settings.other_netns != 0;
        if sees_others {
            let (name, walk, lost) = OTHERS;
            let loaded = load_walk(&mut ebpf, name, walk, &btf, keep);
            sees_others = loaded.is_ok();
            let found = "the kernel takes the walk over other namespaces' connections".to_owned();
            checks.push(outcome(name, found, lost, loaded));
        }
        let found = "the kernel takes the walk over all connections";
        checks.push(Check::present("program:sweep", true, found));
        let programs = Self {
            ebpf,
            counters,
            wanted,
            processes,
            sees_others,
        };
        Ok((programs, outlets, checks))
    }

    /// The programs' own log records, for whoever wants to forward them.
    pub fn ebpf(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// Opens a walk over the connections of the calling thread's network namespace.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn open_sweep(&mut self) -> anyhow::Result<File> {
        open(&mut self.ebpf, "sweep")
    }

    /// Whether connections of other network namespaces can be seen.
    pub fn sees_others(&self) -> bool {
        self.sees_others
    }

    /// Opens a walk over the connections of all other network namespaces.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn open_others(&mut self) -> anyhow::Result<File> {
        open(&mut self.ebpf, OTHERS.0)
    }

    /// Opens a walk over the open files of all processes, for the holders of sockets with these
    /// inodes; the walk before must have been read to its end.
    ///
    /// # Errors
    /// When there are more than [`MAX_WANTED`], or the kernel has not taken the program.
    pub fn open_holders(&mut self, inodes: &BTreeSet<u64>) -> anyhow::Result<File> {
        empty(&mut self.wanted)?;
        for inode in inodes {
            self.wanted.insert(inode, 1, 0)?;
        }
        open(&mut self.ebpf, HOLDERS.0)
    }

    /// Opens a walk over the open files of all processes that counts those of these; the walk before must
    /// have been read to its end.
    ///
    /// # Errors
    /// When there are more than [`detector_ebpf::MAX_PROCESSES`], or the kernel has not taken the program.
    pub fn open_descriptors(&mut self, pids: &BTreeSet<u32>) -> anyhow::Result<File> {
        empty(&mut self.processes)?;
        for pid in pids {
            self.processes.insert(pid, 0, 0)?;
        }
        open(&mut self.ebpf, DESCRIPTORS.0)
    }

    /// What the last such walk has counted; a process without any is gone.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn descriptors(&self) -> anyhow::Result<BTreeMap<u32, u32>> {
        let counted: Result<BTreeMap<_, _>, _> = self.processes.iter().collect();
        let mut counted = counted?;
        counted.retain(|_, count| *count > 0);
        Ok(counted)
    }

    /// Sum of a counter over the processors.
    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters
            .get(&(counter as u32), 0)
            .map_or(0, |values| values.iter().sum())
    }
}

/// Walks over all connections that tell nothing: no sweep can cost less. For measurements.
pub struct Floor(Ebpf);

impl Floor {
    /// Loads it.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn load(offsets: &Offsets) -> anyhow::Result<Self> {
        let btf = AyaBtf::from_sys_fs()?;
        let mut ebpf = EbpfLoader::new()
            .btf(None)
            .override_global("OFFSETS", offsets, true)
            .load(OBJECT)?;
        for name in ["floor", "least"] {
            load_walk(&mut ebpf, name, "tcp", &btf, &mut |_, _| {})?;
        }
        Ok(Self(ebpf))
    }

    /// Opens the one that looks at nothing, for the calling thread's network namespace.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn open(&mut self) -> anyhow::Result<File> {
        open(&mut self.0, "floor")
    }

    /// Opens the one that asks of each connection whether data waits: less does not do to find a stall.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn open_least(&mut self) -> anyhow::Result<File> {
        open(&mut self.0, "least")
    }
}

fn open(ebpf: &mut Ebpf, name: &str) -> anyhow::Result<File> {
    let walk: &mut Iter = program(ebpf, name)?;
    let link = walk.attach()?;
    Ok(walk.take_link(link)?.into_file()?)
}

fn load_walk(
    ebpf: &mut Ebpf,
    name: &str,
    walk: &str,
    btf: &AyaBtf,
    keep: &mut dyn FnMut(&str, &str),
) -> anyhow::Result<()> {
    let program: &mut Iter = program(ebpf, name)?;
    program
        .load(walk, btf)
        .map_err(|error| refusal(name, error, keep))
}

fn attach(
    ebpf: &mut Ebpf,
    name: &str,
    tracepoint: &str,
    btf: &AyaBtf,
    keep: &mut dyn FnMut(&str, &str),
) -> anyhow::Result<()> {
    let program: &mut BtfTracePoint = program(ebpf, name)?;
    program
        .load(tracepoint, btf)
        .map_err(|error| refusal(name, error, keep))?;
    program
        .attach()
        .with_context(|| format!("cannot attach {name} to {tracepoint}"))?;
    Ok(())
}

/// An event that cannot be had costs latency, never the start: the sweep is the truth.
fn outcome(name: &str, found: String, lost: &str, taken: anyhow::Result<()>) -> Check {
    let feature = format!("program:{name}");
    match taken {
        Ok(()) => Check::present(feature, false, found),
        Err(error) => Check {
            ok: false,
            lost: lost.to_owned(),
            remedy: "report the lines above with the kernel's release".to_owned(),
            ..Check::present(feature, false, format!("{error:#}"))
        },
    }
}

fn program<'a, T>(ebpf: &'a mut Ebpf, name: &str) -> anyhow::Result<&'a mut T>
where
    &'a mut T: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
{
    let program = ebpf
        .program_mut(name)
        .with_context(|| format!("the object lacks the program {name}"))?;
    Ok(program.try_into()?)
}

/// One sentence for a program that the kernel does not take, with the end of the verifier's log.
fn refusal(name: &str, error: ProgramError, keep: &mut dyn FnMut(&str, &str)) -> anyhow::Error {
    let kernel = release();
    match error {
        ProgramError::LoadError {
            io_error,
            verifier_log,
        } => {
            let log = verifier_log.to_string();
            keep(name, &log);
            let lines: Vec<_> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(12)..].join("\n  ");
            let hint = if io_error.kind() == io::ErrorKind::PermissionDenied && lines.is_empty() {
                "; run as root or with CAP_BPF and CAP_PERFMON"
            } else {
                ""
            };
            anyhow::anyhow!("kernel {kernel} refused the program {name}: {io_error}{hint}\n  {end}")
        }
        other => anyhow::Error::from(other)
            .context(format!("kernel {kernel} cannot run the program {name}")),
    }
}

/// Release of the running kernel.
pub fn release() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

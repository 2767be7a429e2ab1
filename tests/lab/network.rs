//! The network: one host, a router per upstream, an internet with many destinations.
//!
//! ```text
//!          wan1 ┌───────────┐
//!        ┌──────┤ router a  ├──────┐
//!  ┌─────┴┐wan2 ├───────────┤   ┌──┴──┐  198.18.0.0/18    behind provider-a
//!  │ host ├─────┤ router b  ├───┤ net │  198.18.64.0/18   behind provider-b
//!  └─────┬┘wan3 ├───────────┤   └──┬──┘  198.18.128.0/18  behind provider-c
//!        └──────┤ router c  ├──────┘
//!               └───────────┘
//! ```
//!
//! Each destination is a /24 (a /48 in IPv6) of which the first address answers; `net` takes all
//! of them by a local route for the whole range. Whoever binds to the address of an uplink leaves
//! through that uplink, whatever the destination.

use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    ops::Range,
    path::Path,
    process::{self, Command},
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    fault::{self, Fault, Only},
    leftovers::{self, PREFIX},
    namespace::{Namespace, delete, feed},
    partial::{self, Partial},
    server::{self, Server},
    traffic::{Load, Plan, Traffic},
};

/// Destinations that each upstream leads to.
pub const DESTINATIONS: u8 = 64;
/// Upstreams that a laboratory can have.
pub const UPSTREAMS: usize = 3;

/// How long IPv6 may take until it works.
const IPV6_START: Duration = Duration::from_secs(10);

/// How a client reaches its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
    /// IPv4 through an IPv6 socket, as `::ffff:198.18.0.1`.
    Mapped,
}

/// One way out.
#[derive(Debug)]
pub struct Upstream {
    /// Number, from 0.
    pub index: usize,
    /// Name in the configuration of the detector.
    pub name: &'static str,
    /// Interface of the host.
    pub interface: &'static str,
    /// The router, as the host sees it.
    pub gateway: Ipv4Addr,
    /// The same in IPv6.
    pub gateway6: Ipv6Addr,
    /// The host on this uplink.
    pub local: Ipv4Addr,
    /// The same in IPv6.
    pub local6: Ipv6Addr,
    /// The router's namespace; the host is beyond its `wan`, the internet beyond its `core`.
    pub router: Namespace,
}

impl Upstream {
    /// Address of destination `number` of this upstream.
    pub fn destination(&self, number: u8, family: Family) -> IpAddr {
        destination(self.index, number, family)
    }

    /// Prefix of that destination, the unit that has a vote.
    pub fn prefix(&self, number: u8, family: Family) -> String {
        match family {
            Family::V4 | Family::Mapped => {
                let [a, b, c, _] = v4(self.index, number).octets();
                format!("{a}.{b}.{c}.0/24")
            }
            Family::V6 => format!(
                "{:x}:{:x}:{:x}::/48",
                0x2001,
                0xdb8,
                group(self.index, number)
            ),
        }
    }

    /// All its destinations, in IPv4 and IPv6.
    pub fn aggregates(&self) -> (String, String) {
        (
            format!(
                "{}/18",
                Ipv4Addr::from(u32::from(v4(self.index, 0)) & !0xff)
            ),
            format!("2001:db8:{:x}::/36", group(self.index, 0)),
        )
    }
}

/// A whole laboratory. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct Lab {
    /// The host that the detector watches.
    pub host: Namespace,
    /// The internet.
    pub net: Namespace,
    /// The ways out.
    pub upstreams: Vec<Upstream>,
    slot: u8,
    server: Option<Server>,
    // Last, so that the names go after all that refers to them.
    _names: Names,
}

impl Lab {
    /// Builds a laboratory with `upstreams` ways out (up to three), with addresses of its own.
    pub fn start(upstreams: usize) -> Result<Self> {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // Subnet 0 is left to the demonstration.
        let slot = 1 + (process::id().wrapping_mul(7) + u32::from(number)) % 63;
        Self::build(upstreams, &number.to_string(), slot as u8)
    }

    /// Builds the laboratory of the demonstration: gateways 203.0.113.1, 198.51.100.1, 192.0.2.1.
    pub fn story(upstreams: usize) -> Result<Self> {
        Self::build(upstreams, "story", 0)
    }

    fn build(upstreams: usize, label: &str, slot: u8) -> Result<Self> {
        ensure!(
            (1..=UPSTREAMS).contains(&upstreams),
            "a laboratory has 1 to {UPSTREAMS} upstreams"
        );
        allow_many_files()?;
        let names = Names::claim(&format!("{PREFIX}{}-{label}", process::id()), upstreams)?;
        let mut lab = Self {
            host: Namespace::open(&names.host())?,
            net: Namespace::open(&names.net())?,
            upstreams: (0..upstreams)
                .map(|index| Upstream::new(index, slot, Namespace::open(&names.router(index))?))
                .collect::<Result<_>>()?,
            slot,
            server: None,
            _names: names,
        };
        lab.configure()?;
        lab.server = Some(Server::start(&lab.net)?);
        Ok(lab)
    }

    /// What tells its addresses from those of other laboratories on this machine.
    pub(crate) fn slot(&self) -> u8 {
        self.slot
    }

    /// Brings everything up, all namespaces at once.
    fn configure(&self) -> Result<()> {
        thread::scope(|scope| {
            let mut parts = vec![
                scope.spawn(|| self.configure_host()),
                scope.spawn(|| self.configure_net()),
            ];
            for upstream in &self.upstreams {
                parts.push(scope.spawn(|| upstream.configure_router()));
            }
            parts.into_iter().try_for_each(|part| match part.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })
    }

    fn configure_host(&self) -> Result<()> {
        self.host.sysctl(NO_WAITING)?;
        let mut batch = String::from("link set lo up\n");
        let mut rules6 = String::new();
        for upstream in &self.upstreams {
            let Upstream {
                index,
                interface,
                gateway,
                gateway6,
                local,
                local6,
                ..
            } = upstream;
            let (range, range6) = upstream.aggregates();
            let table = 100 + index;
            batch += &format!(
                "link set {interface} up\n\
                 address add {local}/30 dev {interface}\n\
                 address add {local6}/64 dev {interface} nodad\n\
                 route add {range} via {gateway}\n\
                 route add {range6} via {gateway6}\n\
                 route add default via {gateway} table {table}\n\
                 route add ::/0 via {gateway6} table {table}\n\
                 rule add from {local} lookup {table}\n"
            );
            rules6 += &format!("rule add from {local6} lookup {table}\n");
        }
        self.host.ip(&batch)?;
        self.host.ip6(&rules6)
    }

    fn configure_net(&self) -> Result<()> {
        self.net.sysctl(NO_WAITING)?;
        self.net
            .sysctl(&[("core/somaxconn", &server::BACKLOG.to_string())])?;
        let mut batch = String::from("link set lo up\n");
        for upstream in &self.upstreams {
            let Upstream {
                index,
                local,
                local6,
                ..
            } = upstream;
            let (range, range6) = upstream.aggregates();
            batch += &format!(
                "link set core{index} up\n\
                 address add 100.64.{index}.2/30 dev core{index}\n\
                 address add fd00:0:0:{index}::2/64 dev core{index} nodad\n\
                 route add {local}/32 via 100.64.{index}.1\n\
                 route add {local6}/128 via fd00:0:0:{index}::1\n\
                 route add local {range} dev lo\n\
                 route add local {range6} dev lo\n"
            );
        }
        self.net.ip(&batch)
    }

    /// Waits until IPv6 works everywhere: the kernel takes a second or two to notice new links.
    pub fn wait_for_ipv6(&self) -> Result<()> {
        let begin = Instant::now();
        for upstream in &self.upstreams {
            let peer = SocketAddr::new(upstream.destination(0, Family::V6), server::MESSAGES);
            let try_once = || TcpStream::connect_timeout(&peer, Duration::from_millis(200));
            while let Err(error) = self.host.run(try_once)? {
                ensure!(
                    begin.elapsed() < IPV6_START,
                    "no IPv6 through {}: {error}",
                    upstream.name
                );
            }
        }
        Ok(())
    }

    /// Breaks an upstream; an earlier fault of it is repaired first. Gives the time just before
    /// it broke.
    pub fn break_(&self, upstream: usize, fault: Fault) -> Result<Instant> {
        self.break_for(upstream, fault, &Only::default())
    }

    /// The same for some only, when the fault is on the way; the others get through.
    pub fn break_for(&self, upstream: usize, fault: Fault, only: &Only) -> Result<Instant> {
        self.repair(upstream)?;
        let before = Instant::now();
        fault::install(self, &self.upstreams[upstream], fault, only)?;
        Ok(before)
    }

    /// Breaks a part of an upstream, on top of what is broken already. Gives the time just before.
    pub fn also_break(&self, upstream: usize, partial: Partial) -> Result<Instant> {
        let before = Instant::now();
        partial::install(self, &self.upstreams[upstream], partial)?;
        Ok(before)
    }

    /// Repairs whatever is broken at an upstream. Gives the time just before it was repaired.
    pub fn repair(&self, upstream: usize) -> Result<Instant> {
        let before = Instant::now();
        fault::remove(self, &self.upstreams[upstream])?;
        partial::remove(self, &self.upstreams[upstream])?;
        Ok(before)
    }

    /// Starts traffic through an upstream to some of its destinations.
    pub fn traffic(&self, upstream: usize, destinations: Range<u8>, load: Load) -> Result<Traffic> {
        Traffic::start(
            &self.host,
            &Plan::new(&self.upstreams[upstream], destinations, load),
        )
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.server.take();
        // What the sockets leave behind would keep a namespace for minutes after its name is gone.
        for namespace in [&self.host, &self.net] {
            let _ = namespace.sysctl(&[("ipv4/tcp_orphan_retries", "1")]);
        }
    }
}

impl Upstream {
    fn new(index: usize, slot: u8, router: Namespace) -> Result<Self> {
        // A documentation range each (RFC 5737), so that they look like three providers.
        let [a, b, c] = [[203, 0, 113], [198, 51, 100], [192, 0, 2]][index];
        let v6 = |last| {
            Ipv6Addr::new(
                0x2001,
                0xdb8,
                0xf000 + index as u16,
                slot.into(),
                0,
                0,
                0,
                last,
            )
        };
        Ok(Self {
            index,
            name: ["provider-a", "provider-b", "provider-c"][index],
            interface: ["wan1", "wan2", "wan3"][index],
            gateway: Ipv4Addr::new(a, b, c, 4 * slot + 1),
            gateway6: v6(1),
            local: Ipv4Addr::new(a, b, c, 4 * slot + 2),
            local6: v6(2),
            router,
        })
    }

    fn configure_router(&self) -> Result<()> {
        let Self {
            index,
            gateway,
            gateway6,
            ..
        } = self;
        self.router.sysctl(NO_WAITING)?;
        self.router.sysctl(&[
            ("ipv4/ip_forward", "1"),
            ("ipv6/conf/all/forwarding", "1"),
            // So that pulling the cable and plugging it in again brings the old state back.
            ("ipv6/conf/all/keep_addr_on_down", "1"),
        ])?;
        // The internet begins at the inner link: other upstreams' destinations are there as well.
        self.router.ip(&format!(
            "link set lo up\n\
             link set wan up\n\
             link set core up\n\
             address add {gateway}/30 dev wan\n\
             address add {gateway6}/64 dev wan nodad\n\
             address add 100.64.{index}.1/30 dev core\n\
             address add fd00:0:0:{index}::1/64 dev core nodad\n\
             route add default via 100.64.{index}.2\n\
             route add ::/0 via fd00:0:0:{index}::2\n"
        ))
    }
}

/// Both ends of every connection are ours: the usual 1024 descriptors would not do.
fn allow_many_files() -> Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    )
    .context("cannot raise the limit of open files")
}

/// Address of a destination.
fn destination(upstream: usize, number: u8, family: Family) -> IpAddr {
    match family {
        Family::V4 => v4(upstream, number).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, group(upstream, number), 0, 0, 0, 0, 1).into(),
        Family::Mapped => v4(upstream, number).to_ipv6_mapped().into(),
    }
}

fn v4(upstream: usize, number: u8) -> Ipv4Addr {
    assert!(
        number < DESTINATIONS,
        "an upstream has {DESTINATIONS} destinations"
    );
    Ipv4Addr::new(198, 18, (upstream as u8) * DESTINATIONS + number, 1)
}

/// Third group of a destination's IPv6 address.
fn group(upstream: usize, number: u8) -> u16 {
    0x1000 * (upstream as u16 + 1) + u16::from(number)
}

/// Settings that are wanted everywhere: addresses usable at once, odd paths allowed.
const NO_WAITING: &[(&str, &str)] = &[
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
];

/// A namespace's children get tables of connections of their own, of this size, from 6.1 on
/// (`tcp_set_hashinfo`, `net/ipv4/tcp_ipv4.c`); before that all namespaces share one, and a walk passes
/// the connections of all.
const TABLE: &str = "/proc/sys/net/ipv4/tcp_child_ehash_entries";
const TABLE_SIZE: &str = "262144";

/// The names in `/run/netns`; dropped, they are removed. The links between them go with the
/// routers: each pair has one end there, and nothing else lives in a router.
#[derive(Debug)]
struct Names {
    prefix: String,
    upstreams: usize,
}

impl Names {
    /// Makes the namespaces and the links between them.
    fn claim(prefix: &str, upstreams: usize) -> Result<Self> {
        let names = Self {
            prefix: prefix.to_owned(),
            upstreams,
        };
        let (host, net) = (names.host(), names.net());
        leftovers::remove();
        let mut batch = String::new();
        for name in names.all().filter(|name| *name != host) {
            batch += &format!("netns add {name}\n");
        }
        feed(Command::new("ip").args(["-batch", "-"]), &batch)?;
        let around = Namespace::open(&net)?;
        if Path::new(TABLE).exists() {
            around.sysctl(&[("ipv4/tcp_child_ehash_entries", TABLE_SIZE)])?;
        }
        // Made from inside: its table of connections is its own, as on a host of its own.
        around.ip(&format!("netns add {host}\n"))?;
        let mut batch = String::new();
        for index in 0..upstreams {
            let (router, wan) = (names.router(index), index + 1);
            // One segment, one packet, as on a real wire: a loss of packets is a loss of segments.
            batch += &format!(
                "link add wan{wan} netns {host} gso_max_segs 1 type veth peer name wan netns {router}\n\
                 link add core{index} netns {net} gso_max_segs 1 type veth peer name core netns {router}\n"
            );
        }
        feed(Command::new("ip").args(["-batch", "-"]), &batch)?;
        Ok(names)
    }

    fn host(&self) -> String {
        format!("{}-host", self.prefix)
    }

    fn net(&self) -> String {
        format!("{}-net", self.prefix)
    }

    fn router(&self, index: usize) -> String {
        format!("{}-r{}", self.prefix, ['a', 'b', 'c'][index])
    }

    fn all(&self) -> impl Iterator<Item = String> {
        [self.host(), self.net()]
            .into_iter()
            .chain((0..self.upstreams).map(|i| self.router(i)))
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        // After a start that failed half-way only some of them exist.
        if let Err(error) = delete(self.all()) {
            // Past the capture of a test's output: nobody looks into the output of what passed.
            let _ = writeln!(std::io::stderr(), "laboratory: {error:#}");
        }
    }
}

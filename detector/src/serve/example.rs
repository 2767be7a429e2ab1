//! A made-up host for tests: `provider-b` loses large segments, `provider-a` is fine, `wg0` idle.
//!
//! **Invariant:** the same every time.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::{broadcast, watch};

mod incidents;

pub(crate) use incidents::incidents;

use super::{
    Board, Facts, Hooks, Kills, Owner, Published, Recordings, Stakes, Supply, metrics::Metrics,
};
use crate::{
    api,
    config::Config,
    gate::Shown,
    hooks::tests::hook,
    model::{
        Cause, Check, ConnectionId, Counts, Destination, Evidence, Excluded, Gate, IfIndex,
        Interface, NetnsId, NextHop, Occasion, Origin, Phase, Retries, Sample, Scope, Snapshot,
        Stall, State, TcpState, Transition, Upstream,
    },
    time::Time,
};

pub(crate) const NETNS: NetnsId = NetnsId(4_026_531_840);
const NOW: Time = Time(10_000_000_000_000);

fn ago(milliseconds: u64) -> Time {
    NOW.before(Duration::from_millis(milliseconds))
}

fn hop(interface: u32, gateway: Option<&str>) -> NextHop {
    let gateway = gateway.map(|it| it.parse().expect("address"));
    NextHop {
        netns: NETNS,
        interface: IfIndex(interface),
        gateway,
    }
}

fn destination(text: &str) -> Destination {
    Destination(text.parse().expect("prefix"))
}

/// A connection that made no progress for `age` milliseconds, through `provider-b`.
pub(crate) fn stall(id: u64, age: u64, cause: Cause) -> Stall {
    let last = u8::try_from(id % 200).expect("small");
    let remote = format!("198.51.{last}.9:25").parse().expect("address");
    let next_hop = hop(3, Some("203.0.113.1"));
    let sample = Sample {
        id: ConnectionId(id),
        at: NOW,
        origin: Origin::Suspicious,
        netns: NETNS,
        local: "10.0.0.2:40000".parse().expect("address"),
        remote,
        tcp_state: TcpState::Established,
        next_hop: None,
        mark: 0,
        device: None,
        uid: 101,
        inode: Some(id),
        snd_una: 1,
        unacked: 1448,
        unsent: 30_000,
        packets_out: 1,
        timeouts: 5,
        probes: 0,
        persist: false,
        backoff: 4,
        peer_window: 65_536,
        mss: 1448,
        head: Some(1448),
        rto: Duration::from_millis(3200),
        srtt: Some(Duration::from_millis(10)),
        stuck_since: Some(ago(age)),
        sent_at: ago(age / 2),
        acked_at: ago(age),
        heard_at: ago(age),
        bytes_acked: 512,
        segments_out: 9,
        retransmissions: 5,
        send_error: Some(0),
        user_timeout: None,
        duplicates: 0,
        unreachable: None,
        next_try: Some(NOW.after(Duration::from_millis(1600))),
        rcv_nxt: 1,
        received_at: ago(age),
        bytes_received: 220,
        hole: false,
        memory: Some(41_216),
    };
    Stall {
        phase: if age >= 3000 {
            Phase::Stalled
        } else {
            Phase::Suspect
        },
        cause,
        because: match cause {
            Cause::Mtu => "smaller segments got through meanwhile, none of this size did",
            _ => "nothing has come back since the segment was first sent",
        }
        .to_owned(),
        since: ago(age),
        upstream: "provider-b".to_owned(),
        next_hop: Some(next_hop),
        destination: Destination::of(sample.remote.ip()),
        excluded: None,
        sample,
    }
}

/// A connection whose peer does not read.
fn slow_reader(id: u64, age: u64) -> Stall {
    let stall = stall(id, age, Cause::ZeroWindow);
    let sample = Sample {
        peer_window: 0,
        persist: true,
        timeouts: 0,
        probes: 1,
        packets_out: 0,
        unacked: 0,
        head: None,
        acked_at: ago(300),
        heard_at: ago(300),
        ..stall.sample
    };
    Stall {
        excluded: Some(Excluded::ZeroWindow),
        because: "the peer's window is too small, and the peer keeps saying so".to_owned(),
        sample,
        ..stall
    }
}

/// A connection that was closed with data on its way.
fn left_behind(id: u64, age: u64) -> Stall {
    let stall = stall(id, age, Cause::Mtu);
    let sample = Sample {
        tcp_state: TcpState::FinWait1,
        inode: None,
        ..stall.sample
    };
    Stall { sample, ..stall }
}

fn upstream(name: &str, next_hop: NextHop, state: State, counts: Counts) -> Upstream {
    Upstream {
        name: name.to_owned(),
        next_hops: BTreeMap::from([(next_hop, counts)]),
        state,
        since: ago(90_000),
        scope: None,
        cause: None,
        confidence: 0.987,
        stalled: BTreeMap::new(),
        suspect: BTreeMap::new(),
        active_destinations: 0,
        stalled_destinations: Vec::new(),
        fine_destinations: Vec::new(),
        excluded: BTreeMap::new(),
        elsewhere: 0,
        fine_elsewhere: 0,
        outstanding: 0,
        oldest_stall: None,
        evidence: Evidence {
            baseline: 0.02,
            chance: 1.0,
            ..Evidence::default()
        },
        orphans: 0,
    }
}

fn failing() -> Upstream {
    let next_hop = hop(3, Some("203.0.113.1"));
    let counts = Counts {
        suspicious: 57,
        busy: 1,
        app_limited: 0,
        waiting: 3,
        idle: 312,
        handshakes: 4,
        ..Counts::default()
    };
    let b = upstream("provider-b", next_hop, State::Failing, counts);
    Upstream {
        since: ago(12_300),
        scope: Some(Scope::Upstream),
        cause: Some(Cause::Mtu),
        confidence: 0.9998,
        stalled: BTreeMap::from([
            ((Some(next_hop), Cause::Mtu), 54),
            ((Some(next_hop), Cause::Blackhole), 1),
            ((Some(next_hop), Cause::ZeroWindow), 9),
        ]),
        suspect: BTreeMap::from([(Some(next_hop), 1), (None, 1)]),
        active_destinations: 34,
        stalled_destinations: (0..31)
            .map(|it| destination(&format!("198.51.{it}.0/24")))
            .collect(),
        fine_destinations: vec![destination("192.0.2.0/24"), destination("2001:db8:7::/48")],
        excluded: BTreeMap::from([
            (Excluded::Idle, 312),
            (Excluded::AppLimited, 4),
            (Excluded::ZeroWindow, 9),
            (Excluded::OneDestination, 200),
        ]),
        elsewhere: 6,
        fine_elsewhere: 6,
        outstanding: 812_344,
        oldest_stall: Some(ago(12_300)),
        orphans: 2,
        evidence: Evidence {
            chance: 1e-30,
            largest_passed: Some(1020),
            smallest_waiting: Some(1448),
            ..b.evidence
        },
        ..b
    }
}

/// The judgement.
pub(crate) fn snapshot() -> Snapshot {
    let busy = Counts {
        suspicious: 0,
        busy: 70,
        app_limited: 9,
        waiting: 2,
        idle: 40,
        ..Counts::default()
    };
    let idle = Counts {
        idle: 2,
        ..Counts::default()
    };
    let a = Upstream {
        active_destinations: 71,
        fine_destinations: vec![destination("198.51.3.0/24")],
        excluded: BTreeMap::from([(Excluded::Idle, 40), (Excluded::AppLimited, 9)]),
        ..upstream("provider-a", hop(2, Some("192.0.2.1")), State::Ok, busy)
    };
    let interface = |name: &str| Interface {
        name: name.to_owned(),
        up: true,
        ..Interface::default()
    };
    Snapshot {
        at: NOW,
        state: State::Failing,
        scope: Some(Scope::Upstream),
        upstreams: vec![
            a,
            failing(),
            upstream("vpn", hop(4, None), State::Idle, idle),
        ],
        stalls: vec![
            stall(0x7f3a_9c01, 12_300, Cause::Mtu),
            stall(0x7f3a_9c02, 12_000, Cause::Mtu),
            stall(0x7f3a_9c03, 9_000, Cause::Blackhole),
            slow_reader(0x7f3a_9c04, 8_000),
            left_behind(0x7f3a_9c05, 1_200),
        ],
        interfaces: BTreeMap::from([
            ((NETNS, IfIndex(2)), interface("wan0")),
            ((NETNS, IfIndex(3)), interface("wan1")),
            ((NETNS, IfIndex(4)), interface("wg0")),
        ]),
        swept_at: Some(ago(400)),
    }
}

fn check(feature: &str, ok: bool) -> Check {
    Check {
        feature: feature.to_owned(),
        ok,
        required: feature == "btf",
        found: "it was tried".to_owned(),
        lost: if ok {
            String::new()
        } else {
            "owners of connections".to_owned()
        },
        remedy: if ok {
            String::new()
        } else {
            "a kernel that takes the walk over open files".to_owned()
        },
    }
}

/// A process that runs out of descriptors and a service that is short of memory, on a host that has enough of it.
fn stakes() -> Stakes {
    let supply = |used, limit, run_out: Option<u64>| Supply {
        used,
        limit: Some(limit),
        run_out: run_out.map(Duration::from_secs),
    };
    Stakes {
        descriptors: BTreeMap::from([(4711, supply(812, 1024, Some(370)))]),
        memory: BTreeMap::from([(
            "/system.slice/postfix.service".to_owned(),
            supply(468 << 20, 512 << 20, Some(540)),
        )]),
        tcp: Some(supply(96 << 20, 1500 << 20, None)),
    }
}

fn gate(gate: Gate) -> Shown {
    Shown { gate, opens: None }
}

/// What goes with it.
pub(crate) fn facts() -> Facts {
    let wall = "2026-11-23T13:00:00.123456789Z".parse().expect("time");
    let owner = |pid, process: &str| Owner {
        pid: Some(pid),
        process: Some(process.to_owned()),
        cgroup: Some("/system.slice/postfix.service".to_owned()),
    };
    Facts {
        host: "mx1".to_owned(),
        version: "0.1.0".to_owned(),
        kernel: "6.18.0".to_owned(),
        pid: 4242,
        started_at: "2026-11-20T08:00:00Z".parse().expect("time"),
        wall,
        sweep_seconds: Some(0.0123),
        sweep_interval: Duration::from_secs(1),
        events_lost: 0,
        metrics_address: Some("127.0.0.1:19293".parse().expect("address")),
        owners: BTreeMap::from([
            (ConnectionId(0x7f3a_9c01), owner(4711, "smtpd")),
            (ConnectionId(0x7f3a_9c02), owner(4712, "smt\x1b[2Jpd")),
        ]),
        stakes: stakes(),
        retries: Retries::default(),
        checks: vec![check("btf", true), check("owners", false)],
        reload: Some((true, "2026-11-20T08:00:00Z".parse().expect("time"))),
        gates: BTreeMap::from([
            ("provider-a".to_owned(), gate(Gate::Open)),
            ("provider-b".to_owned(), gate(Gate::Closed)),
        ]),
        hooks_are_run: Some(true),
    }
}

/// Both.
pub(crate) fn published() -> Published {
    Published {
        snapshot: snapshot(),
        facts: facts(),
    }
}

/// `provider-b` has just begun to fail.
pub(crate) fn event() -> api::Event {
    let change = Transition::Upstream {
        upstream: "provider-b".to_owned(),
        from: State::Ok,
        to: State::Failing,
        scope: Some(Scope::Upstream),
        cause: Some(Cause::Mtu),
        confidence: 0.9998,
        stuck: 57,
        stalled_destinations: 31,
        active_destinations: 34,
    };
    super::json::event(&change, facts().wall).expect("an upstream has changed")
}

/// A board that shows it for as long as the other value lives.
pub(crate) fn board() -> (Board, watch::Sender<Option<Arc<Published>>>) {
    let (sender, latest) = watch::channel(Some(Arc::new(published())));
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    (
        Board {
            latest,
            incidents: watch::Sender::new(incidents()).subscribe(),
            events: broadcast::Sender::new(16),
            metrics,
            recordings: recordings(),
            kills: Kills::default(),
            hooks: hooks(),
        },
        sender,
    )
}

/// One that is told of gates.
fn hooks() -> Hooks {
    let hooks = Hooks::default();
    hooks.configure(&Config {
        hooks: vec![hook("route", Occasion::Gate)],
        ..Config::default()
    });
    hooks
}

pub(crate) fn recordings() -> Recordings {
    let settings = (&Config::default()).into();
    Recordings::new("mx1".to_owned(), "6.18.0".to_owned(), settings)
}

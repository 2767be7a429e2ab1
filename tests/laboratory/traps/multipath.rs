//! Connections of several subflows (MPTCP, RFC 8684).

use std::time::Duration;

use lab::{Direction, Fault, Load, Plan, SocketOptions, status::Status};

use super::{ss, until};
use crate::world::{SOON, World, all_quiet, it_works};

/// Connections, each with a subflow through the second upstream, where it began, and one through
/// the first.
const CONNECTIONS: u32 = 20;

/// Two upstreams, and connections over both of them.
fn over_both() -> Option<(World, usize)> {
    let mut world = World::new(2)?;
    let (host, net) = (&world.lab.host, &world.lab.net);
    for namespace in [host, net] {
        it_works(namespace.sysctl(&[("mptcp/enabled", "1")]));
        mptcp(namespace, "limits set subflow 2 add_addr_accepted 2");
    }
    let other = world.lab.upstreams[0].local;
    mptcp(host, &format!("endpoint add {other} dev wan1 subflow"));
    // Much at a time, so that one subflow is not enough for it.
    let large = Load::Steady {
        connections: 1,
        bytes: 200_000,
        every: Duration::from_millis(250),
    };
    let plan = Plan::new(&world.lab.upstreams[1], 0..20, large);
    let multipath = world.plan(&plan.with(SocketOptions {
        multipath: true,
        ..SocketOptions::default()
    }));
    world.watch();
    world.until_traffic(SOON, "all have two subflows", |world| {
        subflows(world) == 2 * CONNECTIONS as usize
    });
    world.all_ok();
    Some((world, multipath))
}

#[track_caller]
fn mptcp(namespace: &lab::namespace::Namespace, arguments: &str) {
    let arguments: Vec<_> = ["mptcp"].into_iter().chain(arguments.split(' ')).collect();
    let output = it_works(namespace.output("ip", &arguments));
    assert!(output.status.success(), "ip {arguments:?}: {output:?}");
}

/// Sockets that are part of another one.
fn subflows(world: &World) -> usize {
    let sockets = ss(&world.lab.host, &["-Htni", "state", "established"]);
    sockets
        .iter()
        .filter(|it| it.contains("tcp-ulp-mptcp"))
        .count()
}

/// Trap: MPTCP: each subflow is a connection, and what they are part of is none.
#[test]
fn subflows_are_counted_and_what_they_belong_to_is_not() {
    let Some((world, _)) = over_both() else {
        return;
    };
    let counted_once = |status: &Status| {
        let counted = |name| status.upstream(name).map(|it| it.connections.established);
        all_quiet(status)
            && counted("provider-a") == Some(CONNECTIONS)
            && counted("provider-b") == Some(CONNECTIONS)
    };
    // The sweep before may have come while they opened.
    world.until(SOON, "each is counted", counted_once);
    world.hold(Duration::from_secs(6), "each is counted once", counted_once);
}

/// Trap: MPTCP: a dead way is found, though the connection goes on over the other one.
#[test]
fn a_black_hole_under_subflows_is_found_while_the_connections_go_on() {
    let Some((world, multipath)) = over_both() else {
        return;
    };
    world.break_(1, Fault::Blackhole(Direction::Both));
    world.is_blamed(1, "blackhole");
    let messages = world.counters(multipath).messages();
    world.until_traffic(SOON, "the connections go on", |world| {
        world.counters(multipath).messages() > messages + 2 * u64::from(CONNECTIONS)
    });
    until(SOON, "their holder is known", || {
        let stalls = world.stalls(&["--upstream", "provider-b"]);
        let ours = Some(std::process::id());
        !stalls.is_empty() && stalls.iter().all(|it| it.pid == ours)
    });
    world.recovers(1);
}

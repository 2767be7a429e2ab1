//! What looks like a stall of the upstream and is none, and what is one and hides. Each test names
//! its trap; beside the quiet case stands, where there is one, the loud case that is nearly the same.

use std::time::Duration;

use lab::{Load, namespace::Namespace, status::Status};

use crate::world::{SOON, World, in_full, it_works, others_are_fine};

#[path = "traps/clients.rs"]
mod clients;
#[path = "traps/clocks.rs"]
mod clocks;
#[path = "traps/destinations.rs"]
mod destinations;
#[path = "traps/host.rs"]
mod host;
#[path = "traps/links.rs"]
mod links;
#[path = "traps/listener.rs"]
mod listener;
#[path = "traps/multipath.rs"]
mod multipath;
#[path = "traps/routes.rs"]
mod routes;
#[path = "traps/takeover.rs"]
mod takeover;
#[path = "traps/translation.rs"]
mod translation;
#[path = "traps/tunnels.rs"]
mod tunnels;
#[path = "traps/weather.rs"]
mod weather;
#[path = "traps/windows.rs"]
mod windows;

/// So many connections to each destination, 4000 bytes every quarter of a second on each.
const fn steady(connections: u16) -> Load {
    Load::Steady {
        connections,
        bytes: 4000,
        every: Duration::from_millis(250),
    }
}

/// Whether an upstream is said to be bad, be it in part.
fn is_bad(status: &Status, name: &str) -> bool {
    matches!(status.state_of(name), "degraded" | "failing")
}

/// Waits until an upstream is bad for that cause; until then no other is blamed.
#[track_caller]
fn turns_bad(world: &World, name: &str, cause: &str) -> Status {
    world.until(SOON, &format!("{name} is bad for {cause}"), |status| {
        others_are_fine(status, name);
        is_bad(status, name) && status.cause_of(name) == Some(cause)
    })
}

/// Waits until each of so many connections has had about 16 answers: a handshake that came late makes
/// the first round trip look like a second, and the first two timeouts take nine until it is forgotten.
#[track_caller]
fn round_trips_are_known(world: &World, traffic: usize, connections: u64) {
    world.until_traffic(SOON, "round-trip times are known", |world| {
        world.counters(traffic).messages() >= 16 * connections
    });
}

/// How many connections of an upstream are left out for that reason.
fn excluded(status: &Status, name: &str, reason: &str) -> u32 {
    let upstream = status.upstream(name);
    upstream
        .and_then(|it| it.excluded.get(reason).copied())
        .unwrap_or(0)
}

/// The lines that `ss` gives for these arguments.
#[track_caller]
fn ss(namespace: &Namespace, arguments: &[&str]) -> Vec<String> {
    let output = it_works(namespace.output("ss", arguments));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(str::to_owned).collect()
}

/// Sets a queueing discipline.
#[track_caller]
fn tc(namespace: &Namespace, arguments: &str) {
    let arguments: Vec<_> = arguments.split(' ').collect();
    let output = it_works(namespace.output("tc", &arguments));
    assert!(output.status.success(), "tc {arguments:?}: {output:?}");
}

/// Waits for something that `tcpstall` does not tell.
#[track_caller]
fn until(limit: Duration, what: &str, holds: impl Fn() -> bool) {
    let end = std::time::Instant::now() + limit;
    while !holds() {
        assert!(
            std::time::Instant::now() < end,
            "{what}: not within {limit:?}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

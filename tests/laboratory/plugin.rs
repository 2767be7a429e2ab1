//! `tcpstall check` in the hands of Nagios.

use std::time::Duration;

use lab::{
    Direction, Fault,
    daemon::binary,
    nagios::{self, Nagios},
};

use crate::world::{SOON, World, it_works, skip};

/// From one run of a plugin to the next, and a little.
const NEXT: Duration = Duration::from_secs(20);

#[test]
fn nagios_understands_every_answer_of_check() {
    let Some(program) = nagios::program() else {
        return skip(
            "Nagios (`cargo xtask test` fetches it)",
            "TCPSTALL_LAB_REQUIRED",
        );
    };
    let Some(world) = World::healthy() else {
        return;
    };
    let tcpstall = it_works(binary());
    let socket = world.daemon().socket().display().to_string();
    let check = |rest: &str| format!("{} check {rest}", tcpstall.display());
    let plugins = [
        ("upstream", check(&format!("provider-b --socket {socket}"))),
        ("all", check(&format!("--socket {socket}"))),
        ("misused", check("--nonsense")),
        ("nobody", check("--socket /nonexistent")),
        ("stranger", check(&format!("provider-x --socket {socket}"))),
    ];
    let nagios = it_works(Nagios::start(&program, &world.lab.host, &plugins));
    let state =
        |plugin, state: u8| it_works(nagios.wait_until(NEXT, plugin, |it| it.state == state));

    let fine = state("upstream", 0);
    assert!(
        fine.output.starts_with("TCPSTALL OK - provider-b: "),
        "{fine:?}"
    );
    assert!(
        fine.performance.contains("'provider-b_stalled'=0"),
        "{fine:?}"
    );
    assert!(
        state("all", 0)
            .output
            .starts_with("TCPSTALL OK - 3 upstreams ok")
    );
    for (plugin, expected) in [
        ("misused", "TCPSTALL UNKNOWN - wrong usage"),
        (
            "nobody",
            "TCPSTALL UNKNOWN - no tcpstall daemon answers on /nonexistent",
        ),
        (
            "stranger",
            "TCPSTALL UNKNOWN - there is no upstream called provider-x",
        ),
    ] {
        let answer = state(plugin, 3);
        assert!(answer.output.starts_with(expected), "{answer:?}");
    }

    world.break_(1, Fault::Blackhole(Direction::Both));
    world.is_blamed(1, "blackhole");
    for plugin in ["upstream", "all"] {
        let bad = state(plugin, 2);
        assert!(
            bad.output
                .starts_with("TCPSTALL CRITICAL - provider-b: failing for ")
                && bad.output.contains("nothing comes back"),
            "{bad:?}"
        );
    }
    let bad = it_works(nagios.wait_until(SOON, "upstream", |it| {
        !it.performance.contains("'provider-b_stalled'=0")
    }));
    assert!(bad.performance.contains("'provider-b_stalled'="), "{bad:?}");
    world.recovers(1);
    state("upstream", 0);
}

//! Programs that move traffic, told by gates: there and back, once.

use std::{
    fs,
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use lab::{
    Attachment, Container, Daemon, Direction, Family, Fault, Lab, Load, Options, Plan,
    SocketOptions,
    bird::{self, Bird},
    container::prepare,
    daemon::{binary, config},
    keepalived::{self, Keepalived},
    program::Program,
};

use crate::{
    gate::{A_MOMENT, HOLD, LATE, gates, gates_become},
    world::{SOON, START, World, in_full, it_works, skip},
};

/// For how long an upstream that nobody uses any more is not forgotten to be failing.
const REMEMBERED: Duration = Duration::from_secs(300);

/// Newcomers give up after this.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whoever moves traffic, as a test sees it.
struct Mover<'a> {
    /// Where the traffic goes, a letter for each thing that is moved; `-` and `!` are nowhere and in two places.
    place: &'a dyn Fn(&World) -> String,
    /// What that is when all is well.
    home: &'a str,
    /// And while `provider-b` is to be avoided.
    away: &'a str,
    /// What to show when something is wrong.
    log: &'a dyn Fn() -> String,
}

impl Mover<'_> {
    #[track_caller]
    fn becomes(&self, world: &World, limit: Duration, expected: &str) {
        let end = Instant::now() + limit;
        loop {
            let now = (self.place)(world);
            if now == expected {
                return;
            }
            let log = (self.log)();
            assert!(Instant::now() < end, "{now} and not {expected}\n{log}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Breaks `provider-b`, whose users are the traffic at 1, and looks all the time: it goes away and stays away, and
    /// in full until it is back.
    #[track_caller]
    fn there_and_back(&self, world: &mut World) {
        self.becomes(world, 2 * A_MOMENT, self.home);
        world.break_(1, Fault::Blackhole(Direction::Both));
        gates_become(world, SOON, "101");
        self.becomes(world, A_MOMENT, self.away);
        // Those that hang give up, and come in elsewhere: nothing is left to see.
        world.hang_up_one(1);
        if !in_full() {
            self.stays(world, self.away, "101");
            return;
        }
        let mut seen = vec![self.away.to_owned()];
        let mut states: Vec<String> = vec![];
        let left = Instant::now();
        while seen.last().map(String::as_str) != Some(self.home) {
            let status = it_works(world.daemon().status());
            let state = status.state_of("provider-b").to_owned();
            if states.last() != Some(&state) {
                if state == "idle" {
                    // Nobody is there to see it.
                    world.repair(1);
                }
                states.push(state);
            }
            let now = (self.place)(world);
            if seen.last() != Some(&now) {
                seen.push(now);
            }
            let wrong = || {
                let daemon = world.daemon().log();
                format!("{seen:?} {states:?}\n{}\n{daemon}", (self.log)())
            };
            assert!(left.elapsed() < REMEMBERED + HOLD + 2 * LATE, "{}", wrong());
            thread::sleep(Duration::from_millis(50));
        }
        assert!(left.elapsed() > HOLD - LATE, "{:?}", left.elapsed());
        assert_eq!(states, ["failing", "idle"], "{}", world.daemon().log());
        // Between the two it may be nowhere or in both places for a moment.
        for (place, (home, away)) in self.home.chars().zip(self.away.chars()).enumerate() {
            let mut moves: Vec<_> = seen.iter().filter_map(|it| it.chars().nth(place)).collect();
            moves.retain(|it| [home, away].contains(it));
            moves.dedup();
            assert_eq!(moves, [away, home], "{seen:?}");
        }

        world.traffic(1, 0..20, Load::STEADY);
        world.until(START, "it is used and does well", |status| {
            status.state_of("provider-b") == "ok"
        });
        self.stays(world, self.home, "111");
    }

    /// For a while nothing moves.
    #[track_caller]
    fn stays(&self, world: &World, place: &str, expected: &str) {
        let end = Instant::now() + A_MOMENT;
        while Instant::now() < end {
            assert_eq!((self.place)(world), place, "{}", (self.log)());
            assert_eq!(gates(world), expected);
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// One of two hosts that share addresses: the first is held by a gate's file, the second by a script.
fn configuration(interface: &str, priority: u8, addresses: &[Ipv4Addr; 2], gate: &str) -> String {
    let tracked = [
        "track_file {\nprovider-b\n}\n",
        "track_script {\nprovider-b-script\n}\n",
    ];
    let mut text = format!("global_defs {{\nscript_user root\nenable_script_security\n}}\n{gate}");
    for (number, (address, tracked)) in (51..).zip(addresses.iter().zip(tracked)) {
        let tracked = if gate.is_empty() { "" } else { tracked };
        text += &format!(
            "vrrp_instance mail-{number} {{\nstate BACKUP\ninterface {interface}\n\
             virtual_router_id {number}\npriority {priority}\nadvert_int 1\n\
             virtual_ipaddress {{\n{address}/24\n}}\n{tracked}}}\n"
        );
    }
    text
}

/// Where the addresses are: `h` on the host, `p` with its peer, `-` nowhere, `!` at both.
fn holders(world: &World, peer: &Container, addresses: &[Ipv4Addr; 2]) -> String {
    let of = |address: &Ipv4Addr| {
        let host = it_works(keepalived::has(&world.lab.host, *address));
        let other = it_works(keepalived::has(&peer.namespace, *address));
        match (host, other) {
            (true, false) => 'h',
            (false, true) => 'p',
            (false, false) => '-',
            (true, true) => '!',
        }
    };
    addresses.iter().map(of).collect()
}

#[test]
fn keepalived_moves_an_address_away_from_a_bad_upstream_and_back_once() {
    let Some(program) = keepalived::program() else {
        return skip(
            "keepalived (`cargo xtask test` fetches it)",
            "TCPSTALL_LAB_REQUIRED",
        );
    };
    let Some(mut world) = World::new(3) else {
        return;
    };
    it_works(prepare(&world.lab, Attachment::Bridge));
    let peer = it_works(Container::start(&world.lab, Attachment::Bridge, 2));
    let [a, b, c, _] = peer.address.octets();
    let addresses = [100, 101].map(|last| Ipv4Addr::new(a, b, c, last));
    for upstream in 0..3 {
        world.traffic(upstream, 0..20, Load::STEADY);
    }
    world.watch();
    world.all_ok();

    let socket = world.daemon().socket().display().to_string();
    let folder = world.daemon().socket().with_file_name("gate");
    // keepalived runs nothing from a folder that others may write to.
    let safe = tempfile::tempdir().expect("a temporary folder");
    let tcpstall = safe.path().join("tcpstall");
    fs::copy(it_works(binary()), &tcpstall).expect("it can be copied");
    let tcpstall = tcpstall.display();
    let gate = format!(
        "track_file provider-b {{\nfile \"{}\"\nweight 50\n}}\n\
         vrrp_script provider-b-script {{\n\
         script \"{tcpstall} check --gate provider-b --socket {socket}\"\n\
         interval 2\nweight 50\n}}\n",
        folder.join("provider-b").display()
    );
    let ours = configuration("bridge0", 100, &addresses, &gate);
    let theirs = configuration("eth0", 120, &addresses, "");
    let other = it_works(Keepalived::start(&program, &peer.namespace, &theirs));
    let own = it_works(Keepalived::start(&program, &world.lab.host, &ours));
    Mover {
        place: &|world| holders(world, &peer, &addresses),
        home: "hh",
        away: "pp",
        log: &|| format!("the host: {}\nits peer: {}", own.log(), other.log()),
    }
    .there_and_back(&mut world);
}

/// A script, and what runs it.
struct Hooked {
    // In the order in which they go.
    runner: Program,
    _folder: tempfile::TempDir,
}

impl Hooked {
    /// Runs `script` with these arguments whenever the gate of `provider-b` changes.
    fn start(lab: &Lab, daemon: &Daemon, script: &str, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("hook");
        fs::write(&path, script).expect("it can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
        let path = path.display().to_string();
        let command = [&[path.as_str()], arguments].concat();
        let options = Options {
            config: format!(
                "[[hook]]\nname = \"move\"\non = \"gate\"\nupstreams = [\"provider-b\"]\n\
                 command = {command:?}\n"
            ),
            ..Options::default()
        };
        let file = folder.path().join("tcpstall.toml");
        fs::write(&file, config(lab, &options)).expect("it can be written");
        Self {
            runner: run_hooks(
                lab,
                (&file, daemon.socket()),
                &[],
                folder.path().join("log"),
            ),
            _folder: folder,
        }
    }
}

/// `tcpstall hooks` as its unit runs it, or with further arguments.
pub(crate) fn run_hooks(
    lab: &Lab,
    (config, socket): (&Path, &Path),
    further: &[&str],
    log: PathBuf,
) -> Program {
    let [config, socket] = [config, socket].map(|it| it.display().to_string());
    let arguments = [
        &["hooks", "--config", &config, "--socket", &socket],
        further,
    ]
    .concat();
    let arguments: Vec<_> = arguments.into_iter().map(str::to_owned).collect();
    let program = it_works(binary());
    it_works(Program::start(&lab.host, &program, &arguments, log))
}

/// The upstream that leads to the destinations of `provider-b`: `a`, `b` or `c`, `-` for none.
fn route(world: &World) -> String {
    let upstreams = &world.lab.upstreams;
    let to = upstreams[1].destination(0, Family::V4).to_string();
    let shown = it_works(world.lab.host.output("ip", &["route", "get", &to]));
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let through = |interface: &str| shown.contains(&format!(" dev {interface} "));
    let letter = upstreams
        .iter()
        .zip(["a", "b", "c"])
        .find(|(it, _)| through(it.interface));
    letter.map_or("-", |(_, letter)| letter).to_owned()
}

/// Three upstreams, and users of `provider-b` of which some come anew all the time.
fn used() -> Option<World> {
    let mut world = World::new(3)?;
    for upstream in 0..3 {
        world.traffic(upstream, 0..20, Load::STEADY);
    }
    let newcomers = Plan::new(&world.lab.upstreams[1], 0..20, Load::Churn(20));
    // What hangs would hang until long after the test.
    world.plan(&newcomers.with(SocketOptions {
        user_timeout: Some(PATIENCE),
        ..SocketOptions::default()
    }));
    world.watch();
    world.all_ok();
    Some(world)
}

/// As it is in docs/failover.md.
const ROUTE: &str = include_str!("../../packaging/hooks/route");
const BIRD: &str = include_str!("../../packaging/hooks/bird");

#[test]
fn a_hook_moves_a_route_away_from_a_bad_upstream_and_back_once() {
    let Some(mut world) = used() else {
        return;
    };
    let [a, b, _] = world.lab.upstreams.as_slice() else {
        unreachable!("there are three");
    };
    let (prefix, _) = b.aggregates();
    let (a, b) = (a.gateway.to_string(), b.gateway.to_string());
    // The other way is there, and behind.
    it_works(world.lab.host.ip(&format!(
        "route add {prefix} via {a} metric 200\nroute add {prefix} via {b} metric 100\n\
         route del {prefix} via {b} metric 0\n"
    )));
    let hooked = Hooked::start(&world.lab, world.daemon(), ROUTE, &[&prefix, &b]);
    Mover {
        place: &route,
        home: "b",
        away: "a",
        log: &|| hooked.runner.log(),
    }
    .there_and_back(&mut world);
    // One without a metric would stay in front, and what moves nothing has not succeeded.
    it_works(world.lab.host.ip(&format!("route add {prefix} via {b}\n")));
    let run = |gate: &str| {
        let arguments = [
            &format!("TCPSTALL_GATE={gate}"),
            "sh",
            "-c",
            ROUTE,
            "route",
            &prefix,
            &b,
        ];
        it_works(world.lab.host.output("env", &arguments))
    };
    let failed = run("closed");
    assert!(!failed.status.success(), "{failed:?}");
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(said.contains("there is another route to"), "{said}");
    it_works(
        world
            .lab
            .host
            .ip(&format!("route del {prefix} via {b} metric 0\n")),
    );
    for gate in ["closed", "open", "open"] {
        assert!(run(gate).status.success(), "{gate}");
    }
    let left = it_works(world.lab.host.output("ip", &["route", "show", &prefix]));
    let left = String::from_utf8_lossy(&left.stdout).into_owned();
    assert_eq!(left.lines().count(), 2, "{left}");
}

/// BIRD of the host: what `provider-b` announces is preferred.
fn of_host(lab: &Lab) -> String {
    let mut text = "log stderr all;\nrouter id 192.0.2.200;\nprotocol device { }\n\
                    protocol kernel { ipv4 { import none; export all; }; }\n"
        .to_owned();
    for (upstream, preference) in lab.upstreams.iter().zip([100, 200]) {
        text += &format!(
            "protocol bgp {} {{\nlocal {} as 65000;\nneighbor {} as 65001;\nconnect delay time 1;\n\
             error wait time 1, 2;\nipv4 {{ import all; export none; preference {preference}; }};\n}}\n",
            protocol(upstream.name),
            upstream.local,
            upstream.gateway,
        );
    }
    text
}

/// BIRD of a router: it announces the destinations of `provider-b`, wherever it may be.
fn of_router(lab: &Lab, index: usize) -> String {
    let upstream = &lab.upstreams[index];
    let (prefix, _) = lab.upstreams[1].aggregates();
    format!(
        "log stderr all;\nrouter id {0};\nprotocol device {{ }}\n\
         protocol static announced {{ ipv4; route {prefix} blackhole; }}\n\
         protocol bgp customer {{\nlocal {0} as 65001;\nneighbor {1} as 65000;\nconnect delay time 1;\n\
         error wait time 1, 2;\nipv4 {{ import none; export all; }};\n}}\n",
        upstream.gateway, upstream.local
    )
}

/// BIRD's names have no hyphens.
fn protocol(upstream: &str) -> String {
    upstream.replace('-', "_")
}

#[test]
fn bird_moves_traffic_away_from_a_bad_upstream_and_back_once() {
    let Some((program, client)) = bird::programs() else {
        return skip(
            "BIRD (`cargo xtask test` fetches it)",
            "TCPSTALL_LAB_REQUIRED",
        );
    };
    let Some(mut world) = used() else {
        return;
    };
    let lab = &world.lab;
    let start = |inside, text: &str| it_works(Bird::start(&program, inside, text));
    let routers = [0, 1].map(|it| start(&lab.upstreams[it].router, &of_router(lab, it)));
    let own = start(&lab.host, &of_host(lab));
    let (prefix, _) = lab.upstreams[1].aggregates();
    // From here on it is what BIRD has learned.
    let learned = || {
        let shown = it_works(
            lab.host
                .output("ip", &["route", "show", &prefix, "proto", "bird"]),
        );
        !shown.stdout.is_empty()
    };
    world.until_traffic(2 * A_MOMENT, "BIRD has learned the route", |_| learned());
    it_works(lab.host.ip(&format!("route del {prefix} metric 0\n")));
    let client = client.display().to_string();
    let control = own.control().display().to_string();
    let arguments = [&*protocol("provider-b"), &client, "-s", &control];
    let hooked = Hooked::start(lab, world.daemon(), BIRD, &arguments);
    Mover {
        place: &route,
        home: "b",
        away: "a",
        log: &|| {
            let routers = routers.each_ref().map(Bird::log).join("\n");
            format!(
                "{}\nBIRD: {}\nrouters: {routers}",
                hooked.runner.log(),
                own.log()
            )
        },
    }
    .there_and_back(&mut world);
    // What moves nothing has not succeeded.
    for (verb, protocol, well) in [("open", "provider_b", true), ("open", "provider_x", false)] {
        let gate = format!("TCPSTALL_GATE={verb}");
        let arguments = [
            &gate, "sh", "-c", BIRD, "bird", protocol, &client, "-s", &control,
        ];
        let done = it_works(world.lab.host.output("env", &arguments));
        assert_eq!(done.status.success(), well, "{protocol}: {done:?}");
    }
}

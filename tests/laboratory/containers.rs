//! Connections of other network namespaces count for the uplink that they leave through, whatever
//! way they are attached; what does not leave through the host is nobody's business.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use lab::{
    Attachment, Container, Direction, Family, Fault, Load, Options, Plan, Traffic, container,
    status::Status,
};

use crate::world::{RECOVERY, SOON, World, all_quiet, it_works, others_are_fine};

/// How long a daemon that knows of no container needs to find one.
const FOUND: Duration = Duration::from_secs(15);
/// Destinations that each container talks to.
const DESTINATIONS: u8 = 12;

impl World {
    /// Three upstreams, and containers that are attached in that way.
    #[track_caller]
    pub(crate) fn with_containers(
        attachment: Attachment,
        count: u8,
    ) -> Option<(Self, Vec<Container>)> {
        let world = Self::new(3)?;
        it_works(container::prepare(&world.lab, attachment));
        let containers = (0..count)
            .map(|number| it_works(Container::start(&world.lab, attachment, 2 + number)))
            .collect();
        Some((world, containers))
    }

    /// Adds traffic from a container to each of the three upstreams' destinations.
    #[track_caller]
    fn traffic_from(&mut self, container: &Container, family: Family) {
        for upstream in 0..3 {
            let to = &self.lab.upstreams[upstream];
            let plan = Plan::over(family, to, 0..DESTINATIONS, Load::STEADY);
            self.adopt(it_works(Traffic::start(&container.namespace, &plan)));
        }
    }

    /// Whether this kernel lets the daemon see containers; if not, it says so and shows the host's own
    /// connections only.
    #[track_caller]
    pub(crate) fn sees_containers(&self, own: u32) -> bool {
        let feature = "tcpstall_kernel_feature{feature=\"other-netns\"}";
        let sees = it_works(self.daemon().metric(feature)) == Some(1.0);
        if !sees {
            let said = it_works(self.daemon().cli(&["doctor"]));
            let said = String::from_utf8_lossy(&said.stdout).into_owned();
            assert!(said.contains("other network namespaces"), "{said}");
            self.hold(Duration::from_secs(3), "no other is shown", |status| {
                let all = status.upstreams.iter();
                all.map(|it| it.connections.established).sum::<u32>() <= own
            });
        }
        sees
    }

    #[track_caller]
    fn is_blamed_for_containers(&mut self, containers: &[Container], family: Family) {
        for container in containers {
            self.traffic_from(container, family);
        }
        self.watch_with(&Options::by_interface());
        if !self.sees_containers(0) {
            return;
        }
        let all = u32::from(DESTINATIONS) * containers.len() as u32;
        self.all_ok();
        self.until(FOUND, "every connection is counted", |status| {
            let mut providers = ["provider-a", "provider-b", "provider-c"].into_iter();
            providers.all(|name| {
                let upstream = status.upstream(name);
                upstream.is_some_and(|it| it.connections.established == all)
            })
        });
        self.break_(1, Fault::Blackhole(Direction::Both));
        let status = self.is_blamed(1, "blackhole");
        let upstream = status.upstream("provider-b").expect("it is listed");
        assert_eq!(upstream.interface.as_deref(), Some("wan2"), "{upstream:?}");
        for container in containers {
            let netns = it_works(container.namespace.inode());
            let stalls = || self.stalls(&["--netns", &netns.to_string()]);
            self.until(SOON, "each has its part", |_| !stalls().is_empty());
            for stall in stalls() {
                assert_eq!(stall.upstream, "provider-b", "{stall:?}");
                assert_eq!(stall.interface.as_deref(), Some("wan2"), "{stall:?}");
                assert_eq!(stall.netns, netns);
                let ours = [
                    container.address.to_string(),
                    container.address6.to_string(),
                ];
                let local = ours.iter().any(|it| stall.local.contains(it));
                assert!(local, "{stall:?} is not of {container:?}");
            }
        }
        self.until(SOON, "its holder is told", |_| {
            let stalls = self.stalls(&[]);
            stalls.iter().all(|it| it.pid == Some(std::process::id()))
        });
        self.recovers(1);
    }
}

/// Trap: containers: their own next hop is an address of the host.
#[test]
fn containers_behind_a_bridge_count_for_the_uplink_that_they_leave_through() {
    let Some((mut world, containers)) = World::with_containers(Attachment::Bridge, 2) else {
        return;
    };
    world.is_blamed_for_containers(&containers, Family::V4);
}

#[test]
fn containers_in_ipv6_count_for_the_uplink_that_they_leave_through() {
    let Some((mut world, containers)) = World::with_containers(Attachment::Bridge, 1) else {
        return;
    };
    it_works(world.lab.wait_for_ipv6());
    world.is_blamed_for_containers(&containers, Family::V6);
}

#[test]
fn containers_with_a_cable_of_their_own_count_for_the_uplink_that_they_leave_through() {
    let Some((mut world, containers)) = World::with_containers(Attachment::Routed, 2) else {
        return;
    };
    world.is_blamed_for_containers(&containers, Family::V4);
}

#[test]
fn containers_with_a_cable_of_their_own_do_so_in_ipv6() {
    let Some((mut world, containers)) = World::with_containers(Attachment::Routed, 1) else {
        return;
    };
    it_works(world.lab.wait_for_ipv6());
    world.is_blamed_for_containers(&containers, Family::V6);
}

/// The host does not route for them: their gateway is the uplink's own router.
#[test]
fn containers_on_the_link_of_an_uplink_have_its_router_as_next_hop() {
    let Some((mut world, containers)) = World::with_containers(Attachment::OnLink, 1) else {
        return;
    };
    let plan = Plan::new(&world.lab.upstreams[1], 0..DESTINATIONS, Load::STEADY);
    let traffic = it_works(Traffic::start(&containers[0].namespace, &plan));
    world.adopt(traffic);
    world.traffic(0, 0..DESTINATIONS, Load::STEADY);
    world.watch_with(&Options::by_interface());
    if !world.sees_containers(DESTINATIONS.into()) {
        return;
    }
    world.until(FOUND, "both are ok", |status| {
        status.state_of("provider-a") == "ok" && status.state_of("provider-b") == "ok"
    });
    world.break_(1, Fault::Blackhole(Direction::Both));
    let status = world.is_blamed(1, "blackhole");
    let upstream = status.upstream("provider-b").expect("it is listed");
    let router = container::router(&world.lab).to_string();
    assert_eq!(upstream.gateway, Some(router), "{upstream:?}");
    world.recovers(1);
}

/// A route that is taken away in the middle of it makes nobody well.
#[test]
fn stuck_containers_do_not_recover_because_their_route_has_gone() {
    let Some((mut world, containers)) = World::with_containers(Attachment::Bridge, 1) else {
        return;
    };
    world.traffic_from(&containers[0], Family::V4);
    world.watch_with(&Options::by_interface());
    if !world.sees_containers(0) {
        return;
    }
    world.all_ok();
    world.break_(1, Fault::Blackhole(Direction::Both));
    world.is_blamed(1, "blackhole");
    let uplink = &world.lab.upstreams[1];
    let (range, _) = uplink.aggregates();
    let gateway = uplink.gateway;
    it_works(world.lab.host.ip(&format!("route del {range}\n")));
    world.hold(Duration::from_secs(6), "it stays bad", |status| {
        others_are_fine(status, "provider-b");
        matches!(status.state_of("provider-b"), "failing" | "degraded")
    });
    it_works(
        world
            .lab
            .host
            .ip(&format!("route add {range} via {gateway}\n")),
    );
    world.recovers(1);
}

/// The quiet side: two containers that talk to each other, one of which is unplugged.
#[test]
fn what_stays_behind_the_bridge_is_held_against_no_uplink() {
    let Some((mut world, containers)) = World::with_containers(Attachment::Bridge, 2) else {
        return;
    };
    let [one, other] = &containers[..] else {
        panic!("two were started");
    };
    let address = (other.address, 2525);
    let listener = it_works(other.namespace.run(|| TcpListener::bind(address)));
    let listener = listener.expect("a free port");
    let mut pairs = Vec::new();
    for _ in 0..10 {
        let stream = it_works(one.namespace.run(|| TcpStream::connect(address)));
        let mut stream = stream.expect("it listens");
        let (mut peer, _) = listener.accept().expect("it was connected");
        let mut word = [0; 4];
        stream.write_all(b"word").expect("it is connected");
        peer.read_exact(&mut word).expect("it is connected");
        pairs.push((stream, peer));
    }
    world.traffic_from(one, Family::V4);
    world.watch_with(&Options::by_interface());
    if !world.sees_containers(0) {
        return;
    }
    world.all_ok();
    it_works(world.lab.host.ip("link set c3 down\n"));
    for (stream, _) in &mut pairs {
        stream.write_all(b"word").expect("there is room for it");
    }
    world.hold(Duration::from_secs(8), "no uplink is blamed", |status| {
        let known = |name: &str| name.starts_with("provider-");
        status.upstreams.iter().all(|it| known(&it.name)) && all_quiet(status)
    });
    assert!(world.stalls(&[]).is_empty(), "{:?}", world.stalls(&[]));
}

/// Trap: containers that are cut off: by a bridge, a cable or a policy.
#[test]
fn containers_that_are_cut_off_are_held_against_no_uplink() {
    let Some((mut world, containers)) = World::with_containers(Attachment::Bridge, 2) else {
        return;
    };
    for container in &containers {
        world.traffic_from(container, Family::V4);
    }
    for upstream in 0..3 {
        world.traffic(upstream, 0..DESTINATIONS, Load::STEADY);
    }
    world.watch_with(&Options::by_interface());
    if !world.sees_containers(3 * u32::from(DESTINATIONS)) {
        return;
    }
    world.all_ok();
    let drops = |container: &Container| {
        let from = format!("ip saddr {} drop\n", container.address);
        format!(
            "table ip fence {{\nchain pass {{\ntype filter hook forward priority 0\n{from}}}\n}}\n"
        )
    };
    let excused = |status: &Status| {
        let all = status.upstreams.iter();
        let of = all.map(|it| it.excluded.get("namespace").copied().unwrap_or(0));
        of.sum::<u32>()
    };
    for cut_off in 1..=2 {
        let rules: String = containers[..cut_off].iter().map(drops).collect();
        it_works(world.lab.host.nft(&rules));
        let all = 3 * u32::from(DESTINATIONS) * cut_off as u32;
        let begin = Instant::now();
        while begin.elapsed() < SOON {
            let status = it_works(world.daemon().status());
            assert!(all_quiet(&status), "{}", status.summary());
            thread::sleep(Duration::from_millis(50));
        }
        let status = it_works(world.daemon().status());
        assert!(excused(&status) >= all - 3, "{}", status.summary());
        // Nor afterwards, when some have tried again and others not yet.
        it_works(world.lab.host.nft("delete table ip fence\n"));
        world.hold(SOON, "nobody is blamed", all_quiet);
    }
    // They count like all others when it is the uplink.
    world.break_(1, Fault::Blackhole(Direction::Both));
    let status = world.is_blamed(1, "blackhole");
    assert_eq!(excused(&status), 0, "{}", status.summary());
    world.recovers(1);
}

/// Namespaces come and go by the hundred: what left through the host is judged while it is there, and
/// nothing is kept of it afterwards.
#[test]
fn namespaces_that_come_and_go_leave_nothing_behind() {
    let Some((mut world, _)) = World::with_containers(Attachment::Bridge, 0) else {
        return;
    };
    for upstream in 0..3 {
        world.traffic(upstream, 0..DESTINATIONS, Load::STEADY);
    }
    world.watch_with(&Options::by_interface());
    world.all_ok();
    let held = || {
        let folder = format!("/proc/{}/fd", world.daemon().pid());
        let entries = fs::read_dir(folder).expect("it runs");
        entries.count()
    };
    let before = held();
    let host = world.lab.host.name().to_owned();
    for round in 0..10_u8 {
        let containers: Vec<_> = (0..10)
            .map(|number| {
                let number = 2 + round * 10 + number;
                it_works(Container::start(&world.lab, Attachment::Bridge, number))
            })
            .collect();
        let to = &world.lab.upstreams[usize::from(round % 3)];
        let plan = Plan::new(to, 0..4, Load::STEADY);
        let traffic: Vec<_> = containers
            .iter()
            .map(|it| it_works(Traffic::start(&it.namespace, &plan)))
            .collect();
        world.hold(Duration::from_secs(1), "nobody is blamed", |status| {
            others_are_fine(status, "");
            true
        });
        drop(traffic);
    }
    world.hold(Duration::from_secs(3), "nobody is blamed", all_quiet);
    // A look of the test itself may hold a connection for a moment.
    world.until(RECOVERY, "it holds no more than before", |_| {
        held() <= before + 1
    });
    let left = fs::read_dir("/run/netns").expect("there are names");
    let left = left.filter_map(|it| it.ok()?.file_name().into_string().ok());
    let left: Vec<_> = left
        .filter(|it| it.starts_with(&format!("{host}-c")))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

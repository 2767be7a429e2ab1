//! Configuration, read again on SIGHUP.

use std::{fs, time::Duration};

use lab::{Load, Options, daemon};
use rustix::process::Signal;

use crate::world::{START, World, it_works};

const RELOADED: &str = "tcpstall_config_last_reload_successful";

#[track_caller]
fn reloads(world: &World, expected: f64) {
    it_works(world.daemon().signal(Signal::HUP));
    let says =
        |_: &lab::status::Status| world.daemon().metric(RELOADED).ok().flatten() == Some(expected);
    world.until(
        Duration::from_secs(5),
        &format!("{RELOADED} is {expected}"),
        says,
    );
}

#[test]
fn a_bad_configuration_changes_nothing_and_a_good_one_does() {
    let Some(mut world) = World::new(2) else {
        return;
    };
    world.traffic(0, 0..20, Load::STEADY);
    world.traffic(1, 0..20, Load::STEADY);
    world.watch();
    world.all_ok();
    assert_eq!(it_works(world.daemon().metric(RELOADED)), Some(1.0));
    let file = world.daemon().config_file();
    let good = fs::read_to_string(&file).expect("the configuration can be read");

    fs::write(&file, format!("stall_afetr = \"3s\"\n{good}")).expect("it can be written");
    reloads(&world, 0.0);
    let log = world.daemon().log();
    assert!(log.contains("stall_afetr"), "the log names the key:\n{log}");
    world.all_ok();

    fs::write(&file, good.replace("provider-b", "renamed")).expect("it can be written");
    reloads(&world, 1.0);
    world.until(START, "the new name is used", |status| {
        status.state_of("renamed") == "ok"
    });
}

#[test]
fn upstreams_without_a_name_are_named_by_gateway_and_interface() {
    let Some(mut world) = World::new(2) else {
        return;
    };
    world.traffic(0, 0..20, Load::STEADY);
    world.traffic(1, 0..20, Load::STEADY);
    world
        .lab
        .host
        .ip("link set wan2 alias fibre-north\n")
        .expect("an alias can be set");
    let options = Options {
        naming: daemon::Naming::None,
        ..Options::default()
    };
    world.watch_with(&options);
    let first = format!("{}%wan1", world.lab.upstreams[0].gateway);
    world.until(START, "both have a name", |status| {
        status.state_of(&first) == "ok" && status.state_of("fibre-north") == "ok"
    });
}

//! The laboratory's claims: each test is one, and needs root.
//!
//! `TCPSTALL_LAB_REQUIRED=1` turns a skip for lack of root into a failure, `TCPSTALL_LAB_ALL=1` runs the long ones in
//! full, `TCPSTALL_LAB_MACHINE=1` says that this machine was made for the laboratory: its kernel must be
//! able to emulate distance, and its clock may be set. `TCPSTALL_LAB_PARALLEL=N` sets how many
//! laboratories stand at once (3).

#[path = "laboratory/alerting.rs"]
mod alerting;
#[path = "laboratory/cli.rs"]
mod cli;
#[path = "laboratory/configuration.rs"]
mod configuration;
#[path = "laboratory/containers.rs"]
mod containers;
#[path = "laboratory/distance.rs"]
mod distance;
#[path = "laboratory/exclusions.rs"]
mod exclusions;
#[path = "laboratory/explain.rs"]
mod explain;
#[path = "laboratory/failover.rs"]
mod failover;
#[path = "laboratory/families.rs"]
mod families;
#[path = "laboratory/faults.rs"]
mod faults;
#[path = "laboratory/gate.rs"]
mod gate;
#[path = "laboratory/hooks.rs"]
mod hooks;
#[path = "laboratory/host.rs"]
mod host;
#[path = "laboratory/incidents.rs"]
mod incidents;
#[path = "laboratory/kill.rs"]
mod kill;
#[path = "laboratory/life.rs"]
mod life;
#[path = "laboratory/old.rs"]
mod old;
#[path = "laboratory/overflow.rs"]
mod overflow;
#[path = "laboratory/plugin.rs"]
mod plugin;
#[path = "laboratory/polling.rs"]
mod polling;
#[path = "laboratory/recording.rs"]
mod recording;
#[path = "laboratory/rubbish.rs"]
mod rubbish;
#[path = "laboratory/scenarios.rs"]
mod scenarios;
#[path = "laboratory/scope.rs"]
mod scope;
#[path = "laboratory/screen.rs"]
mod screen;
#[path = "laboratory/sensors.rs"]
mod sensors;
#[path = "laboratory/service.rs"]
mod service;
#[path = "laboratory/stakes.rs"]
mod stakes;
#[path = "laboratory/traps.rs"]
mod traps;
#[path = "laboratory/world.rs"]
mod world;

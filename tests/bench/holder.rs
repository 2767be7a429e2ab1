//! The client side of many idle connections, in a process of its own: a descriptor limit of 20,000
//! does not hold both ends of 10,000 connections.

use std::{
    io::Read,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use clap::Args;
use lab::{Load, Plan, SocketOptions, Traffic, namespace::Namespace, signal};

/// How long all of them may take to open.
const OPENING: Duration = Duration::from_secs(60);

/// Options of `hold`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Namespace to be in
    #[arg(long)]
    namespace: String,
    /// How many connections
    #[arg(long)]
    connections: u16,
    /// Where to, in turn
    #[arg(required = true)]
    peers: Vec<SocketAddr>,
}

/// Opens the connections, says `ready`, and holds them until standard input ends.
pub(crate) fn run(options: &Options) -> Result<()> {
    let namespace = Namespace::open(&options.namespace)?;
    let load = Load::Idle(options.connections);
    let plan = Plan {
        load,
        peers: options.peers.clone(),
        from: None,
        options: SocketOptions::default(),
    };
    let traffic = Traffic::start(&namespace, &plan)?;
    let begin = Instant::now();
    while traffic.counters.messages() < u64::from(options.connections) {
        ensure!(
            begin.elapsed() < OPENING,
            "only {} of {} connections could be opened within {OPENING:?}",
            traffic.counters.messages(),
            options.connections
        );
        signal::sleep(Duration::from_millis(50))?;
    }
    println!("ready");
    // Whoever started this closes it, by intent or by ending.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

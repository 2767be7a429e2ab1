//! The connections of a made-up world, with real sockets.
//!
//! As in the simulator a stream writes whether or not what it wrote before has arrived, a question
//! waits for its answer, and whoever closes or gives up leaves the rest to the kernel; another
//! connection of the same kind takes its place. Two things an application cannot do that the
//! simulator's does: see an acknowledgement (a question is always answered, with a byte at least),
//! and count what waits in the kernel (a stream that finds the buffer full waits, and leaves out
//! what was due meanwhile).

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Result;
use socket2::SockRef;
use tokio::{
    io::{self, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time,
};

use crate::{
    client::add,
    network::Lab,
    server::{self, EXCHANGE_HEAD},
    simulator::{
        connection::{Manner, Plan},
        observe,
        random::{Random, mix},
        world::World,
    },
    traffic::{Counters, Traffic},
};

/// Seconds from the end of a connection to the next, on average.
const PAUSE: f64 = 0.3;

/// A place for connections.
#[derive(Debug, Clone, Copy)]
struct Place {
    plan: Plan,
    from: SocketAddr,
    peer: SocketAddr,
    seed: u64,
}

/// Opens all connections of a world and lets them talk.
pub(super) fn start(lab: &Lab, world: &World, seed: u64) -> Result<Traffic> {
    let places = world.slots.iter().map(|slot| {
        let (id, plan) = (slot.connection.id, slot.connection.plan);
        let site = world.destinations[plan.destination].site;
        let address = observe::address(site, plan.destination, id);
        Place {
            plan,
            from: SocketAddr::new(lab.upstreams[plan.upstream].local.into(), 0),
            peer: SocketAddr::new(address.ip(), server::EXCHANGES),
            seed: mix(seed) ^ id,
        }
    });
    let places: Vec<_> = places.collect();
    Traffic::run(&lab.host, move |counters| {
        for place in places {
            tokio::spawn(place.occupy(Arc::clone(counters)));
        }
    })
}

impl Place {
    /// One connection after the other.
    async fn occupy(self, counters: Arc<Counters>) {
        let mut random = Random::new(self.seed);
        loop {
            match self.connect().await {
                Ok(stream) => {
                    add(&counters.connected);
                    self.live(stream, &counters, &mut random).await;
                }
                Err(_) => add(&counters.errors),
            }
            time::sleep(Duration::from_secs_f64(random.exponential(PAUSE))).await;
        }
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(self.from)?;
        let stream = socket.connect(self.peer).await?;
        stream.set_nodelay(true)?;
        // When the laboratory goes, nothing is left over.
        stream.set_zero_linger()?;
        Ok(stream)
    }

    async fn live(&self, mut stream: TcpStream, counters: &Counters, random: &mut Random) {
        let lifetime = Duration::from_nanos(self.plan.lifetime);
        let talk = async {
            let first = random.share() * self.plan.every as f64;
            time::sleep(Duration::from_nanos(first as u64)).await;
            match self.plan.manner {
                Manner::Request => self.ask(&mut stream, counters, random).await,
                Manner::Stream | Manner::Rest | Manner::SlowReader => {
                    self.pour(&mut stream, counters).await
                }
            }
        };
        if let Ok(Err(_)) = time::timeout(lifetime, talk).await {
            add(&counters.given_up);
        }
        // What is still on its way is the kernel's business.
        let _ = SockRef::from(&stream).set_linger(None);
        add(&counters.sessions);
    }

    /// One question at a time.
    async fn ask(
        &self,
        stream: &mut TcpStream,
        counters: &Counters,
        random: &mut Random,
    ) -> io::Result<()> {
        let patience = Duration::from_nanos(self.plan.patience);
        for number in 0.. {
            let answer = self.write(stream, number, 1).await?;
            time::timeout(patience, swallow(stream, answer)).await??;
            add(&counters.messages);
            let pause = random.between(0.5, 1.5) * self.plan.every as f64;
            time::sleep(Duration::from_nanos(pause as u64)).await;
        }
        Ok(())
    }

    /// Without waiting.
    async fn pour(&self, stream: &mut TcpStream, counters: &Counters) -> io::Result<()> {
        let (mut from, mut to) = stream.split();
        let writing = async {
            let mut clock = time::interval(Duration::from_nanos(self.plan.every));
            clock.set_missed_tick_behavior(time::MissedTickBehavior::Skip);
            for number in 0.. {
                clock.tick().await;
                self.write(&mut to, number, 0).await?;
                add(&counters.messages);
            }
            Ok(())
        };
        let mut sink = io::sink();
        tokio::select! {
            written = writing => written,
            read = io::copy(&mut from, &mut sink) => read.map(drop),
        }
    }

    /// Writes a message; how many bytes will answer it, of which there are at least so many.
    async fn write(
        &self,
        to: &mut (impl AsyncWrite + Unpin),
        number: usize,
        least: u32,
    ) -> io::Result<u32> {
        let row = self.plan.messages;
        let length = row.iter().take_while(|bytes| **bytes > 0).count().max(1);
        let bytes = row[number % length].max(EXCHANGE_HEAD as u32);
        let answer = ((f64::from(bytes) * self.plan.answer) as u32).max(least);
        let mut message = vec![0; bytes as usize];
        message[..4].copy_from_slice(&bytes.to_be_bytes());
        message[4..8].copy_from_slice(&answer.to_be_bytes());
        to.write_all(&message).await?;
        Ok(answer)
    }
}

/// Reads and forgets that many bytes.
async fn swallow(from: &mut TcpStream, bytes: u32) -> io::Result<()> {
    let read = io::copy(&mut from.take(bytes.into()), &mut io::sink()).await?;
    if read < u64::from(bytes) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

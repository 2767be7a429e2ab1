//! What a client does with one connection, for each kind of load.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use socket2::Domain;
use tokio::{
    io::{self, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::Semaphore,
    time,
};

use crate::{
    options::SocketOptions,
    traffic::{Counters, Load, Plan},
};

/// From here on a wait counts as hanging.
const HANGING: Duration = Duration::from_secs(2);
/// A connection that ended, or could not be opened, is opened again after this.
const AGAIN: Duration = Duration::from_millis(500);
/// From one report to the next.
const REPORT: Duration = Duration::from_secs(1);
/// Short connections open at once.
const CHURN_LIMIT: usize = 2000;
/// Handshakes at once, so that a thousand connections do not overrun a queue.
const HANDSHAKES: usize = 100;

/// What all connections of one load share.
#[derive(Debug)]
struct Shared {
    from: Option<SocketAddr>,
    options: SocketOptions,
    counters: Arc<Counters>,
    handshakes: Semaphore,
}

/// Starts a load on the current runtime.
pub(crate) fn start(plan: &Plan, counters: &Arc<Counters>) {
    let shared = Arc::new(Shared {
        from: plan.from,
        options: plan.options,
        counters: Arc::clone(counters),
        handshakes: Semaphore::new(HANDSHAKES),
    });
    let peers = plan.peers.iter().copied().cycle();
    let each = |count: u16| peers.clone().take(count.into()).enumerate();
    match plan.load {
        Load::Steady {
            connections,
            bytes,
            every,
        } => {
            let count = connections * plan.peers.len() as u16;
            for (index, peer) in each(count) {
                // Spread over the interval: a burst of all at once would be one event, not many.
                let first = every * index as u32 / u32::from(count);
                tokio::spawn(forever(Arc::clone(&shared), move |shared| {
                    steady(shared, peer, bytes, every, first)
                }));
            }
        }
        Load::Mail { sessions, patience } => {
            for (index, peer) in each(sessions) {
                let dice = Dice::new(index as u64);
                tokio::spawn(mail(
                    Arc::clone(&shared),
                    peer,
                    plan.peers.clone(),
                    dice,
                    patience,
                ));
            }
        }
        Load::Idle(count) => {
            for (_, peer) in each(count) {
                tokio::spawn(forever(Arc::clone(&shared), move |shared| {
                    idle(shared, peer)
                }));
            }
        }
        Load::LongPoll(count) => {
            for (_, peer) in each(count) {
                tokio::spawn(forever(Arc::clone(&shared), move |shared| {
                    long_poll(shared, peer)
                }));
            }
        }
        Load::Downloads(count) | Load::Replies(count) => {
            for (_, peer) in each(count) {
                tokio::spawn(forever(Arc::clone(&shared), move |shared| {
                    download(shared, peer)
                }));
            }
        }
        Load::BothWays(count) => {
            for (_, peer) in each(count) {
                tokio::spawn(forever(Arc::clone(&shared), move |shared| {
                    both_ways(shared, peer)
                }));
            }
        }
        Load::Reports(count) => {
            for (index, peer) in each(count) {
                let first = REPORT * index as u32 / u32::from(count);
                tokio::spawn(forever(Arc::clone(&shared), move |shared| {
                    report(shared, peer, first)
                }));
            }
        }
        Load::Resting(count) => {
            for (_, peer) in each(count) {
                tokio::spawn(forever(Arc::clone(&shared), move |shared| {
                    rest(shared, peer)
                }));
            }
        }
        Load::SlowReaders(count) | Load::Overfed(count) | Load::Tarpits(count) => {
            for (_, peer) in each(count) {
                tokio::spawn(forever(Arc::clone(&shared), move |shared| {
                    fill(shared, peer)
                }));
            }
        }
        Load::Farewell { every } => {
            for peer in plan.peers.iter().copied() {
                tokio::spawn(farewells(Arc::clone(&shared), peer, every));
            }
        }
        Load::Churn(rate) => drop(tokio::spawn(churn(shared, plan.peers.clone(), rate))),
    }
}

/// Does `work` again whenever it ends.
async fn forever<F>(shared: Arc<Shared>, work: impl Fn(Arc<Shared>) -> F)
where
    F: Future<Output = io::Result<()>>,
{
    loop {
        if work(Arc::clone(&shared)).await.is_err() {
            add(&shared.counters.errors);
        }
        time::sleep(AGAIN).await;
    }
}

async fn steady(
    shared: Arc<Shared>,
    peer: SocketAddr,
    bytes: u32,
    every: Duration,
    first: Duration,
) -> io::Result<()> {
    let mut stream = shared.connect(peer).await?;
    time::sleep(first).await;
    // Like a program with a queue: what hangs delays what follows, nothing is sent twice.
    let mut clock = time::interval(every);
    clock.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        shared.watched(message(&mut stream, bytes)).await?;
        add(&shared.counters.messages);
    }
}

/// One message and its answer.
async fn message(stream: &mut TcpStream, bytes: u32) -> io::Result<()> {
    let mut data = vec![0; 4 + bytes as usize];
    data[..4].copy_from_slice(&bytes.to_be_bytes());
    stream.write_all(&data).await?;
    stream.read_exact(&mut [0; 2]).await?;
    Ok(())
}

async fn idle(shared: Arc<Shared>, peer: SocketAddr) -> io::Result<()> {
    let mut stream = shared.connect(peer).await?;
    message(&mut stream, 100).await?;
    add(&shared.counters.messages);
    // Until the peer closes.
    stream.read_exact(&mut [0; 1]).await.map(drop)
}

async fn long_poll(shared: Arc<Shared>, peer: SocketAddr) -> io::Result<()> {
    let mut stream = shared.connect(peer).await?;
    stream.write_all(&[b'?'; 200]).await?;
    add(&shared.counters.messages);
    stream.read_exact(&mut [0; 1]).await.map(drop)
}

async fn report(shared: Arc<Shared>, peer: SocketAddr, first: Duration) -> io::Result<()> {
    let mut stream = shared.connect(peer).await?;
    time::sleep(first).await;
    let mut clock = time::interval(REPORT);
    clock.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        stream.write_all(&[b'!'; 20]).await?;
        add(&shared.counters.messages);
    }
}

async fn rest(shared: Arc<Shared>, peer: SocketAddr) -> io::Result<()> {
    let mut stream = shared.connect(peer).await?;
    stream.write_all(&[b'!'; 20]).await?;
    add(&shared.counters.messages);
    // Until the peer closes.
    stream.read_exact(&mut [0; 1]).await.map(drop)
}

/// Reads until the peer closes.
async fn download(shared: Arc<Shared>, peer: SocketAddr) -> io::Result<()> {
    let mut stream = shared.connect(peer).await?;
    io::copy(&mut stream, &mut io::sink()).await.map(drop)
}

/// Reads until the peer closes, and writes meanwhile.
async fn both_ways(shared: Arc<Shared>, peer: SocketAddr) -> io::Result<()> {
    let mut stream = shared.connect(peer).await?;
    let (mut reader, mut writer) = stream.split();
    let read = async { io::copy(&mut reader, &mut io::sink()).await.map(drop) };
    let write = async {
        let mut clock = time::interval(Duration::from_millis(250));
        loop {
            clock.tick().await;
            writer.write_all(&[0; 300]).await?;
        }
    };
    tokio::select! {
        ended = read => ended,
        failed = write => failed,
    }
}

/// Writes until nothing goes any more, and stays.
async fn fill(shared: Arc<Shared>, peer: SocketAddr) -> io::Result<()> {
    let mut stream = shared.connect(peer).await?;
    loop {
        stream.write_all(&[0; 16_384]).await?;
    }
}

async fn churn(shared: Arc<Shared>, peers: Vec<SocketAddr>, rate: u16) {
    let open = Arc::new(Semaphore::new(CHURN_LIMIT));
    let mut clock = time::interval(Duration::from_secs(1) / u32::from(rate));
    for peer in peers.into_iter().cycle() {
        clock.tick().await;
        let Ok(permit) = Arc::clone(&open).acquire_owned().await else {
            return;
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let _permit = permit;
            match shared.watched(short(&shared, peer)).await {
                Ok(()) => add(&shared.counters.sessions),
                Err(_) => add(&shared.counters.errors),
            }
        });
    }
}

async fn farewells(shared: Arc<Shared>, peer: SocketAddr, every: Duration) {
    let mut clock = time::interval(every);
    loop {
        clock.tick().await;
        match farewell(&shared, peer).await {
            Ok(()) => add(&shared.counters.sessions),
            Err(_) => add(&shared.counters.errors),
        }
    }
}

/// Opens, says something and closes, whether it arrives or not.
async fn farewell(shared: &Shared, peer: SocketAddr) -> io::Result<()> {
    let mut stream = shared.connect(peer).await?;
    stream.write_all(&[0; 4000]).await
}

/// Opens, exchanges a small message, closes.
async fn short(shared: &Shared, peer: SocketAddr) -> io::Result<()> {
    let mut stream = shared.connect(peer).await?;
    message(&mut stream, 100).await?;
    goodbye(stream).await
}

/// Mail sessions, one after the other, from peer to peer.
async fn mail(
    shared: Arc<Shared>,
    first: SocketAddr,
    peers: Vec<SocketAddr>,
    mut dice: Dice,
    patience: Duration,
) {
    let mut peer = first;
    // Not all at once.
    dice.pause(0..1000).await;
    loop {
        match time::timeout(patience, session(&shared, peer, &mut dice)).await {
            Ok(Ok(())) => add(&shared.counters.sessions),
            Ok(Err(_)) => add(&shared.counters.errors),
            Err(_) => add(&shared.counters.given_up),
        }
        peer = peers[dice.roll(0..peers.len() as u64) as usize];
        dice.pause(50..300).await;
    }
}

async fn session(shared: &Shared, peer: SocketAddr, dice: &mut Dice) -> io::Result<()> {
    let stream = shared.watched(shared.connect(peer)).await?;
    let mut stream = BufReader::new(stream);
    shared.watched(answer(&mut stream)).await?;
    for command in [
        "EHLO mx1\r\n",
        "MAIL FROM:<a@example.org>\r\n",
        "RCPT TO:<b@example.net>\r\n",
    ] {
        dice.pause(20..150).await;
        stream.write_all(command.as_bytes()).await?;
        shared.watched(answer(&mut stream)).await?;
    }
    let length = dice.roll(4_000..20_000) as usize;
    stream
        .write_all(format!("DATA {length}\r\n").as_bytes())
        .await?;
    shared.watched(answer(&mut stream)).await?;
    shared
        .watched(async {
            stream.write_all(&vec![b'x'; length]).await?;
            answer(&mut stream).await
        })
        .await?;
    add(&shared.counters.messages);
    dice.pause(20..150).await;
    stream.write_all(b"QUIT\r\n").await?;
    shared.watched(answer(&mut stream)).await?;
    goodbye(stream.into_inner()).await
}

/// One line from the peer.
async fn answer(stream: &mut BufReader<TcpStream>) -> io::Result<()> {
    let mut line = String::new();
    match stream.read_line(&mut line).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// Closes as one should: our end first, then wait for the peer's, though not for ever.
async fn goodbye(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    let _ = time::timeout(Duration::from_secs(5), stream.read(&mut [0; 1])).await;
    Ok(())
}

impl Shared {
    async fn connect(&self, peer: SocketAddr) -> io::Result<TcpStream> {
        let _turn = self.handshakes.acquire().await.map_err(io::Error::other)?;
        let socket = self.options.socket(Domain::for_address(peer))?;
        if let Some(from) = self.from {
            socket.bind(from)?;
        }
        let stream = socket.connect(peer).await?;
        stream.set_nodelay(true)?;
        // Closing early resets, so that nothing is left over when the laboratory goes.
        if !self.options.lingers {
            stream.set_zero_linger()?;
        }
        add(&self.counters.connected);
        Ok(stream)
    }

    /// Waits for `work`; past two seconds it counts as hanging for as long as it lasts.
    async fn watched<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        if let Ok(done) = time::timeout(HANGING, &mut work).await {
            return done;
        }
        let _hanging = Hanging::new(&self.counters.hanging);
        work.await
    }
}

/// One more connection hangs for as long as this exists.
struct Hanging<'a>(&'a AtomicU64);

impl<'a> Hanging<'a> {
    fn new(count: &'a AtomicU64) -> Self {
        add(count);
        Self(count)
    }
}

impl Drop for Hanging<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(crate) fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Numbers that look random and are the same in every run (xorshift64).
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn roll(&mut self, range: std::ops::Range<u64>) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        range.start + self.0 % (range.end - range.start)
    }

    async fn pause(&mut self, milliseconds: std::ops::Range<u64>) {
        time::sleep(Duration::from_millis(self.roll(milliseconds))).await;
    }
}

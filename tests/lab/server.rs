//! The peers: what answers in the internet, on all destinations at once.
//!
//! | port | behaviour |
//! |---|---|
//! | 7 | messages: a length in four bytes and that many bytes, answered by `ok` |
//! | 8 | the same over MPTCP |
//! | 9 | discard |
//! | 10 | exchanges: the lengths of message and answer in four bytes each, the message; that answer |
//! | 19 | a stream that never ends, in full segments; what comes is read |
//! | 20 | a stream of four seconds, whose last segment is not full; then nothing |
//! | 25 | mail: greeting, commands, a body of a given length |
//! | 26 | a tarpit: a greeting that takes for ever, and one byte read a second |
//! | 81 | never reads, not even that there is a connection |
//! | 82 | reads a little, then gives most of its buffer away and reads nothing any more |
//! | 8080 | reads a request and never answers |

use std::{
    net::{Ipv6Addr, SocketAddr},
    sync::mpsc,
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::{
    io::{self, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpSocket, TcpStream},
    runtime,
    sync::oneshot,
    time,
};

use crate::namespace::Namespace;

/// Messages.
pub const MESSAGES: u16 = 7;
/// Messages over MPTCP.
pub const MULTIPATH: u16 = 8;
/// Discard.
pub const DISCARD: u16 = 9;
/// Exchanges.
pub const EXCHANGES: u16 = 10;
/// A stream that never ends.
pub const STREAM: u16 = 19;
/// A stream that ends.
pub const REPLY: u16 = 20;
/// Mail.
pub const MAIL: u16 = 25;
/// A tarpit.
pub const TARPIT: u16 = 26;
/// Never reads, and never accepts: the kernel alone speaks for it, without a descriptor.
pub const DEAF: u16 = 81;
/// Reads a while and then no more.
pub const SATED: u16 = 82;
/// Never answers.
pub const MUTE: u16 = 8080;

const PORTS: [u16; 11] = [
    MESSAGES, MULTIPATH, DISCARD, EXCHANGES, STREAM, REPLY, MAIL, TARPIT, DEAF, SATED, MUTE,
];

/// Bytes of the two lengths in front of an exchange; they are part of its message.
pub(crate) const EXCHANGE_HEAD: u64 = 8;
/// Data of a full segment: over IPv4, of 1500 bytes, with timestamps.
const FULL_SEGMENT: usize = 1448;
/// Connections that nobody has accepted yet, or ever will. The namespace may allow fewer.
pub(crate) const BACKLOG: u32 = 300_000;
/// Nothing that a client does takes longer; what does is a client that vanished.
const PATIENCE: Duration = Duration::from_secs(1200);

/// What [`SATED`] reads, in bytes, and its buffer before and after that.
const ENOUGH: u64 = 100_000;
const BUFFER: u32 = 32 << 10;
const SMALL_BUFFER: usize = 4 << 10;

/// All of them, on one thread; dropped, they are gone with their connections.
#[derive(Debug)]
pub struct Server {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Server {
    /// Starts listening in `namespace`; returns when it does.
    pub fn start(namespace: &Namespace) -> Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = mpsc::channel();
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = namespace.spawn("lab-server", move || serve(&runtime, stopped, &ready))?;
        is_ready.recv().context("the peers did not start")??;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Listens until told to stop; says through `ready` whether it could begin.
fn serve(
    runtime: &runtime::Runtime,
    stopped: oneshot::Receiver<()>,
    ready: &mpsc::Sender<Result<()>>,
) {
    runtime.block_on(async {
        for port in PORTS {
            match listen(port) {
                Ok(listener) => drop(tokio::spawn(accept(listener, port))),
                // Whoever wants to talk to it will find that nobody listens.
                Err(error) if port == MULTIPATH && lacks_multipath(&error) => {}
                Err(error) => return drop(ready.send(Err(error))),
            }
        }
        let _ = ready.send(Ok(()));
        let _ = stopped.await;
    });
}

fn listen(port: u16) -> Result<TcpListener> {
    // The IPv6 wildcard takes IPv4 as well.
    let socket = if port == MULTIPATH {
        multipath(Domain::IPV6)?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    match port {
        SATED => socket.set_recv_buffer_size(BUFFER)?,
        TARPIT => socket.set_recv_buffer_size(SMALL_BUFFER as u32)?,
        _ => {}
    }
    socket.bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))?;
    socket
        .listen(BACKLOG)
        .with_context(|| format!("cannot listen on port {port}"))
}

/// Kernels before 5.16 are mostly built without MPTCP.
fn lacks_multipath(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    let number = error.and_then(io::Error::raw_os_error);
    number == Some(rustix::io::Errno::PROTONOSUPPORT.raw_os_error())
}

/// A socket that speaks MPTCP.
pub(crate) fn multipath(domain: Domain) -> io::Result<TcpSocket> {
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::MPTCP))?;
    socket.set_nonblocking(true)?;
    Ok(TcpSocket::from_std_stream(socket.into()))
}

async fn accept(listener: TcpListener, port: u16) {
    if port == DEAF {
        std::future::pending::<()>().await;
    }
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Closing resets: nothing is left over when the laboratory goes.
                let _ = stream.set_zero_linger();
                let _ = stream.set_nodelay(true);
                tokio::spawn(time::timeout(PATIENCE, talk(stream, port)));
            }
            // Out of descriptors, most likely: wait until some are free.
            Err(_) => time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn talk(mut stream: TcpStream, port: u16) -> io::Result<()> {
    match port {
        MESSAGES | MULTIPATH => messages(&mut stream).await?,
        EXCHANGES => exchanges(&mut stream).await?,
        MAIL => mail(&mut stream).await?,
        TARPIT => tarpit(&mut stream).await?,
        STREAM => {
            let (mut reader, mut writer) = stream.split();
            let swallow = async { io::copy(&mut reader, &mut io::sink()).await.map(drop) };
            tokio::try_join!(pour(&mut writer, u32::MAX), swallow)?;
        }
        REPLY => {
            pour(&mut stream, 80).await?;
            stream.write_all(&[0; 700]).await?;
            // Until the client closes.
            io::copy(&mut stream, &mut io::sink()).await?;
        }
        SATED => {
            swallow(&mut stream, ENOUGH).await?;
            SockRef::from(&stream).set_recv_buffer_size(SMALL_BUFFER)?;
            std::future::pending().await
        }
        MUTE | DISCARD => drop(io::copy(&mut stream, &mut io::sink()).await?),
        _ => {}
    }
    // In order: our FIN leaves before the socket is closed.
    stream.shutdown().await
}

/// Answers messages until the client closes.
async fn messages(stream: &mut TcpStream) -> io::Result<()> {
    while let Ok(length) = stream.read_u32().await {
        swallow(stream, length.into()).await?;
        stream.write_all(b"ok").await?;
    }
    Ok(())
}

/// Answers messages at the length that they ask for, until the client closes.
async fn exchanges(stream: &mut TcpStream) -> io::Result<()> {
    while let Ok(length) = stream.read_u32().await {
        let answer = stream.read_u32().await?;
        swallow(stream, u64::from(length).saturating_sub(EXCHANGE_HEAD)).await?;
        stream.write_all(&vec![0; answer as usize]).await?;
    }
    Ok(())
}

/// Writes so many pieces, twenty a second: slow enough for the machine, and each in segments that
/// are as full as those of a sender with a backlog.
async fn pour(stream: &mut (impl AsyncWrite + Unpin), pieces: u32) -> io::Result<()> {
    let mut clock = time::interval(Duration::from_millis(50));
    for _ in 0..pieces {
        clock.tick().await;
        stream.write_all(&[0; 10 * FULL_SEGMENT]).await?;
    }
    Ok(())
}

/// A mail server of few words. It closes after the client has.
async fn mail(stream: &mut TcpStream) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 at your service\r\n").await?;
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        if let Some(length) = line.strip_prefix("DATA ") {
            let length = length.trim().parse().map_err(io::Error::other)?;
            stream.write_all(b"354 go ahead\r\n").await?;
            swallow(&mut stream, length).await?;
            stream.write_all(b"250 queued\r\n").await?;
        } else if line.starts_with("QUIT") {
            stream.write_all(b"221 bye\r\n").await?;
        } else {
            stream.write_all(b"250 ok\r\n").await?;
        }
    }
}

/// Wastes the time of whoever talks to it.
async fn tarpit(stream: &mut TcpStream) -> io::Result<()> {
    let mut clock = time::interval(Duration::from_secs(1));
    loop {
        clock.tick().await;
        stream.write_all(b"-").await?;
        stream.read_exact(&mut [0; 1]).await?;
    }
}

/// Reads and forgets that many bytes.
async fn swallow(from: &mut (impl AsyncReadExt + Unpin), length: u64) -> io::Result<()> {
    let read = io::copy(&mut from.take(length), &mut io::sink()).await?;
    if read < length {
        Err(io::ErrorKind::UnexpectedEof.into())
    } else {
        Ok(())
    }
}

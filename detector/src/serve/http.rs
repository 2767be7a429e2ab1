//! Connections: how many, how long, and what becomes of those that misbehave.
//!
//! **Invariant:** whatever a client sends or omits, it holds one of a fixed number of places, a
//! bounded buffer, and both for a bounded time.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::Router;
use hyper::{
    Request,
    body::Incoming,
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixStream},
    task::{AbortHandle, JoinSet},
    time::{Instant, Sleep, sleep, timeout},
};

use super::Socket;

/// What a listener bears.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Connections at a time; one more takes the place of one that has said nothing, or has not read
    /// enough for more to be written, for the longest; else it waits.
    pub(super) connections: usize,
    /// For a request to arrive, also when none has been begun.
    pub(super) request: Duration,
    /// For the client to read some of an answer.
    pub(super) write: Duration,
    /// For a connection as a whole; `None` where answers may last.
    pub(super) life: Option<Duration>,
    /// For the answer under way at the end of that life.
    pub(super) grace: Duration,
}

impl Limits {
    pub(super) const SOCKET: Self = Self {
        connections: 64,
        request: Duration::from_secs(5),
        write: Duration::from_secs(10),
        life: None,
        grace: Duration::from_secs(5),
    };
    pub(super) const TCP: Self = Self {
        life: Some(Duration::from_secs(60)),
        ..Self::SOCKET
    };
}

const BUFFER: usize = 16 * 1024;
/// For a new connection to say something before it may have to give way.
const MOMENT: Duration = Duration::from_millis(50);
/// For a client to read so much that more can be written before it may have to: of a unix socket's
/// buffer three quarters.
const UNREAD: Duration = Duration::from_secs(1);
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Where connections come from.
pub(super) trait Listener {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection, and who has opened it, as far as that can be told.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Option<Peer>)>> + Send;
}

/// The process that has opened a connection, as the kernel tells it: nobody can pretend to be another.
/// Every request that comes over the connection has it among its extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Peer {
    /// Its user, as this daemon counts users.
    pub(super) uid: u32,
    /// Its number; not known when it is outside of this daemon's namespace of processes.
    pub(super) pid: Option<i32>,
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, Option<Peer>)> {
        Ok((Self::accept(self).await?.0, None))
    }
}

impl Listener for Socket {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<(UnixStream, Option<Peer>)> {
        let stream = self.listener().accept().await?.0;
        let peer = stream.peer_cred().ok().map(|it| Peer {
            uid: it.uid(),
            pid: it.pid(),
        });
        Ok((stream, peer))
    }
}

/// Serves `router` to whoever connects to `listener`.
pub(super) async fn serve(listener: &impl Listener, router: Router, limits: Limits) {
    // When this is dropped, so are the connections.
    let mut connections = JoinSet::new();
    let mut guests: VecDeque<Guest> = VecDeque::new();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                make_room(&mut guests, &mut connections, limits.connections).await;
                let conduct = Arc::new(Conduct::default());
                let stream = Impatient {
                    stream,
                    limit: limits.write,
                    waiting: None,
                    conduct: Arc::clone(&conduct),
                };
                let task = connections.spawn(serve_one(stream, peer, router.clone(), limits));
                guests.push_back(Guest { conduct, task });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(AFTER_FAILURE).await;
            }
        }
    }
}

/// One connection, the oldest first in their row.
struct Guest {
    conduct: Arc<Conduct>,
    task: AbortHandle,
}

/// Until when a connection is borne that does nothing for its part; `None` while it does.
struct Conduct(Mutex<Option<Instant>>);

impl Default for Conduct {
    fn default() -> Self {
        Self(Mutex::new(Some(Instant::now() + MOMENT)))
    }
}

impl Conduct {
    fn borne_until(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bear_until(&self, end: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = end;
    }
}

/// Leaves one place free: who was borne for the longest goes first, else whoever is done.
async fn make_room(guests: &mut VecDeque<Guest>, connections: &mut JoinSet<()>, places: usize) {
    loop {
        while connections.try_join_next().is_some() {}
        guests.retain(|guest| !guest.task.is_finished());
        if guests.len() < places {
            return;
        }
        let ends = guests.iter().enumerate();
        let ends = ends.filter_map(|(place, guest)| Some((guest.conduct.borne_until()?, place)));
        match ends.min() {
            Some((end, place)) if end <= Instant::now() => {
                if let Some(guest) = guests.remove(place) {
                    guest.task.abort();
                }
            }
            // What they do changes without a word: look again soon.
            _ => drop(timeout(MOMENT, connections.join_next()).await),
        }
    }
}

async fn serve_one(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Option<Peer>,
    router: Router,
    limits: Limits,
) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.request)
        // A place for each question, and not for as long as somebody goes on asking.
        .keep_alive(false)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = match limits.life {
        None => connection.await,
        Some(life) => match timeout(life, connection.as_mut()).await {
            Ok(ended) => ended,
            Err(_) => {
                connection.as_mut().graceful_shutdown();
                timeout(limits.grace, connection).await.unwrap_or(Ok(()))
            }
        },
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended badly");
    }
}

/// A stream whose peer must read, and that remembers whether the peer does its part.
struct Impatient<S> {
    stream: S,
    limit: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
    conduct: Arc<Conduct>,
}

impl<S> Impatient<S> {
    /// Passes `written` on; one that stays pending for too long becomes an error.
    fn bounded<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            if self.waiting.take().is_some() {
                self.conduct.bear_until(None);
            }
            return written;
        }
        let waiting = self.waiting.get_or_insert_with(|| {
            self.conduct.bear_until(Some(Instant::now() + UNREAD));
            Box::pin(sleep(self.limit))
        });
        waiting
            .as_mut()
            .poll(context)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        // What it says while it does not read is no excuse.
        if buffer.filled().len() > before && self.waiting.is_none() {
            self.conduct.bear_until(None);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.bounded(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.bounded(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.bounded(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(context);
        self.bounded(context, shut)
    }
}

#[cfg(test)]
mod tests;

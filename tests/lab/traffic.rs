//! The host's own traffic: who talks, how much, and what became of it.
//!
//! Each [`Traffic`] is a thread inside the host with all its connections; dropped, they are closed.
//! Everything is bounded: in number by the [`Load`], in time by [`LIMIT`].

use std::{
    net::{IpAddr, SocketAddr},
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::Result;
use tokio::{runtime, sync::oneshot, time};

use crate::{
    client,
    namespace::Namespace,
    network::{Family, Upstream},
    options::SocketOptions,
    server,
};

/// No traffic goes on for longer than this.
pub const LIMIT: Duration = Duration::from_secs(3600);

/// What is done with the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// Connections to each destination, a message on each every so often; the peer answers.
    Steady {
        /// Connections to each destination.
        connections: u16,
        /// Bytes of a message.
        bytes: u32,
        /// From message to message.
        every: Duration,
    },
    /// Mail sessions, one after the other, in as many places at once: greeting, commands, a body
    /// of 4 to 20 kB.
    Mail {
        /// Sessions at once, spread over the destinations.
        sessions: u16,
        /// When a session that hangs is given up.
        patience: Duration,
    },
    /// Connections that exchanged one message and are quiet since.
    Idle(u16),
    /// Connections that wait for an answer that never comes.
    LongPoll(u16),
    /// Connections that say a little once a second and expect no answer, as those that carry logs
    /// do. The peers need no descriptor for them.
    Reports(u16),
    /// Connections that said a little and are quiet since; the peers need no descriptor for them.
    Resting(u16),
    /// Connections whose peer does not read: we write until nothing goes any more.
    SlowReaders(u16),
    /// Connections to which a stream flows that never ends (IPv4).
    Downloads(u16),
    /// Connections on which both sides send and nobody waits for an answer: such a stream to us,
    /// 300 bytes every 250 ms from us (IPv4).
    BothWays(u16),
    /// Connections to which a reply of four seconds flows, and then nothing (IPv4).
    Replies(u16),
    /// Connections that are opened, exchange a small message and are closed: so many a second.
    Churn(u16),
    /// To each destination, so often: a connection is opened, a message written, and the rest is
    /// left to the kernel.
    Farewell {
        /// From one to the next.
        every: Duration,
    },
    /// Connections whose peer reads a little, then gives most of its buffer away and reads nothing
    /// any more: we write until nothing goes.
    Overfed(u16),
    /// Connections whose peer reads a byte a second, with a buffer as small as can be: we write as
    /// much as it takes.
    Tarpits(u16),
}

impl Load {
    /// One connection to each destination, 4000 bytes every 250 ms.
    pub const STEADY: Self = Self::Steady {
        connections: 1,
        bytes: 4000,
        every: Duration::from_millis(250),
    };

    /// Mail sessions that give up after 20 s.
    pub const fn mail(sessions: u16) -> Self {
        Self::Mail {
            sessions,
            patience: Duration::from_secs(20),
        }
    }

    fn port(self) -> u16 {
        match self {
            Self::Steady { .. } | Self::Churn(_) | Self::Idle(_) => server::MESSAGES,
            Self::Mail { .. } => server::MAIL,
            Self::LongPoll(_) => server::MUTE,
            Self::Downloads(_) | Self::BothWays(_) => server::STREAM,
            Self::Replies(_) => server::REPLY,
            Self::Reports(_) | Self::Resting(_) | Self::SlowReaders(_) => server::DEAF,
            Self::Farewell { .. } => server::DISCARD,
            Self::Overfed(_) => server::SATED,
            Self::Tarpits(_) => server::TARPIT,
        }
    }
}

/// A load and where it goes.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What to do.
    pub load: Load,
    /// The peers, in turn.
    pub peers: Vec<SocketAddr>,
    /// Address to come from; `None` leaves it to the routes.
    pub from: Option<SocketAddr>,
    /// What is set on each socket.
    pub options: SocketOptions,
}

impl Plan {
    /// `load` to these addresses, on the port that it takes.
    pub fn to(addresses: impl IntoIterator<Item = IpAddr>, load: Load) -> Self {
        let peers = addresses.into_iter();
        Self {
            load,
            peers: peers.map(|it| SocketAddr::new(it, load.port())).collect(),
            from: None,
            options: SocketOptions::default(),
        }
    }

    /// `load` over IPv4 to some of the destinations of `upstream`.
    pub fn new(upstream: &Upstream, destinations: Range<u8>, load: Load) -> Self {
        Self::over(Family::V4, upstream, destinations, load)
    }

    /// The same over any family.
    pub fn over(family: Family, upstream: &Upstream, destinations: Range<u8>, load: Load) -> Self {
        Self::to(
            destinations.map(|number| upstream.destination(number, family)),
            load,
        )
    }

    /// The same through another upstream, by its source address (IPv4 only).
    pub fn via(self, upstream: &Upstream) -> Self {
        self.from(upstream.local.into())
    }

    /// The same from this address.
    pub fn from(mut self, address: IpAddr) -> Self {
        self.from = Some(SocketAddr::new(address, 0));
        self
    }

    /// The same with these options set.
    pub fn with(mut self, options: SocketOptions) -> Self {
        self.options = options;
        for peer in self.peers.iter_mut().filter(|_| options.multipath) {
            peer.set_port(server::MULTIPATH);
        }
        self
    }
}

/// What has become of the traffic so far.
#[derive(Debug, Default)]
pub struct Counters {
    /// Handshakes done.
    pub connected: AtomicU64,
    /// Messages that were answered.
    pub messages: AtomicU64,
    /// Mail sessions, or short connections, that came to their end.
    pub sessions: AtomicU64,
    /// Connections that wait for more than two seconds, at this moment.
    pub hanging: AtomicU64,
    /// Sessions given up.
    pub given_up: AtomicU64,
    /// Connections that ended with an error.
    pub errors: AtomicU64,
}

impl Counters {
    /// Handshakes done.
    pub fn connected(&self) -> u64 {
        self.connected.load(Ordering::Relaxed)
    }

    /// Messages that were answered.
    pub fn messages(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }

    /// Sessions that came to their end.
    pub fn sessions(&self) -> u64 {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Connections that wait for more than two seconds, at this moment.
    pub fn hanging(&self) -> u64 {
        self.hanging.load(Ordering::Relaxed)
    }

    /// Sessions given up.
    pub fn given_up(&self) -> u64 {
        self.given_up.load(Ordering::Relaxed)
    }

    /// Connections that ended with an error.
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }
}

/// Running traffic.
#[derive(Debug)]
pub struct Traffic {
    /// What has become of it so far.
    pub counters: Arc<Counters>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Traffic {
    /// Starts it inside a namespace.
    pub fn start(namespace: &Namespace, plan: &Plan) -> Result<Self> {
        let plan = plan.clone();
        Self::run(namespace, move |counters| client::start(&plan, counters))
    }

    /// Starts the tasks that `begin` spawns, inside a namespace.
    pub(crate) fn run(
        namespace: &Namespace,
        begin: impl FnOnce(&Arc<Counters>) + Send + 'static,
    ) -> Result<Self> {
        let counters = Arc::new(Counters::default());
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&counters);
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = namespace.spawn("lab-client", move || {
            // It runs on this thread, so its sockets are inside.
            runtime.block_on(async {
                begin(&shared);
                let _ = time::timeout(LIMIT, stopped).await;
            });
        })?;
        Ok(Self {
            counters,
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

//! Asking netlink (`sock_diag`) for one connection, and to end it: `inet_diag_cmd_exact` in
//! `net/ipv4/inet_diag.c`, `tcp_diag_destroy` in `net/ipv4/tcp_diag.c`.
//!
//! **Invariant:** one question, one answer, in the network namespace in which it was opened. What is to be
//! ended is named by its cookie.

use std::io;

use anyhow::bail;
use netlink_packet_sock_diag::{
    SockDiagDestroy, SockDiagMessage,
    inet::{InetResponse, SocketId, StateFlags},
};
use netlink_sys::Socket;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};

use crate::{
    api::Target,
    sense::sock_diag::{self, failure, request},
};

/// Bytes of an answer: a connection takes less than a thousand.
const BUFFER: usize = 1 << 14;
/// Any cookie: `INET_DIAG_NOCOOKIE`, `include/uapi/linux/inet_diag.h`.
const ANY: [u8; 8] = [0xff; 8];

/// What the kernel has to a question.
#[derive(Debug, PartialEq)]
pub(super) enum Found<T> {
    /// This, or it was done.
    Socket(T),
    /// There is no such socket, or it has another cookie.
    Nothing,
}

/// The one who asks.
pub(super) struct Asker {
    socket: Socket,
    sequence: u32,
}

impl Asker {
    /// Asks in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When the kernel does not tell of TCP connections.
    pub(super) fn open() -> io::Result<Self> {
        let mut asker = Self {
            socket: sock_diag::open()?,
            sequence: 0,
        };
        // A kernel that lacks this answers as if a connection were gone. None is in none of these states.
        let nothing = request(SocketId::new_v4(), StateFlags::empty());
        let message = SockDiagMessage::InetRequest(nothing);
        match asker.ask(message, NLM_F_DUMP)? {
            Answer::Failed(error) => Err(error),
            Answer::Told(_) | Answer::Done => Ok(asker),
        }
    }

    /// Looks at the socket of a connection.
    ///
    /// # Errors
    /// What the kernel says, but for that there is none.
    pub(super) fn look(&mut self, target: &Target) -> io::Result<Found<InetResponse>> {
        let question = request(name(target), StateFlags::all());
        match self.ask(SockDiagMessage::InetRequest(question), 0)? {
            Answer::Told(response) => Ok(Found::Socket(*response)),
            Answer::Done => Err(io::ErrorKind::InvalidData.into()),
            Answer::Failed(error) => nothing_or(error),
        }
    }

    /// Ends the connection of exactly this socket, as the kernel has named it.
    ///
    /// # Errors
    /// What the kernel says, but for that there is none.
    pub(super) fn destroy(&mut self, socket: &SocketId) -> io::Result<Found<()>> {
        if socket.cookie == ANY {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let message = SockDiagMessage::InetRequest(request(socket.clone(), StateFlags::all()));
        match self.ask(SockDiagDestroy::new(message), NLM_F_ACK)? {
            Answer::Done => Ok(Found::Socket(())),
            Answer::Told(_) => Err(io::ErrorKind::InvalidData.into()),
            Answer::Failed(error) => nothing_or(error),
        }
    }

    fn ask<M: NetlinkSerializable + Into<NetlinkPayload<M>>>(
        &mut self,
        message: M,
        flags: u16,
    ) -> io::Result<Answer> {
        self.sequence += 1;
        sock_diag::send(&self.socket, message, flags, self.sequence)?;
        let mut buffer = Vec::with_capacity(BUFFER);
        loop {
            buffer.clear();
            let size = self.socket.recv(&mut buffer, 0)?;
            let datagram = buffer.get(..size).unwrap_or_default();
            if let Some(answer) = answer(datagram, self.sequence).map_err(io::Error::other)? {
                return Ok(answer);
            }
        }
    }
}

/// What the kernel has sent.
#[derive(Debug)]
enum Answer {
    /// A socket.
    Told(Box<InetResponse>),
    /// It was done.
    Done,
    /// It was not.
    Failed(io::Error),
}

/// The answer to the question with that number; `None` when it is to another one.
fn answer(datagram: &[u8], sequence: u32) -> anyhow::Result<Option<Answer>> {
    let message = NetlinkMessage::<SockDiagMessage>::deserialize(datagram)?;
    if message.header.sequence_number != sequence {
        return Ok(None);
    }
    let ended = |code: i32| match code {
        0 => Answer::Done,
        code => Answer::Failed(failure(code)),
    };
    Ok(Some(match message.payload {
        NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(it)) => Answer::Told(it),
        NetlinkPayload::Error(error) => ended(error.raw_code()),
        NetlinkPayload::Done(done) => ended(done.code.min(0)),
        other => bail!("netlink has sent something else: {other:?}"),
    }))
}

/// Whether there is nothing, which is no failure.
fn nothing_or<T>(error: io::Error) -> io::Result<Found<T>> {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ESTALE) => Ok(Found::Nothing),
        _ => Err(error),
    }
}

/// What the kernel knows the connection's socket by. One that came in through an IPv6 socket is found by its
/// IPv4 addresses, too.
fn name(target: &Target) -> SocketId {
    let (local, remote) = (target.stall.local, target.stall.remote);
    SocketId {
        source_port: local.port(),
        destination_port: remote.port(),
        source_address: local.ip(),
        destination_address: remote.ip(),
        interface_id: target.device.map_or(0, |it| it.0),
        cookie: target.cookie.map_or(ANY, u64::to_ne_bytes),
    }
}

/// Why connections cannot be looked at, and what to do.
pub(super) fn unable(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::EPROTONOSUPPORT) => {
            "the kernel does not tell of TCP connections (sock_diag); \
             load the module with `modprobe tcp_diag`"
                .to_owned()
        }
        _ => format!("the connection cannot be looked at ({error}); try it again"),
    }
}

/// Why a connection was not reset, and what to do.
pub(super) fn not_reset(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM) => "the kernel does not allow it: that takes CAP_NET_ADMIN in the network namespace of the \
             connection; run it as root of the host, not in a container"
            .to_owned(),
        Some(libc::EOPNOTSUPP) => "this kernel cannot reset connections for others (it was built without \
             CONFIG_INET_DIAG_DESTROY); restart the process that holds it instead"
            .to_owned(),
        _ => format!("the kernel says: {error}"),
    }
}

#[cfg(test)]
mod tests;

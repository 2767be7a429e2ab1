//! Options that a program sets on its sockets and that change where its packets go, or when.

use std::{io, time::Duration};

use rustix::net::sockopt;
use socket2::{Domain, SockRef};
use tokio::net::TcpSocket;

use crate::server;

/// Nothing out of the ordinary, unless given.
#[derive(Debug, Clone, Copy, Default)]
pub struct SocketOptions {
    /// `SO_MARK`: policy rules may look at it.
    pub mark: Option<u32>,
    /// `SO_BINDTODEVICE`: this interface and no other.
    pub device: Option<&'static str>,
    /// `TCP_THIN_LINEAR_TIMEOUTS`: the first repetitions do not back off.
    pub thin: bool,
    /// `TCP_USER_TIMEOUT`: the kernel gives up after this.
    pub user_timeout: Option<Duration>,
    /// The socket speaks MPTCP, and the peer on the port for it does.
    pub multipath: bool,
    /// Whoever closes early leaves the rest to the kernel, as programs do; otherwise it resets.
    pub lingers: bool,
}

impl SocketOptions {
    /// A socket with these options.
    pub(crate) fn socket(&self, domain: Domain) -> io::Result<TcpSocket> {
        let socket = match (self.multipath, domain) {
            (true, _) => server::multipath(domain)?,
            (false, Domain::IPV4) => TcpSocket::new_v4()?,
            (false, _) => TcpSocket::new_v6()?,
        };
        self.apply(&socket)?;
        Ok(socket)
    }

    fn apply(&self, socket: &TcpSocket) -> io::Result<()> {
        if let Some(mark) = self.mark {
            SockRef::from(socket).set_mark(mark)?;
        }
        if let Some(device) = self.device {
            socket.bind_device(Some(device.as_bytes()))?;
        }
        if self.thin {
            sockopt::set_tcp_thin_linear_timeouts(socket, true)?;
        }
        if let Some(timeout) = self.user_timeout {
            let milliseconds = timeout.as_millis().try_into().unwrap_or(u32::MAX);
            sockopt::set_tcp_user_timeout(socket, milliseconds)?;
        }
        Ok(())
    }
}

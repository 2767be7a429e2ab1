//! Taking the socket and the metrics address.
//!
//! **Invariant:** the socket of a living daemon is never taken away, a dead one's always is, and
//! at no moment can anybody connect who should not.

use std::{
    fs, io,
    net::SocketAddr,
    os::{
        fd::OwnedFd,
        unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use anyhow::Context;
use rustix::{
    fs::{FlockOperation, flock},
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
        sockopt::socket_peercred,
    },
};
use tokio::net::{TcpListener, UnixListener};

const MODE: u32 = 0o660;
const GROUP: &str = "tcpstall";
const BACKLOG: i32 = 128;

/// The unix socket; dropped, its file is gone, unless another daemon has taken it over.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    identity: (u64, u64),
}

impl Socket {
    /// What to accept from.
    pub(super) fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|it| it == self.identity) {
            // It is in nobody's way: the next daemon takes a dead socket over.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Opens the unix socket at `path`, for its owner and the group `tcpstall`; needs a running
/// [`tokio`] runtime.
pub fn bind_socket(path: &Path) -> anyhow::Result<Socket> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder).with_context(|| {
        format!(
            "cannot create {}; run as root, or use --socket",
            folder.display()
        )
    })?;
    let _held = only_one(folder)?;
    refuse_if_taken(path)?;
    let socket = publish(path).with_context(|| {
        format!(
            "cannot open the socket {}; run as root, or use --socket",
            path.display()
        )
    })?;
    let listener = std::os::unix::net::UnixListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(Socket {
        listener: UnixListener::from_std(listener)?,
        path: path.to_owned(),
        identity: identity(path)?,
    })
}

/// Opens the TCP address of the metrics page.
pub async fn bind_metrics(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "another program listens there, perhaps another exporter or another tcpstall; \
                 stop it, or use another address with --metrics-address or metrics_address"
            }
            io::ErrorKind::AddrNotAvailable => {
                "this host has no such address; use another one with --metrics-address or \
                 metrics_address"
            }
            io::ErrorKind::PermissionDenied => {
                "ports below 1024 are for root; use another one with --metrics-address or \
                 metrics_address"
            }
            _ => "use another address with --metrics-address or metrics_address",
        };
        anyhow::anyhow!("cannot serve metrics on {address} ({error}): {advice}")
    })
}

/// Two daemons that start at once must not both find a dead socket.
fn only_one(folder: &Path) -> anyhow::Result<fs::File> {
    let file = fs::File::open(folder).with_context(|| {
        format!(
            "cannot open {}; run as root, or use --socket",
            folder.display()
        )
    })?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).with_context(|| {
        format!(
            "another tcpstall daemon is starting in {}; stop it or use --socket",
            folder.display()
        )
    })?;
    Ok(file)
}

fn refuse_if_taken(path: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        anyhow::bail!("{shown} is there and is not a socket; remove it or use --socket");
    }
    let probe = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    match connect(&probe, &SocketAddrUnix::new(path)?) {
        Ok(()) => {
            let pid = socket_peercred(&probe)?.pid.as_raw_nonzero();
            anyhow::bail!(
                "another tcpstall daemon (pid {pid}) answers on {shown}; stop it or use --socket"
            )
        }
        // Its queue is full: somebody listens, however slowly.
        Err(rustix::io::Errno::AGAIN) => {
            anyhow::bail!("another tcpstall daemon listens on {shown}; stop it or use --socket")
        }
        Err(_) => Ok(()),
    }
}

/// The socket, first under another name, so that whoever sees it finds it complete.
fn publish(path: &Path) -> anyhow::Result<OwnedFd> {
    let mut name = path.file_name().context("it names no file")?.to_owned();
    name.push(format!(".{}", std::process::id()));
    let hidden = path.with_file_name(name);
    let _ = fs::remove_file(&hidden);
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    bind(
        &socket,
        &SocketAddrUnix::new(&hidden).context("the path is too long for a socket")?,
    )?;
    let published = restrict(&hidden)
        .and_then(|()| Ok(listen(&socket, BACKLOG)?))
        .and_then(|()| fs::rename(&hidden, path));
    if published.is_err() {
        let _ = fs::remove_file(&hidden);
    }
    published?;
    Ok(socket)
}

fn restrict(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    // Not asked for what is so already: a hardened service is killed for the question.
    if let Some(group) = group_id(&groups, GROUP)
        && fs::symlink_metadata(path)?.gid() != group
        && let Err(error) = std::os::unix::fs::chown(path, None, Some(group))
    {
        tracing::warn!(%error, "the socket cannot be given to the group {GROUP}");
    }
    Ok(())
}

/// The number of the group called `name`, by the text of `/etc/group`.
fn group_id(groups: &str, name: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    })
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|it| (it.dev(), it.ino()))
}

#[cfg(test)]
mod tests;

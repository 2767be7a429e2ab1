//! Asking the daemon over its socket.
//!
//! **Invariant:** never waits for longer than it says; every failure names the socket and what to
//! do.

mod record;

use std::{io, os::unix::fs::MetadataExt, path::Path, time::Duration};

use anyhow::{Context, anyhow, bail};
use http_body_util::{BodyExt, Empty};
use hyper::{
    Method, Request, Response,
    body::{Bytes, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
    time::timeout,
};

use crate::{
    api,
    serve::{Filter, VERSION, Which},
};

pub(super) use record::{Stop, Told, record};

/// For an answer as a whole.
const ANSWER: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 5 });
/// The same for whoever does not wait; they ask every second or two.
const AT_ONCE: Duration = Duration::from_millis(700);
/// Without a sign of life in a stream; the daemon gives one every 15 seconds.
const SILENCE: Duration = Duration::from_secs(45);

/// The judgement.
pub(super) fn status(socket: &Path) -> anyhow::Result<api::Status> {
    get(socket, "/v1/status")
}

/// The same for whoever does not wait: failover programs take a slow answer for a bad one.
pub(super) fn status_at_once(socket: &Path) -> anyhow::Result<api::Status> {
    fetch(AT_ONCE, socket, Method::GET, "/v1/status")
}

/// The connections that `filter` wants.
pub(super) fn stalls(socket: &Path, filter: &Filter) -> anyhow::Result<Vec<api::Stall>> {
    get(
        socket,
        &format!("/v1/stalls?{}", serde_urlencoded::to_string(filter)?),
    )
}

/// What is stalled of that which `filter` wants, to be reset at once: the daemon writes down who does.
pub(super) fn kill(socket: &Path, filter: &Filter) -> anyhow::Result<Vec<api::Target>> {
    let filter = serde_urlencoded::to_string(filter)?;
    fetch(ANSWER, socket, Method::POST, &format!("/v1/kill?{filter}"))
}

/// The judgement, for whoever runs hooks; one who only says what he would run does not count as such.
pub(super) async fn hooks(socket: &Path, dry: bool) -> anyhow::Result<api::Status> {
    let path = if dry { "/v1/status" } else { "/v1/hooks" };
    let body = answer(ANSWER, socket, Method::GET, path).await?;
    serde_json::from_slice(&body).with_context(|| not_understood(socket))
}

/// A hook has ended; why that is not counted, if the daemon refuses.
pub(super) async fn ran(socket: &Path, ran: &api::Ran) -> anyhow::Result<Option<String>> {
    let path = format!("/v1/hooks?{}", serde_urlencoded::to_string(ran)?);
    let asked = timeout(ANSWER, send(socket, Method::POST, &path)).await;
    let response = asked.map_err(|_| hung(socket, ANSWER))??;
    Ok(refusal(socket, response).await?.err())
}

/// The incidents that `which` wants.
pub(super) fn incidents(socket: &Path, which: &Which) -> anyhow::Result<Vec<api::Incident>> {
    get(
        socket,
        &format!("/v1/incidents?{}", serde_urlencoded::to_string(which)?),
    )
}

/// What comes out of [`events`].
#[derive(Debug, PartialEq)]
pub(super) enum News {
    /// An upstream has changed.
    Changed(api::Event),
    /// So many changes were missed.
    Missed(u64),
}

/// Hands each change to `tell`, until that fails or the daemon ends.
pub(super) fn events(
    socket: &Path,
    mut tell: impl FnMut(News) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    runtime()?.block_on(async {
        let response = timeout(ANSWER, ask(socket, Method::GET, "/v1/events"))
            .await
            .map_err(|_| hung(socket, ANSWER))??;
        let mut body = response.into_body();
        let mut pending = Vec::new();
        loop {
            let frame = timeout(SILENCE, body.frame())
                .await
                .map_err(|_| hung(socket, SILENCE))?;
            let Some(Ok(frame)) = frame else {
                bail!(
                    "the daemon at {} has ended; start it again and ask anew",
                    socket.display()
                );
            };
            pending.extend_from_slice(frame.data_ref().map_or(&[][..], |it| it));
            for news in take(&mut pending).with_context(|| not_understood(socket))? {
                tell(news)?;
            }
        }
    })
}

fn get<T: DeserializeOwned>(socket: &Path, path: &str) -> anyhow::Result<T> {
    fetch(ANSWER, socket, Method::GET, path)
}

fn fetch<T: DeserializeOwned>(
    limit: Duration,
    socket: &Path,
    method: Method,
    path: &str,
) -> anyhow::Result<T> {
    let body = runtime()?.block_on(answer(limit, socket, method, path))?;
    serde_json::from_slice(&body).with_context(|| not_understood(socket))
}

async fn answer(
    limit: Duration,
    socket: &Path,
    method: Method,
    path: &str,
) -> anyhow::Result<Bytes> {
    timeout(limit, read(socket, method, path))
        .await
        .map_err(|_| hung(socket, limit))?
}

async fn read(socket: &Path, method: Method, path: &str) -> anyhow::Result<Bytes> {
    let body = ask(socket, method, path).await?.into_body().collect().await;
    Ok(body.with_context(|| ended_early(socket))?.to_bytes())
}

pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

/// The answer, if it is a good one.
async fn ask(socket: &Path, method: Method, path: &str) -> anyhow::Result<Response<Incoming>> {
    let response = send(socket, method, path).await?;
    match refusal(socket, response).await? {
        Ok(response) => Ok(response),
        Err(why) => bail!("the daemon at {} answers: {why}", socket.display()),
    }
}

async fn send(socket: &Path, method: Method, path: &str) -> anyhow::Result<Response<Incoming>> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|error| not_connected(socket, &error))?;
    request(stream, method, "tcpstall", path)
        .await
        .with_context(|| ended_early(socket))
}

/// A good answer, or why there is none.
async fn refusal(
    socket: &Path,
    response: Response<Incoming>,
) -> anyhow::Result<Result<Response<Incoming>, String>> {
    let status = response.status();
    if status.is_success() {
        return Ok(Ok(response));
    }
    let body = response
        .into_body()
        .collect()
        .await
        .with_context(|| ended_early(socket))?;
    Ok(Err(
        match serde_json::from_slice::<api::Error>(&body.to_bytes()) {
            Ok(error) => error.error,
            Err(_) => status.to_string(),
        },
    ))
}

/// Sends a request without a body and gives the head of the answer.
pub(super) async fn request(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    method: Method,
    host: &str,
    path: &str,
) -> anyhow::Result<Response<Incoming>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the runtime; what goes wrong in it is told by the request.
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", host)
        .body(Empty::<Bytes>::new())?;
    Ok(sender.send_request(request).await?)
}

fn not_connected(socket: &Path, error: &io::Error) -> anyhow::Error {
    let shown = socket.display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => anyhow!(
            "no tcpstall daemon answers on {shown} ({error}); start one with `systemctl start \
             tcpstall` or `sudo tcpstall daemon`, or name its socket with --socket or \
             TCPSTALL_SOCKET"
        ),
        io::ErrorKind::PermissionDenied => anyhow!(
            "no permission to use the socket {shown}; ask with sudo, or join its group with \
             `sudo usermod -aG {} $USER` and log in again",
            group_of(socket)
        ),
        _ => anyhow!("cannot reach the tcpstall daemon at {shown} ({error}); restart it"),
    }
}

/// The group that may use the socket.
fn group_of(socket: &Path) -> String {
    const USUAL: &str = "tcpstall";
    let Ok(metadata) = std::fs::metadata(socket) else {
        return USUAL.to_owned();
    };
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let name = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(metadata.gid())).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| metadata.gid().to_string())
}

fn hung(socket: &Path, waited: Duration) -> anyhow::Error {
    anyhow!(
        "the daemon at {} has said nothing for {} seconds; it hangs or is overloaded: look at its \
         log (`journalctl -u tcpstall`) and restart it",
        socket.display(),
        waited.as_secs_f64()
    )
}

fn ended_early(socket: &Path) -> String {
    format!(
        "the daemon at {} has ended before it answered; look at its log",
        socket.display()
    )
}

fn not_understood(socket: &Path) -> String {
    format!(
        "the answer of {} is not understood; is it a tcpstall daemon, and of this version \
         ({VERSION})?",
        socket.display()
    )
}

/// Takes the complete events out of the bytes of a stream
/// (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
fn take(pending: &mut Vec<u8>) -> anyhow::Result<Vec<News>> {
    let mut news = Vec::new();
    while let Some(end) = pending.windows(2).position(|it| it == b"\n\n") {
        let block: Vec<u8> = pending.drain(..end + 2).collect();
        let block = String::from_utf8_lossy(&block);
        let field = |name: &str| {
            let mut lines = block.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        match (field("event"), field("data")) {
            (Some("upstream"), Some(data)) => news.push(News::Changed(serde_json::from_str(data)?)),
            (Some("lost"), Some(data)) => news.push(News::Missed(data.parse()?)),
            // A sign of life, or something newer than this program.
            _ => {}
        }
    }
    Ok(news)
}

#[cfg(test)]
mod tests;

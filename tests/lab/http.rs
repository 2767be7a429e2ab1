//! Just enough HTTP to ask the detector: one request, one answer, no library in between.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, bail};

/// Nobody waits longer for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub code: u16,
    /// Header lines, as they came.
    pub headers: String,
    /// Body.
    pub body: String,
}

/// Asks over a unix socket.
pub fn get_unix(socket: &Path, path: &str) -> Result<Answer> {
    ask(open(socket)?, "GET", path)
}

/// Tells something over a unix socket, without a body.
pub fn post_unix(socket: &Path, path: &str) -> Result<Answer> {
    ask(open(socket)?, "POST", path)
}

/// Asks over TCP, on the loopback address of the calling thread's namespace.
pub fn get_local(port: u16, path: &str) -> Result<Answer> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .with_context(|| format!("cannot connect to 127.0.0.1:{port}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    ask(stream, "GET", path)
}

/// Asks for a stream of events and gives a reader that is past the headers.
pub fn stream_unix(socket: &Path, path: &str) -> Result<impl BufRead + use<>> {
    let mut stream = open(socket)?;
    stream.set_read_timeout(None)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: tcpstall\r\n\r\n")?;
    let mut reader = BufReader::new(stream);
    let headers = read_headers(&mut reader)?;
    match code(&headers)? {
        200 => Ok(reader),
        code => bail!("{path} was answered with {code}"),
    }
}

fn open(socket: &Path) -> Result<UnixStream> {
    let stream = UnixStream::connect(socket)
        .with_context(|| format!("cannot connect to {}", socket.display()))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn ask(mut stream: impl Read + Write, method: &str, path: &str) -> Result<Answer> {
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: tcpstall\r\nConnection: close\r\n\r\n"
    )?;
    let mut reader = BufReader::new(stream);
    let headers = read_headers(&mut reader).with_context(|| format!("asking for {path}"))?;
    let mut body = Vec::new();
    reader.read_to_end(&mut body)?;
    if headers
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked")
    {
        body = unchunk(&body).context("the chunks of the answer do not add up")?;
    }
    Ok(Answer {
        code: code(&headers)?,
        headers,
        body: String::from_utf8(body)?,
    })
}

/// Everything up to the empty line.
fn read_headers(reader: &mut impl BufRead) -> Result<String> {
    let mut headers = String::new();
    while !headers.ends_with("\r\n\r\n") {
        if reader.read_line(&mut headers)? == 0 {
            bail!("the answer ended within its headers");
        }
    }
    Ok(headers)
}

fn code(headers: &str) -> Result<u16> {
    let word = headers.split(' ').nth(1).context("no status code")?;
    word.parse()
        .with_context(|| format!("{word} is no status code"))
}

fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?, 16).ok()?;
        if length == 0 {
            return Some(body);
        }
        body.extend(rest.get(end + 2..end + 2 + length)?);
        rest = rest.get(end + 4 + length..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::unchunk;

    #[test]
    fn chunks_add_up() {
        let body = unchunk(b"4\r\nstat\r\nA\r\nus of mine\r\n0\r\n\r\n");
        assert_eq!(body.as_deref(), Some(&b"status of mine"[..]));
        assert_eq!(unchunk(b"5\r\nWi"), None);
    }
}

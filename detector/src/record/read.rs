//! A file as lines, and what can be wrong with it.
//!
//! **Invariant:** holds one line at a time, of bounded length; every byte may be wrong.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::GzDecoder;

use super::line::{FORMAT, Header, LONGEST, Line};
/// Version of this program.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Why a recording cannot be read, or not to its end; what was read before is good.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// There is nothing in it.
    #[error(
        "it is empty, so nothing can be replayed; perhaps the recording was killed at once or the \
         disk was full: record again"
    )]
    Empty,
    /// It is something else.
    #[error(
        "line 1 is not the header of a recording ({0}); expected a file that `tcpstall record` \
         wrote: check the name"
    )]
    Foreign(String),
    /// It was written by a program that is too new.
    #[error(
        "it has format {0}, and this tcpstall ({VERSION}) reads formats up to {FORMAT}; replay it \
         with the version that recorded it, or a newer one"
    )]
    Newer(u64),
    /// A line is no line of a recording.
    #[error(
        "line {number} (at byte {byte} of the uncompressed text) is not understood ({why}); what \
         comes before it is shown: if the file was edited or damaged, restore it, if a newer \
         tcpstall wrote it, use that one"
    )]
    Line {
        /// Its number, from 1.
        number: u64,
        /// Where it begins.
        byte: u64,
        /// What was wrong.
        why: String,
    },
    /// A line has no end.
    #[error(
        "line {number} (at byte {byte} of the uncompressed text) is longer than {} MiB, which no \
         line of a recording is; what comes before it is shown: fetch the file again",
        LONGEST >> 20
    )]
    Endless {
        /// Its number, from 1.
        number: u64,
        /// Where it begins.
        byte: u64,
    },
    /// The end is missing.
    #[error(
        "it is cut off after line {after}: the recording was killed, the disk was full, or not \
         all of the file was copied; what was read is shown"
    )]
    Cut {
        /// The last line that is whole.
        after: u64,
    },
    /// What was compressed cannot be uncompressed.
    #[error(
        "its compressed bytes are damaged after line {after} ({why}); what was read before is \
         shown: fetch the file again, or look at the disk"
    )]
    Damaged {
        /// The last line that is whole.
        after: u64,
        /// What gzip says.
        why: String,
    },
    /// It holds more verdicts than there can be.
    #[error(
        "up to line {number} it holds more verdicts than this tcpstall compares; what comes before \
         is shown: record for a shorter time"
    )]
    Busy {
        /// The line that was too much.
        number: u64,
    },
    /// The file cannot be read.
    #[error("it cannot be read after line {after} ({why}); look at the disk and its permissions")]
    Unreadable {
        /// The last line that is whole.
        after: u64,
        /// What the system says.
        why: io::Error,
    },
}

/// The lines of a recording.
pub(super) struct Lines<'a> {
    from: Box<dyn BufRead + 'a>,
    compressed: bool,
    number: u64,
    byte: u64,
    line: Vec<u8>,
}

impl<'a> Lines<'a> {
    /// Compressed or not: the first byte tells, since no JSON begins like gzip.
    pub(super) fn open(from: impl Read + 'a) -> Result<Self, Broken> {
        const GZIP: u8 = 0x1f;
        let mut from = BufReader::new(from);
        let first = from.fill_buf().map_err(|why| failed(why, 0))?.first();
        let compressed = *first.ok_or(Broken::Empty)? == GZIP;
        let from: Box<dyn BufRead> = if compressed {
            Box::new(BufReader::new(GzDecoder::new(from)))
        } else {
            Box::new(from)
        };
        Ok(Self {
            from,
            compressed,
            number: 0,
            byte: 0,
            line: Vec::new(),
        })
    }

    /// The first line.
    pub(super) fn header(&mut self) -> Result<Header, Broken> {
        let compressed = self.compressed;
        let endless = || Broken::Foreign("it does not end".to_owned());
        match self.next() {
            Ok(Some(line)) => header(line),
            Ok(None) => Err(Broken::Empty),
            Err(Broken::Cut { .. }) if compressed => Err(Broken::Empty),
            Err(Broken::Cut { .. } | Broken::Endless { .. }) => Err(endless()),
            Err(Broken::Damaged { why, .. }) => Err(Broken::Foreign(why)),
            Err(other) => Err(other),
        }
    }

    /// The next line that is whole; `None` where the file ends behind one.
    pub(super) fn line(&mut self) -> Result<Option<Line>, Broken> {
        let byte = self.byte;
        let number = self.number + 1;
        let Some(line) = self.next()? else {
            return Ok(None);
        };
        let read = serde_json::from_slice(line);
        read.map(Some).map_err(|why| Broken::Line {
            number,
            byte,
            why: misread(&why),
        })
    }

    /// Lines that were read whole.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    fn next(&mut self) -> Result<Option<&[u8]>, Broken> {
        self.line.clear();
        let limit = LONGEST as u64 + 1;
        let read = (&mut self.from)
            .take(limit)
            .read_until(b'\n', &mut self.line);
        let length = read.map_err(|why| failed(why, self.number))?;
        if length == 0 {
            return Ok(None);
        }
        if self.line.last() != Some(&b'\n') {
            if length as u64 == limit {
                let (number, byte) = (self.number + 1, self.byte);
                return Err(Broken::Endless { number, byte });
            }
            return Err(Broken::Cut { after: self.number });
        }
        self.number += 1;
        self.byte += length as u64;
        Ok(Some(&self.line))
    }
}

/// Understands the first line of a recording.
pub(super) fn header(line: &[u8]) -> Result<Header, Broken> {
    let foreign = |why: serde_json::Error| Broken::Foreign(misread(&why));
    let value: serde_json::Value = serde_json::from_slice(line).map_err(foreign)?;
    // First of all: a newer header may look otherwise.
    match value["tcpstall_recording"].as_u64() {
        Some(format) if format > u64::from(FORMAT) => return Err(Broken::Newer(format)),
        Some(_) => {}
        None => return Err(Broken::Foreign("no `tcpstall_recording` in it".to_owned())),
    }
    serde_json::from_value(value).map_err(foreign)
}

/// What JSON says; a line of a recording is one line.
pub(super) fn misread(why: &serde_json::Error) -> String {
    why.to_string().replace("line 1 column", "column")
}

fn failed(why: io::Error, after: u64) -> Broken {
    match why.kind() {
        io::ErrorKind::UnexpectedEof => Broken::Cut { after },
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => Broken::Damaged {
            after,
            why: why.to_string(),
        },
        _ => Broken::Unreadable { after, why },
    }
}

//! The stream of the daemon, with what an engine makes of it, as a file.
//!
//! **Invariant:** what was flushed can be replayed, whatever happens to the writer afterwards.

use std::io::{self, Write};

use flate2::{Compression, write::GzEncoder};

use super::{
    line::{self, End, Header, Line},
    read::{self, Broken},
};
use crate::{engine::Engine, time::Time};

/// Writes a recording: what the daemon sends, and after each input what an engine answers that
/// knows nothing but the recording.
pub struct Recorder<W: Write> {
    out: GzEncoder<Counted<W>>,
    engine: Engine,
    at: Time,
    lines: u64,
    byte: u64,
    inputs: u64,
    said: u64,
    ended: Option<String>,
}

struct Counted<W> {
    out: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Why a recording cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// What came is no recording.
    #[error(transparent)]
    Stream(#[from] Broken),
    /// The file cannot be written.
    #[error(transparent)]
    File(#[from] io::Error),
}

impl<W: Write> Recorder<W> {
    /// Begins with the first line that the daemon sends.
    ///
    /// # Errors
    /// When that is no header, or cannot be written.
    pub fn begin(header: &[u8], out: W) -> Result<Self, Failed> {
        let Header { at, settings, .. } = read::header(header)?;
        let out = Counted { out, bytes: 0 };
        let mut out = GzEncoder::new(out, Compression::default());
        out.write_all(header)?;
        out.flush()?;
        Ok(Self {
            out,
            engine: Engine::new(settings.into(), at),
            at,
            lines: 1,
            byte: header.len() as u64,
            inputs: 0,
            said: 0,
            ended: None,
        })
    }

    /// Takes a further line, its newline included.
    ///
    /// # Errors
    /// When it is not understood, or cannot be written.
    pub fn take(&mut self, line: &[u8]) -> Result<(), Failed> {
        let read: Line = serde_json::from_slice(line).map_err(|why| Broken::Line {
            number: self.lines + 1,
            byte: self.byte,
            why: read::misread(&why),
        })?;
        self.lines += 1;
        self.byte += line.len() as u64;
        if let Some(end) = read.end {
            // It is written anew, with what the daemon cannot know.
            self.ended = Some(end.reason);
            return Ok(());
        }
        self.out.write_all(line)?;
        self.at = read.at;
        if let Some(settings) = read.settings {
            self.engine.configure(settings.into(), read.at);
        }
        if let Some(learned) = read.learned {
            self.engine.remember(learned);
        }
        if let Some(input) = read.input {
            self.inputs += 1;
            for said in self.engine.handle(read.at, input) {
                self.said += 1;
                let line = line::said(read.at, &said).map_err(io::Error::from)?;
                self.out.write_all(&line)?;
            }
        }
        Ok(())
    }

    /// Why the daemon has ended it, when it has.
    pub fn ended(&self) -> Option<&str> {
        self.ended.as_deref()
    }

    /// Inputs that were written.
    pub fn inputs(&self) -> u64 {
        self.inputs
    }

    /// Bytes that have left the compressor.
    pub fn bytes(&self) -> u64 {
        self.out.get_ref().bytes
    }

    /// Hands everything to the file, so that it can be replayed up to here.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Writes the last line and gives the file back.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self, reason: &str) -> io::Result<W> {
        let end = End {
            at: self.at,
            reason: reason.to_owned(),
            inputs: self.inputs,
            said: self.said,
        };
        self.out.write_all(&line::end(&end)?)?;
        let mut out = self.out.finish()?.out;
        out.flush()?;
        Ok(out)
    }
}

//! What the engine was told, as a file, and the engine run again over it.
//!
//! A recording is a gzip file of JSON lines: a [`line::Header`], then every input with its time,
//! and after each what an engine that started with the recording answered. [`Recorder`] writes it,
//! [`replay`] reads it.
//!
//! **Invariant:** the engine is a function of its settings and its inputs, so a replay under the
//! recorded settings repeats every word. No bytes, however damaged, make a reader panic or hold
//! more than one line.

mod compare;
pub mod line;
mod read;
mod replay;
mod write;

pub use compare::{Row, Verdict, Word};
pub use read::Broken;
pub use replay::{Replay, Stalls, replay};
pub use write::{Failed, Recorder};

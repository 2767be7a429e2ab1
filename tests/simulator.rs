//! Made-up hosts in virtual time: thousands of runs through the real engine, without a kernel.
//!
//! Read in this order: [`way`] (what packets meet), [`sender`] (how TCP fares), [`connection`]
//! (what applications do), [`world`] (who is there, and what goes wrong), [`watcher`] (the daemon's
//! part), [`run`] (one run and what it says of the judgement).
//!
//! **Invariant:** no clock and no chance but a run's own: the same seed gives the same result.

pub mod baseline;
pub mod connection;
pub mod fault;
pub mod observe;
pub mod population;
pub mod random;
pub mod run;
pub mod scenario;
pub mod sender;
pub mod trap;
pub mod watcher;
pub mod way;
pub mod world;

/// Time in nanoseconds.
pub type Nanos = u64;

/// A thousandth of a second.
pub const MILLISECOND: Nanos = 1_000_000;
/// A second.
pub const SECOND: Nanos = 1_000_000_000;

/// Seconds as a number.
pub fn seconds(span: Nanos) -> f64 {
    span as f64 / SECOND as f64
}

/// A number of seconds.
pub fn nanos(seconds: f64) -> Nanos {
    (seconds * SECOND as f64) as Nanos
}

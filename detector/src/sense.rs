//! The outside, turned into [`crate::model::Input`]s.
//!
//! **Invariant:** no thresholds and no judgement; those belong to the engine.

pub mod btf;
pub mod decode;
pub mod descriptors;
pub mod doctor;
pub mod memory;
pub mod offsets;
pub mod owners;
pub mod programs;
pub mod retries;
pub mod settings;
pub mod sock_diag;
pub mod sweep;
pub mod topology;
pub mod uplinks;

pub use doctor::doctor;

pub use crate::model::Check;

/// What sees the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sensor {
    /// Programs in the kernel.
    Ebpf,
    /// Netlink, asked again and again: less, later, and without any right.
    SockDiag,
}

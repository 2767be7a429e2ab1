//! The outside, turned into [`crate::model::Input`]s.
//!
//! **Invariant:** no thresholds and no judgement; those belong to the engine.

pub mod btf;
pub mod decode;
pub mod doctor;
pub mod offsets;
pub mod owners;
pub mod programs;
pub mod sweep;
pub mod topology;

pub use doctor::doctor;

/// One thing that the kernel or the host must allow, as `tcpstall doctor` lists it and
/// `tcpstall_kernel_feature` exports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Short name, such as `btf` or `program:on_retransmit`; the metric's label.
    pub feature: String,
    /// Whether it is there.
    pub ok: bool,
    /// Whether the daemon refuses to start without it.
    pub required: bool,
    /// What was found, in one sentence.
    pub found: String,
    /// What is lost without it; empty when it is there.
    pub lost: String,
    /// What to do about it; empty when it is there.
    pub remedy: String,
}

impl Check {
    /// Something that is there.
    pub fn present(feature: impl Into<String>, required: bool, found: impl Into<String>) -> Self {
        Self {
            feature: feature.into(),
            ok: true,
            required,
            found: found.into(),
            lost: String::new(),
            remedy: String::new(),
        }
    }
}

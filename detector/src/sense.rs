//! The outside, turned into [`crate::model::Input`]s.
//!
//! **Invariant:** no thresholds and no judgement; those belong to the engine.

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

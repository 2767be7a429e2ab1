//! Sentences about the world, told to the engine in virtual time. Beside each loud case stands a
//! quiet one.

mod invariants;
mod judgement;
mod killed;
mod loud;
mod naming;
mod pauses;
mod quiet;
mod recording;
mod recovery;
pub(crate) mod samples;
mod sensors;
pub(super) mod world;

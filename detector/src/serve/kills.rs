//! Who is about to be reset.
//!
//! **Invariant:** what was noted is known to the engine before the end of any of them.

use std::sync::{Arc, Mutex, PoisonError};

use crate::model::ConnectionId;

/// Connections that somebody resets, and that the loop has not heard of; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Kills(Arc<Mutex<Vec<ConnectionId>>>);

impl Kills {
    /// Somebody resets these as soon as he has been answered.
    pub(super) fn note(&self, ids: impl IntoIterator<Item = ConnectionId>) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.extend(ids);
    }

    /// Those that were noted since the last time.
    pub fn take(&self) -> Vec<ConnectionId> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

//! Spans of time as whole nanoseconds, for `#[serde(with = "span")]`.
//!
//! **Invariant:** what is written is read back equal; more than 584 years become 584 years.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer};

use super::nanoseconds;

/// Writes a span.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(nanoseconds(*span))
}

/// Reads a span.
///
/// # Errors
/// When it is no number.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_nanos)
}

/// The same for a span that may not be known.
pub mod maybe {
    use super::{Deserialize, Deserializer, Duration, Serializer, nanoseconds};

    /// Writes a span, or that there is none.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(
        span: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match span {
            Some(span) => serializer.serialize_some(&nanoseconds(*span)),
            None => serializer.serialize_none(),
        }
    }

    /// Reads a span, or that there is none.
    ///
    /// # Errors
    /// When it is no number.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_nanos))
    }
}

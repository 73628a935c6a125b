//! Time as an argument.

use serde::{Deserialize, Serialize};

/// A moment, in whole seconds since the Unix epoch. Machines never read a clock; their callers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// This moment and `seconds` more, without wrapping.
    #[must_use]
    pub fn plus(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds))
    }
}

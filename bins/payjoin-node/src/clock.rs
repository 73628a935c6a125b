//! The system clock.

use std::time::{SystemTime, UNIX_EPOCH};

use payjoin_core::Timestamp;

/// Earliest plausible time, 2024-01-01. A clock before it would make deadlines and sessions meaningless.
const EARLIEST: u64 = 1_704_067_200;

/// The system clock; `None` when it cannot be right.
pub(crate) fn clock() -> Option<Timestamp> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    (since.as_secs() >= EARLIEST).then_some(Timestamp(since.as_secs()))
}

/// The system clock, for a process that started with a plausible one.
pub(crate) fn now() -> Timestamp {
    clock().unwrap_or(Timestamp(EARLIEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_of_this_machine_is_plausible() {
        let now = clock().unwrap();
        assert!(now.0 > EARLIEST && super::now() >= now);
    }
}

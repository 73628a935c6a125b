//! Streams that share no circuit.

use std::time::{Duration, Instant};

use arti_client::IsolationToken;
use arti_client::isolation::IsolationHelper;

/// arti offers a circuit to an onion service to other streams for ten minutes. Five more for its building.
const OFFERED: Duration = Duration::from_secs(15 * 60);

/// For a stream to an onion service that shares its circuit with no other.
///
/// arti keeps what it knows of an onion service for two days, and anew for each isolation. A token for each stream would
/// make that grow with every request; so a later stream takes over what an earlier one left, once no circuit is among it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Apart {
    stream: IsolationToken,
    begins: Instant,
}

impl Apart {
    /// For a stream that begins now.
    pub(crate) fn now() -> Self {
        Self { stream: IsolationToken::new(), begins: Instant::now() }
    }
}

impl IsolationHelper for Apart {
    fn compatible_same_type(&self, other: &Self) -> bool {
        self.join_same_type(other).is_some()
    }

    fn join_same_type(&self, other: &Self) -> Option<Self> {
        let (first, last) = if self.begins < other.begins { (self, other) } else { (other, self) };
        let is_over = last.begins.duration_since(first.begins) >= OFFERED;
        (first.stream == last.stream || is_over).then_some(*last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a stream that begins so many seconds after `first`, joined with it in both orders.
    fn joined(first: &Apart, seconds: u64) -> [Option<Apart>; 2] {
        let begins = first.begins + Duration::from_secs(seconds);
        let later = Apart { stream: IsolationToken::new(), begins };
        [first.join_same_type(&later), later.join_same_type(first)]
    }

    #[test]
    fn streams_share_nothing_until_the_circuit_of_the_first_is_given_up() {
        let first = Apart::now();
        for seconds in [0, 1, 10 * 60, 15 * 60 - 1] {
            assert!(joined(&first, seconds).iter().all(Option::is_none), "{seconds}");
        }
        for seconds in [15 * 60, 24 * 60 * 60] {
            for joined in joined(&first, seconds) {
                // The third waits as long after the second.
                assert_eq!(joined.unwrap().begins - first.begins, Duration::from_secs(seconds));
            }
        }
    }

    #[test]
    fn a_stream_goes_with_itself() {
        let stream = Apart::now();
        assert_eq!(stream.join_same_type(&stream).unwrap().stream, stream.stream);
    }
}

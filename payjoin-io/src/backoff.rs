//! How long to wait before another attempt.

use std::time::Duration;

use bitcoin::key::rand::{Rng, thread_rng};

const FIRST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(60);

/// Doubles from a second to a minute. Each pause is a random part of it, so that those who failed together do not
/// come back together.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Backoff {
    /// The next pause, between a half of the step and the whole of it.
    pub(crate) fn pause(&mut self) -> Duration {
        let step = self.0;
        self.0 = (step * 2).min(MOST);
        thread_rng().gen_range(step / 2..=step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute_and_differ() {
        let mut backoff = Backoff::default();
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            let pause = backoff.pause();
            assert!((seconds * 500..=seconds * 1000).contains(&pause.as_millis()), "{pause:?}");
        }
        let pauses: Vec<_> = (0..8).map(|_| Backoff::default().pause()).collect();
        assert!(pauses.iter().any(|pause| *pause != pauses[0]));
    }
}

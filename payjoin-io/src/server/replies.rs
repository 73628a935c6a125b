//! How payers were answered, counted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Replies by their HTTP status, since the start. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Replies(Arc<Mutex<BTreeMap<u16, u64>>>);

impl Replies {
    pub(super) fn count(&self, status: u16) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(status).or_default() += 1;
    }

    /// Statuses, and how often each was sent.
    #[must_use]
    pub fn counted(&self) -> Vec<(u16, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(status, count)| (*status, *count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_count_together() {
        let replies = Replies::default();
        replies.clone().count(200);
        [200, 429].iter().for_each(|status| replies.count(*status));
        assert_eq!(replies.counted(), [(200, 2), (429, 1)]);
    }
}

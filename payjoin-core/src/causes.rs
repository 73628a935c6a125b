//! What is behind an error.

use std::error::Error;
use std::iter::successors;

/// The error and what caused it, down to the root.
pub fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> + use<'a> {
    successors(Some(error), |&error| error.source())
}

/// The error with all that caused it, in one line: for the operator.
#[must_use]
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Layer>>,
    }

    #[test]
    fn an_error_is_told_with_all_that_caused_it() {
        let root = Layer { text: "connection refused", source: None };
        assert_eq!(with_causes(&root), "connection refused");
        let error = Layer { text: "no relay", source: Some(Box::new(root)) };
        assert_eq!(with_causes(&error), "no relay: connection refused");
        assert_eq!(causes(&error).last().map(ToString::to_string).as_deref(), Some("connection refused"));
    }
}

//! Whoever answers requests: a node that runs, one that starts, or nobody.

use crate::error::{ErrorKind, RequestError};
use crate::node::Node;
use crate::requests::{Request, Response};
use crate::starting::Starting;

/// Who answers.
#[derive(Clone)]
pub enum Asked {
    /// A start that waits for blocks, or for the operator's own node.
    Starting(Starting),
    /// The node.
    Running(Node),
    /// Nobody, and why.
    Nobody(String),
}

impl Asked {
    /// The answer.
    ///
    /// # Errors
    /// Says why there is none.
    pub async fn request(&self, request: Request) -> Result<Response, RequestError> {
        match self {
            Self::Starting(starting) => starting.request(request).await,
            Self::Running(node) => node.request(request).await,
            Self::Nobody(why) => Err(ErrorKind::State.error(why)),
        }
    }

    /// Whether a code would be given now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        match self {
            Self::Running(node) => node.is_ready(),
            Self::Starting(_) | Self::Nobody(_) => false,
        }
    }

    /// Numbers for Prometheus; those of a node that starts say that it is not ready.
    pub async fn metrics(&self) -> String {
        match self {
            Self::Running(node) => node.metrics().await,
            Self::Starting(_) | Self::Nobody(_) => crate::metrics::not_ready(),
        }
    }
}

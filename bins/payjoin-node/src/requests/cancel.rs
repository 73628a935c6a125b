//! `channel cancel`: takes a channel out of the queue.

use payjoin_core::IntentId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::channels::IntentStage;
use crate::clock::now;
use crate::daemon::Daemon;
use crate::error::RequestError;
use crate::rights::{Access, Guarded, SPEND};

/// Which channel nobody wants any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CancelArgs {
    /// The intent's number, as `channel list` shows it.
    pub intent: IntentId,
}

/// An intent that is not queued any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Cancelled {
    /// Its number.
    pub intent: IntentId,
    /// Cancelled.
    pub state: IntentStage,
}

impl Guarded for CancelArgs {
    const ACCESS: Access = SPEND;
}

impl Daemon {
    pub(super) async fn cancel(&self, CancelArgs { intent }: CancelArgs) -> Result<Cancelled, RequestError> {
        self.store.cancel_intent(intent, now()).await?;
        Ok(Cancelled { intent, state: IntentStage::Cancelled })
    }
}

//! `channel close`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::daemon::Daemon;
use crate::error::RequestError;
use crate::rights::{Access, Guarded, SPEND};

/// Which channel to close, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CloseArgs {
    /// The channel id, as `channel list` shows it.
    pub channel: String,
    /// On chain and without the peer.
    pub force: bool,
}

/// A channel that is being closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Closing {
    /// Its id.
    pub channel_id: String,
    /// Always true.
    pub closing: bool,
}

impl Guarded for CloseArgs {
    const ACCESS: Access = SPEND;
}

impl Daemon {
    pub(super) async fn close(&self, args: CloseArgs) -> Result<Closing, RequestError> {
        self.node.close(&args.channel, args.force).await?;
        Ok(Closing { channel_id: args.channel, closing: true })
    }
}

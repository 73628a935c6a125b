//! `exchange list` and `exchange show`.

use payjoin_core::{ExchangeId, ExchangeRecord};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::daemon::Daemon;
use crate::error::{ErrorKind, RequestError};
use crate::rights::{Access, Guarded, READ};

/// Most exchanges in one answer: a history of years does not fit into memory at once.
const PAGE: u32 = 500;

/// Which exchanges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExchangesArgs {
    /// So many at most, and 500 in any case: for more, ask again with `before`.
    pub limit: u32,
    /// Only such as are older than this one: the last of the answer before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<ExchangeId>,
}

/// Which exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShowExchangeArgs {
    /// Its number, as `exchange list` shows it.
    pub exchange: ExchangeId,
}

/// The latest exchanges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Exchanges {
    /// Newest first.
    pub exchanges: Vec<ExchangeRecord>,
}

impl Guarded for ExchangesArgs {
    const ACCESS: Access = READ;
}

impl Guarded for ShowExchangeArgs {
    const ACCESS: Access = READ;
}

impl Daemon {
    pub(super) async fn exchanges(&self, args: ExchangesArgs) -> Result<Exchanges, RequestError> {
        Ok(Exchanges { exchanges: self.store.exchanges(args.before, args.limit.min(PAGE)).await? })
    }

    pub(super) async fn exchange(&self, args: ShowExchangeArgs) -> Result<ExchangeRecord, RequestError> {
        let ShowExchangeArgs { exchange } = args;
        let record = self.store.exchange(exchange).await?;
        record.ok_or_else(|| ErrorKind::Missing.error(format_args!("no exchange {}", exchange.0)))
    }
}

//! What an attempt at an exchange could not give back: seen to at the settler's next tick.

use std::time::Duration;

use bitcoin::OutPoint;
use payjoin_core::{ExchangeId, ExchangeState, Holder, WalletError};
use tokio::time::timeout;

use crate::host::Leftovers;
use crate::{Host, HostError};

/// A wallet has this long to hear who holds what.
const PATIENCE: Duration = Duration::from_secs(5);

impl Host {
    /// Tells the wallet which coins the exchange holds.
    pub(crate) async fn hold(&self, exchange: ExchangeId, coins: &[OutPoint]) -> Result<(), WalletError> {
        let held = timeout(PATIENCE, self.wallet.hold(Holder::Exchange(exchange), coins)).await;
        held.unwrap_or_else(|_| Err(WalletError::Away("out of time".into())))
    }

    /// Ends what ended attempts left. What fails is tried again at the next call.
    pub(crate) async fn clear_leftovers(&self) {
        for left in self.take_leftovers() {
            let Some(_number) = self.take_number(left.exchange) else {
                self.leave(left);
                continue;
            };
            if let Err(error) = self.clear(&left).await {
                tracing::warn!(%error, exchange = left.exchange.0, "an exchange has not given everything back yet");
                self.leave(left);
            }
        }
    }

    /// The attempt may have ended in a durable write: only the store knows how that went.
    async fn clear(&self, left: &Leftovers) -> Result<(), HostError> {
        let id = left.exchange;
        let coins = match self.store.standing(id).await? {
            Some((ExchangeState::Admitted, _)) => {
                self.give_up(left).await?;
                Vec::new()
            }
            Some((_, coins)) => {
                self.owes(id, left.watches.clone());
                coins
            }
            None => Vec::new(),
        };
        Ok(self.hold(id, &coins).await?)
    }

    /// Ends an exchange that was admitted and not released. Its channels go first: until then its intents are taken.
    pub(crate) async fn give_up(&self, left: &Leftovers) -> Result<(), HostError> {
        if left.channels {
            self.funder.abandon(left.exchange, &left.reason).await;
        }
        self.store.fail(left.exchange, &left.reason).await?;
        self.owes(left.exchange, left.watches.clone());
        Ok(())
    }
}

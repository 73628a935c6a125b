//! The seam to a Lightning node.

use async_trait::async_trait;
use bitcoin::{Amount, OutPoint, Psbt, ScriptBuf};
use payjoin_core::{ChannelSpec, ChannelTerms, ExchangeId, Failure, FailureKind, StateWrite};
use tokio::time::{Instant, timeout_at};

use crate::funding::LATE;
use crate::refusal;

/// Names one channel of one exchange, the same after a restart: a channel that exists is found by its name and never
/// opened twice.
///
/// A node keeps it as the `user_channel_id`: 32 bits `PJLN` in ASCII, 64 bits exchange, 32 bits index. The mark keeps
/// it apart from channels that the wallet opened by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelKey {
    /// The exchange that asked for the channel.
    pub exchange: ExchangeId,
    /// Its place among the channels of that exchange.
    pub index: u32,
}

const MARK: u32 = u32::from_be_bytes(*b"PJLN");

/// No real exchange has this number: SQLite counts to 2^63.
const NOBODY: ExchangeId = ExchangeId(u64::MAX);

impl ChannelKey {
    /// Names an opening that is no exchange's: nobody funds it.
    #[must_use]
    pub fn probe(index: u32) -> Self {
        Self { exchange: NOBODY, index }
    }

    /// Nobody funds this channel.
    #[must_use]
    pub fn is_probe(self) -> bool {
        self.exchange == NOBODY
    }

    /// The key as LDK keeps it.
    #[must_use]
    pub fn user_channel_id(self) -> u128 {
        (u128::from(MARK) << 96) | (u128::from(self.exchange.0) << 32) | u128::from(self.index)
    }

    /// The key in a `user_channel_id`; `None` for a channel that no exchange opened.
    #[must_use]
    pub fn from_user_channel_id(id: u128) -> Option<Self> {
        // Each cast takes the bits it means.
        let (mark, exchange, index) = ((id >> 96) as u32, (id >> 32) as u64, id as u32);
        (mark == MARK).then_some(Self { exchange: ExchangeId(exchange), index })
    }
}

/// Why a node could not do its part for one channel. The texts are for the operator and bounded in length.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FunderError {
    /// The peer cannot be reached.
    #[error("cannot connect to the peer: {0}")]
    Connect(String),
    /// Our own node refused the call.
    #[error("our node refused: {0}")]
    Refused(String),
    /// The peer sent these words in the place of its part. They are the peer's, and bounded in length.
    #[error("the peer says: {0}")]
    Peer(String),
    /// The channel was closed before it was safe.
    #[error("the channel closed: {0}")]
    Closed(String),
    /// The output at this index is not the channel's: another script, another value, or none at all.
    #[error("the funding output does not match the channel")]
    Mismatch,
    /// A channel with this key exists.
    #[error("the channel exists already")]
    Exists,
    /// No channel with this key waits for its funding transaction.
    #[error("no such channel waits for funding")]
    NotWaiting,
}

/// The funding script, if the peer accepts in time. What is late may still come: abandon it.
pub(crate) async fn open_by(
    deadline: Instant,
    funder: &dyn ChannelFunder,
    key: ChannelKey,
    spec: &ChannelSpec,
    amount: Amount,
) -> Result<ScriptBuf, Failure> {
    match timeout_at(deadline, funder.open(key, spec, amount)).await {
        Ok(opened) => Ok(opened?),
        Err(_) => Err(Failure::new(FailureKind::Late, LATE)),
    }
}

impl From<FunderError> for Failure {
    fn from(error: FunderError) -> Self {
        match error {
            FunderError::Connect(_) => Self::new(FailureKind::Unreachable, error.to_string()),
            FunderError::Peer(said) => {
                let (kind, text) = refusal::read(&said);
                Self { kind, text, said: Some(said) }
            }
            FunderError::Closed(text) => Self::new(FailureKind::Closed, text),
            FunderError::Refused(_)
            | FunderError::Mismatch
            | FunderError::Exists
            | FunderError::NotWaiting => Self::new(FailureKind::Local, error.to_string()),
        }
    }
}

/// A Lightning node that opens channels funded by somebody else's transaction.
///
/// A call may be dropped before it ends; [`ChannelFunder::abandon`] then clears what it left. `open` and `fund` wait
/// as long as the peer does: the deadline is the caller's.
#[async_trait]
pub trait ChannelFunder: Send + Sync {
    /// Connects to the peer if needed, proposes a channel of exactly `amount` and waits for the peer's acceptance.
    /// Returns the script of the funding output.
    async fn open(
        &self,
        key: ChannelKey,
        spec: &ChannelSpec,
        amount: Amount,
    ) -> Result<ScriptBuf, FunderError>;

    /// Gives the channel its funding transaction, whose id is final and whose witnesses are missing, each input with the
    /// output that it spends (`witness_utxo`), and waits until the peer has signed our first commitment and the channel's
    /// monitor is durable. The transaction is never broadcast by the node.
    async fn fund(&self, key: ChannelKey, transaction: &Psbt, vout: u32) -> Result<(), FunderError>;

    /// The peer's terms for a channel that it has accepted. `None`: it is not there any more.
    async fn terms(&self, _: ChannelKey) -> Option<ChannelTerms> {
        Some(ChannelTerms::default())
    }

    /// Forgets the channel, at any stage; nothing happens when there is none. The peer is told, but never why.
    async fn abandon(&self, key: ChannelKey);

    /// The funding of the channels of this exchange can never be mined: nothing that spends it is sent any more, by a node
    /// that sends again what was not mined.
    async fn discard(&self, _: ExchangeId) {}

    /// The node's own state, to be written in the same transaction as the release: whoever reads it back has every
    /// channel that is live now (money rule 1). A node that keeps its channels itself gives none.
    async fn state(&self) -> Option<StateWrite>;

    /// Every channel of any exchange that the node holds, at any stage.
    async fn live(&self) -> Vec<ChannelKey> {
        self.held().await.into_iter().map(|(key, _)| key).collect()
    }

    /// The same with the funding output of each, once it is known: after a restart, what was never released is found so.
    async fn held(&self) -> Vec<(ChannelKey, Option<OutPoint>)>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_from_a_user_channel_id() {
        for (exchange, index) in [(0, 0), (1, 2), (u64::MAX, u32::MAX)] {
            let key = ChannelKey { exchange: ExchangeId(exchange), index };
            assert_eq!(ChannelKey::from_user_channel_id(key.user_channel_id()), Some(key));
        }
        let key = ChannelKey { exchange: ExchangeId(1), index: 2 };
        assert_eq!(key.user_channel_id(), 0x504a_4c4e_0000_0000_0000_0001_0000_0002);
    }

    #[test]
    fn a_channel_of_the_wallet_itself_has_no_key() {
        for id in [0, 7, u128::MAX, 1 << 96] {
            assert_eq!(ChannelKey::from_user_channel_id(id), None);
        }
    }
}

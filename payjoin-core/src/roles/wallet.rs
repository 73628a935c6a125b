//! What a receiver asks of the wallet whose coins it offers.

use async_trait::async_trait;
use bitcoin::{Amount, OutPoint, Psbt, ScriptBuf, Transaction};

use crate::{CheckedProposal, Coin, ExchangeId, PaymentId, Reserve, ResourceRequest};

/// Who may spend a coin of ours. A coin is locked as long as anybody holds it; attempts at one invoice share coins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Holder {
    /// An exchange: the payjoin that it offers.
    Exchange(ExchangeId),
    /// A payment of ours.
    Payment(PaymentId),
}

/// The wallet whose coins are offered. Every call may be made again.
#[async_trait]
pub trait Wallet: Send + Sync {
    /// Which scripts are ours, in order.
    async fn owns(&self, scripts: &[ScriptBuf]) -> Result<Vec<bool>, WalletError>;

    /// Confirmed, unlocked coins, small ones and large ones, at most a bounded number. `shown` names coins shown to an earlier
    /// unfinished attempt at the same invoice: where there are any, those and no others are given, although they are locked
    /// (money rule 8). The holder holds them in the place of what it held before. Costs nothing that grows with the wallet.
    ///
    /// # Errors
    /// When the wallet cannot answer. A wallet without coins gives none.
    async fn reserve(
        &self,
        holder: Holder,
        request: &ResourceRequest,
        shown: &[OutPoint],
    ) -> Result<(Vec<Coin>, Reserve), WalletError>;

    /// From now on the holder holds exactly these coins, known to the wallet or not; none ends its locks. What the store
    /// says is repeated until it is heard: at a start, and by the settler after a failure.
    ///
    /// # Errors
    /// When the wallet cannot answer.
    async fn hold(&self, holder: Holder, coins: &[OutPoint]) -> Result<(), WalletError>;

    /// So many fresh scripts that are ours, durably; asked only where [`Reserve::stock`] is told.
    ///
    /// # Errors
    /// When there are none.
    async fn scripts(&self, count: usize) -> Result<Vec<ScriptBuf>, WalletError> {
        Err(WalletError::Refused(format!("this wallet does not make {count} scripts")))
    }

    /// Signs and finalizes the inputs [`CheckedProposal::our_inputs`], and no others.
    ///
    /// # Errors
    /// When nothing was signed.
    async fn sign(&self, proposal: &CheckedProposal) -> Result<Psbt, WalletError>;

    /// A signed transaction that spends the output `vout` of `parent`, which is ours and may be unknown to any mempool,
    /// to ourselves, and pays exactly this fee; of version 3 where the parent is (BIP 431), and of at most 122 virtual
    /// bytes. Not sent. A wallet that makes none need not: payments are then not defended.
    ///
    /// # Errors
    /// When there is no child.
    async fn child(&self, parent: &Transaction, vout: u32, fee: Amount) -> Result<Transaction, WalletError> {
        let txid = parent.compute_txid();
        Err(WalletError::Refused(format!("no child of {txid}:{vout} pays {fee}: this wallet makes none")))
    }
}

/// Why a wallet did not do it. The texts are for the operator's log; a payer never reads them (money rule 11).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WalletError {
    /// It did not answer. Ask again later.
    #[error("the wallet did not answer: {0}")]
    Away(String),
    /// It answered that it cannot.
    #[error("{0}")]
    Refused(String),
}

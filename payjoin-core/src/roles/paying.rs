//! What a payment of ours asks of the wallet whose coins pay it.

use async_trait::async_trait;
use bitcoin::{OutPoint, Psbt, Transaction};

use crate::{Wallet, WalletError};

/// The wallet whose coins pay. The payment holds them from before it is kept until it is settled.
#[async_trait]
pub trait PayingWallet: Wallet {
    /// The height of the best block. It is asked often.
    async fn height(&self) -> Result<u32, WalletError>;

    /// The transaction in the chain that spends one of these coins, and the height of its block.
    async fn spend(&self, coins: &[OutPoint]) -> Result<Option<(Transaction, u32)>, WalletError>;

    /// Signs the inputs of the Original in a receiver's proposal, whose other inputs are signed.
    ///
    /// # Errors
    /// [`WalletError::Refused`] when it is not what we would sign: the Original is paid.
    async fn complete(&self, original: &Psbt, proposal: &Psbt) -> Result<Transaction, WalletError>;

    /// The network has this: the wallet need not wait for a block to know.
    async fn sent(&self, transaction: &Transaction);
}

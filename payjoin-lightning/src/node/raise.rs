//! A payment to us that pays too little to be mined is raised by a child that pays for both.

use bitcoin::transaction::Version;
use bitcoin::{Amount, FeeRate, OutPoint, Transaction, Weight};
use payjoin_core::{Broadcast, ChainError};

use super::broadcast::send;
use super::chain_source::ChainSource;
use super::running::Node;
use super::wallet::SpendError;
use crate::{LightningError, LightningNode};

/// "Topologically restricted until confirmation".
const TRUC: Version = Version(3);

/// One part in so many is added to the fee of a package.
const MARGIN: u64 = 200;

/// Why a payment was not raised.
#[derive(Debug, thiserror::Error)]
pub enum RaiseError {
    /// The chain source.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// Something else spends its inputs, in the mempool or in the chain, or it is mined itself.
    #[error("the payment does not wait for fees: it is mined, or another transaction spends its inputs")]
    NotWaiting,
    /// It pays at least as much by itself.
    #[error("the payment pays {} sat by itself, which is that rate or more", .0.to_sat())]
    Enough(Amount),
    /// The output does not bear the fee, or is not ours.
    #[error(transparent)]
    Child(#[from] LightningError),
    /// bitcoind takes the two neither one by one nor as a package. Its reason is in the log.
    #[error("bitcoind refuses the child; the log has its reason")]
    Refused,
}

/// Sends `parent`, if that is needed, and a child of `node`'s that spends its output `vout`, which must be its own, so that
/// both together pay `rate`. Gives the child. Called again with a higher rate it replaces the child.
///
/// # Errors
/// See [`RaiseError`].
pub async fn raise(
    chain: &dyn ChainSource,
    node: &dyn LightningNode,
    parent: &Transaction,
    vout: u32,
    rate: FeeRate,
) -> Result<Transaction, RaiseError> {
    let paid = fee_of(chain, parent).await?;
    let size = parent.vsize() as u64;
    let fee = |child: u64| rate.checked_mul_by_weight(Weight::from_vb(size.checked_add(child)?)?);
    if fee(0).is_some_and(|fee| fee <= paid) {
        return Err(RaiseError::Enough(paid));
    }
    // bitcoind rounds sizes and rates in its own way: a package exactly at the rate may fall short of it.
    let margin = |fee: Amount| fee.checked_add(Amount::from_sat(fee.to_sat().div_ceil(MARGIN)));
    let child = node.child_paying(parent, vout, &|child| margin(fee(child)?)?.checked_sub(paid)).await?;
    let package = [parent.clone(), child];
    if let Broadcast::Refused(reason) = send(chain, &package).await? {
        tracing::warn!(reason, "the child is refused");
        return Err(RaiseError::Refused);
    }
    let [_, child] = package;
    Ok(child)
}

/// What a transaction pays that is in the mempool, or could be without taking anything out of it.
async fn fee_of(chain: &dyn ChainSource, transaction: &Transaction) -> Result<Amount, RaiseError> {
    if let Some(fee) = chain.mempool_fee(transaction.compute_txid()).await? {
        return Ok(fee);
    }
    let prevouts = chain.inspect(transaction).await?.prevouts;
    let paid = prevouts.into_iter().map(|prevout| Some(prevout?.value)).sum::<Option<Amount>>();
    let spent = transaction.output.iter().map(|output| output.value).sum();
    paid.and_then(|paid| paid.checked_sub(spent)).ok_or(RaiseError::NotWaiting)
}

impl Node {
    /// A signed child of `parent`, whose output `vout` must be ours, that pays what `fee` says of its size in virtual bytes.
    /// Neither is sent.
    ///
    /// # Errors
    /// [`SpendError`].
    pub fn child(
        &self,
        parent: &Transaction,
        vout: u32,
        fee: impl Fn(u64) -> Option<Amount>,
    ) -> Result<Transaction, SpendError> {
        self.wallet.saw(parent);
        // Version 3 goes with version 3 only. BIP 431.
        let version = if parent.version == TRUC { TRUC } else { Version::TWO };
        let parent = OutPoint { txid: parent.compute_txid(), vout };
        let child = self.wallet.child(parent, version, fee)?;
        // Forgotten when the mempool does not have it.
        self.wallet.saw(&child);
        Ok(child)
    }
}

//! A payment to us that pays too little to be mined is raised by a child that pays for both.

use bitcoin::transaction::Version;
use bitcoin::{Amount, FeeRate, OutPoint, Transaction, Weight};
use payjoin_core::{Broadcast, ChainError};

use super::broadcast::send;
use super::running::Node;
use super::wallet::SpendError;

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
    Spend(#[from] SpendError),
    /// bitcoind takes the two neither one by one nor as a package. Its reason is in the log.
    #[error("bitcoind refuses the child; the log has its reason")]
    Refused,
}

impl Node {
    /// Sends `parent`, if that is needed, and a child that spends its output `vout`, which must be ours, so that both
    /// together pay `rate`. Gives the child. Called again with a higher rate it replaces the child.
    ///
    /// # Errors
    /// See [`RaiseError`].
    pub async fn raise(
        &self,
        parent: &Transaction,
        vout: u32,
        rate: FeeRate,
    ) -> Result<Transaction, RaiseError> {
        let paid = self.fee_of(parent).await?;
        let size = parent.vsize() as u64;
        let fee = |child: u64| rate.checked_mul_by_weight(Weight::from_vb(size.checked_add(child)?)?);
        if fee(0).is_some_and(|fee| fee <= paid) {
            return Err(RaiseError::Enough(paid));
        }
        // bitcoind rounds sizes and rates in its own way: a package exactly at the rate may fall short of it.
        let margin = |fee: Amount| fee.checked_add(Amount::from_sat(fee.to_sat().div_ceil(MARGIN)));
        let child = self.spend(parent, vout, |child| margin(fee(child)?)?.checked_sub(paid))?;
        let package = [parent.clone(), child];
        if let Broadcast::Refused(reason) = send(&*self.chain, &package).await? {
            tracing::warn!(reason, "the child is refused");
            return Err(RaiseError::Refused);
        }
        let [_, child] = package;
        self.wallet.saw(&child);
        Ok(child)
    }

    /// A signed child of `parent`, whose output `vout` must be ours, that pays this fee. Neither is sent.
    ///
    /// # Errors
    /// [`SpendError`].
    pub fn child(&self, parent: &Transaction, vout: u32, fee: Amount) -> Result<Transaction, SpendError> {
        let child = self.spend(parent, vout, |_| Some(fee))?;
        // Forgotten when the mempool does not have it.
        self.wallet.saw(&child);
        Ok(child)
    }

    fn spend(
        &self,
        parent: &Transaction,
        vout: u32,
        fee: impl Fn(u64) -> Option<Amount>,
    ) -> Result<Transaction, SpendError> {
        self.wallet.saw(parent);
        // Version 3 goes with version 3 only. BIP 431.
        let version = if parent.version == TRUC { TRUC } else { Version::TWO };
        self.wallet.child(OutPoint { txid: parent.compute_txid(), vout }, version, fee)
    }

    /// What a transaction pays that is in the mempool, or could be without taking anything out of it.
    async fn fee_of(&self, transaction: &Transaction) -> Result<Amount, RaiseError> {
        if let Some(fee) = self.chain.mempool_fee(transaction.compute_txid()).await? {
            return Ok(fee);
        }
        let prevouts = self.chain.inspect(transaction).await?.prevouts;
        let paid = prevouts.into_iter().map(|prevout| Some(prevout?.value)).sum::<Option<Amount>>();
        let spent = transaction.output.iter().map(|output| output.value).sum();
        paid.and_then(|paid| paid.checked_sub(spent)).ok_or(RaiseError::NotWaiting)
    }
}

//! A payment to us that pays too little to be mined is raised by a child that pays for both.

use bitcoin::transaction::Version;
use bitcoin::{Amount, FeeRate, OutPoint, Transaction, Weight};

use super::broadcast::send;
use super::{Node, RpcError, SpendError};

/// "Topologically restricted until confirmation".
const TRUC: Version = Version(3);

/// Why a payment was not raised.
#[derive(Debug, thiserror::Error)]
pub enum RaiseError {
    /// bitcoind.
    #[error(transparent)]
    Rpc(#[from] RpcError),
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
        self.wallet.saw(parent);
        let output = OutPoint { txid: parent.compute_txid(), vout };
        // Version 3 goes with version 3 only. BIP 431.
        let version = if parent.version == TRUC { TRUC } else { Version::TWO };
        let child = self.wallet.child(output, version, |child| fee(child)?.checked_sub(paid))?;
        let package = [parent.clone(), child];
        if !send(&self.rpc, &package).await {
            return Err(RaiseError::Refused);
        }
        let [_, child] = package;
        self.wallet.saw(&child);
        Ok(child)
    }

    /// What a transaction pays that is in the mempool, or could be without taking anything out of it.
    async fn fee_of(&self, transaction: &Transaction) -> Result<Amount, RaiseError> {
        if let Some(fee) = self.rpc.mempool_fee(transaction.compute_txid()).await? {
            return Ok(fee);
        }
        let prevouts = self.rpc.inspect(transaction).await?.prevouts;
        let paid = prevouts.into_iter().map(|prevout| Some(prevout?.value)).sum::<Option<Amount>>();
        let spent = transaction.output.iter().map(|output| output.value).sum();
        paid.and_then(|paid| paid.checked_sub(spent)).ok_or(RaiseError::NotWaiting)
    }
}

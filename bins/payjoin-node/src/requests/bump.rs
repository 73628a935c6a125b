//! `exchange bump`: raises the fee of a payment that waits in a full mempool, plain or a payjoin, by a child that spends
//! what of it is ours.

use bitcoin::amount::serde::as_sat;
use bitcoin::{Amount, OutPoint, Transaction, TxOut, Txid};
use payjoin_core::{ExchangeId, Obligation};
use payjoin_lightning::node::raise;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::exchanges::ShowExchangeArgs;
use crate::clock::now;
use crate::daemon::Daemon;
use crate::error::{ErrorKind, RequestError};
use crate::rights::{Access, Guarded, SPEND};
use crate::values::SatPerVb;

/// Which payment should be mined sooner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BumpArgs {
    /// The exchange's number, as `exchange list` shows it.
    pub exchange: ExchangeId,
    /// Fee rate that the payment and its child pay together.
    pub fee_rate: SatPerVb,
}

/// The child that raises a payment's fee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Bumped {
    /// The child.
    #[schemars(with = "String")]
    pub txid: Txid,
    /// What it costs us.
    #[serde(rename = "fee_sat", with = "as_sat")]
    #[schemars(with = "u64")]
    pub fee: Amount,
}

impl Guarded for BumpArgs {
    const ACCESS: Access = SPEND;
}

impl Daemon {
    pub(super) async fn bump(&self, args: BumpArgs) -> Result<Bumped, RequestError> {
        let BumpArgs { exchange, fee_rate } = args;
        let record = self.exchange(ShowExchangeArgs { exchange }).await?;
        let owed = self.store.obligation(record.id).await?;
        let owed = owed.filter(|owed| owed.mined.is_none()).ok_or_else(|| {
            ErrorKind::State.error(format_args!("the payment of exchange {} is mined", exchange.0))
        })?;
        let parent = self.waiting(&owed).await?;
        let (vout, ours) = self.ours(&parent).await?.ok_or_else(|| {
            ErrorKind::State.error(
                "none of it comes to our wallet, all of it is channels: only the payer can raise the fee",
            )
        })?;
        let child = raise(&**self.chain.source(), &*self.node, &parent, vout, fee_rate.into()).await;
        let child = child.map_err(|error| ErrorKind::Wallet.error(error))?;
        let fee = child.output.first().and_then(|back| ours.value.checked_sub(back.value));
        Ok(Bumped { txid: child.compute_txid(), fee: fee.unwrap_or_default() })
    }

    /// The payment as it waits in the mempool; the Original where none does and its time has come.
    async fn waiting(&self, owed: &Obligation) -> Result<Transaction, RequestError> {
        let inputs: Vec<OutPoint> = match owed.is_own() {
            true => owed.coins.clone(),
            false => owed.original.input.iter().map(|input| input.previous_output).collect(),
        };
        let spends = self.chain.source().spenders(&inputs).await?;
        let Some(spend) = spends.into_iter().flatten().next() else {
            if owed.plain {
                return Err(
                    ErrorKind::State.error("it is not in the mempool: its payer alone can send it again")
                );
            }
            if owed.is_own() {
                let nothing = || ErrorKind::State.error("the channel is not opened yet");
                return owed.signed.clone().ok_or_else(nothing);
            }
            if owed.fallback_at > now() {
                return Err(ErrorKind::State
                    .error("the payer may still pay by payjoin: the Original was not broadcast yet"));
            }
            return Ok(owed.original.clone());
        };
        let id = spend.compute_ntxid();
        let payjoin = owed.payjoin.map(|payjoin| payjoin.to_raw_hash());
        match id == owed.original.compute_ntxid() || Some(id) == payjoin {
            true => Ok(spend),
            false => Err(ErrorKind::State.error(format_args!(
                "another transaction spends the payer's coins: {}",
                spend.compute_txid()
            ))),
        }
    }

    /// The greatest output that pays our wallet, and its position.
    async fn ours(&self, transaction: &Transaction) -> Result<Option<(u32, TxOut)>, RequestError> {
        let scripts: Vec<_> = transaction.output.iter().map(|output| output.script_pubkey.clone()).collect();
        let owned = self.node.owns(&scripts).await.map_err(|error| ErrorKind::Wallet.error(error))?;
        let outputs = (0..).zip(&transaction.output).zip(owned).filter(|(_, owned)| *owned);
        let greatest = outputs.map(|(output, _)| output).max_by_key(|(_, output)| output.value);
        Ok(greatest.map(|(vout, output)| (vout, output.clone())))
    }
}

//! `exchange bump`: raises the fee of a payment that waits in a full mempool, plain or a payjoin, by a child that spends
//! what of it is ours.

use bitcoin::{OutPoint, Transaction, TxOut};
use payjoin_core::{ExchangeId, Obligation};
use serde_json::json;

use crate::cli::SatPerVb;
use crate::commands::{Answer, CommandError, failed};
use crate::daemon::{Daemon, now};

impl Daemon {
    pub(crate) async fn bump(&self, id: u64, rate: SatPerVb) -> Answer {
        let record = self.store.exchange(ExchangeId(id)).map_err(failed)?;
        let record = record.ok_or_else(|| failed(format!("no exchange {id}")))?;
        let owed = self.store.obligation(record.id).map_err(failed)?;
        let owed = owed
            .filter(|owed| owed.mined.is_none())
            .ok_or_else(|| failed(format!("the payment of exchange {id} is mined")))?;
        let parent = self.waiting(&owed).await?;
        let (vout, ours) = self.ours(&parent).ok_or_else(|| {
            failed("none of it comes to our wallet, all of it is channels: only the payer can raise the fee")
        })?;
        let child = self.node.raise(&parent, vout, rate.into()).await.map_err(failed)?;
        let fee = child.output.first().and_then(|back| ours.value.checked_sub(back.value));
        Ok(json!({ "txid": child.compute_txid().to_string(), "fee_sat": fee.unwrap_or_default().to_sat() }))
    }

    /// The payment as it waits in the mempool; the Original where none does and its time has come.
    async fn waiting(&self, owed: &Obligation) -> Result<Transaction, CommandError> {
        let inputs: Vec<OutPoint> = owed.original.input.iter().map(|input| input.previous_output).collect();
        let spends = self.node.rpc().spenders(&inputs).await.map_err(failed)?;
        let Some(spend) = spends.into_iter().flatten().next() else {
            if owed.fallback_at > now() {
                return Err(failed("the payer may still pay by payjoin: the Original was not broadcast yet"));
            }
            return Ok(owed.original.clone());
        };
        let id = spend.compute_ntxid();
        let payjoin = owed.payjoin.map(|payjoin| payjoin.to_raw_hash());
        match id == owed.original.compute_ntxid() || Some(id) == payjoin {
            true => Ok(spend),
            false => {
                Err(failed(format!("another transaction spends the payer's coins: {}", spend.compute_txid())))
            }
        }
    }

    /// The greatest output that pays our wallet, and its position.
    fn ours(&self, transaction: &Transaction) -> Option<(u32, TxOut)> {
        let scripts: Vec<_> = transaction.output.iter().map(|output| output.script_pubkey.clone()).collect();
        let owned = self.node.wallet().owns(&scripts);
        let outputs = (0..).zip(&transaction.output).zip(owned).filter(|(_, owned)| *owned);
        let (vout, output) = outputs.map(|(output, _)| output).max_by_key(|(_, output)| output.value)?;
        Some((vout, output.clone()))
    }
}

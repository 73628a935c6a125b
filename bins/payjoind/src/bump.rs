//! `exchange bump`: raises the fee of a plain payment that waits in a full mempool, by a child that spends it.

use bitcoin::FeeRate;
use payjoin_core::ExchangeId;
use serde_json::json;

use crate::commands::{Answer, failed};
use crate::daemon::{Daemon, now};

impl Daemon {
    pub(crate) async fn bump(&self, id: u64, rate: u32) -> Answer {
        let record = self.store.exchange(ExchangeId(id)).map_err(failed)?;
        let record = record.ok_or_else(|| failed(format!("no exchange {id}")))?;
        let owed = self.store.obligation(record.id).map_err(failed)?;
        let owed = owed
            .filter(|owed| owed.mined.is_none())
            .ok_or_else(|| failed(format!("the payment of exchange {id} is mined")))?;
        let waits = self.node.rpc().mempool_fee(record.original_txid).await.map_err(failed)?.is_some();
        if !waits && owed.fallback_at > now() {
            return Err(failed("the payer may still pay by payjoin: the Original was not broadcast yet"));
        }
        let invoice = self.store.invoice(&record.invoice).map_err(failed)?;
        let ours = |script| owed.original.output.iter().position(|output| output.script_pubkey == script);
        let vout = invoice.and_then(|invoice| u32::try_from(ours(invoice.script)?).ok());
        let vout = vout.ok_or_else(|| failed("none of the payment's outputs is ours"))?;
        let rate = FeeRate::from_sat_per_vb_u32(rate);
        let child = self.node.raise(&owed.original, vout, rate).await.map_err(failed)?;
        let value = |output: Option<&bitcoin::TxOut>| output.map(|output| output.value).unwrap_or_default();
        let fee = value(owed.original.output.get(vout as usize)).checked_sub(value(child.output.first()));
        Ok(json!({ "txid": child.compute_txid().to_string(), "fee_sat": fee.unwrap_or_default().to_sat() }))
    }
}

//! What cases do with a daemon's channels and payments.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bitcoin::{Amount, OutPoint, Txid};
use serde_json::Value;

use super::daemon::Daemon;
use super::json::Fields;
use super::wait;

const PATIENCE: Duration = Duration::from_secs(20);

impl Daemon {
    /// Queues a channel to `peer` and returns the intent's number.
    pub(crate) fn queue(&self, peer: &Self, amount: &str, flags: &[&str]) -> Result<u64> {
        let arguments = [&["channel", "queue", &peer.peer, amount], flags].concat();
        self.call(&arguments)?.number("intent")
    }

    pub(crate) fn intent(&self, id: u64) -> Result<Value> {
        let all = self.call(&["channel", "list"])?;
        let intents = all.list("intents")?;
        let found = intents.iter().find(|intent| intent["id"].as_u64() == Some(id));
        found.cloned().with_context(|| format!("intent {id} is gone"))
    }

    /// Waits until an intent is in this state.
    pub(crate) fn await_intent(&self, id: u64, state: &str) -> Result<Value> {
        let mut last = Value::Null;
        let found = wait::until(&format!("intent {id} is {state}"), PATIENCE, || {
            last = self.intent(id)?;
            Ok((last["state"] == state).then(|| last.clone()))
        });
        found.with_context(|| format!("last seen: {last}"))
    }

    /// The intent was never used, or came back: it waits.
    pub(crate) fn expect_queued(&self, id: u64) -> Result<()> {
        let intent = self.intent(id)?;
        ensure!(intent.text("state")? == "queued", "the intent should wait: {intent}");
        Ok(())
    }

    /// Where a released intent has its funding output.
    pub(crate) fn funding(&self, id: u64) -> Result<OutPoint> {
        let intent = self.intent(id)?;
        Ok(OutPoint { txid: intent.txid("txid")?, vout: u32::try_from(intent.number("vout")?)? })
    }

    /// Waits until the channel on this output can carry payments, and returns it.
    pub(crate) fn await_channel(&self, funding: OutPoint) -> Result<Value> {
        wait::until(&format!("{} can use channel {funding}", self.name), PATIENCE, || {
            let all = self.call(&["channel", "list"])?;
            for channel in all.list("channels")? {
                if channel.outpoint("funding")? == funding && channel.flag("usable")? {
                    return Ok(Some(channel.clone()));
                }
            }
            Ok(None)
        })
    }

    pub(crate) fn channels(&self) -> Result<usize> {
        Ok(self.call(&["channel", "list"])?.list("channels")?.len())
    }

    /// Pays `amount` to a node over Lightning.
    pub(crate) fn pay(&self, payee: &Self, amount: Amount) -> Result<()> {
        let invoice = payee.call(&["invoice", &amount.to_sat().to_string()])?;
        let paid = self.call(&["pay", invoice.text("bolt11")?])?;
        ensure!(paid.text("status")? == "succeeded", "the Lightning payment failed: {paid}");
        Ok(())
    }

    /// The only exchange.
    pub(crate) fn exchange(&self) -> Result<Value> {
        let all = self.call(&["exchange", "list"])?;
        let exchanges = all.list("exchanges")?;
        ensure!(exchanges.len() == 1, "expected one exchange: {all}");
        Ok(exchanges[0].clone())
    }

    /// The payjoin that the only exchange released.
    pub(crate) fn payjoin(&self) -> Result<Txid> {
        self.exchange()?.txid("payjoin_txid")
    }

    /// Waits until the wallet holds exactly this much, confirmed.
    pub(crate) fn await_balance(&self, amount: Amount) -> Result<()> {
        wait::until(&format!("{} holds {amount}", self.name), PATIENCE, || {
            Ok((self.call(&["wallet", "balance"])?.sat("confirmed_sat")? == amount).then_some(()))
        })
    }

    pub(crate) fn locked(&self) -> Result<Amount> {
        self.call(&["wallet", "balance"])?.sat("locked_sat")
    }
}

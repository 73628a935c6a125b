//! What cases do with a daemon's channels and payments.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bitcoin::{Amount, OutPoint, Txid};
use serde_json::Value;

use super::daemon::Daemon;
use super::json::Fields;
use super::wait;

const PATIENCE: Duration = Duration::from_secs(20);

impl Daemon {
    /// Queues a channel to `peer` and returns the intent's number.
    pub(crate) fn queue(&self, peer: &Self, amount: &str, flags: &[&str]) -> Result<u64> {
        self.queue_to(&peer.peer, amount, flags)
    }

    /// The same with any node: `id@host:port`.
    pub(crate) fn queue_to(&self, peer: &str, amount: &str, flags: &[&str]) -> Result<u64> {
        let arguments = [&["channel", "queue", peer, amount], flags].concat();
        self.call(&arguments)?.number("intent")
    }

    pub(crate) fn intent(&self, id: u64) -> Result<Value> {
        let all = self.call(&["channel", "list", "--all"])?;
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

    /// Closes the channel on this output: with the peer, or alone.
    pub(crate) fn close(&self, funding: OutPoint, force: bool) -> Result<()> {
        let all = self.call(&["channel", "list"])?;
        for channel in all.list("channels")? {
            if channel.outpoint("funding")? == funding {
                let mut arguments = vec!["channel", "close", channel.text("channel_id")?];
                arguments.extend(force.then_some("--force"));
                return self.call(&arguments).map(drop);
            }
        }
        bail!("{} has no channel {funding}: {all}", self.name)
    }

    /// A closed channel of which not everything is in the wallet yet?
    pub(crate) fn is_closing(&self, funding: OutPoint) -> Result<bool> {
        let all = self.call(&["channel", "list"])?;
        let closing: Vec<_> =
            all.list("closing")?.iter().map(|closing| closing.outpoint("funding")).collect::<Result<_>>()?;
        Ok(closing.contains(&funding))
    }

    /// Waits until it lists no channel any more.
    pub(crate) fn await_no_channel(&self) -> Result<()> {
        wait::until(&format!("{} has no channel", self.name), PATIENCE, || {
            Ok((self.channels()? == 0).then_some(()))
        })
    }

    /// Waits until so many peers are connected.
    pub(crate) fn await_peers(&self, count: usize) -> Result<()> {
        wait::until(&format!("{} has {count} peers", self.name), PATIENCE, || {
            let all = self.call(&["peer", "list"])?;
            let there = all.list("peers")?.iter().filter(|peer| peer["connected"] == true);
            Ok((there.count() == count).then_some(()))
        })
    }

    pub(crate) fn channels(&self) -> Result<usize> {
        Ok(self.call(&["channel", "list"])?.list("channels")?.len())
    }

    /// Pays `amount` to a node over Lightning.
    pub(crate) fn pay(&self, payee: &Self, amount: Amount) -> Result<()> {
        self.pay_invoice(&payee.invoice(amount)?)
    }

    /// A BOLT 11 invoice.
    pub(crate) fn invoice(&self, amount: Amount) -> Result<String> {
        Ok(self.call(&["invoice", &amount.to_sat().to_string()])?.text("bolt11")?.to_owned())
    }

    /// Pays a BOLT 11 invoice. What a channel holds, and that it is a way, LND counts a moment after it is open.
    pub(crate) fn pay_invoice(&self, bolt11: &str) -> Result<()> {
        let too_early = ["do not hold enough", "there is no way to the payee"];
        let pay = || match self.call(&["pay", bolt11]) {
            Err(error)
                if self.has_own_node && too_early.iter().any(|why| format!("{error:#}").contains(why)) =>
            {
                Ok(None)
            }
            paid => paid.map(Some),
        };
        let paid = wait::until(&format!("{} has enough to pay", self.name), PATIENCE, pay)?;
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

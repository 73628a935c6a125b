//! Payers: those who pay, those who are never heard of again, those who cheat.

use std::thread::{self, sleep};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bitcoin::secp256k1::rand::Rng;
use bitcoin::{Amount, Transaction};

use super::Soak;
use crate::harness::json::Fields;
use crate::harness::payer::{Payment, Substitution};
use crate::harness::raw::{self, Reply};
use crate::harness::world::Invoice;

/// At this rate, in sat/vB, a payment that was taken back is not defended: the ledger knows no children.
const TOO_DEAR: u64 = 2_000;

/// A code and the Original that is to pay it.
struct Order<'a> {
    invoice: Invoice,
    payment: Payment<'a>,
    original: Transaction,
}

/// How a payer goes on when he has, or has not, his proposal.
#[derive(Clone, Copy)]
enum Manner {
    /// Signs and broadcasts it; without one, pays plainly.
    Honest,
    /// Broadcasts nothing.
    Silent,
    /// Pays plainly in any case.
    Plain,
    /// Sends his coins elsewhere.
    Cheat,
}

impl<'a> Soak<'a> {
    pub(super) fn pay_one(&mut self) -> Result<()> {
        self.pay(1)
    }

    /// Several payers at the same time.
    pub(super) fn pay_many(&mut self) -> Result<()> {
        let payers = self.rng.gen_range(2..=4);
        self.pay(payers)
    }

    fn pay(&mut self, payers: usize) -> Result<()> {
        let orders = (0..payers).map(|_| self.order()).collect::<Result<Vec<_>>>()?;
        let kill_after = self.rng.gen_bool(0.3).then(|| Duration::from_millis(self.rng.gen_range(0..250)));
        let mut replies = self.post(&orders, kill_after)?;
        if kill_after.is_some() {
            self.count("killed while payers wait");
        }
        if self.rng.gen_bool(0.4) {
            let again = self.post(&orders, None)?;
            for (first, second) in replies.iter_mut().zip(again) {
                let both = first.as_deref().zip(second.as_deref());
                ensure!(both.is_none_or(|(first, second)| first == second), "the same Original, other bytes");
                *first = first.take().or(second);
            }
        }
        orders.iter().zip(replies).try_for_each(|(order, reply)| self.conclude(order, reply))
    }

    /// A new code, and an Original with coins of its own.
    fn order(&mut self) -> Result<Order<'a>> {
        let amount = self.rng.gen_bool(0.8).then(|| self.rng.gen_range(150_000..600_000));
        let queued = self.node.call(&["channel", "list"])?;
        let asks = queued.list("intents")?.iter().any(|intent| intent["state"] == "queued");
        let amount = if asks { amount } else { amount.or(Some(200_000)) };
        let invoice = self.world.receive_by(&self.node, amount, &["--via", "https"])?;
        let substitution =
            if self.rng.gen_bool(0.9) { Substitution::Allowed } else { Substitution::Forbidden };
        let payment = Payment::new(self.world.payer(), &invoice.uri, substitution)?;
        let original = payment.original()?;
        self.world.payer().lock(&original)?;
        Ok(Order { invoice, payment, original })
    }

    /// Posts all Originals side by side. Gives the proposals; kills and restarts the daemon meanwhile if told to.
    fn post(&mut self, orders: &[Order<'_>], kill_after: Option<Duration>) -> Result<Vec<Option<String>>> {
        let requests = orders.iter().map(|order| order.payment.request()).collect::<Result<Vec<_>>>()?;
        let address = self.node.plain;
        let posts: Vec<_> = requests
            .into_iter()
            .map(|request| thread::spawn(move || raw::send_and_stay(address, &request)))
            .collect();
        if let Some(delay) = kill_after {
            sleep(delay);
            self.node.kill();
        }
        let mut proposals = Vec::new();
        for post in posts {
            // Nobody may listen any more.
            let reply = post.join().ok().context("a payer panicked")?.ok();
            proposals.push(reply.and_then(|reply| self.proposal(&reply)));
        }
        if kill_after.is_some() {
            self.node.restart()?;
        }
        Ok(proposals)
    }

    fn proposal(&mut self, reply: &Reply) -> Option<String> {
        match reply.status() {
            Some(200) => return Some(reply.body()),
            Some(status) => self.count(&format!("refused: {status} {}", reply.body())),
            None => self.count("no answer"),
        }
        None
    }

    fn conclude(&mut self, order: &Order<'_>, proposal: Option<String>) -> Result<()> {
        let payjoin = proposal.map(|proposal| order.payment.signed(&proposal)).transpose()?;
        let manner = match self.rng.gen_range(0..10) {
            0 | 1 => Manner::Silent,
            2 => Manner::Plain,
            3 => Manner::Cheat,
            _ => Manner::Honest,
        };
        match (manner, payjoin) {
            (Manner::Honest, Some(payjoin)) => self.broadcast(order, &payjoin),
            (Manner::Honest | Manner::Plain, _) => {
                self.count("paid by the Original");
                self.broadcast(order, &order.original)
            }
            (Manner::Silent, _) => {
                self.count("never heard of again");
                Ok(())
            }
            (Manner::Cheat, _) => {
                self.count("cheated");
                let rate = self.too_dear(&order.original)?;
                self.world.double_spend(&order.invoice, &order.original, rate).map(drop)
            }
        }
    }

    /// What small coins cannot pay is nine tenths of them, which is more than we spend on their payment, too.
    fn too_dear(&self, original: &Transaction) -> Result<u64> {
        let mut carried = Amount::ZERO;
        for input in &original.input {
            carried += self.world.chain.output(input.previous_output)?.value;
        }
        Ok(TOO_DEAR.min(carried.to_sat() / 10 * 9 / original.vsize() as u64))
    }

    /// After a restart the daemon may have been faster with the Original.
    fn broadcast(&mut self, order: &Order<'_>, transaction: &Transaction) -> Result<()> {
        let channels = transaction.output.iter().filter(|output| output.script_pubkey.is_p2wsh()).count();
        let sent = self.world.broadcast(transaction);
        if sent.is_err() && self.world.chain.confirmations(order.original.compute_txid())?.is_some() {
            self.count("the Original was broadcast before");
            return Ok(());
        }
        self.count(&format!("broadcast with {channels} channels, {} inputs", transaction.input.len()));
        sent.map(drop)
    }

    fn is_on_record(&self, invoice: &Invoice) -> Result<bool> {
        let exchanges = self.node.call(&["exchange", "list"])?;
        Ok(exchanges.list("exchanges")?.iter().any(|exchange| exchange["invoice"] == invoice.id))
    }

    /// payjoin-cli through relay and directory, with a crash on the way or none.
    pub(super) fn pay_by_directory(&mut self) -> Result<()> {
        let amount = self.rng.gen_range(150_000..600_000);
        let invoice = self.world.receive_by(&self.node, Some(amount), &["--via", "directory"])?;
        let sending = self.world.begin(&invoice, &self.relay)?;
        if self.rng.gen_bool(0.5) {
            sleep(Duration::from_millis(self.rng.gen_range(0..1_500)));
            self.node.kill();
            sleep(Duration::from_millis(self.rng.gen_range(0..1_500)));
            self.node.restart()?;
        }
        let sent = self.world.finish(sending);
        let known = match &sent {
            Ok(_) => return Ok(()),
            // It does not understand every number of bitcoind's.
            Err(_) if !self.is_on_record(&invoice)? => "payjoin-cli failed before it asked",
            // The Original is paid in its time, and he does not see it.
            Err(_) if self.directory.has_broken_mailbox()? => "payjoin-cli waits at a mailbox that is broken",
            Err(_) => return sent.map(drop),
        };
        self.count(known);
        Ok(())
    }
}

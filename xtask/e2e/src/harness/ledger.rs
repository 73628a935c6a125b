//! The ledger: after every case, no satoshi, lock, intent or channel is unaccounted for. It is drawn up from the
//! chain and from what the daemons say, and compared with what the world gave and asked.

use std::collections::{BTreeMap, BTreeSet};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bitcoin::{Amount, OutPoint, Transaction, Txid};
use serde_json::Value;

use super::daemon::Daemon;
use super::json::Fields;
use super::world::{Sent, World};

/// For another program to see what happened, and between looks.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(200);

/// Holds at any moment.
pub(crate) fn check(world: &World<'_>) -> Result<()> {
    for daemon in world.running() {
        let read = || Ledger::read(world, &daemon)?.check();
        once_seen(&daemon, read).with_context(|| format!("the ledger of {}", daemon.name))?;
    }
    Ok(())
}

/// Another program in the place of the embedded node knows of a block a moment later.
fn once_seen(daemon: &Daemon, check: impl Fn() -> Result<()>) -> Result<()> {
    let begun = Instant::now();
    loop {
        let checked = check();
        if checked.is_ok() || !daemon.has_own_node || begun.elapsed() > PATIENCE {
            return checked;
        }
        sleep(LOOK);
    }
}

/// Holds besides when everything is buried.
pub(crate) fn check_settled(world: &World<'_>) -> Result<()> {
    check(world)?;
    for daemon in world.running() {
        let read = || Ledger::read(world, &daemon)?.check_settled();
        once_seen(&daemon, read).with_context(|| format!("the buried ledger of {}", daemon.name))?;
    }
    Ok(())
}

/// One exchange as the daemon tells it, with the transaction that the chain has for it.
struct Exchange {
    id: u64,
    invoice: String,
    /// It came without payjoin: any amount, and any number of times.
    is_plain: bool,
    /// Nobody paid: the wallet alone opens a channel.
    is_own: bool,
    settled: Option<String>,
    channels: Vec<Funding>,
    on_chain: Option<OnChain>,
}

struct Funding {
    intent: u64,
    vout: u32,
    amount: Amount,
}

struct OnChain {
    transaction: Transaction,
    is_original: bool,
    is_payjoin: bool,
    is_confirmed: bool,
}

/// Where the satoshis of one transaction came from and went.
#[derive(Default)]
struct Flow {
    payer_in: Amount,
    payer_out: Amount,
    our_in: Amount,
    our_out: Amount,
    channels: Amount,
}

struct Ledger<'a> {
    world: &'a World<'a>,
    daemon: &'a Daemon,
    exchanges: Vec<Exchange>,
    intents: Vec<Value>,
    channels: Vec<Value>,
    coins: Vec<Value>,
}

impl<'a> Ledger<'a> {
    fn read(world: &'a World<'a>, daemon: &'a Daemon) -> Result<Self> {
        let exchanges = daemon.call(&["exchange", "list", "--limit", "100000"])?;
        let exchanges = exchanges.list("exchanges")?.iter().map(|told| Exchange::read(world, told));
        let exchanges = exchanges.collect::<Result<_>>()?;
        let queue = daemon.call(&["channel", "list", "--all"])?;
        let coins = daemon.call(&["wallet", "coins"])?;
        Ok(Self {
            world,
            daemon,
            exchanges,
            intents: queue.list("intents")?.to_vec(),
            channels: queue.list("channels")?.to_vec(),
            coins: coins.list("coins")?.to_vec(),
        })
    }

    fn check(&self) -> Result<()> {
        let mut paid = BTreeSet::new();
        for exchange in self.exchanges.iter().filter(|exchange| !exchange.is_plain) {
            let Some(on_chain) = &exchange.on_chain else { continue };
            ensure!(paid.insert(&exchange.invoice), "invoice {} is paid twice", exchange.invoice);
            self.check_payment(exchange, on_chain).with_context(|| format!("exchange {}", exchange.id))?;
        }
        for sent in self.world.sent(self.daemon) {
            self.check_sent(&sent).with_context(|| format!("payment {}", sent.txid))?;
        }
        self.check_locks()?;
        self.check_intents()?;
        self.check_channels()
    }

    /// Sats in = sats out + fee, nothing goes astray, and each side pays what it must and no more.
    fn check_payment(&self, exchange: &Exchange, on_chain: &OnChain) -> Result<()> {
        let flow = self.flow(exchange, on_chain)?;
        if exchange.is_own {
            return self.check_own(&flow);
        }
        let invoice = self.world.invoice(&exchange.invoice).context("nobody asked for this")?;
        let paid = flow.payer_in.checked_sub(flow.payer_out).context("the payer gained")?;
        let received = flow.our_out + flow.channels;
        let gained = received.checked_sub(flow.our_in).context("we lost money")?;
        let fee = paid.checked_sub(gained).context("outputs exceed inputs")?;
        let fee_cap = self.world.fee_cap.get();
        ensure!(fee <= fee_cap, "the fee is {fee}");
        let least = self.world.chain.relay_fee(on_chain.transaction.vsize() as u64)?;
        ensure!(fee >= least, "the fee of {fee} is below {least}: nobody relays it");
        ensure!(paid >= invoice.amount, "the payer paid {paid} of {}", invoice.amount);
        ensure!(paid <= invoice.amount + fee_cap, "the payer lost {paid} for {}", invoice.amount);
        ensure!(gained + fee_cap >= invoice.amount, "we gained {gained} of {}", invoice.amount);
        Ok(())
    }

    /// What goes into a channel is the wallet's, and what is left comes back.
    fn check_own(&self, flow: &Flow) -> Result<()> {
        ensure!(flow.payer_in + flow.payer_out == Amount::ZERO, "somebody else has a part in it");
        let fee = flow.our_in.checked_sub(flow.our_out + flow.channels).context("outputs exceed inputs")?;
        ensure!(fee <= self.world.fee_cap.get(), "the fee is {fee}");
        Ok(())
    }

    fn flow(&self, exchange: &Exchange, on_chain: &OnChain) -> Result<Flow> {
        let mut flow = Flow::default();
        for input in &on_chain.transaction.input {
            let output = self.world.chain.output(input.previous_output)?;
            if self.world.is_payers(&output)? {
                flow.payer_in += output.value;
            } else {
                flow.our_in += output.value;
            }
        }
        let txid = on_chain.transaction.compute_txid();
        let channels = if on_chain.is_payjoin { exchange.channels.as_slice() } else { &[] };
        for (vout, output) in (0..).zip(&on_chain.transaction.output) {
            let outpoint = OutPoint { txid, vout };
            if let Some(channel) = channels.iter().find(|channel| channel.vout == vout) {
                ensure!(output.value == channel.amount, "{outpoint} holds {}", output.value);
                ensure!(output.script_pubkey.is_p2wsh(), "{outpoint} is no funding output");
                flow.channels += output.value;
            } else if self.world.is_payers(output)? {
                flow.payer_out += output.value;
            } else if !on_chain.is_confirmed
                || self.spends(outpoint)?
                || self.holds(outpoint, output.value)?
                || self.pays_for_a_close(outpoint)?
            {
                // The wallet lists confirmed coins only; when all is buried, nothing passes unlisted.
                flow.our_out += output.value;
            } else {
                bail!("{outpoint} with {} belongs to nobody", output.value);
            }
        }
        let outputs = on_chain.transaction.output.len();
        ensure!(channels.iter().all(|c| (c.vout as usize) < outputs), "{txid} lacks a funding output");
        Ok(flow)
    }

    /// What we paid to others is the price and the fee that we were told.
    fn check_sent(&self, sent: &Sent) -> Result<()> {
        ensure!(sent.fee <= self.world.fee_cap.get(), "the fee is {}", sent.fee);
        let transaction = self.world.chain.transaction(sent.txid)?;
        let (mut paid, mut back) = (Amount::ZERO, Amount::ZERO);
        for input in &transaction.input {
            let output = self.world.chain.output(input.previous_output)?;
            paid += if self.world.is_payers(&output)? { Amount::ZERO } else { output.value };
        }
        for output in &transaction.output {
            back += if self.world.is_payers(output)? { Amount::ZERO } else { output.value };
        }
        ensure!(paid == back + sent.amount + sent.fee, "{paid} for {} and {}", sent.amount, sent.fee);
        Ok(())
    }

    /// A later payjoin or a payment of ours took it as a coin. Its own row accounts for it.
    fn spends(&self, outpoint: OutPoint) -> Result<bool> {
        let takes = |later: &Transaction| later.input.iter().any(|input| input.previous_output == outpoint);
        for sent in self.world.sent(self.daemon) {
            if takes(&self.world.chain.transaction(sent.txid)?) {
                return Ok(true);
            }
        }
        let mut later = self.exchanges.iter().filter_map(|exchange| exchange.on_chain.as_ref());
        Ok(later.any(|on_chain| takes(&on_chain.transaction)))
    }

    /// The child that raises a forced close takes the smallest coin that serves, perhaps one that an exchange has made. What
    /// it cost is counted with what comes back.
    fn pays_for_a_close(&self, outpoint: OutPoint) -> Result<bool> {
        Ok(self.world.has_closed() && !self.world.chain.is_unspent(outpoint)?)
    }

    fn holds(&self, outpoint: OutPoint, value: Amount) -> Result<bool> {
        for coin in &self.coins {
            if coin.outpoint("outpoint")? == outpoint {
                ensure!(coin.sat("amount_sat")? == value, "the wallet is wrong about {outpoint}");
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Locks = live obligations.
    fn check_locks(&self) -> Result<()> {
        let live: Vec<_> = self.exchanges.iter().filter(|exchange| exchange.settled.is_none()).collect();
        let status = self.daemon.call(&["status"])?;
        let (owed, payments) = (status.number("obligations")?, status.number("payments")?);
        ensure!(owed == live.len() as u64, "{owed} obligations, but {} live exchanges", live.len());
        let mut locked = Amount::ZERO;
        for coin in &self.coins {
            if coin.flag("locked")? {
                ensure!(!live.is_empty() || payments > 0, "{} is locked for nothing", coin.text("outpoint")?);
                locked += coin.sat("amount_sat")?;
            }
        }
        let told = self.daemon.call(&["wallet", "balance"])?.sat("locked_sat")?;
        ensure!(told == locked, "locked_sat says {told}, the coins say {locked}");
        Ok(())
    }

    /// Money rule 9: an intent has at most one channel that lives or may live.
    fn check_intents(&self) -> Result<()> {
        let mut taken = BTreeMap::new();
        for exchange in self.exchanges.iter().filter(|exchange| exchange.may_have_channels()) {
            for channel in &exchange.channels {
                let earlier = taken.insert(channel.intent, exchange.id);
                ensure!(earlier.is_none(), "intent {} has two channels", channel.intent);
            }
        }
        for intent in &self.intents {
            let (id, state) = (intent.number("id")?, intent.text("state")?);
            let has_channel = matches!(state, "released" | "confirming" | "open" | "closed");
            ensure!(has_channel == taken.contains_key(&id), "intent {id} is {state}: {intent}");
            if matches!(state, "confirming" | "open" | "closed") {
                self.check_funding(intent)?;
            }
        }
        Ok(())
    }

    /// A channel ends only when somebody asked for it.
    fn check_funding(&self, intent: &Value) -> Result<()> {
        let funding = OutPoint { txid: intent.txid("txid")?, vout: u32::try_from(intent.number("vout")?)? };
        let stands = self.world.chain.is_unspent(funding)? || self.world.is_closed(funding);
        ensure!(stands, "the channel was closed: {intent}");
        Ok(())
    }

    /// Every channel stands on an output of exactly its value, and no two on the same.
    fn check_channels(&self) -> Result<()> {
        let mut seen = BTreeSet::new();
        for channel in &self.channels {
            let funding = channel.outpoint("funding")?;
            ensure!(seen.insert(funding), "two channels stand on {funding}");
            if self.world.chain.confirmations(funding.txid)?.is_some() {
                let output = self.world.chain.output(funding)?;
                ensure!(output.value == channel.sat("capacity_sat")?, "{funding} holds {}", output.value);
                ensure!(self.world.chain.is_unspent(funding)?, "{funding} is spent");
            }
        }
        Ok(())
    }

    /// Everything on chain is settled as what it is; channels are real; the wallet holds what it must.
    fn check_settled(&self) -> Result<()> {
        let mut balance = self.world.given(self.daemon);
        // What came first is spent later.
        for exchange in self.exchanges.iter().rev() {
            let cheated = self.world.is_double_spent(&exchange.invoice);
            if cheated && exchange.on_chain.is_none() && exchange.settled.as_deref() == Some("conflict") {
                continue;
            }
            if exchange.is_own && exchange.settled.as_deref() == Some("gone") {
                ensure!(exchange.on_chain.is_none(), "exchange {} was given up, and sent", exchange.id);
                continue;
            }
            let on_chain = exchange.on_chain.as_ref().context("settled, but nothing is on chain")?;
            // With nothing of ours in it, payjoin and Original are one transaction.
            let fits = match exchange.settled.as_deref() {
                Some("payjoin") => on_chain.is_payjoin,
                Some("original") => on_chain.is_original,
                Some("plain") => exchange.is_plain,
                _ => false,
            };
            ensure!(fits, "exchange {} is settled as {:?}", exchange.id, exchange.settled);
            let flow = self.flow(exchange, on_chain)?;
            balance = balance + flow.our_out - flow.our_in;
        }
        balance -= self.world.sent(self.daemon).iter().map(|sent| sent.amount + sent.fee).sum();
        let told = self.daemon.call(&["wallet", "balance"])?;
        ensure!(told.sat("confirmed_sat")? == balance, "the wallet should hold {balance}: {told}");
        for channel in &self.channels {
            ensure!(channel.flag("ready")?, "a buried channel is not ready: {channel}");
        }
        Ok(())
    }
}

impl Exchange {
    fn read(world: &World<'_>, told: &Value) -> Result<Self> {
        let channels = told.list("channels")?.iter().map(|channel| {
            let vout = u32::try_from(channel.number("vout")?)?;
            Ok(Funding { intent: channel.number("intent")?, vout, amount: channel.sat("amount")? })
        });
        Ok(Self {
            id: told.number("id")?,
            invoice: told.text("invoice")?.to_owned(),
            is_plain: !told["plain_sat"].is_null(),
            is_own: told.flag("own")?,
            settled: told["settled"].as_str().map(str::to_owned),
            channels: channels.collect::<Result<_>>()?,
            on_chain: on_chain(world, told)?,
        })
    }

    fn may_have_channels(&self) -> bool {
        matches!(self.settled.as_deref(), None | Some("payjoin"))
    }
}

/// The one transaction of an exchange that the chain knows, if it knows any.
fn on_chain(world: &World<'_>, told: &Value) -> Result<Option<OnChain>> {
    let plain = told["mined_txid"].as_str().filter(|_| !told["plain_sat"].is_null());
    let original = plain.map_or_else(|| told.txid("original_txid"), |txid| Ok(txid.parse()?))?;
    let payjoin = told["payjoin_txid"].as_str().map(str::parse::<Txid>).transpose()?;
    // A payer with nested segwit inputs changes the id when it signs; the id without scriptSigs stays.
    let payments = world.payments();
    let signed = payments.iter().filter(|payment| Some(payment.compute_ntxid().into()) == payjoin);
    let txids = BTreeSet::from_iter(signed.map(Transaction::compute_txid).chain([original]).chain(payjoin));
    let mut found = Vec::new();
    for txid in txids {
        let Some(confirmations) = world.chain.confirmations(txid)? else { continue };
        found.push(OnChain {
            transaction: world.chain.transaction(txid)?,
            is_original: txid == original,
            // Only the Original can be on chain without being the payjoin.
            is_payjoin: txid != original || Some(txid) == payjoin,
            is_confirmed: confirmations > 0,
        });
    }
    ensure!(found.len() <= 1, "payjoin and Original are both on chain: {told}");
    Ok(found.pop())
}

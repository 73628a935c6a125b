//! A world: one chain, some daemons, some payers, and a record of what was given and asked.

mod more;

use std::cell::{Ref, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxOut, Txid};
use serde_json::Value;

use super::cell::Cell;
use super::chain::{Chain, Wallet};
use super::daemon::{Daemon, Options};
use super::foreign::{Cln, Foreign, Lnd};
use super::foreign_payer::Paid;
use super::json::Fields;
use super::mailroom::Mailroom;
use super::payer::{self, FEE_RATE, PayjoinCli, Release, Sending};
use super::programs::{Need, Programs};
use super::pruned::Pruned;
use super::receiver::Receiving;
use super::tls::Certificate;
use super::wait;
use crate::tor::{self, TorNetwork};

/// Wallet names in bitcoind: each payer wallet holds coins of one address type.
pub(crate) const PAYERS: [(&str, &str); 2] = [("payer", "bech32"), ("nested", "p2sh-segwit")];

/// What the payer wallets hold, each.
const PAYER_COINS: [u64; 3] = [3_000_000, 2_500_000, 2_000_000];

/// Around the end of a Tor time period nobody finds an onion service. No case takes longer.
const TOR_CASE: Duration = Duration::from_secs(90);

/// Most that anyone may lose in fees, unless a case says otherwise: 5 sat/vB, and no transaction of a thousand vbytes.
const FEE_CAP: Amount = Amount::from_sat(5_000);

/// Seconds for which directories hold a poll: short, so that cases see several.
const HOLD: u32 = 2;

/// A payment request that a daemon made.
#[derive(Clone)]
pub(crate) struct Invoice {
    pub(crate) uri: String,
    /// The last part of its endpoint.
    pub(crate) id: String,
    pub(crate) endpoint: String,
    pub(crate) address: String,
    pub(crate) amount: Amount,
}

pub(crate) struct World<'a> {
    pub(crate) chain: Chain,
    pub(crate) tls: Certificate,
    pub(super) programs: &'a Programs,
    pub(super) dir: &'a Path,
    daemons: RefCell<Vec<Rc<Daemon>>>,
    cells: RefCell<Vec<Rc<Cell>>>,
    foreign: RefCell<Vec<Rc<dyn Foreign>>>,
    /// They run as long as the world.
    pruned: RefCell<Vec<Rc<Pruned>>>,
    invoices: RefCell<Vec<Invoice>>,
    payments: RefCell<Vec<Transaction>>,
    /// The payers' wallets in bitcoind.
    wallets: RefCell<Vec<&'static str>>,
    /// Whether the addresses that the ledger came across are the payers'.
    payers: RefCell<HashMap<ScriptBuf, bool>>,
    pub(super) gifts: RefCell<Vec<(&'static str, Amount)>>,
    double_spent: RefCell<Vec<String>>,
    pub(super) closed: RefCell<Vec<OutPoint>>,
    sent: RefCell<Vec<Sent>>,
    pub(super) fee_cap: std::cell::Cell<Amount>,
}

/// A payment that a daemon made.
#[derive(Clone)]
pub(crate) struct Sent {
    pub(crate) by: &'static str,
    pub(crate) uri: String,
    pub(crate) txid: Txid,
    pub(crate) amount: Amount,
    /// What the daemon says that it paid besides.
    pub(crate) fee: Amount,
}

impl<'a> World<'a> {
    /// A chain and payers with coins; no daemon yet.
    pub(crate) fn new(programs: &'a Programs, dir: &'a Path) -> Result<Self> {
        let chain = Chain::start(&programs.bitcoind, dir)?;
        let tls = Certificate::new(dir)?;
        let mut coins = Vec::new();
        for (name, kind) in PAYERS {
            let wallet = chain.wallet(name)?;
            for sat in PAYER_COINS {
                coins.push((wallet.address(kind)?, Amount::from_sat(sat)));
            }
        }
        chain.give(&coins)?;
        Ok(Self {
            chain,
            tls,
            programs,
            dir,
            daemons: RefCell::default(),
            cells: RefCell::default(),
            foreign: RefCell::default(),
            pruned: RefCell::default(),
            invoices: RefCell::default(),
            payments: RefCell::default(),
            wallets: RefCell::new(PAYERS.map(|(name, _)| name).to_vec()),
            payers: RefCell::default(),
            gifts: RefCell::default(),
            double_spent: RefCell::default(),
            closed: RefCell::default(),
            sent: RefCell::default(),
            fee_cap: std::cell::Cell::new(FEE_CAP),
        })
    }

    pub(crate) fn daemon(&self, name: &'static str) -> Result<Rc<Daemon>> {
        self.daemon_with(name, Options::default())
    }

    pub(crate) fn daemon_with(&self, name: &'static str, options: Options) -> Result<Rc<Daemon>> {
        self.daemon_on(&self.chain, name, options)
    }

    /// A daemon that follows another bitcoind.
    pub(crate) fn daemon_on(
        &self,
        chain: &Chain,
        name: &'static str,
        options: Options,
    ) -> Result<Rc<Daemon>> {
        let daemon = Daemon::start(&self.programs.payjoind, self.dir, name, options, chain, &self.tls)?;
        let daemon = Rc::new(daemon);
        self.daemons.borrow_mut().push(Rc::clone(&daemon));
        Ok(daemon)
    }

    /// A bitcoind that follows ours and forgets old blocks when it is told to.
    pub(crate) fn pruned(&self) -> Result<Rc<Pruned>> {
        let pruned = Rc::new(Pruned::start(&self.programs.bitcoind, self.dir, &self.chain)?);
        self.pruned.borrow_mut().push(Rc::clone(&pruned));
        Ok(pruned)
    }

    /// A running LND, with more of its own arguments.
    pub(crate) fn lnd(&self, name: &str, more: &[&str]) -> Result<Rc<dyn Foreign>> {
        Ok(self.own_lnd(name, more)?)
    }

    /// The same for a daemon to stand beside.
    pub(crate) fn own_lnd(&self, name: &str, more: &[&str]) -> Result<Rc<Lnd>> {
        let programs = self.programs.lnd.as_ref().context("this case does not say that it needs LND")?;
        self.run_foreign(Rc::new(Lnd::new(programs, self.dir, name, &self.chain, more)?))
    }

    /// A running Core Lightning, with more of its own arguments.
    pub(crate) fn cln(&self, name: &str, more: &[&str]) -> Result<Rc<dyn Foreign>> {
        let programs =
            self.programs.cln.as_ref().context("this case does not say that it needs Core Lightning")?;
        Ok(self.run_foreign(Rc::new(Cln::new(programs, self.dir, name, &self.chain, more)?))?)
    }

    fn run_foreign<T: Foreign + 'static>(&self, node: Rc<T>) -> Result<Rc<T>> {
        let foreign: &dyn Foreign = &*node;
        foreign.run(&self.chain)?;
        self.foreign.borrow_mut().push(Rc::clone(&node) as Rc<dyn Foreign>);
        Ok(node)
    }

    /// The Tor network, at a moment that leaves enough time for a case.
    pub(crate) fn tor(&self) -> Result<&'a TorNetwork> {
        let tor = self.programs.tor()?;
        tor.wait_for_time_period(TOR_CASE)?;
        Ok(tor)
    }

    /// The Tor of a payer who holds a key for a restricted onion service: see [`TorNetwork::invited`].
    pub(crate) fn invited(&self, name: &str, service: &str, key: &str) -> Result<tor::Client> {
        self.programs.tor()?.invited(&self.dir.join(name), service, key)
    }

    /// A network namespace for a daemon; it stays as long as the world.
    pub(crate) fn cell(&self, open: &[SocketAddr]) -> Result<Rc<Cell>> {
        let cell = Rc::new(Cell::new(self.dir, open)?);
        self.cells.borrow_mut().push(Rc::clone(&cell));
        Ok(cell)
    }

    /// Every daemon that still runs.
    pub(crate) fn running(&self) -> Vec<Rc<Daemon>> {
        self.daemons.borrow().iter().filter(|daemon| daemon.is_running()).map(Rc::clone).collect()
    }

    /// Gives a daemon's wallet confirmed coins and waits until it has seen them.
    pub(crate) fn give(&self, daemon: &Daemon, coins: &[u64]) -> Result<()> {
        let mut outputs = Vec::new();
        for sat in coins {
            let address = daemon.call(&["wallet", "address"])?.text("address")?.to_owned();
            outputs.push((address, Amount::from_sat(*sat)));
            self.gifts.borrow_mut().push((daemon.name, Amount::from_sat(*sat)));
        }
        self.fund(&outputs)?;
        let total = self.given(daemon);
        wait::until("the daemon sees its coins", Duration::from_secs(20), || {
            Ok((daemon.call(&["wallet", "balance"])?.sat("confirmed_sat")? >= total).then_some(()))
        })
    }

    /// Gives each address a confirmed coin, and waits until every running node has followed.
    pub(crate) fn fund(&self, coins: &[(String, Amount)]) -> Result<()> {
        self.chain.give(coins)?;
        self.follow()
    }

    /// What a daemon's wallet was given in all.
    pub(crate) fn given(&self, daemon: &Daemon) -> Amount {
        let gifts = self.gifts.borrow();
        gifts.iter().filter(|(name, _)| *name == daemon.name).map(|(_, amount)| *amount).sum()
    }

    /// Asks a daemon for a BIP 21 code; without an amount, for what its queued channels need.
    pub(crate) fn receive(&self, daemon: &Daemon, amount: Option<u64>) -> Result<Invoice> {
        self.receive_by(daemon, amount, &[])
    }

    /// The same with more arguments.
    pub(crate) fn receive_by(&self, daemon: &Daemon, amount: Option<u64>, more: &[&str]) -> Result<Invoice> {
        let amount = amount.map(|sat| sat.to_string());
        let mut arguments = [&["receive"], more].concat();
        arguments.extend(amount.iter().flat_map(|sat| ["--amount", sat]));
        let reply = daemon.call(&arguments)?;
        let uri = reply.text("uri")?.to_owned();
        let invoice = Invoice {
            id: reply.text("invoice")?.to_owned(),
            endpoint: reply.text("endpoint")?.to_owned(),
            address: reply.text("address")?.to_owned(),
            amount: payer::amount_of(&uri)?,
            uri,
        };
        self.invoices.borrow_mut().push(invoice.clone());
        Ok(invoice)
    }

    pub(crate) fn invoice(&self, id: &str) -> Option<Invoice> {
        self.invoices.borrow().iter().find(|invoice| invoice.id == id).cloned()
    }

    /// The wallet of the ordinary payer.
    pub(crate) fn payer(&self) -> Wallet<'_> {
        self.chain.known_wallet("payer")
    }

    /// Pays with payjoin-cli from the ordinary payer's wallet.
    pub(crate) fn pay(&self, invoice: &Invoice) -> Result<Txid> {
        self.paid(self.payjoin_cli().pay(self.payer(), &invoice.uri)?)
    }

    /// Begins to pay with payjoin-cli through a relay.
    pub(crate) fn begin(&self, invoice: &Invoice, relay: &Mailroom) -> Result<Sending> {
        self.payjoin_cli().begin(self.payer(), &invoice.uri, relay.url())
    }

    /// Takes up the payments that payjoin-cli left unfinished.
    pub(crate) fn resume(&self, relay: &Mailroom) -> Result<Sending> {
        self.payjoin_cli().resume(self.payer(), relay.url())
    }

    /// Waits until a payment that was begun has been broadcast.
    pub(crate) fn finish(&self, sending: Sending) -> Result<Txid> {
        self.paid(sending.txid()?)
    }

    fn paid(&self, txid: Txid) -> Result<Txid> {
        self.payments.borrow_mut().push(self.chain.transaction(txid)?);
        Ok(txid)
    }

    fn payjoin_cli(&self) -> PayjoinCli<'_> {
        let (program, chain, tls) = (&self.programs.payjoin_cli, &self.chain, &self.tls);
        PayjoinCli { program, dir: self.dir, chain, tls, release: Release::Current }
    }

    /// Pays with payjoin-cli 0.2.
    pub(crate) fn pay_old(&self, invoice: &Invoice) -> Result<Txid> {
        self.paid(self.payjoin_cli_old()?.pay(self.payer(), &invoice.uri)?)
    }

    fn payjoin_cli_old(&self) -> Result<PayjoinCli<'_>> {
        let program =
            self.programs.payjoin_cli_old.as_ref().context("this case does not say that it needs it")?;
        Ok(PayjoinCli { program, release: Release::Old, ..self.payjoin_cli() })
    }

    /// Pays with the package of another project, by a program of ours around it.
    pub(crate) fn pay_by(&self, payer: Need, invoice: &Invoice, more: &[&str]) -> Result<Paid> {
        let paid =
            self.programs.payer(payer)?.pay(&self.chain, self.payer(), &self.tls, &invoice.uri, more)?;
        self.payments.borrow_mut().push(paid.payjoin.clone());
        Ok(paid)
    }

    /// The ordinary payer asks for a payment, for once.
    pub(crate) fn receiving(&self, sat: u64) -> Receiving<'_> {
        Receiving {
            program: &self.programs.payjoin_cli,
            dir: self.dir,
            chain: &self.chain,
            wallet: self.payer(),
            amount: Amount::from_sat(sat),
        }
    }

    /// Has a daemon pay a code, and returns what it tells after at most `seconds`.
    pub(crate) fn send(&self, daemon: &Daemon, uri: &str, amount: Amount, seconds: u32) -> Result<Value> {
        let rate = FEE_RATE.to_string();
        let told = daemon.call(&["send", uri, "--fee-rate", &rate, "--wait", &seconds.to_string()])?;
        // What was told earlier of this code is superseded.
        self.sent.borrow_mut().retain(|sent| sent.uri != uri);
        if told.text("status")? != "pending" {
            let (txid, fee) = (told.txid("txid")?, told.sat("fee_sat")?);
            self.sent.borrow_mut().push(Sent { by: daemon.name, uri: uri.to_owned(), txid, amount, fee });
        }
        Ok(told)
    }

    /// What a daemon paid.
    pub(crate) fn sent(&self, daemon: &Daemon) -> Vec<Sent> {
        self.sent.borrow().iter().filter(|sent| sent.by == daemon.name).cloned().collect()
    }

    /// Broadcasts a payer's transaction.
    pub(crate) fn broadcast(&self, transaction: &Transaction) -> Result<Txid> {
        self.paid(self.chain.broadcast(transaction)?)
    }

    /// The payer of a code sends the coins of his payment to himself, at this fee rate in sat/vB.
    pub(crate) fn double_spend(
        &self,
        invoice: &Invoice,
        payment: &Transaction,
        fee_rate: u64,
    ) -> Result<Txid> {
        let txid = self.chain.broadcast(&self.payer().spend_again(payment, fee_rate)?)?;
        self.double_spent.borrow_mut().push(invoice.id.clone());
        Ok(txid)
    }

    /// What payers broadcast.
    pub(crate) fn payments(&self) -> Ref<'_, [Transaction]> {
        Ref::map(self.payments.borrow(), Vec::as_slice)
    }

    /// Does an output belong to a payer?
    pub(crate) fn is_payers(&self, output: &TxOut) -> Result<bool> {
        if let Some(known) = self.payers.borrow().get(&output.script_pubkey) {
            return Ok(*known);
        }
        let mut owns = false;
        for name in &*self.wallets.borrow() {
            owns |= self.chain.known_wallet(name).owns(output)?;
        }
        self.payers.borrow_mut().insert(output.script_pubkey.clone(), owns);
        Ok(owns)
    }

    /// Mines and waits until every running node has followed.
    pub(crate) fn mine(&self, blocks: u32) -> Result<()> {
        self.chain.mine(blocks)?;
        self.follow()
    }

    fn follow(&self) -> Result<()> {
        let height = self.chain.height()?;
        self.running().iter().try_for_each(|daemon| daemon.wait_for_height(height))?;
        let foreign = self.foreign.borrow();
        foreign.iter().filter(|node| node.is_running()).try_for_each(|node| node.wait_for_height(height))
    }

    /// Buries everything and waits until no daemon owes anything.
    pub(crate) fn settle(&self) -> Result<()> {
        self.mine(6)?;
        for daemon in self.running() {
            wait::until(&format!("{} owes nothing", daemon.name), Duration::from_secs(10), || {
                let status = daemon.call(&["status"])?;
                Ok((status.number("obligations")? + status.number("payments")? == 0).then_some(()))
            })?;
        }
        Ok(())
    }
}

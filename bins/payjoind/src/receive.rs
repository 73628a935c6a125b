//! `receive` and `session`: codes to pay, and the mailboxes of those that wait at a directory.

use bitcoin::secp256k1::rand::random;
use bitcoin::{Address, Amount, FeeRate, Weight};
use payjoin_core::{Invoice, InvoiceId, MOST_CHANNELS, Reserve, SessionEnd, Timestamp, bip21_v1};
use payjoin_io::{PollError, Poller, SessionInfo};
use payjoin_lightning::shortfall;
use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::{ReceiveArgs, SessionCommand, Via};
use crate::commands::{Answer, CommandError, failed};
use crate::daemon::{Daemon, now};
use crate::ways::{Endpoint, Way, Ways};

/// Least payment that the network relays to our P2TR scripts.
const LEAST: Amount = Amount::from_sat(330);

/// The code of an invoice and where its payer goes.
#[derive(Serialize)]
struct Code {
    via: Via,
    uri: String,
    endpoint: String,
    /// A directory may keep a session for less time than was asked for.
    #[serde(skip)]
    expires: Timestamp,
}

impl Daemon {
    pub(crate) async fn receive(&self, args: ReceiveArgs) -> Answer {
        let ways = self.ways();
        let (way, instead) = (ways.choose(args.via).map_err(failed)?, ways.instead(args.via));
        let amount = match args.amount {
            Some(sat) => Some(Amount::from_sat(sat)),
            None => self.needed().await?,
        };
        if let Some(amount) = amount.filter(|amount| !(LEAST..=Amount::MAX_MONEY).contains(amount)) {
            let (sat, least, most) = (amount.to_sat(), LEAST.to_sat(), Amount::MAX_MONEY.to_sat());
            return Err(failed(format!(
                "nobody can pay {sat} sat: ask for at least {least} sat and at most {most} sat"
            )));
        }
        let note = self.obstacle()?;
        let (script, change) = self.node.wallet().reveal_invoice().map_err(failed)?;
        let (id, created) = (InvoiceId::from_entropy(random()), now());
        let invoice =
            Invoice { id, script, change, amount, created, expires: created.plus(args.expires.seconds()) };
        let address = Address::from_script(&invoice.script, self.config.network).map_err(failed)?;
        let (way, Code { via, uri, endpoint, expires }) = self.code(way, instead, &address, &invoice).await?;
        // Only now: an invoice whose code nobody sees would stay for ever. A session alone expires.
        self.store.insert_invoice(&invoice).await.map_err(failed)?;
        let alternatives = ways.besides(way).map(|endpoint| code_of_ours(endpoint, &address, &invoice));
        let alternatives = alternatives.collect::<Result<Vec<_>, _>>()?;
        let amount_sat = amount.map(Amount::to_sat);
        tracing::info!(target: "step", step = "BIP 21", invoice = %invoice.id, amount_sat, uri);
        Ok(json!({
            "uri": uri, "address": address.to_string(), "invoice": invoice.id.0, "amount_sat": amount_sat,
            "via": via, "endpoint": endpoint, "expires": expires.0, "alternatives": alternatives,
            "note": note,
        }))
    }

    /// The ways that payers can take to us.
    pub(crate) fn ways(&self) -> Ways {
        let own = self.tor.as_ref().map(|tor| tor.borrow().endpoint.clone());
        Ways::new(self.poller.is_some(), self.config.http.public_endpoint.clone(), own)
    }

    /// The code by this way, or by the endpoint given `instead` when no directory answers.
    async fn code<'a>(
        &self,
        way: Way<'a>,
        instead: Option<&'a Endpoint>,
        address: &Address,
        invoice: &Invoice,
    ) -> Result<(Way<'a>, Code), CommandError> {
        let ours = match way {
            Way::Ours(endpoint) => endpoint,
            Way::Directory => match (self.code_at_a_directory(self.poller()?, invoice).await, instead) {
                (Err(PollError::Directory(error)), Some(instead)) => {
                    tracing::warn!(%error, url = instead.url, "no directory answers: the code names our own server");
                    instead
                }
                (code, _) => return Ok((way, code.map_err(failed)?)),
            },
        };
        Ok((Way::Ours(ours), code_of_ours(ours, address, invoice)?))
    }

    async fn code_at_a_directory(&self, poller: &Poller, invoice: &Invoice) -> Result<Code, PollError> {
        let uri = poller.open(invoice, self.config.network).await?;
        let session = poller.session(&invoice.id)?;
        let (endpoint, expires) = session
            .map_or_else(|| (String::new(), invoice.expires), |session| (session.directory, session.expires));
        Ok(Code { via: Via::Directory, uri, endpoint, expires })
    }

    fn poller(&self) -> Result<&Poller, CommandError> {
        self.poller.as_ref().ok_or_else(|| {
            failed("no directory: set `directories` and `ohttp_relays` in [payjoin] and restart")
        })
    }

    pub(crate) fn session(&self, command: SessionCommand) -> Answer {
        let poller = self.poller()?;
        match command {
            SessionCommand::List => {
                let open = poller.open_sessions().map_err(failed)?;
                let shown = open.iter().map(|invoice| show(poller, invoice));
                Ok(json!({ "sessions": shown.collect::<Result<Vec<_>, _>>()? }))
            }
            SessionCommand::Show { invoice } => show(poller, &InvoiceId(invoice)),
            SessionCommand::Cancel { invoice } => {
                let id = InvoiceId(invoice);
                if !poller.cancel(&id) {
                    return Err(failed(format!("no open session {id}")));
                }
                Ok(json!({ "invoice": id.0, "cancelled": true }))
            }
        }
    }

    /// What the queued channels need, as far as one payment can open them: their sum, the reserve the wallet lacks, our
    /// share of the fees. `None` when no channel is queued: then any amount is welcome.
    async fn needed(&self) -> Result<Option<Amount>, CommandError> {
        let wishes = self.store.queued_wishes(MOST_CHANNELS).map_err(failed)?;
        if wishes.is_empty() {
            return Ok(None);
        }
        let fees = self.fee_share(wishes.len()).await?;
        Ok(Some(shortfall(&wishes, &self.reserve(), fees)))
    }

    /// Why a payment now would open none of the queued channels, if that is sure.
    fn obstacle(&self) -> Result<Option<&'static str>, CommandError> {
        let wishes = self.store.queued_wishes(MOST_CHANNELS).map_err(failed)?;
        let all_need_coins = !wishes.is_empty() && wishes.iter().all(|wish| !wish.payer_is_me);
        let wait = all_need_coins && self.reserve().balance == Amount::ZERO;
        Ok(wait.then_some(
            "the wallet has no confirmed coin, and a channel needs one beside the payment: this payment arrives on \
             chain, the next one opens channels",
        ))
    }

    fn reserve(&self) -> Reserve {
        let balance = self.node.balance();
        Reserve {
            balance: balance.confirmed.checked_sub(balance.locked).unwrap_or_default(),
            existing: balance.reserve,
            per_channel: self.node.reserve_per_channel(),
        }
    }

    /// Our inputs' and outputs' part of a payjoin with this many channels, at twice the rate that confirms within six
    /// blocks: the payer chooses the rate, and what is too much comes back as change.
    async fn fee_share(&self, channels: usize) -> Result<Amount, CommandError> {
        const INPUT: Weight = Weight::from_wu(272);
        const CHANGE: Weight = Weight::from_wu(31 * 4);
        const FUNDING: Weight = Weight::from_wu(43 * 4);
        let rate = FeeRate::from_sat_per_kwu(self.estimate().await?.to_sat_per_kwu().saturating_mul(2));
        let weight = INPUT + CHANGE + FUNDING * channels as u64;
        rate.checked_mul_by_weight(weight).ok_or_else(|| failed("the fee rate cannot be right"))
    }

    /// The rate that confirms within six blocks.
    pub(crate) async fn estimate(&self) -> Result<FeeRate, CommandError> {
        /// 5 sat/vB, where bitcoind has not seen enough to estimate.
        const UNKNOWN: u64 = 1_250;
        let estimate = self.node.rpc().call("estimatesmartfee", json!([6])).await.map_err(failed)?;
        let per_kvb =
            estimate.get("feerate").and_then(Value::as_f64).and_then(|btc| Amount::from_btc(btc).ok());
        Ok(FeeRate::from_sat_per_kwu(per_kvb.map_or(UNKNOWN, |per_kvb| per_kvb.to_sat().div_ceil(4))))
    }
}

fn code_of_ours(ours: &Endpoint, address: &Address, invoice: &Invoice) -> Result<Code, CommandError> {
    let endpoint = format!("{}/{}", ours.url.trim_end_matches('/'), invoice.id);
    let uri = bip21_v1(address, invoice.amount, &endpoint).map_err(failed)?;
    Ok(Code { via: ours.via, uri, endpoint, expires: invoice.expires })
}

fn show(poller: &Poller, invoice: &InvoiceId) -> Answer {
    let session = poller.session(invoice).map_err(failed)?;
    let session: SessionInfo = session.ok_or_else(|| failed(format!("no session {invoice}")))?;
    let state = match session.end {
        None if session.received => "received",
        None => "waiting",
        Some(SessionEnd::Answered) => "answered",
        Some(SessionEnd::Refused) => "refused",
        Some(SessionEnd::Unreadable) => "unreadable",
        Some(SessionEnd::Expired) => "expired",
        Some(SessionEnd::Cancelled) => "cancelled",
    };
    Ok(json!({
        "invoice": session.invoice.0, "state": state, "directory": session.directory,
        "expires": session.expires.0, "uri": session.uri,
    }))
}

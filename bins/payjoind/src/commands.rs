//! What the commands do, each with the JSON object that scripts rely on.

use std::time::Duration;

use bitcoin::{Amount, TxOut};
use payjoin_core::{ChannelAmount, ExchangeId, IntentId, IntentState, requested_output};
use payjoin_io::{ExchangeRecord, IntentRecord, NewIntent};
use payjoin_lightning::{ChannelLimits, ChannelSpec, PeerAddress};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::cli::{
    ChannelCommand, Command, ExchangeCommand, InvoiceArgs, PeerCommand, QueueArgs, SendArgs, WalletCommand,
};
use crate::daemon::Daemon;

/// Why a command failed, in words for the operator.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct CommandError(String);

pub(crate) type Answer = Result<Value, CommandError>;

/// For its answer to `status`, which is wanted most when it does not answer.
const BITCOIND_PATIENCE: Duration = Duration::from_secs(3);
/// Seconds a BOLT 11 invoice is good for.
const INVOICE_EXPIRY: Duration = Duration::from_secs(3600);

pub(crate) fn failed(error: impl std::fmt::Display) -> CommandError {
    CommandError(error.to_string())
}

impl Daemon {
    /// Answers one command.
    pub(crate) async fn command(&self, command: Command) -> Answer {
        match command {
            Command::Run(_) | Command::Rescue => Err(failed("this command is not for a running daemon")),
            Command::Receive(args) => self.receive(args).await,
            Command::Session(command) => self.session(command),
            Command::Send(args) => self.send(args).await,
            Command::Channel(command) => self.channel(command).await,
            Command::Wallet(command) => self.wallet(&command),
            Command::Peer(command) => self.peer(command).await,
            Command::Invoice(args) => self.invoice(&args),
            Command::Pay { bolt11 } => self.pay(&bolt11).await,
            Command::Exchange(command) => self.exchange(command).await,
            Command::Status => self.status().await,
            // The control socket throws the switch once this is on its way.
            Command::Stop => Ok(json!({ "stopped": true })),
        }
    }

    async fn send(&self, args: SendArgs) -> Answer {
        let output = requested_output(&args.uri, self.config.network).map_err(failed)?;
        let id = match self.store.payment_of(&args.uri).map_err(failed)? {
            Some(payment) => payment.id,
            None => self.begin_payment(&args, &output).await?,
        };
        let outcome = self.payer.outcome(id, Duration::from_secs(args.wait)).await.map_err(failed)?;
        let Some(paid) = outcome else {
            return Ok(json!({
                "status": "pending", "txid": null, "fee_sat": null,
                "reason": "no answer yet; the payment goes on in the background, run the command again to see it",
            }));
        };
        let original = self.store.payment(id).map_err(failed)?.map(|payment| payment.original);
        let cost = original.and_then(|original| self.node.wallet().cost(&original, &paid.transaction));
        let fee = cost.and_then(|cost| cost.checked_sub(output.value));
        Ok(json!({
            "status": if paid.fallback.is_some() { "original" } else { "payjoin" },
            "txid": paid.transaction.compute_txid().to_string(),
            "fee_sat": fee.map(Amount::to_sat),
            "reason": paid.fallback,
        }))
    }

    async fn begin_payment(&self, args: &SendArgs, output: &TxOut) -> Result<u64, CommandError> {
        if self.node.wallet().owns(std::slice::from_ref(&output.script_pubkey)) == [true] {
            return Err(failed("this code is our own"));
        }
        let rate = match args.fee_rate {
            Some(rate) => rate.into(),
            None => self.estimate().await?,
        };
        let original = self.node.pay_on_chain(output, rate).map_err(failed)?;
        self.payer.begin(args.uri.clone(), original, rate).await.map_err(failed)
    }

    async fn channel(&self, command: ChannelCommand) -> Answer {
        match command {
            ChannelCommand::Queue(args) => self.queue(args).await,
            ChannelCommand::List => {
                let intents = self.store.intents().map_err(failed)?;
                let intents: Vec<Value> = intents.iter().map(intent).collect();
                Ok(json!({ "intents": intents, "channels": self.node.channels() }))
            }
            ChannelCommand::Cancel { intent } => {
                self.store.cancel_intent(IntentId(intent)).await.map_err(failed)?;
                Ok(json!({ "intent": intent, "state": "cancelled" }))
            }
            ChannelCommand::Close { channel, force } => {
                self.node.close(&channel, force).map_err(failed)?;
                Ok(json!({ "channel_id": channel, "closing": true }))
            }
        }
    }

    /// Where another node is, as the operator writes it.
    fn peer_address(&self, text: &str) -> Result<PeerAddress, CommandError> {
        let peer: PeerAddress = text.parse().map_err(failed)?;
        if peer.node_id() == self.node.node_id() {
            return Err(failed("that is this node itself"));
        }
        Ok(peer)
    }

    async fn queue(&self, args: QueueArgs) -> Answer {
        let amount =
            match args.amount.as_str() {
                "rest" => ChannelAmount::Rest,
                sat => ChannelAmount::Exact(Amount::from_sat(sat.parse().map_err(|_| {
                    failed(format!("{sat} is neither a whole number of satoshis nor `rest`"))
                })?)),
            };
        let spec = ChannelSpec {
            peer: self.peer_address(&args.peer)?,
            amount,
            push: Amount::from_sat(args.push),
            announced: !args.private,
            payer_is_me: args.payer_is_me,
        };
        let limits = ChannelLimits::default();
        spec.validate(&limits).map_err(failed)?;
        let wish = spec.wish(IntentId(0), &limits);
        let spec = serde_json::to_value(&spec).map_err(failed)?;
        let new = NewIntent { amount, min: wish.min, max: wish.max, payer_is_me: args.payer_is_me, spec };
        let id = self.store.queue_intent(new).await.map_err(failed)?;
        Ok(json!({ "intent": id.0, "state": "queued" }))
    }

    fn wallet(&self, command: &WalletCommand) -> Answer {
        let wallet = self.node.wallet();
        match command {
            WalletCommand::Address => {
                Ok(json!({ "address": wallet.new_address().map_err(failed)?.to_string() }))
            }
            WalletCommand::Balance => {
                let balance = self.node.balance();
                Ok(json!({
                    "confirmed_sat": balance.confirmed.to_sat(), "unconfirmed_sat": balance.unconfirmed.to_sat(),
                    "locked_sat": balance.locked.to_sat(), "reserve_sat": balance.reserve.to_sat(),
                    "spendable_sat": balance.spendable.to_sat(),
                }))
            }
            WalletCommand::Coins => {
                let height = self.node.height();
                let coins = wallet.coins();
                let coins: Vec<Value> = coins
                    .iter()
                    .map(|coin| {
                        json!({
                            "outpoint": coin.outpoint.to_string(), "amount_sat": coin.amount.to_sat(),
                            "address": coin.address, "confirmations": (height + 1).saturating_sub(coin.height),
                            "locked": coin.locked,
                        })
                    })
                    .collect();
                Ok(json!({ "coins": coins }))
            }
        }
    }

    async fn peer(&self, command: PeerCommand) -> Answer {
        match command {
            PeerCommand::Connect { peer } => {
                let peer = self.peer_address(&peer)?;
                self.node.connect(&peer).await.map_err(failed)?;
                Ok(json!({ "node_id": peer.node_id().to_string(), "connected": true }))
            }
            PeerCommand::List => Ok(json!({ "peers": self.node.peers() })),
        }
    }

    fn invoice(&self, args: &InvoiceArgs) -> Answer {
        if args.amount == 0 {
            return Err(failed("an invoice over 0 sat cannot be paid"));
        }
        let amount = Some(Amount::from_sat(args.amount));
        let invoice = self.node.invoice(amount, &args.description, INVOICE_EXPIRY).map_err(failed)?;
        Ok(json!({ "bolt11": invoice.to_string(), "payment_hash": invoice.payment_hash().to_string() }))
    }

    async fn pay(&self, bolt11: &str) -> Answer {
        let outcome = self.node.pay(bolt11).await.map_err(failed)?;
        let mut answer = serde_json::to_value(outcome).map_err(failed)?;
        answer["status"] = "succeeded".into();
        Ok(answer)
    }

    async fn exchange(&self, command: ExchangeCommand) -> Answer {
        match command {
            ExchangeCommand::Bump { exchange, fee_rate } => self.bump(exchange, fee_rate).await,
            ExchangeCommand::List { limit } => {
                let records = self.store.exchanges(limit).map_err(failed)?;
                Ok(json!({ "exchanges": records }))
            }
            ExchangeCommand::Show { exchange } => {
                let record: Option<ExchangeRecord> =
                    self.store.exchange(ExchangeId(exchange)).map_err(failed)?;
                let record = record.ok_or_else(|| failed(format!("no exchange {exchange}")))?;
                serde_json::to_value(record).map_err(failed)
            }
        }
    }

    async fn status(&self) -> Answer {
        let asked = timeout(BITCOIND_PATIENCE, self.node.rpc().call("getblockcount", json!([]))).await;
        let http = &self.config.http;
        let tls = http.listen.map(|address| address.to_string());
        let tor = self.tor.as_ref().map(|state| state.borrow().clone());
        Ok(json!({
            "version": env!("CARGO_PKG_VERSION"),
            "node_id": self.node.node_id().to_string(),
            "network": self.config.network.to_string(),
            "height": self.node.height(),
            "bitcoind_height": asked.ok().and_then(Result::ok),
            "http": tls.or(http.plain_listen.as_ref().map(ToString::to_string)),
            "endpoint": http.public_endpoint,
            "tor": tor,
            "lightning": self.node.listening().map(|address| address.to_string()),
            "peers": self.node.peers().len(),
            "channels": self.node.channels().len(),
            "payments": self.store.unsettled_payments().map_err(failed)?.len(),
            "obligations": self.store.obligations().map_err(failed)?.len(),
        }))
    }
}

/// An intent as `channel list` shows it.
fn intent(record: &IntentRecord) -> Value {
    let amount = match record.wish.amount {
        ChannelAmount::Exact(amount) => json!(amount.to_sat()),
        ChannelAmount::Rest => json!("rest"),
    };
    let (reason, funding) = match &record.state {
        IntentState::Queued { reason } => (reason.clone(), None),
        IntentState::Released { txid, vout }
        | IntentState::Confirming { txid, vout }
        | IntentState::Open { txid, vout } => (None, Some((txid.to_string(), *vout))),
        IntentState::Negotiating | IntentState::Cancelled => (None, None),
    };
    let state = serde_json::to_value(&record.state).ok().and_then(|state| state.get("state").cloned());
    json!({
        "id": record.id.0, "peer": record.spec.get("peer"), "amount": amount, "state": state, "reason": reason,
        "txid": funding.as_ref().map(|(txid, _)| txid), "vout": funding.as_ref().map(|(_, vout)| vout),
    })
}

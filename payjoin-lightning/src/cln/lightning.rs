//! What a receiver asks of a Lightning node, answered by lightningd.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bitcoin::secp256k1::PublicKey;
use bitcoin::secp256k1::rand::random;
use bitcoin::{Address, Amount, FeeRate, OutPoint, Psbt, Transaction, TxOut};
use payjoin_core::{ChannelEnd, PayingWallet, PaymentId, PeerAddress};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::Cln;
use super::error::RpcError;
use super::reply::{self, Channel, NORMAL};
use crate::addresses::Turn;
use crate::lock::lock;
use crate::{
    Balance, ChannelFunder, ChannelInfo, ChildFee, ClosingChannel, CoinInfo, Invoice, LightningError,
    LightningNode, PaymentOutcome, PeerInfo, Reached,
};

/// A close goes on by itself once lightningd has begun it.
const CLOSE: Duration = Duration::from_secs(5);
/// A stop waits no longer for an answer.
const STOP: Duration = Duration::from_secs(5);

const TAKES_ALL: &str = "Core Lightning takes a payment over Lightning as soon as it is there, also when the code is paid \
                         already: leave out --lightning";

fn elsewhere<T>(remedy: &'static str) -> Result<T, LightningError> {
    Err(LightningError::Elsewhere { node: "Core Lightning", remedy })
}

impl Cln {
    fn info(&self, channel: Channel) -> ChannelInfo {
        let ready = channel.state == NORMAL;
        let openings = self.funder.openings.all();
        let ours = openings.iter().find(|(_, o)| o.funding.is_some() && o.funding == channel.funding);
        ChannelInfo {
            channel_id: channel.channel_id.unwrap_or_default(),
            peer: channel.peer,
            capacity_sat: channel.total_msat / 1_000,
            outbound_msat: channel.spendable_msat,
            inbound_msat: channel.receivable_msat,
            usable: ready && channel.connected,
            why: (!ready).then(|| channel.status.last().cloned().unwrap_or(channel.state)),
            fallen: false,
            ready,
            funding: channel.funding,
            user_channel_id: ours.map_or(0, |(key, _)| key.user_channel_id()).to_string(),
        }
    }
}

#[async_trait]
impl LightningNode for Cln {
    fn node_id(&self) -> PublicKey {
        self.node_id
    }

    fn funder(&self) -> Arc<dyn ChannelFunder> {
        Arc::clone(&self.funder) as Arc<dyn ChannelFunder>
    }

    fn paying(self: Arc<Self>) -> Option<Arc<dyn PayingWallet>> {
        None
    }

    fn trouble(&self) -> Option<String> {
        self.trouble_now()
    }

    fn reserve_per_channel(&self) -> Amount {
        self.kept_back().1
    }

    fn balance(&self) -> Balance {
        let channels = self.channels_count.load(std::sync::atomic::Ordering::Relaxed);
        let (reserve, more) = self.kept_back();
        lock(&self.purse).balance(reserve, more, channels)
    }

    fn coins(&self) -> Vec<CoinInfo> {
        lock(&self.purse).list(self.network)
    }

    async fn new_address(&self) -> Result<Address, LightningError> {
        const METHOD: &str = "newaddr";
        let kind = if lock(&self.purse).coins.lack_taproot() { "p2tr" } else { "bech32" };
        let answer = self.rpc.call(METHOD, json!({ "addresstype": kind })).await?;
        let address = reply::text(&answer, kind).and_then(|address| address.parse::<Address<_>>().ok());
        let address = address.and_then(|address| address.require_network(self.network).ok());
        let address = address.ok_or(RpcError::Unexpected(METHOD))?;
        lock(&self.purse).add_script(address.script_pubkey());
        Ok(address)
    }

    async fn pay_on_chain(&self, _: PaymentId, _: &TxOut, _: FeeRate) -> Result<Psbt, LightningError> {
        elsewhere("`lightning-cli withdraw` pays on chain")
    }

    async fn child_paying(
        &self,
        _: &Transaction,
        _: u32,
        _: ChildFee<'_>,
    ) -> Result<Transaction, LightningError> {
        elsewhere(
            "its wallet spends only what is confirmed; `lightning-cli bumpchannelopen` is for its own channels",
        )
    }

    async fn invoice(
        &self,
        amount: Amount,
        description: &str,
        expiry: Duration,
    ) -> Result<Invoice, LightningError> {
        const METHOD: &str = "invoice";
        let label = format!("payjoind-{:032x}", random::<u128>());
        let amount_msat = amount.to_sat().saturating_mul(1_000);
        let expiry = expiry.as_secs();
        let params = json!({ "amount_msat": amount_msat, "label": label, "description": description, "expiry": expiry });
        let answer = self.rpc.call(METHOD, params).await?;
        let read = || {
            let (bolt11, payment_hash) =
                (reply::text(&answer, "bolt11")?, reply::text(&answer, "payment_hash")?);
            Some(Invoice { bolt11: bolt11.to_owned(), payment_hash: payment_hash.to_owned() })
        };
        Ok(read().ok_or(RpcError::Unexpected(METHOD))?)
    }

    fn can_refuse(&self) -> Result<(), LightningError> {
        Err(LightningError::Refused(TAKES_ALL.to_owned()))
    }

    async fn invoice_once(&self, _: Amount, _: Duration) -> Result<Invoice, LightningError> {
        Err(LightningError::Refused(TAKES_ALL.to_owned()))
    }

    /// lightningd pays an invoice once.
    async fn pay(&self, invoice: &str, amount: Option<Amount>) -> Result<PaymentOutcome, LightningError> {
        const METHOD: &str = "pay";
        let mut params = json!({ "bolt11": invoice });
        if let Some(amount) = amount {
            params["amount_msat"] = json!(amount.to_sat().saturating_mul(1_000));
        }
        let answer = self.rpc.ask(METHOD, params).await?;
        let msat = |name| answer.get(name).and_then(reply::msat);
        let read = || {
            let fee_msat = msat("amount_sent_msat")?.saturating_sub(msat("amount_msat")?);
            Some(PaymentOutcome { preimage: reply::text(&answer, "payment_preimage")?.to_owned(), fee_msat })
        };
        Ok(read().ok_or(RpcError::Unexpected(METHOD))?)
    }

    async fn connect(&self, peer: &PeerAddress) -> Result<Reached, LightningError> {
        Ok(self.funder.reach(peer, Turn::AskedFirst).await?)
    }

    fn missed(&self) -> Vec<(PeerAddress, String)> {
        self.funder.addresses.missed()
    }

    async fn peers(&self) -> Result<Vec<PeerInfo>, LightningError> {
        const METHOD: &str = "listpeers";
        let answer = self.rpc.call(METHOD, json!({})).await?;
        let peers = answer.get("peers").and_then(Value::as_array).ok_or(RpcError::Unexpected(METHOD))?;
        let info = |peer: &Value| {
            let node_id = reply::key(peer, "id")?;
            let at = peer.get("netaddr").and_then(|at| at.get(0)?.as_str());
            let address = at.and_then(|at| format!("{node_id}@{at}").parse().ok());
            Some(PeerInfo { node_id, address })
        };
        let connected = |peer: &&Value| peer.get("connected").and_then(Value::as_bool) == Some(true);
        Ok(peers.iter().filter(connected).filter_map(info).collect())
    }

    async fn channels(&self) -> Result<Vec<ChannelInfo>, LightningError> {
        let channels = self.funder.channels().await?;
        Ok(channels
            .into_iter()
            .filter(|channel| !channel.is_closed())
            .map(|channel| self.info(channel))
            .collect())
    }

    async fn closing_channels(&self) -> Result<Vec<ClosingChannel>, LightningError> {
        let channels = self.funder.channels().await?.into_iter().filter(Channel::is_closed);
        let closing = channels.filter_map(|channel| {
            Some(ClosingChannel {
                channel_id: channel.channel_id?,
                peer: channel.peer,
                funding: channel.funding?,
                sat: channel.ours_msat / 1_000,
                needs_sat: None,
            })
        });
        Ok(closing.collect())
    }

    async fn close(&self, channel_id: &str, force: bool) -> Result<(), LightningError> {
        // Seconds after which it closes alone; 0: never.
        let params = json!({ "id": channel_id, "unilateraltimeout": u8::from(force) });
        let rpc = self.rpc.clone();
        // It answers when it is done, which takes as long as the peer does.
        let closing = tokio::spawn(async move { rpc.ask("close", params).await });
        match timeout(CLOSE, closing).await {
            Ok(Ok(done)) => Ok(done.map(drop)?),
            Ok(Err(error)) => Err(LightningError::Away(error.to_string())),
            Err(_) => Ok(()),
        }
    }

    async fn closed(&self) -> Result<Vec<(OutPoint, ChannelEnd)>, LightningError> {
        self.funder.closed().await
    }

    async fn forget_closed(&self, funding: &OutPoint) -> Result<(), LightningError> {
        self.funder.forget_closed(funding).await
    }

    fn meet_peers(&self) {
        self.meets.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    async fn stopped(&self) -> Option<String> {
        let mut stop = self.stop.subscribe();
        // The sender is ours: it is not gone before us.
        let _ = stop.wait_for(|stop| *stop).await;
        None
    }

    async fn stop(&self) {
        self.stop.send_replace(true);
        let task = lock(&self.task).take();
        let Some(mut task) = task else { return };
        match timeout(STOP, &mut task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "what looks after Core Lightning failed"),
            // It waits for a lightningd that does not answer. What is cut is done again at the next start.
            Err(_) => task.abort(),
        }
    }
}

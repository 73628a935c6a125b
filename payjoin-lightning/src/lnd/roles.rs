//! LND's answers to what a receiver asks of a wallet and of a Lightning node.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bitcoin::secp256k1::PublicKey;
use bitcoin::{Address, Amount, FeeRate, OutPoint, Psbt, ScriptBuf, Transaction, TxOut};
use payjoin_core::{
    ChannelEnd, CheckedProposal, Coin, Holder, PayingWallet, PaymentId, PeerAddress, Reserve,
    ResourceRequest, Wallet, WalletError,
};
use serde::de::IgnoredAny;

use super::calls::CLOSE;
use super::node::Lnd;
use super::payments;
use crate::addresses::Turn;
use crate::{
    Balance, ChannelFunder, ChannelInfo, ChildFee, ClosingChannel, CoinInfo, Invoice, LightningError,
    LightningNode, PaymentOutcome, PeerInfo, Reached,
};

#[async_trait]
impl Wallet for Lnd {
    async fn owns(&self, scripts: &[ScriptBuf]) -> Result<Vec<bool>, WalletError> {
        Ok(self.parts.wallet.owns(scripts).await?)
    }

    /// Nothing while LND is in trouble: it has not taken the locks again, for example.
    async fn reserve(
        &self,
        holder: Holder,
        request: &ResourceRequest,
        shown: &[OutPoint],
    ) -> Result<(Vec<Coin>, Reserve), WalletError> {
        match self.parts.trouble() {
            Some(trouble) => Err(WalletError::Away(trouble)),
            None => Ok(self.parts.wallet.reserve(holder, request, shown).await?),
        }
    }

    async fn hold(&self, holder: Holder, coins: &[OutPoint]) -> Result<(), WalletError> {
        Ok(self.parts.wallet.hold(holder, coins).await?)
    }

    async fn sign(&self, proposal: &CheckedProposal) -> Result<Psbt, WalletError> {
        self.parts.wallet.sign(proposal).await
    }

    async fn child(&self, parent: &Transaction, vout: u32, fee: Amount) -> Result<Transaction, WalletError> {
        self.parts.wallet.child(parent, vout, &|_| Some(fee)).await
    }
}

#[async_trait]
impl LightningNode for Lnd {
    fn node_id(&self) -> PublicKey {
        self.parts.node_id
    }

    fn funder(&self) -> Arc<dyn ChannelFunder> {
        Arc::clone(&self.parts.funder) as Arc<dyn ChannelFunder>
    }

    /// `lncli` pays.
    fn paying(self: Arc<Self>) -> Option<Arc<dyn PayingWallet>> {
        None
    }

    fn trouble(&self) -> Option<String> {
        self.parts.trouble()
    }

    fn reserve_per_channel(&self) -> Amount {
        self.parts.kept().per_channel
    }

    fn balance(&self) -> Balance {
        self.parts.balance()
    }

    fn coins(&self) -> Vec<CoinInfo> {
        self.parts.wallet.coins()
    }

    async fn new_address(&self) -> Result<Address, LightningError> {
        let taproot = self.parts.wallet.look(|locks| locks.coins().lack_taproot());
        Ok(self.parts.wallet.address(taproot, false).await?)
    }

    async fn pay_on_chain(&self, _: PaymentId, _: &TxOut, _: FeeRate) -> Result<Psbt, LightningError> {
        Err(LightningError::Elsewhere { node: "LND", remedy: "pay with `lncli sendcoins`" })
    }

    async fn child_paying(
        &self,
        parent: &Transaction,
        vout: u32,
        fee: ChildFee<'_>,
    ) -> Result<Transaction, LightningError> {
        Ok(self.parts.wallet.child(parent, vout, fee).await?)
    }

    async fn invoice(
        &self,
        amount: Amount,
        description: &str,
        expiry: Duration,
    ) -> Result<Invoice, LightningError> {
        Ok(payments::invoice(&self.parts.client, amount, description, expiry).await?)
    }

    fn can_refuse(&self) -> Result<(), LightningError> {
        Ok(())
    }

    async fn invoice_once(&self, amount: Amount, expiry: Duration) -> Result<Invoice, LightningError> {
        self.parts.held.invoice(amount, "", expiry).await
    }

    async fn pay(&self, invoice: &str, amount: Option<Amount>) -> Result<PaymentOutcome, LightningError> {
        Ok(payments::pay(&self.parts.client, invoice, amount).await?)
    }

    async fn connect(&self, peer: &PeerAddress) -> Result<Reached, LightningError> {
        let reached = self.parts.funder.reach(peer, Turn::AskedFirst).await?;
        self.parts.funder.tell_of(self.parts.channels.refresh().await?);
        Ok(reached)
    }

    fn missed(&self) -> Vec<(PeerAddress, String)> {
        self.parts.funder.addresses.missed()
    }

    async fn peers(&self) -> Result<Vec<PeerInfo>, LightningError> {
        Ok(self.parts.channels.look(|seen| seen.peers.clone()))
    }

    async fn channels(&self) -> Result<Vec<ChannelInfo>, LightningError> {
        let key = |funding: &OutPoint| self.parts.funder.key(funding);
        let mut channels = self.parts.channels.look(|seen| seen.channels.clone());
        for channel in &mut channels {
            if let Some(key) = channel.funding.as_ref().and_then(key) {
                channel.user_channel_id = key.user_channel_id().to_string();
            }
        }
        Ok(channels)
    }

    async fn closing_channels(&self) -> Result<Vec<ClosingChannel>, LightningError> {
        Ok(self.parts.channels.look(|seen| seen.closing.clone()))
    }

    async fn close(&self, channel_id: &str, force: bool) -> Result<(), LightningError> {
        let unknown = |_| {
            LightningError::Refused("no such channel: use the channel id as the list shows it".to_owned())
        };
        let OutPoint { txid, vout } = channel_id.parse().map_err(unknown)?;
        let rest = format!("/{txid}/{vout}?force={force}");
        let mut told = self.parts.client.stream(&CLOSE, &rest, None).await?;
        told.next::<IgnoredAny>().await?;
        self.parts.channels.changed();
        Ok(())
    }

    async fn closed(&self) -> Result<Vec<(OutPoint, ChannelEnd)>, LightningError> {
        Ok(self.parts.channels.look(|seen| self.parts.funder.ours(&seen.closed)))
    }

    async fn forget_closed(&self, funding: &OutPoint) -> Result<(), LightningError> {
        let forgotten = self.parts.funder.forget_closed(funding).await;
        forgotten.map_err(|error| LightningError::Refused(error.to_string()))
    }

    async fn stopped(&self) -> Option<String> {
        self.ended().await;
        None
    }

    async fn stop(&self) {
        self.end().await;
    }
}

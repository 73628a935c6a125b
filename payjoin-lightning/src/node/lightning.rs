//! The embedded node's answers to what a receiver asks of a Lightning node.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bitcoin::secp256k1::PublicKey;
use bitcoin::{Address, Amount, FeeRate, OutPoint, Psbt, Transaction, TxOut};
use payjoin_core::{ChannelEnd, PayingWallet, PaymentId, PeerAddress};

use super::running::Node;
use crate::{
    Balance, ChannelFunder, ChannelInfo, ChildFee, ClosingChannel, CoinInfo, Invoice, LightningError,
    LightningNode, PaymentOutcome, PeerInfo, Reached,
};

fn refused(error: impl std::fmt::Display) -> LightningError {
    LightningError::Refused(error.to_string())
}

#[async_trait]
impl LightningNode for Node {
    fn node_id(&self) -> PublicKey {
        Self::node_id(self)
    }

    fn funder(&self) -> Arc<dyn ChannelFunder> {
        Self::funder(self)
    }

    fn paying(self: Arc<Self>) -> Option<Arc<dyn PayingWallet>> {
        Some(self)
    }

    fn trouble(&self) -> Option<String> {
        Self::trouble(self)
    }

    fn older_copy(&self) -> Option<&'static str> {
        Self::older_copy(self)
    }

    fn seed_elsewhere(&self) -> Option<String> {
        Self::seed_elsewhere(self)
    }

    fn listening(&self) -> Option<SocketAddr> {
        Self::listening(self)
    }

    fn reserve_per_channel(&self) -> Amount {
        Self::reserve_per_channel(self)
    }

    fn balance(&self) -> Balance {
        Self::balance(self)
    }

    fn coins(&self) -> Vec<CoinInfo> {
        self.wallet().coins()
    }

    async fn new_address(&self) -> Result<Address, LightningError> {
        self.wallet().new_address().map_err(refused)
    }

    async fn pay_on_chain(
        &self,
        payment: PaymentId,
        output: &TxOut,
        rate: FeeRate,
    ) -> Result<Psbt, LightningError> {
        Self::pay_on_chain(self, payment, output, rate).map_err(refused)
    }

    async fn child_paying(
        &self,
        parent: &Transaction,
        vout: u32,
        fee: ChildFee<'_>,
    ) -> Result<Transaction, LightningError> {
        Self::child(self, parent, vout, fee).map_err(refused)
    }

    async fn invoice(
        &self,
        amount: Amount,
        description: &str,
        expiry: Duration,
    ) -> Result<Invoice, LightningError> {
        let invoice = Self::invoice(self, Some(amount), description, expiry).map_err(refused)?;
        Ok(Invoice { bolt11: invoice.to_string(), payment_hash: invoice.payment_hash().to_string() })
    }

    fn can_refuse(&self) -> Result<(), LightningError> {
        Ok(())
    }

    /// Each payment that is here is asked about.
    async fn invoice_once(&self, amount: Amount, expiry: Duration) -> Result<Invoice, LightningError> {
        LightningNode::invoice(self, amount, "", expiry).await
    }

    async fn pay(&self, invoice: &str, amount: Option<Amount>) -> Result<PaymentOutcome, LightningError> {
        Self::pay(self, invoice, amount).await.map_err(refused)
    }

    async fn connect(&self, peer: &PeerAddress) -> Result<Reached, LightningError> {
        Self::connect(self, peer).await.map_err(refused)
    }

    fn missed(&self) -> Vec<(PeerAddress, String)> {
        Self::missed(self)
    }

    async fn peers(&self) -> Result<Vec<PeerInfo>, LightningError> {
        Ok(Self::peers(self))
    }

    async fn channels(&self) -> Result<Vec<ChannelInfo>, LightningError> {
        Ok(Self::channels(self))
    }

    async fn closing_channels(&self) -> Result<Vec<ClosingChannel>, LightningError> {
        Ok(Self::closing_channels(self))
    }

    async fn close(&self, channel_id: &str, force: bool) -> Result<(), LightningError> {
        Self::close(self, channel_id, force).map_err(refused)
    }

    async fn closed(&self) -> Result<Vec<(OutPoint, ChannelEnd)>, LightningError> {
        Self::closed(self).map_err(refused)
    }

    async fn forget_closed(&self, funding: &OutPoint) -> Result<(), LightningError> {
        Self::forget_closed(self, funding).map_err(refused)
    }

    fn meet_peers(&self) {
        Self::meet_peers(self);
    }

    async fn stopped(&self) -> Option<String> {
        Self::stopped(self).await
    }

    fn broken(&self) -> Option<String> {
        Self::broken(self).map(str::to_owned)
    }

    async fn stop(&self) {
        Self::stop(self).await;
    }
}

//! The node as the chain and the wallet of an exchange.

use std::sync::Arc;

use async_trait::async_trait;
use bitcoin::{Amount, FeeRate, OutPoint, Psbt, ScriptBuf, Transaction, Txid};
use lightning::chain::BestBlock;
use payjoin_core::{
    Broadcast, Chain, ChainError, CheckedProposal, Coin, Holder, Inspection, PayingWallet, Prices, Reserve,
    ResourceRequest, Wallet, WalletError,
};

use super::chain_source::ChainSource;
use super::health::ChainHealth;
use super::running::Node;
use super::view::ChainView;

#[async_trait]
impl Chain for Node {
    /// Away, too, while the chain stands still for us, where nobody would see what becomes of an offer, and with an older
    /// copy of the database, which does not know what was offered before.
    async fn inspect(&self, transaction: &Transaction) -> Result<Inspection, ChainError> {
        match self.trouble() {
            Some(trouble) => Err(ChainError::Away(trouble)),
            None => self.chain.inspect(transaction).await,
        }
    }

    async fn spent(&self, coins: &[OutPoint]) -> Result<Vec<bool>, ChainError> {
        self.chain.spent(coins).await
    }

    async fn broadcast(&self, transaction: &Transaction) -> Result<Broadcast, ChainError> {
        self.chain.broadcast(transaction).await
    }

    async fn submit_package(&self, package: &[Transaction]) -> Result<Broadcast, ChainError> {
        self.chain.submit_package(package).await
    }

    async fn prices(&self, rivals: &[Txid]) -> Result<Prices, ChainError> {
        self.chain.prices(rivals).await
    }
}

impl ChainView for Node {
    fn source(&self) -> &Arc<dyn ChainSource> {
        self.chain()
    }

    fn health(&self) -> &Arc<ChainHealth> {
        Self::health(self)
    }

    fn best_block(&self) -> BestBlock {
        BestBlock::new(Self::best_block(self), Self::height(self))
    }

    fn fee_rate(&self) -> FeeRate {
        Self::fee_rate(self)
    }

    fn fee_warning(&self) -> Option<String> {
        self.fees.warning()
    }
}

#[async_trait]
impl Wallet for Node {
    async fn owns(&self, scripts: &[ScriptBuf]) -> Result<Vec<bool>, WalletError> {
        Ok(self.wallet.owns(scripts))
    }

    async fn reserve(
        &self,
        holder: Holder,
        request: &ResourceRequest,
        shown: &[OutPoint],
    ) -> Result<(Vec<Coin>, Reserve), WalletError> {
        Ok(Self::reserve(self, holder, &request.payer_script, shown))
    }

    async fn hold(&self, holder: Holder, coins: &[OutPoint]) -> Result<(), WalletError> {
        self.wallet.hold(holder, coins);
        Ok(())
    }

    async fn scripts(&self, count: usize) -> Result<Vec<ScriptBuf>, WalletError> {
        self.wallet.scripts(count).map_err(|error| WalletError::Refused(error.to_string()))
    }

    async fn sign(&self, proposal: &CheckedProposal) -> Result<Psbt, WalletError> {
        let signed = self.wallet.sign(proposal.psbt(), proposal.our_inputs());
        signed.map_err(|error| WalletError::Refused(error.to_string()))
    }

    async fn child(&self, parent: &Transaction, vout: u32, fee: Amount) -> Result<Transaction, WalletError> {
        Self::child(self, parent, vout, |_| Some(fee))
            .map_err(|error| WalletError::Refused(error.to_string()))
    }
}

#[async_trait]
impl PayingWallet for Node {
    async fn height(&self) -> Result<u32, WalletError> {
        Ok(Self::height(self))
    }

    async fn spend(&self, coins: &[OutPoint]) -> Result<Option<(Transaction, u32)>, WalletError> {
        Ok(coins.iter().find_map(|coin| self.wallet.spent_by(*coin)))
    }

    async fn complete(&self, original: &Psbt, proposal: &Psbt) -> Result<Transaction, WalletError> {
        let signed = self.wallet.sign_payjoin(original, proposal);
        signed.map_err(|error| WalletError::Refused(error.to_string()))
    }

    async fn sent(&self, transaction: &Transaction) {
        self.wallet.saw(transaction);
    }
}

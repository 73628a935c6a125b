//! The wallet of the examples: one P2WPKH key, whose coins are read once.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use bitcoin::secp256k1::{PublicKey, Secp256k1};
use bitcoin::sighash::SighashCache;
use bitcoin::{Address, CompressedPublicKey, Network, OutPoint, PrivateKey, Psbt, ScriptBuf, Witness, ecdsa};
use payjoin_core::{CheckedProposal, Coin, Exchanges, Holder, Reserve, ResourceRequest, Wallet, WalletError};
use payjoin_io::Store;

use crate::bitcoind::Bitcoind;

pub(crate) struct OneKey {
    key: PrivateKey,
    address: Address,
    coins: Vec<Coin>,
    held: Mutex<HashMap<Holder, Vec<OutPoint>>>,
}

impl OneKey {
    /// Who held coins when the last process ended holds them.
    pub(crate) async fn new(
        wif: &str,
        node: &Bitcoind,
        store: &Store,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let key = PrivateKey::from_wif(wif)?;
        let public = CompressedPublicKey::from_private_key(&Secp256k1::new(), &key)?;
        let address = Address::p2wpkh(&public, Network::Regtest);
        let coins = node.coins(&address).await?;
        let held = Mutex::new(store.holds().await?.into_iter().collect());
        Ok(Self { key, address, coins, held })
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }
}

#[async_trait]
impl Wallet for OneKey {
    async fn owns(&self, scripts: &[ScriptBuf]) -> Result<Vec<bool>, WalletError> {
        Ok(scripts.iter().map(|script| *script == self.address.script_pubkey()).collect())
    }

    async fn reserve(
        &self,
        holder: Holder,
        _: &ResourceRequest,
        prefer: &[OutPoint],
    ) -> Result<(Vec<Coin>, Reserve), WalletError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let is_free = |coin: &&Coin| !held.values().flatten().any(|held| *held == coin.outpoint);
        let shown = self.coins.iter().find(|coin| prefer.contains(&coin.outpoint));
        let coin = shown.or_else(|| self.coins.iter().find(is_free));
        held.insert(holder, coin.map(|coin| coin.outpoint).into_iter().collect());
        let balance = coin.map(|coin| coin.txout.value).unwrap_or_default();
        Ok((coin.cloned().into_iter().collect(), Reserve { balance, ..Reserve::default() }))
    }

    async fn hold(&self, holder: Holder, coins: &[OutPoint]) -> Result<(), WalletError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert(holder, coins.to_vec());
        Ok(())
    }

    async fn sign(&self, proposal: &CheckedProposal) -> Result<Psbt, WalletError> {
        let (secp, mut psbt) = (Secp256k1::new(), proposal.psbt().clone());
        let mut cache = SighashCache::new(proposal.psbt().unsigned_tx.clone());
        for index in proposal.our_inputs() {
            let hash = proposal.psbt().sighash_ecdsa(*index, &mut cache);
            let (hash, sighash_type) = hash.map_err(|error| WalletError::Refused(error.to_string()))?;
            let signature = secp.sign_ecdsa(&hash, &self.key.inner);
            let signature = ecdsa::Signature { signature, sighash_type };
            let witness = Witness::p2wpkh(&signature, &PublicKey::from_secret_key(&secp, &self.key.inner));
            psbt.inputs[*index].final_script_witness = Some(witness);
        }
        Ok(psbt)
    }
}

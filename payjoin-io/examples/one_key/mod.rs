//! The wallet of the examples: one P2WPKH key, whose coins are read once.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use bitcoin::secp256k1::{PublicKey, Secp256k1};
use bitcoin::sighash::SighashCache;
use bitcoin::{Address, CompressedPublicKey, Network, OutPoint, PrivateKey, Psbt, ScriptBuf, Witness, ecdsa};
use payjoin_core::{CheckedProposal, Coin, Reserve, ResourceRequest};
use payjoin_io::{HostError, Store, Wallet};

use crate::bitcoind::Bitcoind;

pub(crate) struct OneKey {
    key: PrivateKey,
    address: Address,
    coins: Vec<Coin>,
    locked: Mutex<Vec<OutPoint>>,
}

impl OneKey {
    /// Coins that `store` locked stay locked.
    pub(crate) async fn new(
        wif: &str,
        node: &Bitcoind,
        store: &Store,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let key = PrivateKey::from_wif(wif)?;
        let public = CompressedPublicKey::from_private_key(&Secp256k1::new(), &key)?;
        let address = Address::p2wpkh(&public, Network::Regtest);
        let coins = node.coins(&address).await?;
        let locked = Mutex::new(store.locked_coins()?);
        Ok(Self { key, address, coins, locked })
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }
}

#[async_trait]
impl Wallet for OneKey {
    fn owns(&self, scripts: &[ScriptBuf]) -> Vec<bool> {
        scripts.iter().map(|script| *script == self.address.script_pubkey()).collect()
    }

    fn reserve(&self, _: &ResourceRequest, prefer: &[OutPoint]) -> Result<(Vec<Coin>, Reserve), HostError> {
        let mut locked = self.locked.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = self.coins.iter().find(|coin| prefer.contains(&coin.outpoint));
        let coin = shown.or_else(|| self.coins.iter().find(|coin| !locked.contains(&coin.outpoint)));
        locked.extend(coin.map(|coin| coin.outpoint));
        let balance = coin.map(|coin| coin.txout.value).unwrap_or_default();
        Ok((coin.cloned().into_iter().collect(), Reserve { balance, ..Reserve::default() }))
    }

    fn unlock(&self, coins: &[OutPoint]) {
        let mut locked = self.locked.lock().unwrap_or_else(PoisonError::into_inner);
        for coin in coins {
            locked.iter().position(|held| held == coin).map(|at| locked.swap_remove(at));
        }
    }

    async fn sign(&self, proposal: &CheckedProposal) -> Result<Psbt, HostError> {
        let (secp, mut psbt) = (Secp256k1::new(), proposal.psbt().clone());
        let mut cache = SighashCache::new(proposal.psbt().unsigned_tx.clone());
        for index in proposal.our_inputs() {
            let (hash, sighash_type) =
                proposal.psbt().sighash_ecdsa(*index, &mut cache).map_err(|e| HostError(e.to_string()))?;
            let signature = secp.sign_ecdsa(&hash, &self.key.inner);
            let signature = ecdsa::Signature { signature, sighash_type };
            let witness = Witness::p2wpkh(&signature, &PublicKey::from_secret_key(&secp, &self.key.inner));
            psbt.inputs[*index].final_script_witness = Some(witness);
        }
        Ok(psbt)
    }
}

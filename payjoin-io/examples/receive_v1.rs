//! A wallet of one key takes payjoins, on regtest and behind a TLS proxy that forwards ENDPOINT to 127.0.0.1:8078.

mod bitcoind;

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bitcoin::secp256k1::{PublicKey, Secp256k1, rand};
use bitcoin::sighash::SighashCache;
use bitcoin::{Address, CompressedPublicKey, Network, OutPoint, PrivateKey, Psbt, ScriptBuf, Witness, ecdsa};
use payjoin_core::*;
use payjoin_io::*;

struct OneKey {
    key: PrivateKey,
    script: ScriptBuf,
    coins: Vec<Coin>,
    locked: Mutex<Vec<OutPoint>>,
}

#[async_trait]
impl Wallet for OneKey {
    fn owns(&self, scripts: &[ScriptBuf]) -> Vec<bool> {
        scripts.iter().map(|script| *script == self.script).collect()
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

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, key, endpoint] = &arguments[..] else {
        println!("usage: receive_v1 http://USER:PASSWORD@HOST:PORT KEY_IN_WIF https://ENDPOINT");
        return Ok(());
    };
    let (node, key) = (Arc::new(bitcoind::Bitcoind::new(url)), PrivateKey::from_wif(key)?);
    let public = CompressedPublicKey::from_private_key(&Secp256k1::new(), &key)?;
    let address = Address::p2wpkh(&public, Network::Regtest);
    let (script, coins) = (address.script_pubkey(), node.coins(&address).await?);
    let store = Store::open("receive_v1.sqlite")?;
    store.recover().await?;
    let wallet = OneKey { key, script: script.clone(), coins, locked: Mutex::new(store.locked_coins()?) };
    let (wallet, funder) = (Arc::new(wallet), Arc::new(NoChannels));
    let (host, owed) = Host::new(node.clone(), wallet, funder, store, Policy::default(), now);
    let (id, change, expires) = (InvoiceId::from_entropy(rand::random()), script.clone(), now().plus(86_400));
    let invoice = Invoice { id, script, change, amount: None, created: now(), expires };
    host.store.insert_invoice(&invoice).await?;
    println!("{}", bip21_v1(&address, None, &format!("{endpoint}/{}", invoice.id))?);
    let (server, mut settler) = (Server::new(host.clone(), Limits::default()), Settler::new(host, owed)?);
    let tcp = Tcp::behind_tls_proxy("127.0.0.1:8078").await?;
    tokio::spawn(async move { server.run(&tcp, std::future::pending()).await });
    let mut height = node.height().await?;
    loop {
        let watched = settler.watched_outpoints();
        settler.on_mempool(&node.spends(&watched).await?).await;
        while height < node.height().await? {
            height += 1;
            settler.on_block(height, &node.block(height).await?).await;
            settler.on_tip(height).await;
        }
        settler.tick().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn now() -> Timestamp {
    Timestamp(SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs()))
}

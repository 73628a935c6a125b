//! A wallet of one key takes payjoins without a server of its own: `receive_v2 http://USER:PASSWORD@HOST:PORT
//! KEY_IN_WIF RELAY DIRECTORY`, with a bitcoind of regtest. Start it again and it goes on where it stopped.

mod bitcoind;
mod one_key;

use std::error::Error;
use std::sync::Arc;
use std::time::SystemTime;

use bitcoin::Network;
use bitcoin::secp256k1::rand;
use bitcoind::Bitcoind;
use one_key::OneKey;
use payjoin_core::*;
use payjoin_io::*;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, key, relay, directory] = &arguments[..] else {
        println!("usage: receive_v2 http://USER:PASSWORD@HOST:PORT KEY_IN_WIF RELAY DIRECTORY");
        return Ok(());
    };
    let (node, store) = (Arc::new(Bitcoind::new(url)), Arc::new(Store::open("receive_v2.sqlite")?));
    store.recover().await?;
    let wallet = Arc::new(OneKey::new(key, &node, &store).await?);
    let script = wallet.address().script_pubkey();
    let (host, owed) = Host::new(node.clone(), wallet, Arc::new(NoChannels), store, Policy::default(), now);

    let client = Arc::new(DirectClient::new(DirectSettings::default())?);
    let ohttp = Arc::new(Ohttp::new(client, vec![relay.clone()])?);
    let settings = PollSettings { directories: vec![directory.clone()], ..PollSettings::default() };
    let poller = Poller::new(host.clone(), ohttp, settings);
    if poller.resume().await? == 0 {
        let id = InvoiceId::from_entropy(rand::random());
        let (created, expires) = (now(), now().plus(86_400));
        let invoice = Invoice::new(id, script, created, expires);
        host.add_invoice(&invoice).await?;
        poller.open(&invoice, Network::Regtest).await?;
    }
    for invoice in poller.open_sessions().await? {
        if let Some(session) = poller.session(&invoice).await? {
            println!("{}", session.uri);
        }
    }

    Ok(node.watch(Settler::new(host, owed).await?).await?)
}

fn now() -> Timestamp {
    Timestamp(SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs()))
}

//! A wallet of one key takes payjoins: `receive_v1 http://USER:PASSWORD@HOST:PORT KEY_IN_WIF https://ENDPOINT`, with a
//! bitcoind of regtest, and a proxy that speaks TLS at ENDPOINT and forwards to 127.0.0.1:8078.

mod bitcoind;
mod one_key;

use std::error::Error;
use std::sync::Arc;
use std::time::SystemTime;

use bitcoin::secp256k1::rand;
use bitcoind::Bitcoind;
use one_key::OneKey;
use payjoin_core::*;
use payjoin_io::*;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, key, endpoint] = &arguments[..] else {
        println!("usage: receive_v1 http://USER:PASSWORD@HOST:PORT KEY_IN_WIF https://ENDPOINT");
        return Ok(());
    };
    let (node, store) = (Arc::new(Bitcoind::new(url)), Arc::new(Store::open("receive_v1.sqlite")?));
    store.recover().await?;
    let wallet = OneKey::new(key, &node, &store).await?;
    let (address, script) = (wallet.address().clone(), wallet.address().script_pubkey());
    let (wallet, funder) = (Arc::new(wallet), Arc::new(NoChannels));
    let (host, owed) = Host::new(node.clone(), wallet, funder, store, Policy::default(), now);
    let (id, expires) = (InvoiceId::from_entropy(rand::random()), now().plus(86_400));
    let invoice = Invoice::new(id, script, now(), expires);
    host.add_invoice(&invoice).await?;
    println!("{}", bip21_v1(&address, None, &format!("{endpoint}/{}", invoice.id))?);
    let (server, settler) = (Server::new(host.clone(), Limits::default()), Settler::new(host, owed).await?);
    let tcp = Tcp::behind_tls_proxy("127.0.0.1:8078").await?;
    tokio::spawn(async move { server.run(&tcp, std::future::pending()).await });
    Ok(node.watch(settler).await?)
}

fn now() -> Timestamp {
    Timestamp(SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs()))
}

//! The reference sender pays us through a real directory; the wallet and the way to the chain are those of the examples.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "../examples/bitcoind/mod.rs"]
mod bitcoind;
#[path = "../examples/one_key/mod.rs"]
mod one_key;
mod support;

use std::sync::Arc;
use std::time::Duration;

use bitcoin::{Amount, Network, PrivateKey};
use one_key::OneKey;
use payjoin_core::{Invoice, InvoiceId, NoChannels, Policy, SessionEnd};
use payjoin_io::{Host, Ohttp, PollSettings, Poller, Settler, Store};
use serde_json::json;
use support::{Bitcoind, Mailroom, Recorder, free_port, now, send};

#[tokio::test(flavor = "multi_thread")]
async fn payjoin_cli_pays_by_payjoin_through_a_directory() {
    let (node, relay, directory) = (Bitcoind::start().await, Mailroom::start(), Mailroom::start());
    let key = PrivateKey::from_slice(&[7; 32], Network::Regtest).unwrap();
    let rpc = Arc::new(bitcoind::Bitcoind::new(&node.url_with_password()));
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(folder.path().join("store")).unwrap());
    let address = OneKey::new(&key.to_wif(), &rpc, &store).await.unwrap().address().clone();
    node.call("miner", "sendtoaddress", json!([address.to_string(), 2])).await;
    node.mine(1).await;
    let wallet = Arc::new(OneKey::new(&key.to_wif(), &rpc, &store).await.unwrap());
    let (host, owed) = Host::new(rpc.clone(), wallet, Arc::new(NoChannels), store, Policy::default(), now);
    let settler = Settler::new(host.clone(), owed).await.unwrap();
    tokio::spawn(async move { rpc.watch(settler).await });

    // One relay and one directory are dead: others stand in.
    let dead = format!("http://127.0.0.1:{}", free_port());
    let client = Recorder::new(None);
    let ohttp = Arc::new(Ohttp::new(client.clone(), vec![dead.clone(), relay.url()]).unwrap());
    let directories = vec![dead, directory.url()];
    let poller = Poller::new(host.clone(), ohttp, PollSettings { directories, ..PollSettings::default() });
    let (id, script) = (InvoiceId::from_entropy([1; 16]), address.script_pubkey());
    let amount = Some(Amount::from_sat(1_000_000));
    let invoice = Invoice { amount, ..Invoice::new(id, script, now(), now().plus(600)) };
    host.store.insert_invoice(&invoice).await.unwrap();
    let uri = poller.open(&invoice, Network::Regtest).await.unwrap();

    let txid = tokio::task::block_in_place(|| send(&node, &relay.url(), &uri));
    let payjoin = node.call("", "getrawtransaction", json!([txid, true])).await;
    assert_eq!(payjoin["vin"].as_array().unwrap().len(), 2);
    let end = loop {
        match poller.session(&invoice.id).await.unwrap().unwrap().end {
            Some(end) => break end,
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    assert_eq!(end, SessionEnd::Answered);
    client.assert_no_ciphertext_twice();
    node.mine(6).await;
    while !host.store.obligations().await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let found = node.call("", "scantxoutset", json!(["start", [format!("addr({address})")]])).await;
    assert_eq!(found["unspents"].as_array().unwrap().len(), 1);
    assert!(found["total_amount"].as_f64().unwrap() > 2.009, "{found}");
}

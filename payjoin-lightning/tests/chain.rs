//! A real bitcoind as source of the chain, and blocks that do not come.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod node_support;

use std::sync::Arc;
use std::time::Duration;

use bitcoin::{Amount, OutPoint, ScriptBuf, TxOut};
use node_support::{Bitcoind, Setup, build, config, free_port, nowhere, run_with, sign, start, until};
use payjoin_core::{Acceptance, Broadcast, Chain, ChainError};
use payjoin_lightning::node::{ChainSource, Node, NodeConfig, Rpc, RpcAuth, RpcError};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A script that is nobody's.
fn foreign() -> ScriptBuf {
    ScriptBuf::from_hex(&format!("0020{}", "11".repeat(32))).unwrap()
}

/// A transaction that any node knows: of the first block of regtest.
fn any_transaction() -> bitcoin::Transaction {
    bitcoin::blockdata::constants::genesis_block(bitcoin::Network::Regtest).txdata.remove(0)
}

async fn is_ready(node: &Node) -> bool {
    !matches!(node.inspect(&any_transaction()).await, Err(ChainError::Away(_)))
}

#[tokio::test(flavor = "multi_thread")]
async fn another_chain_under_the_same_address_is_told_of_and_nothing_is_offered() {
    let bitcoind = Bitcoind::start().await;
    let (folder, store) = (tempfile::tempdir().unwrap(), Arc::default());
    let config = NodeConfig { patience: Duration::from_secs(2), ..config(&folder) };
    let node = run_with(&bitcoind, config, &store).await;
    bitcoind.mine_for(1, &[&node]).await;
    assert!(node.health().trouble().is_none() && is_ready(&node).await);
    bitcoind.give_way_to_another_chain().await;
    until("it is told of", || node.health().trouble().is_some()).await;
    let trouble = node.health().trouble().unwrap();
    assert!(trouble.contains("another chain"), "{trouble}");
    assert!(!is_ready(&node).await);
    node.stop().await;
}

/// A bitcoind that has pruned blocks the node has not seen, and one that has them all, at this address.
async fn pruned() -> (Bitcoind, Setup, Bitcoind, String) {
    let address = format!("127.0.0.1:{}", free_port());
    let full = Bitcoind::with(&["-listen=1", &format!("-bind={address}")]).await;
    let pruned = Bitcoind::with(&["-prune=1", "-fastprune"]).await;
    full.call("createwallet", json!(["miner"])).await;
    full.mine(101).await;
    pruned.call("addnode", json!([address, "onetry"])).await;
    pruned.reaches(101).await;
    let setup = start(&pruned).await;
    setup.node.stop().await;
    for _ in 0..10 {
        full.mine(50).await;
    }
    pruned.reaches(601).await;
    pruned.call("pruneblockchain", json!([310])).await;
    for peer in pruned.call("getpeerinfo", json!([])).await.as_array().unwrap() {
        pruned.call("disconnectnode", json!(["", peer["id"]])).await;
    }
    (pruned, setup, full, address)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_waits_for_pruned_blocks_until_a_peer_of_bitcoind_gives_them_back() {
    let (pruned, setup, _full, address) = pruned().await;
    let config = config(&setup.folder);
    let health = Arc::clone(&config.health);
    let (source, store) = (pruned.source(), Arc::clone(&setup.store) as Arc<_>);
    let starting = tokio::spawn(Node::start(config, source, store, None));
    until("the start says what it waits for", || health.trouble().is_some()).await;
    let trouble = health.trouble().unwrap();
    assert!(trouble.contains("pruned") && trouble.contains("0 peers"), "{trouble}");
    pruned.call("addnode", json!([address, "onetry"])).await;
    let node = starting.await.unwrap().unwrap();
    assert_eq!((node.height(), health.trouble()), (601, None));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bitcoind_inspects_a_transaction_and_finds_spenders_in_the_mempool() {
    let bitcoind = Bitcoind::start().await;
    let setup = start(&bitcoind).await;
    let coin = setup.earn(&bitcoind, 100_000).await;
    let psbt = build(&setup.node, TxOut { value: Amount::from_sat(20_000), script_pubkey: foreign() });
    let unsigned = psbt.unsigned_tx.clone();
    let signed = sign(&setup.node, &psbt);

    let found = bitcoind.chain.inspect(&signed).await.unwrap();
    assert_eq!(found.acceptable, Acceptance::Yes);
    assert_eq!(found.prevouts, [psbt.inputs[0].witness_utxo.clone()]);
    let refused = bitcoind.chain.inspect(&unsigned).await.unwrap().acceptable;
    assert!(matches!(refused, Acceptance::No(_)), "{refused:?}");
    assert_eq!(bitcoind.chain.spenders(&[coin, nowhere()]).await.unwrap(), [None, None]);
    assert_eq!(bitcoind.chain.spent(&[coin, nowhere()]).await.unwrap(), [false, false]);
    assert_eq!(bitcoind.chain.spent(&[]).await.unwrap(), [] as [bool; 0]);

    for _ in 0..2 {
        bitcoind.broadcast(&signed).await;
    }
    assert_eq!(bitcoind.chain.inspect(&signed).await.unwrap().prevouts, [None], "spent in the mempool");
    let mut child = signed.clone();
    child.input.truncate(1);
    child.input[0].previous_output = OutPoint::new(signed.compute_txid(), 1);
    assert_eq!(bitcoind.chain.inspect(&child).await.unwrap().prevouts, [None], "its parent can be replaced");
    let spenders = bitcoind.chain.spenders(&[nowhere(), coin, coin]).await.unwrap();
    assert_eq!(spenders, [None, Some(signed.clone()), Some(signed.clone())]);
    assert_eq!(bitcoind.chain.spent(&[nowhere(), coin]).await.unwrap(), [false, true]);
    let info = bitcoind.call("getmempoolinfo", json!([])).await;
    let relayed = Amount::from_btc(info["minrelaytxfee"].as_f64().unwrap()).unwrap();
    let floor = bitcoind.chain.inspect(&signed).await.unwrap().floor;
    assert_eq!(floor.to_sat_per_kwu(), relayed.to_sat().div_ceil(4), "the mempool is not full");
    bitcoind.mine(1).await;
    bitcoind.broadcast(&signed).await;
    let mut conflict = signed.clone();
    conflict.output.pop();
    let refused = bitcoind.chain.broadcast(&conflict).await;
    assert!(matches!(refused, Ok(Broadcast::Refused(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rpc_reads_a_changed_cookie_again_and_names_bad_credentials() {
    let bitcoind = Bitcoind::start().await;
    let folder = tempfile::tempdir().unwrap();
    let cookie = folder.path().join("cookie");
    let rpc = bitcoind.client(RpcAuth::Cookie(cookie.clone()));
    assert!(matches!(rpc.call("getblockcount", json!([])).await, Err(RpcError::Cookie { .. })));
    std::fs::write(&cookie, "__cookie__:old").unwrap();
    assert!(matches!(rpc.call("getblockcount", json!([])).await, Err(RpcError::Unauthorized)));
    std::fs::copy(bitcoind.cookie(), &cookie).unwrap();
    assert_eq!(rpc.call("getblockcount", json!([])).await.unwrap(), 101);
    let batch = rpc.batch(&[("getblockcount", json!([])), ("nonsense", json!([]))]).await.unwrap();
    assert!(matches!(&batch[..], [Ok(_), Err(RpcError::Server { code: -32601, .. })]), "{batch:?}");
}

#[tokio::test]
async fn rpc_reports_a_full_work_queue_as_such() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let auth = RpcAuth::UserPassword { user: "u".into(), password: "p".into() };
    let rpc = Rpc::new(url, auth).unwrap();
    let serve = async {
        let mut request = [0; 4096];
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let length = stream.read(&mut request).await.unwrap();
            let head = String::from_utf8_lossy(&request[..length]).into_owned();
            assert!(head.contains("authorization: Basic dTpw\r\n"), "{head}");
            let answer =
                "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 4\r\n\r\nfull";
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    };
    let answer = tokio::select! {
        answer = rpc.call("getblockcount", json!([])) => answer,
        never = serve => never,
    };
    assert!(matches!(answer, Err(RpcError::Busy)), "{answer:?}");
}

//! A regtest bitcoind of one's own.

use std::path::PathBuf;

use bitcoin::{Amount, Psbt};
use serde_json::{Value, json};
use tempfile::TempDir;
use xtask_programs::bitcoind::Regtest;
use xtask_programs::process::Server;

use super::free_port;

pub(crate) struct Bitcoind {
    // Ends before its folder goes.
    server: Server,
    folder: TempDir,
    regtest: Regtest,
    client: reqwest::Client,
}

impl Bitcoind {
    /// With wallets `payer` and `receiver`, each with three coins of 1 BTC.
    pub(crate) async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let regtest = Regtest::for_a_test(&folder.path().join("bitcoind"), free_port()).unwrap();
        let server = regtest.start().unwrap();
        let bitcoind = Self { server, folder, regtest, client: reqwest::Client::new() };
        for wallet in ["miner", "payer", "receiver"] {
            bitcoind.call("", "createwallet", json!([wallet])).await;
        }
        bitcoind.mine(110).await;
        for wallet in ["payer", "receiver"] {
            for _ in 0..3 {
                let address = bitcoind.call(wallet, "getnewaddress", json!([])).await;
                bitcoind.call("miner", "sendtoaddress", json!([address, 1])).await;
            }
        }
        bitcoind.mine(1).await;
        bitcoind
    }

    pub(crate) fn url(&self, wallet: &str) -> String {
        format!("{}/wallet/{wallet}", self.regtest.url())
    }

    /// The node with its password.
    pub(crate) fn url_with_password(&self) -> String {
        let cookie = std::fs::read_to_string(self.cookie()).unwrap();
        self.regtest.url().replace("http://", &format!("http://{cookie}@"))
    }

    pub(crate) fn cookie(&self) -> PathBuf {
        self.regtest.cookie()
    }

    async fn ask(&self, wallet: &str, method: &str, params: Value) -> Option<Value> {
        let cookie = std::fs::read_to_string(self.cookie()).ok()?;
        let (user, password) = cookie.split_once(':')?;
        let url = if wallet.is_empty() { self.regtest.url() } else { self.url(wallet) };
        let request = self.client.post(url).basic_auth(user, Some(password));
        let body = json!({ "id": 0, "method": method, "params": params });
        request.json(&body).send().await.ok()?.json().await.ok()
    }

    pub(crate) async fn call(&self, wallet: &str, method: &str, params: Value) -> Value {
        let answer = self.ask(wallet, method, params).await.expect("bitcoind answers");
        assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
        answer["result"].clone()
    }

    pub(crate) async fn mine(&self, blocks: u32) {
        let address = self.call("miner", "getnewaddress", json!([])).await;
        self.call("miner", "generatetoaddress", json!([blocks, address])).await;
    }

    /// The payer's Original: signed, finalized, not broadcast.
    pub(crate) async fn original(&self, address: &str, amount: Amount) -> Psbt {
        let options = json!({ "fee_rate": 5, "lockUnspents": true });
        let outputs = json!([{ address: amount.to_btc() }]);
        let funded = self.call("payer", "walletcreatefundedpsbt", json!([[], outputs, 0, options])).await;
        self.sign(funded["psbt"].as_str().unwrap()).await
    }

    /// The payer's signatures, finalized.
    pub(crate) async fn sign(&self, psbt: &str) -> Psbt {
        let signed = self.call("payer", "walletprocesspsbt", json!([psbt])).await;
        assert_eq!(signed["complete"], true, "{signed}");
        signed["psbt"].as_str().unwrap().parse().unwrap()
    }

    /// Puts a payment into the mempool and gives its id.
    pub(crate) async fn broadcast(&self, psbt: Psbt) -> String {
        let transaction = bitcoin::consensus::encode::serialize_hex(&psbt.extract_tx().unwrap());
        self.call("", "sendrawtransaction", json!([transaction])).await.as_str().unwrap().to_owned()
    }
}

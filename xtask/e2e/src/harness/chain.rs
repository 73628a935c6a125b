//! A regtest chain: one bitcoind of our own, and its wallets.

use std::cell::RefCell;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::{Address, Amount, OutPoint, Psbt, Transaction, TxOut, Txid};
use serde_json::{Value, json};

use super::json::Fields;
use super::wait;
use xtask_programs::bitcoind::Regtest;
use xtask_programs::ports;
use xtask_programs::process::Server;

/// The wallet that mines. It only hands out coins.
pub(super) const MINER: &str = "miner";

/// Name and password for programs that cannot read the cookie, or not read it again after a restart.
pub(crate) const PEER: &str = "peer";

/// The same for bitcoind: a salt, and the password under it.
const PEER_AUTH: &str =
    "-rpcauth=peer:70656572$4bab4ed1a2b1be81f1854b24dbd7a80ad7f8636c68cc70a072be4eca2b330ffd";

/// Blocks before a world begins. Coinbases need 100 to ripen. bitcoind's wallet dates some transactions back by up to
/// 100 blocks, and Bitcoin Knots takes none that is dated to block 21.
const FIRST_BLOCKS: u32 = 130;

/// A running bitcoind with an empty mempool policy of its own, on loopback only.
pub(crate) struct Chain {
    // Dropped with the chain: kills bitcoind.
    server: RefCell<Option<Server>>,
    regtest: Regtest,
    address: SocketAddr,
    url: String,
    cookie: PathBuf,
    http: reqwest::blocking::Client,
}

impl Chain {
    /// Starts bitcoind below `dir` and mines until there are coins to hand out.
    pub(crate) fn start(program: &Path, dir: &Path) -> Result<Self> {
        let chain = Self::run(program, &dir.join("bitcoind"), &["-txindex=1", PEER_AUTH])?;
        chain.wallet(MINER)?.mine(FIRST_BLOCKS)?;
        Ok(chain)
    }

    /// Starts a bitcoind with this folder and these arguments, and no block.
    pub(super) fn run(program: &Path, data: &Path, arguments: &[&str]) -> Result<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], ports::free()?));
        let regtest = Regtest::new(program, data, address.port(), arguments)?;
        Ok(Self {
            server: RefCell::new(Some(regtest.start()?)),
            address,
            url: regtest.url(),
            cookie: regtest.cookie(),
            regtest,
            http: reqwest::blocking::Client::builder().no_proxy().pool_max_idle_per_host(0).build()?,
        })
    }

    /// Stops bitcoind. Blocks and wallets stay.
    pub(crate) fn stop(&self) -> Result<()> {
        self.call("stop", json!([]))?;
        let mut server = self.server.take().context("bitcoind does not run")?;
        wait::until("bitcoind ends", Duration::from_secs(20), || server.ended())?;
        Ok(())
    }

    /// Lets bitcoind do nothing until [`Chain::thaw`]. Its connections stay open.
    pub(crate) fn freeze(&self) -> Result<()> {
        self.server.borrow().as_ref().context("bitcoind does not run")?.signal("STOP")
    }

    pub(crate) fn thaw(&self) -> Result<()> {
        self.server.borrow().as_ref().context("bitcoind does not run")?.signal("CONT")
    }

    /// Starts it again, with a new cookie, and opens these wallets and the miner's.
    pub(crate) fn restart(&self, wallets: &[&str]) -> Result<()> {
        self.restart_with(&[], wallets)
    }

    /// The same with more arguments.
    pub(crate) fn restart_with(&self, arguments: &[&str], wallets: &[&str]) -> Result<()> {
        self.server.replace(Some(self.regtest.start_with(arguments)?));
        for name in [&[MINER], wallets].concat() {
            self.call("loadwallet", json!([name]))?;
        }
        Ok(())
    }

    /// Where its RPC server listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same as a URL.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn cookie(&self) -> &Path {
        &self.cookie
    }

    pub(crate) fn call(&self, method: &str, parameters: Value) -> Result<Value> {
        post(&self.http, &self.url, &self.cookie, method, parameters)
    }

    /// Makes a wallet of this name.
    pub(crate) fn wallet<'a>(&'a self, name: &'a str) -> Result<Wallet<'a>> {
        self.call("createwallet", json!([name])).context("this bitcoind must be built with a wallet")?;
        Ok(Wallet { chain: self, name })
    }

    /// Opens the wallet that was made under this name.
    pub(crate) fn known_wallet<'a>(&'a self, name: &'a str) -> Wallet<'a> {
        Wallet { chain: self, name }
    }

    pub(crate) fn mine(&self, blocks: u32) -> Result<()> {
        self.known_wallet(MINER).mine(blocks)
    }

    /// Gives each address a coin, in one confirmed transaction.
    pub(crate) fn give(&self, coins: &[(String, Amount)]) -> Result<()> {
        let outputs: serde_json::Map<_, _> =
            coins.iter().map(|(address, amount)| (address.clone(), json!(amount.to_btc()))).collect();
        ensure!(outputs.len() == coins.len(), "each coin needs an address of its own");
        self.known_wallet(MINER).call("sendmany", json!(["", outputs]))?;
        self.mine(1)
    }

    pub(crate) fn height(&self) -> Result<u64> {
        self.call("getblockcount", json!([]))?.as_u64().context("getblockcount gave no number")
    }

    /// A transaction in the mempool or in a block.
    pub(crate) fn transaction(&self, txid: Txid) -> Result<Transaction> {
        let hex = self.call("getrawtransaction", json!([txid]))?;
        Ok(deserialize_hex(hex.as_str().context("getrawtransaction gave no text")?)?)
    }

    /// `None` when it is neither in the mempool nor in the best chain.
    pub(crate) fn confirmations(&self, txid: Txid) -> Result<Option<u64>> {
        let Ok(found) = self.call("getrawtransaction", json!([txid, 1])) else { return Ok(None) };
        Ok(Some(found["confirmations"].as_u64().unwrap_or(0)))
    }

    /// What an outpoint holds, from the transaction that made it.
    pub(crate) fn output(&self, outpoint: OutPoint) -> Result<TxOut> {
        let transaction = self.transaction(outpoint.txid)?;
        let output = transaction.output.into_iter().nth(outpoint.vout as usize);
        output.with_context(|| format!("{outpoint} does not exist"))
    }

    pub(crate) fn is_unspent(&self, outpoint: OutPoint) -> Result<bool> {
        Ok(!self.call("gettxout", json!([outpoint.txid, outpoint.vout]))?.is_null())
    }

    /// Would the mempool take it now?
    pub(crate) fn accepts(&self, transaction: &Transaction) -> Result<()> {
        let verdict = self.call("testmempoolaccept", json!([[serialize_hex(transaction)]]))?;
        ensure!(verdict[0].flag("allowed")?, "the mempool refuses it: {}", verdict[0]);
        Ok(())
    }

    pub(crate) fn broadcast(&self, transaction: &Transaction) -> Result<Txid> {
        self.call("sendrawtransaction", json!([serialize_hex(transaction)]))?;
        Ok(transaction.compute_txid())
    }

    /// Transaction ids in the mempool.
    pub(crate) fn mempool(&self) -> Result<Vec<Txid>> {
        Ok(serde_json::from_value(self.call("getrawmempool", json!([]))?)?)
    }

    /// A transaction in the mempool with such an input.
    pub(crate) fn spender(&self, spends: impl Fn(OutPoint) -> bool) -> Result<Option<Transaction>> {
        for txid in self.mempool()? {
            let transaction = self.transaction(txid)?;
            if transaction.input.iter().any(|input| spends(input.previous_output)) {
                return Ok(Some(transaction));
            }
        }
        Ok(None)
    }
}

/// One of bitcoind's wallets.
#[derive(Clone, Copy)]
pub(crate) struct Wallet<'a> {
    chain: &'a Chain,
    name: &'a str,
}

impl Wallet<'_> {
    pub(crate) fn url(&self) -> String {
        format!("{}/wallet/{}", self.chain.url, self.name)
    }

    pub(crate) fn call(&self, method: &str, parameters: Value) -> Result<Value> {
        post(&self.chain.http, &self.url(), &self.chain.cookie, method, parameters)
    }

    /// A fresh address of a type that `getnewaddress` knows: `bech32`, `bech32m`, `p2sh-segwit`.
    pub(crate) fn address(&self, kind: &str) -> Result<String> {
        let address = self.call("getnewaddress", json!(["", kind]))?;
        Ok(address.as_str().context("getnewaddress gave no text")?.to_owned())
    }

    /// Is the address that pays to this output ours?
    pub(crate) fn owns(&self, output: &TxOut) -> Result<bool> {
        let Ok(address) = Address::from_script(&output.script_pubkey, bitcoin::Network::Regtest) else {
            return Ok(false);
        };
        self.call("getaddressinfo", json!([address.to_string()]))?.flag("ismine")
    }

    /// A signed payment at a fee rate in sat/vB, with change of the wallet's own type; not sent, and its coins are
    /// not locked.
    pub(crate) fn payment(&self, address: &str, amount: Amount, fee_rate: u64) -> Result<Psbt> {
        self.payment_at(address, amount, fee_rate as f64)
    }

    /// The same at a fee rate with decimals.
    pub(crate) fn payment_at(&self, address: &str, amount: Amount, fee_rate: f64) -> Result<Psbt> {
        let output = json!({ address: amount.to_btc() });
        let options = json!({ "fee_rate": fee_rate, "change_type": "bech32" });
        // The last parameter: no key paths. A payjoin receiver refuses them, to warn careless payers.
        let created = self.call("walletcreatefundedpsbt", json!([[], [output], 0, options, false]))?;
        self.sign_text(created.text("psbt")?)
    }

    /// A signed payment of exactly these coins, which states the whole of what each of them spends.
    pub(crate) fn payment_of(
        &self,
        coins: &[OutPoint],
        address: &str,
        amount: Amount,
        fee_rate: u64,
    ) -> Result<Psbt> {
        let inputs: Vec<_> =
            coins.iter().map(|coin| json!({ "txid": coin.txid, "vout": coin.vout })).collect();
        let options = json!({ "add_inputs": false, "fee_rate": fee_rate, "change_type": "bech32" });
        let output = json!({ address: amount.to_btc() });
        let created = self.call("walletcreatefundedpsbt", json!([inputs, [output], 0, options, false]))?;
        self.sign_text(created.text("psbt")?)
    }

    /// Takes the coins of a transaction for no other one.
    pub(crate) fn lock(&self, transaction: &Transaction) -> Result<()> {
        let coin = |outpoint: OutPoint| json!({ "txid": outpoint.txid, "vout": outpoint.vout });
        let coins: Vec<_> = transaction.input.iter().map(|input| coin(input.previous_output)).collect();
        // Also after a restart.
        self.call("lockunspent", json!([false, coins, true]))?;
        Ok(())
    }

    /// The wallet's coins of a transaction to an address of its own, at this fee rate in sat/vB.
    pub(crate) fn spend_again(&self, transaction: &Transaction, fee_rate: u64) -> Result<Transaction> {
        let (mut coins, mut total) = (Vec::new(), Amount::ZERO);
        for input in &transaction.input {
            let outpoint = input.previous_output;
            let output = self.chain.output(outpoint)?;
            if self.owns(&output)? {
                coins.push(json!({ "txid": outpoint.txid, "vout": outpoint.vout }));
                total += output.value;
            }
        }
        let output = json!({ self.address("bech32")?: total.to_btc() });
        let options = json!({ "add_inputs": false, "fee_rate": fee_rate, "subtractFeeFromOutputs": [0] });
        let created = self.call("walletcreatefundedpsbt", json!([coins, [output], 0, options]))?;
        Ok(self.sign_text(created.text("psbt")?)?.extract_tx()?)
    }

    /// Signs what it can.
    pub(crate) fn sign(&self, psbt: &Psbt) -> Result<Psbt> {
        self.sign_text(&psbt.to_string())
    }

    fn sign_text(&self, psbt: &str) -> Result<Psbt> {
        let signed = self.call("walletprocesspsbt", json!([psbt, true, "DEFAULT", false]))?;
        signed.text("psbt")?.parse().context("walletprocesspsbt gave no PSBT")
    }

    fn mine(&self, blocks: u32) -> Result<()> {
        let address = self.address("bech32")?;
        self.chain.call("generatetoaddress", json!([blocks, address]))?;
        Ok(())
    }
}

/// One JSON-RPC request. The cookie is read each time: it is small, and new after a restart.
fn post(
    http: &reqwest::blocking::Client,
    url: &str,
    cookie: &Path,
    method: &str,
    parameters: Value,
) -> Result<Value> {
    let cookie = fs::read_to_string(cookie).context("bitcoind wrote no cookie")?;
    let (user, password) = cookie.split_once(':').context("the cookie has no colon")?;
    let request = json!({ "jsonrpc": "1.0", "id": 0, "method": method, "params": parameters });
    let send = || http.post(url).basic_auth(user, Some(password)).body(request.to_string()).send();
    // A full work queue.
    let reply = wait::until("bitcoind has time", Duration::from_secs(20), || {
        Ok(Some(send()?).filter(|reply| reply.status() != 503))
    })?;
    let mut reply: Value = serde_json::from_str(&reply.text()?)?;
    ensure!(reply["error"].is_null(), "bitcoind refuses {method}: {}", reply["error"]["message"]);
    Ok(reply["result"].take())
}

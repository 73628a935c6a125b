//! A wallet that is paid a thousand times.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash as _;
use bitcoin::transaction::Version as TxVersion;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, Network, ScriptBuf, Transaction, TxIn, TxMerkleNode, TxOut,
};
use lightning::chain::{BestBlock, Listen};
use lightning::util::persist::KVStoreSync;

use super::*;
use crate::lock::lock;
use crate::node::config::ReserveConfig;
use crate::node::seed::Seed;
use crate::node::store::ManagerState;
use crate::node::wallet::NodeWallet;

/// In blocks of so many.
const PAYMENTS: u32 = 1_000;
const EACH: u32 = 2;
const COIN: Amount = Amount::from_sat(100_000);

type Key = (String, String, String);

#[derive(Default)]
struct Store {
    values: Mutex<BTreeMap<Key, Vec<u8>>>,
    changes: Mutex<Vec<Vec<u8>>>,
}

fn key(primary: &str, secondary: &str, name: &str) -> Key {
    (primary.to_owned(), secondary.to_owned(), name.to_owned())
}

impl KVStoreSync for Store {
    fn read(&self, primary: &str, secondary: &str, name: &str) -> Result<Vec<u8>, io::Error> {
        let value = lock(&self.values).get(&key(primary, secondary, name)).cloned();
        value.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn write(&self, primary: &str, secondary: &str, name: &str, value: Vec<u8>) -> Result<(), io::Error> {
        lock(&self.values).insert(key(primary, secondary, name), value);
        Ok(())
    }

    fn remove(&self, primary: &str, secondary: &str, name: &str, _: bool) -> Result<(), io::Error> {
        lock(&self.values).remove(&key(primary, secondary, name));
        Ok(())
    }

    fn list(&self, _: &str, _: &str) -> Result<Vec<String>, io::Error> {
        Ok(Vec::new())
    }
}

impl NodeStore for Store {
    fn write_manager(&self, _: ManagerState) -> Result<(), io::Error> {
        Ok(())
    }

    fn manager_generation(&self) -> Result<u64, io::Error> {
        Ok(0)
    }

    fn wallet_changes(&self) -> Result<Vec<Vec<u8>>, io::Error> {
        Ok(lock(&self.changes).clone())
    }

    fn append_wallet_change(&self, change: Vec<u8>) -> Result<(), io::Error> {
        lock(&self.changes).push(change);
        Ok(())
    }

    fn replace_wallet_changes(&self, change: Vec<u8>) -> Result<(), io::Error> {
        *lock(&self.changes) = vec![change];
        Ok(())
    }
}

struct Till {
    folder: tempfile::TempDir,
    store: Arc<Store>,
    wallet: NodeWallet,
    tip: (BlockHash, u32),
    /// What the next payment spends beside the payer's coin.
    last: OutPoint,
    paid: u32,
}

impl Till {
    fn new() -> Self {
        let (folder, store) = (tempfile::tempdir().unwrap(), Arc::<Store>::default());
        let wallet = open(&folder, &store, true);
        let tip = (bitcoin::constants::genesis_block(Network::Regtest).block_hash(), 0);
        Self { folder, store, wallet, tip, last: OutPoint::null(), paid: 0 }
    }

    fn connect(&mut self, txdata: Vec<Transaction>) {
        let header = Header {
            version: Version::ONE,
            prev_blockhash: self.tip.0,
            merkle_root: TxMerkleNode::all_zeros(),
            time: 0,
            bits: CompactTarget::from_consensus(0),
            nonce: self.tip.1,
        };
        self.tip = (header.block_hash(), self.tip.1 + 1);
        self.wallet.block_connected(&Block { header, txdata }, self.tip.1);
    }

    /// A payment into a payjoin with the coin of the one before.
    fn payjoin(&mut self) -> Transaction {
        self.paid += 1;
        let payers = OutPoint::new(Txid::from_byte_array([7; 32]), self.paid);
        let inputs = [payers, self.last];
        let ours = TxOut { value: COIN, script_pubkey: self.wallet.new_address().unwrap().script_pubkey() };
        let transaction = spend(&inputs, vec![ours, TxOut { value: COIN, script_pubkey: ScriptBuf::new() }]);
        self.last = OutPoint::new(transaction.compute_txid(), 0);
        transaction
    }

    fn transactions(&self) -> usize {
        lock(&self.wallet.state).bdk.tx_graph().full_txs().count()
    }

    fn coins(&self) -> Vec<OutPoint> {
        self.wallet.coins().into_iter().map(|coin| coin.outpoint).collect()
    }
}

fn open(folder: &tempfile::TempDir, store: &Arc<Store>, fresh: bool) -> NodeWallet {
    let seed = Seed::open(&folder.path().join("seed"), fresh).unwrap();
    let (network, genesis) = (Network::Regtest, BestBlock::from_network(Network::Regtest));
    let store = Arc::clone(store) as Arc<dyn NodeStore>;
    NodeWallet::open(&seed, network, store, genesis, 25, ReserveConfig::default()).unwrap()
}

fn spend(inputs: &[OutPoint], output: Vec<TxOut>) -> Transaction {
    let input = inputs.iter().map(|coin| TxIn { previous_output: *coin, ..TxIn::default() });
    let (version, lock_time) = (TxVersion::TWO, LockTime::ZERO);
    Transaction { version, lock_time, input: input.collect(), output }
}

#[test]
fn what_is_over_is_forgotten_and_no_coin_is_lost_or_comes_back() {
    let mut till = Till::new();
    // A gift of two coins: one stays, and the other is spent by all that follows.
    let coin = |till: &Till| TxOut {
        value: COIN,
        script_pubkey: till.wallet.new_address().unwrap().script_pubkey(),
    };
    let gift = spend(&[OutPoint::new(Txid::all_zeros(), 1)], vec![coin(&till), coin(&till)]);
    let stays = OutPoint::new(gift.compute_txid(), 1);
    till.last = OutPoint::new(gift.compute_txid(), 0);
    till.connect(vec![gift]);
    let mut most = 0;
    for _ in 0..PAYMENTS / EACH {
        let payments = (0..EACH).map(|_| till.payjoin()).collect();
        till.connect(payments);
        most = most.max(till.transactions());
        assert_eq!(till.coins(), [stays, till.last], "{} paid", till.paid);
    }
    let lately = (BURIED * EACH) as usize;
    assert!(
        most <= lately + MORE + 2 * EACH as usize,
        "{most} transactions are known after {PAYMENTS} payments"
    );
    let (coins, balance) = (till.coins(), till.wallet.balance(0));

    let again = open(&till.folder, &till.store, false);
    let known = lock(&again.state).bdk.tx_graph().full_txs().count();
    assert!(known <= lately + 2 * EACH as usize, "a start keeps {known} transactions");
    assert_eq!(again.coins().into_iter().map(|coin| coin.outpoint).collect::<Vec<_>>(), coins);
    assert_eq!((again.balance(0).confirmed, again.balance(0).unconfirmed), (balance.confirmed, Amount::ZERO));
    till.wallet = again;
    // Whatever is paid to an address that was used long ago is ours.
    let first = lock(&till.wallet.state).bdk.peek_address(bdk_wallet::KeychainKind::External, 0);
    let late = spend(
        &[OutPoint::new(Txid::all_zeros(), 2)],
        vec![TxOut { value: COIN, script_pubkey: first.script_pubkey() }],
    );
    let late_coin = OutPoint::new(late.compute_txid(), 0);
    till.connect(vec![late]);
    assert_eq!(till.coins(), [&coins[..], &[late_coin]].concat());
}

#[test]
fn it_is_looked_again_when_there_is_as_much_again_and_not_for_little() {
    for (transactions, kept, due) in [
        (0, 0, false),
        (MORE, 0, false),
        (MORE + 1, 0, true),
        (MORE + 100, 100, false),
        (5_000, 2_500, false),
        (5_001, 2_500, true),
    ] {
        assert_eq!(is_due(transactions, kept), due, "{transactions} of which {kept} were kept");
    }
}

#[test]
fn what_was_replaced_is_forgotten_with_what_replaced_it() {
    let mut till = Till::new();
    let payer = OutPoint::new(Txid::all_zeros(), 1);
    let coin = |till: &Till| TxOut {
        value: COIN,
        script_pubkey: till.wallet.new_address().unwrap().script_pubkey(),
    };
    let (plain, payjoin) = (spend(&[payer], vec![coin(&till)]), spend(&[payer], vec![coin(&till)]));
    till.wallet.saw(&plain);
    till.last = OutPoint::new(payjoin.compute_txid(), 0);
    till.connect(vec![payjoin]);
    let second = till.payjoin();
    till.connect(vec![second]);
    assert_eq!(till.transactions(), 3);
    for _ in 0..BURIED {
        till.connect(Vec::new());
    }
    till.wallet.flush();
    till.wallet = open(&till.folder, &till.store, false);
    assert_eq!((till.transactions(), till.coins()), (1, vec![till.last]));
}

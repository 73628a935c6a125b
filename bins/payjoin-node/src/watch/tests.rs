use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash as _;
use bitcoin::{BlockHash, CompactTarget, Sequence, TxIn, TxMerkleNode, Txid, Witness, absolute, transaction};
use payjoin_core::{
    Admission, Broadcast, Chain, ChainError, CheckedProposal, Coin, Holder, Inspection, Invoice, InvoiceId,
    NoChannels, OriginalId, Policy, Reserve, ResourceRequest, Timestamp, Wallet, WalletError,
};
use payjoin_io::Host;

use super::*;

/// Neither chain nor wallet.
struct Nothing;

#[async_trait::async_trait]
impl Chain for Nothing {
    async fn inspect(&self, _: &Transaction) -> Result<Inspection, ChainError> {
        Err(ChainError::Away("no Bitcoin node".into()))
    }

    async fn broadcast(&self, _: &Transaction) -> Result<Broadcast, ChainError> {
        Err(ChainError::Away("no Bitcoin node".into()))
    }

    async fn submit_package(&self, _: &[Transaction]) -> Result<Broadcast, ChainError> {
        Err(ChainError::Away("no Bitcoin node".into()))
    }
}

#[async_trait::async_trait]
impl Wallet for Nothing {
    async fn owns(&self, _: &[bitcoin::ScriptBuf]) -> Result<Vec<bool>, WalletError> {
        Err(WalletError::Away("no wallet".into()))
    }

    async fn reserve(
        &self,
        _: Holder,
        _: &ResourceRequest,
        _: &[OutPoint],
    ) -> Result<(Vec<Coin>, Reserve), WalletError> {
        Err(WalletError::Away("no wallet".into()))
    }

    async fn hold(&self, _: Holder, _: &[OutPoint]) -> Result<(), WalletError> {
        Err(WalletError::Away("no wallet".into()))
    }

    async fn sign(&self, _: &CheckedProposal) -> Result<bitcoin::Psbt, WalletError> {
        Err(WalletError::Away("no wallet".into()))
    }
}

fn spend(n: u32) -> Transaction {
    let previous_output = OutPoint { txid: Txid::all_zeros(), vout: n };
    let (script_sig, witness) = (bitcoin::ScriptBuf::new(), Witness::new());
    let input = vec![TxIn { previous_output, script_sig, sequence: Sequence::MAX, witness }];
    let lock_time = absolute::LockTime::ZERO;
    Transaction { version: transaction::Version::TWO, lock_time, input, output: Vec::new() }
}

fn block(txdata: Vec<Transaction>) -> Block {
    let header = Header {
        version: Version::TWO,
        prev_blockhash: BlockHash::all_zeros(),
        merkle_root: TxMerkleNode::all_zeros(),
        time: 0,
        bits: CompactTarget::from_consensus(0),
        nonce: 0,
    };
    Block { header, txdata }
}

/// A store with an exchange whose Original spends coin 1 of the payer's and locks coin 2 of ours.
async fn owing(folder: &std::path::Path) -> Store {
    let store: Store = Arc::new(payjoin_io::Store::open(folder.join("store")).unwrap());
    let (id, script) = (InvoiceId("a".into()), bitcoin::ScriptBuf::new());
    let (created, expires) = (Timestamp(1), Timestamp(2));
    let invoice = Invoice::new(id.clone(), script, created, expires);
    store.insert_invoice(&invoice).await.unwrap();
    let (coins, intents) = (vec![OutPoint { txid: Txid::all_zeros(), vout: 2 }], Vec::new());
    let (now, fallback_at, original_id) = (created, expires, OriginalId("o".into()));
    let (original, fee) = (spend(1), bitcoin::Amount::ZERO);
    let admission =
        Admission { invoice: id, original_id, original, fee, coins, intents, now, height: 0, fallback_at };
    store.admit(store.new_exchange(), &admission).await.unwrap();
    store
}

async fn settler(store: &Store) -> (Settler, Watched) {
    let roles = Arc::new(Nothing);
    let clock = || Timestamp(0);
    let (host, owed) =
        Host::new(roles.clone(), roles, Arc::new(NoChannels), store.clone(), Policy::default(), clock);
    let watched = host.watched().clone();
    (Settler::new(host, owed).await.unwrap(), watched)
}

#[tokio::test]
async fn of_a_block_only_what_may_settle_an_exchange_waits_for_the_settler() {
    let folder = tempfile::tempdir().unwrap();
    let store = owing(folder.path()).await;
    let (blocks, mut news) = Blocks::new(&store).await.unwrap();
    let whole = block((0..4).map(spend).collect());
    blocks.block_connected(7, &whole);
    let (_settler, watched) = settler(&store).await;
    blocks.follow(watched);
    blocks.block_connected(8, &whole);
    for at in [7, 8] {
        let News::Connected(block, spends) = news.0.try_recv().unwrap() else { panic!("no block") };
        assert_eq!((block.height, block.block_hash), (at, whole.block_hash()));
        assert_eq!(spends, [spend(1), spend(2)]);
    }
}

#[tokio::test]
async fn the_next_start_goes_on_after_the_last_block_that_was_dealt_with() {
    let folder = tempfile::tempdir().unwrap();
    let store = owing(folder.path()).await;
    let (mut settler, _) = settler(&store).await;
    let (blocks, mut news) = Blocks::new(&store).await.unwrap();
    let first = block(Vec::new());
    let mut second = block(Vec::new());
    second.header.prev_blockhash = first.block_hash();
    blocks.block_connected(7, &first);
    blocks.block_connected(8, &second);
    let connected = news.0.try_recv().unwrap();
    take(&mut settler, &mut news, connected, &store).await;
    let (blocks, _) = Blocks::new(&store).await.unwrap();
    assert_eq!(blocks.best_block(), Some(BestBlock::new(second.block_hash(), 8)));
}

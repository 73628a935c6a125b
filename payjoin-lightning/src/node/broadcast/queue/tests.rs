use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version as BlockVersion};
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version;
use bitcoin::{Amount, BlockHash, CompactTarget, ScriptBuf, TxIn, TxMerkleNode, TxOut};

use super::*;

/// Spends these; `mark` makes it different from others.
fn tx(inputs: &[OutPoint], mark: u64) -> Transaction {
    let input = |&previous_output| TxIn { previous_output, ..TxIn::default() };
    let output = TxOut { value: Amount::from_sat(mark), script_pubkey: ScriptBuf::new() };
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: inputs.iter().map(input).collect(),
        output: vec![output],
    }
}

fn coin(number: u8) -> OutPoint {
    OutPoint::new(Txid::from_byte_array([number; 32]), 0)
}

fn of(parent: &Transaction) -> OutPoint {
    OutPoint::new(parent.compute_txid(), 0)
}

fn block(transactions: &[&Transaction]) -> Block {
    let header = Header {
        version: BlockVersion::ONE,
        prev_blockhash: BlockHash::all_zeros(),
        merkle_root: TxMerkleNode::all_zeros(),
        time: 0,
        bits: CompactTarget::from_consensus(0),
        nonce: 0,
    };
    Block { header, txdata: transactions.iter().map(|&transaction| transaction.clone()).collect() }
}

/// A queue at height 100 that holds these.
fn queue(transactions: &[&Transaction]) -> Queue {
    let mut queue = Queue::default();
    for transaction in transactions {
        queue.add(transaction, 100);
    }
    queue
}

fn ids(transactions: &[&Transaction]) -> Vec<Txid> {
    transactions.iter().map(|transaction| transaction.compute_txid()).collect()
}

fn waiting(queue: &Queue) -> Vec<Txid> {
    queue.waiting().iter().map(Transaction::compute_txid).collect()
}

#[test]
fn parents_are_sent_first_and_what_was_sent_waits_for_the_next_block() {
    let parent = tx(&[coin(1)], 1);
    let child = tx(&[of(&parent)], 2);
    for given in [[&parent, &child], [&child, &parent]] {
        let mut queue = queue(&given);
        assert_eq!(waiting(&queue), ids(&[&parent, &child]));
        queue.taken(&parent.compute_txid());
        assert!(queue.refused(&child.compute_txid(), "no"));
        assert!(waiting(&queue).is_empty());
        assert!(queue.connect(&block(&[]), 101).is_empty());
        assert_eq!(waiting(&queue), ids(&[&parent, &child]));
        assert!(!queue.refused(&child.compute_txid(), "no"), "no news");
    }
}

#[test]
fn a_newer_transaction_takes_the_place_of_one_for_the_same_inputs_and_of_its_children() {
    let parent = tx(&[coin(1)], 1);
    let (old, new) = (tx(&[of(&parent), coin(2)], 2), tx(&[of(&parent), coin(3)], 3));
    let old_child = tx(&[of(&old)], 4);
    let mut queue = queue(&[&parent, &old, &old_child]);
    assert!(queue.add(&parent, 101).is_empty(), "it is there");
    let changes = queue.add(&new, 101);
    assert_eq!(changes, Changes { written: ids(&[&new]), removed: ids(&[&old, &old_child]) });
    assert_eq!(waiting(&queue), ids(&[&parent, &new]));
    assert!(queue.add(&tx(&[coin(2)], 5), 101).removed.is_empty(), "the old one holds nothing any more");
}

#[test]
fn a_transaction_stays_until_a_spend_of_its_input_is_buried() {
    let parent = tx(&[coin(1)], 1);
    let child = tx(&[of(&parent)], 2);
    let rival = tx(&[coin(1)], 9);
    for (mined, gone) in [(&parent, ids(&[&parent])), (&rival, ids(&[&parent, &child]))] {
        let mut queue = queue(&[&parent, &child]);
        let mut changes = queue.connect(&block(&[mined]), 101);
        assert_eq!(changes, Changes { written: ids(&[&parent]), removed: vec![] });
        assert_eq!(waiting(&queue), ids(&[&child]), "what is mined is not sent");

        assert_eq!(queue.disconnect(100).written, ids(&[&parent]));
        assert_eq!(waiting(&queue).len(), 2, "sent again after a reorganisation");
        queue.connect(&block(&[mined]), 101);
        for height in 102..=106 {
            assert!(changes.removed.is_empty(), "{height}");
            changes = queue.connect(&block(&[]), height);
        }
        assert_eq!(changes.removed, gone);
    }
}

#[test]
fn what_comes_after_its_input_was_spent_is_not_sent_unless_that_is_undone() {
    let (mined, late) = (tx(&[coin(1)], 1), tx(&[coin(1)], 2));
    for known in [true, false] {
        let mut queue = if known { queue(&[&mined]) } else { Queue::default() };
        queue.connect(&block(&[&mined]), 101);
        queue.add(&late, 101);
        assert!(waiting(&queue).is_empty());
        queue.disconnect(100);
        assert_eq!(waiting(&queue), ids(&[if known { &mined } else { &late }]));
        queue.connect(&block(&[&mined]), 101);
        assert_eq!(queue.connect(&block(&[]), 106).removed.len(), 1);
    }
}

#[test]
fn what_spends_a_funding_that_can_never_be_mined_leaves() {
    let close = tx(&[coin(1)], 1);
    let child = tx(&[of(&close)], 2);
    let mut queue = queue(&[&close, &child]);
    let key = ChannelKey { exchange: ExchangeId(7), index: 1 };
    assert_eq!(queue.set_owner(&coin(1), key.user_channel_id()).written, ids(&[&close]));
    assert!(queue.discard(ExchangeId(8)).is_empty());
    assert_eq!(queue.discard(ExchangeId(7)).removed, ids(&[&close, &child]));
    assert!(queue.is_empty());
}

#[test]
fn a_channel_that_a_peer_never_funds_is_forgotten_in_the_end_and_ours_is_not() {
    let (theirs, ours) = (tx(&[coin(1)], 1), tx(&[coin(2)], 2));
    let mut queue = queue(&[&theirs, &ours]);
    let ours_is = ChannelKey { exchange: ExchangeId(7), index: 0 }.user_channel_id();
    assert_eq!(queue.set_owner(&coin(2), ours_is).written, ids(&[&ours]));
    assert_eq!(queue.set_owner(&coin(1), 5).written, ids(&[&theirs]));
    assert!(queue.set_owner(&coin(1), 5).is_empty());
    for transaction in [&theirs, &ours] {
        queue.refused(&transaction.compute_txid(), "missing inputs");
    }
    assert!(queue.connect(&block(&[]), 100 + UNFUNDED - 1).is_empty());
    assert_eq!(queue.connect(&block(&[]), 100 + UNFUNDED).removed, ids(&[&theirs]));
}

#[test]
fn an_entry_is_stored_and_read_back() {
    let transaction = tx(&[coin(1)], 1);
    let plain = Entry::new(transaction, 100);
    let spent = |height, own| Entry { spend: Some(Spend { height, own }), ..plain.clone() };
    let foreign = Entry { owner: Some(5), ..spent(7, true) };
    for entry in [plain.clone(), spent(101, false), spent(101, true), foreign] {
        assert_eq!(Entry::decode(&entry.encode()), Some(entry));
    }
    assert_eq!(Entry::decode(&plain.encode()[..12]), None);
}

#[test]
fn what_may_not_be_sent_any_more_leaves_with_its_children() {
    let (forbidden, other) = (tx(&[coin(1)], 1), tx(&[coin(2)], 2));
    let child = tx(&[of(&forbidden)], 3);
    let mut queue = queue(&[&forbidden, &other, &child]);
    let changes = queue.remove_those(|transaction| transaction.input[0].previous_output == coin(1));
    assert_eq!((changes.written, changes.removed), (vec![], ids(&[&forbidden, &child])));
    assert_eq!(waiting(&queue), ids(&[&other]));
}

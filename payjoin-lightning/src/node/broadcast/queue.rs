//! Which transactions still matter, and what the chain says of them. No I/O, no clock.

use std::collections::{BTreeMap, HashMap};

use bitcoin::consensus::encode;
use bitcoin::{Block, OutPoint, Transaction, Txid};
use payjoin_core::ExchangeId;

use crate::ChannelKey;

/// Blocks from the spend of an input on after which it is final. LDK waits as long.
const BURIED: u32 = 6;
/// A peer's channel is forgotten when its funding was not mined for so long. BOLT 2, `funding_signed`.
const UNFUNDED: u32 = 2016;

/// A mined transaction that spends an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Spend {
    height: u32,
    /// It is the queued transaction itself.
    own: bool,
}

/// One transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    transaction: Transaction,
    /// Height at which it came.
    since: u32,
    spend: Option<Spend>,
    /// The `user_channel_id` of the channel that it closes, once it is known.
    owner: Option<u128>,
    /// Not to be sent before the next block. Not stored.
    taken: bool,
    /// Why the mempool refused it last. Not stored.
    refusal: Option<String>,
}

impl Entry {
    fn new(transaction: Transaction, since: u32) -> Self {
        Self { transaction, since, spend: None, owner: None, taken: false, refusal: None }
    }

    /// Whether a peer opened the channel: such a funding costs nothing as long as it is not sent.
    fn is_foreign(&self) -> bool {
        self.owner.is_some_and(|id| ChannelKey::from_user_channel_id(id).is_none())
    }

    /// Height, height of the spend or 0, owner or 0, two flags, all big endian; then the transaction as the network has
    /// it.
    pub(super) fn encode(&self) -> Vec<u8> {
        let (spent, own) = self.spend.map_or((0, false), |spend| (spend.height, spend.own));
        let flags = u8::from(self.owner.is_some()) | u8::from(own) << 1;
        let owner = self.owner.unwrap_or_default().to_be_bytes();
        let head = [&self.since.to_be_bytes()[..], &spent.to_be_bytes(), &owner, &[flags]].concat();
        [head, encode::serialize(&self.transaction)].concat()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (since, rest) = bytes.split_first_chunk()?;
        let (spent, rest) = rest.split_first_chunk()?;
        let (owner, rest) = rest.split_first_chunk()?;
        let (flags, transaction) = rest.split_first()?;
        let mut entry = Self::new(encode::deserialize(transaction).ok()?, u32::from_be_bytes(*since));
        let spend = Spend { height: u32::from_be_bytes(*spent), own: flags & 2 != 0 };
        entry.spend = (spend.height > 0).then_some(spend);
        entry.owner = (flags & 1 != 0).then(|| u128::from_be_bytes(*owner));
        Some(entry)
    }
}

/// What is to be written, and what to be removed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) written: Vec<Txid>,
    pub(super) removed: Vec<Txid>,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.written.is_empty() && self.removed.is_empty()
    }

    pub(super) fn extend(&mut self, more: Self) {
        self.removed.retain(|txid| !more.written.contains(txid));
        self.written.extend(more.written);
        self.removed.extend(more.removed);
    }
}

/// Transactions by id, at most one for each outpoint.
#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: BTreeMap<Txid, Entry>,
    spenders: HashMap<OutPoint, Txid>,
    /// What the last blocks spend, by height: LDK may ask for more than they left. Not stored.
    recent: BTreeMap<u32, HashMap<OutPoint, Txid>>,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn get(&self, txid: &Txid) -> Option<&Entry> {
        self.entries.get(txid)
    }

    pub(super) fn spender(&self, output: &OutPoint) -> Option<Txid> {
        self.spenders.get(output).copied()
    }

    /// Puts a stored entry back.
    pub(super) fn restore(&mut self, entry: Entry) {
        let txid = entry.transaction.compute_txid();
        self.spenders.extend(entry.transaction.input.iter().map(|input| (input.previous_output, txid)));
        self.entries.insert(txid, entry);
    }

    /// Takes a transaction, in the place of those that spend the same outputs, unless one of them is mined. One that is
    /// there is to be sent again.
    pub(super) fn add(&mut self, transaction: &Transaction, height: u32) -> Changes {
        let txid = transaction.compute_txid();
        if let Some(entry) = self.entries.get_mut(&txid) {
            entry.taken = false;
            return Changes::default();
        }
        let inputs = || transaction.input.iter().map(|input| input.previous_output);
        let rivals: Vec<Txid> = inputs().filter_map(|output| self.spenders.get(&output).copied()).collect();
        let is_mined = |rival: &Txid| {
            self.entries.get(rival).and_then(|rival| rival.spend).is_some_and(|spend| spend.own)
        };
        if rivals.iter().any(is_mined) {
            return Changes::default();
        }
        let spend = self.recent.iter().find_map(|(height, spends)| {
            let by = inputs().find_map(|output| spends.get(&output))?;
            Some(Spend { height: *height, own: *by == txid })
        });
        let removed = rivals.into_iter().flat_map(|rival| self.remove_with_children(rival)).collect();
        self.restore(Entry { spend, ..Entry::new(transaction.clone(), height) });
        Changes { written: vec![txid], removed }
    }

    /// Notes what a block spends, and lets go of what is final.
    pub(super) fn connect(&mut self, block: &Block, height: u32) -> Changes {
        let mut changes = Changes::default();
        let mut spends = HashMap::new();
        for transaction in &block.txdata {
            let mined = transaction.compute_txid();
            spends.extend(transaction.input.iter().map(|input| (input.previous_output, mined)));
        }
        for (output, txid) in &self.spenders {
            if let (Some(mined), Some(entry)) = (spends.get(output), self.entries.get_mut(txid)) {
                entry.spend = Some(Spend { height, own: mined == txid });
                changes.written.push(*txid);
            }
        }
        self.recent.insert(height, spends);
        self.recent.retain(|at, _| at + BURIED > height);
        let (mut done, mut dead) = (Vec::new(), Vec::new());
        for (txid, entry) in &mut self.entries {
            entry.taken = false;
            let unfunded = entry.is_foreign() && entry.refusal.is_some() && entry.since + UNFUNDED <= height;
            match entry.spend {
                Some(spend) if spend.height + BURIED > height + 1 => {}
                Some(Spend { own: true, .. }) => done.push(*txid),
                Some(_) => dead.push(*txid),
                None if unfunded => dead.push(*txid),
                None => {}
            }
        }
        changes.removed.extend(done.into_iter().filter_map(|txid| self.remove(txid)));
        changes.removed.extend(dead.into_iter().flat_map(|txid| self.remove_with_children(txid)));
        changes.written.sort_unstable();
        changes.written.dedup();
        changes.written.retain(|txid| self.entries.contains_key(txid));
        changes
    }

    /// Forgets the spends of blocks above `height`.
    pub(super) fn disconnect(&mut self, height: u32) -> Changes {
        let mut written = Vec::new();
        self.recent.retain(|at, _| *at <= height);
        for (txid, entry) in &mut self.entries {
            if entry.spend.take_if(|spend| spend.height > height).is_some() {
                written.push(*txid);
            }
            entry.taken = false;
        }
        Changes { written, removed: Vec::new() }
    }

    /// The channel with this funding output has this `user_channel_id`.
    pub(super) fn set_owner(&mut self, funding: &OutPoint, owner: u128) -> Changes {
        let Some(txid) = self.spenders.get(funding).copied() else { return Changes::default() };
        let entry = self.entries.get_mut(&txid).filter(|entry| entry.owner != Some(owner));
        let written = entry.map(|entry| entry.owner = Some(owner)).map(|()| txid).into_iter().collect();
        Changes { written, removed: Vec::new() }
    }

    /// The funding of the channels of this exchange can never be.
    pub(super) fn discard(&mut self, exchange: ExchangeId) -> Changes {
        self.remove_all(|entry| {
            let key = entry.owner.and_then(ChannelKey::from_user_channel_id);
            key.is_some_and(|key| key.exchange == exchange)
        })
    }

    /// Lets go of these transactions, and of those that spend their outputs.
    pub(super) fn remove_those(&mut self, dead: impl Fn(&Transaction) -> bool) -> Changes {
        self.remove_all(|entry| dead(&entry.transaction))
    }

    fn remove_all(&mut self, dead: impl Fn(&Entry) -> bool) -> Changes {
        let dead = self.entries.iter().filter(|(_, entry)| dead(entry)).map(|(txid, _)| *txid);
        let dead: Vec<Txid> = dead.collect();
        let removed = dead.into_iter().flat_map(|txid| self.remove_with_children(txid)).collect();
        Changes { written: Vec::new(), removed }
    }

    /// What is to be sent now, parents first.
    pub(super) fn waiting(&self) -> Vec<Transaction> {
        let waits = self.entries.values().filter(|entry| !entry.taken && entry.spend.is_none());
        let mut waiting: Vec<_> = waits.map(|entry| entry.transaction.clone()).collect();
        waiting.sort_by_cached_key(|transaction| self.depth(transaction));
        waiting
    }

    /// How many of its ancestors in a row are queued.
    fn depth(&self, transaction: &Transaction) -> usize {
        let inputs = transaction.input.iter();
        let parents = inputs.filter_map(|input| self.entries.get(&input.previous_output.txid));
        parents.map(|parent| self.depth(&parent.transaction) + 1).max().unwrap_or(0)
    }

    /// The mempool has it. It is sent again at the next block.
    pub(super) fn taken(&mut self, txid: &Txid) {
        if let Some(entry) = self.entries.get_mut(txid) {
            (entry.taken, entry.refusal) = (true, None);
        }
    }

    /// The mempool does not take it. It is sent again at the next block. `true` when that is news.
    pub(super) fn refused(&mut self, txid: &Txid, reason: &str) -> bool {
        let Some(entry) = self.entries.get_mut(txid) else { return false };
        entry.taken = true;
        let old = entry.refusal.replace(reason.to_owned());
        old.as_deref() != Some(reason)
    }

    fn remove(&mut self, txid: Txid) -> Option<Txid> {
        let entry = self.entries.remove(&txid)?;
        for input in &entry.transaction.input {
            if self.spenders.get(&input.previous_output) == Some(&txid) {
                self.spenders.remove(&input.previous_output);
            }
        }
        Some(txid)
    }

    /// With what spends its outputs: they will never be.
    fn remove_with_children(&mut self, txid: Txid) -> Vec<Txid> {
        let Some(entry) = self.entries.get(&txid) else { return Vec::new() };
        let outputs = (0..entry.transaction.output.len()).map(|vout| OutPoint::new(txid, vout as u32));
        let children: Vec<Txid> = outputs.filter_map(|output| self.spenders.get(&output).copied()).collect();
        let mut removed: Vec<Txid> = self.remove(txid).into_iter().collect();
        removed.extend(children.into_iter().flat_map(|child| self.remove_with_children(child)));
        removed
    }
}

#[cfg(test)]
mod tests;

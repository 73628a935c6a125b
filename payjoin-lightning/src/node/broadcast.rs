//! What LDK wants in the chain.
//!
//! LDK hands a transaction over once, while it holds locks, and forgets some for good: a cooperative close is nowhere
//! else. So each is durable when [`Broadcaster`] returns. It is sent again at each block and after a start until a spend
//! of its inputs is buried.

mod queue;

use std::borrow::Borrow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::{Block, BlockHash, OutPoint, Transaction, Txid};
use lightning::chain::chaininterface::BroadcasterInterface;
use lightning::chain::{BestBlock, Listen};
use lightning::io;
use payjoin_core::{Broadcast, ChainError, ExchangeId};
use tokio::sync::Notify;

use super::chain_source::ChainSource;
use super::fallen::FallenChannels;
use super::stop::{Stop, Switch};
use super::store::NodeStore;
use super::wallet::NodeWallet;
use crate::lock::lock;
use queue::{Changes, Entry, Queue};

/// Where transactions are stored, by their ids.
const NAMESPACE: &str = "broadcasts";
/// Beside them: the last block they were held against, as hash and height.
const TIP: (&str, &str) = ("tip", "tip");
/// Blocks without news after which that is written all the same.
const SAVE_EVERY: u32 = 36;
/// Rest while bitcoind does not answer.
const REST: Duration = Duration::from_secs(3);

/// The durable queue. One write for a transaction that is new; the store's group commit takes several threads' at once.
pub(super) struct Broadcaster {
    store: Arc<dyn NodeStore>,
    switch: Arc<Switch>,
    fallen: Arc<FallenChannels>,
    state: Mutex<State>,
    wake: Notify,
}

struct State {
    queue: Queue,
    /// What is not written yet: nothing, but after a write that failed.
    owed: Changes,
    tip: BestBlock,
    /// Blocks since the tip was written.
    unsaved: u32,
}

impl Broadcaster {
    /// Reads the queue back. `tip`: where a queue begins that holds nothing. `switch` ends the node when a transaction
    /// cannot be kept. Nothing that `fallen` forbids is ever sent.
    pub(super) fn load(
        store: Arc<dyn NodeStore>,
        switch: Arc<Switch>,
        fallen: Arc<FallenChannels>,
        tip: BestBlock,
    ) -> Result<Self, io::Error> {
        let mut queue = Queue::default();
        for key in store.list(NAMESPACE, "")? {
            let entry = Entry::decode(&store.read(NAMESPACE, "", &key)?);
            let damaged =
                || io::Error::new(io::ErrorKind::InvalidData, "a transaction to be sent is damaged");
            queue.restore(entry.ok_or_else(damaged)?);
        }
        let stored = match store.read(NAMESPACE, TIP.0, TIP.1) {
            Ok(bytes) => deserialize::<(BlockHash, u32)>(&bytes).ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let stored = stored.map(|(hash, height)| BestBlock::new(hash, height));
        let tip = stored.filter(|_| !queue.is_empty()).unwrap_or(tip);
        let state = Mutex::new(State { queue, owed: Changes::default(), tip, unsaved: 0 });
        let wake = Notify::new();
        wake.notify_one();
        Ok(Self { store, switch, fallen, state, wake })
    }

    /// The last block that the queue was held against; `None` while it is empty: any will do.
    pub(super) fn best_block(&self) -> Option<BestBlock> {
        let state = lock(&self.state);
        (!state.queue.is_empty()).then_some(state.tip)
    }

    /// The queued transaction that spends an output.
    pub(super) fn spender(&self, output: &OutPoint) -> Option<Txid> {
        lock(&self.state).queue.spender(output)
    }

    /// The channel with this funding output has this `user_channel_id`.
    pub(super) fn set_owner(&self, funding: &OutPoint, owner: u128) {
        self.change(|state| state.queue.set_owner(funding, owner));
    }

    /// The funding of the channels of this exchange can never be: what spends it leaves.
    pub(super) fn discard(&self, exchange: ExchangeId) {
        self.change(|state| state.queue.discard(exchange));
    }

    /// Lets go of what may not be sent any more.
    pub(super) fn forget_forbidden(&self) {
        let forbidden = |transaction: &Transaction| self.fallen.forbids(transaction, &[]);
        self.change(|state| state.queue.remove_those(forbidden));
    }

    /// Changes the queue and writes what changed. The lock is held meanwhile, so that the store has the last word of each
    /// transaction.
    fn change(&self, change: impl FnOnce(&mut State) -> Changes) {
        let mut state = lock(&self.state);
        let changes = change(&mut state);
        state.owed.extend(changes);
        let due = !state.queue.is_empty() && state.unsaved >= SAVE_EVERY;
        if state.owed.is_empty() && !due {
            return;
        }
        match self.write(&state) {
            Ok(()) => (state.owed, state.unsaved) = (Changes::default(), 0),
            Err(error) => {
                // Nothing that is not durable may be acted upon.
                tracing::error!(%error, "a transaction to be sent cannot be kept; the node ends");
                self.switch.throw();
            }
        }
    }

    fn write(&self, state: &State) -> Result<(), io::Error> {
        for txid in &state.owed.written {
            if let Some(entry) = state.queue.get(txid) {
                self.store.write(NAMESPACE, "", &txid.to_string(), entry.encode())?;
            }
        }
        let tip = serialize(&(state.tip.block_hash, state.tip.height));
        self.store.write(NAMESPACE, TIP.0, TIP.1, tip)?;
        for txid in &state.owed.removed {
            self.store.remove(NAMESPACE, "", &txid.to_string(), false)?;
        }
        Ok(())
    }

    /// Sends what waits, until `stop`: what is new at once, everything at each block.
    pub(super) async fn run(
        self: Arc<Self>,
        source: Arc<dyn ChainSource>,
        wallet: Arc<NodeWallet>,
        mut stop: Stop,
    ) {
        let mut away = false;
        loop {
            tokio::select! {
                biased;
                () = self.wake.notified() => {}
                () = stop.wait() => return,
                () = tokio::time::sleep(REST), if away => {}
            }
            away = !self.send_waiting(&*source, &wallet).await;
        }
    }

    /// `false` when the source did not answer.
    async fn send_waiting(&self, source: &dyn ChainSource, wallet: &NodeWallet) -> bool {
        let mut waiting = lock(&self.state).queue.waiting();
        self.retain_allowed(&mut waiting);
        let mut refused: Vec<Transaction> = Vec::new();
        for transaction in waiting {
            // A parent that pays too little enters the mempool only together with the child that pays for it.
            let is_parent = |other: &&Transaction| {
                let txid = other.compute_txid();
                transaction.input.iter().any(|input| input.previous_output.txid == txid)
            };
            let mut package: Vec<_> = refused.iter().filter(is_parent).cloned().collect();
            package.push(transaction);
            match send(source, &package).await {
                Ok(Broadcast::Taken) => {
                    refused.retain(|parent| !package.contains(parent));
                    package.iter().for_each(|transaction| self.taken(transaction, wallet));
                }
                Ok(Broadcast::Refused(reason)) => {
                    refused.extend(package.pop().inspect(|last| self.refused(last, &reason)))
                }
                Err(error) => {
                    tracing::debug!(%error, "what is to be sent waits for bitcoind");
                    return false;
                }
            }
        }
        true
    }

    /// Parents stand before their children.
    fn retain_allowed<T: Borrow<Transaction>>(&self, transactions: &mut Vec<T>) {
        let mut forbidden = Vec::new();
        transactions.retain(|transaction| {
            let transaction = transaction.borrow();
            let forbids = self.fallen.forbids(transaction, &forbidden);
            if forbids {
                forbidden.push(transaction.compute_txid());
            }
            !forbids
        });
        if !forbidden.is_empty() {
            tracing::warn!(?forbidden, "not sent: the peer may punish it, because it has a later state");
        }
    }

    fn taken(&self, transaction: &Transaction, wallet: &NodeWallet) {
        lock(&self.state).queue.taken(&transaction.compute_txid());
        wallet.saw(transaction);
    }

    fn refused(&self, transaction: &Transaction, reason: &str) {
        let txid = transaction.compute_txid();
        if lock(&self.state).queue.refused(&txid, reason) {
            tracing::warn!(%txid, reason, "broadcast refused; it is sent again at each block");
        }
    }
}

impl BroadcasterInterface for Broadcaster {
    fn broadcast_transactions(&self, txs: &[&Transaction]) {
        let mut allowed = txs.to_vec();
        self.retain_allowed(&mut allowed);
        self.change(|state| {
            let mut changes = Changes::default();
            for transaction in allowed {
                changes.extend(state.queue.add(transaction, state.tip.height));
            }
            changes
        });
        self.wake.notify_one();
    }
}

impl Listen for Broadcaster {
    fn filtered_block_connected(
        &self,
        header: &bitcoin::block::Header,
        txdata: &lightning::chain::transaction::TransactionData,
        height: u32,
    ) {
        let txdata = txdata.iter().map(|(_, transaction)| (*transaction).clone()).collect();
        self.block_connected(&Block { header: *header, txdata }, height);
    }

    fn block_connected(&self, block: &Block, height: u32) {
        self.change(|state| {
            state.tip = BestBlock::new(block.block_hash(), height);
            state.unsaved += 1;
            state.queue.connect(block, height)
        });
        self.wake.notify_one();
    }

    fn blocks_disconnected(&self, fork_point: BestBlock) {
        self.change(|state| {
            state.tip = fork_point;
            state.queue.disconnect(fork_point.height)
        });
    }
}

/// Sends transactions that belong together, parents first.
pub(super) async fn send(source: &dyn ChainSource, package: &[Transaction]) -> Result<Broadcast, ChainError> {
    let mut refused = None;
    for transaction in package {
        if let Broadcast::Refused(reason) = source.broadcast(transaction).await? {
            refused = Some(reason);
        }
    }
    match refused {
        None => Ok(Broadcast::Taken),
        // A parent that pays too little enters the mempool only together with the child that pays for it.
        Some(_) if package.len() > 1 => source.submit_package(package).await,
        Some(reason) => Ok(Broadcast::Refused(reason)),
    }
}

//! Payments to codes that wait in the mempool. bitcoind does not say what pays a script, so each transaction is looked at
//! once.

use std::collections::{HashMap, HashSet};

use bitcoin::{Transaction, Txid};
use payjoin_core::ChainError;
use payjoin_io::Settler;
use payjoin_lightning::node::ChainSource;
use tokio::time::{Duration, Instant};

/// So many transactions are fetched at a look: a full mempool takes several.
const AT_ONCE: usize = 500;
/// Of the time, one part in so many is spent on looks, however full the mempool is.
const SHARE: u32 = 20;

/// What was seen of the mempool.
pub(crate) struct Mempool {
    known: HashSet<Txid>,
    paying: HashMap<Txid, Transaction>,
    next: Instant,
}

impl Mempool {
    pub(crate) fn new() -> Self {
        Self { known: HashSet::new(), paying: HashMap::new(), next: Instant::now() }
    }

    /// Tells the settler of payments to codes.
    pub(crate) async fn look(
        &mut self,
        settler: &mut Settler,
        chain: &dyn ChainSource,
    ) -> Result<(), ChainError> {
        let began = Instant::now();
        if began < self.next || !settler.watched().has_codes() {
            return Ok(());
        }
        let there: HashSet<_> = chain.mempool().await?.into_iter().collect();
        self.known.retain(|txid| there.contains(txid));
        self.paying.retain(|txid, _| there.contains(txid));
        let new: Vec<_> = there.difference(&self.known).take(AT_ONCE).copied().collect();
        for transaction in chain.mempool_transactions(&new).await? {
            if !settler.watched().paid_codes(&transaction).is_empty() {
                self.paying.insert(transaction.compute_txid(), transaction);
            }
        }
        self.known.extend(new);
        let rest = Duration::from_secs(60).min(began.elapsed() * SHARE);
        self.next = Instant::now() + rest;
        let payments: Vec<_> = self.paying.values().cloned().collect();
        settler.on_payments(&payments).await;
        Ok(())
    }
}

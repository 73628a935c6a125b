//! The coins whose spends are news: those of the exchanges that run, of those that owe something, and of channels. The
//! scripts to which payments are news: those of codes.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bitcoin::{OutPoint, ScriptBuf, Transaction};
use payjoin_core::{ExchangeId, InvoiceId};

/// Tells which transactions of a block a [`Settler`](crate::Settler) has to see. Clones share everything.
#[derive(Clone, Debug, Default)]
pub struct Watched(Arc<Mutex<Coins>>);

#[derive(Debug, Default)]
struct Coins {
    /// How many times each is watched for exchanges that the settler does not know yet.
    running: HashMap<OutPoint, usize>,
    /// Who waits for a spend of it. Exchanges at one invoice may share coins of ours.
    owed: HashMap<OutPoint, Vec<ExchangeId>>,
    /// Funding outputs of channels.
    channels: HashSet<OutPoint>,
    codes: HashMap<ScriptBuf, InvoiceId>,
}

/// What an exchange watches while it runs. The settler lets go of it once it watches by itself.
pub(crate) type Watches = Vec<Arc<Watch>>;

impl Watched {
    /// Whether the transaction spends a watched coin or pays a code. A block may be given to the settler without all others.
    #[must_use]
    pub fn concerns(&self, transaction: &Transaction) -> bool {
        let coins = self.lock();
        let watched = |coin: &OutPoint| {
            coins.running.contains_key(coin) || coins.owed.contains_key(coin) || coins.channels.contains(coin)
        };
        transaction.input.iter().any(|input| watched(&input.previous_output))
            || transaction.output.iter().any(|output| coins.codes.contains_key(&output.script_pubkey))
    }

    /// Whether there are codes to be paid.
    #[must_use]
    pub fn has_codes(&self) -> bool {
        !self.lock().codes.is_empty()
    }

    /// The codes that the transaction pays, with their scripts.
    #[must_use]
    pub fn paid_codes(&self, transaction: &Transaction) -> Vec<(ScriptBuf, InvoiceId)> {
        let watched = self.lock();
        let scripts = transaction.output.iter().map(|output| &output.script_pubkey);
        let mut paid: Vec<_> =
            scripts.filter_map(|script| Some((script.clone(), watched.codes.get(script)?.clone()))).collect();
        paid.sort_unstable();
        paid.dedup();
        paid
    }

    pub(crate) fn add_codes(&self, codes: impl IntoIterator<Item = (ScriptBuf, InvoiceId)>) {
        self.lock().codes.extend(codes);
    }

    /// The scripts of all codes.
    pub(crate) fn codes(&self) -> Vec<ScriptBuf> {
        self.lock().codes.keys().cloned().collect()
    }

    pub(crate) fn remove_codes(&self, scripts: impl IntoIterator<Item = ScriptBuf>) {
        let mut watched = self.lock();
        for script in scripts {
            watched.codes.remove(&script);
        }
    }

    /// Watches coins for an exchange that begins, until the answer is dropped.
    pub(crate) fn watch(&self, coins: impl IntoIterator<Item = OutPoint>) -> Watch {
        let coins: Vec<_> = coins.into_iter().collect();
        let mut watched = self.lock();
        for coin in &coins {
            *watched.running.entry(*coin).or_default() += 1;
        }
        drop(watched);
        Watch { watched: self.clone(), coins }
    }

    /// Whether the transaction spends a coin of an exchange that the settler may not know yet.
    pub(crate) fn is_early(&self, transaction: &Transaction) -> bool {
        let coins = self.lock();
        transaction.input.iter().any(|input| coins.running.contains_key(&input.previous_output))
    }

    pub(crate) fn add(&self, exchange: ExchangeId, coins: &[OutPoint]) {
        let mut watched = self.lock();
        for coin in coins {
            watched.owed.entry(*coin).or_default().push(exchange);
        }
    }

    pub(crate) fn remove(&self, exchange: ExchangeId, coins: &[OutPoint]) {
        let mut watched = self.lock();
        for coin in coins {
            if let Some(exchanges) = watched.owed.get_mut(coin) {
                exchanges.retain(|other| *other != exchange);
                if exchanges.is_empty() {
                    watched.owed.remove(coin);
                }
            }
        }
    }

    /// Watches the funding outputs of channels. Where one was spent it stays: another branch may spend it otherwise.
    pub(crate) fn add_channels(&self, fundings: impl IntoIterator<Item = OutPoint>) {
        self.lock().channels.extend(fundings);
    }

    pub(crate) fn remove_channels(&self, fundings: impl IntoIterator<Item = OutPoint>) {
        let mut watched = self.lock();
        for funding in fundings {
            watched.channels.remove(&funding);
        }
    }

    /// The channels that the transaction closes.
    pub(crate) fn closed_by(&self, transaction: &Transaction) -> Vec<OutPoint> {
        let watched = self.lock();
        let spent = transaction.input.iter().map(|input| input.previous_output);
        spent.filter(|coin| watched.channels.contains(coin)).collect()
    }

    /// Coins of exchanges that owe something.
    pub(crate) fn owed(&self) -> Vec<OutPoint> {
        self.lock().owed.keys().copied().collect()
    }

    /// The exchanges that wait for a spend of a coin that the transaction spends.
    pub(crate) fn waiting(&self, transaction: &Transaction) -> Vec<ExchangeId> {
        let watched = self.lock();
        let spent = transaction.input.iter().filter_map(|input| watched.owed.get(&input.previous_output));
        let mut exchanges: Vec<_> = spent.flatten().copied().collect();
        exchanges.sort_unstable();
        exchanges.dedup();
        exchanges
    }

    fn lock(&self) -> MutexGuard<'_, Coins> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Watched::watch`].
#[derive(Debug)]
pub(crate) struct Watch {
    watched: Watched,
    coins: Vec<OutPoint>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watched = self.watched.lock();
        for coin in &self.coins {
            let Some(count) = watched.running.get_mut(coin) else { continue };
            *count -= 1;
            if *count == 0 {
                watched.running.remove(coin);
            }
        }
    }
}

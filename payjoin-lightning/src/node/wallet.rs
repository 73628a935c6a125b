//! The on-chain wallet: BDK over two descriptors of one seed, kept in the node's store.
//!
//! What is received goes to P2TR, so that a payjoin can replace it by a P2WSH funding output of the same size. Change
//! goes to P2WPKH.

mod blocks;
mod coins;
mod keys;
mod ldk;
mod pending;
mod spend;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bdk_wallet::chain::{BlockId, CanonicalizationParams, ConfirmationBlockTime, FullTxOut, Merge};
use bdk_wallet::{ChangeSet, KeychainKind, LoadError, Update, Wallet};
use bitcoin::{Address, Amount, Network, OutPoint, Psbt, Script, ScriptBuf, TxOut, Txid};
use lightning::chain::BestBlock;
use lightning::io;
use payjoin_core::{Coin, Reserve};
use serde::Serialize;

use super::store::NodeStore;
use super::{Seed, lock};
use coins::{Coins, Confirmed};
use keys::WalletKeys;

pub use keys::SignError;
pub(super) use ldk::Signers;
pub use spend::SpendError;

/// Unused addresses in a row beyond which the wallet looks for no payment.
const LOOKAHEAD: u32 = 25;
/// The same for a seed that was used before. Every code that was shown took an address of each kind, paid or not.
const LOOKAHEAD_OF_A_USED_SEED: u32 = 1000;
/// Stored changes after which a start sums them up.
const COMPACT_AFTER: usize = 64;

/// Why the wallet could not be opened or changed.
#[derive(Debug, thiserror::Error)]
pub enum WalletError {
    /// The store failed.
    #[error("the wallet's store: {0}")]
    Store(#[from] io::Error),
    /// A stored change cannot be read.
    #[error("a stored wallet change is damaged: {0}")]
    Damaged(#[from] serde_json::Error),
    /// The stored wallet does not fit: other seed, other network, missing parts.
    #[error("the stored wallet does not fit the seed or the network: {0}")]
    Load(Box<LoadError>),
    /// The wallet's keys cannot be derived.
    #[error("the wallet's keys: {0}")]
    Keys(#[from] bitcoin::bip32::Error),
    /// BDK refuses the descriptors or the first block.
    #[error("the wallet cannot be created: {0}")]
    Create(String),
}

/// What the wallet holds. All values in satoshis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Balance {
    /// In the chain, spent by nothing we know.
    pub confirmed: Amount,
    /// In transactions we know that are not in the chain.
    pub unconfirmed: Amount,
    /// The part of `confirmed` that is offered or committed in payjoins.
    pub locked: Amount,
    /// What must stay so that channels can be closed.
    pub reserve: Amount,
    /// What is left of `confirmed` after `locked` and `reserve`.
    pub spendable: Amount,
}

/// One confirmed coin, for display.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CoinInfo {
    /// Where it is.
    pub outpoint: OutPoint,
    /// Its value in satoshis.
    pub amount: Amount,
    /// Its address.
    pub address: String,
    /// Height of its block.
    pub height: u32,
    /// Whether it is offered or committed in a payjoin.
    pub locked: bool,
}

/// The wallet. All calls are short; none waits for the network.
pub struct NodeWallet {
    state: Mutex<State>,
    keys: WalletKeys,
    store: Arc<dyn NodeStore>,
    network: Network,
    reserve_per_channel: Amount,
}

struct State {
    bdk: Wallet,
    coins: Coins,
    unconfirmed: Amount,
    /// Transactions of ours that are not in the chain, and when each was last seen, in seconds; 0 for never.
    pending: BTreeMap<Txid, u64>,
    /// Blocks connected since the last save.
    unsaved: u32,
    /// The coins must be looked up again at the next block: after a reorganisation, and while coinbases ripen.
    stale: bool,
}

/// A coin of ours that an input spends, and which key it needs.
struct Spent {
    at: usize,
    coin: TxOut,
    key: (KeychainKind, u32),
}

impl State {
    fn spent_by_inputs(&self, psbt: &Psbt, inputs: &[usize]) -> Result<Vec<Spent>, SignError> {
        let spent = |&at: &usize| {
            let input = psbt.unsigned_tx.input.get(at).ok_or(SignError::NoInput(at))?;
            let coin = self.bdk.tx_graph().get_txout(input.previous_output).ok_or(SignError::NotOurs(at))?;
            let stated = psbt.inputs.get(at).and_then(|input| input.witness_utxo.as_ref());
            if stated.is_some_and(|stated| stated != coin) {
                return Err(SignError::NotOurs(at));
            }
            let key = self.bdk.derivation_of_spk(coin.script_pubkey.clone()).ok_or(SignError::NotOurs(at))?;
            Ok(Spent { at, coin: coin.clone(), key })
        };
        inputs.iter().map(spent).collect()
    }
}

impl NodeWallet {
    /// Loads the wallet, or creates it with `birthday` as its first block. `used`: the seed may have coins since then.
    pub(super) fn open(
        seed: &Seed,
        network: Network,
        store: Arc<dyn NodeStore>,
        birthday: BestBlock,
        used: bool,
        reserve_per_channel: Amount,
    ) -> Result<Self, WalletError> {
        let lookahead = if used { LOOKAHEAD_OF_A_USED_SEED } else { LOOKAHEAD };
        let (keys, descriptors) = WalletKeys::new(seed, network)?;
        let stored = store.wallet_changes()?;
        let mut changes = ChangeSet::default();
        for change in &stored {
            changes.merge(serde_json::from_slice(change)?);
        }
        if stored.len() > COMPACT_AFTER {
            store.replace_wallet_changes(serde_json::to_vec(&changes)?)?;
        }
        let loaded = Wallet::load()
            .descriptor(KeychainKind::External, Some(descriptors.external.clone()))
            .descriptor(KeychainKind::Internal, Some(descriptors.internal.clone()))
            .check_network(network)
            .lookahead(lookahead)
            .load_wallet_no_persist(changes)
            .map_err(|error| WalletError::Load(Box::new(error)))?;
        let bdk = match loaded {
            Some(bdk) => bdk,
            None => create(descriptors, network, birthday, lookahead)?,
        };
        let (coins, pending) = (Coins::default(), BTreeMap::new());
        let state = State { bdk, coins, unconfirmed: Amount::ZERO, pending, unsaved: 0, stale: false };
        let wallet = Self { state: Mutex::new(state), keys, store, network, reserve_per_channel };
        let mut state = lock(&wallet.state);
        wallet.save(&mut state)?;
        state.refresh();
        drop(state);
        Ok(wallet)
    }

    /// A fresh pair of scripts for an invoice: P2TR for the payment, P2WPKH for our change. Durable when it returns:
    /// neither is ever given out twice.
    ///
    /// # Errors
    /// [`WalletError`] when it cannot be kept.
    pub fn reveal_invoice(&self) -> Result<(ScriptBuf, ScriptBuf), WalletError> {
        let mut state = lock(&self.state);
        let payment = state.bdk.reveal_next_address(KeychainKind::External).script_pubkey();
        let change = state.bdk.reveal_next_address(KeychainKind::Internal).script_pubkey();
        self.save(&mut state)?;
        Ok((payment, change))
    }

    /// A fresh P2TR address.
    ///
    /// # Errors
    /// [`WalletError`] when it cannot be kept.
    pub fn new_address(&self) -> Result<Address, WalletError> {
        self.reveal(KeychainKind::External)
    }

    /// A fresh P2WPKH script for change and closed channels.
    fn new_change_script(&self) -> Result<ScriptBuf, WalletError> {
        Ok(self.reveal(KeychainKind::Internal)?.script_pubkey())
    }

    fn reveal(&self, keychain: KeychainKind) -> Result<Address, WalletError> {
        let mut state = lock(&self.state);
        let address = state.bdk.reveal_next_address(keychain).address;
        self.save(&mut state)?;
        Ok(address)
    }

    /// Which of these scripts are ours, in order.
    pub fn owns(&self, scripts: &[ScriptBuf]) -> Vec<bool> {
        let state = lock(&self.state);
        scripts.iter().map(|script| state.bdk.is_mine(script.clone())).collect()
    }

    /// Confirmed coins for one exchange, best first, at most 16: those in `prefer` even if they are locked, then coins
    /// of the payer's script type, then others; larger ones first. Every coin returned is locked once and must be
    /// unlocked once. `channels` is how many channels the wallet must be able to close.
    pub fn reserve(
        &self,
        payer_script: &Script,
        prefer: &[OutPoint],
        channels: usize,
    ) -> (Vec<Coin>, Reserve) {
        let mut state = lock(&self.state);
        let coins = state.coins.offer(payer_script, prefer);
        let offered: Amount = coins.iter().map(|coin| coin.txout.value).sum();
        let balance = state.coins.free() + offered;
        let per_channel = self.reserve_per_channel;
        (coins, Reserve { balance, existing: per_channel * channels as u64, per_channel })
    }

    /// Locks coins, one holder more for each.
    pub fn lock(&self, coins: &[OutPoint]) {
        let mut state = lock(&self.state);
        coins.iter().for_each(|coin| state.coins.lock(*coin));
    }

    /// Unlocks coins, one holder less for each.
    pub fn unlock(&self, coins: &[OutPoint]) {
        let mut state = lock(&self.state);
        coins.iter().for_each(|coin| state.coins.unlock(*coin));
    }

    /// Signs and finalizes exactly these inputs, which must spend coins of ours. Nothing else of the PSBT changes.
    ///
    /// # Errors
    /// [`SignError`] when an input is not a coin of ours, or cannot be signed.
    pub fn sign(&self, psbt: &Psbt, inputs: &[usize]) -> Result<Psbt, SignError> {
        // The lock goes before the signing, which takes longer than all else here.
        let spent = lock(&self.state).spent_by_inputs(psbt, inputs)?;
        self.sign_spent(psbt, spent)
    }

    fn sign_spent(&self, psbt: &Psbt, spent: Vec<Spent>) -> Result<Psbt, SignError> {
        let mut signed = psbt.clone();
        for Spent { at, coin, key } in spent {
            self.keys.sign(&mut signed, at, &coin, key)?;
        }
        Ok(signed)
    }

    /// What the wallet holds while it must be able to close this many channels.
    pub fn balance(&self, channels: usize) -> Balance {
        let state = lock(&self.state);
        let (confirmed, free) = (state.coins.total(), state.coins.free());
        let reserve = self.reserve_per_channel * channels as u64;
        Balance {
            confirmed,
            unconfirmed: state.unconfirmed,
            locked: confirmed - free,
            reserve,
            spendable: free.checked_sub(reserve).unwrap_or(Amount::ZERO),
        }
    }

    /// All confirmed coins, oldest first.
    pub fn coins(&self) -> Vec<CoinInfo> {
        let state = lock(&self.state);
        let info = |Confirmed { coin, height }: &Confirmed| CoinInfo {
            outpoint: coin.outpoint,
            amount: coin.txout.value,
            address: Address::from_script(&coin.txout.script_pubkey, self.network)
                .map_or_else(|_| coin.txout.script_pubkey.to_hex_string(), |address| address.to_string()),
            height: *height,
            locked: state.coins.is_locked(&coin.outpoint),
        };
        let mut coins: Vec<_> = state.coins.confirmed().map(info).collect();
        coins.sort_by_key(|coin| (coin.height, coin.outpoint));
        coins
    }

    /// Writes what changed since the last call. On error it stays in memory and is written by a later call.
    fn save(&self, state: &mut State) -> Result<(), WalletError> {
        if let Some(changes) = state.bdk.staged() {
            self.store.append_wallet_change(serde_json::to_vec(changes)?)?;
            state.bdk.take_staged();
        }
        state.unsaved = 0;
        Ok(())
    }

    fn save_or_warn(&self, state: &mut State) {
        if let Err(error) = self.save(state) {
            tracing::error!(%error, "wallet not saved; the next change tries again");
        }
    }

    /// Saves what is left; for the end.
    pub(super) fn flush(&self) {
        self.save_or_warn(&mut lock(&self.state));
    }
}

fn create(
    descriptors: keys::Descriptors,
    network: Network,
    birthday: BestBlock,
    lookahead: u32,
) -> Result<Wallet, WalletError> {
    let refused = |error: &dyn std::fmt::Display| WalletError::Create(error.to_string());
    let mut bdk = Wallet::create(descriptors.external, descriptors.internal)
        .network(network)
        .lookahead(lookahead)
        .create_wallet_no_persist()
        .map_err(|error| refused(&error))?;
    let block = BlockId { height: birthday.height, hash: birthday.block_hash };
    let chain = Some(bdk.latest_checkpoint().insert(block));
    bdk.apply_update(Update { chain, ..Update::default() }).map_err(|error| refused(&error))?;
    Ok(bdk)
}

impl State {
    /// Whether unsaved changes touch our transactions, and not only the tip.
    fn has_news(&self) -> bool {
        self.bdk.staged().is_some_and(|changes| !changes.tx_graph.is_empty() || !changes.indexer.is_empty())
    }

    /// Every output of ours in a transaction that is in the chain or may still get there.
    fn outputs(&self) -> impl Iterator<Item = FullTxOut<ConfirmationBlockTime>> + '_ {
        self.outputs_at(self.bdk.spk_index().outpoints().iter().map(|(_, outpoint)| *outpoint))
    }

    /// Those of these outputs that are in the chain or may still get there.
    fn outputs_at<'a>(
        &'a self,
        outpoints: impl IntoIterator<Item = OutPoint> + 'a,
    ) -> impl Iterator<Item = FullTxOut<ConfirmationBlockTime>> + 'a {
        let (chain, outpoints) =
            (self.bdk.local_chain(), outpoints.into_iter().map(|outpoint| ((), outpoint)));
        let tip = chain.tip().block_id();
        self.bdk
            .tx_graph()
            .filter_chain_txouts(chain, tip, CanonicalizationParams::default(), outpoints)
            .map(|(_, output)| output)
    }

    /// Builds the coin index anew. Grows with the wallet; runs only when a transaction of ours moved.
    fn refresh(&mut self) {
        let tip = self.bdk.local_chain().tip().height();
        let (mut confirmed, mut unconfirmed, mut ripening) = (Vec::new(), Amount::ZERO, false);
        let mut pending = BTreeMap::new();
        for output in self.outputs() {
            let made = (&output.chain_position, output.outpoint.txid);
            let moves = [Some(made), output.spent_by.as_ref().map(|(position, txid)| (position, *txid))];
            let waiting = moves.into_iter().flatten().filter(|(position, _)| position.is_unconfirmed());
            pending.extend(waiting.map(|(_, txid)| (txid, self.last_seen(txid).unwrap_or(0))));
            if output.spent_by.is_some() {
                continue;
            }
            match output.chain_position.confirmation_height_upper_bound() {
                None => unconfirmed += output.txout.value,
                Some(_) if !output.is_mature(tip) => ripening = true,
                Some(height) => {
                    let coin = Coin { outpoint: output.outpoint, txout: output.txout };
                    confirmed.push(Confirmed { coin, height });
                }
            }
        }
        self.coins.replace(confirmed);
        (self.unconfirmed, self.pending) = (unconfirmed, pending);
        self.stale = ripening;
    }
}

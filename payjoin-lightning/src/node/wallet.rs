//! The on-chain wallet: BDK over two descriptors of one seed, kept in the node's store.
//!
//! What is received goes to P2WPKH or P2TR, by what the stock of coins lacks: many payers refuse inputs of another type
//! than their own. The change of our own payments goes to P2WPKH.

mod blocks;
mod held;
mod keys;
mod ldk;
mod load;
mod pending;
mod prune;
mod spend;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bdk_wallet::chain::{CanonicalizationParams, ConfirmationBlockTime, FullTxOut, Merge};
use bdk_wallet::{KeychainKind, LoadError, Wallet};
use bitcoin::{Address, Amount, Network, OutPoint, Psbt, Script, ScriptBuf, TxOut, Txid};
use lightning::chain::BestBlock;
use lightning::io;
use payjoin_core::{Coin, Holder, Reserve, Stock};

use super::config::ReserveConfig;
use super::seed::Seed;
use super::store::NodeStore;
use crate::coins::{Coins, Confirmed};
use crate::lock::lock;
use crate::{Balance, CoinInfo};
use held::Purpose;
use keys::WalletKeys;
use ldk::utxo;
use load::Blueprint;
use prune::Closed;

pub use keys::SignError;
pub(super) use ldk::Signers;
pub use spend::SpendError;

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

/// The wallet. All calls are short; none waits for the network.
pub struct NodeWallet {
    state: Mutex<State>,
    keys: WalletKeys,
    blueprint: Blueprint,
    store: Arc<dyn NodeStore>,
    network: Network,
    reserve: ReserveConfig,
}

struct State {
    bdk: Wallet,
    coins: Coins,
    /// Outputs that are spent by transactions that were forgotten.
    spent: Closed,
    /// How many transactions were kept when it was forgotten last.
    kept: usize,
    unconfirmed: Amount,
    immature: Amount,
    /// Transactions of ours that are not in the chain, and when each was last seen, in seconds; 0 for never.
    pending: BTreeMap<Txid, u64>,
    /// What LDK is given for each purpose.
    held: BTreeMap<Purpose, ScriptBuf>,
    /// The last transaction in a block that spent a coin of ours and that nobody here made.
    stranger: Option<Txid>,
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
    /// Loads the wallet, or creates it with `birthday` as its first block. `lookahead`: unused scripts in a row beyond
    /// which it looks for no coin.
    pub(super) fn open(
        seed: &Seed,
        network: Network,
        store: Arc<dyn NodeStore>,
        birthday: BestBlock,
        lookahead: u32,
        reserve: ReserveConfig,
    ) -> Result<Self, WalletError> {
        let (keys, descriptors) = WalletKeys::new(seed, network)?;
        let blueprint = Blueprint { descriptors, network, birthday, lookahead };
        let (bdk, spent) = blueprint.load(&*store)?;
        let mut state = State::new(bdk, spent, Coins::new(reserve.per_channel(), reserve.cost()));
        state.read_held(&*store)?;
        let state = Mutex::new(state);
        let wallet = Self { state, keys, blueprint, store, network, reserve };
        let mut state = lock(&wallet.state);
        wallet.save(&mut state)?;
        state.refresh();
        drop(state);
        Ok(wallet)
    }

    /// A fresh address of the type that the stock of coins lacks. Durable when it returns: none is ever given out twice.
    ///
    /// # Errors
    /// [`WalletError`] when it cannot be kept.
    pub fn new_address(&self) -> Result<Address, WalletError> {
        let mut state = lock(&self.state);
        let address = state.reveal();
        self.save(&mut state)?;
        Ok(address)
    }

    /// Scripts of so many fresh addresses.
    pub(super) fn scripts(&self, count: usize) -> Result<Vec<ScriptBuf>, WalletError> {
        let mut state = lock(&self.state);
        let scripts = (0..count).map(|_| state.reveal().script_pubkey()).collect();
        self.save(&mut state)?;
        Ok(scripts)
    }

    /// Which of these scripts are ours, in order.
    pub fn owns(&self, scripts: &[ScriptBuf]) -> Vec<bool> {
        let state = lock(&self.state);
        scripts.iter().map(|script| state.bdk.is_mine(script.clone())).collect()
    }

    /// Confirmed coins for one exchange, at most 16: those in `shown`, if there are any, although they are locked, and no
    /// others; otherwise coins of the payer's script type, then others, small ones and large ones. They are what the holder
    /// holds from now on.
    /// `channels` is how many channels the wallet must be able to close.
    pub fn reserve(
        &self,
        holder: Holder,
        payer_script: &Script,
        shown: &[OutPoint],
        channels: usize,
    ) -> (Vec<Coin>, Reserve) {
        let mut state = lock(&self.state);
        let coins = state.coins.offer(holder, payer_script, shown);
        let mut free = state.coins.free();
        coins.iter().for_each(|coin| free.add(coin));
        let per_channel = self.reserve_per_channel();
        let stock = Some(Stock { whole: free.whole, parts: free.parts, channels });
        (coins, Reserve { balance: free.value, existing: per_channel * channels as u64, per_channel, stock })
    }

    /// From now on the holder holds exactly these coins, and nobody else is offered them. They need not be known (yet).
    pub fn hold(&self, holder: Holder, coins: &[OutPoint]) {
        lock(&self.state).coins.hold(holder, coins);
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
        let (confirmed, free) = (state.coins.total(), state.coins.free().value);
        let reserve = self.reserve_per_channel() * channels as u64;
        Balance {
            confirmed,
            unconfirmed: state.unconfirmed,
            locked: confirmed - free,
            immature: state.immature,
            reserve,
            reserve_closing: Amount::ZERO,
            channels,
            closable: self.closable_with(&state),
            closing: Amount::ZERO,
            spendable: state.coins.spendable(channels),
        }
    }

    /// What must stay for each channel.
    pub(super) fn reserve_per_channel(&self) -> Amount {
        self.reserve.per_channel()
    }

    /// How many channels the coins that are not locked could close.
    pub(super) fn closable(&self) -> usize {
        self.closable_with(&lock(&self.state))
    }

    fn closable_with(&self, state: &State) -> usize {
        let free =
            state.coins.confirmed().filter(|confirmed| !state.coins.is_locked(&confirmed.coin.outpoint));
        let coins: Vec<_> =
            free.map(|Confirmed { coin, .. }| utxo(coin.outpoint, coin.txout.clone())).collect();
        self.reserve.closable(&coins)
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

    /// Forgets what is over, once there is enough of it.
    fn forget_over(&self, state: &mut State) {
        let transactions = state.bdk.tx_graph().full_txs().count();
        if !prune::is_due(transactions, state.kept) {
            return;
        }
        let pruned = self.save(state).and_then(|()| self.blueprint.load(&*self.store));
        match pruned {
            Ok((bdk, spent)) => {
                (state.bdk, state.spent) = (bdk, spent);
                state.refresh();
            }
            Err(error) => tracing::warn!(%error, "the wallet keeps what is over; it is tried again later"),
        }
        state.kept = state.bdk.tx_graph().full_txs().count();
    }

    /// Saves what is left; for the end.
    pub(super) fn flush(&self) {
        self.save_or_warn(&mut lock(&self.state));
    }
}

impl State {
    fn new(bdk: Wallet, spent: Closed, coins: Coins) -> Self {
        let kept = bdk.tx_graph().full_txs().count();
        Self {
            bdk,
            coins,
            spent,
            kept,
            unconfirmed: Amount::ZERO,
            immature: Amount::ZERO,
            pending: BTreeMap::new(),
            held: BTreeMap::new(),
            stranger: None,
            unsaved: 0,
            stale: false,
        }
    }

    fn reveal(&mut self) -> Address {
        let keychain = match self.coins.lack_taproot() {
            true => KeychainKind::External,
            false => KeychainKind::Internal,
        };
        self.bdk.reveal_next_address(keychain).address
    }

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
            .filter(|output| !self.spent.has(&output.outpoint))
    }

    /// Builds the coin index anew. Grows with the wallet; runs only when a transaction of ours moved.
    fn refresh(&mut self) {
        let tip = self.bdk.local_chain().tip().height();
        let (mut confirmed, mut unconfirmed, mut immature) = (Vec::new(), Amount::ZERO, Amount::ZERO);
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
                Some(_) if !output.is_mature(tip) => immature += output.txout.value,
                Some(height) => {
                    let coin = Coin { outpoint: output.outpoint, txout: output.txout };
                    confirmed.push(Confirmed { coin, height });
                }
            }
        }
        self.coins.replace(confirmed);
        (self.unconfirmed, self.immature, self.pending) = (unconfirmed, immature, pending);
        self.stale = immature > Amount::ZERO;
    }
}

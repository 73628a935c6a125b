//! LND's wallet: its coins in one list that is kept fresh, locked by leases.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bitcoin::address::NetworkUnchecked;
use bitcoin::transaction::{InputWeightPrediction, predict_weight};
use bitcoin::{
    Address, Amount, Network, OutPoint, Psbt, ScriptBuf, Sequence, Transaction, TxIn, TxOut, absolute,
};
use futures_util::future::join_all;
use payjoin_core::{CheckedProposal, Coin, Holder, Reserve, ResourceRequest, WalletError};
use serde::de::IgnoredAny;
use serde_json::json;
use tokio::join;

use super::calls::{ADDRESS, COINS, LEASE, LEASES, RELEASE, RESERVE, TRANSACTIONS};
use super::client::Client;
use super::error::LndError;
use super::locks::Locks;
use super::sign;
use super::wire::{self, Coins, Leases, Reserved, base64, outpoint};
use crate::coins::Confirmed;
use crate::lock::lock;
use crate::{ChildFee, CoinInfo};

/// A coin is not signed for with less left of its lease.
const LEAST: Duration = Duration::from_secs(60);

/// The wallet.
pub(super) struct LndWallet {
    client: Arc<Client>,
    network: Network,
    /// Names our leases.
    id: [u8; 32],
    /// How long a lease is.
    lease: Duration,
    locks: Mutex<Locks>,
    /// What changes at LND is done one after the other, so that a list is whole.
    turn: tokio::sync::Mutex<()>,
    /// LND has told of a change, or of nothing yet.
    stale: AtomicBool,
    /// LND tells of changes.
    hears: AtomicBool,
    /// Of LND's best block.
    height: AtomicU32,
}

/// What LND keeps back.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kept {
    pub(super) existing: Amount,
    pub(super) per_channel: Amount,
}

impl LndWallet {
    pub(super) fn new(client: Arc<Client>, network: Network, id: [u8; 32], lease: Duration) -> Self {
        let (locks, turn) = (Mutex::default(), tokio::sync::Mutex::default());
        let (stale, hears, height) = (AtomicBool::new(true), AtomicBool::default(), AtomicU32::default());
        Self { client, network, id, lease, locks, turn, stale, hears, height }
    }

    /// Listens for changes, until LND stops telling.
    pub(super) async fn listen(&self) -> Result<(), LndError> {
        let mut changes = self.client.stream(&TRANSACTIONS, "", None).await?;
        // What changed before was not told.
        self.stale.store(true, Ordering::Relaxed);
        self.hears.store(true, Ordering::Relaxed);
        loop {
            let change = changes.next::<IgnoredAny>().await;
            self.stale.store(true, Ordering::Relaxed);
            if !matches!(change, Ok(Some(_))) {
                self.hears.store(false, Ordering::Relaxed);
                return change.map(drop);
            }
        }
    }

    /// LND's best block has this height.
    pub(super) fn set_height(&self, height: u32) {
        self.height.store(height, Ordering::Relaxed);
    }

    /// Fetches the list of coins, unless nothing has changed.
    pub(super) async fn refresh(&self) -> Result<(), LndError> {
        let _turn = self.turn.lock().await;
        if self.hears.load(Ordering::Relaxed) && !self.stale.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.stale.store(false, Ordering::Relaxed);
        let listed = self.list().await;
        if listed.is_err() {
            self.stale.store(true, Ordering::Relaxed);
        }
        listed
    }

    /// Coins that we have leased are not among the unspent ones.
    async fn list(&self) -> Result<(), LndError> {
        let unspent = json!({ "min_confs": 0, "max_confs": i32::MAX, "account": "default" });
        let none = json!({});
        let (unspent, leases) =
            join!(self.client.post::<Coins>(&COINS, &unspent), self.client.post::<Leases>(&LEASES, &none));
        let ours: Vec<_> = leases?.locked_utxos.into_iter().filter(|lease| lease.id == self.id).collect();
        let (now, tip) = (Instant::now(), self.height.load(Ordering::Relaxed));
        let mut locks = lock(&self.locks);
        let (mut confirmed, mut unconfirmed) = (Vec::new(), Amount::ZERO);
        for lease in ours {
            let (outpoint, script) = (OutPoint::from(lease.outpoint), ScriptBuf::from(lease.pk_script));
            locks.found(outpoint, now);
            // LND tells the depth of no coin that is leased.
            let known = locks.coins().confirmed().find(|known| known.coin.outpoint == outpoint);
            let height = known.map_or(tip, |known| known.height);
            confirmed.extend(coin(outpoint, lease.value, script, height));
        }
        for utxo in unspent?.utxos {
            match utxo.confirmations {
                0 => unconfirmed += Amount::from_sat(utxo.amount_sat),
                depth => {
                    let height = (tip + 1).saturating_sub(depth);
                    confirmed.extend(coin(utxo.outpoint.into(), utxo.amount_sat, utxo.pk_script, height));
                }
            }
        }
        locks.replace(confirmed, unconfirmed);
        Ok(())
    }

    /// What LND keeps back for the channels that it has, and for one more.
    pub(super) async fn kept(&self) -> Result<Kept, LndError> {
        let required = |more| async move {
            let rest = format!("?additional_public_channels={more}");
            let reserved = self.client.ask::<Reserved>(&RESERVE, &rest).await?;
            Ok::<_, LndError>(Amount::from_sat(reserved.required_reserve))
        };
        let (existing, more) = join!(required(0), required(1));
        let existing = existing?;
        Ok(Kept { existing, per_channel: more?.checked_sub(existing).unwrap_or_default() })
    }

    pub(super) async fn owns(&self, scripts: &[ScriptBuf]) -> Result<Vec<bool>, LndError> {
        let asked = scripts.iter().map(|script| sign::owns(&self.client, script));
        join_all(asked).await.into_iter().collect()
    }

    pub(super) async fn reserve(
        &self,
        holder: Holder,
        request: &ResourceRequest,
        shown: &[OutPoint],
    ) -> Result<(Vec<Coin>, Reserve), LndError> {
        let (fresh, kept) = join!(self.refresh(), self.kept());
        fresh?;
        let Kept { existing, per_channel } = kept?;
        let mut locks = lock(&self.locks);
        let coins = locks.offer(holder, &request.payer_script, shown);
        let offered: Amount = coins.iter().map(|coin| coin.txout.value).sum();
        // LND asks for a sum.
        let balance = locks.coins().free().value + offered;
        Ok((coins, Reserve { balance, existing, per_channel, stock: None }))
    }

    /// What the store says; LND hears of it at the next [`LndWallet::keep`].
    pub(super) fn record(&self, holder: Holder, coins: &[OutPoint]) {
        lock(&self.locks).hold(holder, coins);
    }

    /// The lock is kept here although LND is away.
    pub(super) async fn hold(&self, holder: Holder, coins: &[OutPoint]) -> Result<(), LndError> {
        self.record(holder, coins);
        self.keep().await
    }

    /// Takes and renews the leases of what is on record, and gives back the others.
    pub(super) async fn keep(&self) -> Result<(), LndError> {
        let _turn = self.turn.lock().await;
        let due = lock(&self.locks).due(Instant::now(), self.lease);
        let leased = join_all(due.lease.iter().map(|coin| async {
            match self.lease(*coin).await {
                // It is spent already, and nobody can take it any more.
                Err(error) if error.says("unknown output") => {
                    lock(&self.locks).leased(*coin, Instant::now() + self.lease);
                    Ok(())
                }
                done => done,
            }
        }));
        let released = join_all(due.release.iter().map(|coin| self.release(*coin)));
        let (leased, released) = join!(leased, released);
        leased.into_iter().chain(released).collect()
    }

    async fn lease(&self, coin: OutPoint) -> Result<(), LndError> {
        let request = json!({
            "id": base64(&self.id),
            "outpoint": outpoint(coin),
            "expiration_seconds": self.lease.as_secs().to_string(),
        });
        let from = Instant::now();
        let leased = self.client.post::<IgnoredAny>(&LEASE, &request).await;
        match &leased {
            Ok(_) => lock(&self.locks).leased(coin, from + self.lease),
            // It is not what we think.
            Err(_) => self.stale.store(true, Ordering::Relaxed),
        }
        leased.map(drop)
    }

    async fn release(&self, coin: OutPoint) -> Result<(), LndError> {
        let request = json!({ "id": base64(&self.id), "outpoint": outpoint(coin) });
        match self.client.post::<IgnoredAny>(&RELEASE, &request).await {
            Err(error) if !error.says("unknown output") => return Err(error),
            _ => lock(&self.locks).released(coin),
        }
        self.stale.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Signs for coins that are leased, and for no others.
    pub(super) async fn sign(&self, proposal: &CheckedProposal) -> Result<Psbt, WalletError> {
        let (psbt, ours) = (proposal.psbt(), proposal.our_inputs());
        if ours.is_empty() {
            return Ok(psbt.clone());
        }
        let coins = ours.iter().filter_map(|at| psbt.unsigned_tx.input.get(*at));
        let coins: Vec<_> = coins.map(|input| input.previous_output).collect();
        {
            let _turn = self.turn.lock().await;
            let now = Instant::now();
            let least = LEAST.min(self.lease / 2);
            let unsure = |coin: &&OutPoint| !lock(&self.locks).is_leased(coin, now, least);
            let unsure: Vec<_> = coins.iter().filter(unsure).collect();
            for leased in join_all(unsure.into_iter().map(|coin| self.lease(*coin))).await {
                leased?;
            }
        }
        sign::sign(&self.client, psbt, ours).await
    }

    /// A fresh address. `change`: not to be given to anybody.
    pub(super) async fn address(&self, taproot: bool, change: bool) -> Result<Address, LndError> {
        let kind = if taproot { "TAPROOT_PUBKEY" } else { "WITNESS_PUBKEY_HASH" };
        let request = json!({ "type": kind, "change": change });
        let told = self.client.post::<wire::Address>(&ADDRESS, &request).await?;
        let form = |why: String| LndError::Form { call: ADDRESS.right, why };
        let address =
            told.addr.parse::<Address<NetworkUnchecked>>().map_err(|error| form(error.to_string()))?;
        address.require_network(self.network).map_err(|error| form(error.to_string()))
    }

    /// See [`LightningNode::child_paying`](crate::LightningNode::child_paying).
    pub(super) async fn child(
        &self,
        parent: &Transaction,
        vout: u32,
        fee: ChildFee<'_>,
    ) -> Result<Transaction, WalletError> {
        let refused = |why: &str| WalletError::Refused(why.to_owned());
        let coin = usize::try_from(vout).ok().and_then(|at| parent.output.get(at));
        let coin = coin.ok_or_else(|| refused("the parent has no such output"))?;
        let back = self.address(false, true).await?.script_pubkey();
        let value = fee(child_size(coin, &back)).and_then(|fee| coin.value.checked_sub(fee));
        let value = value.filter(|value| *value >= back.minimal_non_dust());
        let small = || format!("the output of {} sat is too small for such a child", coin.value.to_sat());
        let value = value.ok_or_else(|| WalletError::Refused(small()))?;
        let input = TxIn {
            previous_output: OutPoint { txid: parent.compute_txid(), vout },
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            ..TxIn::default()
        };
        let child = Transaction {
            // Version 3 goes with version 3 only. BIP 431.
            version: parent.version,
            lock_time: absolute::LockTime::ZERO,
            input: vec![input],
            output: vec![TxOut { value, script_pubkey: back }],
        };
        let mut psbt = Psbt::from_unsigned_tx(child).map_err(|_| refused("no such child"))?;
        for input in &mut psbt.inputs {
            input.witness_utxo = Some(coin.clone());
        }
        let signed = sign::sign(&self.client, &psbt, &[0]).await?;
        Ok(signed.extract_tx_unchecked_fee_rate())
    }

    /// Confirmed coins, oldest first.
    pub(super) fn coins(&self) -> Vec<CoinInfo> {
        let locks = lock(&self.locks);
        let info = |Confirmed { coin, height }: &Confirmed| CoinInfo {
            outpoint: coin.outpoint,
            amount: coin.txout.value,
            address: Address::from_script(&coin.txout.script_pubkey, self.network)
                .map_or_else(|_| coin.txout.script_pubkey.to_hex_string(), |address| address.to_string()),
            height: *height,
            locked: locks.coins().is_locked(&coin.outpoint),
        };
        let mut coins: Vec<_> = locks.coins().confirmed().map(info).collect();
        coins.sort_by_key(|coin| (coin.height, coin.outpoint));
        coins
    }

    /// Reads what is there now; it costs nothing.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Locks) -> T) -> T {
        look(&lock(&self.locks))
    }
}

/// Virtual bytes of a transaction that spends this coin alone, to this script.
fn child_size(coin: &TxOut, to: &ScriptBuf) -> u64 {
    let witness = match coin.script_pubkey.is_p2tr() {
        true => InputWeightPrediction::P2TR_KEY_DEFAULT_SIGHASH,
        false => InputWeightPrediction::P2WPKH_MAX,
    };
    predict_weight([witness], [to.len()]).to_vbytes_ceil()
}

/// A coin of a kind that is offered.
fn coin(outpoint: OutPoint, sat: u64, script_pubkey: ScriptBuf, height: u32) -> Option<Confirmed> {
    let offered = script_pubkey.is_p2wpkh() || script_pubkey.is_p2tr();
    let txout = TxOut { value: Amount::from_sat(sat), script_pubkey };
    offered.then_some(Confirmed { coin: Coin { outpoint, txout }, height })
}

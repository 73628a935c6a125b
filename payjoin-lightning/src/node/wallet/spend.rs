//! Payments of our own: choosing coins, signing the Original, and signing the payjoin that a receiver makes of it.

use bdk_wallet::KeychainKind;
use bitcoin::absolute::LockTime;
use bitcoin::key::rand::{Rng, thread_rng};
use bitcoin::psbt::Input;
use bitcoin::transaction::{InputWeightPrediction, Version, predict_weight};
use bitcoin::{Amount, FeeRate, OutPoint, Psbt, Sequence, Transaction, TxIn, TxOut, Weight};
use payjoin_core::{Coin, Holder, PaymentId};

use super::held::Purpose;
use super::{NodeWallet, SignError, State, WalletError};
use crate::lock::lock;

/// A P2WPKH input, the heaviest of ours: outpoint, sequence and empty script, then the witness. A receiver may take the
/// fee for one such input from our change.
const INPUT: Weight = Weight::from_wu(4 * 41 + 109);
/// Length of a P2WPKH script, in bytes.
const CHANGE_SCRIPT: usize = 22;
/// Below this P2WPKH change is not relayed.
const CHANGE_DUST: Amount = Amount::from_sat(294);

/// Why a payment was not built. No coin is locked.
#[derive(Debug, thiserror::Error)]
pub enum SpendError {
    /// The network does not relay an output of so little.
    #[error("an output of {} sat is too little to be relayed", .0.to_sat())]
    Dust(Amount),
    /// The coins that may be spent do not reach.
    #[error(
        "not enough coins: {} sat can be spent, fees included; the rest is locked, unconfirmed or kept to close \
         channels",
        .spendable.to_sat()
    )]
    NotEnough {
        /// Confirmed, not locked, without the reserve.
        spendable: Amount,
    },
    /// Amount or fee rate is beyond all bounds.
    #[error("the fee rate cannot be right")]
    FeeRate,
    /// No fresh script for the change.
    #[error(transparent)]
    Wallet(#[from] WalletError),
    /// The wallet cannot sign for its coins.
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// What is to be paid.
struct Order<'a> {
    output: &'a TxOut,
    rate: FeeRate,
    /// Whether what stays is enough.
    may: &'a dyn Fn(&Selection) -> bool,
}

/// Coins that cover an [`Order`] with its fee.
struct Selection {
    coins: Vec<Coin>,
    /// What comes back to us, if it is worth an output.
    change: Option<Amount>,
    fee: Amount,
}

impl Order<'_> {
    fn fee(&self, coins: &[&Coin], change: bool) -> Option<Amount> {
        let inputs = coins.iter().map(|coin| match coin.txout.script_pubkey.is_p2tr() {
            true => InputWeightPrediction::P2TR_KEY_DEFAULT_SIGHASH,
            false => InputWeightPrediction::P2WPKH_MAX,
        });
        let outputs = [self.output.script_pubkey.len()].into_iter().chain(change.then_some(CHANGE_SCRIPT));
        // Nodes count in whole virtual bytes.
        let size = predict_weight(inputs, outputs).to_vbytes_ceil();
        self.rate.checked_mul_by_weight(Weight::from_vb(size)?)
    }

    /// `None` when these coins are not enough, or too much.
    fn cover(&self, coins: &[&Coin]) -> Option<Selection> {
        let value: Amount = coins.iter().map(|coin| coin.txout.value).sum();
        let rest = value.checked_sub(self.output.value)?;
        let fee = self.fee(coins, true)?;
        let change = rest.checked_sub(fee).filter(|change| *change >= CHANGE_DUST);
        let bare = self.fee(coins, false)?;
        let fee = if change.is_some() { fee } else { Some(rest).filter(|rest| *rest >= bare)? };
        let coins = coins.iter().map(|coin| (*coin).clone()).collect();
        Some(Selection { coins, change, fee }).filter(self.may)
    }

    /// The smallest coin that is enough alone, else the largest ones. `coins` are smallest first.
    fn choose<'c>(&self, coins: impl DoubleEndedIterator<Item = &'c Coin> + Clone) -> Option<Selection> {
        let alone = coins.clone().find_map(|coin| self.cover(&[coin]));
        alone.or_else(|| {
            let mut taken = Vec::new();
            coins.rev().find_map(|coin| {
                taken.push(coin);
                self.cover(&taken)
            })
        })
    }
}

impl NodeWallet {
    /// A signed and finalized transaction with this output, at this fee rate or a little above it, with change to
    /// P2WPKH: the Original of a payjoin, or a plain payment. Its inputs are confirmed and of one script type if that
    /// is possible, and `payment` holds them: until a spend is buried.
    ///
    /// What must stay to close `channels` stays, also if a receiver takes all that a payjoin lets him take.
    ///
    /// # Errors
    /// See [`SpendError`].
    pub fn pay(
        &self,
        payment: PaymentId,
        output: &TxOut,
        rate: FeeRate,
        channels: usize,
    ) -> Result<Psbt, SpendError> {
        if output.value < output.script_pubkey.minimal_non_dust() {
            return Err(SpendError::Dust(output.value));
        }
        let mut state = lock(&self.state);
        let selection = state.select(output, rate, (channels, self.reserve_per_channel()))?;
        let mut outputs = vec![output.clone()];
        if let Some(value) = selection.change {
            let script_pubkey = state.bdk.reveal_next_address(KeychainKind::Internal).script_pubkey();
            self.save(&mut state)?;
            outputs.insert(thread_rng().gen_range(0..=1), TxOut { value, script_pubkey });
        }
        let height = state.bdk.latest_checkpoint().height();
        let psbt = self.draw_up(&state, &selection.coins, outputs, (Version::TWO, height))?;
        let coins: Vec<_> = selection.coins.iter().map(|coin| coin.outpoint).collect();
        state.coins.hold(Holder::Payment(payment), &coins);
        Ok(psbt)
    }

    /// A signed transaction of this version that spends this output of ours, confirmed or not, to ourselves. `fee` is
    /// asked with its size in virtual bytes.
    pub(in crate::node) fn child(
        &self,
        outpoint: OutPoint,
        version: Version,
        fee: impl Fn(u64) -> Option<Amount>,
    ) -> Result<Transaction, SpendError> {
        let mut state = lock(&self.state);
        let txout = state.bdk.tx_graph().get_txout(outpoint).cloned().ok_or(SignError::NotOurs(0))?;
        let input = match txout.script_pubkey.is_p2tr() {
            true => InputWeightPrediction::P2TR_KEY_DEFAULT_SIGHASH,
            false => InputWeightPrediction::P2WPKH_MAX,
        };
        let fee =
            fee(predict_weight([input], [CHANGE_SCRIPT]).to_vbytes_ceil()).ok_or(SpendError::FeeRate)?;
        let value = txout.value.checked_sub(fee).filter(|value| *value >= CHANGE_DUST);
        let value = value.ok_or(SpendError::NotEnough { spendable: txout.value })?;
        let script_pubkey = self.held_in(&mut state, Purpose::Change)?;
        let height = state.bdk.latest_checkpoint().height();
        let coins = [Coin { outpoint, txout }];
        let outputs = vec![TxOut { value, script_pubkey }];
        let psbt = self.draw_up(&state, &coins, outputs, (version, height))?;
        Ok(psbt.extract_tx_unchecked_fee_rate())
    }

    fn draw_up(
        &self,
        state: &State,
        coins: &[Coin],
        output: Vec<TxOut>,
        (version, height): (Version, u32),
    ) -> Result<Psbt, SpendError> {
        let input = |coin: &Coin| TxIn {
            previous_output: coin.outpoint,
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            ..TxIn::default()
        };
        let transaction = Transaction {
            version,
            // As most wallets do: it takes away a reason to mine the last block again.
            lock_time: LockTime::from_height(height).unwrap_or(LockTime::ZERO),
            input: coins.iter().map(input).collect(),
            output,
        };
        let mut psbt = Psbt::from_unsigned_tx(transaction).map_err(|_| SpendError::FeeRate)?;
        psbt.inputs = coins
            .iter()
            .map(|coin| Input { witness_utxo: Some(coin.txout.clone()), ..Input::default() })
            .collect();
        let all: Vec<usize> = (0..coins.len()).collect();
        Ok(self.sign_spent(&psbt, state.spent_by_inputs(&psbt, &all)?)?)
    }

    /// Signs the inputs of `original` in the payjoin that a receiver made of it, and no others: a coin of ours that he
    /// slipped in stays unsigned. Refuses a payjoin that costs us more than the Original and the fee for one input.
    ///
    /// # Errors
    /// See [`SignError`].
    pub fn sign_payjoin(&self, original: &Psbt, proposal: &Psbt) -> Result<Transaction, SignError> {
        let state = lock(&self.state);
        let ours = |input: &TxIn| {
            original.unsigned_tx.input.iter().any(|known| known.previous_output == input.previous_output)
        };
        let inputs = proposal.unsigned_tx.input.iter().enumerate();
        let inputs: Vec<usize> = inputs.filter(|(_, input)| ours(input)).map(|(at, _)| at).collect();
        let cost = |psbt: &Psbt| state.cost(original, &psbt.unsigned_tx);
        let allowance = contribution(original).ok_or(SignError::TooDear)?;
        let most = cost(original).and_then(|cost| cost.checked_add(allowance)).ok_or(SignError::TooDear)?;
        if cost(proposal).is_none_or(|cost| cost > most) {
            return Err(SignError::TooDear);
        }
        let signed = self.sign_spent(proposal, state.spent_by_inputs(proposal, &inputs)?)?;
        signed.extract_tx().map_err(|error| SignError::Extract(error.to_string()))
    }

    /// What we paid with a transaction that spends the inputs of `original`, fee included.
    pub fn cost(&self, original: &Psbt, transaction: &Transaction) -> Option<Amount> {
        lock(&self.state).cost(original, transaction)
    }

    /// The transaction in the chain that spends this coin of ours, and the height of its block. Grows with the wallet.
    pub fn spent_by(&self, coin: OutPoint) -> Option<(Transaction, u32)> {
        let state = lock(&self.state);
        let output = state.outputs_at([coin]).next()?;
        let (position, txid) = output.spent_by?;
        let transaction = state.bdk.tx_graph().get_tx(txid)?;
        Some((transaction.as_ref().clone(), position.confirmation_height_upper_bound()?))
    }
}

impl State {
    fn select(
        &self,
        output: &TxOut,
        rate: FeeRate,
        (channels, per_channel): (usize, Amount),
    ) -> Result<Selection, SpendError> {
        let (free, spendable) = (self.coins.free(), self.coins.spendable(channels));
        let contribution = rate.checked_mul_by_weight(INPUT).unwrap_or(Amount::MAX);
        let may = |selection: &Selection| {
            let mut left = free;
            selection.coins.iter().for_each(|coin| left.remove(coin));
            // A receiver may take this from the change.
            let change = selection.change.unwrap_or_default();
            let lost = contribution.min(change);
            let closable = left.closable() + usize::from(change - lost >= per_channel);
            let cost = output.value.checked_add(selection.fee).and_then(|cost| cost.checked_add(lost));
            closable >= channels.min(free.closable())
                && cost.and_then(|cost| free.value.checked_sub(cost)) >= Some(per_channel * channels as u64)
        };
        let order = Order { output, rate, may: &may };
        let taproot_first = output.script_pubkey.is_p2tr();
        let (first, second) = (self.coins.sorted(taproot_first), self.coins.sorted(!taproot_first));
        let selection = order
            .choose(first.iter().copied())
            .or_else(|| order.choose(second.iter().copied()))
            .or_else(|| {
                let mut all = [first, second].concat();
                all.sort_by_key(|coin| coin.txout.value);
                order.choose(all.iter().copied())
            });
        selection.ok_or(SpendError::NotEnough { spendable })
    }

    fn cost(&self, original: &Psbt, transaction: &Transaction) -> Option<Amount> {
        let paid = original.inputs.iter().map(|input| Some(input.witness_utxo.as_ref()?.value));
        let paid = paid.sum::<Option<Amount>>()?;
        let back = transaction.output.iter();
        let back = back.filter(|output| self.bdk.is_mine(output.script_pubkey.clone()));
        paid.checked_sub(back.map(|output| output.value).sum())
    }
}

/// What a receiver may take from our change: the fee for one input at the rate of the Original.
fn contribution(original: &Psbt) -> Option<Amount> {
    let weight = original.clone().extract_tx_unchecked_fee_rate().weight();
    let fee = original.fee().ok()?;
    let most = fee.to_sat().checked_mul(INPUT.to_wu())?.div_ceil(weight.to_wu().max(1));
    Some(Amount::from_sat(most))
}

//! A channel from coins of ours alone, by the same plan and the same checks as a payment's: what is paid is nothing.

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{Amount, FeeRate, OutPoint, Psbt, ScriptBuf, Transaction, TxIn, TxOut, Weight};

use crate::conservation::OWN_SEQUENCE;
use crate::plan::max_fee_rate;
use crate::{
    CheckedProposal, Coin, Conservation, ConservationError, FeeTerms, FundedChannel, InputTypes, MinFeeRate,
    PaymentOutput, Plan, PlanRequest, PlannedChannel, Policy, Release, Resources, StableProposal, Timestamp,
    plan,
};

/// About what a transaction with one coin, one channel and change weighs.
const TYPICAL: Weight = Weight::from_vb_unchecked(160);

/// What a channel from our coins starts from.
#[derive(Clone, Copy, Debug)]
pub struct OwnFundingRequest<'a> {
    /// One wish, of an exact amount; the coins, what must stay of them, and the best block's height.
    pub resources: &'a Resources,
    /// Where the change goes: a fresh script of ours.
    pub change: &'a ScriptBuf,
    /// What the transaction pays.
    pub rate: FeeRate,
    /// The operator's limits. That on topping up does not count: nothing is paid that could be topped up.
    pub policy: &'a Policy,
}

/// A channel that coins of ours pay for. The coins may be locked and the peer be asked.
#[derive(Clone, Debug)]
pub struct OwnFunding {
    original: Transaction,
    change: TxOut,
    plan: Plan,
    channel: PlannedChannel,
    minimum: MinFeeRate,
    max_fee: Amount,
}

/// Why coins of ours open no channel: what is missing, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OwnFundingError {
    /// There is not enough.
    #[error(
        "the wallet has {} sat in confirmed coins that are not locked; a channel of {} sat takes that, {} sat that must stay to \
         close channels, and about {} sat in fees: {} sat are missing",
        .balance.to_sat(), .amount.to_sat(), .reserve.to_sat(), .fee.to_sat(), .missing.to_sat()
    )]
    NotEnough {
        /// Confirmed and not locked.
        balance: Amount,
        /// Of the channel.
        amount: Amount,
        /// For all channels, this one included.
        reserve: Amount,
        /// About what the miners get.
        fee: Amount,
        /// To be deposited.
        missing: Amount,
    },
    /// There is enough, in too many pieces, or in coins that must stay as they are.
    #[error(
        "no choice of at most {coins} of the wallet's coins pays for the channel and leaves a coin to close each channel with: \
         join small coins by a payment to yourself, or deposit one large coin"
    )]
    Pieces {
        /// Looked at.
        coins: usize,
    },
    /// Beyond the operator's limit.
    #[error(
        "the fee rate is above `max_fee_rate` under [policy]: name a lower one with --fee-rate, or raise that"
    )]
    FeeRate,
    /// Beyond the operator's limit.
    #[error("the fee is above `max_fee` under [policy], {} sat: name a lower rate with --fee-rate, or raise that", .0.to_sat())]
    Fee(Amount),
    /// A bug of ours or of the wallet's: the transaction is not the planned one. Nothing was signed.
    #[error("the transaction is not the planned one: {0}")]
    Conservation(#[from] ConservationError),
    /// The wallet signed something else, or not all of it.
    #[error("the wallet did not sign the transaction that was planned")]
    Unsigned,
}

impl OwnFunding {
    /// Chooses the coins.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn plan(request: &OwnFundingRequest<'_>) -> Result<Self, OwnFundingError> {
        if request.rate > max_fee_rate(request.policy) {
            return Err(OwnFundingError::FeeRate);
        }
        let max_fee = request.policy.max_fee;
        let change = TxOut { value: Amount::ZERO, script_pubkey: request.change.clone() };
        let original = Transaction {
            version: Version::TWO,
            // As most wallets do: it takes away a reason to mine the last block again.
            lock_time: LockTime::from_height(request.resources.height).unwrap_or(LockTime::ZERO),
            input: Vec::new(),
            output: vec![change.clone()],
        };
        let minimum = MinFeeRate::from(request.rate);
        let fees = FeeTerms::new(&original, &[], minimum, Amount::ZERO).ok_or(OwnFundingError::FeeRate)?;
        let fit = |max_fee| request.fit(&change, fees, max_fee);
        let fits = fit(max_fee);
        let dear = || {
            if fit(Amount::MAX_MONEY).is_some() { OwnFundingError::Fee(max_fee) } else { lacking(request) }
        };
        let plan = fits.ok_or_else(dear)?;
        let channel = plan.channels.first().cloned().ok_or_else(|| lacking(request))?;
        Ok(Self { original, change, plan, channel, minimum, max_fee })
    }

    /// What is on record before the peer is asked, in an Original's place: nobody pays.
    #[must_use]
    pub fn original(&self) -> &Transaction {
        &self.original
    }

    /// The channel.
    #[must_use]
    pub fn channel(&self) -> &PlannedChannel {
        &self.channel
    }

    /// The coins that it takes.
    #[must_use]
    pub fn coins(&self) -> Vec<OutPoint> {
        self.plan.coins.iter().map(|coin| coin.outpoint).collect()
    }

    /// How many fresh scripts are needed for what is split off the change.
    #[must_use]
    pub fn splits(&self) -> usize {
        self.plan.splits.len()
    }

    /// The transaction, for the channel with this funding script, to be given to the peer and then to be signed.
    ///
    /// # Errors
    /// [`OwnFundingError::Conservation`] when it is not the planned one.
    pub fn draw(
        &self,
        funding: &ScriptBuf,
        splits: &[ScriptBuf],
    ) -> Result<(StableProposal, CheckedProposal), OwnFundingError> {
        let output = |(value, script_pubkey): (&Amount, &ScriptBuf)| TxOut {
            value: *value,
            script_pubkey: script_pubkey.clone(),
        };
        let splits: Vec<_> = self.plan.splits.iter().zip(splits).map(output).collect();
        let change = TxOut { value: self.plan.change.unwrap_or_default(), ..self.change.clone() };
        let channel = output((&self.channel.amount, funding));
        let outputs = [change, channel].into_iter().chain(splits.iter().cloned());
        let input =
            |coin: &Coin| TxIn { previous_output: coin.outpoint, sequence: OWN_SEQUENCE, ..TxIn::default() };
        let transaction = Transaction {
            input: self.plan.coins.iter().map(input).collect(),
            output: outputs.collect(),
            ..self.original.clone()
        };
        let mut psbt = Psbt::from_unsigned_tx(transaction).map_err(|_| ConservationError::Signed)?;
        for (input, coin) in psbt.inputs.iter_mut().zip(&self.plan.coins) {
            input.witness_utxo = Some(coin.txout.clone());
        }
        let conservation = self.conservation(funding.clone(), splits);
        let checked = conservation.check(psbt)?;
        Ok((conservation.stable(&checked)?, checked))
    }

    fn conservation(&self, funding: ScriptBuf, splits: Vec<TxOut>) -> Conservation {
        Conservation {
            original: self.original.clone(),
            prevouts: Vec::new(),
            payment: 0,
            contribution: None,
            coins: self.plan.coins.clone(),
            channels: vec![(self.channel.clone(), funding)],
            splits,
            output: PaymentOutput::Change,
            min_fee_rate: self.minimum,
            max_fee: self.max_fee,
            payer_is_me: false,
        }
    }

    /// What is written before the transaction is sent, with the signatures that the wallet gave.
    ///
    /// # Errors
    /// [`OwnFundingError::Unsigned`] when `signed` is not the transaction that the peer has, or not signed.
    pub fn release(
        &self,
        stable: &StableProposal,
        signed: Psbt,
        now: Timestamp,
    ) -> Result<Release, OwnFundingError> {
        let proposal = signed.to_string();
        let fee = signed.fee().map_err(|_| OwnFundingError::Unsigned)?;
        let transaction = signed.extract_tx().map_err(|_| OwnFundingError::Unsigned)?;
        let txid = stable.transaction().compute_txid();
        if transaction.compute_txid() != txid
            || transaction.input.iter().any(|input| input.witness.is_empty())
        {
            return Err(OwnFundingError::Unsigned);
        }
        let channel = |(channel, vout): &(PlannedChannel, u32)| FundedChannel {
            intent: channel.intent,
            vout: *vout,
            amount: channel.amount,
        };
        Ok(Release {
            proposal,
            txid,
            is_final: true,
            fee,
            channels: stable.funding().iter().map(channel).collect(),
            reason: None,
            coins: self.coins(),
            partitions: None,
            fallback_at: now,
            signed: Some(Box::new(transaction)),
        })
    }
}

impl OwnFundingRequest<'_> {
    /// The plan of a payment of nothing to the change's script.
    fn fit(&self, change: &TxOut, fees: FeeTerms, max_fee: Amount) -> Option<Plan> {
        // What the empty part weighs counts, too, so the limit on the rate was looked at before.
        let max_fee_rate = Psbt::DEFAULT_MAX_FEE_RATE;
        let policy = Policy { top_up: true, max_fee, max_fee_rate, ..self.policy.clone() };
        plan(&PlanRequest {
            payment: change,
            outputs: std::slice::from_ref(change),
            output: PaymentOutput::Change,
            resources: self.resources,
            types: InputTypes { spent: &[], any: true },
            fees,
            payer_is_me: false,
            policy: &policy,
        })
    }
}

/// Why no plan fits.
fn lacking(request: &OwnFundingRequest<'_>) -> OwnFundingError {
    let Resources { coins, reserve, wishes, .. } = request.resources;
    let amount = wishes.first().map(crate::ChannelWish::typical).unwrap_or_default();
    let fee = request.rate.checked_mul_by_weight(TYPICAL).unwrap_or(Amount::MAX_MONEY);
    let kept = reserve.existing.checked_add(reserve.per_channel).unwrap_or(Amount::MAX_MONEY);
    let needed = [amount, kept, fee].into_iter().try_fold(Amount::ZERO, Amount::checked_add);
    match needed.unwrap_or(Amount::MAX_MONEY).checked_sub(reserve.balance) {
        Some(missing) if missing > Amount::ZERO => {
            OwnFundingError::NotEnough { balance: reserve.balance, amount, reserve: kept, fee, missing }
        }
        _ => OwnFundingError::Pieces { coins: coins.len() },
    }
}

//! What a settlement starts from, what it hears and what it wants.

use bitcoin::{Amount, OutPoint, Transaction, TxOut, Txid};
use serde::{Deserialize, Serialize};

use super::{Prices, Undefended};
use crate::{ExchangeId, FundedChannel, Timestamp};

/// What an admitted exchange owes: to its payer (the payment arrives), to its channels and to its coins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obligation {
    /// The exchange.
    pub exchange: ExchangeId,
    /// The Original, ready to broadcast; without inputs where nobody pays ([`Obligation::is_own`]).
    pub original: Transaction,
    /// What the invoice is owed, and its script: see [`Invoice::owed`](crate::Invoice::owed).
    pub payment: TxOut,
    /// The payjoin's transaction id with empty scriptSigs ([`Transaction::compute_ntxid`]), once released.
    pub payjoin: Option<Txid>,
    /// What the Original and the payjoin pay the miners; nothing where it is not on record.
    pub fees: Fees,
    /// Coins of ours that the payjoin spends.
    pub coins: Vec<OutPoint>,
    /// Channels that the payjoin funds.
    pub channels: Vec<FundedChannel>,
    /// It came without payjoin: the Original is what its payer broadcast. Nothing is sent for it, and any spend of his inputs
    /// that pays the invoice something has paid.
    pub plain: bool,
    /// When to broadcast the Original if nothing was seen. A plain payment that is nowhere then is given up.
    pub fallback_at: Timestamp,
    /// The payjoin with all signatures, once the mempool had it. Worth more than the Original: it funds the channels.
    pub signed: Option<Transaction>,
    /// The transaction that spent the Original's inputs in a block, and that block's height.
    pub mined: Option<(Transaction, u32)>,
}

impl Obligation {
    /// Coins of ours alone open channels: there is no payer, and no Original to fall back on.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.original.input.is_empty()
    }
}

/// What the two transactions of an exchange pay the miners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fees {
    /// The Original.
    pub original: Amount,
    /// The payjoin.
    pub payjoin: Amount,
}

/// What opens one channel without a payjoin: an input of P2WPKH, a funding output and change, in virtual bytes.
const OPENING: u64 = 153;

impl Fees {
    /// What the payjoin pays beyond the Original.
    #[must_use]
    pub fn added(&self) -> Amount {
        self.payjoin.checked_sub(self.original).unwrap_or_default()
    }

    /// What a payjoin with so many channels saved against the Original as a deposit and then a transaction for each of the
    /// channels, at the rate of the payjoin: those transactions have one input, the channel and change. Nothing where the
    /// payjoin's fee is not on record.
    #[must_use]
    pub fn saved(&self, channels: usize, payjoin: &Transaction) -> Amount {
        let size = payjoin.vsize().max(1) as u64;
        let openings = self.payjoin.to_sat().saturating_mul(OPENING).saturating_mul(channels as u64) / size;
        Amount::from_sat(openings).checked_sub(self.added()).unwrap_or_default()
    }
}

/// An input to a [`Settlement`](super::Settlement).
#[derive(Clone, Debug)]
pub enum SettlementInput {
    /// All that the mempool holds that spends an input of the Original or a coin of ours.
    Mempool(Vec<Transaction>),
    /// This transaction, which spends an input of the Original or a coin of ours, is in the block at this height.
    Mined(Transaction, u32),
    /// The blocks at this height and above were reorganised out.
    Disconnected(u32),
    /// The network did not take what was sent last, or there is no child for it.
    Refused,
    /// The answer to [`SettlementOutput::Weigh`]; `None` where nobody can tell.
    Weighed(Option<Prices>),
    /// The best chain has this height.
    Tip(u32),
    /// Time passed.
    Tick,
}

/// How an obligation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Settled {
    /// The payjoin is buried: unlock, the channels are real.
    Payjoin,
    /// The Original is buried, or another spend of the payer's inputs that pays the invoice in full, such as an Original
    /// with a higher fee: unlock, forget the channels, queue their intents again.
    Original,
    /// A spend of the payer's inputs that does not pay the invoice is buried: as for the Original.
    Conflict,
    /// A payment without payjoin is buried.
    Plain,
    /// A payment without payjoin is in no block, and left the mempool long ago. Should it come back it is one again. Or a
    /// channel from coins of ours alone was not opened.
    Gone,
}

/// What a [`Settlement`](super::Settlement) wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettlementOutput {
    /// Send this transaction to the network; a refusal is not fatal, it is asked for again.
    Broadcast(Transaction),
    /// Ask the mempool what it takes to replace these -> [`SettlementInput::Weighed`].
    Weigh(Vec<Txid>),
    /// Send this transaction together with a child of ours that spends its output `vout` and pays this fee.
    Defend {
        /// The parent.
        parent: Transaction,
        /// Its output that is ours.
        vout: u32,
        /// The child's fee.
        fee: Amount,
    },
    /// This transaction of ours stays out of the mempool until the next block, and why. For the operator.
    GiveUp(Txid, Undefended),
    /// Record this as [`Obligation::signed`]: it is tried again after a restart, too.
    RecordSigned(Transaction),
    /// Record this as [`Obligation::mined`] (`None` after a reorganisation).
    RecordMined(Option<(Transaction, u32)>),
    /// The end. Nothing follows.
    Done(Settled),
    /// Nothing to do before this moment or the next input.
    Wait(Option<Timestamp>),
}

//! `send`: pays a BIP 21 code, by payjoin where the receiver offers it.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::amount::serde::as_sat;
use bitcoin::{Amount, Psbt, ScriptBuf, Transaction, TxOut, Txid};
use payjoin_core::{Code, CodeError, LedgerError, PaymentId, PaymentRecord};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::daemon::Daemon;
use crate::error::{ErrorKind, RequestError};
use crate::pay::{BeginError, Payments};
use crate::rights::{Access, Guarded, SPEND};
use crate::values::SatPerVb;

/// What to pay, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SendArgs {
    /// The code, or an address.
    pub uri: String,
    /// How much, where the code leaves it to us.
    #[serde(default, with = "as_sat::opt")]
    #[schemars(with = "Option<u64>")]
    pub amount: Option<Amount>,
    /// Pays once more what was paid before, instead of telling what became of it.
    #[serde(default)]
    pub again: bool,
    /// Fee rate. Default: what confirms within six blocks.
    pub fee_rate: Option<SatPerVb>,
    /// Seconds to wait for the outcome before leaving it to the background.
    pub wait: u64,
}

/// A payment of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Payment {
    /// What became of it so far.
    pub status: PaymentStatus,
    /// The transaction that pays, once it is known.
    #[schemars(with = "Option<String>")]
    pub txid: Option<Txid>,
    /// What it costs us beside the amount.
    #[serde(rename = "fee_sat", with = "as_sat::opt")]
    #[schemars(with = "Option<u64>")]
    pub fee: Option<Amount>,
    /// Why it is not a payjoin, or not yet one.
    pub reason: Option<String>,
    /// Was it begun by an earlier command? Then nothing was paid now.
    pub earlier: bool,
}

/// What became of a payment of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PaymentStatus {
    /// The receiver has not answered yet.
    Pending,
    /// It is a payjoin.
    Payjoin,
    /// It is the plain payment.
    Original,
}

const PENDING: &str = "no answer yet; the payment goes on in the background, run the command again to see it";

impl Guarded for SendArgs {
    const ACCESS: Access = SPEND;
}

impl Daemon {
    pub(super) async fn send(&self, args: SendArgs) -> Result<Payment, RequestError> {
        let read = || {
            let code = Code::read(&args.uri, self.settings.network)?.paying(args.amount)?;
            Ok((code.output()?, code.uri()))
        };
        let (output, uri) = read().map_err(|error: CodeError| ErrorKind::Request.error(error))?;
        let payments = self.payments()?;
        let (last, next) = self.payments_of(&args.uri, &uri).await?;
        let (id, earlier) = match last {
            Some(PaymentRecord { paid: None, .. }) if args.again => {
                return Err(
                    ErrorKind::Request.error("the payment before is not made yet: see it without --again")
                );
            }
            Some(payment) if !args.again => (payment.id, true),
            _ => (self.begin_payment(&args, &output, next).await?, false),
        };
        let Some(paid) = payments.outcome(id, Duration::from_secs(args.wait)).await? else {
            let (status, reason) = (PaymentStatus::Pending, Some(PENDING.to_owned()));
            return Ok(Payment { status, txid: None, fee: None, reason, earlier });
        };
        let original = self.store.payment(id).await?.map(|payment| payment.original);
        let cost = match original {
            Some(original) => self.cost(&original, &paid.transaction).await?,
            None => None,
        };
        Ok(Payment {
            status: if paid.fallback.is_some() { PaymentStatus::Original } else { PaymentStatus::Payjoin },
            txid: Some(paid.transaction.compute_txid()),
            fee: cost.and_then(|cost| cost.checked_sub(output.value)),
            reason: paid.fallback,
            earlier,
        })
    }

    /// The last payment of a code, and the spelling under which the next is kept: a code is paid once in each spelling.
    async fn payments_of(
        &self,
        text: &str,
        code: &str,
    ) -> Result<(Option<PaymentRecord>, String), LedgerError> {
        // Before codes were read into one spelling they were kept as they came.
        let mut last = self.store.payment_of(text).await?;
        let mut next = code.to_owned();
        for again in 2.. {
            match self.store.payment_of(&next).await? {
                Some(payment) => last = Some(payment),
                None => break,
            }
            next = format!("{code}&again={again}");
        }
        Ok((last, next))
    }

    async fn begin_payment(
        &self,
        args: &SendArgs,
        output: &TxOut,
        uri: String,
    ) -> Result<PaymentId, RequestError> {
        if self.owns([&output.script_pubkey]).await? == [true] {
            return Err(ErrorKind::Request.error("this code is our own"));
        }
        let rate = args.fee_rate.map_or_else(|| self.chain.fee_rate(), Into::into);
        let id = self.store.new_payment();
        let original = self.node.pay_on_chain(id, output, rate).await;
        let original = original.map_err(|error| ErrorKind::Wallet.error(error))?;
        self.payments()?.begin(id, uri, original, rate).await?;
        Ok(id)
    }
}

impl Daemon {
    /// Payments of ours are made with the embedded wallet alone.
    fn payments(&self) -> Result<&Arc<Payments>, RequestError> {
        self.payments.as_ref().ok_or_else(|| {
            ErrorKind::Settings
                .error("the wallet is your own node's: pay from there, this program only receives")
        })
    }

    /// What we paid with a transaction that spends the inputs of `original`, fee included.
    pub(super) async fn cost(
        &self,
        original: &Psbt,
        paid: &Transaction,
    ) -> Result<Option<Amount>, RequestError> {
        let spent = original.inputs.iter().map(|input| Some(input.witness_utxo.as_ref()?.value));
        let owned = self.owns(paid.output.iter().map(|output| &output.script_pubkey)).await?;
        let back = paid.output.iter().zip(owned).filter(|(_, owned)| *owned);
        let back = back.map(|(output, _)| output.value).sum();
        Ok(spent.sum::<Option<Amount>>().and_then(|spent| spent.checked_sub(back)))
    }

    async fn owns(&self, scripts: impl IntoIterator<Item = &ScriptBuf>) -> Result<Vec<bool>, RequestError> {
        let scripts: Vec<_> = scripts.into_iter().cloned().collect();
        self.node.owns(&scripts).await.map_err(|error| ErrorKind::Wallet.error(error))
    }
}

impl From<BeginError> for RequestError {
    fn from(error: BeginError) -> Self {
        let kind = match &error {
            BeginError::Store(_) => ErrorKind::Ledger,
            _ => ErrorKind::Chain,
        };
        kind.error(error)
    }
}

//! Payments that come without payjoin: an ordinary wallet pays the address of a code.

use bitcoin::{Amount, ScriptBuf, Transaction, TxOut};
use payjoin_core::{ExchangeId, Fees, InvoiceId, Obligation, PlainPayment, SettlementInput, Step, paid_to};

use super::Settler;

/// bitcoind keeps nothing in its mempool for longer.
const GONE_SECONDS: u64 = 14 * 24 * 3600;

impl Settler {
    /// Transactions in the mempool that pay codes ([`Watched::paid_codes`](crate::Watched::paid_codes)). Tell them at each
    /// look.
    pub async fn on_payments(&mut self, transactions: &[Transaction]) {
        self.take_incoming().await;
        for transaction in transactions {
            self.consider(transaction, None).await;
        }
    }

    /// A transaction in the mempool, or in the block at this height, may be a payment without payjoin. While an exchange with
    /// one of its inputs runs, it may be that exchange's.
    pub(super) async fn consider(&mut self, transaction: &Transaction, height: Option<u32>) {
        if transaction.is_coinbase() || self.host.watched().is_early(transaction) {
            return;
        }
        for (script, invoice) in self.host.watched().paid_codes(transaction) {
            if !self.is_awaited(transaction, &script) {
                self.record_plain(transaction, script, invoice, height).await;
            }
        }
    }

    /// Transactions of blocks of which it was not known what they are.
    pub(super) async fn reconsider(&mut self) {
        for (height, transaction) in std::mem::take(&mut self.doubtful) {
            self.consider(&transaction, Some(height)).await;
        }
    }

    /// Whether it is an outcome of an exchange at this invoice.
    fn is_awaited(&self, transaction: &Transaction, script: &ScriptBuf) -> bool {
        let waiting = self.host.watched().waiting(transaction);
        let mut owed = waiting.iter().filter_map(|id| self.running.get(id));
        owed.any(|running| running.machine.obligation().payment.script_pubkey == *script)
    }

    async fn record_plain(
        &mut self,
        transaction: &Transaction,
        script: ScriptBuf,
        invoice: InvoiceId,
        height: Option<u32>,
    ) {
        let now = self.host.now();
        let (transaction, gone_at) = (transaction.clone(), now.plus(GONE_SECONDS));
        let plain = PlainPayment { invoice: invoice.clone(), transaction, now, gone_at };
        let store = &self.host.store;
        let id = match store.record_plain(store.new_exchange(), &plain).await {
            Ok(Some(id)) => id,
            Ok(None) => return,
            Err(error) => {
                tracing::error!(%error, %invoice, "a payment without payjoin is not recorded yet");
                self.doubtful.extend(height.map(|height| (height, plain.transaction)));
                return;
            }
        };
        let (txid, amount) = (plain.transaction.compute_txid(), paid_to(&script, &plain.transaction));
        tracing::info!(%txid, %invoice, exchange = id.0, sat = amount.to_sat(), "a payment without payjoin");
        self.host.tell(id, Step::PlainPayment { invoice, amount, txid });
        self.add(owed(id, &plain, script));
        if let Some(height) = height {
            self.give(id, SettlementInput::Mined(plain.transaction, height)).await;
        }
    }
}

fn owed(exchange: ExchangeId, plain: &PlainPayment, script_pubkey: ScriptBuf) -> Obligation {
    Obligation {
        exchange,
        original: plain.transaction.clone(),
        payment: TxOut { value: Amount::ZERO, script_pubkey },
        payjoin: None,
        fees: Fees::default(),
        coins: Vec::new(),
        channels: Vec::new(),
        plain: true,
        fallback_at: plain.gone_at,
        signed: None,
        mined: None,
    }
}

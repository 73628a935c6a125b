//! Payments that come without payjoin.

use bitcoin::{Amount, TxOut};
use payjoin_core::{Event, ExchangeRecord, ExchangeState, Invoice, Step};

use super::*;

/// A settler and a code that an ordinary wallet pays.
struct Till {
    case: Case,
    invoice: Invoice,
    events: tokio::sync::broadcast::Receiver<Event>,
}

impl Till {
    async fn new() -> Self {
        let mut stage = Stage::new();
        let (sender, events) = tokio::sync::broadcast::channel(64);
        stage.host = stage.host.clone().with_events(sender);
        let invoice = stage.invoice("a").await;
        let settler = Settler::new(stage.host.clone(), stage.owing.take().unwrap()).await.unwrap();
        let (payjoin, original) = (original(9).extract_tx().unwrap(), original(9).extract_tx().unwrap());
        Self { case: Case { stage, settler, payjoin, original }, invoice, events }
    }

    /// Pays so much to the code from these coins of the payer's.
    fn payment(&self, coins: &[u32], sat: u64) -> Transaction {
        let mut transaction = self.case.original.clone();
        let input = transaction.input[0].clone();
        let spending = |n: &u32| bitcoin::TxIn { previous_output: outpoint(*n), ..input.clone() };
        transaction.input = coins.iter().map(spending).collect();
        let script_pubkey = self.invoice.script.clone();
        transaction.output = vec![TxOut { value: Amount::from_sat(sat), script_pubkey }];
        transaction
    }

    /// A look into a mempool that holds these.
    async fn look(&mut self, transactions: &[&Transaction]) {
        let settler = &mut self.case.settler;
        settler.on_payments(&block(transactions)).await;
        let spent = |transaction: &&Transaction| {
            let inputs = transaction.input.iter().map(|input| input.previous_output).collect::<Vec<_>>();
            inputs.into_iter().map(|coin| (coin, (*transaction).clone())).collect::<Vec<_>>()
        };
        settler.on_mempool(&transactions.iter().flat_map(spent).collect()).await;
    }

    async fn bury(&mut self, height: u32, transaction: &Transaction) {
        self.case.mine(height, &[transaction]).await;
        self.case.mine(height + 1, &[]).await;
    }

    async fn restarted(self) -> Self {
        Self { case: self.case.restarted().await, ..self }
    }

    fn exchanges(&self) -> Vec<ExchangeRecord> {
        ready(self.case.stage.host.store.exchanges(None, 9)).unwrap()
    }

    #[track_caller]
    fn only(&self) -> ExchangeRecord {
        let mut exchanges = self.exchanges();
        assert_eq!(exchanges.len(), 1, "{exchanges:?}");
        exchanges.remove(0)
    }
}

#[tokio::test]
async fn a_payment_without_payjoin_is_told_once_and_settles_as_plain() {
    let mut till = Till::new().await;
    let payment = till.payment(&[1], 60_000);
    till.look(&[&payment]).await;
    till.look(&[&payment]).await;
    let record = till.only();
    assert_eq!((record.state, record.plain), (ExchangeState::Plain, Some(Amount::from_sat(60_000))));
    let mut till = till.restarted().await;
    till.look(&[&payment]).await;
    till.bury(100, &payment).await;
    let record = till.only();
    assert_eq!((record.settled, record.mined_txid), (Some(Settled::Plain), Some(payment.compute_txid())));
    let steps: Vec<_> = std::iter::from_fn(|| till.events.try_recv().ok()).map(|event| event.step).collect();
    let (invoice, amount, txid) = (till.invoice.id.clone(), Amount::from_sat(60_000), payment.compute_txid());
    let told = [Step::PlainPayment { invoice, amount, txid }, Step::Confirmed { txid, height: 100 }];
    assert_eq!(steps, told);
    assert!(till.case.settler.watched_outpoints().await.is_empty());
    till.case.stage.assert_nothing_leaks();
}

#[tokio::test]
async fn a_payment_that_only_a_block_shows_is_recorded_also_when_the_block_is_told_again() {
    let mut till = Till::new().await;
    let payment = till.payment(&[1], 60_000);
    till.bury(100, &payment).await;
    assert_eq!(till.only().settled, Some(Settled::Plain));
    assert!(till.case.settler.is_recorded().await);
    // We died before it was noted that these blocks were dealt with.
    let mut till = till.restarted().await;
    till.bury(100, &payment).await;
    assert_eq!(till.only().settled, Some(Settled::Plain));
}

#[tokio::test]
async fn payments_to_one_code_are_each_an_exchange_and_a_replacement_is_none() {
    let mut till = Till::new().await;
    let (first, second) = (till.payment(&[1], 60_000), till.payment(&[2], 50_000));
    till.look(&[&first, &second]).await;
    let bumped = till.payment(&[1, 3], 40_000);
    till.look(&[&bumped, &second]).await;
    assert_eq!(till.exchanges().len(), 2);
    till.case.mine(100, &[&bumped, &second]).await;
    // Another branch has the first one after all.
    till.case.settler.on_disconnect(100).await;
    till.look(&[&bumped]).await;
    till.case.mine(100, &[&second]).await;
    till.bury(101, &bumped).await;
    let told: Vec<_> = till.exchanges().into_iter().map(|e| (e.settled, e.plain, e.mined_txid)).collect();
    let plain = |sat, mined: &Transaction| {
        (Some(Settled::Plain), Some(Amount::from_sat(sat)), Some(mined.compute_txid()))
    };
    assert_eq!(told, [plain(50_000, &second), plain(40_000, &bumped)]);
}

#[tokio::test]
async fn a_payment_that_its_payer_takes_back_is_a_conflict() {
    let mut till = Till::new().await;
    let payment = till.payment(&[1], 60_000);
    till.look(&[&payment]).await;
    let mut back = payment.clone();
    back.output[0].script_pubkey = bitcoin::ScriptBuf::new();
    till.bury(100, &back).await;
    assert_eq!(till.only().settled, Some(Settled::Conflict));
    assert!(till.case.stage.world.broadcast.lock().unwrap().is_empty(), "nothing was sent for it");
}

#[tokio::test]
async fn beside_a_payjoin_at_the_same_code_each_payment_is_what_it_is() {
    let mut till = Till::new().await;
    let mut exchange = till.case.stage.exchange(&till.invoice, 1);
    let Reply::Proposal(psbt) = drive(&till.case.stage.host, &mut exchange).await else {
        panic!("no proposal")
    };
    let payjoin = psbt.parse::<bitcoin::Psbt>().unwrap().unsigned_tx;
    let plain = till.payment(&[2], 60_000);
    till.look(&[&payjoin, &plain]).await;
    till.case.mine(100, &[&payjoin, &plain]).await;
    till.case.mine(101, &[]).await;
    let told: Vec<_> = till.exchanges().into_iter().map(|exchange| exchange.settled).collect();
    assert_eq!(told, [Some(Settled::Plain), Some(Settled::Payjoin)]);
    let mut till = till.restarted().await;
    till.case.mine(100, &[&payjoin, &plain]).await;
    till.look(&[]).await;
    assert_eq!(till.exchanges().len(), 2, "told again");
}

/// The payer did not wait for us. As long as his Original is looked at, nobody knows whose it is.
#[tokio::test]
async fn an_original_that_is_mined_while_its_exchange_runs_is_plain_when_that_came_to_nothing() {
    let mut till = Till::new().await;
    till.case.stage.world.stalled.store(true, Ordering::SeqCst);
    let (host, mut exchange) = (till.case.stage.host.clone(), till.case.stage.exchange(&till.invoice, 2));
    let running = tokio::spawn(async move { drive(&host, &mut exchange).await });
    while till.case.stage.world.inspecting.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let paid = original(2).extract_tx().unwrap();
    till.case.mine(100, &[&paid]).await;
    assert!(till.exchanges().is_empty());
    assert!(!till.case.settler.is_recorded().await);
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    assert!(till.case.settler.is_recorded().await);
    till.case.mine(101, &[]).await;
    assert_eq!(till.only().settled, Some(Settled::Plain));
}

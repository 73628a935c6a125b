//! What files of earlier versions become.

use std::io;

use payjoin_core::{ChannelLimits, IntentState, PeerBook as _};
use tracing_subscriber::fmt::MakeWriter;

use super::*;

#[tokio::test]
async fn channels_that_an_earlier_version_queued_are_those_of_this_one() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("store.sqlite");
    let db = schema::open_with(&path, &schema::MIGRATIONS[..4]).unwrap();
    let with_push = ChannelSpec { push: Amount::from_sat(7), announced: true, ..wish() };
    let rest = ChannelSpec { amount: ChannelAmount::Rest, ..wish() };
    for spec in [&with_push, &rest] {
        let (spec, amount) = (
            serde_json::to_string(spec).unwrap(),
            match spec.amount {
                ChannelAmount::Exact(amount) => Some(amount.to_sat()),
                ChannelAmount::Rest | ChannelAmount::Absorb => None,
            },
        );
        let sql = "INSERT INTO intents (amount, min, max, payer_is_me, spec, state) VALUES (?1, 1000, 9000, ?2, ?3, 'queued')";
        db.execute(sql, rusqlite::params![amount, amount.is_none(), spec]).unwrap();
    }
    drop(db);
    let store = Store::open(&path).unwrap();
    let found: Vec<_> = store.intents().await.unwrap().into_iter().map(|intent| intent.spec).collect();
    assert_eq!(found, [with_push, rest]);
    assert_eq!(store.waiting().await.unwrap()[0].wish.max, Amount::from_sat(9_000));
}

/// What is logged meanwhile.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Log {
    fn during<T>(work: impl FnOnce() -> T) -> (T, String) {
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(log.clone()).finish();
        let done = tracing::subscriber::with_default(subscriber, work);
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        (done, text)
    }
}

#[tokio::test]
async fn money_rule_5_own_input_intents_lose_the_word_that_payer_and_operator_are_one_and_the_operator_is_told()
 {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("store.sqlite");
    let db = schema::open_with(&path, &schema::MIGRATIONS[..7]).unwrap();
    let peer = wish().peer.to_string();
    for (payer_is_me, state) in
        [(true, "queued"), (false, "queued"), (true, "cancelled"), (true, "negotiating")]
    {
        let sql =
            "INSERT INTO intents (amount, min, max, payer_is_me, peer, push, announced, state, failures)
                   VALUES (50000, 1000, 9000, ?1, ?2, 0, 0, ?3, 2)";
        db.execute(sql, rusqlite::params![payer_is_me, peer, state]).unwrap();
    }
    db.execute("DELETE FROM intents WHERE id = 2", []).unwrap();
    drop(db);
    let (store, told) = Log::during(|| Store::open(&path).unwrap());
    let line = told.lines().find(|line| line.contains("WARN")).unwrap();
    for part in ["intents=[1, 4]", "payer-is-me", "counts no more", "receive --payer-is-me"] {
        assert!(line.contains(part), "{part}: {told}");
    }
    let states: Vec<_> =
        store.intents().await.unwrap().into_iter().map(|intent| (intent.id.0, intent.state)).collect();
    let IntentState::Queued { reason: Some(reason) } = &states[0].1 else { panic!("{states:?}") };
    assert!(reason.contains("receive --payer-is-me"), "{reason}");
    let rest = [(3, IntentState::Cancelled), (4, IntentState::Negotiating)];
    assert_eq!((states[0].0, &states[1..]), (1, &rest[..]));
    assert_eq!(
        store.queue_intent(wish(), ChannelLimits::default(), None).await.unwrap(),
        IntentId(5),
        "no number is given again"
    );
    drop(store);
    let (_, told) = Log::during(|| Store::open(&path).unwrap());
    assert!(!told.contains("payer-is-me"), "told once: {told}");
}

#[tokio::test]
async fn exchanges_of_an_earlier_version_are_those_of_this_one_and_are_pruned_in_their_time() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("store.sqlite");
    let db = schema::open_with(&path, &schema::MIGRATIONS[..7]).unwrap();
    db.execute("INSERT INTO invoices VALUES ('a', x'51', 9, 1, 2)", []).unwrap();
    let original = bitcoin::consensus::serialize(&spend(&[1]));
    for (name, state) in [("settled", "settled"), ("owed", "failed")] {
        let sql =
            "INSERT INTO exchanges (invoice, original_id, original, state, outcome, fallback_at, created)
                   VALUES ('a', ?1, ?2, ?3, 'original', 5, 1)";
        db.execute(sql, rusqlite::params![name, original, state]).unwrap();
    }
    db.execute("INSERT INTO seen VALUES ('x', 1)", []).unwrap();
    db.execute("UPDATE sqlite_sequence SET seq = 7 WHERE name = 'exchanges'", []).unwrap();
    drop(db);
    let store = Store::open(&path).unwrap();
    assert_eq!(store.new_exchange(), ExchangeId(8), "no number is given again");
    let told = store.exchanges(None, 9).await.unwrap();
    let txid = spend(&[1]).compute_txid();
    assert_eq!(told.iter().map(|record| record.original_txid).collect::<Vec<_>>(), [txid, txid]);
    assert_eq!(store.obligations().await.unwrap()[0].original, spend(&[1]));
    // When it settled nobody knows: its time begins now.
    let before = Timestamp(crate::testing::now().0 - 60);
    assert_eq!(store.prune(before, 9).await.unwrap(), 0);
    assert_eq!(store.prune(Timestamp(u64::from(u32::MAX)), 9).await.unwrap(), 1);
    assert_eq!(store.exchanges(None, 9).await.unwrap(), told);
    let db = Connection::open(&path).unwrap();
    let broken: i64 =
        db.query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |row| row.get(0)).unwrap();
    assert_eq!(broken, 0);
    let kept: i64 = db
        .query_row("SELECT count(*) FROM exchanges WHERE original IS NOT NULL", [], |row| row.get(0))
        .unwrap();
    assert_eq!(kept, 1);
}

#[tokio::test]
async fn money_rule_8_probing_an_original_that_an_earlier_version_answered_is_known_again() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("store.sqlite");
    let db = schema::open_with(&path, &schema::MIGRATIONS[..10]).unwrap();
    db.execute("INSERT INTO invoices VALUES ('a', x'51', 9, 1, 2, 0)", []).unwrap();
    let original = bitcoin::consensus::serialize(&spend(&[1]));
    let sql =
        "INSERT INTO exchanges (invoice, original_id, original, state, proposal, fallback_at, created, plain)
               VALUES ('a', ?1, ?2, ?3, ?4, 5, 1, ?5)";
    db.execute(sql, rusqlite::params!["its bytes", original, "released", "the answer", None::<u64>]).unwrap();
    db.execute(sql, rusqlite::params!["damaged", [0u8; 3], "released", "unknown", None::<u64>]).unwrap();
    db.execute(sql, rusqlite::params!["a plain one", original, "plain", None::<String>, 7]).unwrap();
    drop(db);
    let store = Store::open(&path).unwrap();
    let name = OriginalId::of(&InvoiceId("a".into()), &spend(&[1]));
    assert_eq!(store.recall(&name).await.unwrap().as_deref(), Some("the answer"));
    assert_eq!(store.recall(&OriginalId("damaged".into())).await.unwrap().as_deref(), Some("unknown"));
    drop(store);
    let db = Connection::open(&path).unwrap();
    let plain: String = db
        .query_row("SELECT original_id FROM exchanges WHERE state = 'plain'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(plain, "a plain one");
}

use std::fs;
use std::io::Write as _;
use std::process::Command;

use super::*;

#[tokio::test]
async fn exchanges_that_wait_together_share_a_commit() {
    let fixture = Fixture::new().await;
    let before = fixture.store.commits();
    let exchanges = 200;
    // Holds the writer until all of them wait.
    let (go, held) = std::sync::mpsc::channel::<()>();
    let blocker = fixture.store.clone();
    let blocked = tokio::spawn(async move { blocker.write(move |_| Ok(held.recv().is_ok())).await });
    let mut running = tokio::task::JoinSet::new();
    for n in 0..exchanges {
        let store = fixture.store.clone();
        let id = store.new_exchange();
        running.spawn(async move { store.admit(id, &admission(&n.to_string(), &[n])).await });
    }
    tokio::task::yield_now().await;
    go.send(()).unwrap();
    assert!(blocked.await.unwrap().unwrap());
    while let Some(admitted) = running.join_next().await {
        assert!(matches!(admitted.unwrap().unwrap(), AdmitOutcome::Admitted));
    }
    assert_eq!(fixture.store.obligations().await.unwrap().len(), exchanges as usize);
    let commits = fixture.store.commits() - before;
    assert!(commits <= 3, "{commits} commits for {exchanges} exchanges");
}

#[tokio::test]
async fn one_that_fails_does_not_disturb_the_others_of_its_commit() {
    let fixture = Fixture::new().await;
    let good = admission("good", &[1]);
    let bad = Admission { intents: vec![IntentId(99)], ..admission("bad", &[2]) };
    let last = admission("last", &[3]);
    let (good, bad, last) = tokio::join!(fixture.admit(&good), fixture.admit(&bad), fixture.admit(&last));
    assert!(matches!(good, Ok(AdmitOutcome::Admitted)));
    assert!(matches!(bad, Err(LedgerError::NotQueued(IntentId(99)))));
    assert!(matches!(last, Ok(AdmitOutcome::Admitted)));
}

#[tokio::test]
async fn a_write_that_panics_leaves_no_trace_and_disturbs_nobody() {
    let fixture = Fixture::new().await;
    let store = fixture.store.clone();
    let panics = store.write(|db: &Connection| -> Result<(), DbError> {
        db.execute("DELETE FROM invoices", [])?;
        panic!("on purpose");
    });
    assert!(matches!(panics.await, Err(LedgerError::Failed(_))));
    assert_eq!(store.invoices(10).await.unwrap(), [invoice("b"), invoice("a")]);
    fixture.admitted(&admission("first", &[1])).await;
}

/// A backup or a curious operator: longer than the five seconds after which SQLite's own patience ends.
#[tokio::test]
async fn a_write_waits_for_another_program_that_holds_the_file() {
    let fixture = Fixture::new().await;
    let other = Connection::open(fixture.folder.path().join("store.sqlite")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let held = std::time::Instant::now();
    let release = tokio::task::spawn_blocking(move || {
        std::thread::sleep(std::time::Duration::from_secs(6));
        other.execute_batch("COMMIT").unwrap();
    });
    fixture.admitted(&admission("first", &[1])).await;
    assert!(held.elapsed() >= std::time::Duration::from_secs(6));
    release.await.unwrap();
}

/// The other process of the next test, which kills it. Does nothing in a run of its own.
#[tokio::test]
async fn child_that_admits_and_is_killed() {
    let Ok(path) = std::env::var("PAYJOIN_IO_KILLED_STORE") else { return };
    let store = Store::open(path).unwrap();
    store.insert_invoice(&invoice("a")).await.unwrap();
    let mut first = admission("first", &[1]);
    first.coins = vec![coin(101)];
    store.admit(store.new_exchange(), &first).await.unwrap();
    println!("admitted");
    std::io::stdout().flush().unwrap();
    std::thread::sleep(std::time::Duration::from_secs(60));
}

#[tokio::test]
async fn what_was_acknowledged_outlives_kill_9_and_a_second_process_is_refused() {
    use std::io::{BufRead as _, BufReader};
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("store.sqlite");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::tests::file::child_that_admits_and_is_killed", "--nocapture"])
        .env("PAYJOIN_IO_KILLED_STORE", &path)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("admitted")));
    assert!(matches!(Store::open(&path), Err(StoreError::InUse(_))));
    child.kill().unwrap();
    child.wait().unwrap();
    let store = Store::open(&path).unwrap();
    assert_eq!(locked(&store).await, [coin(101)]);
    assert_eq!(store.obligations().await.unwrap()[0].original, spend(&[1]));
}

#[tokio::test]
async fn a_store_is_opened_once() {
    let fixture = Fixture::new().await;
    let path = fixture.folder.path().join("store.sqlite");
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::InUse(_)));
    assert!(error.to_string().ends_with("is in use by another process"));
    drop(fixture.store);
    Store::open(&path).unwrap();
}

#[tokio::test]
async fn nobody_else_may_read_any_of_its_files() {
    let fixture = Fixture::new().await;
    let files: Vec<_> = fs::read_dir(fixture.folder.path()).unwrap().map(|entry| entry.unwrap()).collect();
    assert_eq!(files.len(), 4, "file, lock, log, shared memory: {files:?}");
    for file in files {
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", file.path());
    }
}

/// So that a copy of it is whole, and damage to the log beside it, which SQLite takes for a crash, has nothing to undo. Beside
/// it are its lock and its age, which copies are measured by.
#[tokio::test]
async fn a_store_that_was_closed_is_one_file() {
    let Fixture { store, folder, .. } = Fixture::new().await;
    store.invoices(1).await.unwrap();
    drop(store);
    let mut names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["store.count", "store.sqlite", "store.sqlite.lock"]);
}

#[tokio::test]
async fn a_damaged_file_is_refused() {
    let fixture = Fixture::new().await;
    for n in 0..20 {
        fixture.store.append_wallet_change(vec![n; 500]).unwrap();
    }
    let path = fixture.folder.path().join("store.sqlite");
    let Fixture { store, folder: _folder, .. } = fixture;
    drop(store);
    let mut bytes = fs::read(&path).unwrap();
    let half = bytes.len() / 2;
    bytes[half..].fill(0xff);
    fs::write(&path, bytes).unwrap();
    assert!(matches!(Store::open(&path), Err(StoreError::Corrupt(_))));
    fs::write(&path, "not a database, and longer than a header of one hundred bytes. ".repeat(100)).unwrap();
    assert!(matches!(Store::open(&path), Err(StoreError::Corrupt(_))));
}

#[tokio::test]
async fn originals_are_rescued_from_a_damaged_file_and_from_one_in_use() {
    let fixture = Fixture::new().await;
    let path = fixture.folder.path().join("store.sqlite");
    // Long enough that each fills a page.
    let long = |n: u32| Admission {
        original: spend(&(n * 80..n * 80 + 80).collect::<Vec<_>>()),
        ..admission(&n.to_string(), &[n])
    };
    for n in 1..=30 {
        let id = fixture.admitted(&long(n)).await;
        fixture.store.fail(id, "x").await.unwrap();
    }
    fixture.store.settle(ExchangeId(7), Settled::Original, NOW).await.unwrap();
    let owed = |id: &u64| *id != 7;
    let rescued = rescue(&path).unwrap();
    let ids = |rescued: &Rescued| rescued.originals.iter().map(|(id, _)| id.0).collect::<Vec<_>>();
    assert_eq!(ids(&rescued), (1..=30).filter(owed).collect::<Vec<_>>());
    assert_eq!(rescued.originals[0].1, long(1).original);
    assert_eq!(rescued.unreadable, []);

    let Fixture { store, folder: _folder, .. } = fixture;
    drop(store);
    let whole = fs::read(&path).unwrap();
    // In the first, a page with Originals is lost; in the second, half of the file; in the third, one byte of a row.
    let marker = bitcoin::consensus::serialize(&long(12).original);
    let at = whole.windows(40).position(|bytes| bytes == &marker[..40]).unwrap();
    let mut lost = 0;
    for (from, to) in
        [(at / 4096 * 4096, at / 4096 * 4096 + 4096), (whole.len() / 2, whole.len()), (at + 4, at + 5)]
    {
        let mut bytes = whole.clone();
        bytes[from..to].fill(0xff);
        fs::write(&path, bytes).unwrap();
        if to - from > 1 {
            assert!(matches!(Store::open(&path), Err(StoreError::Corrupt(_))));
        }
        let rescued = rescue(&path).unwrap();
        let mut all = ids(&rescued);
        assert!(!all.is_empty() && !rescued.unreadable.is_empty(), "{rescued:?}");
        lost += rescued.unreadable.len();
        for (id, original) in &rescued.originals {
            assert_eq!(original, &long(u32::try_from(id.0).unwrap()).original);
        }
        all.extend(rescued.unreadable.iter().map(|id| id.0));
        all.sort_unstable();
        assert!((1..=30).filter(owed).all(|id| all.contains(&id)), "told of each: {all:?}");
    }
    assert!(lost < 60, "{lost}");
    fs::write(&path, "no database").unwrap();
    assert!(rescue(&path).is_err());
}

#[test]
fn a_folder_that_does_not_exist_is_named() {
    let error = Store::open("/nonexistent/store.sqlite").unwrap_err();
    assert!(matches!(&error, StoreError::Open { .. }));
    assert!(error.to_string().contains("/nonexistent/store.sqlite"));
}

#[test]
fn a_file_of_a_later_version_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("store.sqlite");
    drop(Store::open(&path).unwrap());
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(Store::open(&path), Err(StoreError::TooNew { found: 99, known: 12 })));
}

#[test]
fn every_older_version_becomes_the_newest() {
    let newer = "ALTER TABLE invoices ADD COLUMN label TEXT;";
    let newest = "CREATE TABLE notes (id INTEGER PRIMARY KEY); DROP TABLE wallet_changes;";
    let migrations = [schema::MIGRATIONS, &[newer, newest]].concat();
    let shape = |version: usize| {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("store.sqlite");
        drop(schema::open_with(&path, &migrations[..version]).unwrap());
        let db = schema::open_with(&path, &migrations).unwrap();
        let found: usize = db.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        assert_eq!(found, migrations.len());
        let mut query = db.prepare("SELECT name || ': ' || coalesce(sql, '') FROM sqlite_schema").unwrap();
        let mut shape: Vec<String> =
            query.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        shape.sort();
        shape
    };
    let fresh = shape(0);
    assert!(fresh.iter().any(|line| line.contains("label TEXT")));
    for version in 1..=migrations.len() {
        assert_eq!(shape(version), fresh, "from version {version}");
    }
}

#[test]
fn a_migration_that_fails_leaves_the_version_before_it() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("store.sqlite");
    let migrations = [schema::MIGRATIONS, &["CREATE TABLE half (id INTEGER); SELECT nonsense;"]].concat();
    assert!(matches!(schema::open_with(&path, &migrations), Err(OpenError::Sqlite(_))));
    let db = schema::open_with(&path, schema::MIGRATIONS).unwrap();
    assert!(!db.table_exists(None, "half").unwrap());
}

#[tokio::test]
async fn originals_that_lie_whole_in_a_file_are_rescued_whatever_else_is_gone() {
    let fixture = Fixture::new().await;
    let path = fixture.folder.path().join("store.sqlite");
    // From one that shares its page to one that needs a chain of five.
    let sized = |n: u32| Admission {
        original: spend(&(n * 1_000..n * 1_000 + n * 40).collect::<Vec<_>>()),
        ..admission(&n.to_string(), &[n])
    };
    for n in 1..=12 {
        let id = fixture.admitted(&sized(n)).await;
        fixture.store.fail(id, "x").await.unwrap();
    }
    fixture.store.settle(ExchangeId(7), Settled::Original, NOW).await.unwrap();
    // A copy that was made while the store was in use, without its last commits in the file itself.
    let copy = fixture.folder.path().join("copy.sqlite");
    fs::copy(&path, &copy).unwrap();
    fs::copy(fixture.folder.path().join("store.sqlite-wal"), fixture.folder.path().join("copy.sqlite-wal"))
        .unwrap();
    let Fixture { store, folder: _folder, .. } = fixture;
    drop(store);
    let whole = fs::read(&path).unwrap();

    let first_page = [&[0xff; 4096][..], &whole[4096..]].concat();
    let no_header = [&[0; 100][..], &whole[100..]].concat();
    let cut = whole[..whole.len() - 100].to_vec();
    for (what, damaged) in [("first page", first_page), ("header", no_header), ("last page", cut)] {
        fs::write(&path, &damaged).unwrap();
        assert!(matches!(Store::open(&path), Err(StoreError::Corrupt(_))), "{what}");
        let rescued = rescue(&path).unwrap();
        let found: Vec<_> = rescued.originals.iter().map(|(id, _)| id.0).collect();
        let known: Vec<_> = found.iter().copied().chain(rescued.unreadable.iter().map(|id| id.0)).collect();
        assert!((1..=12).filter(|id| *id != 7).all(|id| known.contains(&id)), "{what}: {rescued:?}");
        assert!(rescued.unreadable.len() < 2, "{what}: {:?}", rescued.unreadable);
        for (id, original) in &rescued.originals {
            assert_eq!(original, &sized(u32::try_from(id.0).unwrap()).original, "{what}");
        }
    }
    let mut headless = fs::read(&copy).unwrap();
    headless.iter_mut().take(4096).for_each(|byte| *byte = 0xff);
    fs::write(&copy, headless).unwrap();
    let found: Vec<_> = rescue(&copy).unwrap().originals.iter().map(|(id, _)| id.0).collect();
    assert_eq!(found, [1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12]);
}

#[tokio::test]
async fn a_plain_proposal_costs_one_commit() {
    let fixture = Fixture::new().await;
    let (first, commits) = (admission("first", &[1]), fixture.store.commits());
    let id = fixture.store.new_exchange();
    assert_eq!(fixture.store.offer(id, &first, &release()).await.unwrap(), AdmitOutcome::Admitted);
    assert_eq!(fixture.store.commits(), commits + 1);
}

use std::fs;

use super::*;

/// A store whose file can be put back.
struct Copied {
    folder: TempDir,
    path: PathBuf,
    second: PathBuf,
}

impl Copied {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let at = |name| folder.path().join(name);
        Self { path: at("store.sqlite"), second: at("second"), folder }
    }

    fn open(&self) -> Result<Store, StoreError> {
        Store::open_counted(&self.path, Some(&self.second))
    }

    /// One more change, and a stop.
    async fn change(&self, invoice_id: &str) {
        self.open().unwrap().insert_invoice(&invoice(invoice_id)).await.unwrap();
    }

    fn count(&self) -> PathBuf {
        self.path.with_extension("count")
    }

    fn copy(&self) -> Vec<u8> {
        fs::read(&self.path).unwrap()
    }

    fn put_back(&self, copy: &[u8]) {
        fs::write(&self.path, copy).unwrap();
    }

    fn is_refused(&self) -> bool {
        matches!(self.open(), Err(StoreError::Older { .. }))
    }
}

#[tokio::test]
async fn an_older_copy_is_refused_for_good_and_the_newest_is_not() {
    let store = Copied::new();
    store.change("a").await;
    let older = store.copy();
    store.change("b").await;
    let newest = store.copy();
    store.put_back(&older);
    assert!(matches!(store.open(), Err(StoreError::Older { found: 1, known: 2 })));
    fs::remove_file(store.count()).unwrap();
    fs::remove_file(&store.second).unwrap();
    assert!(store.is_refused(), "it knows what it is");
    store.put_back(&newest);
    store.change("c").await;
}

#[tokio::test]
async fn a_second_place_shows_that_a_folder_as_a_whole_is_older() {
    let store = Copied::new();
    store.change("a").await;
    let (older, count) = (store.copy(), fs::read(store.count()).unwrap());
    store.change("b").await;
    store.put_back(&older);
    fs::write(store.count(), count).unwrap();
    assert!(Store::open(&store.path).is_ok(), "nothing tells");
    assert!(store.is_refused());
}

#[tokio::test]
async fn a_new_store_takes_the_place_of_one_that_is_lost_once_it_is_written_to() {
    let store = Copied::new();
    store.change("a").await;
    let lost = store.copy();
    fs::remove_file(&store.path).unwrap();
    drop(store.open().unwrap());
    store.put_back(&lost);
    drop(store.open().expect("nothing was written to the new one"));
    fs::remove_file(&store.path).unwrap();
    store.change("b").await;
    store.change("c").await;
    store.put_back(&lost);
    assert!(store.is_refused());
}

#[tokio::test]
async fn a_store_of_an_earlier_version_is_taken_once_and_its_copies_are_refused() {
    let store = Copied::new();
    let db = schema::open_with(&store.path, schema::MIGRATIONS).unwrap();
    db.execute_batch("INSERT INTO kv VALUES ('', '', 'manager', x'00', 1)").unwrap();
    drop(db);
    let older = store.copy();
    store.change("a").await;
    store.put_back(&older);
    assert!(store.is_refused());
}

#[tokio::test]
async fn only_an_older_copy_is_opened_as_one_unless_it_is_declared_to_be_one() {
    let store = Copied::new();
    store.change("a").await;
    let count = fs::read(store.count()).unwrap();
    assert!(matches!(Store::open_older(&store.path, false), Err(StoreError::NotOlder)));
    let declared = Store::open_older(&store.path, true).unwrap();
    declared.insert_invoice(&invoice("b")).await.unwrap();
    drop(declared);
    assert_eq!(fs::read(store.count()).unwrap(), count, "its commits are nobody's");
    assert!(store.is_refused());
    assert!(Store::open_older(&store.path, false).is_ok());
}

#[tokio::test]
async fn the_number_is_written_while_the_store_is_open_and_a_disk_that_is_away_stops_the_start() {
    let store = Copied::new();
    let open = store.open().unwrap();
    open.insert_invoice(&invoice("a")).await.unwrap();
    let written = async {
        while !(store.count().exists() && store.second.exists()) {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), written).await.unwrap();
    drop(open);
    let away = store.folder.path().join("unplugged/count");
    assert!(matches!(Store::open_counted(&store.path, Some(&away)), Err(StoreError::Open { .. })));
    fs::write(&store.second, "something else").unwrap();
    assert!(matches!(store.open(), Err(StoreError::Open { .. })));
}

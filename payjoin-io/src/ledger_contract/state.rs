//! What the Lightning node keeps.

use super::*;

pub(super) fn kv(generation: u64) -> StateWrite {
    let (primary, secondary, key) = ("node".into(), String::new(), "manager".into());
    StateWrite { primary, secondary, key, value: vec![u8::try_from(generation).unwrap()], generation }
}

pub async fn a_stale_channel_manager_never_replaces_a_newer_one(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let id = fixture.admitted(&admission("first", &[1])).await;
    fixture.ledger.release(id, &release(), vec![kv(7)]).await.unwrap();
    let value = || fixture.ledger.kv_read("node", "", "manager").unwrap();
    // (generation written, generation and value afterwards)
    for (generation, after) in [(6, 7), (7, 7), (8, 8), (3, 8)] {
        fixture.ledger.kv_write(kv(generation)).unwrap();
        assert_eq!(fixture.ledger.kv_generation("node", "", "manager").unwrap(), after);
        assert_eq!(value(), Some(vec![u8::try_from(after).unwrap()]));
    }
    fixture.ledger.kv_write(kv(0)).unwrap();
    assert_eq!(value(), Some(vec![0]));
    assert_eq!(fixture.ledger.kv_generation("node", "", "manager").unwrap(), 8);
}

pub async fn values_of_the_node_are_read_listed_and_removed(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    let write = |secondary: &str, key: &str| StateWrite {
        primary: "monitors".into(),
        secondary: secondary.into(),
        key: key.into(),
        value: key.as_bytes().to_vec(),
        generation: 0,
    };
    for (secondary, key) in [("", "x"), ("", "y"), ("x", "1")] {
        fixture.ledger.kv_write(write(secondary, key)).unwrap();
    }
    let fixture = fixture.reopened().await;
    let store = &fixture.ledger;
    assert_eq!(store.kv_read("monitors", "x", "1").unwrap(), Some(b"1".to_vec()));
    let mut keys = store.kv_list("monitors", "").unwrap();
    keys.sort();
    assert_eq!(keys, ["x", "y"]);
    store.kv_remove("monitors", "", "x").unwrap();
    store.kv_remove("monitors", "", "x").unwrap();
    assert_eq!(store.kv_list("monitors", "").unwrap(), ["y"]);
    assert_eq!(store.kv_read("monitors", "", "x").unwrap(), None);
    assert_eq!(store.kv_generation("monitors", "", "x").unwrap(), 0);
}

pub async fn changes_of_the_wallet_keep_their_order_and_can_be_summed_up(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    for change in [b"1", b"2", b"3"] {
        fixture.ledger.append_wallet_change(change.to_vec()).unwrap();
    }
    let fixture = fixture.reopened().await;
    assert_eq!(fixture.ledger.wallet_changes().unwrap(), [b"1", b"2", b"3"]);
    fixture.ledger.replace_wallet_changes(b"123".to_vec()).unwrap();
    fixture.ledger.append_wallet_change(b"4".to_vec()).unwrap();
    assert_eq!(fixture.ledger.wallet_changes().unwrap(), [&b"123"[..], b"4"]);
}

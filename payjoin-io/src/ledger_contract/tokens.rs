//! Tokens, and calls that are made once.

use payjoin_core::{Begun, Call, Token};

use super::*;

const HASH: [u8; 32] = [5; 32];

fn token(name: &str, hash: [u8; 32]) -> Token {
    Token { name: name.to_owned(), hash, rights: "read spend".to_owned(), created: NOW }
}

fn call(key: &str, body: u8, now: u64) -> Call {
    let forget = Timestamp(now.saturating_sub(100));
    Call { token: HASH, key: key.to_owned(), body: [body; 32], now: Timestamp(now), forget }
}

pub async fn a_token_is_kept_under_one_name_until_it_is_revoked(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    fixture.ledger.add_token(&token("shop", HASH)).await.unwrap();
    fixture.ledger.add_token(&token("app", [6; 32])).await.unwrap();
    let again = fixture.ledger.add_token(&token("shop", [7; 32])).await;
    assert!(matches!(again, Err(LedgerError::Conflict(_))), "{again:?}");
    let fixture = fixture.reopened().await;
    let kept = fixture.ledger.tokens().await.unwrap();
    assert_eq!(kept, [token("app", [6; 32]), token("shop", HASH)]);
    assert_eq!(fixture.ledger.revoke_token("shop").await, Ok(true));
    assert_eq!(fixture.ledger.revoke_token("shop").await, Ok(false));
    let fixture = fixture.reopened().await;
    assert_eq!(fixture.ledger.tokens().await.unwrap(), [token("app", [6; 32])]);
}

pub async fn a_call_begins_once_and_has_one_answer(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    fixture.ledger.add_token(&token("shop", HASH)).await.unwrap();
    assert_eq!(fixture.ledger.begin_call(&call("a", 1, 1000)).await, Ok(Begun::New));
    let fixture = fixture.reopened().await;
    assert_eq!(fixture.ledger.begin_call(&call("a", 1, 1001)).await, Ok(Begun::Unanswered));
    assert_eq!(fixture.ledger.begin_call(&call("a", 2, 1001)).await, Ok(Begun::Other));
    assert_eq!(fixture.ledger.begin_call(&call("b", 1, 1001)).await, Ok(Begun::New));
    fixture.ledger.end_call(&HASH, "a", "{}").await.unwrap();
    let fixture = fixture.reopened().await;
    assert_eq!(fixture.ledger.begin_call(&call("a", 1, 1100)).await, Ok(Begun::Answered("{}".to_owned())));
    assert_eq!(fixture.ledger.begin_call(&call("a", 2, 1101)).await, Ok(Begun::New), "it is forgotten");
}

pub async fn a_revoked_token_begins_nothing(new: NewHome<'_>) {
    let fixture = Fixture::new(new).await;
    assert_eq!(fixture.ledger.begin_call(&call("a", 1, 1000)).await, Ok(Begun::Revoked));
    fixture.ledger.add_token(&token("shop", HASH)).await.unwrap();
    assert_eq!(fixture.ledger.begin_call(&call("a", 1, 1000)).await, Ok(Begun::New));
    fixture.ledger.revoke_token("shop").await.unwrap();
    assert_eq!(fixture.ledger.begin_call(&call("a", 1, 1000)).await, Ok(Begun::Revoked));
}

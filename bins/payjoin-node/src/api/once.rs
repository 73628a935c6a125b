//! Calls that are made once, however often they are sent: each has a key, and the answer is kept with it before it leaves.

use std::future::Future;

use bitcoin::hashes::{Hash as _, sha256};
use payjoin_core::{Begun, Call, LedgerError, Timestamp, Tokens};
use payjoin_io::Head;

use super::answers::{Answer, Code, failed};

/// How long an answer is kept.
pub(crate) const KEPT_DAYS: u64 = 7;
/// Longest key.
const LONGEST: usize = 200;

/// The key of a call.
///
/// # Errors
/// What to tell whoever sends none, or one that cannot be used.
pub(super) fn key(head: &Head) -> Result<String, Answer> {
    let key = head.header("idempotency-key").map(str::trim).unwrap_or_default();
    let good = (1..=LONGEST).contains(&key.len()) && key.bytes().all(|letter| letter.is_ascii_graphic());
    match good {
        true => Ok(key.to_owned()),
        false => Err(failed(
            400,
            Code::Key,
            false,
            format!(
                "it may spend: send a header Idempotency-Key with 1 to {LONGEST} letters of your choice, new for each \
                 payment and the same when you repeat one"
            ),
        )),
    }
}

/// A call by its token, its key and what it asks for.
pub(super) fn call(token: [u8; 32], key: String, asked: &str, now: Timestamp) -> Call {
    let body = sha256::Hash::hash(asked.as_bytes()).to_byte_array();
    let forget = Timestamp(now.0.saturating_sub(KEPT_DAYS * 24 * 3_600));
    Call { token, key, body, now, forget }
}

/// Makes the call unless it was begun before. `None`: its token is revoked.
pub(super) async fn once(
    store: &(impl Tokens + ?Sized),
    call: Call,
    make: impl Future<Output = Answer>,
) -> Option<Answer> {
    match store.begin_call(&call).await {
        Ok(Begun::New) => {}
        Ok(Begun::Answered(kept)) => {
            return Some(serde_json::from_str(&kept).unwrap_or_else(|_| unanswered()));
        }
        Ok(Begun::Unanswered) => return Some(unanswered()),
        Ok(Begun::Other) => {
            let why = "this Idempotency-Key was sent with another call: choose a new one for this";
            return Some(failed(409, Code::KeyReused, false, why));
        }
        Ok(Begun::Revoked) => return None,
        Err(error) => return Some(not_kept(&error)),
    }
    let answer = make.await;
    // Plain data: it is always written.
    let kept = serde_json::to_string(&answer).unwrap_or_default();
    if let Err(error) = store.end_call(&call.token, &call.key, &kept).await {
        tracing::error!(%error, "the answer to a call is not kept: its key is not answered again");
    }
    Some(answer)
}

/// It runs, or we died under it.
pub(super) fn unanswered() -> Answer {
    failed(
        409,
        Code::Unanswered,
        true,
        "a call with this Idempotency-Key was begun and has no answer: it runs, or was cut by a restart. It is not made \
         again; look at what became of it before you choose a new key",
    )
}

fn not_kept(error: &LedgerError) -> Answer {
    failed(503, Code::Ledger, true, format!("nothing was done, the call cannot be kept: {error}"))
}

#[cfg(test)]
mod tests {
    use payjoin_core::Token;
    use payjoin_io::MemoryLedger;

    use super::*;

    const TOKEN: [u8; 32] = [1; 32];

    async fn store() -> MemoryLedger {
        let (store, name) = (MemoryLedger::default(), "shop".to_owned());
        let token = Token { name, hash: TOKEN, rights: "spend".to_owned(), created: Timestamp(0) };
        store.add_token(&token).await.unwrap();
        store
    }

    fn asked(key: &str, body: &str) -> Call {
        call(TOKEN, key.to_owned(), body, Timestamp(1_000_000))
    }

    fn good(body: &str) -> Answer {
        Answer { status: 200, body: body.to_owned() }
    }

    #[tokio::test]
    async fn what_was_answered_is_answered_again_and_not_made_again() {
        let store = store().await;
        let first = once(&store, asked("a", "pay 1"), async { good("paid") }).await;
        assert_eq!(first, Some(good("paid")));
        let again = once(&store, asked("a", "pay 1"), async { panic!("it is paid") }).await;
        assert_eq!(again, Some(good("paid")));
        let other = once(&store, asked("a", "pay 2"), async { panic!("another body") }).await.unwrap();
        assert!(other.status == 409 && other.body.contains("key_reused"), "{other:?}");
    }

    #[tokio::test]
    async fn what_was_cut_is_never_made_again_and_a_revoked_token_makes_nothing() {
        let store = store().await;
        store.begin_call(&asked("a", "pay 1")).await.unwrap();
        let cut = once(&store, asked("a", "pay 1"), async { panic!("it may be paid") }).await.unwrap();
        assert!(cut.status == 409 && cut.body.contains("unanswered"), "{cut:?}");
        store.revoke_token("shop").await.unwrap();
        let revoked = once(&store, asked("b", "pay 1"), async { panic!("revoked") }).await;
        assert_eq!(revoked, None);
    }

    #[test]
    fn a_key_is_there_and_plain() {
        let head = |key: &str| Head {
            headers: vec![("idempotency-key".to_owned(), key.to_owned())],
            ..Head::default()
        };
        assert_eq!(key(&head(" order-7 ")), Ok("order-7".to_owned()));
        for bad in ["", "a b", "\u{e4}", &"x".repeat(201)] {
            assert_eq!(key(&head(bad)).unwrap_err().status, 400, "{bad}");
        }
        assert!(key(&Head::default()).is_err());
    }
}

//! Whoever shows a token.

use bitcoin::hashes::{Hash as _, sha256};
use payjoin_core::{LedgerError, Token, Tokens};
use payjoin_io::Head;

use crate::requests::rights_of;
use crate::rights::{Access, Right};

/// A holder of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) name: String,
    pub(super) hash: [u8; 32],
    rights: Vec<Right>,
}

impl Holder {
    /// Whoever sent this; `None` without a token that is there now.
    pub(super) async fn of(head: &Head, store: &(impl Tokens + ?Sized)) -> Result<Option<Self>, LedgerError> {
        let Some(shown) = head.header("authorization").and_then(bearer) else { return Ok(None) };
        let hash = sha256::Hash::hash(shown.as_bytes()).to_byte_array();
        Ok(find(&store.tokens().await?, hash))
    }

    pub(super) fn has(&self, right: Right) -> bool {
        self.rights.contains(&right)
    }

    pub(super) fn may(&self, access: Access) -> bool {
        match access {
            Access::Token(right) => self.has(right),
            Access::Socket => false,
        }
    }
}

fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Looks at all of them, so that it takes as long whatever is shown.
fn find(tokens: &[Token], hash: [u8; 32]) -> Option<Holder> {
    let mut found = None;
    for token in tokens {
        if is_same(&token.hash, &hash) {
            found = Some(token);
        }
    }
    found.map(|token| Holder { name: token.name.clone(), hash, rights: rights_of(token) })
}

/// Compares in the same time whatever they are.
fn is_same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    let differ = a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b));
    std::hint::black_box(differ) == 0
}

#[cfg(test)]
mod tests {
    use payjoin_core::Timestamp;

    use super::*;

    #[test]
    fn a_token_is_found_by_its_hash_alone() {
        let token = |name: &str, text: &str, rights: &str| Token {
            name: name.to_owned(),
            hash: sha256::Hash::hash(text.as_bytes()).to_byte_array(),
            rights: rights.to_owned(),
            created: Timestamp(0),
        };
        let tokens = [token("a", "one", "read"), token("b", "two", "spend")];
        let found = |text: &str| find(&tokens, sha256::Hash::hash(text.as_bytes()).to_byte_array());
        let holder = found("two").unwrap();
        assert_eq!(holder.name, "b");
        assert!(holder.has(Right::Spend) && !holder.has(Right::Read) && !holder.may(Access::Socket));
        for wrong in ["", "on", "One", "three"] {
            assert_eq!(found(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_token_is_shown_as_a_bearer_does() {
        for (header, token) in [
            ("Bearer a", Some("a")),
            ("bearer  a ", Some("a")),
            ("Basic a", None),
            ("Bearer", None),
            ("a", None),
        ] {
            assert_eq!(bearer(header), token, "{header}");
        }
    }
}

//! `token add`, `token list` and `token revoke`: who may ask over the network. Only the control socket is asked for these.

use bitcoin::hashes::{Hash as _, sha256};
use bitcoin::hex::DisplayHex as _;
use bitcoin::secp256k1::rand::random;
use payjoin_core::{Timestamp, Token};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::now;
use crate::daemon::Daemon;
use crate::error::{ErrorKind, RequestError};
use crate::rights::{Access, Guarded, Right};

/// Each request looks at all of them.
const MOST: usize = 100;
/// Longest name.
const LONGEST: usize = 64;
/// What every token begins with, so that one that lies around is known for what it is.
const BEGIN: &str = "payjoind_";

/// Nobody else asks for it.
pub(crate) const LIST: Access = Access::Socket;

/// A token to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AddTokenArgs {
    /// What it is called.
    pub name: String,
    /// What it allows.
    pub rights: Vec<Right>,
}

/// Which token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RevokeTokenArgs {
    /// Its name, as `token list` shows it.
    pub name: String,
}

/// A token that was made. It is shown this once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AddedToken {
    /// What it is called.
    pub name: String,
    /// What it allows.
    pub rights: Vec<Right>,
    /// The token. Only its SHA-256 is kept.
    pub token: String,
}

/// Every token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Tokens {
    /// By name.
    pub tokens: Vec<KnownToken>,
}

/// A token, without itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct KnownToken {
    /// What it is called.
    pub name: String,
    /// What it allows.
    pub rights: Vec<Right>,
    /// When it was made.
    pub created: Timestamp,
}

/// A token that allows nothing any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RevokedToken {
    /// What it was called.
    pub name: String,
    /// Always true.
    pub revoked: bool,
}

impl Guarded for AddTokenArgs {
    const ACCESS: Access = Access::Socket;
}

impl Guarded for RevokeTokenArgs {
    const ACCESS: Access = Access::Socket;
}

impl Daemon {
    pub(super) async fn add_token(&self, args: AddTokenArgs) -> Result<AddedToken, RequestError> {
        let AddTokenArgs { name, rights } = args;
        let rights = in_order(rights);
        check(&name, &rights)?;
        if self.store.tokens().await?.len() >= MOST {
            return Err(
                ErrorKind::State.error(format_args!("there are {MOST} tokens: revoke one that nobody needs"))
            );
        }
        let token = format!("{BEGIN}{}", random::<[u8; 32]>().to_lower_hex_string());
        let hash = sha256::Hash::hash(token.as_bytes()).to_byte_array();
        let kept = Token { name: name.clone(), hash, rights: written(&rights), created: now() };
        self.store.add_token(&kept).await.map_err(|error| match error {
            payjoin_core::LedgerError::Conflict(_) => ErrorKind::State
                .error(format_args!("there is a token {name}: revoke it first, or choose another name")),
            error => error.into(),
        })?;
        Ok(AddedToken { name, rights, token })
    }

    pub(super) async fn tokens(&self) -> Result<Tokens, RequestError> {
        let known = self.store.tokens().await?.into_iter().map(|token| KnownToken {
            rights: rights_of(&token),
            name: token.name,
            created: token.created,
        });
        Ok(Tokens { tokens: known.collect() })
    }

    pub(super) async fn revoke_token(&self, args: RevokeTokenArgs) -> Result<RevokedToken, RequestError> {
        let RevokeTokenArgs { name } = args;
        match self.store.revoke_token(&name).await? {
            true => Ok(RevokedToken { name, revoked: true }),
            false => Err(ErrorKind::Missing.error(format_args!("no token {name}"))),
        }
    }
}

fn check(name: &str, rights: &[Right]) -> Result<(), RequestError> {
    let in_name = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    if name.is_empty() || name.len() > LONGEST || !name.chars().all(in_name) {
        return Err(ErrorKind::Request
            .error(format_args!("a token's name has letters, digits, - _ and . only, {LONGEST} at most")));
    }
    match rights.is_empty() {
        true => Err(ErrorKind::Request.error("a token without a right is good for nothing: --right read")),
        false => Ok(()),
    }
}

fn in_order(mut rights: Vec<Right>) -> Vec<Right> {
    rights.sort_unstable();
    rights.dedup();
    rights
}

fn written(rights: &[Right]) -> String {
    rights.iter().map(|right| right.name()).collect::<Vec<_>>().join(" ")
}

/// What a token allows. Words that this version does not know allow nothing.
pub(crate) fn rights_of(token: &Token) -> Vec<Right> {
    token.rights.split(' ').filter_map(|word| word.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_a_plain_name_and_rights() {
        for (name, rights, good) in [
            ("shop-1.a_B", &[Right::Read][..], true),
            ("", &[Right::Read], false),
            ("a b", &[Right::Read], false),
            ("a\u{1b}[0m", &[Right::Read], false),
            ("shop", &[], false),
        ] {
            assert_eq!(check(name, rights).is_ok(), good, "{name:?}");
        }
        assert!(check(&"x".repeat(65), &[Right::Read]).is_err());
    }

    #[test]
    fn rights_are_kept_as_words_and_unknown_words_allow_nothing() {
        let rights = in_order(vec![Right::Spend, Right::Read, Right::Spend]);
        assert_eq!(written(&rights), "read spend");
        let token = |rights: &str| Token {
            name: String::new(),
            hash: [0; 32],
            rights: rights.to_owned(),
            created: Timestamp(0),
        };
        assert_eq!(rights_of(&token("read spend")), rights);
        assert_eq!(rights_of(&token("root  Read")), []);
    }
}

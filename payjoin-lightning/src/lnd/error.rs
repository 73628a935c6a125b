//! Why LND did not do it, and what to do about it.

use std::path::PathBuf;

use payjoin_core::WalletError;
use reqwest::StatusCode;
use serde::Deserialize;

use super::calls::Call;

/// Why LND did not answer, or what it answered. The texts are for the operator: a word, and a remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LndError {
    /// Nobody listens there, or the connection broke.
    #[error(
        "LND does not answer at {address}: {why}; see that it runs, and that its REST server listens there \
         (`restlisten` in lnd.conf)"
    )]
    Away {
        /// Where it was looked for.
        address: String,
        /// In the words of the connection.
        why: String,
    },
    /// It runs and takes no calls yet.
    #[error("LND is starting and takes no calls yet: wait")]
    Starting,
    /// Its wallet is locked.
    #[error("LND's wallet is locked: unlock it with `lncli unlock`")]
    Locked,
    /// It has no wallet.
    #[error("LND has no wallet: create one with `lncli create`")]
    NoWallet,
    /// It has not caught up with the chain.
    #[error("LND has not caught up with the chain: wait, and see that its bitcoind runs")]
    NotSynchronised,
    /// Whoever listens there shows another certificate than the one in the file.
    #[error(
        "{address} shows another certificate than {}: where LND made itself a new one, let `[lnd] certificate` name \
         that one; otherwise it is not your LND that listens there", .file.display()
    )]
    Certificate {
        /// Where it was looked for.
        address: String,
        /// The certificate that is expected.
        file: PathBuf,
    },
    /// The macaroon does not allow this call.
    #[error(
        "the macaroon lacks the right uri:{0}: bake a new one with the `lncli bakemacaroon` line of docs/lnd.md"
    )]
    Denied(&'static str),
    /// LND does not know the macaroon.
    #[error(
        "LND does not accept the macaroon ({0}): bake a new one with the `lncli bakemacaroon` line of docs/lnd.md"
    )]
    Macaroon(String),
    /// The certificate or the macaroon cannot be read, or is none.
    #[error("cannot use {}: {why}", .file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// LND understood and refused.
    #[error("LND refuses: {0}")]
    Refused(String),
    /// The answer is not what LND answers.
    #[error("the answer to {call} makes no sense: {why}; LND 0.20 and 0.21 are known to work")]
    Form {
        /// The call.
        call: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

impl LndError {
    /// LND said nothing about the question: ask again later.
    #[must_use]
    pub fn is_away(&self) -> bool {
        match self {
            Self::Away { .. } | Self::Starting | Self::Locked | Self::NoWallet | Self::NotSynchronised => {
                true
            }
            Self::Certificate { .. } | Self::Denied(_) | Self::Macaroon(_) | Self::File { .. } => true,
            Self::Refused(_) | Self::Form { .. } => false,
        }
    }

    /// Waiting helps, without anybody who changes a setting.
    #[must_use]
    pub fn passes(&self) -> bool {
        matches!(
            self,
            Self::Away { .. } | Self::Starting | Self::Locked | Self::NoWallet | Self::NotSynchronised
        )
    }

    /// A new certificate or macaroon may have been put in the place of the old one.
    pub(super) fn is_about_access(&self) -> bool {
        matches!(self, Self::Certificate { .. } | Self::Macaroon(_) | Self::Denied(_))
    }

    /// LND refused with these words.
    pub(super) fn says(&self, words: &str) -> bool {
        matches!(self, Self::Refused(said) if said.contains(words))
    }
}

impl From<LndError> for WalletError {
    fn from(error: LndError) -> Self {
        match error.is_away() {
            true => Self::Away(error.to_string()),
            false => Self::Refused(error.to_string()),
        }
    }
}

/// The body of a refusal; in a stream it is wrapped once more.
#[derive(Deserialize)]
#[serde(untagged)]
enum Refusal {
    Wrapped { error: Said },
    Bare(Said),
}

#[derive(Deserialize)]
pub(super) struct Said {
    pub(super) message: String,
}

/// What a refusal means.
pub(super) fn read(call: &Call, status: StatusCode, body: &str) -> LndError {
    match serde_json::from_str(body) {
        Ok(Refusal::Wrapped { error: said } | Refusal::Bare(said)) => meaning(call, said),
        Err(_) => LndError::Form { call: call.right, why: format!("HTTP status {status}") },
    }
}

/// The texts are those of LND 0.20 and 0.21: `rpcperms/interceptor.go`, `macaroons/service.go`, `server.go`.
pub(super) fn meaning(call: &Call, Said { message }: Said) -> LndError {
    let has = |words: &str| message.contains(words);
    if has("waiting to start") || has("process of starting") {
        LndError::Starting
    } else if has("wallet locked") {
        LndError::Locked
    } else if has("wallet not created") {
        LndError::NoWallet
    } else if has("wallet is fully synced") {
        LndError::NotSynchronised
    } else if has("permission denied") {
        LndError::Denied(call.right)
    } else if ["acaroon", "verification failed", "root key"].into_iter().any(has) {
        LndError::Macaroon(message)
    } else {
        LndError::Refused(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lnd::calls;

    #[test]
    fn each_answer_of_lnd_has_its_word() {
        let read = |message: &str| {
            let bare = format!(r#"{{"code":2,"message":"{message}","details":[]}}"#);
            let wrapped = format!(r#"{{"error":{bare}}}"#);
            let answer = read(&calls::GET_INFO, StatusCode::INTERNAL_SERVER_ERROR, &bare);
            assert_eq!(read(&calls::GET_INFO, StatusCode::INTERNAL_SERVER_ERROR, &wrapped), answer);
            answer
        };
        for (message, error) in [
            ("waiting to start, RPC services not available", LndError::Starting),
            (
                "the RPC server is in the process of starting up, but not yet ready to accept calls",
                LndError::Starting,
            ),
            ("server is still in the process of starting", LndError::Starting),
            ("wallet locked, unlock it to enable full RPC access", LndError::Locked),
            ("wallet not created, create one to enable full RPC access", LndError::NoWallet),
            ("channels cannot be created before the wallet is fully synced", LndError::NotSynchronised),
            ("permission denied", LndError::Denied("/lnrpc.Lightning/GetInfo")),
            (
                "verification failed: signature mismatch after caveat verification",
                LndError::Macaroon(
                    "verification failed: signature mismatch after caveat verification".into(),
                ),
            ),
            (
                "cannot get macaroon: root key with id 3 doesn't exist",
                LndError::Macaroon("cannot get macaroon: root key with id 3 doesn't exist".into()),
            ),
            ("peer 02 is not online", LndError::Refused("peer 02 is not online".into())),
        ] {
            assert_eq!(read(message), error, "{message}");
        }
    }

    #[test]
    fn what_is_no_answer_of_lnd_is_said_to_be_none() {
        for body in ["", "404 page not found", "{}", "[]", r#"{"code":2}"#] {
            let error = read(&calls::GET_INFO, StatusCode::NOT_FOUND, body);
            assert!(matches!(error, LndError::Form { .. }), "{body}: {error}");
        }
    }

    #[test]
    fn what_passes_by_itself_is_waited_for_and_what_somebody_must_change_is_not() {
        let file = PathBuf::from("tls.cert");
        let away = LndError::Away { address: "a".into(), why: "b".into() };
        for (error, passes, is_away) in [
            (away, true, true),
            (LndError::Starting, true, true),
            (LndError::Locked, true, true),
            (LndError::Certificate { address: "a".into(), file }, false, true),
            (LndError::Denied("/x"), false, true),
            (LndError::Refused("no".into()), false, false),
        ] {
            assert_eq!((error.passes(), error.is_away()), (passes, is_away), "{error}");
        }
    }
}

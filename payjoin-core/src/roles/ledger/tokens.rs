//! Tokens of programs that ask a receiver over the network, and what they ask once.

use async_trait::async_trait;

use super::LedgerError;
use crate::Timestamp;

/// A token, by what is kept of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// What the operator calls it.
    pub name: String,
    /// SHA-256 of the token. The token itself is kept by its holder alone.
    pub hash: [u8; 32],
    /// What it allows, in the words of whoever made it.
    pub rights: String,
    /// When it was made.
    pub created: Timestamp,
}

/// A call that is made once, however often it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The token that it comes with, by its hash.
    pub token: [u8; 32],
    /// What the caller calls it.
    pub key: String,
    /// SHA-256 of what is asked.
    pub body: [u8; 32],
    /// When.
    pub now: Timestamp,
    /// Calls from before this moment are forgotten.
    pub forget: Timestamp,
}

/// What is known of a [`Call`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// Nothing: it is kept now, and may be made.
    New,
    /// It was made, with this answer.
    Answered(String),
    /// It was begun and has no answer: it runs, or we died under it. It must not be made again.
    Unanswered,
    /// Something else was asked by this name.
    Other,
    /// There is no such token any more; nothing was written.
    Revoked,
}

/// Tokens, and the calls that are made with them once.
#[async_trait]
pub trait Tokens: Send + Sync {
    /// Keeps a new token.
    ///
    /// # Errors
    /// [`LedgerError::Conflict`] when there is one of this name.
    async fn add_token(&self, token: &Token) -> Result<(), LedgerError>;

    /// All of them, by name.
    async fn tokens(&self) -> Result<Vec<Token>, LedgerError>;

    /// Forgets the token of this name; whether there was one.
    async fn revoke_token(&self, name: &str) -> Result<bool, LedgerError>;

    /// Keeps that a call begins, before it is made.
    async fn begin_call(&self, call: &Call) -> Result<Begun, LedgerError>;

    /// Keeps the answer to a call.
    async fn end_call(&self, token: &[u8; 32], key: &str, answer: &str) -> Result<(), LedgerError>;
}

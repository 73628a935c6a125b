//! Where sessions that outlive a process keep their event logs.

use async_trait::async_trait;

use super::LedgerError;

/// Append-only logs of events in JSON. They hold the secret keys of sessions.
#[async_trait]
pub trait Sessions: Send + Sync {
    /// Adds an event to the end of a log, durably. The first one makes the session.
    async fn append(&self, session: &SessionKey, event: String) -> Result<(), LedgerError>;

    /// Adds the last event: the session is not open any more.
    async fn close(&self, session: &SessionKey, event: String) -> Result<(), LedgerError>;

    /// The events of a session in order; none when there is no such session.
    async fn events(&self, session: &SessionKey) -> Result<Vec<String>, LedgerError>;

    /// Names of the open sessions of a kind, oldest first.
    async fn open_sessions(&self, kind: SessionKind) -> Result<Vec<String>, LedgerError>;
}

/// What a session does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SessionKind {
    /// Receives through a BIP 77 directory. Its name is the invoice's.
    Receive,
    /// Sends.
    Send,
}

/// Names a session.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey {
    /// What it does.
    pub kind: SessionKind,
    /// Unique among those of its kind.
    pub name: String,
}

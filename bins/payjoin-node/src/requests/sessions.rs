//! `session list`, `session show` and `session cancel`: codes that wait at directories.

use payjoin_core::{InvoiceId, SessionEnd, Timestamp};
use payjoin_io::{Poller, SessionInfo};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::daemon::Daemon;
use crate::error::{ErrorKind, RequestError};
use crate::rights::{Access, Guarded, READ, RECEIVE};
use crate::ways::NO_DIRECTORY;

/// Who may ask for `session list`.
pub(crate) const LIST: Access = READ;

/// Who may ask for `session cancel`.
pub(crate) const CANCEL: Access = RECEIVE;

/// Which session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionArgs {
    /// Its invoice, as `session list` shows it.
    pub invoice: InvoiceId,
}

/// Open sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Sessions {
    /// In no order.
    pub sessions: Vec<Session>,
}

/// A code at a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Session {
    /// Its invoice.
    pub invoice: InvoiceId,
    /// How far it has come.
    pub state: SessionState,
    /// Where it waits.
    pub directory: String,
    /// Until when.
    pub expires: Timestamp,
    /// The code.
    pub uri: String,
}

/// How far a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SessionState {
    /// Nobody has paid yet.
    Waiting,
    /// A payer's message is here.
    Received,
    /// The directory has our proposal.
    Answered,
    /// The payer got an error of BIP 78.
    Refused,
    /// Nobody can read what the payer sent.
    Unreadable,
    /// Its time has passed.
    Expired,
    /// The operator gave it up.
    Cancelled,
}

/// A session that was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SessionCancelled {
    /// Its invoice.
    pub invoice: InvoiceId,
    /// Always true.
    pub cancelled: bool,
}

impl Guarded for SessionArgs {
    const ACCESS: Access = READ;
}

impl Daemon {
    pub(super) fn poller(&self) -> Result<&Poller, RequestError> {
        self.poller.as_ref().ok_or_else(|| ErrorKind::Settings.error(NO_DIRECTORY))
    }

    pub(super) async fn sessions(&self) -> Result<Sessions, RequestError> {
        let poller = self.poller()?;
        let open = poller.open_sessions().await?;
        let mut sessions = Vec::with_capacity(open.len());
        for invoice in &open {
            sessions.push(show(poller, invoice).await?);
        }
        Ok(Sessions { sessions })
    }

    pub(super) async fn session(&self, args: SessionArgs) -> Result<Session, RequestError> {
        show(self.poller()?, &args.invoice).await
    }

    pub(super) fn cancel_session(&self, args: SessionArgs) -> Result<SessionCancelled, RequestError> {
        let SessionArgs { invoice } = args;
        if !self.poller()?.cancel(&invoice) {
            return Err(ErrorKind::Missing.error(format_args!("no open session {invoice}")));
        }
        Ok(SessionCancelled { invoice, cancelled: true })
    }
}

async fn show(poller: &Poller, invoice: &InvoiceId) -> Result<Session, RequestError> {
    let session = poller.session(invoice).await?;
    let session = session.ok_or_else(|| ErrorKind::Missing.error(format_args!("no session {invoice}")))?;
    let state = state(&session);
    let SessionInfo { invoice, directory, expires, uri, .. } = session;
    Ok(Session { invoice, state, directory, expires, uri })
}

fn state(session: &SessionInfo) -> SessionState {
    match session.end {
        None if session.received => SessionState::Received,
        None => SessionState::Waiting,
        Some(SessionEnd::Answered) => SessionState::Answered,
        Some(SessionEnd::Refused) => SessionState::Refused,
        Some(SessionEnd::Unreadable) => SessionState::Unreadable,
        Some(SessionEnd::Expired) => SessionState::Expired,
        Some(SessionEnd::Cancelled) => SessionState::Cancelled,
    }
}

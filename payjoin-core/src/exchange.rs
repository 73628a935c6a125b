//! One Original PSBT in, one reply out.

use crate::{Answer, Invoice, OriginalId, Policy, Question, Reply, Timestamp};

/// A v1 request as it came over the wire, body already read and bounded.
#[derive(Clone, Debug)]
pub struct Request {
    /// The part of the target after `?`, without it.
    pub query: String,
    /// The `Content-Type` header.
    pub content_type: Option<String>,
    /// The `Content-Length` header.
    pub content_length: Option<String>,
    /// The body.
    pub body: Vec<u8>,
    /// TLS, onion or end-to-end encryption: money rule 10 allows substitution only then.
    pub authenticated: bool,
}

/// What the exchange wants.
#[derive(Clone, Debug)]
pub enum Output {
    /// Ask the host and bring the answer.
    Ask(Question),
    /// The reply; the exchange is over.
    Done(Reply),
}

/// The caller broke the protocol of the machine. A bug of the caller, never of the payer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// An answer that does not fit the outstanding question.
    #[error("the answer does not fit the outstanding question")]
    UnexpectedAnswer,
}

/// The receiver's machine.
#[derive(Debug)]
pub struct Exchange {
    id: OriginalId,
}

impl Exchange {
    /// Begins with a request for `invoice`. A bad request shows as [`Output::Done`].
    #[must_use]
    pub fn new(now: Timestamp, invoice: Invoice, request: Request, policy: Policy) -> Self {
        let _ = (now, invoice, request, policy);
        Self { id: OriginalId(String::new()) }
    }

    /// Identity of the Original.
    #[must_use]
    pub fn original_id(&self) -> &OriginalId {
        &self.id
    }

    /// Brings the answer to the outstanding question.
    ///
    /// # Errors
    /// [`ExchangeError::UnexpectedAnswer`] when the answer is not one of those the question names.
    pub fn handle_input(&mut self, now: Timestamp, answer: Answer) -> Result<(), ExchangeError> {
        let _ = (now, answer);
        Ok(())
    }

    /// The outstanding question, or the reply.
    #[must_use]
    pub fn poll_output(&mut self) -> Output {
        Output::Done(Reply::Error { code: crate::ErrorCode::Unavailable, message: "", status: 503 })
    }

    /// When the host must have answered the outstanding question. Past it the caller brings
    /// [`Answer::ChannelsFailed`] for a channel question and [`Answer::Failed`] for any other.
    #[must_use]
    pub fn deadline(&self) -> Timestamp {
        Timestamp(0)
    }
}

//! BIP 78, "Protocol": one request, one answer.

use payjoin::send::v1;
use payjoin_core::Timestamp;

use super::{Fallback, Sender, Sent, refusal};
use crate::backoff::Backoff;
use crate::{HttpError, HttpRequest};

impl Sender {
    /// Asks again only when the receiver was not reached: who answered once, badly or not, would refuse the same
    /// inputs a second time.
    pub(super) async fn run_v1(&self, sender: &v1::Sender, give_up: Timestamp) -> Sent {
        let mut backoff = Backoff::default();
        let mut fallback = Fallback::NoAnswer;
        while let Some(timeout) = self.left(give_up) {
            let (request, context) = sender.create_v1_post_request();
            let answer = self
                .client
                .send_again(HttpRequest {
                    url: request.url,
                    accept: None,
                    headers: Vec::new(),
                    body: Some((request.content_type, request.body)),
                    timeout,
                    limit: payjoin::MAX_CONTENT_LENGTH,
                    tunnel: None,
                    fresh: false,
                })
                .await;
            match answer {
                Ok(answer) => {
                    return match context.process_response(&answer.body) {
                        Ok(proposal) => Sent::Payjoin(Box::new(proposal)),
                        Err(error) => Sent::Original(refusal(&error)),
                    };
                }
                Err(HttpError::Timeout) => return Sent::Original(Fallback::NoAnswer),
                Err(error @ (HttpError::Transport(_) | HttpError::Closed)) => {
                    tracing::info!(%error, "the receiver cannot be reached; trying again");
                    fallback = Fallback::Unreachable(error.to_string());
                }
                Err(error) => return Sent::Original(Fallback::Unreachable(error.to_string())),
            }
            tokio::time::sleep(backoff.pause()).await;
        }
        Sent::Original(fallback)
    }
}

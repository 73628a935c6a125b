//! Openings that nobody funds: what a peer says to one, before a payer waits for it.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::Amount;
use futures_util::future::join_all;
use payjoin_core::{ChannelSpec, ChannelTerms, Failure, FailureKind};
use tokio::time::Instant;

use crate::funder::open_by;
use crate::{ChannelFunder, ChannelKey};

/// For connection and answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Opens all of these side by side up to the peers' acceptance, and abandons them. The numbers from `first` on name them
/// and belong to no other probe. It goes on to its end when the answer is dropped.
pub(crate) async fn probe(
    funder: Arc<dyn ChannelFunder>,
    first: u32,
    channels: Vec<(ChannelSpec, Amount)>,
) -> Vec<Result<ChannelTerms, Failure>> {
    let count = channels.len();
    let probing = tokio::spawn(async move {
        let keys: Vec<_> = (first..).take(count).map(ChannelKey::probe).collect();
        let deadline = Instant::now() + PATIENCE;
        let asked = channels.iter().zip(&keys);
        let asked = asked.map(|((spec, amount), key)| open_by(deadline, &*funder, *key, spec, *amount));
        let mut answers = Vec::new();
        for (answer, key) in join_all(asked).await.into_iter().zip(&keys) {
            // Those count that are open at the same time: some peers end one for another.
            let gone = || Failure::new(FailureKind::Closed, "the peer accepted and then hung up");
            answers.push(match answer {
                Ok(_) => funder.terms(*key).await.ok_or_else(gone),
                Err(failure) => Err(failure),
            });
        }
        for key in keys {
            funder.abandon(key).await;
        }
        answers
    });
    probing.await.unwrap_or_else(|_| vec![Err(Failure::new(FailureKind::Local, "our node failed")); count])
}

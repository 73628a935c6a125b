//! Whether blocks reach us. LDK's poller says nothing when a block or a header cannot be had: it asks again, for ever.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bitcoin::BlockHash;
use lightning::chain::BestBlock;
use lightning_block_sync::{
    AsyncBlockSourceResult, BlockData, BlockHeaderData, BlockSource, BlockSourceError, BlockSourceErrorKind,
};
use tokio::time::timeout;

use super::chain_source::ChainSource;
use super::stop::Stop;
use crate::lock::lock;

/// How long a source may take to say where its chain ends.
const ANSWER: Duration = Duration::from_secs(20);

/// What keeps blocks from us. Whoever starts a node may hold it from the beginning, to tell what the start waits for.
#[derive(Debug, Default)]
pub struct ChainHealth(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The last block or header that could not be had, and why. Others may well be had since: the headers to it are asked for
    /// again each time.
    failure: Option<(BlockHash, String)>,
    trouble: Option<String>,
}

impl ChainHealth {
    /// Why the chain stands still for us, and what to do about it; `None` while it does not.
    pub fn trouble(&self) -> Option<String> {
        lock(&self.0).trouble.clone()
    }

    /// The chain stands still. `otherwise` is the reason where none is known.
    pub(super) fn stalled(&self, otherwise: impl FnOnce() -> String) {
        let mut state = lock(&self.0);
        let trouble = state.failure.as_ref().map_or_else(otherwise, |(_, why)| why.clone());
        if state.trouble.as_ref() != Some(&trouble) {
            tracing::error!(reason = trouble, "no block arrives: nothing new is offered until one does");
            state.trouble = Some(trouble);
        }
    }

    /// The source is there and cannot be followed yet, and why. How far it is changes with each look, and is logged once.
    pub(super) fn waits(&self, why: String) {
        let mut state = lock(&self.0);
        if state.trouble.is_none() {
            tracing::warn!(reason = why, "waiting for the chain");
        }
        state.trouble = Some(why);
    }

    /// We are where the source's chain ends, or a block came.
    pub(super) fn moves(&self) {
        let mut state = lock(&self.0);
        state.failure = None;
        if state.trouble.take().is_some() {
            tracing::info!("the chain goes on");
        }
    }

    fn note<T>(
        &self,
        what: &str,
        hash: &BlockHash,
        got: Result<T, BlockSourceError>,
    ) -> Result<T, BlockSourceError> {
        let Err(error) = got else {
            lock(&self.0).failure.take_if(|(failed, _)| failed == hash);
            return got;
        };
        let (kind, error) = (error.kind(), error.into_inner());
        lock(&self.0).failure = Some((*hash, format!("{what} {hash}: {error}")));
        Err(match kind {
            BlockSourceErrorKind::Persistent => BlockSourceError::persistent(error),
            BlockSourceErrorKind::Transient => BlockSourceError::transient(error),
        })
    }
}

/// A source of blocks whose failures are remembered.
pub(super) struct Remembered {
    pub(super) source: Arc<dyn ChainSource>,
    pub(super) health: Arc<ChainHealth>,
}

impl BlockSource for Remembered {
    fn get_header<'a>(
        &'a self,
        hash: &'a BlockHash,
        height: Option<u32>,
    ) -> AsyncBlockSourceResult<'a, BlockHeaderData> {
        Box::pin(async move { self.health.note("header", hash, self.source.get_header(hash, height).await) })
    }

    fn get_block<'a>(&'a self, hash: &'a BlockHash) -> AsyncBlockSourceResult<'a, BlockData> {
        Box::pin(async move { self.health.note("block", hash, self.source.get_block(hash).await) })
    }

    fn get_best_block(&self) -> AsyncBlockSourceResult<'_, (BlockHash, Option<u32>)> {
        self.source.get_best_block()
    }
}

/// Since when the source's chain ends elsewhere than ours, with no block in between.
#[derive(Default)]
struct Gap(Option<(BestBlock, Instant)>);

impl Gap {
    /// Looks at both ends, and says how long they have differed so.
    fn look(&mut self, ours: BestBlock, theirs: BestBlock, now: Instant) -> Duration {
        if ours == theirs {
            self.0 = None;
            return Duration::ZERO;
        }
        match self.0 {
            Some((stood, since)) if stood == ours => now.saturating_duration_since(since),
            _ => {
                self.0 = Some((ours, now));
                Duration::ZERO
            }
        }
    }
}

/// Watches, until `stop`, whether our end of the chain follows the source's. It is a task of its own: the poller may be
/// busy for as long as a source takes to give a block.
pub(super) async fn watch(
    source: Arc<dyn ChainSource>,
    health: Arc<ChainHealth>,
    ours: impl Fn() -> BestBlock,
    patience: Duration,
    mut stop: Stop,
) {
    let mut gap = Gap::default();
    while timeout(patience / 12, stop.wait()).await.is_err() {
        // One that does not answer is told of where it is asked for blocks; what it will say then is news.
        let Ok(Ok(status)) = timeout(ANSWER, source.status()).await else {
            gap = Gap::default();
            continue;
        };
        if let Some(why) = status.behind(seconds()) {
            health.waits(why);
            continue;
        }
        let (ours, theirs) = (ours(), status.tip);
        match gap.look(ours, theirs, Instant::now()) {
            Duration::ZERO => health.moves(),
            stood if stood >= patience => health.stalled(|| no_better(ours, theirs)),
            _ => {}
        }
    }
}

/// Since 1970. A clock that is wrong is refused at the start.
fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A chain with less work than ours is none for LDK, which says nothing.
fn no_better(ours: BestBlock, theirs: BestBlock) -> String {
    format!(
        "the best block {} at height {} does not go on from ours at height {}: is it another chain, or does bitcoind \
         catch up? It should be the one that this node followed before",
        theirs.block_hash, theirs.height, ours.height
    )
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash as _;

    use super::*;

    fn block(id: u8) -> BestBlock {
        BestBlock::new(BlockHash::from_byte_array([id; 32]), id.into())
    }

    #[test]
    fn the_gap_grows_only_while_no_block_of_ours_comes() {
        let (mut gap, start) = (Gap::default(), Instant::now());
        for (second, ours, theirs, expected) in [
            (0, 1, 1, 0),
            (10, 1, 2, 0),
            (30, 1, 2, 20),
            (40, 1, 3, 30),
            (50, 2, 3, 0),
            (110, 2, 3, 60),
            (120, 3, 3, 0),
            (130, 3, 2, 0),
            (140, 3, 2, 10),
        ] {
            let now = start + Duration::from_secs(second);
            let stood = gap.look(block(ours), block(theirs), now);
            assert_eq!(stood.as_secs(), expected, "at {second} s");
        }
    }

    #[test]
    fn trouble_names_the_block_that_cannot_be_had() {
        let health = ChainHealth::default();
        let hash = block(1).block_hash;
        let refused = || Err::<(), _>(BlockSourceError::persistent("pruned"));
        assert!(health.note("block", &hash, refused()).is_err());
        assert_eq!(health.trouble(), None, "it may come the next time");
        health.stalled(|| "unknown".into());
        assert_eq!(health.trouble(), Some(format!("block {hash}: pruned")));
        health.note("header", &block(2).block_hash, Ok(())).unwrap();
        health.stalled(|| "unknown".into());
        assert_eq!(health.trouble(), Some(format!("block {hash}: pruned")), "the way to it is not it");
        health.note("block", &hash, Ok(())).unwrap();
        health.moves();
        assert_eq!(health.trouble(), None);
        health.stalled(|| "unknown".into());
        assert_eq!(health.trouble().as_deref(), Some("unknown"));
    }
}

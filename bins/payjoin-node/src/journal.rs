//! The journal's upkeep: codes that expire are told, and what is old leaves.

use std::time::Duration;

use payjoin_core::{LedgerError, Timestamp};
use tokio::sync::watch;

use crate::clock::now;
use crate::keep::Store;

/// How often codes are looked for that expired, and entries that are old. Both cost one look-up where there are none.
const EVERY: Duration = Duration::from_secs(2);
/// Entries that leave in one write.
const AT_ONCE: u32 = 500;

/// Looks after the journal, until the daemon stops.
pub(crate) async fn keep(store: Store, days: u64, mut stop: watch::Receiver<bool>) {
    let mut told = false;
    loop {
        match look(&store, days, now()).await {
            Ok(()) => told = false,
            Err(error) if !told => {
                tracing::error!(%error, "codes that expire are not told, and old events stay");
                told = true;
            }
            Err(_) => {}
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

async fn look(store: &Store, days: u64, now: Timestamp) -> Result<(), LedgerError> {
    store.expire_codes(now).await?;
    let before = Timestamp(now.0.saturating_sub(days.saturating_mul(24 * 3_600)));
    store.prune_journal(before, AT_ONCE).await.map(drop)
}

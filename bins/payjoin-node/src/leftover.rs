//! What is left of exchanges that are over: dropped in its time.

use std::collections::HashSet;
use std::time::Duration;

use bitcoin::Txid;
use lightning::util::persist::{
    ARCHIVED_CHANNEL_MONITOR_PERSISTENCE_PRIMARY_NAMESPACE, CHANNEL_MONITOR_PERSISTENCE_PRIMARY_NAMESPACE,
};
use payjoin_core::LedgerError;
use tokio::sync::watch;

use crate::clock::now;
use crate::keep::Store;
use crate::watch::recorded_tip;

/// So deep nothing is reorganised out. Whatever we knew of the channel was saved many times since.
const DEEP: u32 = 2_016;
/// How often old exchanges are looked for, and how many are pruned in one write, with a rest between two.
const EVERY: Duration = Duration::from_secs(3_600);
const AT_ONCE: u32 = 100;
const REST: Duration = Duration::from_secs(1);

/// Moves the monitors of channels whose payjoin can never be mined to the archive, before the Lightning node reads them: it
/// cannot drop them while it runs, and each costs a start and every block their time.
pub(crate) async fn archive_dead(store: &Store) -> Result<(), LedgerError> {
    let Some(until) = recorded_tip(store)?.and_then(|tip| tip.height.checked_sub(DEEP)) else {
        return Ok(());
    };
    let keys = store.kv_list(CHANNEL_MONITOR_PERSISTENCE_PRIMARY_NAMESPACE, "")?;
    let payjoins: Vec<_> = keys.iter().filter_map(|key| payjoin(key)).collect();
    let lost: HashSet<_> = store.lost(&payjoins, until).await?.into_iter().collect();
    let is_dead = |key: &String| payjoin(key).is_some_and(|payjoin| lost.contains(&payjoin));
    let dead: Vec<_> = keys.into_iter().filter(is_dead).collect();
    if dead.is_empty() {
        return Ok(());
    }
    tracing::info!(channels = dead.len(), "channels whose payjoin lost long ago are archived");
    let archive = ARCHIVED_CHANNEL_MONITOR_PERSISTENCE_PRIMARY_NAMESPACE;
    store.kv_move(CHANNEL_MONITOR_PERSISTENCE_PRIMARY_NAMESPACE, archive, dead)
}

/// The transaction that funds the channel of a monitor: LDK names it `txid_vout`.
fn payjoin(key: &str) -> Option<Txid> {
    key.split_once('_')?.0.parse().ok()
}

/// Prunes what has been over for so many days, until the daemon stops.
pub(crate) async fn prune(store: Store, keep_days: u64, mut stop: watch::Receiver<bool>) {
    loop {
        let before = now().0.saturating_sub(keep_days * 24 * 3_600);
        let rest = match store.prune(payjoin_core::Timestamp(before), AT_ONCE).await {
            Ok(0) => EVERY,
            Ok(_) => REST,
            Err(error) => {
                tracing::error!(%error, "old exchanges are not pruned");
                EVERY
            }
        };
        tokio::select! {
            () = tokio::time::sleep(rest) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

#[cfg(test)]
mod tests;

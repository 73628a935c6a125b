//! Channels of exchanges, by their names: on record before lightningd hears of them, because lightningd keeps no name of
//! ours for a channel.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bitcoin::secp256k1::PublicKey;
use bitcoin::{Amount, OutPoint, ScriptBuf};
use payjoin_core::{LedgerError, NodeState, StateWrite};
use serde::{Deserialize, Serialize};

use crate::lock::lock;
use crate::{ChannelKey, FunderError};

const NAMESPACE: &str = "cln_openings";

/// What is known of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Opening {
    pub(super) peer: PublicKey,
    pub(super) amount: Amount,
    pub(super) push: Amount,
    /// Of its funding output, once the peer has accepted.
    pub(super) script: Option<ScriptBuf>,
    /// Durable before the peer is asked to sign.
    pub(super) funding: Option<OutPoint>,
    /// `commitments_secured`.
    pub(super) secured: bool,
    /// Nobody wants it any more: lightningd is to forget it.
    pub(super) ended: bool,
}

/// All of them.
pub(super) struct Openings {
    known: Mutex<BTreeMap<ChannelKey, Known>>,
    state: Arc<dyn NodeState>,
}

struct Known {
    opening: Opening,
    /// A call for it was dropped, or made by an earlier process: lightningd may still act on it. So often it is looked for
    /// before it counts as gone.
    looks: u8,
}

/// See [`Known::looks`].
const LOOKS: u8 = 3;

impl Openings {
    /// Reads them back. Openings that nobody funds end with the process.
    pub(super) fn load(state: Arc<dyn NodeState>) -> Result<Self, LedgerError> {
        let mut known = BTreeMap::new();
        for name in state.kv_list(NAMESPACE, "")? {
            let damaged = || LedgerError::Damaged(format!("the opening {name}"));
            let key = name.parse().ok().and_then(ChannelKey::from_user_channel_id).ok_or_else(damaged)?;
            let value = state.kv_read(NAMESPACE, "", &name)?.ok_or_else(damaged)?;
            let mut opening: Opening = serde_json::from_slice(&value).map_err(|_| damaged())?;
            opening.ended |= key.is_probe();
            known.insert(key, Known { opening, looks: LOOKS });
        }
        Ok(Self { known: Mutex::new(known), state })
    }

    pub(super) fn get(&self, key: ChannelKey) -> Option<Opening> {
        lock(&self.known).get(&key).map(|known| known.opening.clone())
    }

    pub(super) fn all(&self) -> Vec<(ChannelKey, Opening)> {
        lock(&self.known).iter().map(|(key, known)| (*key, known.opening.clone())).collect()
    }

    /// Names a new one, durably, unless `waits` says of another one with the same peer that it is between its start and its
    /// first confirmations.
    pub(super) async fn begin(
        &self,
        key: ChannelKey,
        opening: Opening,
        waits: impl Fn(&Opening) -> bool,
    ) -> Result<(), FunderError> {
        {
            let mut known = lock(&self.known);
            if known.contains_key(&key) {
                return Err(FunderError::Exists);
            }
            if known.values().any(|other| other.opening.peer == opening.peer && waits(&other.opening)) {
                return Err(FunderError::Refused(ONE_AT_A_TIME.to_owned()));
            }
            known.insert(key, Known { opening: opening.clone(), looks: LOOKS });
        }
        let written = self.write(key, &opening).await;
        if written.is_err() {
            lock(&self.known).remove(&key);
        }
        written.map_err(|error| FunderError::Refused(error.to_string()))
    }

    /// Changes one, durably.
    pub(super) async fn change(
        &self,
        key: ChannelKey,
        change: impl FnOnce(&mut Opening),
    ) -> Result<Opening, FunderError> {
        let opening = {
            let mut known = lock(&self.known);
            let opening = &mut known.get_mut(&key).ok_or(FunderError::NotWaiting)?.opening;
            change(opening);
            opening.clone()
        };
        let written = self.write(key, &opening).await;
        written.map(|()| opening).map_err(|error| FunderError::Refused(error.to_string()))
    }

    /// lightningd has answered the last call for it: what it does not show now, it does not have.
    pub(super) fn answered(&self, key: ChannelKey) {
        if let Some(known) = lock(&self.known).get_mut(&key) {
            known.looks = 0;
        }
    }

    /// A call for it begins.
    pub(super) fn asked(&self, key: ChannelKey) {
        if let Some(known) = lock(&self.known).get_mut(&key) {
            known.looks = LOOKS;
        }
    }

    /// lightningd does not show it. Whether that is sure by now.
    pub(super) fn looked(&self, key: ChannelKey) -> bool {
        let mut known = lock(&self.known);
        let Some(known) = known.get_mut(&key) else { return true };
        known.looks = known.looks.saturating_sub(1);
        known.looks == 0
    }

    /// lightningd has nothing of it.
    pub(super) async fn forget(&self, key: ChannelKey) -> Result<(), LedgerError> {
        let state = Arc::clone(&self.state);
        blocking(move || state.kv_remove(NAMESPACE, "", &name(key))).await?;
        lock(&self.known).remove(&key);
        Ok(())
    }

    async fn write(&self, key: ChannelKey, opening: &Opening) -> Result<(), LedgerError> {
        let value = serde_json::to_vec(opening).map_err(|error| LedgerError::Failed(error.to_string()))?;
        let (primary, secondary) = (NAMESPACE.to_owned(), String::new());
        let write = StateWrite { primary, secondary, key: name(key), value, generation: 0 };
        let state = Arc::clone(&self.state);
        blocking(move || state.kv_write(write)).await
    }
}

const ONE_AT_A_TIME: &str = "another channel with this peer waits for its first confirmations, and Core Lightning cancels a \
                             channel by its peer alone: it is opened with a later payment";

/// As LDK would keep it.
fn name(key: ChannelKey) -> String {
    key.user_channel_id().to_string()
}

/// The ledger's own calls wait for the disk.
pub(super) async fn blocking(
    write: impl FnOnce() -> Result<(), LedgerError> + Send + 'static,
) -> Result<(), LedgerError> {
    let done = tokio::task::spawn_blocking(write).await;
    done.unwrap_or_else(|error| Err(LedgerError::Failed(error.to_string())))
}

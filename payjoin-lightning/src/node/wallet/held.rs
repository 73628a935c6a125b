//! Scripts that LDK asks for: one for each purpose, given out again until it appears in the chain.
//!
//! Strangers make LDK ask, with each channel that they open and never fund. A fresh script each time would lead the
//! wallet so far ahead that a restored seed no longer finds its coins.

use bdk_wallet::KeychainKind;
use bitcoin::{Block, ScriptBuf};
use lightning::io;

use super::{NodeWallet, State, WalletError};
use crate::lock::lock;
use crate::node::store::NodeStore;

/// Where the indices of held scripts are, by purpose: 4 bytes, big endian.
const NAMESPACE: &str = "held_scripts";

/// What a script is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::node) enum Purpose {
    /// Channels pay to it when they close.
    Closing,
    /// Change of transactions that pay for others.
    Change,
    /// What is swept from channels that closed by force.
    Sweep,
}

impl Purpose {
    const ALL: [Self; 3] = [Self::Closing, Self::Change, Self::Sweep];

    fn name(self) -> &'static str {
        match self {
            Self::Closing => "closing",
            Self::Change => "change",
            Self::Sweep => "sweep",
        }
    }
}

impl State {
    /// Takes the held scripts back from the store.
    pub(super) fn read_held(&mut self, store: &dyn NodeStore) -> Result<(), io::Error> {
        for purpose in Purpose::ALL {
            match store.read(NAMESPACE, "", purpose.name()) {
                Ok(bytes) => {
                    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "a held script is damaged");
                    let index = u32::from_be_bytes(bytes.try_into().map_err(|_| damaged())?);
                    let script = self.bdk.peek_address(KeychainKind::Internal, index).script_pubkey();
                    self.held.insert(purpose, script);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl NodeWallet {
    /// The P2WPKH script for this purpose. Durable when it returns.
    pub(super) fn held_script(&self, purpose: Purpose) -> Result<ScriptBuf, WalletError> {
        self.held_in(&mut lock(&self.state), purpose)
    }

    pub(super) fn held_in(&self, state: &mut State, purpose: Purpose) -> Result<ScriptBuf, WalletError> {
        if let Some(script) = state.held.get(&purpose) {
            return Ok(script.clone());
        }
        let fresh = state.bdk.reveal_next_address(KeychainKind::Internal);
        self.save(state)?;
        self.store.write(NAMESPACE, "", purpose.name(), fresh.index.to_be_bytes().to_vec())?;
        let script = fresh.address.script_pubkey();
        state.held.insert(purpose, script.clone());
        Ok(script)
    }

    /// Lets go of scripts that this block pays to.
    pub(super) fn release_held(&self, state: &mut State, block: &Block) {
        let outputs = || block.txdata.iter().flat_map(|transaction| &transaction.output);
        state.held.retain(|purpose, script| {
            if outputs().all(|output| output.script_pubkey != *script) {
                return true;
            }
            if let Err(error) = self.store.remove(NAMESPACE, "", purpose.name(), false) {
                tracing::error!(%error, ?purpose, "a script may be given out once more after a restart");
            }
            false
        });
    }
}

//! The wallet as LDK sees it: fees for anchor channels come from it, swept outputs and closed channels go to it.

use std::sync::Arc;

use bitcoin::{OutPoint, Psbt, ScriptBuf, Transaction, TxOut};
use lightning::events::bump_transaction::Utxo;
use lightning::events::bump_transaction::sync::WalletSourceSync;
use lightning::ln::script::ShutdownScript;
use lightning::sign::{ChangeDestinationSourceSync, InMemorySigner, KeysManager, SignerProvider};

use super::NodeWallet;
use super::held::Purpose;
use crate::lock::lock;

/// Weight of an empty scriptSig with its length.
const EMPTY_SCRIPT_SIG: u64 = 4;
/// Weight of a P2WPKH witness: count, length and signature of up to 72 bytes, length and key.
const P2WPKH_WITNESS: u64 = 1 + 1 + 72 + 1 + 33;
/// Weight of a P2TR key spend witness: count, length, signature.
const P2TR_WITNESS: u64 = 1 + 1 + 64;

/// A coin of ours for LDK.
pub(super) fn utxo(outpoint: OutPoint, output: TxOut) -> Utxo {
    let witness = if output.script_pubkey.is_p2tr() { P2TR_WITNESS } else { P2WPKH_WITNESS };
    Utxo { outpoint, output, satisfaction_weight: EMPTY_SCRIPT_SIG + witness }
}

impl WalletSourceSync for NodeWallet {
    /// Confirmed coins that no payjoin holds (money rule 7). Coins that an unconfirmed transaction of ours spends are
    /// among them: a bump that replaces an earlier one must use the same coins.
    fn list_confirmed_utxos(&self) -> Result<Vec<Utxo>, ()> {
        let state = lock(&self.state);
        let tip = state.bdk.local_chain().tip().height();
        let utxos = state
            .outputs()
            .filter(|output| {
                output.is_confirmed_and_spendable(tip) && !state.coins.is_locked(&output.outpoint)
            })
            .map(|output| utxo(output.outpoint, output.txout));
        Ok(utxos.collect())
    }

    fn get_change_script(&self) -> Result<ScriptBuf, ()> {
        self.script_for(Purpose::Change)
    }

    fn sign_psbt(&self, psbt: Psbt) -> Result<Transaction, ()> {
        let state = lock(&self.state);
        let ours = |outpoint: &OutPoint| {
            let coin = state.bdk.tx_graph().get_txout(*outpoint);
            coin.is_some_and(|coin| state.bdk.is_mine(coin.script_pubkey.clone()))
        };
        let inputs = psbt.unsigned_tx.input.iter().enumerate();
        let inputs: Vec<usize> =
            inputs.filter(|(_, input)| ours(&input.previous_output)).map(|(at, _)| at).collect();
        drop(state);
        let signed = self.sign(&psbt, &inputs).map_err(|error| {
            tracing::error!(%error, "a fee bump could not be signed");
        })?;
        Ok(signed.extract_tx_unchecked_fee_rate())
    }
}

impl ChangeDestinationSourceSync for NodeWallet {
    fn get_change_destination_script(&self) -> Result<ScriptBuf, ()> {
        self.script_for(Purpose::Sweep)
    }
}

impl NodeWallet {
    fn script_for(&self, purpose: Purpose) -> Result<ScriptBuf, ()> {
        self.held_script(purpose).map_err(|error| tracing::error!(%error, ?purpose, "no script"))
    }
}

/// LDK's keys, but with closed channels paying straight into the wallet: no second transaction to collect them.
pub(in crate::node) struct Signers {
    keys: Arc<KeysManager>,
    wallet: Arc<NodeWallet>,
}

impl Signers {
    pub(in crate::node) fn new(keys: Arc<KeysManager>, wallet: Arc<NodeWallet>) -> Self {
        Self { keys, wallet }
    }
}

impl SignerProvider for Signers {
    type EcdsaSigner = InMemorySigner;

    fn generate_channel_keys_id(&self, inbound: bool, user_channel_id: u128) -> [u8; 32] {
        self.keys.generate_channel_keys_id(inbound, user_channel_id)
    }

    fn derive_channel_signer(&self, channel_keys_id: [u8; 32]) -> InMemorySigner {
        self.keys.derive_channel_signer(channel_keys_id)
    }

    fn get_destination_script(&self, _channel_keys_id: [u8; 32]) -> Result<ScriptBuf, ()> {
        self.wallet.script_for(Purpose::Closing)
    }

    fn get_shutdown_scriptpubkey(&self) -> Result<ShutdownScript, ()> {
        let script = self.wallet.script_for(Purpose::Closing)?;
        ShutdownScript::try_from(script).map_err(|_| ())
    }
}

//! The wallet's private keys, and signing with them.

use bitcoin::bip32::{self, ChildNumber, Xpriv, Xpub};
use bitcoin::ecdsa;
use bitcoin::key::{Keypair, TapTweak};
use bitcoin::psbt::Input;
use bitcoin::secp256k1::{All, Message, Secp256k1};
use bitcoin::sighash::{EcdsaSighashType, Prevouts, SighashCache, TapSighashType};
use bitcoin::taproot;
use bitcoin::{Network, Psbt, ScriptBuf, Transaction, TxOut, Witness};

use crate::node::Seed;
use bdk_wallet::KeychainKind;

/// Why an input was not signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The PSBT has no such input.
    #[error("the transaction has no input {0}")]
    NoInput(usize),
    /// The input does not spend a coin of this wallet, or the PSBT states another output for it.
    #[error("input {0} does not spend a coin of this wallet")]
    NotOurs(usize),
    /// An input lacks the output that it spends; taproot signs over all of them.
    #[error("an input lacks the output that it spends")]
    NoPrevout,
    /// The key of this script could not be derived.
    #[error("no key for input {0}")]
    NoKey(usize),
    /// A payjoin that costs us more than it may.
    #[error("the payjoin costs more than the payment allows")]
    TooDear,
    /// The signed transaction makes no sense, for example its fee.
    #[error("the signed transaction is not usable: {0}")]
    Extract(String),
}

/// Two BIP 32 chains: P2TR for what we receive (BIP 86, external), P2WPKH for change (BIP 84, internal).
pub(super) struct WalletKeys {
    external: Xpriv,
    internal: Xpriv,
    secp: Secp256k1<All>,
}

/// The same two chains without private keys, for BDK.
pub(super) struct Descriptors {
    pub(super) external: String,
    pub(super) internal: String,
}

impl WalletKeys {
    pub(super) fn new(seed: &Seed, network: Network) -> Result<(Self, Descriptors), bip32::Error> {
        let secp = Secp256k1::new();
        let (taproot, segwit) = (seed.account(network, 86, &secp)?, seed.account(network, 84, &secp)?);
        let public = |key: &Xpriv| Xpub::from_priv(&secp, key);
        let descriptors = Descriptors {
            external: format!("tr([{}]{}/0/*)", taproot.origin, public(&taproot.key)),
            internal: format!("wpkh([{}]{}/1/*)", segwit.origin, public(&segwit.key)),
        };
        let chain = |key: Xpriv, index| key.derive_priv(&secp, &[ChildNumber::from_normal_idx(index)?]);
        let (external, internal) = (chain(taproot.key, 0)?, chain(segwit.key, 1)?);
        Ok((Self { external, internal, secp }, descriptors))
    }

    fn keypair(&self, keychain: KeychainKind, index: u32) -> Result<Keypair, bip32::Error> {
        let chain = match keychain {
            KeychainKind::External => &self.external,
            KeychainKind::Internal => &self.internal,
        };
        let child = chain.derive_priv(&self.secp, &[ChildNumber::from_normal_idx(index)?])?;
        Ok(child.to_keypair(&self.secp))
    }

    /// Signs input `at`, which spends `coin`, with SIGHASH_ALL or SIGHASH_DEFAULT (money rule 5), and finalizes it.
    pub(super) fn sign(
        &self,
        psbt: &mut Psbt,
        at: usize,
        coin: &TxOut,
        (keychain, index): (KeychainKind, u32),
    ) -> Result<(), SignError> {
        let keypair = self.keypair(keychain, index).map_err(|_| SignError::NoKey(at))?;
        let witness = match keychain {
            KeychainKind::External => self.taproot_witness(psbt, at, coin, keypair)?,
            KeychainKind::Internal => self.segwit_witness(&psbt.unsigned_tx, at, coin, keypair)?,
        };
        let input = psbt.inputs.get_mut(at).ok_or(SignError::NoInput(at))?;
        // BIP 174, finalizer: only the spent output and the final witness stay.
        *input = Input {
            witness_utxo: Some(coin.clone()),
            non_witness_utxo: input.non_witness_utxo.take(),
            final_script_witness: Some(witness),
            ..Input::default()
        };
        Ok(())
    }

    fn taproot_witness(
        &self,
        psbt: &Psbt,
        at: usize,
        coin: &TxOut,
        keypair: Keypair,
    ) -> Result<Witness, SignError> {
        let keypair = keypair.tap_tweak(&self.secp, None).to_keypair();
        if ScriptBuf::new_p2tr_tweaked(keypair.x_only_public_key().0.dangerous_assume_tweaked())
            != coin.script_pubkey
        {
            return Err(SignError::NoKey(at));
        }
        let prevouts = (0..psbt.inputs.len())
            .map(|input| psbt.spend_utxo(input).map_err(|_| SignError::NoPrevout))
            .collect::<Result<Vec<_>, _>>()?;
        let sighash = SighashCache::new(&psbt.unsigned_tx)
            .taproot_key_spend_signature_hash(at, &Prevouts::All(&prevouts), TapSighashType::Default)
            .map_err(|_| SignError::NoInput(at))?;
        let signature = self.secp.sign_schnorr(&Message::from(sighash), &keypair);
        let signature = taproot::Signature { signature, sighash_type: TapSighashType::Default };
        Ok(Witness::p2tr_key_spend(&signature))
    }

    fn segwit_witness(
        &self,
        transaction: &Transaction,
        at: usize,
        coin: &TxOut,
        keypair: Keypair,
    ) -> Result<Witness, SignError> {
        let key = bitcoin::CompressedPublicKey(keypair.public_key());
        if ScriptBuf::new_p2wpkh(&key.wpubkey_hash()) != coin.script_pubkey {
            return Err(SignError::NoKey(at));
        }
        let sighash = SighashCache::new(transaction)
            .p2wpkh_signature_hash(at, &coin.script_pubkey, coin.value, EcdsaSighashType::All)
            .map_err(|_| SignError::NoInput(at))?;
        let signature = self.secp.sign_ecdsa_low_r(&Message::from(sighash), &keypair.secret_key());
        let signature = ecdsa::Signature { signature, sighash_type: EcdsaSighashType::All };
        Ok(Witness::p2wpkh(&signature, &key.0))
    }
}

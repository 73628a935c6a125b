//! Keys of the bench: they hold and spend P2WPKH coins without asking a wallet.

use anyhow::{Context, Result};
use bitcoin::secp256k1::{Message, SECP256K1, SecretKey};
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::{CompressedPublicKey, PrivateKey, Psbt, ScriptBuf, Witness};

pub(crate) struct Key {
    secret: SecretKey,
    public: CompressedPublicKey,
    /// Where its coins are.
    pub(crate) script: ScriptBuf,
}

impl Key {
    /// The payers' key.
    pub(crate) fn payers() -> Result<Self> {
        Self::new(1)
    }

    /// The key of the floor's wallet.
    pub(crate) fn floor() -> Result<Self> {
        Self::new(2)
    }

    fn new(number: u8) -> Result<Self> {
        let secret = SecretKey::from_slice(&[number; 32])?;
        let private = PrivateKey::new(secret, bitcoin::Network::Regtest);
        let public = CompressedPublicKey::from_private_key(SECP256K1, &private)?;
        Ok(Self { secret, public, script: ScriptBuf::new_p2wpkh(&public.wpubkey_hash()) })
    }

    /// Signs and finalizes one input, whose `witness_utxo` names a coin of this key.
    pub(crate) fn sign(&self, psbt: &mut Psbt, index: usize) -> Result<()> {
        let input = psbt.inputs.get_mut(index).context("no such input")?;
        let coin = input.witness_utxo.as_ref().context("the input names no coin")?;
        let kind = EcdsaSighashType::All;
        let hash = SighashCache::new(&psbt.unsigned_tx).p2wpkh_signature_hash(
            index,
            &self.script,
            coin.value,
            kind,
        )?;
        let signature = SECP256K1.sign_ecdsa(&Message::from(hash), &self.secret);
        let signature = bitcoin::ecdsa::Signature { signature, sighash_type: kind };
        input.final_script_witness = Some(Witness::p2wpkh(&signature, &self.public.0));
        Ok(())
    }
}

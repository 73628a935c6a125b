//! Signatures that another program made of our coins: each is checked before it leaves.

#[cfg(feature = "cln")]
use bitcoin::psbt::Input;
use bitcoin::secp256k1::{Message, Secp256k1, XOnlyPublicKey};
use bitcoin::sighash::{EcdsaSighashType, Prevouts, SighashCache, TapSighashType};
use bitcoin::{CompressedPublicKey, ScriptBuf, Transaction, TxOut, Witness, ecdsa, taproot};

/// Why a signature is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WitnessError {
    #[cfg(feature = "cln")]
    #[error("input {0} is not signed")]
    Missing(usize),
    #[error("input {0} is signed, but not for this transaction as a whole")]
    Wrong(usize),
}

/// The final witness of an input of ours, of what a signer left in it: final already, or a signature alone.
#[cfg(feature = "cln")]
pub(crate) fn witness(signed: &Input, at: usize) -> Result<Witness, WitnessError> {
    if let Some(witness) = &signed.final_script_witness {
        return Ok(witness.clone());
    }
    if let Some(signature) = &signed.tap_key_sig {
        return Ok(Witness::p2tr_key_spend(signature));
    }
    let (key, signature) = signed.partial_sigs.iter().next().ok_or(WitnessError::Missing(at))?;
    Ok(Witness::p2wpkh(signature, &key.inner))
}

/// Checks the witness of a P2WPKH coin or of a P2TR coin that is spent by its key: it signs all of the transaction
/// (`SIGHASH_ALL`, or `SIGHASH_DEFAULT`; money rule 5). `prevouts`: what each input spends.
pub(crate) fn check(
    transaction: &Transaction,
    prevouts: &[TxOut],
    at: usize,
    witness: &Witness,
) -> Result<(), WitnessError> {
    let coin = prevouts.get(at).ok_or(WitnessError::Wrong(at))?;
    let items: Vec<&[u8]> = witness.iter().collect();
    let valid = match items[..] {
        [signature] if coin.script_pubkey.is_p2tr() => taproot_signs(transaction, prevouts, at, signature),
        [signature, key] if coin.script_pubkey.is_p2wpkh() => {
            segwit_signs(transaction, coin, at, signature, key)
        }
        _ => None,
    };
    valid.ok_or(WitnessError::Wrong(at))
}

fn segwit_signs(
    transaction: &Transaction,
    coin: &TxOut,
    at: usize,
    signature: &[u8],
    key: &[u8],
) -> Option<()> {
    let signature = ecdsa::Signature::from_slice(signature).ok()?;
    let key = CompressedPublicKey::from_slice(key).ok()?;
    let ours = ScriptBuf::new_p2wpkh(&key.wpubkey_hash()) == coin.script_pubkey;
    if signature.sighash_type != EcdsaSighashType::All || !ours {
        return None;
    }
    let sighash = SighashCache::new(transaction)
        .p2wpkh_signature_hash(at, &coin.script_pubkey, coin.value, EcdsaSighashType::All)
        .ok()?;
    let secp = Secp256k1::verification_only();
    secp.verify_ecdsa(&Message::from(sighash), &signature.signature, &key.0).ok()
}

fn taproot_signs(transaction: &Transaction, prevouts: &[TxOut], at: usize, signature: &[u8]) -> Option<()> {
    let signature = taproot::Signature::from_slice(signature).ok()?;
    if !matches!(signature.sighash_type, TapSighashType::Default | TapSighashType::All) {
        return None;
    }
    // Version, length, key: BIP 341.
    let key = prevouts.get(at)?.script_pubkey.as_bytes().get(2..)?;
    let key = XOnlyPublicKey::from_slice(key).ok()?;
    let sighash = SighashCache::new(transaction)
        .taproot_key_spend_signature_hash(at, &Prevouts::All(prevouts), signature.sighash_type)
        .ok()?;
    let secp = Secp256k1::verification_only();
    secp.verify_schnorr(&signature.signature, &Message::from(sighash), &key).ok()
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash as _;
    use bitcoin::key::{Keypair, TapTweak as _};
    use bitcoin::secp256k1::SecretKey;
    use bitcoin::{Amount, OutPoint, Sequence, TxIn, Txid, absolute, transaction};

    use super::*;

    struct Signed {
        transaction: Transaction,
        prevouts: Vec<TxOut>,
        witnesses: [Witness; 2],
    }

    fn input(n: u8) -> TxIn {
        let previous_output = OutPoint::new(Txid::from_byte_array([n; 32]), 0);
        TxIn { previous_output, sequence: Sequence::ENABLE_RBF_NO_LOCKTIME, ..TxIn::default() }
    }

    /// A P2WPKH and a P2TR coin, signed with these types.
    fn signed(segwit: EcdsaSighashType, tap: TapSighashType) -> Signed {
        let secp = Secp256k1::new();
        let keypair = Keypair::from_secret_key(&secp, &SecretKey::from_slice(&[7; 32]).unwrap());
        let key = CompressedPublicKey(keypair.public_key());
        let tweaked = keypair.tap_tweak(&secp, None).to_keypair();
        let output = tweaked.x_only_public_key().0.dangerous_assume_tweaked();
        let value = Amount::from_sat(50_000);
        let prevouts = vec![
            TxOut { value, script_pubkey: ScriptBuf::new_p2wpkh(&key.wpubkey_hash()) },
            TxOut { value, script_pubkey: ScriptBuf::new_p2tr_tweaked(output) },
        ];
        let spend = TxOut { value, script_pubkey: ScriptBuf::new_op_return([]) };
        let transaction = Transaction {
            version: transaction::Version::TWO,
            lock_time: absolute::LockTime::ZERO,
            input: vec![input(1), input(2)],
            output: vec![spend.clone(), spend],
        };
        let mut cache = SighashCache::new(&transaction);
        let hash = cache.p2wpkh_signature_hash(0, &prevouts[0].script_pubkey, value, segwit).unwrap();
        let signature = secp.sign_ecdsa(&Message::from(hash), &keypair.secret_key());
        let first = Witness::p2wpkh(&ecdsa::Signature { signature, sighash_type: segwit }, &key.0);
        let hash = cache.taproot_key_spend_signature_hash(1, &Prevouts::All(&prevouts), tap).unwrap();
        let signature = secp.sign_schnorr_no_aux_rand(&Message::from(hash), &tweaked);
        let second = Witness::p2tr_key_spend(&taproot::Signature { signature, sighash_type: tap });
        Signed { transaction, prevouts, witnesses: [first, second] }
    }

    fn checked(signed: &Signed) -> [bool; 2] {
        let Signed { transaction, prevouts, witnesses } = signed;
        [0, 1].map(|at| check(transaction, prevouts, at, &witnesses[at]).is_ok())
    }

    #[test]
    fn money_rule_5_a_signature_counts_only_if_it_signs_all_of_the_transaction() {
        for (segwit, tap, expected) in [
            (EcdsaSighashType::All, TapSighashType::Default, [true, true]),
            (EcdsaSighashType::All, TapSighashType::All, [true, true]),
            (EcdsaSighashType::Single, TapSighashType::Single, [false, false]),
            (EcdsaSighashType::AllPlusAnyoneCanPay, TapSighashType::AllPlusAnyoneCanPay, [false, false]),
            (EcdsaSighashType::None, TapSighashType::None, [false, false]),
        ] {
            assert_eq!(checked(&signed(segwit, tap)), expected, "{segwit} {tap}");
        }
    }

    #[test]
    fn a_signature_of_another_transaction_or_of_another_value_does_not_count() {
        let good = || signed(EcdsaSighashType::All, TapSighashType::Default);
        let mut other = good();
        other.transaction.output[1].value -= Amount::from_sat(1);
        assert_eq!(checked(&other), [false, false]);
        let mut other = good();
        other.prevouts[0].value -= Amount::from_sat(1);
        assert_eq!(checked(&other), [false, false], "taproot signs all that is spent");
        let mut other = good();
        other.witnesses.swap(0, 1);
        assert_eq!(checked(&other), [false, false]);
        #[cfg(feature = "cln")]
        assert_eq!(witness(&Input::default(), 3), Err(WitnessError::Missing(3)));
    }
}

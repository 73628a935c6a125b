//! Keys that really sign, Originals, and a host that plays chain, wallet, store and Lightning node by script.

mod host;

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::LazyLock;

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::key::{Keypair, Secp256k1, TapTweak};
use bitcoin::opcodes::all::OP_CHECKSIG;
use bitcoin::script::PushBytesBuf;
use bitcoin::secp256k1::{All, Message, SecretKey};
use bitcoin::sighash::{Prevouts, SighashCache};
use bitcoin::transaction::Version;
use bitcoin::{
    Address, Amount, CompressedPublicKey, EcdsaSighashType, Network, OutPoint, Psbt, PublicKey, ScriptBuf,
    Sequence, TapSighashType, Transaction, TxIn, TxOut, Txid, WScriptHash, Witness, ecdsa, taproot,
};
use payjoin::send::v1::{SenderBuilder, V1Context};
use payjoin_core::{
    ChannelAmount, ChannelWish, Coin, Delivery, IntentId, Invoice, InvoiceId, Reply, Request, Timestamp,
};

pub(crate) use host::{Host, Lightning, Signing};

pub(crate) static SECP: LazyLock<Secp256k1<All>> = LazyLock::new(Secp256k1::new);

pub(crate) const NOW: Timestamp = Timestamp(4_000_000_000);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    P2wpkh,
    P2tr,
    P2wsh,
    Nested,
    P2pkh,
}

pub(crate) const KINDS: [Kind; 5] = [Kind::P2wpkh, Kind::P2tr, Kind::P2wsh, Kind::Nested, Kind::P2pkh];

/// An output with the key that spends it.
#[derive(Clone, Debug)]
pub(crate) struct Spend {
    pub(crate) kind: Kind,
    keypair: Keypair,
    pub(crate) parent: Transaction,
    pub(crate) outpoint: OutPoint,
    pub(crate) txout: TxOut,
}

/// A signature over nothing in particular.
static ANY_SIGNATURE: LazyLock<ecdsa::Signature> = LazyLock::new(|| {
    let message = Message::from_digest([9; 32]);
    ecdsa::Signature::sighash_all(SECP.sign_ecdsa_low_r(&message, &keypair(0).secret_key()))
});

thread_local! {
    static KEYS: RefCell<HashMap<u32, Keypair>> = RefCell::default();
    static SCRIPTS: RefCell<HashMap<(Kind, u32), ScriptBuf>> = RefCell::default();
}

/// A key by number, made once.
pub(crate) fn keypair(seed: u32) -> Keypair {
    let make = || {
        let mut bytes = [7; 32];
        bytes[..4].copy_from_slice(&seed.to_be_bytes());
        Keypair::from_secret_key(&SECP, &SecretKey::from_slice(&bytes).unwrap())
    };
    KEYS.with_borrow_mut(|keys| *keys.entry(seed).or_insert_with(make))
}

fn witness_script(keypair: &Keypair) -> ScriptBuf {
    ScriptBuf::builder()
        .push_key(&PublicKey::new(keypair.public_key()))
        .push_opcode(OP_CHECKSIG)
        .into_script()
}

/// A script of that key, made once.
pub(crate) fn script(kind: Kind, seed: u32) -> ScriptBuf {
    SCRIPTS.with_borrow_mut(|scripts| {
        scripts.entry((kind, seed)).or_insert_with(|| make_script(kind, seed)).clone()
    })
}

fn make_script(kind: Kind, seed: u32) -> ScriptBuf {
    let keypair = keypair(seed);
    let public = CompressedPublicKey(keypair.public_key());
    match kind {
        Kind::P2wpkh => ScriptBuf::new_p2wpkh(&public.wpubkey_hash()),
        Kind::P2tr => ScriptBuf::new_p2tr(&SECP, keypair.x_only_public_key().0, None),
        Kind::P2wsh => witness_script(&keypair).to_p2wsh(),
        Kind::Nested => ScriptBuf::new_p2wpkh(&public.wpubkey_hash()).to_p2sh(),
        Kind::P2pkh => ScriptBuf::new_p2pkh(&public.pubkey_hash()),
    }
}

/// A funding script as a Lightning node gives it.
pub(crate) fn funding_script(seed: u32) -> ScriptBuf {
    ScriptBuf::new_p2wsh(&WScriptHash::hash(&seed.to_be_bytes()))
}

pub(crate) fn sats(value: u64) -> Amount {
    Amount::from_sat(value)
}

pub(crate) fn txout(value: u64, script_pubkey: ScriptBuf) -> TxOut {
    TxOut { value: sats(value), script_pubkey }
}

impl Spend {
    pub(crate) fn new(kind: Kind, seed: u32, value: u64) -> Self {
        let txout = txout(value, script(kind, seed));
        let parent = Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![TxIn {
                previous_output: OutPoint::new(Txid::from_byte_array([seed as u8; 32]), seed),
                ..TxIn::default()
            }],
            output: vec![
                TxOut { value: sats(1), script_pubkey: script(Kind::P2tr, seed + 1) },
                txout.clone(),
            ],
        };
        let outpoint = OutPoint::new(parent.compute_txid(), 1);
        Self { kind, keypair: keypair(seed), parent, outpoint, txout }
    }

    pub(crate) fn coin(&self) -> Coin {
        Coin { outpoint: self.outpoint, txout: self.txout.clone() }
    }

    /// A final scriptSig and witness with a real signature over the whole transaction.
    pub(crate) fn sign(
        &self,
        transaction: &Transaction,
        index: usize,
        prevouts: &[TxOut],
    ) -> (ScriptBuf, Witness) {
        let public = PublicKey::new(self.keypair.public_key());
        let mut cache = SighashCache::new(transaction);
        let value = self.txout.value;
        let all = EcdsaSighashType::All;
        let ecdsa = |message: Message| {
            ecdsa::Signature::sighash_all(SECP.sign_ecdsa_low_r(&message, &self.keypair.secret_key()))
        };
        match self.kind {
            Kind::P2tr => {
                let hash = cache
                    .taproot_key_spend_signature_hash(
                        index,
                        &Prevouts::All(prevouts),
                        TapSighashType::Default,
                    )
                    .unwrap();
                let tweaked = self.keypair.tap_tweak(&SECP, None).to_keypair();
                let signature = SECP.sign_schnorr_no_aux_rand(&Message::from(hash), &tweaked);
                let signature = taproot::Signature { signature, sighash_type: TapSighashType::Default };
                (ScriptBuf::new(), Witness::p2tr_key_spend(&signature))
            }
            Kind::P2wpkh | Kind::Nested => {
                let program = script(Kind::P2wpkh, self.seed());
                let hash = cache.p2wpkh_signature_hash(index, &program, value, all).unwrap();
                let witness = Witness::p2wpkh(&ecdsa(Message::from(hash)), &public.inner);
                let redeem = PushBytesBuf::try_from(program.into_bytes()).unwrap();
                let nested = ScriptBuf::builder().push_slice(redeem).into_script();
                (if self.kind == Kind::Nested { nested } else { ScriptBuf::new() }, witness)
            }
            Kind::P2wsh => {
                let script = witness_script(&self.keypair);
                let hash = cache.p2wsh_signature_hash(index, &script, value, all).unwrap();
                let signature = ecdsa(Message::from(hash)).to_vec();
                (ScriptBuf::new(), Witness::from_slice(&[signature, script.into_bytes()]))
            }
            Kind::P2pkh => {
                let hash =
                    cache.legacy_signature_hash(index, &self.txout.script_pubkey, all.to_u32()).unwrap();
                let signature = ecdsa(Message::from(hash)).serialize();
                (ScriptBuf::builder().push_slice(signature).push_key(&public).into_script(), Witness::new())
            }
        }
    }

    fn seed(&self) -> u32 {
        u32::from_be_bytes(self.keypair.secret_bytes()[..4].try_into().unwrap())
    }

    /// A witness of the usual size that signs nothing, for tests that only count.
    fn mark(&self) -> (ScriptBuf, Witness) {
        let signature = ANY_SIGNATURE.to_vec();
        match self.kind {
            Kind::P2tr => (ScriptBuf::new(), Witness::from_slice(&[[5; 64]])),
            Kind::P2wpkh => (ScriptBuf::new(), Witness::from_slice(&[signature, vec![2; 33]])),
            Kind::P2wsh => (ScriptBuf::new(), Witness::from_slice(&[signature, vec![3; 35]])),
            Kind::Nested => {
                let program = script(Kind::P2wpkh, self.seed()).into_bytes();
                let redeem = PushBytesBuf::try_from(program).unwrap();
                let nested = ScriptBuf::builder().push_slice(redeem).into_script();
                (nested, Witness::from_slice(&[signature, vec![2; 33]]))
            }
            Kind::P2pkh => (
                ScriptBuf::builder().push_slice([0x30; 71]).push_slice([2; 33]).into_script(),
                Witness::new(),
            ),
        }
    }
}

/// Signs the inputs of `spends` in a PSBT and finalizes them; `real` is `false` where only sizes count.
pub(crate) fn sign(psbt: &mut Psbt, spends: &[Spend], prevouts: &[TxOut], real: bool) {
    for index in 0..psbt.inputs.len() {
        let outpoint = psbt.unsigned_tx.input[index].previous_output;
        let Some(spend) = spends.iter().find(|spend| spend.outpoint == outpoint) else { continue };
        let (script_sig, witness) =
            if real { spend.sign(&psbt.unsigned_tx, index, prevouts) } else { spend.mark() };
        psbt.inputs[index].final_script_sig = (!script_sig.is_empty()).then_some(script_sig);
        psbt.inputs[index].final_script_witness = (!witness.is_empty()).then_some(witness);
    }
}

/// A finalized Original.
pub(crate) fn original(spends: &[Spend], outputs: Vec<TxOut>, real: bool) -> Psbt {
    let input = spends.iter().map(|spend| TxIn {
        previous_output: spend.outpoint,
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        ..TxIn::default()
    });
    let transaction = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: input.collect(),
        output: outputs,
    };
    let mut psbt = Psbt::from_unsigned_tx(transaction).unwrap();
    for (input, spend) in psbt.inputs.iter_mut().zip(spends) {
        match spend.kind {
            Kind::P2pkh => input.non_witness_utxo = Some(spend.parent.clone()),
            _ => input.witness_utxo = Some(spend.txout.clone()),
        }
    }
    let prevouts: Vec<TxOut> = spends.iter().map(|spend| spend.txout.clone()).collect();
    sign(&mut psbt, spends, &prevouts, real);
    psbt
}

pub(crate) fn invoice() -> Invoice {
    Invoice {
        id: InvoiceId("aaaaaaaaaaaaaaaaaaaaaaaaaa".into()),
        script: script(Kind::P2tr, 900_001),
        amount: None,
        created: NOW,
        expires: NOW.plus(3600),
        payer_is_me: false,
        top_up: true,
        label: None,
        own_id: None,
    }
}

/// The reference sender over an Original, with its request.
pub(crate) struct Payer {
    pub(crate) context: V1Context,
    pub(crate) query: String,
    pub(crate) body: Vec<u8>,
}

/// What a payer may say to the reference sender.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wishes {
    pub(crate) contribution: Option<(u64, usize)>,
    /// In sat/kwu.
    pub(crate) min_fee_rate: u64,
    pub(crate) fixed_outputs: bool,
}

/// `None` when the reference sender would not send this.
pub(crate) fn payer(psbt: &Psbt, invoice: &Invoice, wishes: Wishes) -> Option<Payer> {
    let address = Address::from_script(&invoice.script, Network::Regtest).unwrap();
    let endpoint = format!("https://example.com/{}", invoice.id.0);
    let uri = payjoin::receive::v1::build_v1_pj_uri(&address, endpoint, payjoin::OutputSubstitution::Enabled)
        .unwrap();
    let mut builder = SenderBuilder::new(psbt.clone(), uri);
    if wishes.fixed_outputs {
        builder = builder.always_disable_output_substitution();
    }
    let rate = bitcoin::FeeRate::from_sat_per_kwu(wishes.min_fee_rate);
    let sender = match wishes.contribution {
        Some((most, index)) => builder.build_with_additional_fee(sats(most), Some(index), rate, false),
        None => builder.build_non_incentivizing(rate),
    };
    let (request, context) = sender.ok()?.create_v1_post_request();
    let query = request.url.split_once('?').map(|(_, query)| query.to_owned()).unwrap_or_default();
    Some(Payer { context, query, body: request.body })
}

pub(crate) fn request(query: &str, body: &[u8]) -> Request {
    Request {
        query: query.into(),
        content_type: Some("text/plain".into()),
        content_length: Some(body.len().to_string()),
        body: body.to_vec(),
        authenticated: true,
        delivery: Delivery::Http,
    }
}

pub(crate) fn exact(id: u64, amount: u64) -> ChannelWish {
    ChannelWish {
        id: IntentId(id),
        amount: ChannelAmount::Exact(sats(amount)),
        min: sats(1_000),
        max: sats(1_000_000_000),
    }
}

pub(crate) fn rest(id: u64) -> ChannelWish {
    ChannelWish { amount: ChannelAmount::Rest, ..exact(id, 0) }
}

/// The Proposal PSBT of a reply.
pub(crate) fn proposal(reply: &Reply) -> Psbt {
    match reply {
        Reply::Proposal(text) => text.parse().unwrap(),
        Reply::Error { message, .. } => panic!("no proposal: {message}"),
    }
}

/// The usual payment: one P2WPKH input of 1,000,000, change of 399,000, 600,000 to us, 1000 fee.
pub(crate) struct Payment {
    pub(crate) spends: Vec<Spend>,
    pub(crate) psbt: Psbt,
    pub(crate) wishes: Wishes,
}

pub(crate) const PAID: u64 = 600_000;

pub(crate) fn payment(kinds: &[Kind]) -> Payment {
    let spends: Vec<Spend> = kinds
        .iter()
        .enumerate()
        .map(|(index, kind)| Spend::new(*kind, 100 + index as u32, 1_000_000))
        .collect();
    let change = kinds.len() as u64 * 1_000_000 - PAID - 1_000;
    let outputs = vec![txout(change, script(Kind::P2wpkh, 500)), txout(PAID, invoice().script)];
    let psbt = original(&spends, outputs, true);
    Payment { spends, psbt, wishes: Wishes { contribution: Some((1_000, 0)), ..Wishes::default() } }
}

impl Payment {
    pub(crate) fn payer(&self) -> Payer {
        payer(&self.psbt, &invoice(), self.wishes).unwrap()
    }

    pub(crate) fn request(&self) -> Request {
        let payer = self.payer();
        request(&payer.query, &payer.body)
    }

    /// Runs the payment, and has the reference sender accept the proposal.
    pub(crate) fn run(&self, host: &mut Host) -> Psbt {
        let payer = self.payer();
        let reply = host.exchange(request(&payer.query, &payer.body));
        let psbt = proposal(&reply);
        payer.context.process_response(reply.body().as_bytes()).unwrap();
        psbt
    }
}

/// A coin of ours.
pub(crate) fn our_coin(seed: u32, value: u64) -> Spend {
    Spend::new(Kind::P2wpkh, 10_000 + seed, value)
}

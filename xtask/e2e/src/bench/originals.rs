//! The Originals: each is one transaction that pays every receiver, so that all of them get the same PSBTs.

use anyhow::{Context, Result, anyhow, ensure};
use bitcoin::transaction::{InputWeightPrediction, Version, predict_weight};
use bitcoin::{Amount, FeeRate, Psbt, ScriptBuf, Sequence, Transaction, TxIn, TxOut, absolute};
use payjoin::send::v1::{SenderBuilder, V1Context};
use payjoin::{PjUri, Uri};

use super::coins::Coin;
use super::key::Key;
use super::payers::Post;

/// What each Original pays each receiver.
pub(crate) const PAYMENT: Amount = Amount::from_sat(30_000);

/// What each payer's coin holds.
pub(crate) const COIN: Amount = Amount::from_sat(100_000);

pub(crate) const FEE_RATE: FeeRate = FeeRate::from_sat_per_vb_u32(5);

/// What the payer adds for an input of the receiver: at `FEE_RATE`, one P2WPKH input.
pub(crate) const CONTRIBUTION: Amount = Amount::from_sat(68 * 5);

/// A request to one receiver, and what its reply must satisfy.
pub(crate) struct Request {
    pub(crate) post: Post,
    context: V1Context,
}

impl Request {
    /// Checks a reply as the reference sender does.
    pub(crate) fn check(self, reply: &[u8]) -> Result<()> {
        let checked = self.context.process_response(reply);
        checked.map(|_| ()).map_err(|error| anyhow!("{error}: {}", String::from_utf8_lossy(reply)))
    }
}

/// One transaction from one coin, as a request to every receiver whose BIP 21 code is given, in that order.
pub(crate) fn requests(key: &Key, coin: Coin, codes: &[&str]) -> Result<(Transaction, Vec<Request>)> {
    let uris = codes.iter().map(|code| parse(code)).collect::<Result<Vec<_>>>()?;
    let mut payees: Vec<ScriptBuf> = uris.iter().map(|uri| uri.address().script_pubkey()).collect();
    payees.sort();
    payees.dedup();
    let psbt = original(key, coin, payees)?;
    let change = psbt.outputs.len() - 1;
    let requests =
        uris.into_iter().map(|uri| request(psbt.clone(), uri, change)).collect::<Result<Vec<_>>>()?;
    let body = requests.first().map(|request| request.post.body());
    ensure!(
        requests.iter().all(|request| Some(request.post.body()) == body),
        "two receivers would get different Originals"
    );
    Ok((psbt.extract_tx()?, requests))
}

pub(crate) fn parse(code: &str) -> Result<PjUri> {
    let uri = Uri::try_from(code).map_err(|error| anyhow!("not a BIP 21 code: {error}"))?.assume_checked();
    ensure!(uri.amount() == Some(PAYMENT), "the BIP 21 code asks for {:?}", uri.amount());
    uri.check_pj_supported().map_err(|_| anyhow!("the BIP 21 code has no payjoin endpoint"))
}

/// Pays every payee; the last output is change.
pub(crate) fn original(key: &Key, coin: Coin, payees: Vec<ScriptBuf>) -> Result<Psbt> {
    let paid = PAYMENT * payees.len() as u64;
    let mut output: Vec<TxOut> =
        payees.into_iter().map(|script_pubkey| TxOut { value: PAYMENT, script_pubkey }).collect();
    output.push(TxOut { value: Amount::ZERO, script_pubkey: key.script.clone() });
    let lengths = output.iter().map(|output| output.script_pubkey.len());
    let fee = FEE_RATE * predict_weight([InputWeightPrediction::P2WPKH_MAX], lengths);
    let rest = coin.output.value.checked_sub(paid + fee).context("the payer's coin is too small")?;
    output.last_mut().context("no change")?.value = rest;
    let transaction = Transaction {
        version: Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: vec![TxIn {
            previous_output: coin.outpoint,
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            ..TxIn::default()
        }],
        output,
    };
    let mut psbt = Psbt::from_unsigned_tx(transaction)?;
    psbt.inputs.first_mut().context("no input")?.witness_utxo = Some(coin.output);
    key.sign(&mut psbt, 0)?;
    Ok(psbt)
}

fn request(psbt: Psbt, uri: PjUri, change: usize) -> Result<Request> {
    let sender = SenderBuilder::new(psbt, uri).build_with_additional_fee(
        CONTRIBUTION,
        Some(change),
        FEE_RATE,
        false,
    )?;
    let (request, context) = sender.create_v1_post_request();
    Ok(Request { post: Post::new(&request.url, request.content_type, &request.body)?, context })
}

//! LND's messages in JSON, as far as they are read: `lnrpc/*.proto`. Bytes are base64, 64-bit numbers are texts.

use bitcoin::base64::Engine as _;
use bitcoin::base64::prelude::BASE64_STANDARD;
use bitcoin::secp256k1::PublicKey;
use bitcoin::{OutPoint, ScriptBuf, Txid};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use std::str::FromStr;

/// Bytes for LND.
pub(super) fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

/// An outpoint for LND.
pub(super) fn outpoint(outpoint: OutPoint) -> Value {
    json!({ "txid_str": outpoint.txid.to_string(), "output_index": outpoint.vout })
}

fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    BASE64_STANDARD.decode(String::deserialize(from)?).map_err(D::Error::custom)
}

fn many_bytes<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Vec<u8>>, D::Error> {
    let texts = Vec::<String>::deserialize(from)?;
    texts.into_iter().map(|text| BASE64_STANDARD.decode(text).map_err(D::Error::custom)).collect()
}

fn number<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr + DeserializeOwned,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form<T> {
        Number(T),
        Text(String),
    }
    match Form::deserialize(from)? {
        Form::Number(number) => Ok(number),
        Form::Text(text) => text.parse().map_err(|_| D::Error::custom(format!("{text} is no number"))),
    }
}

/// The answer to a call that only does something.
#[derive(Deserialize)]
pub(super) struct Done {}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Info {
    pub(super) identity_pubkey: PublicKey,
    pub(super) block_height: u32,
    pub(super) synced_to_chain: bool,
    pub(super) chains: Vec<ChainName>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct ChainName {
    pub(super) network: String,
}

#[derive(Deserialize)]
pub(super) struct Coins {
    pub(super) utxos: Vec<Utxo>,
}

#[derive(Deserialize)]
pub(super) struct Utxo {
    #[serde(deserialize_with = "number")]
    pub(super) amount_sat: u64,
    /// In hex, unlike all other bytes.
    pub(super) pk_script: ScriptBuf,
    pub(super) outpoint: Point,
    #[serde(deserialize_with = "number")]
    pub(super) confirmations: u32,
}

#[derive(Deserialize)]
pub(super) struct Point {
    pub(super) txid_str: Txid,
    pub(super) output_index: u32,
}

impl From<Point> for OutPoint {
    fn from(point: Point) -> Self {
        Self { txid: point.txid_str, vout: point.output_index }
    }
}

#[derive(Deserialize)]
pub(super) struct Leases {
    pub(super) locked_utxos: Vec<Lease>,
}

#[derive(Deserialize)]
pub(super) struct Lease {
    #[serde(deserialize_with = "bytes")]
    pub(super) id: Vec<u8>,
    pub(super) outpoint: Point,
    #[serde(deserialize_with = "bytes")]
    pub(super) pk_script: Vec<u8>,
    #[serde(deserialize_with = "number")]
    pub(super) value: u64,
}

#[derive(Deserialize)]
pub(super) struct Address {
    pub(super) addr: String,
}

#[derive(Deserialize)]
pub(super) struct Reserved {
    #[serde(deserialize_with = "number")]
    pub(super) required_reserve: u64,
}

#[derive(Deserialize)]
pub(super) struct Signed {
    pub(super) input_scripts: Vec<InputScript>,
}

#[derive(Deserialize)]
pub(super) struct InputScript {
    #[serde(deserialize_with = "many_bytes")]
    pub(super) witness: Vec<Vec<u8>>,
}

/// How an opening goes on.
#[derive(Deserialize)]
pub(super) struct OpenStatus {
    pub(super) psbt_fund: Option<PsbtFund>,
    pub(super) chan_pending: Option<ChanPending>,
}

#[derive(Deserialize)]
pub(super) struct PsbtFund {
    pub(super) funding_address: String,
    #[serde(deserialize_with = "number")]
    pub(super) funding_amount: u64,
}

#[derive(Deserialize)]
pub(super) struct ChanPending {
    /// In the order of hashing.
    #[serde(deserialize_with = "bytes")]
    pub(super) txid: Vec<u8>,
    pub(super) output_index: u32,
}

#[derive(Deserialize)]
pub(super) struct Pending {
    pub(super) pending_open_channels: Vec<PendingOpen>,
    pub(super) pending_force_closing_channels: Vec<Closing>,
    pub(super) waiting_close_channels: Vec<Closing>,
}

#[derive(Deserialize)]
pub(super) struct PendingOpen {
    pub(super) channel: PendingChannel,
    /// 0 until its funding is in a block. LND 0.20 and later.
    #[serde(default)]
    pub(super) confirmation_height: u32,
}

#[derive(Deserialize)]
pub(super) struct Closing {
    pub(super) channel: PendingChannel,
    #[serde(deserialize_with = "number")]
    pub(super) limbo_balance: i64,
}

#[derive(Deserialize)]
pub(super) struct PendingChannel {
    pub(super) remote_node_pub: PublicKey,
    pub(super) channel_point: OutPoint,
    #[serde(deserialize_with = "number")]
    pub(super) capacity: u64,
    #[serde(deserialize_with = "number")]
    pub(super) local_balance: i64,
    #[serde(deserialize_with = "number")]
    pub(super) remote_balance: i64,
    #[serde(default)]
    pub(super) memo: String,
}

#[derive(Deserialize)]
pub(super) struct Channels {
    pub(super) channels: Vec<Channel>,
}

#[derive(Deserialize)]
pub(super) struct Channel {
    pub(super) active: bool,
    pub(super) remote_pubkey: PublicKey,
    pub(super) channel_point: OutPoint,
    #[serde(deserialize_with = "number")]
    pub(super) capacity: u64,
    #[serde(deserialize_with = "number")]
    pub(super) local_balance: i64,
    #[serde(deserialize_with = "number")]
    pub(super) remote_balance: i64,
    pub(super) local_constraints: Option<Constraints>,
    pub(super) remote_constraints: Option<Constraints>,
}

#[derive(Deserialize)]
pub(super) struct Constraints {
    #[serde(deserialize_with = "number")]
    pub(super) chan_reserve_sat: i64,
}

#[derive(Deserialize)]
pub(super) struct ClosedChannels {
    pub(super) channels: Vec<ClosedChannel>,
}

#[derive(Deserialize)]
pub(super) struct ClosedChannel {
    pub(super) channel_point: OutPoint,
    pub(super) close_type: String,
}

#[derive(Deserialize)]
pub(super) struct Peers {
    pub(super) peers: Vec<Peer>,
}

#[derive(Deserialize)]
pub(super) struct Peer {
    pub(super) pub_key: PublicKey,
    pub(super) address: String,
    pub(super) inbound: bool,
}

#[derive(Deserialize)]
pub(super) struct Invoice {
    #[serde(deserialize_with = "bytes")]
    pub(super) r_hash: Vec<u8>,
    pub(super) payment_request: String,
}

#[derive(Deserialize)]
pub(super) struct HoldInvoice {
    pub(super) payment_request: String,
}

/// What is heard of an invoice.
#[derive(Deserialize)]
pub(super) struct HeldInvoice {
    /// `lnrpc.Invoice.InvoiceState`.
    pub(super) state: String,
}

#[derive(Deserialize)]
pub(super) struct PayRequest {
    /// In hex.
    pub(super) payment_hash: String,
    #[serde(deserialize_with = "number")]
    pub(super) num_msat: u64,
}

#[derive(Deserialize)]
pub(super) struct Payment {
    pub(super) status: String,
    #[serde(deserialize_with = "number")]
    pub(super) fee_msat: u64,
    pub(super) payment_preimage: String,
    pub(super) failure_reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    const TXID: &str = "f4184fc596403b9d638783cf57adfe4c75c605f6356fbc91338530e9831e9e16";
    const KEY: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

    #[test]
    fn the_coins_of_lnd_are_read() {
        let text = json!({ "utxos": [{
            "address_type": "TAPROOT_PUBKEY", "address": "bcrt1p", "amount_sat": "9007199254740993",
            "pk_script": "5120", "confirmations": "6",
            "outpoint": { "txid_bytes": "Fg==", "txid_str": TXID, "output_index": 3 },
        }]});
        let coin = serde_json::from_value::<Coins>(text).unwrap().utxos.remove(0);
        assert_eq!((coin.amount_sat, coin.confirmations), (9_007_199_254_740_993, 6));
        assert_eq!(OutPoint::from(coin.outpoint).to_string(), format!("{TXID}:3"));
        assert_eq!(coin.pk_script.to_hex_string(), "5120");
    }

    #[test]
    fn an_opening_goes_on_in_two_steps() {
        let read = |text: Value| serde_json::from_value::<OpenStatus>(text).unwrap();
        let open = read(json!({ "pending_chan_id": "AA==",
            "psbt_fund": { "funding_address": "bcrt1q", "funding_amount": "300000", "psbt": "" } }));
        assert_eq!(open.psbt_fund.unwrap().funding_amount, 300_000);
        assert!(open.chan_pending.is_none());
        let pending = read(json!({ "pending_chan_id": "AA==",
            "chan_pending": { "txid": "AQI=", "output_index": 1, "fee_per_vbyte": "0", "local_close_tx": false } }));
        let pending = pending.chan_pending.unwrap();
        assert_eq!((pending.txid, pending.output_index), (vec![1, 2], 1));
    }

    #[test]
    fn a_channel_that_waits_is_read_with_its_note() {
        let channel = |more: Value| {
            let mut channel = json!({ "channel": {
                "remote_node_pub": KEY, "channel_point": format!("{TXID}:0"), "capacity": "300000",
                "local_balance": "296530", "remote_balance": "0", "memo": "ours" } });
            channel.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({ "pending_open_channels": [channel], "pending_force_closing_channels": [],
                "waiting_close_channels": [] })
        };
        for (more, height) in [(json!({}), 0), (json!({ "confirmation_height": 7 }), 7)] {
            let read =
                serde_json::from_value::<Pending>(channel(more)).unwrap().pending_open_channels.remove(0);
            assert_eq!((read.confirmation_height, read.channel.memo.as_str()), (height, "ours"));
        }
    }
}

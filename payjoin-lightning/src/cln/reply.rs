//! What lightningd answers, as far as it is asked.

use bitcoin::secp256k1::PublicKey;
use bitcoin::{Address, Amount, Network, OutPoint, ScriptBuf, TxOut};
use payjoin_core::{ChannelEnd, Closure, Coin};
use serde_json::Value;

/// `getinfo`.
pub(super) struct Info {
    pub(super) node_id: PublicKey,
    pub(super) network: String,
    pub(super) height: u32,
    /// Why it is not up to date.
    pub(super) behind: Option<String>,
}

pub(super) fn info(answer: &Value) -> Option<Info> {
    let warning =
        ["warning_bitcoind_sync", "warning_lightningd_sync"].iter().find_map(|name| answer.get(name));
    Some(Info {
        node_id: key(answer, "id")?,
        network: answer.get("network")?.as_str()?.to_owned(),
        height: number(answer, "blockheight")?,
        behind: warning.and_then(Value::as_str).map(str::to_owned),
    })
}

/// An output of `listfunds`.
pub(super) struct Output {
    pub(super) coin: Coin,
    /// Of its block; `None`: it is not in the chain.
    pub(super) height: Option<u32>,
    pub(super) immature: bool,
    /// Until which block nobody else is given it.
    pub(super) reserved: Option<u32>,
}

pub(super) fn outputs(answer: &Value) -> Option<Vec<Output>> {
    answer.get("outputs")?.as_array()?.iter().map(output).collect()
}

fn output(output: &Value) -> Option<Output> {
    let status = output.get("status")?.as_str()?;
    let is_reserved = output.get("reserved")?.as_bool()?;
    let value = msat(output.get("amount_msat")?)?;
    let script = ScriptBuf::from_hex(output.get("scriptpubkey")?.as_str()?).ok()?;
    let outpoint = OutPoint { txid: text(output, "txid")?.parse().ok()?, vout: number(output, "output")? };
    Some(Output {
        coin: Coin {
            outpoint,
            txout: TxOut { value: Amount::from_sat(value / 1_000), script_pubkey: script },
        },
        height: matches!(status, "confirmed" | "immature").then(|| number(output, "blockheight")).flatten(),
        immature: status == "immature",
        reserved: is_reserved.then(|| number(output, "reserved_to_block").unwrap_or(u32::MAX)),
    })
}

/// `listaddresses`: the scripts, and the last key that has some.
pub(super) fn addresses(answer: &Value, network: Network) -> Option<(Vec<ScriptBuf>, Option<u64>)> {
    let rows = answer.get("addresses")?.as_array()?;
    let mut scripts = Vec::new();
    for row in rows {
        let given = ["bech32", "p2tr"].iter().filter_map(|kind| row.get(kind)?.as_str());
        for address in given {
            scripts.push(script(address, network)?);
        }
    }
    Some((scripts, rows.iter().filter_map(|row| row.get("keyidx")?.as_u64()).max()))
}

fn script(address: &str, network: Network) -> Option<ScriptBuf> {
    let address: Address<_> = address.parse().ok()?;
    Some(address.require_network(network).ok()?.script_pubkey())
}

/// One channel of `listpeerchannels`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Channel {
    pub(super) peer: PublicKey,
    pub(super) connected: bool,
    pub(super) state: String,
    /// What it does now, in its own words.
    pub(super) status: Vec<String>,
    pub(super) channel_id: Option<String>,
    pub(super) funding: Option<OutPoint>,
    pub(super) total_msat: u64,
    pub(super) ours_msat: u64,
    pub(super) spendable_msat: u64,
    pub(super) receivable_msat: u64,
    /// Who began to close it.
    pub(super) closer: Option<String>,
}

/// While its peer may still refuse it.
pub(super) const OPENING: &str = "OPENINGD";
/// Its funding is not deep enough.
pub(super) const AWAITING: &str = "CHANNELD_AWAITING_LOCKIN";
pub(super) const NORMAL: &str = "CHANNELD_NORMAL";

impl Channel {
    /// Any that waits for its funding, however it is opened.
    pub(super) fn is_awaiting(&self) -> bool {
        self.state.ends_with("_AWAITING_LOCKIN")
    }

    /// Its end is certain.
    pub(super) fn is_closed(&self) -> bool {
        matches!(
            self.state.as_str(),
            "CLOSINGD_COMPLETE" | "AWAITING_UNILATERAL" | "FUNDING_SPEND_SEEN" | "ONCHAIN" | "CLOSED"
        )
    }

    /// Why, in words for the operator.
    pub(super) fn end(&self) -> ChannelEnd {
        let who = match self.closer.as_deref() {
            Some("local") => "we closed it",
            Some("remote") => "the peer closed it",
            _ => "it closed",
        };
        let reason = match self.status.last() {
            Some(status) => format!("{who}: {status}"),
            None => who.to_owned(),
        };
        ChannelEnd { how: self.how(), reason }
    }

    /// By its state, or by what lightningd tells of the transaction that it found.
    fn how(&self) -> Closure {
        let says = |what: &str| self.status.iter().any(|line| line.contains(what));
        match self.state.as_str() {
            "CLOSINGD_COMPLETE" => Closure::Cooperative,
            "AWAITING_UNILATERAL" => Closure::ForcedByUs,
            _ if says("mutual close") => Closure::Cooperative,
            _ if says("our own unilateral close") || says("our unilateral close") => Closure::ForcedByUs,
            _ if says("their unilateral close") => Closure::ForcedByPeer,
            _ => Closure::Unknown,
        }
    }
}

pub(super) fn channels(answer: &Value) -> Option<Vec<Channel>> {
    answer.get("channels")?.as_array()?.iter().map(channel).collect()
}

fn channel(channel: &Value) -> Option<Channel> {
    let amount = |name| channel.get(name).and_then(msat).unwrap_or_default();
    let status = channel.get("status").and_then(Value::as_array);
    Some(Channel {
        peer: key(channel, "peer_id")?,
        connected: channel.get("peer_connected")?.as_bool()?,
        state: text(channel, "state")?.to_owned(),
        status: status.into_iter().flatten().filter_map(|line| Some(line.as_str()?.to_owned())).collect(),
        channel_id: text(channel, "channel_id").map(str::to_owned),
        funding: funding(channel),
        total_msat: amount("total_msat"),
        ours_msat: amount("to_us_msat"),
        spendable_msat: amount("spendable_msat"),
        receivable_msat: amount("receivable_msat"),
        closer: text(channel, "closer").map(str::to_owned),
    })
}

/// `listclosedchannels`: by funding output, why each ended.
pub(super) fn closed(answer: &Value) -> Option<Vec<(OutPoint, ChannelEnd)>> {
    let rows = answer.get("closedchannels")?.as_array()?;
    let row = |row: &Value| {
        let who = if text(row, "closer") == Some("remote") { "the peer closed it" } else { "it closed" };
        let cause = text(row, "close_cause").unwrap_or("unknown");
        let reason = format!("{who}, cause: {cause}");
        Some((funding(row)?, ChannelEnd { how: Closure::Unknown, reason }))
    };
    Some(rows.iter().filter_map(row).collect())
}

fn funding(of: &Value) -> Option<OutPoint> {
    Some(OutPoint { txid: text(of, "funding_txid")?.parse().ok()?, vout: number(of, "funding_outnum")? })
}

pub(super) fn text<'a>(of: &'a Value, name: &str) -> Option<&'a str> {
    of.get(name)?.as_str()
}

pub(super) fn key(of: &Value, name: &str) -> Option<PublicKey> {
    text(of, name)?.parse().ok()
}

fn number(of: &Value, name: &str) -> Option<u32> {
    of.get(name)?.as_u64()?.try_into().ok()
}

/// Older versions write the unit behind the number.
pub(super) fn msat(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.strip_suffix("msat")?.parse().ok())
}

//! One opening as LND tells of it.

use std::sync::Arc;

use bitcoin::address::NetworkUnchecked;
use bitcoin::hashes::Hash as _;
use bitcoin::secp256k1::PublicKey;
use bitcoin::{Address, Amount, OutPoint, TxOut, Txid};
use payjoin_core::ChannelSpec;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::calls::OPEN;
use super::client::{Client, Pieces};
use super::error::LndError;
use super::names::Name;
use super::wire::{OpenStatus, base64};
use crate::{ChannelKey, FunderError};

/// A peer can put 64 kB into an error message; the operator gets the beginning.
const REASON_CHARS: usize = 200;

/// How far an opening has come.
#[derive(Clone, Debug)]
pub(super) enum Stage {
    /// `open_channel` is out.
    Opening,
    /// The peer accepted a channel that pays to this output.
    Open(TxOut),
    /// The peer has signed our first commitment, and LND has kept it.
    Pending(OutPoint),
    /// It failed.
    Closed(FunderError),
}

/// An opening under way. LND goes on with it when this is dropped: it must be cancelled.
pub(super) struct Slot {
    pub(super) name: Name,
    pub(super) peer: PublicKey,
    pub(super) stage: watch::Receiver<Stage>,
    reader: AbortHandle,
}

impl Slot {
    /// Asks LND to open a channel, and listens to what it says of it.
    pub(super) fn open(
        client: Arc<Client>,
        name: Name,
        key: ChannelKey,
        spec: &ChannelSpec,
        amount: Amount,
    ) -> Self {
        let (told, stage) = watch::channel(Stage::Opening);
        let request = request(name, key, spec, amount);
        let reader = tokio::spawn(async move {
            let end = match client.stream(&OPEN, "", Some(&request)).await {
                Ok(pieces) => listen(pieces, &told).await,
                Err(error) => Err(error),
            };
            if let Err(error) = end {
                told.send_replace(Stage::Closed(failure(error)));
            }
        });
        Self { name, peer: spec.peer.node_id(), stage, reader: reader.abort_handle() }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

fn request(name: Name, key: ChannelKey, spec: &ChannelSpec, amount: Amount) -> Value {
    json!({
        "node_pubkey": base64(&spec.peer.node_id().serialize()),
        "local_funding_amount": amount.to_sat().to_string(),
        "push_sat": spec.push.to_sat().to_string(),
        "private": !spec.announced,
        "memo": name.memo(key),
        "funding_shim": { "psbt_shim": { "pending_chan_id": base64(&name.0), "no_publish": true } },
    })
}

/// Until the peer has signed.
async fn listen(mut pieces: Pieces, told: &watch::Sender<Stage>) -> Result<(), LndError> {
    while let Some(status) = pieces.next::<OpenStatus>().await? {
        let stage = read(&status).map_err(|why| LndError::Form { call: OPEN.right, why: why.to_owned() })?;
        let Some(stage) = stage else { continue };
        let is_last = matches!(stage, Stage::Pending(_));
        told.send_replace(stage);
        if is_last {
            return Ok(());
        }
    }
    Err(LndError::Refused("the opening ended without a word".to_owned()))
}

fn read(status: &OpenStatus) -> Result<Option<Stage>, &'static str> {
    if let Some(fund) = &status.psbt_fund {
        let address = fund.funding_address.parse::<Address<NetworkUnchecked>>();
        let script_pubkey = address.map_err(|_| "no address")?.assume_checked().script_pubkey();
        return Ok(Some(Stage::Open(TxOut { value: Amount::from_sat(fund.funding_amount), script_pubkey })));
    }
    if let Some(pending) = &status.chan_pending {
        let txid = Txid::from_slice(&pending.txid).map_err(|_| "no transaction id")?;
        return Ok(Some(Stage::Pending(OutPoint { txid, vout: pending.output_index })));
    }
    Ok(None)
}

/// Whose fault it was that an opening failed.
pub(super) fn failure(error: LndError) -> FunderError {
    let clip = |text: &str| text.chars().take(REASON_CHARS).collect::<String>();
    let LndError::Refused(said) = &error else { return FunderError::Refused(clip(&error.to_string())) };
    // `funding/manager.go`, `handleErrorMsg`: the peer's words come last.
    let peer = said.split_once("received funding error from").and_then(|(_, rest)| rest.split_once("err="));
    match peer {
        Some((_, words)) => FunderError::Peer(clip(words)),
        None if said.contains("is not online") || said.contains("disconnected") => {
            FunderError::Closed("the peer disconnected in the middle of the opening".to_owned())
        }
        None => FunderError::Refused(clip(said)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peers_words_are_told_apart_from_those_of_lnd() {
        let failed = |said: &str| failure(LndError::Refused(said.to_owned()));
        let full = "Number of pending channels exceed maximum";
        let told = format!(
            "remote canceled funding, possibly timed out: received funding error from 02ab: chan_id=00ff, err={full}"
        );
        assert_eq!(failed(&told), FunderError::Peer(full.to_owned()));
        assert!(matches!(failed("peer 02ab is not online"), FunderError::Closed(_)));
        assert_eq!(failed("channel is too small"), FunderError::Refused("channel is too small".to_owned()));
        let FunderError::Peer(long) = failed(&told.replace(full, &"x".repeat(9_999))) else {
            panic!("the peer's")
        };
        assert_eq!(long.len(), REASON_CHARS);
    }
}

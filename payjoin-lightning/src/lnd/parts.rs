//! What LND tells is kept fresh beside the exchanges, and what is due there is done.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bitcoin::Amount;
use bitcoin::secp256k1::PublicKey;
use payjoin_core::PeerAddress;
use tokio::time::sleep;

use super::calls::GET_INFO;
use super::channels::LndChannels;
use super::client::Client;
use super::error::LndError;
use super::funder::LndFunder;
use super::held::HeldInvoices;
use super::wallet::{Kept, LndWallet};
use super::wire::Info;
use crate::addresses::Turn;
use crate::lock::lock;
use crate::revive::Revive;
use crate::{Balance, Wanted};

/// How often LND is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// Between two attempts to listen to LND, or to reach peers.
const AGAIN: Duration = Duration::from_secs(2);

/// The parts of the node, for its calls and for its tasks.
pub(super) struct Parts {
    pub(super) node_id: PublicKey,
    pub(super) client: Arc<Client>,
    pub(super) wallet: LndWallet,
    pub(super) channels: LndChannels,
    pub(super) funder: Arc<LndFunder>,
    pub(super) held: HeldInvoices,
    pub(super) wanted: Option<Arc<dyn Wanted>>,
    pub(super) seen: Mutex<Seen>,
}

/// What the last look at LND has shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    trouble: Option<LndError>,
    kept: Kept,
}

impl Parts {
    /// Asks LND for what must be known, and does what is due there: first the locks, which hold what is offered.
    pub(super) async fn look(&self) -> Result<(), LndError> {
        let info = info(&self.client).await?;
        if info.identity_pubkey != self.node_id {
            return Err(LndError::Refused(format!("this is another node now: {}", info.identity_pubkey)));
        }
        if !info.synced_to_chain {
            return Err(LndError::NotSynchronised);
        }
        self.wallet.set_height(info.block_height);
        self.wallet.refresh().await?;
        self.wallet.keep().await?;
        self.funder.clear().await?;
        self.funder.tell_of(self.channels.refresh().await?);
        let kept = self.wallet.kept().await?;
        lock(&self.seen).kept = kept;
        Ok(())
    }

    /// Looks again and again.
    pub(super) async fn watch(self: Arc<Self>) {
        let (mut revive, mut anew) = (Revive::default(), Vec::new());
        loop {
            sleep(LOOK).await;
            let trouble = self.look().await.err();
            self.note(trouble);
            anew = self.connect_anew(anew).await;
            for peer in revive.due(&self.channels.stuck(), Instant::now()) {
                anew.extend(self.let_go(&peer).await);
            }
        }
    }

    /// LND, too, waits for ever for a channel that was connected to before it was deep enough: one more connection cures it.
    /// Gives where the peer is to be dialled; otherwise it comes back by itself.
    async fn let_go(&self, peer: &PublicKey) -> Option<PeerAddress> {
        tracing::info!(%peer, "a channel cannot be used: connecting to its peer anew");
        let known =
            self.channels.look(|seen| seen.peers.iter().find(|known| known.node_id == *peer).cloned());
        if let Err(error) = self.funder.disconnect(peer).await {
            tracing::warn!(%error, %peer, "a peer is not connected anew");
            return None;
        }
        known.and_then(|known| known.address)
    }

    /// Dials these peers, and gives those that are not reached yet.
    async fn connect_anew(&self, peers: Vec<PeerAddress>) -> Vec<PeerAddress> {
        let mut left = Vec::new();
        for peer in peers {
            if let Err(error) = self.funder.reach(&peer, Turn::WorkedFirst).await {
                tracing::debug!(%error, peer = %peer.node_id(), "a peer is not reached");
                left.push(peer);
            }
        }
        left
    }

    /// Says a trouble once.
    fn note(&self, trouble: Option<LndError>) {
        let mut seen = lock(&self.seen);
        match &trouble {
            Some(error) if seen.trouble != trouble => tracing::error!(%error, "nothing is offered now"),
            None if seen.trouble.is_some() => tracing::info!("LND answers again"),
            _ => {}
        }
        seen.trouble = trouble;
    }

    pub(super) async fn hear_of_coins(self: Arc<Self>) {
        loop {
            ended("coins", self.wallet.listen().await);
            sleep(AGAIN).await;
        }
    }

    pub(super) async fn hear_of_channels(self: Arc<Self>) {
        loop {
            ended("channels", self.channels.listen().await);
            sleep(AGAIN).await;
        }
    }

    pub(super) async fn hear_of_invoices(self: Arc<Self>) {
        self.held.follow_all().await;
    }

    /// No payer waits for a dial.
    pub(super) async fn reach_peers(self: Arc<Self>) {
        let Some(wanted) = self.wanted.clone() else { return };
        loop {
            for peer in wanted.peers().await {
                let id = peer.node_id();
                let known = self.channels.look(|seen| seen.peers.iter().any(|known| known.node_id == id));
                if !known && let Err(error) = self.funder.reach(&peer, Turn::WorkedFirst).await {
                    tracing::debug!(%error, peer = %id, "a peer is not reached");
                }
            }
            sleep(AGAIN).await;
        }
    }

    pub(super) fn trouble(&self) -> Option<String> {
        lock(&self.seen).trouble.as_ref().map(ToString::to_string)
    }

    pub(super) fn kept(&self) -> Kept {
        lock(&self.seen).kept
    }

    pub(super) fn balance(&self) -> Balance {
        let Kept { existing: reserve, per_channel } = self.kept();
        let (channels, closing) = self.channels.look(|seen| (seen.channels.len(), seen.limbo));
        self.wallet.look(|locks| {
            let (confirmed, free) = (locks.coins().total(), locks.coins().free().value);
            Balance {
                confirmed,
                unconfirmed: locks.unconfirmed,
                locked: confirmed - free,
                immature: Amount::ZERO,
                reserve,
                reserve_closing: Amount::ZERO,
                channels,
                closable: closable(channels, free, reserve, per_channel),
                closing,
                spendable: free.checked_sub(reserve).unwrap_or_default(),
            }
        })
    }
}

/// How many channels LND could close with its coins: it asks for a sum, and for no more than a hundred thousand satoshis.
fn closable(channels: usize, free: Amount, reserve: Amount, per_channel: Amount) -> usize {
    let Some(spare) = free.checked_sub(reserve) else { return 0 };
    let more = spare.to_sat().checked_div(per_channel.to_sat()).unwrap_or(u64::MAX);
    channels.saturating_add(usize::try_from(more).unwrap_or(usize::MAX))
}

pub(super) async fn info(client: &Client) -> Result<Info, LndError> {
    client.ask(&GET_INFO, "").await
}

/// LND is asked each time instead, until it can be listened to again.
fn ended(what: &str, end: Result<(), LndError>) {
    match end {
        Ok(()) => tracing::debug!(what, "LND does not tell of changes any more"),
        Err(error) => tracing::debug!(what, %error, "LND does not tell of changes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lnd_keeps_back_closes_the_channels_that_there_are_and_the_rest_others() {
        let sat = Amount::from_sat;
        for (channels, free, reserve, per_channel, expected) in [
            (2, 19_999, 20_000, 10_000, 0),
            (2, 20_000, 20_000, 10_000, 2),
            (2, 45_000, 20_000, 10_000, 4),
            (0, 0, 0, 10_000, 0),
            (12, 100_000, 100_000, 0, usize::MAX),
        ] {
            let closable = closable(channels, sat(free), sat(reserve), sat(per_channel));
            assert_eq!(closable, expected, "{channels} {free}");
        }
    }
}

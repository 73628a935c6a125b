//! LND's channels and peers, asked for when LND tells that they changed.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bitcoin::secp256k1::PublicKey;
use bitcoin::{Amount, OutPoint};
use payjoin_core::{ChannelEnd, Closure};
use tokio::join;

use super::calls::{CHANNEL_EVENTS, CHANNELS, CLOSED, PEERS, PENDING};
use super::client::Client;
use super::error::LndError;
use super::wire::{Channel, Channels, ClosedChannels, Constraints, Peers, Pending, PendingChannel};
use crate::lock::lock;
use crate::{ChannelInfo, ClosingChannel, PeerInfo};

/// What LND last told of its channels and peers.
pub(super) struct LndChannels {
    client: Arc<Client>,
    seen: Mutex<Seen>,
    /// LND has told of a change, or of nothing yet.
    stale: AtomicBool,
    /// LND tells of changes.
    hears: AtomicBool,
}

/// What has become of channels since the last picture.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Can be used, for the first time.
    pub(super) ready: Vec<ChannelInfo>,
    pub(super) closed: Vec<(OutPoint, ChannelEnd)>,
}

/// One picture.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) channels: Vec<ChannelInfo>,
    pub(super) closing: Vec<ClosingChannel>,
    /// Closed for good, and how.
    pub(super) closed: Vec<(OutPoint, ChannelEnd)>,
    pub(super) peers: Vec<PeerInfo>,
    /// Peers of channels that are deep enough and cannot be used.
    stuck: Vec<PublicKey>,
    /// Of what is closing.
    pub(super) limbo: Amount,
    /// Could be used at some time; `None` before the first picture.
    used: Option<HashSet<OutPoint>>,
}

impl Seen {
    /// Takes over a new picture. The first one is no news.
    fn replace(&mut self, mut new: Self) -> Changes {
        let usable = new.channels.iter().filter(|channel| channel.usable);
        let fundings: HashSet<_> = usable.clone().filter_map(|channel| channel.funding).collect();
        let is_new = |channel: &&ChannelInfo| {
            let known =
                |used: &HashSet<OutPoint>| channel.funding.is_some_and(|funding| used.contains(&funding));
            self.used.as_ref().is_some_and(|used| !known(used))
        };
        let ready = usable.filter(is_new).cloned().collect();
        let is_known = |end: &&(OutPoint, ChannelEnd)| self.used.is_none() || self.closed.contains(end);
        let closed = new.closed.iter().filter(|end| !is_known(end)).cloned().collect();
        let mut used = self.used.take().unwrap_or_default();
        used.extend(fundings);
        new.used = Some(used);
        new.peers = std::mem::take(&mut self.peers);
        *self = new;
        Changes { ready, closed }
    }
}

impl LndChannels {
    pub(super) fn new(client: Arc<Client>) -> Self {
        let (stale, hears) = (AtomicBool::new(true), AtomicBool::default());
        Self { client, seen: Mutex::default(), stale, hears }
    }

    /// Listens for changes, until LND stops telling.
    pub(super) async fn listen(&self) -> Result<(), LndError> {
        let mut changes = self.client.stream(&CHANNEL_EVENTS, "", None).await?;
        loop {
            let change = changes.next::<serde::de::IgnoredAny>().await;
            self.stale.store(true, Ordering::Relaxed);
            self.hears.store(matches!(change, Ok(Some(_))), Ordering::Relaxed);
            if !self.hears.load(Ordering::Relaxed) {
                return change.map(drop);
            }
        }
    }

    /// Asks for what has changed.
    pub(super) async fn refresh(&self) -> Result<Changes, LndError> {
        let peers = self.client.ask::<Peers>(&PEERS, "").await?;
        let peers: Vec<_> = peers.peers.into_iter().map(peer).collect();
        let met = {
            let mut seen = lock(&self.seen);
            let met = keys(&seen.peers) != keys(&peers);
            seen.peers = peers;
            met
        };
        let fresh = self.hears.load(Ordering::Relaxed) && !self.stale.swap(false, Ordering::Relaxed);
        // Whether a channel can be used goes by its peer, and LND may tell of it before its list shows it.
        let settled = self.look(|seen| seen.channels.iter().all(|channel| channel.usable));
        if fresh && !met && settled {
            return Ok(Changes::default());
        }
        let listed = self.list().await;
        if listed.is_err() {
            self.stale.store(true, Ordering::Relaxed);
        }
        listed
    }

    async fn list(&self) -> Result<Changes, LndError> {
        let (open, pending, closed) = join!(
            self.client.ask::<Channels>(&CHANNELS, ""),
            self.client.ask::<Pending>(&PENDING, ""),
            self.client.ask::<ClosedChannels>(&CLOSED, ""),
        );
        let (open, pending, closed) = (open?.channels, pending?, closed?.channels);
        let stuck =
            open.iter().filter(|channel| !channel.active).map(|channel| channel.remote_pubkey).collect();
        let waiting = pending.pending_open_channels.into_iter().map(|one| unusable(one.channel, false));
        let mut channels: Vec<_> = open.into_iter().map(usable).chain(waiting).collect();
        let ends = pending.waiting_close_channels.into_iter().chain(pending.pending_force_closing_channels);
        let (mut closing, mut limbo) = (Vec::new(), Amount::ZERO);
        for end in ends {
            let sat = u64::try_from(end.limbo_balance).unwrap_or(0);
            limbo += Amount::from_sat(sat);
            closing.push(leaving(&end.channel, sat));
            channels.push(unusable(end.channel, true));
        }
        let closed = closed.into_iter().map(|one| (one.channel_point, ended(&one.close_type))).collect();
        let picture = Seen { channels, closing, closed, stuck, limbo, ..Seen::default() };
        Ok(lock(&self.seen).replace(picture))
    }

    /// Peers with a channel that cannot be used though nothing is missing; `true` for those that are connected.
    pub(super) fn stuck(&self) -> BTreeMap<PublicKey, bool> {
        let seen = lock(&self.seen);
        let connected = keys(&seen.peers);
        seen.stuck.iter().map(|peer| (*peer, connected.contains(peer))).collect()
    }

    /// The next look asks again.
    pub(super) fn changed(&self) {
        self.stale.store(true, Ordering::Relaxed);
    }

    pub(super) fn look<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&lock(&self.seen))
    }
}

fn keys(peers: &[PeerInfo]) -> HashSet<PublicKey> {
    peers.iter().map(|peer| peer.node_id).collect()
}

/// Where it listens is known only of a peer that we reached.
fn peer(peer: super::wire::Peer) -> PeerInfo {
    let address = format!("{}@{}", peer.pub_key, peer.address).parse().ok();
    PeerInfo { node_id: peer.pub_key, address: address.filter(|_| !peer.inbound) }
}

fn msat(balance: i64, reserve: Option<&Constraints>) -> u64 {
    let reserve = reserve.map_or(0, |constraints| constraints.chan_reserve_sat);
    u64::try_from(balance.saturating_sub(reserve)).unwrap_or(0).saturating_mul(1_000)
}

fn usable(channel: Channel) -> ChannelInfo {
    let outbound_msat = msat(channel.local_balance, channel.local_constraints.as_ref());
    let inbound_msat = msat(channel.remote_balance, channel.remote_constraints.as_ref());
    ChannelInfo {
        channel_id: channel.channel_point.to_string(),
        peer: channel.remote_pubkey,
        capacity_sat: channel.capacity,
        outbound_msat,
        inbound_msat,
        usable: channel.active,
        why: None,
        fallen: false,
        ready: true,
        funding: Some(channel.channel_point),
        user_channel_id: "0".to_owned(),
    }
}

/// One that waits for its funding, or for its end.
fn unusable(channel: PendingChannel, ready: bool) -> ChannelInfo {
    ChannelInfo {
        channel_id: channel.channel_point.to_string(),
        peer: channel.remote_node_pub,
        capacity_sat: channel.capacity,
        outbound_msat: msat(channel.local_balance, None),
        inbound_msat: msat(channel.remote_balance, None),
        usable: false,
        why: (!ready).then(|| "its funding is not deep enough yet".to_owned()),
        fallen: false,
        ready,
        funding: Some(channel.channel_point),
        user_channel_id: "0".to_owned(),
    }
}

fn leaving(channel: &PendingChannel, sat: u64) -> ClosingChannel {
    ClosingChannel {
        channel_id: channel.channel_point.to_string(),
        peer: channel.remote_node_pub,
        funding: channel.channel_point,
        sat,
        needs_sat: None,
    }
}

/// `lnrpc.ChannelCloseSummary.ClosureType`.
fn ended(kind: &str) -> ChannelEnd {
    let (how, text) = match kind {
        "COOPERATIVE_CLOSE" => (Closure::Cooperative, "both sides closed it"),
        "LOCAL_FORCE_CLOSE" => (Closure::ForcedByUs, "LND closed it by force"),
        "REMOTE_FORCE_CLOSE" => (Closure::ForcedByPeer, "the peer closed it by force"),
        "BREACH_CLOSE" => (Closure::ForcedByPeer, "the peer cheated, and LND took all that was in it"),
        "FUNDING_CANCELED" => (Closure::NotFunded, "its funding was never mined"),
        "ABANDONED" => (Closure::Unknown, "it was abandoned at LND"),
        other => return ChannelEnd { how: Closure::Unknown, reason: format!("LND says: {other}") },
    };
    ChannelEnd { how, reason: text.to_owned() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_channel_can_carry_is_what_its_reserves_leave() {
        let channel = serde_json::from_value::<Channel>(json!({
            "active": true,
            "remote_pubkey": "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
            "channel_point": "f4184fc596403b9d638783cf57adfe4c75c605f6356fbc91338530e9831e9e16:1",
            "capacity": "300000", "local_balance": "296530", "remote_balance": "1000",
            "local_constraints": { "chan_reserve_sat": "3000" },
            "remote_constraints": { "chan_reserve_sat": "3000" },
        }));
        let info = usable(channel.unwrap());
        assert_eq!((info.outbound_msat, info.inbound_msat), (293_530_000, 0));
    }

    fn picture(usable: bool, closed: &[u32]) -> Seen {
        let at = |vout| OutPoint { vout, ..OutPoint::null() };
        let channel = serde_json::from_value::<Channel>(json!({
            "active": usable,
            "remote_pubkey": "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
            "channel_point": at(1).to_string(), "capacity": "1", "local_balance": "1", "remote_balance": "0",
        }));
        let closed = closed.iter().map(|vout| (at(*vout), ended("COOPERATIVE_CLOSE"))).collect();
        Seen { channels: vec![super::usable(channel.unwrap())], closed, ..Seen::default() }
    }

    #[test]
    fn a_channel_is_told_once_when_it_can_be_used_and_once_when_it_is_closed() {
        let mut seen = Seen::default();
        let mut told = |usable, closed: &[u32]| {
            let changes = seen.replace(picture(usable, closed));
            (changes.ready.len(), changes.closed.len())
        };
        assert_eq!(told(false, &[7]), (0, 0), "what was before is no news");
        assert_eq!(told(true, &[7]), (1, 0));
        assert_eq!(told(false, &[7]), (0, 0));
        assert_eq!(told(true, &[7, 8]), (0, 1), "its peer was away for a while");
        assert_eq!(told(true, &[7, 8]), (0, 0));
    }
}

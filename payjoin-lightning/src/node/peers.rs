//! Connections to Lightning peers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bitcoin::secp256k1::PublicKey;
use lightning::io;
use lightning::routing::gossip::NodeId;
use lightning_net_tokio::setup_outbound;
use payjoin_core::PeerAddress;
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::sync::Mutex as AsyncMutex;
use tokio::task::JoinSet;
use tokio::time::timeout;

use payjoin_core::is_onion;

use super::dial::Dialer;
use super::fallen::FallenChannels;
use super::gate::PeerManager;
use super::inbound::Inbound;
use super::redial::{self, Redial};
use super::stop::Stop;
use super::store::NodeStore;
use super::stuck::is_stuck;
use super::types::{ChannelManager, Graph};
use crate::addresses::{Addresses, Turn};
use crate::lock::lock;
use crate::revive::Revive;
use crate::{Connector, Reached, Wanted};

/// Where addresses of peers are stored: by node id, as [`Addresses`] writes them.
const NAMESPACE: &str = "peers";
/// Time for TCP, handshake and `init` together.
const CONNECT: Duration = Duration::from_secs(10);
/// The same where a [`Dialer`] is the way: a circuit through Tor takes its time.
const CONNECT_BY_DIALER: Duration = Duration::from_secs(60);
/// Announced addresses of a peer that are tried at most.
const GOSSIPED: usize = 4;
/// How often a handshake that is under way is looked at.
const LOOK: Duration = Duration::from_millis(2);
const HUNG_UP: &str = "it hung up: perhaps another node with another node id is there";
/// For the last words to a peer whose connection is to end.
const FAREWELL: Duration = Duration::from_millis(200);
/// Rest after a connection to us that could not be accepted.
const REST: Duration = Duration::from_secs(3);

/// Dials peers, remembers where they are, and keeps those with channels connected, and those that are wanted.
pub(super) struct Peers {
    manager: Arc<PeerManager>,
    channels: Arc<ChannelManager>,
    fallen: Arc<FallenChannels>,
    store: Arc<dyn NodeStore>,
    dialer: Option<Arc<dyn Dialer>>,
    wanted: Option<Arc<dyn Wanted>>,
    addresses: Addresses,
    graph: Arc<Graph>,
    /// One dial at a time for each peer: a second connection would be closed by LDK.
    dialing: Mutex<HashMap<PublicKey, Arc<AsyncMutex<()>>>>,
}

impl Peers {
    pub(super) fn load(
        manager: Arc<PeerManager>,
        channels: Arc<ChannelManager>,
        fallen: Arc<FallenChannels>,
        store: Arc<dyn NodeStore>,
        dialer: Option<Arc<dyn Dialer>>,
        wanted: Option<Arc<dyn Wanted>>,
        graph: Arc<Graph>,
    ) -> Result<Self, io::Error> {
        let addresses = Addresses::default();
        for key in store.list(NAMESPACE, "")? {
            let text = String::from_utf8(store.read(NAMESPACE, "", &key)?).unwrap_or_default();
            if let Err(error) = addresses.read(&text) {
                tracing::warn!(%error, key, "a stored peer address is damaged");
            }
        }
        let dialing = Mutex::default();
        Ok(Self { manager, channels, fallen, store, dialer, wanted, addresses, graph, dialing })
    }

    pub(super) fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Where a peer may be: where it was reached last, or what is told of it.
    fn address(&self, node_id: &PublicKey) -> Option<PeerAddress> {
        self.addresses.all(node_id).into_iter().chain(self.gossiped(node_id)).next()
    }

    /// What the peer itself announced, as far as it can be dialled.
    fn gossiped(&self, node_id: &PublicKey) -> Vec<PeerAddress> {
        let graph = self.graph.read_only();
        let node = graph.node(&NodeId::from_pubkey(node_id)).and_then(|node| node.announcement_info.as_ref());
        let announced = node.map(|node| node.addresses().to_vec()).unwrap_or_default();
        let addresses =
            announced.iter().filter_map(|at| format!("{node_id}@{at}").parse::<PeerAddress>().ok());
        let can_dial = |address: &PeerAddress| {
            let by_dialer = self.dialer.as_deref().is_some_and(|dialer| dialer.reaches(address.host()));
            by_dialer || !is_onion(address.host())
        };
        addresses.filter(can_dial).take(GOSSIPED).collect()
    }

    /// Connects a peer, by one address after the other until it answers; one that is connected stays so. The error says
    /// what came of each.
    pub(super) async fn reach(&self, peer: &PeerAddress, turn: Turn) -> Result<Reached, String> {
        let node_id = peer.node_id();
        let lock_of_peer = Arc::clone(lock(&self.dialing).entry(node_id).or_default());
        let _turn = lock_of_peer.lock().await;
        if self.addresses.tell(peer) {
            self.keep(&node_id)?;
        }
        if self.is_connected(&node_id) {
            return Ok(Reached::Before);
        }
        let mut failures = Vec::new();
        for address in self.addresses.in_turn(peer, turn, self.gossiped(&node_id)) {
            match self.dial(&address).await {
                Ok(()) => {
                    self.reached(&address)?;
                    return Ok(Reached::by(address, peer, &failures));
                }
                Err(failure) => failures.push(failure),
            }
        }
        let why = failures.join("; ");
        self.addresses.failed(node_id, why.clone());
        Err(why)
    }

    fn reached(&self, address: &PeerAddress) -> Result<(), String> {
        if self.addresses.reached(address) { self.keep(&address.node_id()) } else { Ok(()) }
    }

    fn keep(&self, node_id: &PublicKey) -> Result<(), String> {
        let known = self.addresses.write(node_id).into_bytes();
        let kept = self.store.write(NAMESPACE, "", &node_id.to_string(), known);
        kept.map_err(|error| error.to_string())
    }

    /// Peers whose `init` was received.
    pub(super) fn connected(&self) -> Vec<PublicKey> {
        self.manager.list_peers().into_iter().map(|peer| peer.counterparty_node_id).collect()
    }

    fn is_connected(&self, node_id: &PublicKey) -> bool {
        self.manager.peer_by_node_id(node_id).is_some()
    }

    /// A peer that has a channel which we have forgotten hangs up as soon as it hears so, and is there the next time.
    async fn dial(&self, peer: &PeerAddress) -> Result<(), String> {
        let mut dialled = self.dial_once(peer).await;
        if dialled.as_ref().is_err_and(|error| error == HUNG_UP) {
            dialled = self.dial_once(peer).await;
        }
        dialled.map_err(|error| format!("no connection to {}:{}: {error}", peer.host(), peer.port()))
    }

    async fn dial_once(&self, peer: &PeerAddress) -> Result<(), String> {
        let dialer = self.dialer.as_deref().filter(|dialer| dialer.reaches(peer.host()));
        let dialled = match dialer {
            Some(dialer) => timeout(CONNECT_BY_DIALER, self.dial_by(dialer, peer)).await,
            None => timeout(CONNECT, self.dial_tcp(peer)).await,
        };
        dialled.unwrap_or_else(|_| Err("no answer in time".to_owned()))
    }

    async fn dial_by(&self, dialer: &dyn Dialer, peer: &PeerAddress) -> Result<(), String> {
        let socket = dialer.dial(peer.host(), peer.port()).await?;
        self.shake_hands(peer.node_id(), socket.0).await
    }

    /// Tries the host's addresses; the error is that of the last.
    async fn dial_tcp(&self, peer: &PeerAddress) -> Result<(), String> {
        // The name would reach a name server. RFC 7686, section 2.
        if is_onion(peer.host()) {
            return Err("onion peers are reached through Tor only".to_owned());
        }
        let addresses = lookup_host((peer.host(), peer.port())).await.map_err(|error| error.to_string())?;
        let mut last = Err("the name has no address".to_owned());
        for address in addresses {
            last = match TcpStream::connect(address).await.and_then(without_delay) {
                Ok(socket) => self.shake_hands(peer.node_id(), socket).await,
                Err(error) => Err(error.to_string()),
            };
            if last.is_ok() {
                break;
            }
        }
        last
    }

    async fn shake_hands(&self, node_id: PublicKey, socket: std::net::TcpStream) -> Result<(), String> {
        let closed = tokio::spawn(setup_outbound(Arc::clone(&self.manager), node_id, socket));
        while !closed.is_finished() && !self.is_connected(&node_id) {
            tokio::time::sleep(LOOK).await;
        }
        match self.is_connected(&node_id) {
            true => Ok(()),
            false => Err(HUNG_UP.to_owned()),
        }
    }

    /// Accepts connections until `stop`.
    pub(super) async fn accept(self: Arc<Self>, listener: TcpListener, mut stop: Stop) {
        let mut inbound = Inbound::default();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = inbound.ended() => continue,
                () = stop.wait() => return,
            };
            let taken = accepted.and_then(|(stream, from)| {
                inbound.take(without_delay(stream)?, from, &self.manager, &self.channels)
            });
            if let Err(error) = taken {
                tracing::warn!(%error, "a peer could not be accepted");
                tokio::time::sleep(REST).await;
            }
        }
    }

    /// Keeps peers with channels and those that are wanted connected until `stop`. One that takes long holds no other up,
    /// and one that stays away is dialled ever more rarely. One whose channel stays unusable is connected anew.
    pub(super) async fn reconnect(self: Arc<Self>, mut stop: Stop) {
        let (mut redial, mut dials, mut dialling) = (Redial::default(), JoinSet::new(), BTreeSet::new());
        let mut revive = Revive::default();
        loop {
            for peer in revive.due(&self.stuck(), Instant::now()) {
                tracing::warn!(%peer, "a channel is confirmed and cannot be used: connecting to its peer anew");
                self.manager.disconnect_by_node_id(peer);
            }
            for (peer, address) in redial.due(self.lost().await, Instant::now()) {
                if dialling.insert(peer) {
                    dials.spawn(Arc::clone(&self).connect_again(address));
                }
            }
            tokio::select! {
                () = tokio::time::sleep(redial::FIRST) => {}
                () = stop.wait() => return,
            }
            while let Some(Ok((peer, connected))) = dials.try_join_next() {
                dialling.remove(&peer);
                redial.dialled(peer, connected, Instant::now());
            }
        }
    }

    /// Peers with a channel that is confirmed and cannot be used, and whether they are connected. One that is not to be
    /// dialled, or that opens a channel in this moment, keeps the connection that it has.
    fn stuck(&self) -> BTreeMap<PublicKey, bool> {
        let channels = self.channels.list_channels();
        let opens = |peer: &PublicKey| {
            channels.iter().any(|other| other.counterparty.node_id == *peer && other.funding_txo.is_none())
        };
        let stuck = channels.iter().filter(|channel| is_stuck(channel)).map(|one| one.counterparty.node_id);
        let known = stuck.filter(|peer| self.address(peer).is_some() && !opens(peer));
        known.map(|peer| (peer, self.is_connected(&peer))).collect()
    }

    /// Peers that should be connected and are not. Those with channels are where they were reached last, and so are those
    /// who must close a channel that we cannot close.
    async fn lost(&self) -> BTreeMap<PublicKey, PeerAddress> {
        let wanted = match &self.wanted {
            Some(wanted) => wanted.peers().await,
            None => Vec::new(),
        };
        let channels = self.channels.list_channels();
        let peers = channels.iter().map(|channel| channel.counterparty.node_id);
        let known = peers.chain(self.fallen.peers()).filter_map(|peer| self.address(&peer));
        // Told first, so that they are tried, too, where the peer was reached elsewhere.
        for address in &wanted {
            self.addresses.tell(address);
        }
        let all = wanted.into_iter().chain(known).map(|address| (address.node_id(), address));
        all.filter(|(peer, _)| !self.is_connected(peer)).collect()
    }

    /// Returns whether it succeeded.
    async fn connect_again(self: Arc<Self>, address: PeerAddress) -> (PublicKey, bool) {
        let connected = self.connect(&address).await;
        if let Err(error) = &connected {
            tracing::debug!(peer = %address.node_id(), error, "not connected");
        }
        (address.node_id(), connected.is_ok())
    }
}

/// For lightning-net-tokio, which leaves the option as it is. An opening is a chain of short messages, of which each
/// would wait for the acknowledgement of the one before.
fn without_delay(stream: TcpStream) -> std::io::Result<std::net::TcpStream> {
    stream.set_nodelay(true)?;
    stream.into_std()
}

#[async_trait]
impl Connector for Peers {
    async fn connect(&self, peer: &PeerAddress) -> Result<(), String> {
        self.reach(peer, Turn::WorkedFirst).await.map(drop)
    }

    async fn connect_anew(&self, peer: &PeerAddress) -> Result<(), String> {
        let node_id = peer.node_id();
        // Sends what waits, and ends connections that LDK wants ended.
        self.manager.process_events();
        let begun = Instant::now();
        while self.is_connected(&node_id) && begun.elapsed() < FAREWELL {
            tokio::time::sleep(LOOK).await;
        }
        if self.is_connected(&node_id) {
            self.manager.disconnect_by_node_id(node_id);
        }
        self.connect(peer).await
    }
}

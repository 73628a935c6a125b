//! A Lightning peer by script: LDK's connection, and behind it nobody who has a channel.

use std::hash::{Hash, Hasher};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use bitcoin::constants::ChainHash;
use bitcoin::hashes::{Hash as _, sha256d};
use bitcoin::secp256k1::{Message, PublicKey, Secp256k1, SecretKey, SignOnly, rand};
use lightning::io;
use lightning::ln::msgs::{
    ChannelAnnouncement, DecodeError, Init, LightningError, UnsignedChannelAnnouncement,
};
use lightning::ln::peer_handler::{
    CustomMessageHandler, ErroringMessageHandler, IgnoringMessageHandler, MessageHandler, PeerManager,
    SocketDescriptor,
};
use lightning::ln::wire::{CustomMessageReader, Type};
use lightning::routing::gossip::NodeId;
use lightning::sign::KeysManager;
use lightning::types::features::{ChannelFeatures, InitFeatures, NodeFeatures};
use lightning::util::logger::{Logger, Record};
use lightning::util::ser::{LengthLimitedRead, Writeable, Writer};

use super::daemon::Daemon;
use super::wait;

/// `channel_announcement`. BOLT 7.
const CHANNEL_ANNOUNCEMENT: u16 = 256;
/// So many announcements are made and sent at a time.
const BATCH: u64 = 1_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection to a daemon's Lightning node.
pub(crate) struct Stranger {
    peers: Arc<Peers>,
    socket: Socket,
    daemon: PublicKey,
    outbox: Arc<Outbox>,
}

type Peers = PeerManager<
    Socket,
    Arc<ErroringMessageHandler>,
    Arc<IgnoringMessageHandler>,
    Arc<IgnoringMessageHandler>,
    Arc<Silence>,
    Arc<Outbox>,
    Arc<KeysManager>,
    Arc<IgnoringMessageHandler>,
>;

impl Stranger {
    /// Connects and shakes hands.
    pub(crate) fn connect(daemon: &Daemon) -> Result<Self> {
        let (id, address) = daemon.peer.split_once('@').context("no address of a peer")?;
        let daemon: PublicKey = id.parse()?;
        let keys = Arc::new(KeysManager::new(&rand::random(), 1, 1, true));
        let outbox = Arc::<Outbox>::default();
        let (nobody, chan_handler) = (Arc::new(IgnoringMessageHandler {}), ErroringMessageHandler::new());
        let handlers = MessageHandler {
            chan_handler: Arc::new(chan_handler),
            route_handler: Arc::clone(&nobody),
            onion_message_handler: Arc::clone(&nobody),
            custom_message_handler: Arc::clone(&outbox),
            send_only_message_handler: nobody,
        };
        let peers = Arc::new(PeerManager::new(handlers, 1, &rand::random(), Arc::new(Silence), keys));
        let socket = Socket { stream: Arc::new(TcpStream::connect(address)?), read: Arc::default() };
        let hello = peers.new_outbound_connection(daemon, socket.clone(), None);
        Write::write_all(&mut &*socket.stream, &hello.map_err(|_| anyhow!("no handshake"))?)?;
        let (reading, mut from) = (Arc::clone(&peers), socket.clone());
        thread::spawn(move || from.read_all(&reading));
        let stranger = Self { peers, socket, daemon, outbox };
        let peers = &stranger.peers;
        wait::until("the stranger is connected", PATIENCE, || Ok(peers.peer_by_node_id(&daemon).map(drop)))?;
        Ok(stranger)
    }

    /// Announces so many channels that do not exist, all with good signatures, and waits until the daemon has dealt with
    /// them.
    pub(crate) fn announce(&self, count: u64) -> Result<()> {
        let keys: [SecretKey; 2] =
            [SecretKey::new(&mut rand::thread_rng()), SecretKey::new(&mut rand::thread_rng())];
        for first in (0..count).step_by(usize::try_from(BATCH)?) {
            let half = first + BATCH / 2;
            let made = thread::scope(|scope| {
                let other = scope.spawn(|| invent(&keys, half..(first + BATCH).min(count)));
                let mut made = invent(&keys, first..half.min(count));
                made.extend(other.join().unwrap_or_default());
                made
            });
            self.outbox.put(made.into_iter().map(|announcement| (self.daemon, announcement)));
            self.peers.process_events();
        }
        self.ping()
    }

    /// Messages are answered in their order: with the answer to this, all before it are dealt with.
    fn ping(&self) -> Result<()> {
        let before = self.socket.read.load(Ordering::Relaxed);
        self.peers.timer_tick_occurred();
        wait::until("the daemon answers the stranger", PATIENCE, || {
            Ok((self.socket.read.load(Ordering::Relaxed) > before).then_some(()))
        })
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        // Ends the thread that reads.
        let _ = self.socket.stream.shutdown(Shutdown::Both);
    }
}

/// Announcements of channels with these numbers between two nodes whose keys are those of the funding, too.
fn invent(keys: &[SecretKey; 2], numbers: std::ops::Range<u64>) -> Vec<Invented> {
    let secp = Secp256k1::signing_only();
    let mut keys = keys.map(|key| (NodeId::from_pubkey(&key.public_key(&secp)), key));
    keys.sort_by_key(|(id, _)| *id);
    numbers.map(|number| Invented(announcement(&secp, &keys, number))).collect()
}

fn announcement(
    secp: &Secp256k1<SignOnly>,
    [(one, first), (two, second)]: &[(NodeId, SecretKey); 2],
    number: u64,
) -> ChannelAnnouncement {
    let contents = UnsignedChannelAnnouncement {
        features: ChannelFeatures::empty(),
        chain_hash: ChainHash::REGTEST,
        // The first transaction of a block of its own. BOLT 7, "Definition of short_channel_id".
        short_channel_id: (number + 1) << 40,
        node_id_1: *one,
        node_id_2: *two,
        bitcoin_key_1: *one,
        bitcoin_key_2: *two,
        excess_data: Vec::new(),
    };
    let hash = Message::from_digest(
        <sha256d::Hash as bitcoin::hashes::Hash>::hash(&contents.encode()).to_byte_array(),
    );
    let [first, second] = [first, second].map(|key| secp.sign_ecdsa(&hash, key));
    ChannelAnnouncement {
        node_signature_1: first,
        node_signature_2: second,
        bitcoin_signature_1: first,
        bitcoin_signature_2: second,
        contents,
    }
}

/// An announcement that LDK sends for us as it is.
#[derive(Debug)]
struct Invented(ChannelAnnouncement);

impl Writeable for Invented {
    fn write<W: Writer>(&self, writer: &mut W) -> Result<(), io::Error> {
        self.0.write(writer)
    }
}

impl Type for Invented {
    fn type_id(&self) -> u16 {
        CHANNEL_ANNOUNCEMENT
    }
}

/// What is to be sent.
#[derive(Default)]
struct Outbox(Mutex<Vec<(PublicKey, Invented)>>);

impl Outbox {
    fn put(&self, messages: impl Iterator<Item = (PublicKey, Invented)>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(messages);
    }
}

impl CustomMessageReader for Outbox {
    type CustomMessage = Invented;

    fn read<R: LengthLimitedRead>(&self, _: u16, _: &mut R) -> Result<Option<Invented>, DecodeError> {
        Ok(None)
    }
}

impl CustomMessageHandler for Outbox {
    fn handle_custom_message(&self, _: Invented, _: PublicKey) -> Result<(), LightningError> {
        Ok(())
    }

    fn get_and_clear_pending_msg(&self) -> Vec<(PublicKey, Invented)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn peer_disconnected(&self, _: PublicKey) {}

    fn peer_connected(&self, _: PublicKey, _: &Init, _: bool) -> Result<(), ()> {
        Ok(())
    }

    fn provided_node_features(&self) -> NodeFeatures {
        NodeFeatures::empty()
    }

    fn provided_init_features(&self, _: PublicKey) -> InitFeatures {
        InitFeatures::empty()
    }
}

/// A socket that waits until what is sent is on its way: whoever does not read holds us up.
#[derive(Clone)]
struct Socket {
    stream: Arc<TcpStream>,
    /// Bytes that came.
    read: Arc<AtomicUsize>,
}

impl Socket {
    fn read_all(&mut self, peers: &Peers) {
        let mut bytes = [0; 4096];
        while let Ok(length @ 1..) = (&*self.stream).read(&mut bytes) {
            if peers.read_event(self, &bytes[..length]).is_err() {
                return;
            }
            peers.process_events();
            self.read.fetch_add(length, Ordering::Relaxed);
        }
        peers.socket_disconnected(self);
    }
}

impl SocketDescriptor for Socket {
    fn send_data(&mut self, data: &[u8], _: bool) -> usize {
        match Write::write_all(&mut &*self.stream, data) {
            Ok(()) => data.len(),
            Err(_) => 0,
        }
    }

    fn disconnect_socket(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

impl PartialEq for Socket {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.stream, &other.stream)
    }
}

impl Eq for Socket {}

impl Hash for Socket {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.stream).hash(state);
    }
}

struct Silence;

impl Logger for Silence {
    fn log(&self, _: Record) {}
}

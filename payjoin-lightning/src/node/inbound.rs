//! Connections that others made to us. They are bounded, and those of nobody with a channel give way to new ones.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;

use lightning::ln::msgs::SocketAddress;
use lightning_net_tokio::setup_inbound;
use tokio::task::JoinSet;

use super::gate::PeerManager;
use super::types::{ChannelManager, is_mined};

/// Most at once.
const MOST: usize = 128;

/// The connections, oldest first.
#[derive(Default)]
pub(super) struct Inbound {
    open: BTreeMap<u64, (SocketAddr, TcpStream)>,
    ends: JoinSet<u64>,
    count: u64,
}

impl Inbound {
    /// Hands a connection to LDK. Where there are too many, one without a channel ends first, or this one.
    pub(super) fn take(
        &mut self,
        stream: TcpStream,
        from: SocketAddr,
        peers: &Arc<PeerManager>,
        channels: &ChannelManager,
    ) -> std::io::Result<()> {
        if self.open.len() >= MOST {
            let Some(oldest) = self.oldest(&with_channels(peers, channels)) else { return Ok(()) };
            if let Some((_, stream)) = self.open.remove(&oldest) {
                // LDK reads the end of it. An error says that it ended already.
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        let id = self.count;
        self.count += 1;
        self.open.insert(id, (from, stream.try_clone()?));
        let connection = setup_inbound(Arc::clone(peers), stream);
        self.ends.spawn(async move {
            connection.await;
            id
        });
        Ok(())
    }

    /// Waits for the end of a connection; for ever where there is none.
    pub(super) async fn ended(&mut self) {
        match self.ends.join_next().await {
            Some(Ok(id)) => drop(self.open.remove(&id)),
            Some(Err(error)) => tracing::error!(%error, "a connection of a peer failed"),
            None => std::future::pending().await,
        }
    }

    /// The oldest connection but for those to `keep`, from the network that has most of them: whoever makes many pushes
    /// out his own.
    fn oldest(&self, keep: &HashSet<SocketAddress>) -> Option<u64> {
        let idle = self.open.iter().filter(|(_, (from, _))| !keep.contains(&SocketAddress::from(*from)));
        let mut networks: HashMap<IpAddr, (usize, u64)> = HashMap::new();
        for (id, (from, _)) in idle {
            networks.entry(network(from.ip())).or_insert((0, *id)).0 += 1;
        }
        let (_, oldest) =
            networks.into_values().max_by_key(|(count, oldest)| (*count, std::cmp::Reverse(*oldest)))?;
        Some(oldest)
    }
}

/// Where peers with channels connected from. One that a peer opens counts once its funding is mined: until then it costs
/// him nothing.
fn with_channels(peers: &PeerManager, channels: &ChannelManager) -> HashSet<SocketAddress> {
    let channels = channels.list_channels();
    let counts = channels.iter().filter(|channel| channel.is_outbound || is_mined(channel));
    let known: HashSet<_> = counts.map(|channel| channel.counterparty.node_id).collect();
    let peers = peers.list_peers().into_iter().filter(|peer| known.contains(&peer.counterparty_node_id));
    peers.filter_map(|peer| peer.socket_address).collect()
}

/// One subscriber commands a whole /64 of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & (u128::MAX << 64)).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_oldest_connection_without_a_channel_from_where_most_come_gives_way() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let place = |text: &str| text.parse::<SocketAddr>().unwrap();
        let oldest = |open: &[&str], keep: &[&str]| {
            let open = open.iter().map(|from| (place(from), stream.try_clone().unwrap()));
            let inbound = Inbound { open: (0..).zip(open).collect(), ..Inbound::default() };
            inbound.oldest(&keep.iter().map(|kept| place(kept).into()).collect())
        };
        assert_eq!(oldest(&[], &[]), None);
        assert_eq!(oldest(&["192.0.2.1:1", "192.0.2.2:1"], &[]), Some(0));
        assert_eq!(oldest(&["192.0.2.1:1", "192.0.2.2:1"], &["192.0.2.1:1"]), Some(1));
        assert_eq!(oldest(&["192.0.2.1:1"], &["192.0.2.1:1"]), None);
        let many = ["192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1", "192.0.2.2:2"];
        assert_eq!(oldest(&many, &[]), Some(1), "two come from there");
        assert_eq!(oldest(&many, &["192.0.2.2:1"]), Some(0), "one with a channel does not count");
        let neighbours = ["192.0.2.1:1", "[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8:0:1::1]:1"];
        assert_eq!(oldest(&neighbours, &[]), Some(1));
    }
}

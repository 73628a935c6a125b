//! Tor by payjoin-tor.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use payjoin_core::{Step, is_onion, with_causes};
use payjoin_io::{HttpClient, HttpError, Listener};
use payjoin_lightning::node::{Dialer, PeerSocket};
use payjoin_tor::{
    Bootstrap, ListenError, OnionConfig, OnionListener, Reachability, StartError, TorClient, TorConfig,
    TorHttp,
};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::TorState;
use crate::events::Events;
use crate::settings::Settings;

/// The last bytes of the last answers have this long to leave.
const LAST_BYTES: Duration = Duration::from_secs(10);

/// Why Tor did not start.
#[derive(Debug, thiserror::Error)]
pub enum TorError {
    /// A build without proof of work.
    #[error("[tor] pow = true, but this payjoind was built without it: build it with `--features pow`")]
    NoPow,
    /// The Tor client.
    #[error("[tor] {}", with_causes(.0))]
    Client(#[from] StartError),
    /// The onion service.
    #[error("[tor] {}", with_causes(.0))]
    Listen(#[from] ListenError),
}

/// The one Tor client, and the onion service.
pub(crate) struct Tor {
    client: TorClient,
    onion: Arc<OnionListener>,
    state: watch::Receiver<TorState>,
    /// Ends with this.
    _follower: JoinSet<()>,
}

impl Tor {
    /// Starts both. Returns before Tor is ready, and does not fail if it never is. A file in the datadir remembers the
    /// onion address.
    pub(crate) async fn start(settings: &Settings, events: &Events) -> Result<Self, TorError> {
        let (config, address_file) = (&settings.tor, settings.datadir.join("onion-addresses"));
        if config.pow && !cfg!(feature = "pow") {
            return Err(TorError::NoPow);
        }
        let client = TorConfig {
            state_dir: config.state_dir.clone(),
            cache_dir: config.cache_dir.clone(),
            network_file: config.network_file.clone(),
        };
        let client = TorClient::start(&client).await?;
        let onion = OnionConfig {
            port: config.port,
            pow: config.pow,
            clients: config.clients.clone(),
            ..OnionConfig::new(&config.nickname, address_file)
        };
        let onion = Arc::new(client.listen(&onion).await?);
        events.tell(Step::Onion { endpoint: onion.endpoint(), reachable: None, problem: None });
        let (bootstrap, reachability) = (client.bootstrap(), onion.reachability());
        let first = together(onion.endpoint(), &bootstrap.borrow(), &reachability.borrow());
        let (sender, state) = watch::channel(first);
        let mut follower = JoinSet::new();
        follower.spawn(follow(bootstrap, reachability, sender, events.clone()));
        Ok(Self { client, onion, state, _follower: follower })
    }

    /// Payers come here.
    pub(crate) fn listener(&self) -> Arc<dyn Listener> {
        self.onion.clone()
    }

    /// How it is doing, as it changes.
    pub(crate) fn state(&self) -> watch::Receiver<TorState> {
        self.state.clone()
    }

    /// The way out for HTTP. `root` is a certificate in DER to trust besides the public authorities.
    pub(crate) fn http(&self, root: Option<Vec<u8>>) -> Result<Arc<dyn HttpClient>, HttpError> {
        Ok(Arc::new(TorHttp::new(self.client.clone(), root)?))
    }

    /// The way to Lightning peers: to all of them, or to onion services.
    pub(crate) fn dialer(&self, only: bool) -> Arc<dyn Dialer> {
        Arc::new(PeersByTor { client: self.client.clone(), only })
    }

    /// Ends the onion service, after the server.
    pub(crate) async fn stop(self) {
        // The server has let go of its own.
        let Some(onion) = Arc::into_inner(self.onion) else { return };
        if timeout(LAST_BYTES, onion.close()).await.is_err() {
            tracing::warn!("a payer's stream did not end");
        }
    }
}

#[derive(Debug)]
struct PeersByTor {
    client: TorClient,
    only: bool,
}

#[async_trait]
impl Dialer for PeersByTor {
    fn reaches(&self, host: &str) -> bool {
        is_by_tor(self.only, host)
    }

    async fn dial(&self, host: &str, port: u16) -> Result<PeerSocket, String> {
        let dialled = self.client.connect(host, port).await;
        let stream = dialled.map_err(|error| with_causes(&error))?;
        PeerSocket::over(stream).map_err(|error| error.to_string())
    }
}

fn is_by_tor(only: bool, host: &str) -> bool {
    only || is_onion(host)
}

fn together(endpoint: String, bootstrap: &Bootstrap, reachability: &Reachability) -> TorState {
    let (reachable, problem) = match reachability {
        Reachability::Unknown => (None, None),
        Reachability::Reachable => (Some(true), None),
        Reachability::Unreachable(reason) => (Some(false), Some(reason.clone())),
    };
    let Bootstrap { percent, ready, blocked } = bootstrap.clone();
    TorState { percent, ready, blocked, endpoint, reachable, problem }
}

/// Keeps the state up to date and tells the operator of what changes.
async fn follow(
    mut bootstrap: watch::Receiver<Bootstrap>,
    mut reachability: watch::Receiver<Reachability>,
    sender: watch::Sender<TorState>,
    events: Events,
) {
    let mut told = 0;
    loop {
        let last = sender.borrow().clone();
        let state = together(
            last.endpoint.clone(),
            &bootstrap.borrow_and_update(),
            &reachability.borrow_and_update(),
        );
        let is_far = state.percent >= told + 10 || (state.percent == 100 && told < 100);
        if is_far || state.blocked != last.blocked {
            told = state.percent;
            events.tell(Step::Tor { percent: told, blocked: state.blocked.clone() });
        }
        if state.reachable != last.reachable {
            let TorState { endpoint, reachable, problem, .. } = state.clone();
            events.tell(Step::Onion { endpoint, reachable, problem });
        }
        sender.send_replace(state);
        let changed = tokio::select! {
            changed = bootstrap.changed() => changed,
            changed = reachability.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use payjoin_io::Limits;
    use payjoin_tor::Flood;

    use super::*;

    #[test]
    fn a_payer_gets_past_silent_streams_to_the_server_which_cuts_the_oldest_of_them() {
        let (flood, limits) = (Flood::default(), Limits::default());
        assert!((flood.streams as usize) > limits.connections);
        assert!((flood.streams_per_circuit as usize) < limits.connections_per_peer);
    }

    #[test]
    fn onion_peers_are_reached_through_tor_and_with_tor_only_all_others_too() {
        for (host, onion) in [
            ("aaa.onion", true),
            ("AAA.Onion", true),
            ("node.example", false),
            ("aaa.onion.example", false),
            ("127.0.0.1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_by_tor(false, host), onion, "{host}");
            assert!(is_by_tor(true, host), "{host}");
        }
    }

    #[tokio::test]
    async fn the_state_follows_tor_and_the_onion_service() {
        let (tor, bootstrap) = watch::channel(Bootstrap::default());
        let (onion, reachability) = watch::channel(Reachability::Unknown);
        let first = together("http://a.onion".into(), &bootstrap.borrow(), &reachability.borrow());
        let (sender, mut state) = watch::channel(first.clone());
        let following = tokio::spawn(follow(bootstrap, reachability, sender, Events::new()));
        let blocked = Some("no network".to_owned());
        tor.send_replace(Bootstrap { percent: 20, ready: false, blocked: blocked.clone() });
        let expected = TorState { percent: 20, blocked, ..first.clone() };
        assert_eq!(*state.wait_for(|state| state.percent == 20).await.unwrap(), expected);
        tor.send_replace(Bootstrap { percent: 100, ready: true, blocked: None });
        onion.send_replace(Reachability::Unreachable("nobody answers".into()));
        let problem = Some("nobody answers".to_owned());
        let expected =
            TorState { percent: 100, ready: true, reachable: Some(false), problem, ..first.clone() };
        assert_eq!(*state.wait_for(|state| state.ready && state.problem.is_some()).await.unwrap(), expected);
        onion.send_replace(Reachability::Reachable);
        let expected = TorState { percent: 100, ready: true, reachable: Some(true), ..first };
        assert_eq!(*state.wait_for(|state| state.reachable == Some(true)).await.unwrap(), expected);
        drop(onion);
        following.await.unwrap();
    }
}

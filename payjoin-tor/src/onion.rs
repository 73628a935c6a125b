//! The onion service as a listener.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arti_client::config::onion_service::OnionServiceConfig;
use arti_client::{ErrorKind, HasKind};
use async_trait::async_trait;
use payjoin_io::{Connection, Listener};
use safelog::DisplayRedacted;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep};
use tor_hsservice::{HsId, RunningOnionService};

use crate::address::{self, AddressFile};
use crate::circuit::{self, Gate};
use crate::client::Arti;
use crate::error::ListenError;
use crate::reachability::{Probe, Reachability};
use crate::{OnionConfig, TorClient};

/// A service that has just stopped holds its state a moment longer.
const BUSY: Duration = Duration::from_secs(5);

/// Payers' streams from an onion service. All count as authenticated; streams of one circuit have the same peer.
///
/// Dropping it stops the service: no new stream is accepted, open ones stay open. [`OnionListener::close`] does the
/// same and waits for them.
pub struct OnionListener {
    address: String,
    port: u16,
    connections: Mutex<mpsc::Receiver<Connection>>,
    reachability: watch::Receiver<Reachability>,
    service: Arc<RunningOnionService>,
    circuits: JoinHandle<()>,
    probe: JoinSet<()>,
}

impl std::fmt::Debug for OnionListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OnionListener").field("address", &self.address).finish_non_exhaustive()
    }
}

impl TorClient {
    /// Starts an onion service. The first start with a nickname makes an address; every later one has the same.
    /// Returns before payers can reach it: see [`OnionListener::reachability`].
    ///
    /// # Errors
    /// When the address used before cannot be had, or arti cannot launch the service.
    pub async fn listen(&self, config: &OnionConfig) -> Result<OnionListener, ListenError> {
        OnionListener::launch(self.clone(), config).await
    }
}

impl OnionListener {
    async fn launch(client: TorClient, config: &OnionConfig) -> Result<Self, ListenError> {
        let settings = config.build().map_err(ListenError::Settings)?;
        let nickname = settings.nickname().to_string();
        let mut addresses = AddressFile::read(&config.address_file)?;
        let key = address::key_file(client.state_dir(), &nickname);
        check_address(&client, &settings, &key, addresses.address(&nickname), &config.address_file)?;

        let (service, requests) = launch(client.arti(), &settings).await?;
        let address = service.onion_address().map(name);
        let address = address.ok_or_else(|| ListenError::KeyUnreadable { key })?;
        if addresses.address(&nickname).is_none() {
            addresses.record(&nickname, &address)?;
        }
        tracing::info!(%nickname, "onion service launched");

        // The server takes connections as fast as it can; who waits, waits in the circuits.
        let (sender, connections) = mpsc::channel(1);
        let gate = Arc::new(Gate::new(config, sender));
        let circuits = tokio::spawn(circuit::meet(gate, requests));
        let (sender, reachability) = watch::channel(Reachability::Unknown);
        let mut probe = JoinSet::new();
        probe.spawn(
            Probe {
                client,
                service: service.clone(),
                address: address.clone(),
                port: config.port,
                restricted: !config.clients.is_empty(),
            }
            .run(sender),
        );
        let connections = Mutex::new(connections);
        Ok(Self { address, port: config.port, connections, reachability, service, circuits, probe })
    }

    /// `<56 characters>.onion`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where payers send their requests: `http://<address>`, with the port if it is not 80.
    #[must_use]
    pub fn endpoint(&self) -> String {
        match self.port {
            80 => format!("http://{}", self.address),
            port => format!("http://{}:{port}", self.address),
        }
    }

    /// Can payers reach it? As it changes.
    #[must_use]
    pub fn reachability(&self) -> watch::Receiver<Reachability> {
        self.reachability.clone()
    }

    /// Stops the service and waits until every stream is closed and its last bytes are on their way. Call it after the
    /// server has stopped, with a time limit: a stream that nobody closes keeps it waiting.
    pub async fn close(mut self) {
        self.probe.shutdown().await;
        drop(self.service);
        drop(self.connections);
        // It does not panic, and nobody else can end it.
        let _ = self.circuits.await;
    }
}

#[async_trait]
impl Listener for OnionListener {
    async fn accept(&self) -> io::Result<Connection> {
        self.connections.lock().await.recv().await.ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

/// Refuses whatever would lead to another address than the known one.
fn check_address(
    client: &TorClient,
    settings: &OnionServiceConfig,
    key: &Path,
    known: Option<&str>,
    address_file: &Path,
) -> Result<(), ListenError> {
    let (key, address_file) = (key.to_owned(), address_file.to_owned());
    if !address::check_key(&key)? {
        return match known.map(str::to_owned) {
            Some(address) => Err(ListenError::KeyMissing { address, key, address_file }),
            None => Ok(()),
        };
    }
    let service = Arti::create_onion_service(client.config(), settings.clone())
        .map_err(|error| ListenError::Launch(error.into()))?;
    match (service.onion_address().map(name), known.map(str::to_owned)) {
        (None, _) => Err(ListenError::KeyUnreadable { key }),
        (Some(found), Some(address)) if found != address => {
            Err(ListenError::KeyDiffers { address, found, key, address_file })
        }
        _ => Ok(()),
    }
}

async fn launch(
    arti: &Arti,
    settings: &OnionServiceConfig,
) -> Result<
    (Arc<RunningOnionService>, impl futures::Stream<Item = tor_hsservice::RendRequest> + use<>),
    ListenError,
> {
    let give_up = Instant::now() + BUSY;
    loop {
        match arti.launch_onion_service(settings.clone()) {
            Ok(Some(launched)) => return Ok(launched),
            Ok(None) => return Err(ListenError::Launch("the service is disabled".into())),
            Err(error) if error.kind() != ErrorKind::LocalResourceAlreadyInUse => {
                return Err(ListenError::Launch(error.into()));
            }
            Err(error) if Instant::now() > give_up => return Err(ListenError::Busy(error.into())),
            Err(_) => sleep(Duration::from_millis(250)).await,
        }
    }
}

fn name(id: HsId) -> String {
    id.display_unredacted().to_string()
}

//! The one arti client of a process.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arti_client::config::BoolOrAuto;
use arti_client::{StreamPrefs, TorClientConfig};
use futures::StreamExt;
use payjoin_core::{is_onion, with_causes};
use payjoin_io::Stream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tor_rtcompat::PreferredRuntime;

use crate::TorConfig;
use crate::apart::Apart;
use crate::error::{ConnectError, StartError};

/// Between attempts to start that failed.
const BOOTSTRAP_PAUSE: Duration = Duration::from_secs(10);

pub(crate) type Arti = arti_client::TorClient<PreferredRuntime>;

/// How far Tor has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bootstrap {
    /// 0 to 100, roughly.
    pub percent: u8,
    /// Streams can be opened.
    pub ready: bool,
    /// What seems to be in the way. For the operator.
    pub blocked: Option<String>,
}

/// Opens streams and onion services. Clones share everything.
#[derive(Clone)]
pub struct TorClient {
    arti: Arc<Arti>,
    shared: Arc<Shared>,
}

struct Shared {
    config: TorClientConfig,
    state_dir: Box<Path>,
    bootstrap: watch::Receiver<Bootstrap>,
    /// Ends with the last clone.
    _tasks: JoinSet<()>,
}

impl std::fmt::Debug for TorClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TorClient")
            .field("bootstrap", &*self.shared.bootstrap.borrow())
            .finish_non_exhaustive()
    }
}

impl TorClient {
    /// Starts Tor in the background and returns at once; see [`TorClient::bootstrap`]. Installs rustls's `ring`
    /// provider as the process's default if it has none. Must run on tokio.
    ///
    /// # Errors
    /// When the settings or the folders cannot be used. An unreachable network is no error: it is tried again and
    /// again.
    pub async fn start(config: &TorConfig) -> Result<Self, StartError> {
        // Fails only if another thread has just installed one, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let settings = config.build()?;
        let runtime = PreferredRuntime::current().map_err(|error| StartError::Client(error.into()))?;
        let arti = arti_client::TorClient::with_runtime(runtime)
            .config(settings.clone())
            .create_unbootstrapped_async()
            .await
            .map_err(|error| StartError::Client(error.into()))?;
        let (sender, bootstrap) = watch::channel(Bootstrap::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(begin(arti.clone()));
        tasks.spawn(watch_bootstrap(arti.clone(), sender));
        let state_dir = config.state_dir.as_path().into();
        let shared = Arc::new(Shared { config: settings, state_dir, bootstrap, _tasks: tasks });
        Ok(Self { arti, shared })
    }

    /// How far Tor has come, as it changes.
    #[must_use]
    pub fn bootstrap(&self) -> watch::Receiver<Bootstrap> {
        self.shared.bootstrap.clone()
    }

    /// Opens a stream to an onion service, or through an exit to a host of the clear net. Waits for Tor to be ready.
    /// It shares its circuit with no other stream, so that nobody on the way can tell that two belong together. Names are
    /// never looked up here: the exit does it. What goes to an onion service is encrypted end to end; to other hosts the
    /// caller adds TLS.
    ///
    /// # Errors
    /// When Tor cannot reach the host. Worth another try later.
    pub async fn connect(&self, host: &str, port: u16) -> Result<Box<dyn Stream>, ConnectError> {
        let mut prefs = StreamPrefs::new();
        prefs.connect_to_onion_services(BoolOrAuto::Explicit(true));
        if is_onion(host) {
            prefs.set_isolation(Apart::now());
        } else {
            prefs.isolate_every_stream();
        }
        match self.arti.connect_with_prefs((host, port), &prefs).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(ConnectError { host: host.to_owned(), port, source: error.into() }),
        }
    }

    pub(crate) fn arti(&self) -> &Arti {
        &self.arti
    }

    pub(crate) fn config(&self) -> &TorClientConfig {
        &self.shared.config
    }

    pub(crate) fn state_dir(&self) -> &Path {
        &self.shared.state_dir
    }
}

/// Asks arti to bootstrap until it has. From then on it looks after itself.
async fn begin(arti: Arc<Arti>) {
    while let Err(error) = arti.bootstrap().await {
        tracing::warn!("Tor did not start yet: {}", with_causes(&error));
        tokio::time::sleep(BOOTSTRAP_PAUSE).await;
    }
}

async fn watch_bootstrap(arti: Arc<Arti>, sender: watch::Sender<Bootstrap>) {
    let mut events = arti.bootstrap_events();
    while let Some(status) = events.next().await {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=100")]
        let percent = (status.as_frac() * 100.0).clamp(0.0, 100.0) as u8;
        let blocked = status.blocked().map(|blockage| blockage.to_string());
        sender.send_replace(Bootstrap { percent, ready: status.ready_for_traffic(), blocked });
    }
}

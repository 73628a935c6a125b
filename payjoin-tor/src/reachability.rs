//! Can payers reach the onion service?

use std::sync::Arc;
use std::time::Duration;

use payjoin_core::with_causes;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tor_hsservice::RunningOnionService;

use crate::TorClient;

/// Longest time for one attempt. One that falls into a restart of ours is lost and never answered.
const ATTEMPT: Duration = Duration::from_secs(20);
/// First pause between attempts that failed; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause between attempts that failed.
const LAST_PAUSE: Duration = Duration::from_secs(60);
/// A new service needs some time; failures before that mean nothing.
const GRACE: Duration = Duration::from_secs(60);
/// Pause after a success.
const RECHECK: Duration = Duration::from_secs(600);

/// Can payers reach the onion service?
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Reachability {
    /// Nobody knows yet.
    #[default]
    Unknown,
    /// They can.
    Reachable,
    /// They cannot, as far as we can tell. The reason is for the operator.
    Unreachable(String),
}

pub(crate) struct Probe {
    pub(crate) client: TorClient,
    pub(crate) service: Arc<RunningOnionService>,
    pub(crate) address: String,
    pub(crate) port: u16,
    /// Only chosen clients find the service, and we are none of them.
    pub(crate) restricted: bool,
}

impl Probe {
    /// Asks again and again.
    pub(crate) async fn run(self, sender: watch::Sender<Reachability>) {
        // An error here would mean that the client is gone, and we hold it.
        let _ = self.client.bootstrap().wait_for(|bootstrap| bootstrap.ready).await;
        let start = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let found = self.ask().await;
            let reachable = found == Reachability::Reachable;
            sender.send_if_modified(|last| {
                let too_early = *last == Reachability::Unknown && !reachable && start.elapsed() < GRACE;
                let changed = !too_early && *last != found;
                if changed {
                    *last = found;
                }
                changed
            });
            sleep(if reachable { RECHECK } else { pause }).await;
            pause = if reachable { FIRST_PAUSE } else { (pause * 2).min(LAST_PAUSE) };
        }
    }

    /// When arti is not sure, only a stream from end to end tells: one directory that did not take the descriptor is
    /// enough for arti to doubt a service that everybody can reach.
    async fn ask(&self) -> Reachability {
        let state = self.service.status().state();
        if state.is_fully_reachable() {
            return Reachability::Reachable;
        }
        if self.restricted {
            return Reachability::Unreachable(format!("{state:?}"));
        }
        match timeout(ATTEMPT, self.client.connect(&self.address, self.port)).await {
            Ok(Ok(_)) => Reachability::Reachable,
            Ok(Err(error)) => Reachability::Unreachable(with_causes(&error)),
            Err(_) => Reachability::Unreachable("no answer in time".to_owned()),
        }
    }
}

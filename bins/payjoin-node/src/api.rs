//! The API: the operator's own programs ask over the network, with tokens, at a listener of their own. No payer is served
//! there, and at the payers' listeners none of it is answered.

mod answers;
mod caller;
mod clerk;
mod document;
mod holder;
mod once;

use std::sync::Arc;
use std::time::Duration;

use payjoin_io::{Desk, Limits, Listener, Rate, Tcp, Tls};
use tokio::sync::watch;

use crate::asked::Asked;
use crate::certificate::{Certificate, Shown};
use crate::keep::Store;
use crate::settings;
use crate::start_error::{StartError, io};

use self::clerk::ApiClerk;

/// Longest that an answer is waited for. What was asked goes on.
const ANSWER: Duration = Duration::from_secs(60);
/// What is asked when the node stops has this long to be answered.
const GRACE: Duration = Duration::from_secs(5);

/// The listener, before it serves.
pub(crate) struct Api {
    listener: Arc<dyn Listener>,
    certificate: Option<Arc<Certificate>>,
    rate: Rate,
}

impl Api {
    /// Listens, if the settings say where.
    ///
    /// # Errors
    /// When the port is taken, or the certificate cannot be used.
    pub(crate) async fn open(settings: &settings::Api) -> Result<Option<Self>, StartError> {
        let Some(address) = settings.listen else { return Ok(None) };
        let what = || format!("cannot serve the API on {address}");
        let mut shown = None;
        let listener: Arc<dyn Listener> = match (&settings.certificate, &settings.key) {
            (Some(certificate), Some(key)) => {
                let tls = Arc::new(Tls::bind(address, certificate, key).await.map_err(io(what()))?);
                let (certificate, key) = (certificate.clone(), key.clone());
                shown = Some(Arc::new(Certificate::new(tls.clone(), certificate, key, Shown::ToPrograms)));
                tls
            }
            // The settings allow this on loopback only.
            _ => Arc::new(Tcp::bind(address).await.map_err(io(what()))?),
        };
        let per_minute = settings.rate_per_minute;
        let rate = Rate { per_minute, burst: per_minute.div_ceil(2) };
        Ok(Some(Self { listener, certificate: shown, rate }))
    }

    /// Serves until the stop, whoever answers by then.
    pub(crate) async fn serve(
        self,
        asked: watch::Receiver<Asked>,
        store: Store,
        stop: watch::Receiver<bool>,
    ) {
        let limits = Limits {
            bodies_bytes: 1_000_000,
            body_time: Duration::from_secs(10),
            exchange_time: ANSWER,
            connections: 64,
            per_peer: Some(self.rate),
            ..Limits::default()
        };
        let desk = Desk::new(Arc::new(ApiClerk::new(asked, store, self.rate)), limits);
        let mut stopped = stop.clone();
        let shutdown = async move { drop(stopped.wait_for(|stop| *stop).await) };
        let serving = desk.run(&*self.listener, shutdown, GRACE);
        match self.certificate {
            Some(certificate) => drop(tokio::join!(serving, certificate.keep(stop))),
            None => serving.await,
        }
    }
}

#[cfg(test)]
mod tests;

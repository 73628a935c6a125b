//! The ways out: to receivers of payjoins, and through relays to directories.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use payjoin_io::{
    DirectClient, DirectSettings, Host, HttpClient, HttpError, HttpRequest, HttpResponse, Ohttp,
    PollSettings, Poller, SendSettings, Sender,
};

use crate::clock::now;
use crate::keep::Store;
use crate::settings::Settings;
use crate::start_error::{StartError, io};
use crate::tor::Tor;

/// HTTP to others, and the relays where some are configured.
pub(crate) struct Outside {
    client: Arc<dyn HttpClient>,
    ohttp: Option<Arc<Ohttp>>,
}

impl Outside {
    pub(crate) fn new(settings: &Settings, tor: Option<&Tor>) -> Result<Self, StartError> {
        let client = client(settings, tor)?;
        let relays = settings.payjoin.ohttp_relays.clone();
        let ohttp = match relays.is_empty() {
            true => None,
            false => Some(Arc::new(Ohttp::new(client.clone(), relays)?)),
        };
        Ok(Self { client, ohttp })
    }

    /// Pays payjoins, v2 only with a relay.
    pub(crate) fn sender(&self, settings: &Settings, store: &Store) -> Sender {
        let v2_patience = Duration::from_secs(settings.payjoin.patience_hours.saturating_mul(3600));
        let waits = SendSettings { v2_patience, ..SendSettings::default() };
        Sender::new(self.client.clone(), self.ohttp.clone(), store.clone(), waits, now)
    }

    /// Receives through directories, with a relay.
    pub(crate) fn poller(&self, settings: &Settings, host: &Host) -> Option<Poller> {
        let directories = settings.payjoin.directories.clone();
        let ohttp = self.ohttp.clone().filter(|_| !directories.is_empty())?;
        let lifetime = settings.payjoin.code_hours.saturating_mul(3600);
        let settings = PollSettings { directories, lifetime, ..PollSettings::default() };
        Some(Poller::new(host.clone(), ohttp, settings))
    }
}

/// Directly, through Tor, or each where it belongs.
pub(crate) fn client(settings: &Settings, tor: Option<&Tor>) -> Result<Arc<dyn HttpClient>, StartError> {
    let root = settings.payjoin.root_certificate.as_deref();
    let root =
        root.map(|path| std::fs::read(path).map_err(io(format!("the certificate {}", path.display()))));
    let root = root.transpose()?;
    let tor = tor.map(|tor| tor.http(root.clone())).transpose()?;
    let direct = || DirectClient::new(DirectSettings { socks: settings.payjoin.socks.clone(), root });
    Ok(match tor {
        None => Arc::new(direct()?),
        Some(tor) if settings.tor.only => tor,
        Some(tor) => Arc::new(OnionsByTor { tor, direct: direct()? }),
    })
}

/// Onion services through Tor, everything else directly.
struct OnionsByTor {
    tor: Arc<dyn HttpClient>,
    direct: DirectClient,
}

#[async_trait]
impl HttpClient for OnionsByTor {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if request.is_onion() { self.tor.send(request).await } else { self.direct.send(request).await }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers where it should be asked; the direct client finds nobody at port 1.
    struct Answers;

    #[async_trait]
    impl HttpClient for Answers {
        async fn send(&self, _: HttpRequest) -> Result<HttpResponse, HttpError> {
            Ok(HttpResponse { status: 200, body: Vec::new() })
        }
    }

    async fn goes_through_tor(url: &str, tunnel: Option<&str>) -> bool {
        let direct = DirectClient::new(DirectSettings::default()).unwrap();
        let client = OnionsByTor { tor: Arc::new(Answers), direct };
        let (url, tunnel) = (url.to_owned(), tunnel.map(str::to_owned));
        let timeout = Duration::from_secs(10);
        let request = HttpRequest { url, accept: None, body: None, timeout, limit: 1, tunnel, fresh: false };
        match client.send(request).await {
            Ok(_) => true,
            Err(HttpError::Transport(_)) => false,
            Err(error) => panic!("{error}"),
        }
    }

    #[tokio::test]
    async fn onion_services_are_asked_through_tor_and_nobody_else_is() {
        for url in ["http://aaa.onion", "https://AAA.ONION:8443/relay", "http://aaa.onion./mailbox"] {
            assert!(goes_through_tor(url, None).await, "{url}");
        }
        for url in
            ["http://127.0.0.1:1/aaa.onion", "http://aaa.onion@127.0.0.1:1", "http://127.0.0.1:1/?x=.onion"]
        {
            assert!(!goes_through_tor(url, None).await, "{url}");
        }
    }

    #[tokio::test]
    async fn a_relay_that_is_an_onion_service_carries_what_is_behind_it_through_tor() {
        let directory = "https://127.0.0.1:1/.well-known/ohttp-gateway";
        assert!(goes_through_tor(directory, Some("http://aaa.onion")).await);
        assert!(!goes_through_tor(directory, Some("http://127.0.0.1:1")).await);
    }
}

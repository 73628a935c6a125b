//! How payers reach us: through directories, which are asked as a code would ask them, at our own address, or through Tor.

use std::sync::Arc;
use std::time::Duration;

use payjoin_io::{HttpClient, Ohttp, Tls};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Finding;
use crate::certificate::{Certificate, Shown};
use crate::clock::now;
use crate::outside;
use crate::settings::Settings;

const DIRECTORY: &str = "directory";
const HTTPS: &str = "https";

/// For each relay and directory.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) async fn ways(settings: &Settings) -> Vec<Finding> {
    let (payjoin, http, tor) = (&settings.payjoin, &settings.http, &settings.tor);
    let mut findings = Vec::new();
    if payjoin.directories.is_empty() && http.public_endpoint.is_none() && !tor.enabled {
        let text = "payers cannot reach you: name `directories` and `ohttp_relays` under [payjoin], a \
                    `public_endpoint` under [http], or set `enabled` under [tor]";
        findings.push(Finding::warning("payers", text));
    }
    findings.extend(directories(settings).await);
    if http.listen.is_some() {
        findings.extend(certificate(settings).await);
    }
    findings
}

/// Asks every directory for its keys, through every relay.
async fn directories(settings: &Settings) -> Vec<Finding> {
    let payjoin = &settings.payjoin;
    if payjoin.directories.is_empty() {
        return Vec::new();
    }
    if settings.tor.only {
        let text = "they are asked through Tor only, and so only while the daemon runs: see its log";
        return vec![Finding::warning(DIRECTORY, text)];
    }
    let client = match outside::client(settings, None) {
        Ok(client) => client,
        Err(error) => return vec![Finding::trouble(DIRECTORY, error.to_string())],
    };
    let mut asked = JoinSet::new();
    for relay in &payjoin.ohttp_relays {
        for directory in &payjoin.directories {
            asked.spawn(ask(Arc::clone(&client), relay.clone(), directory.clone()));
        }
    }
    let mut told: Vec<_> = asked.join_all().await;
    told.sort();
    // One that works is enough: the others are asked when it does not.
    let works = told.iter().any(Result::is_ok);
    told.into_iter()
        .map(|told| match (told, works) {
            (Ok(text), _) => Finding::good(DIRECTORY, text),
            (Err(text), true) => Finding::warning(DIRECTORY, text),
            (Err(text), false) => Finding::trouble(
                DIRECTORY,
                format!("{text}; no code can be made: name others under [payjoin]"),
            ),
        })
        .collect()
}

/// One directory, through one relay. Either way it says which.
async fn ask(client: Arc<dyn HttpClient>, relay: String, directory: String) -> Result<String, String> {
    let ohttp = Ohttp::new(client, vec![relay.clone()]).map_err(|error| error.to_string())?;
    match timeout(PATIENCE, ohttp.keys(&directory)).await {
        // Through the relay goes what is encrypted; anything else would tell it too much.
        Ok(Ok(_)) if !directory.starts_with("https:") => Ok(format!("{directory} answers")),
        Ok(Ok(_)) => Ok(format!("{directory} answers through {relay}")),
        Ok(Err(error)) => Err(format!("{directory} through {relay}: {error}")),
        Err(_) => Err(format!("{directory} through {relay}: no answer in {} s", PATIENCE.as_secs())),
    }
}

/// Reads the files as the daemon does, and says when they end.
async fn certificate(settings: &Settings) -> Vec<Finding> {
    let (Some(certificate), Some(key)) = (settings.http.certificate.clone(), settings.http.key.clone())
    else {
        return Vec::new();
    };
    let tls = match Tls::bind("127.0.0.1:0", &certificate, &key).await {
        Ok(tls) => Arc::new(tls),
        Err(error) => {
            return vec![Finding::trouble(HTTPS, format!("the TLS certificate or its key: {error}"))];
        }
    };
    let shown = certificate.display().to_string();
    vec![match Certificate::new(tls, certificate, key, Shown::ToPayers).warning(now()) {
        Some(warning) => Finding::warning(HTTPS, warning),
        None => {
            Finding::good(HTTPS, format!("the TLS certificate {shown} fits its key and is good for weeks"))
        }
    }]
}

//! The settings of a plugin: its file, lightningd's options, and what lightningd knows itself.

use std::path::PathBuf;
use std::time::Duration;

use payjoin_lightning::LightningError;
use payjoin_lightning::cln::plugin::{BitcoindOfCln, Init, bitcoind};
use serde_json::Value;
use tokio::time::sleep;

use crate::settings::{Kind, Settings};

/// Between two attempts at a lightningd that starts.
const AGAIN: Duration = Duration::from_secs(1);

/// Options of lightningd's: name, whether it may be given several times, meaning.
pub(super) const OPTIONS: &[(&str, bool, &str)] = &[
    (
        "payjoin-dir",
        false,
        "Folder of payjoind, with payjoind.toml if there is one; default: payjoind, below lightningd's own",
    ),
    ("payjoin-directory", true, "URL of a payjoin directory (BIP 77) through which payers reach us"),
    ("payjoin-relay", true, "URL of an OHTTP relay that hides our address from directories"),
];

/// What the file and the options say. Backend, socket and network are lightningd's.
pub(super) fn read(init: &Init) -> Result<Settings, String> {
    let texts = |name: &str| -> Vec<String> {
        let of = |value: &Value| value.as_str().map(str::to_owned);
        match init.options.get(name) {
            Some(Value::Array(all)) => all.iter().filter_map(of).collect(),
            one => one.and_then(of).into_iter().collect(),
        }
    };
    let folder = texts("payjoin-dir").pop().map_or_else(|| PathBuf::from("payjoind"), PathBuf::from);
    let mut settings = Settings::load(&init.folder.join(folder)).map_err(|error| error.to_string())?;
    if settings.lightning.backend == Kind::Lnd {
        return Err("[lightning] `backend` is cln where lightningd starts payjoind: remove it".to_owned());
    }
    settings.network = init
        .network
        .ok_or("lightningd is on a network that payjoind does not know: use a Bitcoin network")?;
    settings.lightning.backend = Kind::Cln;
    settings.cln.socket = Some(init.socket.clone());
    settings.payjoin.directories.extend(texts("payjoin-directory"));
    settings.payjoin.ohttp_relays.extend(texts("payjoin-relay"));
    Ok(settings)
}

/// The same with lightningd's own bitcoind where they name none. Waits for a lightningd that starts.
pub async fn with_bitcoind(settings: Settings) -> Settings {
    let ours = &settings.bitcoind;
    if ours.url.is_some() || ours.cookie.is_some() || ours.user.is_some() {
        return settings;
    }
    loop {
        match bitcoind(&settings.cln_socket()).await {
            Ok(theirs) => return with(settings, theirs),
            Err(LightningError::Away(why)) => tracing::debug!(why, "lightningd starts"),
            Err(error) => {
                tracing::warn!(%error, "lightningd does not tell how it reaches its bitcoind");
                return settings;
            }
        }
        sleep(AGAIN).await;
    }
}

fn with(mut settings: Settings, theirs: BitcoindOfCln) -> Settings {
    let BitcoindOfCln { host, port, login, folder } = theirs;
    if host.is_some() || port.is_some() {
        let usual = settings.bitcoind_url();
        let usual_port = usual.rsplit(':').next().unwrap_or_default();
        let host = host.unwrap_or_else(|| "127.0.0.1".to_owned());
        settings.bitcoind.url = Some(format!("http://{host}:{}", port.as_deref().unwrap_or(usual_port)));
    }
    match (login, folder) {
        (Some((user, password)), _) => {
            (settings.bitcoind.user, settings.bitcoind.password) = (Some(user), Some(password));
        }
        (None, Some(folder)) => settings.bitcoind.cookie = Some(settings.cookie_below(&folder)),
        (None, None) => {}
    }
    settings
}

#[cfg(test)]
mod tests {
    use bitcoin::Network;

    use super::*;

    #[test]
    fn lightningds_bitcoind_is_ours_where_none_is_named() {
        let settings = || Settings { network: Network::Regtest, ..Settings::default() };
        let text = |text: &str| Some(text.to_owned());
        for (theirs, url, cookie, user) in [
            (BitcoindOfCln::default(), "http://127.0.0.1:18443", ".bitcoin/regtest/.cookie", None),
            (
                BitcoindOfCln { port: text("7"), login: text("u").zip(text("p")), ..Default::default() },
                "http://127.0.0.1:7",
                ".bitcoin/regtest/.cookie",
                text("u"),
            ),
            (
                BitcoindOfCln { host: text("10.0.0.1"), folder: Some("/b".into()), ..Default::default() },
                "http://10.0.0.1:18443",
                "/b/regtest/.cookie",
                None,
            ),
        ] {
            let found = with(settings(), theirs);
            assert_eq!((found.bitcoind_url().as_str(), &found.bitcoind.user), (url, &user));
            assert!(found.bitcoind_cookie().ends_with(cookie), "{cookie}");
        }
    }
}

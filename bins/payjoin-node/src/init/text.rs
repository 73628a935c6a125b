//! The settings file that is written.

use std::fmt::Write as _;
use std::path::Path;

use bitcoin::Network;

use super::Wishes;
use super::found::Found;
use crate::settings::{Kind, Settings};

pub(super) fn of(wishes: &Wishes, network: Network, backend: Kind, found: &Found) -> String {
    let mut text = format!(
        "# Written by `payjoind init`. `payjoind run --help` shows every setting with its meaning.\n\
         network = \"{network}\"\n\n[bitcoind]\n"
    );
    // A String takes everything.
    if let Some(url) = &wishes.bitcoind_url {
        let _ = writeln!(text, "url = {url:?}");
    }
    match wishes.bitcoind_cookie.as_ref().or(found.cookie(network)) {
        Some(cookie) => drop(writeln!(text, "cookie = {cookie:?}")),
        None => text.push_str(
            "# No bitcoind of this user was found: say how to reach yours.\n\
             # url = \"http://127.0.0.1:8332\"\n# user = \"…\"\n# password = \"…\"\n",
        ),
    }
    text.push_str("\n[lightning]\n# For good: the coins and channels in this folder are this node's.\n");
    let _ = writeln!(text, "backend = \"{}\"", backend.name());
    node(&mut text, network, backend, found);
    text.push_str("\n[payjoin]\n");
    match (wishes.directory.as_deref(), wishes.relay.as_deref()) {
        (Some(directory), Some(relay)) if !directory.is_empty() => {
            let _ = writeln!(text, "directories = [{directory:?}]\nohttp_relays = [{relay:?}]");
        }
        _ => text.push_str(
            "# Payers reach you through a directory, and you reach it through a relay. Until you name both, or give [http] a\n\
             # certificate or [tor] `enabled = true`, payments are plain payments.\n\
             # directories = [\"https://directory.example\"]\n# ohttp_relays = [\"https://relay.example\"]\n",
        ),
    }
    text
}

fn node(text: &mut String, network: Network, backend: Kind, found: &Found) {
    match backend {
        Kind::Embedded => {}
        Kind::Cln => {
            text.push_str("\n[cln]\n");
            match found.socket(network) {
                Some(socket) => drop(writeln!(text, "socket = {socket:?}")),
                None => text.push_str("# By itself that of lightningd under this user.\n# socket = \"…\"\n"),
            }
        }
        Kind::Lnd => {
            text.push_str("\n[lnd]\n");
            if let Some(lnd) = found.lnd() {
                let _ = writeln!(text, "address = {:?}\ncertificate = {:?}", lnd.address, lnd.certificate);
            }
            match found.macaroon(network) {
                Some(file) if file.ends_with("admin.macaroon") => {
                    text.push_str(
                        "# It allows everything: bake one with the few rights that are needed, docs/lnd.md says how.\n",
                    );
                    let _ = writeln!(text, "macaroon = {file:?}");
                }
                Some(file) => drop(writeln!(text, "macaroon = {file:?}")),
                None => text.push_str("# docs/lnd.md has the line that bakes it.\n# macaroon = \"…\"\n"),
            }
        }
    }
}

/// What is written can be read back, and goes together.
pub(super) fn check(text: &str, datadir: &Path) -> Result<(), String> {
    let mut settings: Settings = toml::from_str(text).map_err(|error| error.to_string())?;
    datadir.clone_into(&mut settings.datadir);
    settings.resolve();
    settings.check().map_err(|error| error.to_string())
}

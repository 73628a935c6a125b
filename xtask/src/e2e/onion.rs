//! A daemon's onion service, and payers who come to it from behind a C tor.

use std::time::Duration;

use anyhow::Result;
use bitcoin::Txid;

use super::daemon::Daemon;
use super::json::Fields;
use super::payer::{Payment, Substitution, behind_tor};
use super::wait;
use super::world::{Invoice, World};
use crate::tor::TorNetwork;

/// Launch, upload and look-up take a second or two each, and are tried again after some more.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Lines of the `[tor]` table.
pub(crate) fn settings(tor: &TorNetwork, only: bool) -> String {
    format!("enabled = true\nonly = {only}\nnetwork_file = {:?}", tor.arti_settings())
}

/// Waits until the daemon says that payers can reach its onion service, and returns its URL.
pub(super) fn reachable(daemon: &Daemon) -> Result<String> {
    wait::until(&format!("payers can reach {}", daemon.name), PATIENCE, || {
        let tor = &daemon.call(&["status"])?["tor"];
        if tor["reachable"] == true { tor.text("endpoint").map(|url| Some(url.to_owned())) } else { Ok(None) }
    })
}

/// Somebody behind the C tor gets an answer, whatever it says. Each user has circuits of its own.
pub(super) fn expect_answer(tor: &TorNetwork, url: &str, user: &str) -> Result<()> {
    let client = behind_tor(tor.socks(), user)?;
    wait::until(&format!("{url} answers"), PATIENCE, || Ok(client.get(url).send().ok()))?;
    Ok(())
}

/// Waits until payers can reach the invoice, and pays it from behind the C tor.
pub(crate) fn pay(world: &World<'_>, tor: &TorNetwork, invoice: &Invoice, user: &str) -> Result<Txid> {
    expect_answer(tor, &invoice.endpoint, user)?;
    let payment = Payment::new(world.payer(), &invoice.uri, Substitution::Allowed)?;
    world.broadcast(&payment.exchange_by(&behind_tor(tor.socks(), user)?)?)
}

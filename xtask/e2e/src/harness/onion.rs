//! A daemon's onion service, and payers who come to it from behind a C tor.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use bitcoin::Txid;

use super::daemon::Daemon;
use super::json::Fields;
use super::payer::{Payment, Substitution, behind_tor};
use super::wait;
use super::world::{Invoice, World};
use crate::tor::TorNetwork;

/// Launch, upload and look-up take a second or two each; for half a minute after a time period began, look-ups fail.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// A circuit to an onion service takes less than a second.
const TRY: Duration = Duration::from_secs(10);

/// Lines of the `[tor]` table.
pub(crate) fn settings(tor: &TorNetwork, only: bool) -> String {
    format!("enabled = true\nonly = {only}\nnetwork_file = {:?}", tor.arti_settings())
}

/// Waits until the daemon says that payers can reach its onion service. A C tor that comes while the service starts anew
/// takes its introduction points for dead, and for two minutes does not try them again.
pub(crate) fn await_reachable(daemon: &Daemon) -> Result<()> {
    wait::until(&format!("{} is reachable", daemon.name), PATIENCE, || {
        Ok((daemon.call(&["status"])?["tor"]["reachable"] == true).then_some(()))
    })
}

/// The URL of a daemon's onion service.
pub(crate) fn endpoint(daemon: &Daemon) -> Result<String> {
    Ok(daemon.call(&["status"])?["tor"].text("endpoint")?.to_owned())
}

/// Waits until somebody behind a C tor gets an answer, whatever it says.
pub(crate) fn expect_answer(socks: SocketAddr, url: &str) -> Result<()> {
    let mut tries = 0;
    wait::until(&format!("{url} answers"), PATIENCE, || {
        tries += 1;
        // New circuits each time: one that leads to a daemon that was killed is never answered.
        let client = behind_tor(socks, &format!("try-{tries}"), TRY)?;
        Ok(client.get(url).send().ok())
    })?;
    Ok(())
}

/// Waits until payers can reach the daemon, and pays its invoice from behind the C tor.
pub(crate) fn pay(
    world: &World<'_>,
    tor: &TorNetwork,
    daemon: &Daemon,
    invoice: &Invoice,
    user: &str,
) -> Result<Txid> {
    await_reachable(daemon)?;
    pay_from(world, tor.socks(), invoice, user)
}

/// Waits until the endpoint answers, and pays the invoice, from behind this C tor.
pub(crate) fn pay_from(world: &World<'_>, socks: SocketAddr, invoice: &Invoice, user: &str) -> Result<Txid> {
    expect_answer(socks, &invoice.endpoint)?;
    let payment = Payment::new(world.payer(), &invoice.uri, Substitution::Allowed)?;
    world.broadcast(&payment.exchange_by(&behind_tor(socks, user, PATIENCE)?)?)
}

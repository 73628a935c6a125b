//! Those who pay by the package of another project: see `xtask/e2e/payers`.

use std::process::Command;

use anyhow::{Context, Result};
use bitcoin::Transaction;
use bitcoin::consensus::encode::deserialize_hex;
use serde_json::Value;
use xtask_programs::process;

use super::chain::{Chain, Wallet};
use super::json::Fields;
use super::payer::FEE_RATE;
use super::tls::Certificate;
use crate::payers::Payer;

/// What such a payer did.
pub(crate) struct Paid {
    /// What it broadcast.
    pub(crate) payjoin: Transaction,
    /// What it would have paid otherwise.
    pub(crate) original: Transaction,
}

impl Payer {
    /// Pays a code from a wallet of bitcoind's, with more of the program's arguments.
    pub(super) fn pay(
        &self,
        chain: &Chain,
        wallet: Wallet<'_>,
        tls: &Certificate,
        uri: &str,
        more: &[&str],
    ) -> Result<Paid> {
        let mut command = Command::new(&self.interpreter);
        command.env("NO_PROXY", "localhost,127.0.0.1").env(self.certificate, &tls.pem);
        command.arg(&self.pay).arg(wallet.url()).arg(chain.cookie()).args([&FEE_RATE.to_string(), uri]);
        let printed = process::output(command.args(more))?;
        let told: Value = serde_json::from_str(printed.lines().last().context("the payer told nothing")?)?;
        let payjoin = chain.transaction(told.txid("txid")?)?;
        Ok(Paid { payjoin, original: deserialize_hex(told.text("original")?)? })
    }
}

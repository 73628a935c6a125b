//! Core Lightning.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bitcoin::{Amount, OutPoint};
use serde_json::Value;
use xtask_programs::{cln as programs, ports};

use super::super::chain::{Chain, PEER};
use super::super::daemon::Own;
use super::super::json::Fields;
use super::{Channel, Foreign, Process, parts};

pub(crate) struct Cln {
    process: Process,
    socket: PathBuf,
}

impl Cln {
    /// Prepares one below `dir`, with more of its own arguments.
    pub(crate) fn new(
        programs: &programs::Cln,
        dir: &Path,
        name: &str,
        chain: &Chain,
        more: &[&str],
    ) -> Result<Self> {
        let (port, folder) = (ports::free()?, dir.join(name));
        let mut program = programs.words(&folder, name, port, chain.address(), (PEER, PEER));
        program.extend(more.iter().map(|argument| (*argument).to_owned()));
        let process = Process::new(name, dir, port, program, programs.client_words(&folder))?;
        Ok(Self { process, socket: programs::Cln::socket(&folder) })
    }

    fn channels(&self) -> Result<Vec<Value>> {
        Ok(self.process.call(&["listpeerchannels"])?.list("channels")?.to_vec())
    }

    fn on(&self, funding: OutPoint) -> Result<Option<Value>> {
        let stands = |channel: &Value| {
            channel["funding_txid"] == funding.txid.to_string() && channel["funding_outnum"] == funding.vout
        };
        Ok(self.channels()?.into_iter().find(stands))
    }
}

impl Foreign for Cln {
    fn process(&self) -> &Process {
        &self.process
    }

    fn own(&self) -> Result<Own> {
        let peer = (self as &dyn Foreign).peer()?;
        Ok(Own { backend: "cln", table: format!("[cln]\nsocket = {:?}", self.socket), peer })
    }

    fn is_ready(&self) -> Result<bool> {
        let told = self.process.call(&["getinfo"])?;
        Ok(told["warning_bitcoind_sync"].is_null() && told["warning_lightningd_sync"].is_null())
    }

    fn id(&self) -> Result<String> {
        Ok(self.process.call(&["getinfo"])?.text("id")?.to_owned())
    }

    fn height(&self) -> Result<u64> {
        self.process.call(&["getinfo"])?.number("blockheight")
    }

    fn deposit(&self) -> Result<String> {
        Ok(self.process.call(&["newaddr", "bech32"])?.text("bech32")?.to_owned())
    }

    fn balance(&self) -> Result<Amount> {
        let told = self.process.call(&["listfunds"])?;
        let confirmed = told.list("outputs")?.iter().filter(|output| output["status"] == "confirmed");
        confirmed.map(|output| msat(&output["amount_msat"])).sum()
    }

    fn connect(&self, peer: &str) -> Result<()> {
        let (id, host, port) = parts(peer)?;
        self.process.tell(&["connect", id, host, port])
    }

    fn channel(&self, funding: OutPoint) -> Result<Option<Channel>> {
        let Some(found) = self.on(funding)? else { return Ok(None) };
        let state = found.text("state")?.to_owned();
        Ok(Some(Channel {
            usable: state == "CHANNELD_NORMAL" && found["peer_connected"] == true,
            capacity: msat(&found["total_msat"])?,
            theirs: msat(&found["to_us_msat"])?,
            private: found["private"] == true,
            state,
        }))
    }

    fn invoice(&self, amount: Amount) -> Result<String> {
        let amount = (amount.to_sat() * 1000).to_string();
        // A label is taken once.
        let label = format!("case-{}", self.process.call(&["listinvoices"])?.list("invoices")?.len());
        Ok(self.process.call(&["invoice", &amount, &label, "a case"])?.text("bolt11")?.to_owned())
    }

    fn pay(&self, bolt11: &str) -> Result<()> {
        let told = self.process.call(&["pay", bolt11])?;
        ensure!(told["status"] == "complete", "the Lightning payment failed: {told}");
        Ok(())
    }

    fn close(&self, funding: OutPoint, force: bool) -> Result<()> {
        let found = self.on(funding)?.with_context(|| format!("no channel on {funding}"))?;
        let mut arguments = vec!["close", found.text("channel_id")?];
        // Seconds after which it closes alone.
        arguments.extend(force.then_some("1"));
        self.process.tell(&arguments)
    }
}

/// Whole satoshis.
fn msat(value: &Value) -> Result<Amount> {
    let number = value.as_u64().or_else(|| value.as_str()?.strip_suffix("msat")?.parse().ok());
    Ok(Amount::from_sat(number.with_context(|| format!("no amount: {value}"))? / 1000))
}

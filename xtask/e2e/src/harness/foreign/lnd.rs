//! LND.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bitcoin::{Amount, OutPoint};
use serde_json::Value;
use xtask_programs::lnd as programs;
use xtask_programs::ports;

use super::super::chain::{Chain, PEER};
use super::super::daemon::Own;
use super::super::json::Fields;
use super::super::wait;
use super::{Channel, Foreign, Process, sat};

pub(crate) struct Lnd {
    process: Process,
    folder: PathBuf,
    rest: u16,
}

impl Lnd {
    /// Prepares one below `dir`, with more of its own arguments.
    pub(crate) fn new(
        programs: &programs::Lnd,
        dir: &Path,
        name: &str,
        chain: &Chain,
        more: &[&str],
    ) -> Result<Self> {
        let [port, rpc, rest] = [ports::free()?, ports::free()?, ports::free()?];
        let folder = dir.join(name);
        let mut program = programs.words(&folder, name, port, rpc, Some(rest));
        program.extend(more.iter().map(|argument| (*argument).to_owned()));
        program.extend([
            format!("--bitcoind.rpchost={}", chain.address()),
            format!("--bitcoind.rpcuser={PEER}"),
            format!("--bitcoind.rpcpass={PEER}"),
        ]);
        let client = programs.client_words(&folder, rpc);
        let process = Process::new(name, dir, port, program, client)?;
        Ok(Self { process, folder, rest })
    }

    /// As any node of another project.
    pub(crate) fn as_foreign(&self) -> &(dyn Foreign + 'static) {
        self
    }

    /// For a daemon beside it, with the macaroon in this file and more lines of the table.
    pub(crate) fn beside(&self, macaroon: &Path, more: &str) -> Result<Own> {
        let (certificate, rest) = (self.folder.join("tls.cert"), self.rest);
        let table = format!(
            "[lnd]\naddress = \"127.0.0.1:{rest}\"\ncertificate = {certificate:?}\nmacaroon = {macaroon:?}\n{more}"
        );
        Ok(Own { backend: "lnd", table, peer: self.as_foreign().peer()? })
    }

    /// Its macaroons for nearly everybody: `admin`, `readonly`, `invoice`.
    pub(crate) fn macaroon(&self, name: &str) -> PathBuf {
        self.folder.join("data/chain/bitcoin/regtest").join(format!("{name}.macaroon"))
    }

    /// Runs one of its commands, given as a person types it, with this file in the place of another name.
    pub(crate) fn bake(&self, line: &str, file: &Path) -> Result<()> {
        let file = file.display().to_string();
        let words: Vec<_> = line
            .split_whitespace()
            .skip(1)
            .map(|word| if word.ends_with(".macaroon") { &*file } else { word })
            .collect();
        self.process.tell(&words)
    }

    /// Writes lnd.conf as an operator has it: where the REST server listens.
    pub(crate) fn write_settings(&self) -> Result<()> {
        let text = format!("[Application Options]\nrestlisten=127.0.0.1:{}\n", self.rest);
        Ok(std::fs::write(self.folder.join("lnd.conf"), text)?)
    }

    /// The coins that are leased, whoever did it.
    pub(crate) fn leases(&self) -> Result<Vec<OutPoint>> {
        let told = self.process.call(&["wallet", "listleases"])?;
        let leases = told.as_array().with_context(|| format!("no leases: {told}"))?;
        leases.iter().map(|lease| lease.outpoint("outpoint")).collect()
    }

    /// The channels that wait for their funding.
    pub(crate) fn pending(&self) -> Result<Vec<OutPoint>> {
        let told = self.process.call(&["pendingchannels"])?;
        told.list("pending_open_channels")?
            .iter()
            .map(|one| one["channel"].outpoint("channel_point"))
            .collect()
    }

    /// It makes itself another one at its next start.
    pub(crate) fn forget_certificate(&self) -> Result<()> {
        std::fs::remove_file(self.folder.join("tls.cert"))?;
        Ok(std::fs::remove_file(self.folder.join("tls.key"))?)
    }
}

impl Foreign for Lnd {
    fn process(&self) -> &Process {
        &self.process
    }

    fn own(&self) -> Result<Own> {
        self.beside(&self.macaroon("admin"), "")
    }

    /// For a while after `getinfo` answers, other calls say that it is starting.
    fn is_ready(&self) -> Result<bool> {
        let active = self.process.call(&["state"])?["state"] == "SERVER_ACTIVE";
        Ok(active && self.process.call(&["getinfo"])?.flag("synced_to_chain")?)
    }

    fn id(&self) -> Result<String> {
        Ok(self.process.call(&["getinfo"])?.text("identity_pubkey")?.to_owned())
    }

    fn height(&self) -> Result<u64> {
        let told = self.process.call(&["getinfo"])?;
        Ok(if told.flag("synced_to_chain")? { told.number("block_height")? } else { 0 })
    }

    fn deposit(&self) -> Result<String> {
        Ok(self.process.call(&["newaddress", "p2wkh"])?.text("address")?.to_owned())
    }

    fn balance(&self) -> Result<Amount> {
        sat(&self.process.call(&["walletbalance"])?["confirmed_balance"])
    }

    fn connect(&self, peer: &str) -> Result<()> {
        self.process.tell(&["connect", peer]).or_else(|error| {
            if format!("{error:#}").contains("already connected") { Ok(()) } else { Err(error) }
        })
    }

    fn channel(&self, funding: OutPoint) -> Result<Option<Channel>> {
        let open = self.process.call(&["listchannels"])?;
        if let Some(found) = on(open.list("channels")?.iter(), funding) {
            let active = found.flag("active")?;
            return Ok(Some(Channel {
                usable: active,
                ..read(found, if active { "active" } else { "inactive" })?
            }));
        }
        let pending = self.process.call(&["pendingchannels"])?;
        for state in ["pending_open_channels", "pending_force_closing_channels", "waiting_close_channels"] {
            let channels = pending.list(state)?.iter().map(|one| &one["channel"]);
            if let Some(found) = on(channels, funding) {
                return read(found, state).map(Some);
            }
        }
        Ok(None)
    }

    fn invoice(&self, amount: Amount) -> Result<String> {
        let amount = amount.to_sat().to_string();
        Ok(self.process.call(&["addinvoice", "--amt", &amount])?.text("payment_request")?.to_owned())
    }

    /// What has just come in, LND counts a moment later: until then it has too little, and takes the same invoice again.
    fn pay(&self, bolt11: &str) -> Result<()> {
        let pay = || match self.process.call(&["payinvoice", "--force", "--json", "--timeout=20s", bolt11]) {
            Err(error) if format!("{error:#}").contains("INSUFFICIENT_BALANCE") => Ok(None),
            told => told.map(Some),
        };
        let told = wait::until("LND has enough to pay", Duration::from_secs(10), pay)?;
        ensure!(told["status"] == "SUCCEEDED", "the Lightning payment failed: {told}");
        Ok(())
    }

    fn close(&self, funding: OutPoint, force: bool) -> Result<()> {
        let point = funding.to_string();
        let mut arguments = vec!["closechannel", "--chan_point", &point];
        arguments.extend(force.then_some("--force"));
        self.process.tell(&arguments).context("closechannel")
    }
}

fn on<'a>(mut channels: impl Iterator<Item = &'a Value>, funding: OutPoint) -> Option<&'a Value> {
    channels.find(|channel| channel["channel_point"] == funding.to_string())
}

/// Not usable.
fn read(channel: &Value, state: &str) -> Result<Channel> {
    Ok(Channel {
        usable: false,
        capacity: sat(&channel["capacity"])?,
        theirs: sat(&channel["local_balance"])?,
        private: channel["private"] == true,
        state: state.to_owned(),
    })
}

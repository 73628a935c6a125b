//! The programs that worlds are made of.

use std::path::PathBuf;

use anyhow::{Context, Result};
use xtask_programs::cln::Cln;
use xtask_programs::lnd::Lnd;
use xtask_programs::{process, workspace};

use crate::payers::Payer;
use crate::tor::{self, TorNetwork};
use crate::{bitcoind, peers, tools};

/// Every program that a world needs.
pub(crate) struct Programs {
    pub(super) bitcoind: PathBuf,
    pub(super) payjoind: PathBuf,
    pub(super) payjoin_cli: PathBuf,
    pub(super) mailroom: PathBuf,
    tor: Option<tor::Shared>,
    pub(super) lnd: Option<Lnd>,
    pub(super) cln: Option<Cln>,
    pub(super) js: Option<Payer>,
    pub(super) python: Option<Payer>,
    pub(super) payjoin_cli_old: Option<PathBuf>,
}

/// What only some cases need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// A private Tor network. It can be had everywhere.
    Tor,
    Lnd,
    Cln,
    /// payjoin-client, which needs Node.js.
    Js,
    /// payjoin's old Python bindings.
    Python,
    /// Debian's own installer.
    Dpkg,
    /// payjoin-cli 0.2. It can be had everywhere.
    OldPayjoinCli,
}

impl Programs {
    /// Finds or builds them, with progress; of what only some cases need, only what is named.
    pub(crate) fn provide(needs: &[Need]) -> Result<Self> {
        let wanted = |need| needs.contains(&need);
        process::run(workspace::cargo().args(["build", "--locked", "--package", "payjoind"]))?;
        let payjoind = workspace::target().join("debug/payjoind");
        let (payjoin_cli, mailroom) = (tools::payjoin_cli()?, tools::mailroom()?);
        let tor = if wanted(Need::Tor) { Some(tor::Shared::provide()?) } else { None };
        let lnd = if wanted(Need::Lnd) { peers::lnd()? } else { None };
        let cln = if wanted(Need::Cln) { Cln::find() } else { None };
        let js = if wanted(Need::Js) { Payer::js()? } else { None };
        let python = if wanted(Need::Python) { Payer::python()? } else { None };
        let old = wanted(Need::OldPayjoinCli).then(tools::payjoin_cli_old).transpose()?;
        Ok(Self {
            bitcoind: bitcoind::provide()?,
            payjoind,
            payjoin_cli,
            mailroom,
            tor,
            lnd,
            cln,
            js,
            python,
            payjoin_cli_old: old,
        })
    }

    /// The same with another payjoind: one that is measured.
    pub(crate) fn measuring(self, payjoind: PathBuf) -> Self {
        Self { payjoind, ..self }
    }

    /// Of what a case needs, what this machine does not have, with how to get it.
    pub(crate) fn missing(&self, needs: &[Need]) -> Option<&'static str> {
        needs.iter().find_map(|need| match need {
            Need::Lnd if self.lnd.is_none() => Some(peers::NO_LND),
            Need::Cln if self.cln.is_none() => Some(Cln::MISSING),
            Need::Dpkg if process::on_path("dpkg").is_none() => {
                Some("dpkg: a Debian or Ubuntu, or its package `dpkg`")
            }
            Need::Js if self.js.is_none() => Some(Payer::NO_JS),
            Need::Python if self.python.is_none() => Some(Payer::NO_PYTHON),
            _ => None,
        })
    }

    /// The program that pays by another project's package.
    pub(super) fn payer(&self, payer: Need) -> Result<&Payer> {
        let payer = match payer {
            Need::Js => &self.js,
            Need::Python => &self.python,
            _ => &None,
        };
        payer.as_ref().context("this case does not say that it needs this payer")
    }

    /// The Tor network that all worlds share, once it runs.
    pub(crate) fn tor(&self) -> Result<&TorNetwork> {
        self.tor.as_ref().context("this case does not say that it needs Tor")?.network()
    }
}

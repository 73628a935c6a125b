//! Whether the Lightning node can be used: the operator's own is asked, the embedded one needs nothing.

use std::time::Duration;

#[cfg(any(feature = "cln", feature = "lnd"))]
use payjoin_lightning::LightningError;
use tokio::time::timeout;

use super::Finding;
#[cfg(any(feature = "cln", feature = "lnd"))]
use super::folder::mode;
use crate::settings::{Kind, Settings};

const CHECK: &str = "lightning";
/// For all that is asked.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn lightning(settings: &Settings) -> Vec<Finding> {
    let looked = timeout(PATIENCE, async {
        match settings.lightning.backend {
            Kind::Embedded => vec![Finding::good(CHECK, "the node is in this program")],
            #[cfg(feature = "cln")]
            Kind::Cln => cln(settings).await,
            #[cfg(feature = "lnd")]
            Kind::Lnd => lnd(settings).await,
            // The settings say so, too.
            #[allow(unreachable_patterns, reason = "a build may have all of them")]
            kind => vec![Finding::trouble(CHECK, format!("{} is not part of this build", kind.name()))],
        }
    });
    looked.await.unwrap_or_else(|_| vec![Finding::trouble(CHECK, "it does not answer in time: see its log")])
}

#[cfg(any(feature = "cln", feature = "lnd"))]
fn why(error: &LightningError) -> Finding {
    Finding::trouble(CHECK, error.to_string())
}

#[cfg(feature = "cln")]
async fn cln(settings: &Settings) -> Vec<Finding> {
    let access = crate::backend::cln_access(settings);
    let mut findings = vec![match payjoin_lightning::cln::examine(access, settings.network).await {
        Ok(node_id) => Finding::good(CHECK, format!("Core Lightning {node_id}")),
        Err(error) => why(&error),
    }];
    if settings.cln.rest.is_some() {
        return findings;
    }
    let socket = settings.cln_socket();
    let shown = socket.display();
    if mode(&socket).is_ok_and(|mode| mode & 0o007 != 0) && is_reachable(&socket) {
        findings.push(Finding::warning(
            CHECK,
            format!(
                "everybody on this machine may use {shown}, and spend all of it: start lightningd with \
                 `rpc-file-mode=0600`, or 0660 and a group"
            ),
        ));
    }
    findings
}

/// Whether others get as far as this file: its folders may be closed to them.
#[cfg(any(feature = "cln", feature = "lnd"))]
fn is_reachable(file: &std::path::Path) -> bool {
    file.ancestors().skip(1).all(|folder| mode(folder).is_ok_and(|mode| mode & 0o001 != 0))
}

#[cfg(feature = "lnd")]
async fn lnd(settings: &Settings) -> Vec<Finding> {
    use payjoin_lightning::lnd::examine;

    let access = crate::backend::lnd_access(settings);
    let macaroon = access.macaroon.clone();
    let address = access.address.clone();
    let mut findings = match examine(access, settings.network).await {
        Ok(lnd) => {
            let mut found = vec![Finding::good(CHECK, format!("LND {} at {address}", lnd.node_id))];
            if lnd.allows_everything {
                found.push(Finding::warning(
                    CHECK,
                    "the macaroon allows everything: bake one with the few rights that are needed, docs/lnd.md says how",
                ));
            }
            found
        }
        Err(error) => vec![why(&error)],
    };
    if mode(&macaroon).is_ok_and(|mode| mode & 0o004 != 0) && is_reachable(&macaroon) {
        let file = macaroon.display();
        findings.push(Finding::warning(
            CHECK,
            format!("everybody on this machine can read {file}, a key to LND's coins: chmod 600 {file}"),
        ));
    }
    findings
}

//! Whether bitcoind answers, lets us ask what we must, and has caught up.

use std::time::Duration;

use bitcoin::Network;
use payjoin_core::ChainError;
use payjoin_lightning::node::{Bitcoind, ChainSource as _, ChainStatus, Readiness, Rpc};
use tokio::time::timeout;

use super::Finding;
use crate::backend::auth;
use crate::clock::now;
use crate::settings::Settings;

const CHECK: &str = "bitcoind";
/// For an answer: it is on this machine, or near.
const PATIENCE: Duration = Duration::from_secs(15);

pub(super) async fn bitcoind(settings: &Settings) -> Vec<Finding> {
    let url = settings.bitcoind_url();
    // What stands before an `@` is a password.
    let shown = url.rsplit('@').next().unwrap_or_default().to_owned();
    let asked = match Rpc::new(&url, auth(settings)) {
        Ok(rpc) => timeout(PATIENCE, Bitcoind::new(rpc).readiness()).await,
        Err(error) => Ok(Err(ChainError::from(error))),
    };
    match asked {
        Ok(Ok(Readiness::Ready(status))) => read(&status, settings.network, &shown),
        Ok(Ok(Readiness::NotYet(why))) => vec![Finding::trouble(CHECK, format!("at {shown}: {why}: wait"))],
        Ok(Err(error)) => vec![Finding::trouble(CHECK, format!("at {shown}: {error}; {REMEDY}"))],
        Err(_) => {
            vec![Finding::trouble(CHECK, format!("it does not answer at {shown} in time: see its log"))]
        }
    }
}

const REMEDY: &str = "see that it runs, with `server=1`, and set `url`, and `cookie` or `user` and `password`, under [bitcoind]";

/// bitcoind's own name for a network.
fn name(network: Network) -> &'static str {
    network.to_core_arg()
}

fn read(status: &ChainStatus, network: Network, url: &str) -> Vec<Finding> {
    if status.network != name(network) {
        return vec![Finding::trouble(
            CHECK,
            format!(
                "at {url} it is on {}, not on {}: set `network`, or `url` under [bitcoind]",
                status.network,
                name(network)
            ),
        )];
    }
    let mut findings = vec![match status.behind(now().0) {
        Some(behind) => Finding::trouble(CHECK, format!("at {url}: {behind}")),
        None => Finding::good(CHECK, format!("at {url}, block {}", status.tip.height)),
    }];
    if status.begins > 0 {
        findings.push(Finding::warning(
            CHECK,
            format!(
                "it is pruned, and has no block before {}: a node that was off for longer fetches them from bitcoind's \
                 peers; keep more with `prune`",
                status.begins
            ),
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use lightning::chain::BestBlock;

    use super::*;
    use crate::doctor::Health;

    #[test]
    fn what_bitcoind_says_of_itself_is_judged() {
        let status = |network: &str, begins, first_download| {
            let tip = BestBlock::new(bitcoin::hashes::Hash::all_zeros(), 100);
            ChainStatus {
                network: network.to_owned(),
                tip,
                begins,
                first_download,
                headers: 200,
                time: Some(now().0),
            }
        };
        for (status, states, word) in [
            (status("main", 0, false), &[Health::Good][..], "block 100"),
            (status("main", 50, false), &[Health::Good, Health::Warning], "before 50"),
            (status("main", 0, true), &[Health::Trouble], "100"),
            (status("signet", 0, false), &[Health::Trouble], "on signet, not on main"),
        ] {
            let found = read(&status, Network::Bitcoin, "http://127.0.0.1:1");
            assert_eq!(found.iter().map(|one| one.state).collect::<Vec<_>>(), states);
            assert!(found.iter().any(|one| one.text.contains(word)), "{word}: {found:?}");
        }
    }
}

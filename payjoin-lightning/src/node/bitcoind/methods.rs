//! Whether bitcoind lets us call what we need. Asked at a start: later, what is missing would show in the middle of a payment.

use serde_json::Value;

use super::error::RpcError;
use super::rpc::Rpc;

/// Every method that is called anywhere here.
const METHODS: [&str; 17] = [
    "estimatesmartfee",
    "getbestblockhash",
    "getblock",
    "getblockchaininfo",
    "getblockfrompeer",
    "getblockhash",
    "getblockheader",
    "getmempoolentry",
    "getmempoolinfo",
    "getpeerinfo",
    "getrawmempool",
    "getrawtransaction",
    "gettxout",
    "gettxspendingprevout",
    "sendrawtransaction",
    "submitpackage",
    "testmempoolaccept",
];

/// `RPC_METHOD_NOT_FOUND`.
const UNKNOWN: i64 = -32601;

/// Calls all with more parameters than any of them takes: bitcoind answers with its help, and does nothing. In one request
/// at first, which is refused as a whole where one of them is forbidden.
pub(super) async fn check(rpc: &Rpc) -> Result<(), RpcError> {
    let params = || Value::Array(vec![Value::Null; 16]);
    let calls: Vec<_> = METHODS.iter().map(|method| (*method, params())).collect();
    let mut answers = Vec::new();
    match rpc.batch(&calls).await {
        Ok(all) => answers = all,
        Err(RpcError::Forbidden(_)) => {
            for method in METHODS {
                answers.push(rpc.call(method, params()).await);
            }
        }
        Err(error) => return Err(error),
    }
    let (mut forbidden, mut unknown) = (Vec::new(), Vec::new());
    for (method, answer) in METHODS.into_iter().zip(answers) {
        match answer {
            Err(RpcError::Forbidden(_)) => forbidden.push(method),
            Err(RpcError::Server { code: UNKNOWN, .. }) => unknown.push(method),
            Err(error @ RpcError::Server { .. }) if error.passes() => return Err(error),
            Ok(_) | Err(RpcError::Server { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    match verdict(&forbidden, &unknown) {
        Some(text) => Err(RpcError::Methods(text)),
        None => Ok(()),
    }
}

fn verdict(forbidden: &[&str], unknown: &[&str]) -> Option<String> {
    if forbidden.len() == METHODS.len() {
        return Some(
            "bitcoind lets this machine, or this user, call nothing: see `rpcallowip` and `rpcwhitelist` in its settings"
                .to_owned(),
        );
    }
    if !forbidden.is_empty() {
        return Some(format!(
            "bitcoind does not let this user call {}: add them to its `rpcwhitelist`. All that is needed: {}",
            forbidden.join(", "),
            METHODS.join(",")
        ));
    }
    (!unknown.is_empty()).then(|| {
        format!(
            "bitcoind does not know {}: use Bitcoin Core 25 or later, or Bitcoin Knots",
            unknown.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_that_is_called_is_checked_and_no_other_one() {
        let sources = [include_str!("../bitcoind.rs"), include_str!("blocks.rs"), include_str!("rivals.rs")];
        let quoted = sources.iter().flat_map(|source| source.split('"').skip(1).step_by(2));
        let verbs = ["get", "estimate", "send", "submit", "test"];
        let mut called: Vec<&str> = quoted
            .filter(|text| verbs.iter().any(|verb| text.starts_with(verb)))
            .filter(|text| text.bytes().all(|letter| letter.is_ascii_lowercase()))
            .collect();
        called.sort_unstable();
        called.dedup();
        assert_eq!(called, METHODS);
    }

    #[test]
    fn what_is_missing_is_named_with_what_to_do() {
        let verdict = |forbidden: &[&str], unknown: &[&str]| verdict(forbidden, unknown).unwrap_or_default();
        assert_eq!(verdict(&[], &[]), "");
        let told = verdict(&["getblock", "gettxout"], &[]);
        assert!(told.contains("call getblock, gettxout: add them to its `rpcwhitelist`"), "{told}");
        assert!(told.contains("testmempoolaccept"), "{told}");
        assert!(verdict(&METHODS, &[]).contains("rpcallowip"));
        assert!(verdict(&[], &["submitpackage"]).contains("does not know submitpackage"));
    }
}

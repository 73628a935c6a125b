//! Every call that is made of LND, with the right that it needs: the macaroon is baked from this list.

/// One call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) verb: Verb,
    /// Of LND's REST server; what varies is appended.
    pub(super) path: &'static str,
    /// The right, without `uri:`.
    pub(super) right: &'static str,
    /// What it is for.
    pub(super) purpose: &'static str,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Verb {
    Get,
    Post,
    Delete,
}

const fn get(path: &'static str, right: &'static str, purpose: &'static str) -> Call {
    Call { verb: Verb::Get, path, right, purpose }
}

const fn post(path: &'static str, right: &'static str, purpose: &'static str) -> Call {
    Call { verb: Verb::Post, path, right, purpose }
}

const fn delete(path: &'static str, right: &'static str, purpose: &'static str) -> Call {
    Call { verb: Verb::Delete, path, right, purpose }
}

pub(super) const GET_INFO: Call = get(
    "/v1/getinfo",
    "/lnrpc.Lightning/GetInfo",
    "whose node it is, and whether it has caught up with the chain",
);
pub(super) const CONNECT: Call =
    post("/v1/peers", "/lnrpc.Lightning/ConnectPeer", "reaches the peers of queued channels");
pub(super) const PEERS: Call = get("/v1/peers", "/lnrpc.Lightning/ListPeers", "who is connected");
pub(super) const DISCONNECT: Call = delete(
    "/v1/peers",
    "/lnrpc.Lightning/DisconnectPeer",
    "connects a peer anew whose channel stays unusable",
);
pub(super) const OPEN: Call = post(
    "/v1/channels/stream",
    "/lnrpc.Lightning/OpenChannel",
    "opens a channel that the payjoin funds: LND does not publish",
);
pub(super) const FUNDING_STEP: Call = post(
    "/v1/funding/step",
    "/lnrpc.Lightning/FundingStateStep",
    "gives an opening its transaction, or cancels it",
);
pub(super) const ABANDON: Call = delete(
    "/v1/channels/abandon",
    "/lnrpc.Lightning/AbandonChannel",
    "forgets a channel of ours whose funding can never be mined",
);
pub(super) const PENDING: Call = get(
    "/v1/channels/pending",
    "/lnrpc.Lightning/PendingChannels",
    "finds the channels that a crash left behind",
);
pub(super) const CHANNELS: Call =
    get("/v1/channels", "/lnrpc.Lightning/ListChannels", "which channels can be used");
pub(super) const CLOSED: Call =
    get("/v1/channels/closed", "/lnrpc.Lightning/ClosedChannels", "how a channel of ours ended");
pub(super) const COINS: Call =
    post("/v2/wallet/utxos", "/walletrpc.WalletKit/ListUnspent", "the coins that may be offered");
pub(super) const LEASE: Call =
    post("/v2/wallet/utxos/lease", "/walletrpc.WalletKit/LeaseOutput", "locks the coins that are offered");
pub(super) const RELEASE: Call = post(
    "/v2/wallet/utxos/release",
    "/walletrpc.WalletKit/ReleaseOutput",
    "unlocks the coins of a payment that is over",
);
pub(super) const LEASES: Call = post(
    "/v2/wallet/utxos/leases",
    "/walletrpc.WalletKit/ListLeases",
    "finds the locks that a crash left behind",
);
pub(super) const ADDRESS: Call =
    post("/v2/wallet/address/next", "/walletrpc.WalletKit/NextAddr", "the addresses of codes");
pub(super) const RESERVE: Call = get(
    "/v2/wallet/reserve",
    "/walletrpc.WalletKit/RequiredReserve",
    "what LND keeps back to close channels",
);
pub(super) const SIGN: Call = post(
    "/v2/signer/inputscript",
    "/signrpc.Signer/ComputeInputScript",
    "signs the coins that are offered, and tells which scripts are LND's",
);
pub(super) const TRANSACTIONS: Call = get(
    "/v1/transactions/subscribe",
    "/lnrpc.Lightning/SubscribeTransactions",
    "hears when the list of coins changes",
);
pub(super) const CHANNEL_EVENTS: Call =
    get("/v1/channels/subscribe", "/lnrpc.Lightning/SubscribeChannelEvents", "hears when a channel changes");
pub(super) const INVOICE: Call = post("/v1/invoices", "/lnrpc.Lightning/AddInvoice", "`payjoind invoice`");
pub(super) const PAY: Call = post("/v2/router/send", "/routerrpc.Router/SendPaymentV2", "`payjoind pay`");
pub(super) const DECODE: Call =
    get("/v1/payreq", "/lnrpc.Lightning/DecodePayReq", "`payjoind pay`: how much an invoice asks for");
pub(super) const TRACK: Call = get(
    "/v2/router/track",
    "/routerrpc.Router/TrackPaymentV2",
    "`payjoind pay`: what became of an invoice that was paid before",
);
pub(super) const CLOSE: Call =
    delete("/v1/channels", "/lnrpc.Lightning/CloseChannel", "`payjoind channel close`");
pub(super) const HOLD_INVOICE: Call = post(
    "/v2/invoices/hodl",
    "/invoicesrpc.Invoices/AddHoldInvoice",
    "`payjoind receive --lightning`: an invoice whose payment waits for our word",
);
pub(super) const HEAR_INVOICE: Call = get(
    "/v2/invoices/subscribe",
    "/invoicesrpc.Invoices/SubscribeSingleInvoice",
    "`payjoind receive --lightning`: hears that the payment is there",
);
pub(super) const SETTLE_INVOICE: Call = post(
    "/v2/invoices/settle",
    "/invoicesrpc.Invoices/SettleInvoice",
    "`payjoind receive --lightning`: takes the payment",
);
pub(super) const CANCEL_INVOICE: Call = post(
    "/v2/invoices/cancel",
    "/invoicesrpc.Invoices/CancelInvoice",
    "`payjoind receive --lightning`: gives the payment back, because the code is paid on chain",
);

/// What receiving needs, and then what single commands need.
const ALL: [Call; 28] = [
    GET_INFO,
    CONNECT,
    PEERS,
    DISCONNECT,
    OPEN,
    FUNDING_STEP,
    ABANDON,
    PENDING,
    CHANNELS,
    CLOSED,
    COINS,
    LEASE,
    RELEASE,
    LEASES,
    ADDRESS,
    RESERVE,
    SIGN,
    TRANSACTIONS,
    CHANNEL_EVENTS,
    INVOICE,
    PAY,
    DECODE,
    TRACK,
    CLOSE,
    HOLD_INVOICE,
    HEAR_INVOICE,
    SETTLE_INVOICE,
    CANCEL_INVOICE,
];

/// The rights that the macaroon needs, as `lncli bakemacaroon` takes them, each with what it is for.
#[must_use]
pub fn rights() -> Vec<(String, &'static str)> {
    ALL.iter().map(|call| (format!("uri:{}", call.right), call.purpose)).collect()
}

/// The line that bakes the smallest macaroon.
#[must_use]
pub fn bake_line() -> String {
    let rights: Vec<_> = rights().into_iter().map(|(right, _)| right).collect();
    format!("lncli bakemacaroon --save_to ~/.lnd/payjoind.macaroon {}", rights.join(" "))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_right_is_asked_for_twice_and_each_says_what_it_is_for() {
        let rights = rights();
        assert_eq!(rights.iter().map(|(right, _)| right).collect::<BTreeSet<_>>().len(), rights.len());
        assert!(rights.iter().all(|(right, purpose)| right.starts_with("uri:/") && !purpose.is_empty()));
    }

    #[test]
    fn the_page_of_the_operator_has_the_line_that_bakes_the_macaroon() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/lnd.md");
        let page = std::fs::read_to_string(page).unwrap();
        assert!(page.contains(&bake_line()), "{}", bake_line());
        for (right, purpose) in rights() {
            assert!(page.contains(&format!("| `{right}` | {purpose} |")), "{right}");
        }
    }
}

//! The cases. Each is a function over a world of its own; the ledger is checked after each by the runner.

use anyhow::Result;

use crate::harness::{Need, World};

mod api;
mod beside;
mod bitcoind;
mod chain;
mod channel;
mod closing;
mod conflict;
mod crash;
mod directory;
mod doctor;
mod fees;
mod hostile;
mod house;
mod lnd;
mod older;
mod onion;
mod opening;
mod operator;
mod own;
mod package;
mod pages;
mod payers;
mod peer;
mod plain;
mod plugin;
mod refusals;
mod rune;
mod safety;
mod salvage;
mod seen;
mod send;
mod slots;
mod strangers;
mod trouble;

/// An end-to-end case.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) run: fn(&World<'_>) -> Result<()>,
}

impl Case {
    /// What it needs that others do not.
    pub(crate) fn needs(&self) -> &'static [Need] {
        let kinds: &[(&str, &[Need])] = &[
            ("onion-", &[Need::Tor]),
            ("peer-lnd-", &[Need::Lnd]),
            ("peer-cln-", &[Need::Cln]),
            ("lnd-", &[Need::Lnd]),
            ("peer-mixed", &[Need::Lnd, Need::Cln]),
            ("payer-js-", &[Need::Js]),
            ("payer-python", &[Need::Python]),
            ("payer-cli-old", &[Need::OldPayjoinCli]),
            ("cln-", &[Need::Cln]),
            ("deb-install", &[Need::Dpkg]),
        ];
        kinds.iter().find(|(begin, _)| self.name.starts_with(begin)).map_or(&[], |(_, needs)| needs)
    }
}

/// Every case, in the order in which they run.
pub(crate) fn all() -> impl Iterator<Item = &'static Case> {
    [
        CASES,
        house::CASES,
        strangers::CASES,
        payers::CASES,
        onion::CASES,
        peer::CASES,
        own::CASES,
        lnd::CASES,
        beside::CASES,
        plugin::CASES,
        rune::CASES,
        pages::CASES,
        seen::CASES,
        opening::CASES,
        api::CASES,
        package::CASES,
        doctor::CASES,
    ]
    .into_iter()
    .flatten()
}

/// Those of the embedded node.
const CASES: &[Case] = &[
    Case {
        name: "v1-channel",
        about: "a payjoin opens a channel, and the channel carries a payment",
        run: channel::one,
    },
    Case {
        name: "v1-batch",
        about: "one payjoin opens three channels to two peers, with change",
        run: channel::batch,
    },
    Case {
        name: "v1-rest",
        about: "a channel takes what the payment leaves after another channel",
        run: channel::rest,
    },
    Case {
        name: "v1-many",
        about: "more channels are queued than one payment opens: the code asks for those that it can",
        run: channel::many,
    },
    Case {
        name: "payer-is-me",
        about: "an empty wallet opens a channel for the code of a payer who is the operator, and for no other code",
        run: channel::payer_is_me,
    },
    Case {
        name: "channel-closed",
        about: "channels close, one with the peer's help, one by force while we are away: both end their intents, with a reason",
        run: channel::closed,
    },
    Case {
        name: "v1-peer-away",
        about: "the funding is buried while the peer is away: the intent is open once the channel is usable",
        run: channel::peer_away,
    },
    Case {
        name: "v1-onchain",
        about: "no channel is queued: a plain payjoin with a coin of ours",
        run: plain::on_chain,
    },
    Case {
        name: "plain-payment",
        about: "an ordinary wallet pays a code, twice, once while we are away: exchanges with an outcome, beside a payjoin",
        run: plain::ordinary,
    },
    Case {
        name: "v1-empty-wallet",
        about: "an empty wallet accepts the plain payment and keeps the queued channel",
        run: plain::empty_wallet,
    },
    Case {
        name: "v1-substitution-off",
        about: "the payer forbids output substitution and our coin pays for no channel: a plain payjoin",
        run: plain::substitution_off,
    },
    Case {
        name: "beside-v1",
        about: "the payer forbids output substitution: our coin pays for a channel beside the payment, which stays whole",
        run: plain::beside,
    },
    Case {
        name: "v1-nested-segwit",
        about: "the payer's inputs are nested segwit: the transaction id is not stable, and no coin of ours is like them",
        run: plain::nested_segwit,
    },
    Case {
        name: "v1-peer-offline",
        about: "a channel peer is gone: the payer pays on chain, the channel is queued again with a reason, behind the others",
        run: trouble::peer_offline,
    },
    Case {
        name: "v1-peer-waits",
        about: "the peer of a queued channel is connected, and again after it was away, before anybody pays",
        run: trouble::peer_waits,
    },
    Case { name: "salvage-offline", about: "one of three peers is gone", run: salvage::offline },
    Case { name: "salvage-frozen", about: "one of three peers stands still", run: salvage::frozen },
    Case { name: "salvage-at-funding", about: "one of three does not sign", run: salvage::at_funding },
    Case { name: "payer-hangs-up", about: "a payer leaves too early", run: salvage::payer_hangs_up },
    Case { name: "one-per-peer", about: "one channel with each peer, or several", run: slots::one_per_peer },
    Case { name: "slot-account", about: "a peer is full: no code asks for it", run: slots::account },
    Case { name: "preflight", about: "a peer is asked when a channel is queued", run: slots::preflight },
    Case { name: "queue-pause", about: "failed three times: left in peace", run: slots::queue_pause },
    Case {
        name: "v1-fallback",
        about: "the payer never broadcasts: the Original is, the channel is forgotten, the coins are free",
        run: trouble::fallback,
    },
    Case {
        name: "v1-crash-admitted",
        about: "killed with a code shown, then in the middle of opening: the code stays good, the same Original is served",
        run: crash::admitted,
    },
    Case {
        name: "v1-crash-deadline",
        about: "killed in the middle of opening, the payer does not come back: the Original is broadcast in its time",
        run: crash::deadline,
    },
    Case {
        name: "v1-crash-away",
        about: "the first payment of a fresh receiver is mined while the receiver is dead: it is settled",
        run: crash::away,
    },
    Case {
        name: "v1-crash-unreleased",
        about: "killed at each step of funding: fresh channels each time, never two, and the last attempt succeeds",
        run: crash::unreleased,
    },
    Case {
        name: "v1-crash-released",
        about: "killed at the release, before and after the broadcast: the same bytes, locks kept, the channel opens",
        run: crash::released,
    },
    Case {
        name: "v1-bad-input",
        about: "hostile requests over a raw socket change nothing, and a good one after them succeeds",
        run: hostile::bad_input,
    },
    Case {
        name: "v2-channel",
        about: "a payment through a directory opens a channel",
        run: directory::channel,
    },
    Case {
        name: "v2-batch",
        about: "one payment through a directory opens 3 channels",
        run: directory::batch,
    },
    Case {
        name: "v2-onchain",
        about: "no channel is wanted: a plain payjoin through a directory",
        run: directory::on_chain,
    },
    Case {
        name: "v2-offline-receiver",
        about: "the payer pays while the node is off; the node comes back and the channel opens",
        run: directory::offline_receiver,
    },
    Case {
        name: "v2-relay-down",
        about: "one of two relays and one of two directories are dead, or die, one under a session: the others serve",
        run: directory::relay_down,
    },
    Case {
        name: "receive-falls-back",
        about: "no directory answers: the code leads to our own server, and a payment there opens the channel",
        run: directory::falls_back,
    },
    Case {
        name: "v2-directory-restart",
        about: "the directory dies under an open session and under a payer who waits, and comes back, once with a new key",
        run: directory::restart,
    },
    Case {
        name: "v2-expired",
        about: "sessions expire: one that nobody paid in peace, and where a payer waited the Original is broadcast",
        run: directory::expired,
    },
    Case {
        name: "v2-cancel",
        about: "a session is listed, given up and shown as such",
        run: directory::cancelled,
    },
    Case {
        name: "v2-resume",
        about: "kill -9 at each stage of a session: after the restart the payer is answered, one channel opens",
        run: directory::resume,
    },
    Case {
        name: "v1-via-directory",
        about: "a payer who knows only BIP 78 pays through the directory: plain payjoin, nothing is substituted",
        run: directory::v1_payer,
    },
    Case { name: "send-v1", about: "our node pays a receiver on the web by payjoin", run: send::v1 },
    Case {
        name: "send-v2",
        about: "our node pays through relay and directory by payjoin; one of two relays is of no use",
        run: send::v2,
    },
    Case {
        name: "send-directory-restart",
        about: "the directory dies and comes back while our node waits for the proposal: it is a payjoin",
        run: send::directory_restart,
    },
    Case {
        name: "send-fallback",
        about: "the receiver never answers, our node is killed meanwhile: the Original is paid once, and said so",
        run: send::fallback,
    },
    Case {
        name: "send-double-spent",
        about: "the receiver spends his coin elsewhere after the payjoin was sent: the Original is paid instead",
        run: send::double_spent,
    },
    Case {
        name: "send-relay-down",
        about: "no relay answers, and a code asks for no payjoin: the Original is paid, and said why",
        run: send::relay_down,
    },
    Case {
        name: "operator-mistakes",
        about: "a second daemon, wrong modes, a typo, a missing bitcoind: each is refused with what to do",
        run: operator::mistakes,
    },
    Case {
        name: "operator-outage",
        about: "bitcoind goes away and comes back: payers are told to try again, and then are served",
        run: operator::outage,
    },
    Case {
        name: "chain-stall",
        about: "a thousand blocks behind, bitcoind cannot read one: status says why, nothing is offered; it is back, all goes on",
        run: chain::stall,
    },
    Case {
        name: "pruned-behind",
        about: "bitcoind has pruned what the node has not seen: a start says so and sends what is due, peers give it back",
        run: chain::pruned_behind,
    },
    Case {
        name: "close-before-funding",
        about: "a channel is closed before the payer broadcasts, and all die: the closing transaction follows the payjoin",
        run: closing::before_funding,
    },
    Case {
        name: "close-while-bitcoind-away",
        about: "bitcoind is away while one channel is closed with its peer and one by force: both go out when it is back",
        run: closing::while_bitcoind_is_away,
    },
    Case {
        name: "force-close-without-coins",
        about: "the wallet is empty: the commitment goes out, what it needs is said, and a deposit of that pays for it",
        run: closing::without_coins,
    },
    Case {
        name: "full-mempool-close",
        about: "the mempool is full of what pays more: a forced close enters it with its child",
        run: closing::in_a_full_mempool,
    },
    Case {
        name: "disk-full",
        about: "a payment meets a full disk: refused, nothing locked or signed; with space again it opens its channel",
        run: safety::disk_full,
    },
    Case {
        name: "database-damaged",
        about: "without a daemon the payments that are owed are printed; a damaged database is refused with a hint to that",
        run: safety::database_damaged,
    },
    Case {
        name: "original-bumped",
        about: "a plain payment waits for want of fees: a child out of it pays for both, and again at a higher rate",
        run: safety::original_bumped,
    },
    Case {
        name: "bump-large-parent",
        about: "a payment of ten thousand vbytes is raised: the rate of its child alone is beyond what bitcoind allows users",
        run: safety::large_parent_bumped,
    },
    Case {
        name: "payjoin-bumped",
        about: "a payjoin that opens a channel waits for want of fees: a child out of our change pays for both",
        run: safety::payjoin_bumped,
    },
    Case {
        name: "conflict-outbid",
        about: "a payer spends his coins elsewhere, too: the payment is sent again, with a child that outbids, up to a limit",
        run: conflict::outbid,
    },
    Case {
        name: "conflict-outbid-v2",
        about: "the same through a directory, with a restart in between",
        run: conflict::outbid_v2,
    },
    Case {
        name: "seed-restored",
        about: "everything is lost but the seed: from its birthday on the coins are found again",
        run: safety::seed_restored,
    },
    Case {
        name: "older-database",
        about: "an older copy is refused for good; recovered, with the peer away and then there, it takes back what is ours",
        run: older::refused,
    },
    Case {
        name: "older-database-proved",
        about: "nothing shows that a copy is old but the peer: the daemon ends, and started again it lets the peer close",
        run: older::proved,
    },
    Case {
        name: "operator-commands",
        about: "every command prints the JSON that its --help names, and the same for people",
        run: operator::commands,
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_case_has_a_name_of_its_own() {
        assert_eq!(all().map(|case| case.name).collect::<BTreeSet<_>>().len(), all().count());
    }
}

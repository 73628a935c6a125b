//! What `--help` says after the options: meaning, the fields of the JSON answer, an example.

/// Heading of the options that every command has.
pub(crate) const COMMON: &str = "Options of every command";

pub(crate) const FIRST_STEPS: &str = "\
First steps:
  payjoind init                                    find bitcoind and your Lightning node, write the settings file
  payjoind run                                     start the daemon; `payjoind run --help` shows its settings
  payjoind channel queue NODE_ID@HOST:PORT 500000  ask for a channel
  payjoind receive                                 show the code to pay; the payment opens the channel

A command that fails says why on standard error and exits with 1, or with 2 when the command line itself is wrong.
With --json the reason is {\"error\": \"...\"} on standard output, and times are seconds since 1970. Amounts are in
satoshis.";

/// The settings are shown as `payjoin-node` knows them.
pub(crate) fn run() -> String {
    let example = payjoin_node::Settings::example();
    let settings: String = example.lines().map(|line| format!("  {line}\n")).collect();
    let taken = payjoin_node::Settings::taken_while_running().join(", ").replace("[policy] ", "");
    let after = RUN_HELP_AFTER.replace("TAKEN", &taken);
    format!("{RUN_HELP_BEFORE}\n{settings}\n{after}")
}

const RUN_HELP_BEFORE: &str = "\
Settings come from DATADIR/payjoind.toml. Environment variables override the file,
flags override both. An example; settings behind # have these values by default, unless the comment says otherwise:
";

const RUN_HELP_AFTER: &str = "\
DATADIR/seed holds twelve words: write them down. DATADIR/payjoind.sqlite holds the channels and what is owed to
payers: never restore an old copy of it. The seed alone, with `birthday`, brings the coins back, but not the channels.
The steps of each payment go to standard output, the log to standard error; PAYJOIND_LOG=debug shows more of it.
Lines that nobody reads are dropped and counted. Ctrl-C and SIGTERM stop the daemon once the exchanges in flight are
done; requests that are not complete are cut, and bitcoind is waited for no longer than five seconds. SIGHUP reads the
settings again and takes over, of [policy], TAKEN;
of others that changed the log says that they need a restart. The files of the TLS certificate and its key are read again
then, and by themselves a few seconds after they change.

Example:
  payjoind --datadir ~/.payjoind run --network regtest";

pub(crate) const RECOVER_HELP: &str = "\
For a database that `run` refuses because it is an older copy, when the newest one is lost. Put the newest one in its
place if there is any: this is the second best.

Peers with later states could take all that is in a channel if we closed it, so nothing of ours spends it any more. The
peers are asked to close their channels as soon as they are connected, and what is ours in them comes to the wallet.
Payments that are owed are broadcast in their time. Nothing is offered to payers. When `channel list` and `wallet
balance` show that everything has arrived, stop it, and begin anew in another folder: with the same seed, and
`birthday` under [lightning].

Example:
  payjoind recover";

pub(crate) const COMPLETIONS_HELP: &str = "\
Examples:
  payjoind completions bash > ~/.local/share/bash-completion/completions/payjoind
  payjoind completions zsh > ~/.zfunc/_payjoind
  payjoind completions fish > ~/.config/fish/completions/payjoind.fish";

pub(crate) const RECEIVE_HELP: &str = "\
Show the code to the payer. A wallet that knows payjoin opens the queued channels by paying it; any other wallet
makes a plain payment to the address. Each code is for one payment.

Through a directory (BIP 77) the payer can pay while we are offline, and we need no open port; through https or onion
(BIP 78) our own server answers. Without --via, the code uses the first of these three that is configured, and the next
one if no directory answers; `via` tells which. Where our server has both https and onion, `alternatives` holds the
other code for the same payment. A `public_endpoint` with an onion address counts as onion. At a directory a code lasts
no longer than [payjoin] code_hours. If a payer's message was not answered before the code expires, the plain payment
in it is broadcast.

`observer` is what whoever watches the chain can tell of the payment by its amounts.

A channel needs a confirmed coin of the wallet beside the payment. `note` says so when there is none: then the payment
arrives on chain, and the next one opens channels. If you are the payer yourself, --payer-is-me makes a code that opens
them at once. Show it to nobody else: a payer who cheats could burn what he paid to it, and your channels with it.

With --lightning the code also holds a BOLT 11 invoice (`lightning`) of the same amount, for payers who do not want to pay
on chain. It is paid once: a Lightning payment is given back as soon as a payment on chain is known, and once one was taken,
no payjoin is made any more. It needs an amount, and the embedded node: no other one can be told to give a payment back.

JSON: uri, address, invoice, amount_sat, via, endpoint, expires, alternatives, lightning, observer, note
  alternatives: via, uri, endpoint

Examples:
  payjoind receive
  payjoind receive --via https
  payjoind receive --amount 250000 --expires 30m
  payjoind --json receive | jq -r .uri";

pub(crate) const QUEUE_HELP: &str = "\
Nothing is opened yet, but the peer is asked whether it takes the channel, and stays connected. What it refuses is not
queued; `terms` are what it asks for. The next payjoin payment funds as many queued channels as it can,
oldest first, all of them in one transaction, and one with each peer: many peers take no more at a time. Those that do
can be named in `[lightning] several_at_once`. A channel that fails goes back into the queue with the reason, behind the
others, and the payer still pays on chain.

`rest` is what the payment leaves after the other channels. With --absorb the channel takes payment and coin whole where it
can: nothing comes back whose amount shows an observer of the chain which coin was ours. Other channels wait for another
payment then, and other coins must hold the reserve.

The transaction must spend a confirmed coin of the wallet too: otherwise the payer alone could replace it by one that
pays the channel without any commitment signed for it. With an empty wallet the first payment therefore arrives on
chain. If you are the payer yourself, make the code with `payjoind receive --payer-is-me`.

JSON: intent, state, terms, note

Examples:
  payjoind channel queue 02ab..cd@203.0.113.7:9735 500000 --push 10000
  payjoind channel queue 02ab..cd@203.0.113.7:9735 rest --private
  payjoind channel queue 02ab..cd@203.0.113.7:9735 rest --absorb";

pub(crate) const CHANNELS_HELP: &str = "\
An intent is a channel that was asked for. Its states: queued, negotiating (a payer waits), released (the payer has the
transaction), confirming, open, closed, cancelled. `reason` says why an earlier attempt failed and what to do about it,
or why the channel closed; `said`, shown with --json only, has the peer's own words. `closing_txid` is the transaction that
closed it, once it is in a block. `waits` says why the next payment opens others first: a channel that failed three times
is paused, until its peer connects or for ten minutes and then ever longer.

`closing` are closed channels as long as not all of what is ours there is in the wallet; `needs_sat` is what to deposit
so that one of them closes fast. A channel is `fallen` where its peer has a later state than we: only he can close it.

JSON: intents, channels, closing
  intents: id, peer, amount, state, reason, said, waits, txid, vout, closing_txid
  channels: channel_id, peer, capacity_sat, outbound_msat, inbound_msat, usable, fallen, ready, funding, user_channel_id
  closing: channel_id, peer, funding, sat, needs_sat

Example:
  payjoind channel list";

pub(crate) const CLOSE_HELP: &str = "\
If the peer cooperates, the money is back in the wallet once the closing transaction confirms. --force does not need
the peer, but it takes hours to days and costs more.

JSON: channel_id, closing

Example:
  payjoind channel close 6f1e..09";

pub(crate) const BALANCE_HELP: &str = "\
`locked` is offered in payjoins or committed to payments, `reserve` is kept back to pay for closing channels when fees
are high, for `channels` of them, and `reserve_closing` of it for those that are closing now. `closable` is how many
channels the coins could close at once: each needs coins of its own, and where it is less than `channels`, one of them
may close slowly. `spendable` is what `locked` and `reserve` leave of `confirmed`. `unconfirmed` is in transactions that
no block has, `immature` comes from new blocks, `closing` is ours in channels that are closing.

JSON: confirmed_sat, unconfirmed_sat, immature_sat, locked_sat, reserve_sat, reserve_closing_sat, channels, closable, closing_sat, spendable_sat

Example:
  payjoind wallet balance --json";

pub(crate) const COINS_HELP: &str = "\
JSON: coins
  coins: outpoint, amount_sat, address, confirmations, locked

Example:
  payjoind wallet coins";

pub(crate) const CONNECT_HELP: &str = "\
Not needed for a queued channel: its peer is connected, and kept so, before the payment comes. The other addresses that
are known of the peer are tried, too: where it was reached before, where it was queued, what it announced. An address
that worked is kept until another one has worked. `note` says when the address that you gave was not the one that answered.

JSON: node_id, connected, note

Example:
  payjoind peer connect 02ab..cd@203.0.113.7:9735";

pub(crate) const PEERS_HELP: &str = "\
`address` is where the peer was reached last, or should be; `error` why it was not reached the last time.

JSON: peers
  peers: node_id, address, connected, error

Example:
  payjoind peer list";

pub(crate) const INVOICE_HELP: &str = "\
JSON: bolt11, payment_hash

Example:
  payjoind invoice 1500 --description coffee";

pub(crate) const PAY_HELP: &str = "\
An invoice is paid once. One that names no amount takes --amount.

JSON: preimage, fee_msat, status

Examples:
  payjoind pay lnbcrt15u1p...
  payjoind pay lnbcrt1p... --amount 1500";

pub(crate) const SHOW_HELP: &str = "\
JSON: id, invoice, state, original_txid, payjoin_txid, mined_txid, channels, partitions, reason, plain_sat, fallback_at, created, settled
  channels: intent, vout, amount

Example:
  payjoind exchange show 7";

pub(crate) const BUMP_HELP: &str = "\
For a payment that waits in a full mempool: a payjoin that its payer broadcast, or an Original that its payer sent as a
plain payment, or that was broadcast because no payjoin came. A child transaction spends what of it is ours (the payment,
or the change beside channels) to our own wallet and pays the fee of both (CPFP). Run the command again with a higher
rate to replace the child. A payjoin that is all channels has no output that a child could spend.

JSON: txid, fee_sat

Example:
  payjoind exchange bump 7 --fee-rate 30";

pub(crate) const EXCHANGES_HELP: &str = "\
States: admitted (it runs), failed (no proposal left; the Original is broadcast at `fallback_at` if the payer does not
come back), released (the payer has a proposal), plain (an ordinary wallet paid the code's address), settled (an outcome is
buried: payjoin, original, conflict or plain; `gone` is a plain payment that left the mempool for good). `plain_sat` is what
such a payment pays.
`mined_txid` is the transaction that was mined: one of the two, another that pays the code in full (`original`, too), or
one that takes the payment back (`conflict`). `payjoin_txid` is empty while the payer's signatures may still change it.
`reason` says why there is no proposal, or why a payment opened none of the queued channels. `partitions` counts the ways in which
the amounts of the payjoin alone can be split into two who pay: in 1, an observer of the chain can tell payer and receiver
apart; in 0 it looks like the payment of one wallet. It is empty where that was not counted.

JSON: exchanges
  exchanges: id, invoice, state, original_txid, payjoin_txid, mined_txid, channels, partitions, reason, plain_sat, fallback_at, created, settled

Example:
  payjoind exchange list --limit 1000 --json";

pub(crate) const INIT_HELP: &str = "\
Finds bitcoind's cookie, the socket of a Core Lightning that answers and the files of an LND where this user has them,
asks what it cannot know, and writes DATADIR/payjoind.toml: never over one that is there. The folder gets mode 700, the
file 600.

JSON: file, network, backend, next

Examples:
  payjoind init
  payjoind init --yes --network signet --backend cln";

pub(crate) const DOCTOR_HELP: &str = "\
Needs no daemon, and changes nothing. `state` is good, warning or trouble; `healthy` is false, and the exit code 1, where
something is trouble. Arguments are those of `run`.

JSON: healthy, findings
  findings: check, state, text

Examples:
  payjoind doctor
  payjoind doctor --json | jq -r '.findings[] | select(.state != \"good\") | .text'";

pub(crate) const RESCUE_HELP: &str = "\
For a database that `run` refuses. Needs no daemon and changes nothing. Each transaction is a payment to you, signed by
its payer, that may not have been broadcast yet. `unreadable` lists exchanges on damaged pages.

JSON: originals, unreadable
  originals: exchange, txid, hex

Example:
  payjoind --json rescue | jq -r '.originals[].hex' | xargs -n 1 bitcoin-cli sendrawtransaction";

pub(crate) const STATUS_HELP: &str = "\
`obligations` counts payments to us that are not buried yet, `payments` those of ours: do not delete the datadir before
both are 0. In `tor`, `percent` and `blocked` tell how far the connection to Tor has come, `reachable` and `problem`
whether payers can reach our onion service. `height` is the last block that was dealt with, `bitcoind_height` that of
bitcoind, null when it does not answer. `chain_error` says why no block has arrived for a minute although bitcoind has
one, `lightning_error` why the Lightning node does not answer that is a program of its own, `database_error` that the
database is an older copy, and what to do: nothing new is offered then.
`seed_warning` says what looks as if another node ran with the same seed, `certificate_warning` that the TLS certificate
ends in two weeks or has ended, `fee_warning` that bitcoind estimates no fees, and what is paid instead. While a start waits for blocks, what is due is
sent, and of these only version, network, bitcoind_height, chain_error, obligations and payments are there.

JSON: version, node_id, network, height, bitcoind_height, chain_error, lightning_error, database_error, seed_warning, certificate_warning, fee_warning, http, endpoint, tor, lightning, peers, channels, obligations, payments
  tor: percent, ready, blocked, endpoint, reachable, problem

Example:
  payjoind status --json";

pub(crate) const SEND_HELP: &str = "\
A code is paid once: run the same command again to see what became of the payment (`earlier` is true then). To pay the
same amount to the same address once more, add --again. If the receiver is offline, the daemon waits in the background, also after a restart; after [payjoin] patience_hours it makes the plain payment. `status`
is pending, payjoin or original (the plain payment); `reason` says why it is not a payjoin.

JSON: status, txid, fee_sat, reason, earlier

Examples:
  payjoind send bc1q.. --amount 100000
  payjoind send 'bitcoin:bc1q..?amount=0.001&pj=https://..' --fee-rate 5";

pub(crate) const SESSIONS_HELP: &str = "\
JSON: sessions
  sessions: invoice, state, directory, expires, uri

Example:
  payjoind session list";

pub(crate) const SESSION_HELP: &str = "\
States: waiting, received (a payer's message is here), answered (the directory has our proposal), refused, unreadable,
expired, cancelled.

JSON: invoice, state, directory, expires, uri

Example:
  payjoind session show zn3fix7bxwaa3se3x25yw5ma6h";

pub(crate) const SESSION_CANCEL_HELP: &str = "\
The address stays ours: a plain payment to it still arrives.

JSON: invoice, cancelled

Example:
  payjoind session cancel zn3fix7bxwaa3se3x25yw5ma6h";

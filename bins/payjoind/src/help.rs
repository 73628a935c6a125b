//! What `--help` teaches after the options: meaning, the fields of the JSON answer, an example.

/// Heading of the options that every command has.
pub(crate) const COMMON: &str = "Options of every command";

pub(crate) const FIRST_STEPS: &str = "\
First steps:
  payjoind run                                     start the daemon; `payjoind run --help` shows its settings
  payjoind channel queue NODE_ID@HOST:PORT 500000  ask for a channel
  payjoind receive                                 show the code to pay; the payment opens the channel

A command that fails exits with 1 and says why, with --json as {\"error\": \"...\"}. Amounts are in satoshis.";

pub(crate) const RUN_HELP: &str = "\
Settings come from DATADIR/payjoind.toml; environment and flags stand above it. A whole file:

  network = \"signet\"                              # the default: this is not for mainnet yet
  [bitcoind]                                       # default: the cookie of a bitcoind on this machine
  url = \"http://127.0.0.1:38332\"
  [lightning]
  listen = \"0.0.0.0:9735\"                        # without it we only connect outwards
  min_inbound = 100000                             # smallest channel that a peer may open to us
  max_inbound = 10                                 # each that peers opened keeps about 34,000 sat of our coins back
  # birthday = 850000                              # only after a restore: the block where the old seed began
  [payjoin]                                        # payers reach us through these: no port, no certificate
  directories = [\"https://directory.example\"]
  ohttp_relays = [\"https://relay.example\"]
  [http]                                           # or payers reach our own server
  listen = \"0.0.0.0:443\"
  certificate = \"fullchain.pem\"                  # relative to DATADIR
  key = \"privkey.pem\"
  public_endpoint = \"https://pay.example.com\"    # what payers see
  # Behind a TLS proxy or a Tor daemon of yours, instead of listen, certificate and key:
  # plain_listen = \"127.0.0.1:8080\"               # or \"unix:/run/payjoind/payers.sock\"
  [tor]                                            # or payers reach our onion service: no port either
  enabled = true                                   # keep a copy of DATADIR/tor/state: it holds the address
  # only = true                                    # everything goes through Tor, bitcoind on this machine excepted
  [policy]
  max_fee = 50000                                  # most that we add to one payment for fees
  fallback_seconds = 600                           # then the plain payment is broadcast

DATADIR/seed holds twelve words: write them down. DATADIR/payjoind.sqlite holds channels and promises: never restore
an old copy of it. With the seed alone and `birthday` the coins are found again, the channels are not. Steps of each
payment go to standard output, the log to standard error; PAYJOIND_LOG=debug shows more of it. Ctrl-C and SIGTERM stop
after the exchanges in flight.

Example:
  payjoind --datadir ~/.payjoind run --network regtest";

pub(crate) const RECEIVE_HELP: &str = "\
Show the code to the payer. A wallet that knows payjoin opens the queued channels by paying it; any other wallet
makes a plain payment to the address. Each code is for one payment.

Through a directory (BIP 77) the payer can pay while we are offline, and we need no open port; through https or onion
(BIP 78) our own server answers. Without --via it is the first that is configured, in this order; when no directory
answers, the next. `via` tells which. Where our server has both https and onion, `alternatives` holds the other code for
the same payment. A `public_endpoint` of a Tor daemon counts as onion. At a directory a code lasts no longer than
[payjoin] session_hours. When it expires and a payer's message is here that was not answered, the plain payment in it is
broadcast.

JSON: uri, address, invoice, amount_sat, via, endpoint, expires, alternatives
  alternatives: via, uri, endpoint

Examples:
  payjoind receive
  payjoind receive --via https
  payjoind receive --amount 250000 --expires 30m
  payjoind --json receive | jq -r .uri";

pub(crate) const QUEUE_HELP: &str = "\
Nothing is opened yet, but the peer is connected. The next payjoin payment funds as many queued channels as it can,
oldest first, all of them in one transaction. A channel that fails goes back into the queue with the reason, behind the
others, and the payer still pays on chain.

JSON: intent, state

Examples:
  payjoind channel queue 02ab..cd@203.0.113.7:9735 500000 --push 10000
  payjoind channel queue 02ab..cd@203.0.113.7:9735 rest --private";

pub(crate) const CHANNELS_HELP: &str = "\
States of an intent: queued, negotiating (a payer waits), released (the payer has the transaction), confirming, open,
cancelled. `reason` says why an earlier attempt came back.

JSON: intents, channels
  intents: id, peer, amount, state, reason, txid, vout
  channels: channel_id, peer, capacity_sat, outbound_msat, inbound_msat, usable, ready, funding, user_channel_id

Example:
  payjoind channel list";

pub(crate) const CLOSE_HELP: &str = "\
With the peer's help the money is back in the wallet once the closing transaction confirms. --force does not need the
peer, but takes hours to days and costs more.

JSON: channel_id, closing

Example:
  payjoind channel close 6f1e..09";

pub(crate) const BALANCE_HELP: &str = "\
`locked` is offered or committed in payjoins, `reserve` is kept to close channels in bad times, `spendable` is what is
left of `confirmed` after both.

JSON: confirmed_sat, unconfirmed_sat, locked_sat, reserve_sat, spendable_sat

Example:
  payjoind wallet balance --json";

pub(crate) const COINS_HELP: &str = "\
JSON: coins
  coins: outpoint, amount_sat, address, confirmations, locked

Example:
  payjoind wallet coins";

pub(crate) const CONNECT_HELP: &str = "\
Not needed for a queued channel: its peer is connected, and kept so, before the payment comes.

JSON: node_id, connected

Example:
  payjoind peer connect 02ab..cd@203.0.113.7:9735";

pub(crate) const INVOICE_HELP: &str = "\
JSON: bolt11, payment_hash

Example:
  payjoind invoice 1500 --description coffee";

pub(crate) const PAY_HELP: &str = "\
JSON: preimage, fee_msat, status

Example:
  payjoind pay lnbcrt15u1p...";

pub(crate) const SHOW_HELP: &str = "\
JSON: id, invoice, state, original_txid, payjoin_txid, channels, reason, fallback_at, created, settled

Example:
  payjoind exchange show 7";

pub(crate) const BUMP_HELP: &str = "\
For a payment that waits in a full mempool: a payjoin, with or without channels, that its payer broadcast, or an Original
that its payer sent plainly or that was broadcast when the payjoin did not come. A child spends what of it is ours (the
payment, or the change beside channels) to our own wallet and pays the miner for both. Again with a higher rate replaces
the child. A payjoin that is all channels has nothing that a child could spend.

JSON: txid, fee_sat

Example:
  payjoind exchange bump 7 --fee-rate 30";

pub(crate) const EXCHANGES_HELP: &str = "\
States: admitted (it runs), failed (no proposal left; the Original is broadcast at `fallback_at` if the payer does not
come back), released (the payer has a proposal), settled (an outcome is buried: payjoin, original or conflict).

JSON: exchanges
  exchanges: id, invoice, state, original_txid, payjoin_txid, channels, reason, fallback_at, created, settled

Example:
  payjoind exchange list --limit 1000 --json";

pub(crate) const RESCUE_HELP: &str = "\
Needs no daemon and changes nothing: for a database that `run` refuses. Each transaction is a payment to you that its
payer signed, and that nobody may have broadcast yet. `unreadable` are exchanges on damaged pages.

JSON: originals, unreadable
  originals: exchange, txid, hex

Example:
  payjoind --json rescue | jq -r '.originals[].hex' | xargs -n 1 bitcoin-cli sendrawtransaction";

pub(crate) const STATUS_HELP: &str = "\
`obligations` counts payments that are not buried yet: do not delete the datadir before it is 0. In `tor`, `percent`
and `blocked` tell of the way into Tor, `reachable` and `problem` of payers' way to our onion service.

JSON: version, node_id, network, height, http, endpoint, tor, lightning, peers, channels, obligations, payments
  tor: percent, ready, blocked, endpoint, reachable, problem

Example:
  payjoind status --json";

pub(crate) const SEND_HELP: &str = "\
Tells which of the two was paid and why. A code is paid once: run the command again to see what became of it. While a
receiver who is offline is waited for, the daemon goes on in the background, also after a restart; when the time in
[payjoin] session_hours is over, it pays plainly. `status` is pending, payjoin or original; `reason` says why it is not
a payjoin.

JSON: status, txid, fee_sat, reason

Example:
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

//! What `--help` says after the options: meaning, the fields of the JSON answer, an example.

/// Heading of the options that every command has.
pub(crate) const COMMON: &str = "Options of every command";

pub(crate) const FIRST_STEPS: &str = "\
First steps:
  payjoind run                                     start the daemon; `payjoind run --help` shows its settings
  payjoind channel queue NODE_ID@HOST:PORT 500000  ask for a channel
  payjoind receive                                 show the code to pay; the payment opens the channel

A command that fails says why on standard error and exits with 1, or with 2 when the command line itself is wrong.
With --json the reason is {\"error\": \"...\"} on standard output, and times are seconds since 1970. Amounts are in
satoshis.";

pub(crate) const RUN_HELP: &str = r#"Settings come from DATADIR/payjoind.toml. Environment variables override the file,
flags override both. An example; settings behind # have these values by default, unless the comment says otherwise:

  network = "signet"                            # the default: this is not for mainnet yet
  [bitcoind]                                    # default: a bitcoind of this user, by its cookie file
  url = "http://127.0.0.1:38332"
  # cookie = "/var/lib/bitcoind/signet/.cookie" # or `user` and `password`
  [lightning]
  listen = "0.0.0.0:9735"                       # without it we only connect outwards
  min_inbound = 100000                          # smallest channel that a peer may open to us, in sat
  max_inbound = 10                              # for each of these, about 34,000 sat of our coins are kept back
  # min_depth = 3                               # confirmations before we use a channel that a peer opened
  # poll_ms = 1000                              # time between looks at the chain, in milliseconds
  # birthday = 850000                           # only after a restore: the block from which to look for coins
  [payjoin]                                     # payers reach us through these: no port, no certificate
  directories = ["https://directory.example"]
  ohttp_relays = ["https://relay.example"]
  # session_hours = 24                          # longest life of a code there, and how long payments of ours wait
  # socks = "127.0.0.1:9050"                    # a proxy for relays, directories and receivers; no default
  # root_certificate = "ca.der"                 # to trust besides the public authorities; no default
  [http]                                        # or payers reach our own server
  listen = "0.0.0.0:443"
  certificate = "fullchain.pem"                 # relative to DATADIR
  key = "privkey.pem"
  public_endpoint = "https://pay.example.com"   # what payers see
  # rate_per_minute = 5                         # requests from one address or onion circuit; 0 for no limit
  # Behind a TLS proxy or a Tor daemon of yours, instead of listen, certificate and key:
  # plain_listen = "127.0.0.1:8080"             # or "unix:/run/payjoind/payers.sock"
  [tor]                                         # or payers reach our onion service: no port either
  enabled = true                                # keep a copy of DATADIR/tor/state: it holds the address
  # only = false                                # true: all goes through Tor, but for bitcoind on this machine
  [policy]
  max_fee = 50000                               # most that we pay in fees for one payment, in sat
  fallback_seconds = 600                        # the plain payment is broadcast after this time
  # min_fee_rate = 1                            # payments below it get no payjoin, in sat/vB
  # max_fee_rate = 100                          # most that we pay for our inputs and outputs, in sat/vB
  # top_up = true                               # coins of ours may make up for a payment smaller than the channels
  # channel_seconds = 20                        # for the Lightning part of one payment
  # exchange_seconds = 50                       # for all of it, until the payer has our proposal
  # offers_per_invoice = 4                      # proposals with coins of ours; after them only without
  # burial = 6                                  # confirmations after which a payment is settled

DATADIR/seed holds twelve words: write them down. DATADIR/payjoind.sqlite holds the channels and what is owed to
payers: never restore an old copy of it. The seed alone, with `birthday`, brings the coins back, but not the channels.
The steps of each payment go to standard output, the log to standard error; PAYJOIND_LOG=debug shows more of it.
Ctrl-C and SIGTERM stop the daemon once the exchanges in flight are done.

Example:
  payjoind --datadir ~/.payjoind run --network regtest"#;

pub(crate) const RECEIVE_HELP: &str = "\
Show the code to the payer. A wallet that knows payjoin opens the queued channels by paying it; any other wallet
makes a plain payment to the address. Each code is for one payment.

Through a directory (BIP 77) the payer can pay while we are offline, and we need no open port; through https or onion
(BIP 78) our own server answers. Without --via, the code uses the first of these three that is configured, and the next
one if no directory answers; `via` tells which. Where our server has both https and onion, `alternatives` holds the
other code for the same payment. A `public_endpoint` with an onion address counts as onion. At a directory a code lasts
no longer than [payjoin] session_hours. If a payer's message was not answered before the code expires, the plain payment
in it is broadcast.

A channel needs a confirmed coin of the wallet beside the payment. `note` says so when there is none: then the payment
arrives on chain, and the next one opens channels.

JSON: uri, address, invoice, amount_sat, via, endpoint, expires, alternatives, note
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

The transaction must spend a confirmed coin of the wallet too: otherwise the payer alone could replace it by one that
pays the channel without any commitment signed for it. With an empty wallet the first payment therefore arrives on
chain. If you are the payer yourself, --payer-is-me opens the channel at once.

JSON: intent, state

Examples:
  payjoind channel queue 02ab..cd@203.0.113.7:9735 500000 --push 10000
  payjoind channel queue 02ab..cd@203.0.113.7:9735 rest --private";

pub(crate) const CHANNELS_HELP: &str = "\
An intent is a channel that was asked for. Its states: queued, negotiating (a payer waits), released (the payer has the
transaction), confirming, open (or closed since), cancelled. `reason` says why an earlier attempt failed.

JSON: intents, channels
  intents: id, peer, amount, state, reason, txid, vout
  channels: channel_id, peer, capacity_sat, outbound_msat, inbound_msat, usable, ready, funding, user_channel_id

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
are high, `spendable` is what both leave of `confirmed`.

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
come back), released (the payer has a proposal), settled (an outcome is buried: payjoin, original or conflict).
`reason` says why there is no proposal, or why a payment opened none of the queued channels.

JSON: exchanges
  exchanges: id, invoice, state, original_txid, payjoin_txid, channels, reason, fallback_at, created, settled

Example:
  payjoind exchange list --limit 1000 --json";

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
bitcoind, null when it does not answer.

JSON: version, node_id, network, height, bitcoind_height, http, endpoint, tor, lightning, peers, channels, obligations, payments
  tor: percent, ready, blocked, endpoint, reachable, problem

Example:
  payjoind status --json";

pub(crate) const SEND_HELP: &str = "\
A code is paid once: run the same command again to see what became of the payment. If the receiver is offline, the
daemon waits in the background, also after a restart; after [payjoin] session_hours it makes the plain payment. `status`
is pending, payjoin or original (the plain payment); `reason` says why it is not a payjoin.

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

//! The command line. The same types travel over the control socket, so a command is defined once.

use std::path::PathBuf;

use bitcoin::Network;
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

/// Turns incoming payments into Lightning channels: a payjoin receiver with a Lightning node inside.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, arg_required_else_help = true, after_help = FIRST_STEPS)]
pub(crate) struct Cli {
    /// Folder with the configuration, the seed and the database.
    #[arg(long, env = "PAYJOIND_DATADIR", default_value = "~/.payjoind", global = true, help_heading = COMMON)]
    pub(crate) datadir: PathBuf,
    /// Print one JSON object instead of text (for `run`: one line per step).
    #[arg(long, global = true, help_heading = COMMON)]
    pub(crate) json: bool,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Heading of the options that every command has.
const COMMON: &str = "Options of every command";

const FIRST_STEPS: &str = "\
First steps:
  payjoind run                                     start the daemon; `payjoind run --help` shows its settings
  payjoind channel queue NODE_ID@HOST:PORT 500000  ask for a channel
  payjoind receive                                 show the code to pay; the payment opens the channel

A command that fails exits with 1 and says why, with --json as {\"error\": \"...\"}. Amounts are in satoshis.";

const RUN_HELP: &str = "\
Settings come from DATADIR/payjoind.toml; environment and flags stand above it. A whole file:

  network = \"bitcoin\"
  [bitcoind]                                       # default: the cookie of a bitcoind on this machine
  url = \"http://127.0.0.1:8332\"
  [lightning]
  listen = \"0.0.0.0:9735\"                        # without it we only connect outwards
  [http]                                           # where payers send their payments
  listen = \"0.0.0.0:443\"
  certificate = \"fullchain.pem\"                  # relative to DATADIR
  key = \"privkey.pem\"
  public_endpoint = \"https://pay.example.com\"    # what payers see
  # Behind a TLS proxy or onion service of yours, instead of listen, certificate and key:
  # plain_listen = \"127.0.0.1:8080\"
  [policy]
  max_fee = 50000                                  # most that we add to one payment for fees
  fallback_seconds = 600                           # then the plain payment is broadcast

DATADIR/seed holds twelve words: write them down. DATADIR/payjoind.sqlite holds channels and promises: never restore
an old copy of it. Steps of each payment go to standard output, the log to standard error; PAYJOIND_LOG=debug shows
more of it. Ctrl-C and SIGTERM stop after the exchanges in flight.

Example:
  payjoind --datadir ~/.payjoind run --network regtest";

const RECEIVE_HELP: &str = "\
Show the code to the payer. A wallet that knows payjoin opens the queued channels by paying it; any other wallet
makes a plain payment to the address. Each code is for one payment.

Through a directory (BIP 77) the payer can pay while we are offline, and we need no open port; through https (BIP 78)
our own server answers. Without --via it is what is configured, directory first.

JSON: uri, address, invoice, amount_sat, via, endpoint, expires

Examples:
  payjoind receive
  payjoind receive --via https
  payjoind receive --amount 250000
  payjoind --json receive | jq -r .uri";

const QUEUE_HELP: &str = "\
Nothing is opened yet: the next payjoin payment funds as many queued channels as it can, oldest first, all of them in
one transaction. A channel that fails goes back into the queue with the reason, and the payer still pays on chain.

JSON: intent, state

Examples:
  payjoind channel queue 02ab..cd@203.0.113.7:9735 500000 --push 10000
  payjoind channel queue 02ab..cd@203.0.113.7:9735 rest --private";

const CHANNELS_HELP: &str = "\
States of an intent: queued, negotiating (a payer waits), released (the payer has the transaction), confirming, open,
cancelled. `reason` says why an earlier attempt came back.

JSON: intents, channels
  intents: id, peer, amount, state, reason, txid, vout
  channels: channel_id, peer, capacity_sat, outbound_msat, inbound_msat, usable, ready, funding, user_channel_id

Example:
  payjoind channel list";

const CLOSE_HELP: &str = "\
With the peer's help the money is back in the wallet once the closing transaction confirms. --force does not need the
peer, but takes hours to days and costs more.

JSON: channel_id, closing

Example:
  payjoind channel close 6f1e..09";

const BALANCE_HELP: &str = "\
`locked` is offered or committed in payjoins, `reserve` is kept to close channels in bad times, `spendable` is what is
left of `confirmed` after both.

JSON: confirmed_sat, unconfirmed_sat, locked_sat, reserve_sat, spendable_sat

Example:
  payjoind wallet balance --json";

const COINS_HELP: &str = "\
JSON: coins
  coins: outpoint, amount_sat, address, confirmations, locked

Example:
  payjoind wallet coins";

const CONNECT_HELP: &str = "\
Not needed before `channel queue`: peers are connected when a payment comes.

JSON: node_id, connected

Example:
  payjoind peer connect 02ab..cd@203.0.113.7:9735";

const INVOICE_HELP: &str = "\
JSON: bolt11, payment_hash

Example:
  payjoind invoice 1500 --description coffee";

const PAY_HELP: &str = "\
JSON: preimage, fee_msat, status

Example:
  payjoind pay lnbcrt15u1p...";

const SHOW_HELP: &str = "\
JSON: id, invoice, state, original_txid, payjoin_txid, channels, reason, fallback_at, created, settled

Example:
  payjoind exchange show 7";

const EXCHANGES_HELP: &str = "\
States: admitted (it runs), failed (no proposal left; the Original is broadcast at `fallback_at` if the payer does not
come back), released (the payer has a proposal), settled (an outcome is buried: payjoin, original or conflict).

JSON: exchanges
  exchanges: id, invoice, state, original_txid, payjoin_txid, channels, reason, fallback_at, created, settled

Example:
  payjoind exchange list --json";

const STATUS_HELP: &str = "\
`obligations` counts payments that are not buried yet: do not delete the datadir before it is 0.

JSON: version, node_id, network, height, http, endpoint, lightning, peers, channels, obligations

Example:
  payjoind status --json";

/// Every command; all but `run` are answered by the running daemon.
#[derive(Debug, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Command {
    /// Run the daemon in the foreground.
    #[command(after_help = RUN_HELP)]
    #[serde(skip)]
    Run(RunArgs),
    /// Make a BIP 21 code. Without an amount it asks for what the queued channels need.
    #[command(after_help = RECEIVE_HELP)]
    Receive(ReceiveArgs),
    /// Pay a BIP 21 code: by payjoin if the receiver offers it, v1 or v2, and plainly if not.
    #[command(after_help = SEND_HELP)]
    Send(SendArgs),
    /// Queue, list, cancel and close channels.
    #[command(subcommand)]
    Channel(ChannelCommand),
    /// The node's on-chain wallet.
    #[command(subcommand)]
    Wallet(WalletCommand),
    /// Lightning peers.
    #[command(subcommand)]
    Peer(PeerCommand),
    /// Make a BOLT 11 invoice, good for one hour.
    #[command(after_help = INVOICE_HELP)]
    Invoice(InvoiceArgs),
    /// Pay a BOLT 11 invoice and wait for the outcome.
    #[command(after_help = PAY_HELP)]
    Pay {
        /// The invoice.
        bolt11: String,
    },
    /// Payjoin exchanges, past and present.
    #[command(subcommand)]
    Exchange(ExchangeCommand),
    /// Mailboxes at directories.
    #[command(subcommand)]
    Session(SessionCommand),
    /// What the daemon is doing.
    #[command(after_help = STATUS_HELP)]
    Status,
    /// Stop the daemon after the exchanges in flight.
    #[command(
        after_help = "Returns when the daemon has ended.\n\nJSON: stopped\n\nExample:\n  payjoind stop"
    )]
    Stop,
}

/// Settings of `run` that stand above the configuration file.
#[derive(Debug, Default, Args)]
pub(crate) struct RunArgs {
    /// Bitcoin network: bitcoin, testnet4, signet or regtest.
    #[arg(long, env = "PAYJOIND_NETWORK")]
    pub(crate) network: Option<Network>,
    /// JSON-RPC address of bitcoind.
    #[arg(long, env = "PAYJOIND_BITCOIND_URL", value_name = "URL")]
    pub(crate) bitcoind_url: Option<String>,
    /// Cookie file of bitcoind.
    #[arg(long, env = "PAYJOIND_BITCOIND_COOKIE", value_name = "FILE")]
    pub(crate) bitcoind_cookie: Option<PathBuf>,
    /// Address for Lightning peers.
    #[arg(long, env = "PAYJOIND_LIGHTNING_LISTEN", value_name = "IP:PORT")]
    pub(crate) lightning_listen: Option<std::net::SocketAddr>,
    /// Address for payers (TLS).
    #[arg(long, env = "PAYJOIND_HTTP_LISTEN", value_name = "IP:PORT")]
    pub(crate) http_listen: Option<std::net::SocketAddr>,
}

/// Arguments of `receive`.
#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct ReceiveArgs {
    /// Amount in satoshis. Default: the queued channels, the reserve the wallet lacks and our share of the fees.
    #[arg(long, value_name = "SAT")]
    pub(crate) amount: Option<u64>,
    /// Hours until no new payjoin is begun for this code. The address stays ours.
    #[arg(long, value_name = "HOURS", default_value_t = 24)]
    pub(crate) expires: u64,
    /// How the payer reaches us.
    #[arg(long)]
    pub(crate) via: Option<Via>,
}

/// How a payer reaches us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Via {
    /// A mailbox at a BIP 77 directory, behind OHTTP relays.
    Directory,
    /// Our own server, BIP 78.
    Https,
}

const SEND_HELP: &str = "\
Tells which of the two was paid and why. A code is paid once: run the command again to see what became of it. While a
receiver who is offline is waited for, the daemon goes on in the background, also after a restart; when the time in
[payjoin] session_hours is over, it pays plainly.

Example:
  payjoind send 'bitcoin:bc1q..?amount=0.001&pj=https://..' --fee-rate 5";

/// Arguments of `send`.
#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct SendArgs {
    /// The code, with an amount.
    #[arg(value_name = "BIP21")]
    pub(crate) uri: String,
    /// Fee rate. Default: what confirms within six blocks.
    #[arg(long, value_name = "SAT/VB", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) fee_rate: Option<u32>,
    /// How long to wait for the outcome before leaving it to the background.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) wait: u64,
}

/// `channel …`
#[derive(Debug, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ChannelCommand {
    /// Ask for a channel; the next payments open it.
    #[command(after_help = QUEUE_HELP)]
    Queue(QueueArgs),
    /// Queued intents and live channels.
    #[command(after_help = CHANNELS_HELP)]
    List,
    /// Withdraw a queued intent, before a payment takes it.
    #[command(after_help = "JSON: intent, state\n\nExample:\n  payjoind channel cancel 3")]
    Cancel {
        /// The intent's number.
        intent: u64,
    },
    /// Close a live channel.
    #[command(after_help = CLOSE_HELP)]
    Close {
        /// The channel id, as `channel list` shows it.
        channel: String,
        /// Close on chain without the peer.
        #[arg(long)]
        force: bool,
    },
}

/// Arguments of `channel queue`.
#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct QueueArgs {
    /// NODE_ID@HOST:PORT
    pub(crate) peer: String,
    /// Satoshis, or `rest` for what the payment leaves after the other channels.
    pub(crate) amount: String,
    /// Satoshis of the channel that are the peer's from the start: a gift.
    #[arg(long, value_name = "SAT", default_value_t = 0)]
    pub(crate) push: u64,
    /// Do not announce the channel to the network.
    #[arg(long)]
    pub(crate) private: bool,
    /// The payer is the operator: allow the channel although the wallet has no coin of its own to add.
    #[arg(long)]
    pub(crate) payer_is_me: bool,
}

/// `wallet …`
#[derive(Debug, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WalletCommand {
    /// A fresh address.
    #[command(after_help = "JSON: address\n\nExample:\n  payjoind wallet address")]
    Address,
    /// What the wallet holds.
    #[command(after_help = BALANCE_HELP)]
    Balance,
    /// Every confirmed coin.
    #[command(after_help = COINS_HELP)]
    Coins,
}

/// `peer …`
#[derive(Debug, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PeerCommand {
    /// Connect to a peer.
    #[command(after_help = CONNECT_HELP)]
    Connect {
        /// NODE_ID@HOST:PORT
        peer: String,
    },
    /// Connected peers.
    #[command(after_help = "JSON: peers\n  peers: node_id, address\n\nExample:\n  payjoind peer list")]
    List,
}

/// Arguments of `invoice`.
#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct InvoiceArgs {
    /// Amount in satoshis.
    pub(crate) amount: u64,
    /// What it is for; the payer sees it.
    #[arg(long, default_value = "")]
    pub(crate) description: String,
}

/// `exchange …`
#[derive(Debug, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ExchangeCommand {
    /// The latest exchanges.
    #[command(after_help = EXCHANGES_HELP)]
    List,
    /// One exchange.
    #[command(after_help = SHOW_HELP)]
    Show {
        /// Its number.
        exchange: u64,
    },
}

const SESSIONS_HELP: &str = "\
JSON: sessions
  sessions: invoice, state, directory, expires, uri

Example:
  payjoind session list";

const SESSION_HELP: &str = "\
States: waiting, received (a payer's message is here), answered (the directory has our proposal), refused, unreadable,
expired, cancelled.

JSON: invoice, state, directory, expires, uri

Example:
  payjoind session show zn3fix7bxwaa3se3x25yw5ma6h";

const SESSION_CANCEL_HELP: &str = "\
The address stays ours: a plain payment to it still arrives.

JSON: invoice, cancelled

Example:
  payjoind session cancel zn3fix7bxwaa3se3x25yw5ma6h";

/// `session …`
#[derive(Debug, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SessionCommand {
    /// Open sessions.
    #[command(after_help = SESSIONS_HELP)]
    List,
    /// One session, open or ended.
    #[command(after_help = SESSION_HELP)]
    Show {
        /// Its invoice.
        invoice: String,
    },
    /// Give an open session up.
    #[command(after_help = SESSION_CANCEL_HELP)]
    Cancel {
        /// Its invoice.
        invoice: String,
    },
}

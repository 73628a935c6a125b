//! The command line. The same types travel over the control socket, so a command is defined once.

use std::path::PathBuf;

use bitcoin::Network;
use clap::{Args, Parser, Subcommand};
use serde::{Deserialize, Serialize};

/// Turns incoming payments into Lightning channels: a payjoin receiver with a Lightning node inside.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, arg_required_else_help = true, after_help = FIRST_STEPS)]
pub(crate) struct Cli {
    /// Folder with the configuration, the seed and the database.
    #[arg(long, env = "PAYJOIND_DATADIR", default_value = "~/.payjoind", global = true)]
    pub(crate) datadir: PathBuf,
    /// Print one JSON object instead of text (for `run`: one line per step).
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

const FIRST_STEPS: &str = "\
First steps:
  payjoind run                                     start the daemon (reads DATADIR/payjoind.toml)
  payjoind channel queue NODE_ID@HOST:PORT 500000  ask for a channel
  payjoind receive                                 show the code to pay; the payment opens the channel";

/// Every command; all but `run` are answered by the running daemon.
#[derive(Debug, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Command {
    /// Run the daemon in the foreground.
    #[command(after_help = "Example:\n  payjoind --datadir ~/.payjoind run --network regtest")]
    #[serde(skip)]
    Run(RunArgs),
    /// Make a BIP 21 code. Without an amount it asks for what the queued channels need.
    #[command(
        after_help = "Examples:\n  payjoind receive --amount 250000\n  payjoind --json receive | jq -r .uri"
    )]
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
    /// Make a BOLT 11 invoice.
    #[command(after_help = "Example:\n  payjoind invoice 1500 --description coffee")]
    Invoice(InvoiceArgs),
    /// Pay a BOLT 11 invoice and wait for the outcome.
    #[command(after_help = "Example:\n  payjoind pay lnbcrt15u1p...")]
    Pay {
        /// The invoice.
        bolt11: String,
    },
    /// Payjoin exchanges, past and present.
    #[command(subcommand)]
    Exchange(ExchangeCommand),
    /// What the daemon is doing.
    #[command(after_help = "Example:\n  payjoind status --json")]
    Status,
    /// Stop the daemon after the exchanges in flight.
    #[command(after_help = "Example:\n  payjoind stop")]
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
    #[command(
        after_help = "Examples:\n  payjoind channel queue 02ab..cd@203.0.113.7:9735 500000 --push 10000\n  \
                            payjoind channel queue 02ab..cd@203.0.113.7:9735 rest --private"
    )]
    Queue(QueueArgs),
    /// Queued intents and live channels.
    #[command(after_help = "Example:\n  payjoind channel list")]
    List,
    /// Withdraw a queued intent.
    #[command(after_help = "Example:\n  payjoind channel cancel 3")]
    Cancel {
        /// The intent's number.
        intent: u64,
    },
    /// Close a live channel.
    #[command(after_help = "Example:\n  payjoind channel close 6f1e..09")]
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
    /// Satoshis given to the peer at the start.
    #[arg(long, value_name = "SAT", default_value_t = 0)]
    pub(crate) push: u64,
    /// Do not announce the channel.
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
    #[command(after_help = "Example:\n  payjoind wallet address")]
    Address,
    /// What the wallet holds.
    #[command(after_help = "Example:\n  payjoind wallet balance --json")]
    Balance,
    /// Every coin.
    #[command(after_help = "Example:\n  payjoind wallet coins")]
    Coins,
}

/// `peer …`
#[derive(Debug, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PeerCommand {
    /// Connect to a peer.
    #[command(after_help = "Example:\n  payjoind peer connect 02ab..cd@203.0.113.7:9735")]
    Connect {
        /// NODE_ID@HOST:PORT
        peer: String,
    },
    /// Connected peers.
    #[command(after_help = "Example:\n  payjoind peer list")]
    List,
}

/// Arguments of `invoice`.
#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct InvoiceArgs {
    /// Amount in satoshis.
    pub(crate) amount: u64,
    /// What it is for.
    #[arg(long, default_value = "")]
    pub(crate) description: String,
}

/// `exchange …`
#[derive(Debug, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ExchangeCommand {
    /// The latest exchanges.
    #[command(after_help = "Example:\n  payjoind exchange list --json")]
    List,
    /// One exchange.
    #[command(after_help = "Example:\n  payjoind exchange show 7")]
    Show {
        /// Its number.
        exchange: u64,
    },
}

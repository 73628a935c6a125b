//! The command line.

mod receive;
mod seen;
mod token;

use std::path::PathBuf;

use bitcoin::Network;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use payjoin_node::settings::Kind;
use payjoin_node::{Recover, SatPerVb};

use crate::config;
use crate::help::{self, *};
pub(crate) use token::TokenCommand;

mod channel;

pub(crate) use channel::ChannelCommand;
pub(crate) use receive::{ReceiveArgs, Via};
#[cfg(test)]
pub(crate) use seen::Until;
pub(crate) use seen::{EventsArgs, PaymentCommand, SeenCommand, WaitArgs};

/// Turns incoming payments into Lightning channels: a payjoin receiver with a Lightning node inside.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, arg_required_else_help = true, after_help = FIRST_STEPS)]
pub(crate) struct Cli {
    /// Folder with the configuration, the seed and the database.
    #[arg(
        long,
        env = "PAYJOIND_DATADIR",
        value_name = "DIR",
        default_value = config::USUAL,
        global = true,
        help_heading = COMMON
    )]
    pub(crate) datadir: PathBuf,
    /// Settings file. Default: payjoind.toml in the folder.
    #[arg(long, env = "PAYJOIND_CONFIG", value_name = "FILE", global = true, help_heading = COMMON)]
    pub(crate) config: Option<PathBuf>,
    /// Control socket. Default: payjoind.sock in the folder, for its owner only; elsewhere it is for its group, too.
    #[arg(long, env = "PAYJOIND_SOCKET", value_name = "FILE", global = true, help_heading = COMMON)]
    pub(crate) socket: Option<PathBuf>,
    /// Print one JSON object instead of text (for `run`: one line per step).
    #[arg(long, global = true, help_heading = COMMON)]
    pub(crate) json: bool,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Every command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the daemon in the foreground.
    #[command(after_help = help::run())]
    Run(RunArgs),
    /// Run the daemon with an older copy of the database, for what can still be saved.
    #[command(after_help = RECOVER_HELP)]
    Recover(RecoverArgs),
    /// Find bitcoind and a Lightning node on this machine, and write the settings file.
    #[command(after_help = INIT_HELP)]
    Init(InitArgs),
    /// Look at everything that `run` needs: each finding with its remedy. Exits with 1 when something keeps it from its work.
    #[command(after_help = DOCTOR_HELP)]
    Doctor(RunArgs),
    /// What the running daemon is asked.
    #[command(flatten)]
    Ask(Asked),
    /// What came and went.
    #[command(flatten)]
    Seen(SeenCommand),
    /// Print the plain payments that are still owed, straight from the database, damaged or not.
    #[command(after_help = RESCUE_HELP)]
    Rescue,
    /// Print a script that completes commands and options in a shell.
    #[command(after_help = COMPLETIONS_HELP)]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages: one for each command.
    #[command(after_help = "Example:\n  payjoind man ~/.local/share/man/man1")]
    Man {
        /// A folder that exists.
        folder: PathBuf,
    },
    /// Stop the daemon after the exchanges in flight.
    #[command(
        after_help = "Returns when the daemon has ended.\n\nJSON: stopped\n\nExample:\n  payjoind stop"
    )]
    Stop,
}

/// Commands that the node in the running daemon answers.
#[derive(Debug, Subcommand)]
pub(crate) enum Asked {
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
        /// Satoshis, where the invoice leaves it to the payer.
        #[arg(long, value_name = "SAT", value_parser = satoshis, allow_negative_numbers = true)]
        amount: Option<u64>,
    },
    /// Payjoin exchanges, past and present.
    #[command(subcommand)]
    Exchange(ExchangeCommand),
    /// Codes that wait at directories.
    #[command(subcommand)]
    Session(SessionCommand),
    /// What the daemon is doing.
    #[command(after_help = STATUS_HELP)]
    Status,
    /// Who may ask over the network.
    #[command(subcommand)]
    Token(TokenCommand),
}

/// Settings of `run` that override the configuration file.
#[derive(Debug, Default, Args)]
pub(crate) struct RunArgs {
    /// Bitcoin network. Default: signet.
    #[arg(long, env = "PAYJOIND_NETWORK", value_parser = networks())]
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

/// Arguments of `init`: what it need not ask.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Bitcoin network.
    #[arg(long, value_parser = networks())]
    pub(crate) network: Option<Network>,
    /// Whose coins and channels: embedded, cln or lnd.
    #[arg(long, value_parser = backends())]
    pub(crate) backend: Option<Kind>,
    /// JSON-RPC address of bitcoind.
    #[arg(long, value_name = "URL")]
    pub(crate) bitcoind_url: Option<String>,
    /// Cookie file of bitcoind.
    #[arg(long, value_name = "FILE")]
    pub(crate) bitcoind_cookie: Option<PathBuf>,
    /// Payjoin directory through which payers reach us.
    #[arg(long, value_name = "URL")]
    pub(crate) directory: Option<String>,
    /// OHTTP relay in front of it.
    #[arg(long, value_name = "URL")]
    pub(crate) relay: Option<String>,
    /// Ask nothing: take what was found. So it is, too, where stdin is no terminal.
    #[arg(long)]
    pub(crate) yes: bool,
}

/// Arguments of `recover`.
#[derive(Debug, Args)]
pub(crate) struct RecoverArgs {
    /// Nothing shows that the database is an older copy, but you know it. There is no way back.
    #[arg(long)]
    pub(crate) older_copy: bool,
    /// Settings as of `run`.
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

impl RecoverArgs {
    /// What the database is taken for.
    pub(crate) fn copy(&self) -> Recover {
        if self.older_copy { Recover::Declared } else { Recover::Refused }
    }
}

/// The networks, by the names that the configuration file has for them.
fn networks() -> impl TypedValueParser<Value = Network> {
    let names = ["bitcoin", "testnet", "testnet4", "signet", "regtest"];
    PossibleValuesParser::new(names).try_map(|name| name.parse::<Network>())
}

/// The backends, by the names that the configuration file has for them.
fn backends() -> impl TypedValueParser<Value = Kind> {
    let known = |name: String| Kind::ALL.into_iter().find(|kind| kind.name() == name).ok_or("no backend");
    PossibleValuesParser::new(Kind::ALL.map(Kind::name)).try_map(known)
}

fn satoshis(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "an amount is a whole number of satoshis, such as 250000".into())
}

/// Arguments of `send`.
#[derive(Debug, Args)]
pub(crate) struct SendArgs {
    /// The code, or an address.
    #[arg(value_name = "BIP21")]
    pub(crate) uri: String,
    /// How much, where the code leaves it to the payer.
    #[arg(long, value_name = "SAT")]
    pub(crate) amount: Option<u64>,
    /// Pay once more what was paid before.
    #[arg(long)]
    pub(crate) again: bool,
    /// Fee rate. Default: what confirms within six blocks.
    #[arg(long, value_name = "SAT/VB")]
    pub(crate) fee_rate: Option<SatPerVb>,
    /// How long to wait for the outcome before leaving it to the background.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) wait: u64,
}

/// `wallet …`
#[derive(Debug, Subcommand)]
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
#[derive(Debug, Subcommand)]
pub(crate) enum PeerCommand {
    /// Connect to a peer.
    #[command(after_help = CONNECT_HELP)]
    Connect {
        /// The peer: NODE_ID@HOST, or NODE_ID@HOST:PORT where the port is not 9735.
        peer: String,
    },
    /// Peers that are connected, and those that should be.
    #[command(after_help = PEERS_HELP)]
    List,
}

/// Arguments of `invoice`.
#[derive(Debug, Args)]
pub(crate) struct InvoiceArgs {
    /// Amount in satoshis.
    #[arg(value_name = "SAT", value_parser = satoshis, allow_negative_numbers = true)]
    pub(crate) amount: u64,
    /// What it is for; the payer sees it.
    #[arg(long, default_value = "")]
    pub(crate) description: String,
}

/// `exchange …`
#[derive(Debug, Subcommand)]
pub(crate) enum ExchangeCommand {
    /// The latest exchanges, newest first.
    #[command(after_help = EXCHANGES_HELP)]
    List {
        /// How many of them.
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: u32,
    },
    /// Raise the fee of a payment to us that is not mined yet, out of what it pays us (CPFP).
    #[command(after_help = BUMP_HELP)]
    Bump {
        /// The exchange's number, as `exchange list` shows it.
        exchange: u64,
        /// Fee rate that both together pay.
        #[arg(long, value_name = "SAT/VB")]
        fee_rate: SatPerVb,
    },
    /// One exchange.
    #[command(after_help = SHOW_HELP)]
    Show {
        /// Its number, as `exchange list` shows it.
        exchange: u64,
    },
}

/// `session …`
#[derive(Debug, Subcommand)]
pub(crate) enum SessionCommand {
    /// Open sessions.
    #[command(after_help = SESSIONS_HELP)]
    List,
    /// One session, open or ended.
    #[command(after_help = SESSION_HELP)]
    Show {
        /// Its invoice, as `session list` shows it.
        invoice: String,
    },
    /// Cancel an open session.
    #[command(after_help = SESSION_CANCEL_HELP)]
    Cancel {
        /// Its invoice, as `session list` shows it.
        invoice: String,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_of_run_shows_every_setting_with_its_default() {
        let help = help::run();
        for part in
            ["  [bitcoind]", "  # block_poll_ms = 1000", "  # burial = 6", "DATADIR/seed holds twelve words"]
        {
            assert!(help.contains(part), "{part}");
        }
        assert!(help.lines().all(|line| line.len() <= 160), "{help}");
    }

    #[test]
    fn what_is_out_of_bounds_is_refused_at_once() {
        for (args, why) in [
            (&["receive", "--expires", "0s"][..], "a second at least"),
            (&["receive", "--expires", "367d"], "a year at most"),
            (&["receive", "--amount", "1.5"], "whole number of satoshis"),
            (&["receive", "--label", "two\nlines"], "control character"),
            (&["send", "bitcoin:x", "--fee-rate", "0"], "from 0.001 to 1000 sat/vB"),
            (&["exchange", "bump", "7", "--fee-rate", "1001"], "from 0.001 to 1000 sat/vB"),
            (&["token", "add", "shop", "--right", "root"], "there are read, receive and spend"),
            (&["token", "add", "shop"], "--right <RIGHT>"),
        ] {
            let refusal = Cli::try_parse_from([&["payjoind"], args].concat()).unwrap_err().to_string();
            assert!(refusal.contains(why), "{args:?}: {refusal}");
        }
    }
}

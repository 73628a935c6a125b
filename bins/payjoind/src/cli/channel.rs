//! `channel …`: what is asked of channels.

use clap::{Args, Subcommand};
use payjoin_node::{Lifetime, SatPerVb};

use super::satoshis;
use crate::help::{CHANNELS_HELP, CLOSE_HELP, OPEN_HELP, QUEUE_HELP};

/// `channel …`
#[derive(Debug, Subcommand)]
pub(crate) enum ChannelCommand {
    /// Queue a channel; the next payment that can fund it opens it.
    #[command(after_help = QUEUE_HELP)]
    Queue(QueueArgs),
    /// Open a channel at once, with coins of the wallet alone.
    #[command(after_help = OPEN_HELP)]
    Open(OpenArgs),
    /// Channels that were asked for, and channels that exist.
    #[command(after_help = CHANNELS_HELP)]
    List {
        /// Show those too that are closed or cancelled, with how and why.
        #[arg(long)]
        all: bool,
    },
    /// Remove a channel from the queue, before a payment takes it.
    #[command(after_help = "JSON: intent, state\n\nExample:\n  payjoind channel cancel 3")]
    Cancel {
        /// The intent's number, as `channel list` shows it.
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

/// What a channel may be, however it is opened.
#[derive(Debug, Args)]
pub(crate) struct ChannelKind {
    /// Satoshis of the channel that are the peer's from the start: a gift.
    #[arg(
        long,
        value_name = "SAT",
        default_value_t = 0,
        value_parser = satoshis,
        allow_negative_numbers = true
    )]
    pub(crate) push: u64,
    /// Do not announce the channel to the network.
    #[arg(long)]
    pub(crate) private: bool,
}

/// Arguments of `channel queue`.
#[derive(Debug, Args)]
pub(crate) struct QueueArgs {
    /// The peer: NODE_ID@HOST, or NODE_ID@HOST:PORT where the port is not 9735.
    pub(crate) peer: String,
    /// Satoshis, or `rest` for what the payment leaves after the other channels.
    #[arg(allow_negative_numbers = true)]
    pub(crate) amount: String,
    /// What every channel may be.
    #[command(flatten)]
    pub(crate) kind: ChannelKind,
    /// With `rest`: take payment and coin whole, so that no change comes back.
    #[arg(long)]
    pub(crate) absorb: bool,
    /// Do not ask the peer for the channel now: it is away, or it will change its mind.
    #[arg(long)]
    pub(crate) unchecked: bool,
    /// If no payment opens it in this time, open it from the wallet: 90s, 30m, 24h, 2d.
    #[arg(long, value_name = "TIME")]
    pub(crate) within: Option<Lifetime>,
}

/// Arguments of `channel open`.
#[derive(Debug, Args)]
pub(crate) struct OpenArgs {
    /// The peer: NODE_ID@HOST, or NODE_ID@HOST:PORT where the port is not 9735.
    pub(crate) peer: String,
    /// Satoshis.
    #[arg(value_name = "SAT", value_parser = exact, allow_negative_numbers = true)]
    pub(crate) amount: u64,
    /// What every channel may be.
    #[command(flatten)]
    pub(crate) kind: ChannelKind,
    /// Do not ask the peer before anything is written down.
    #[arg(long)]
    pub(crate) unchecked: bool,
    /// Fee rate. Default: what confirms within six blocks.
    #[arg(long, value_name = "SAT/VB")]
    pub(crate) fee_rate: Option<SatPerVb>,
}

/// What a payment leaves is nothing where nobody pays.
fn exact(text: &str) -> Result<u64, String> {
    match text {
        "rest" => Err("`rest` is what a payment leaves, and nobody pays here: name an amount".into()),
        text => satoshis(text),
    }
}

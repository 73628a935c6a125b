//! Arguments of `receive`.

use clap::{Args, ValueEnum};
use payjoin_node::{Label, Lifetime};

use super::satoshis;

/// Arguments of `receive`.
#[derive(Debug, Args)]
pub(crate) struct ReceiveArgs {
    /// Amount in satoshis. Default: the queued channels, the reserve the wallet lacks and our share of the fees.
    #[arg(long, value_name = "SAT", value_parser = satoshis, allow_negative_numbers = true)]
    pub(crate) amount: Option<u64>,
    /// How long the code can be paid by payjoin: 90s, 30m, 24h, 7d. Its address stays good.
    #[arg(long, value_name = "TIME", default_value = "24h")]
    pub(crate) expires: Lifetime,
    /// How the payer reaches us.
    #[arg(long)]
    pub(crate) via: Option<Via>,
    /// You are the payer: this code opens channels even if the wallet has no coin of its own to add.
    #[arg(long)]
    pub(crate) payer_is_me: bool,
    /// The code can also be paid over Lightning: once, either way.
    #[arg(long)]
    pub(crate) lightning: bool,
    /// Coins of the wallet may make up for a payment smaller than the channels.
    #[arg(long)]
    pub(crate) top_up: bool,
    /// Your words for the code, shown wherever its payments are. No payer sees them.
    #[arg(long, value_name = "TEXT")]
    pub(crate) label: Option<Label>,
    /// Your own name for the code, such as the number of an order. No payer sees it.
    #[arg(long = "id", value_name = "YOUR_ID")]
    pub(crate) own_id: Option<Label>,
}

/// How a payer reaches us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Via {
    /// A mailbox at a BIP 77 directory, behind OHTTP relays.
    Directory,
    /// Our own server, BIP 78.
    Https,
    /// Our own onion service, BIP 78.
    Onion,
}

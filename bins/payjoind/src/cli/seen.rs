//! Arguments of `payment`, `events` and `wait`.

use clap::{Args, Subcommand, ValueEnum};
use payjoin_node::{Lifetime, requests};

use crate::help::*;

/// What came and went.
#[derive(Debug, Subcommand)]
pub(crate) enum SeenCommand {
    /// Everything that moves money, in and out.
    #[command(subcommand)]
    Payment(PaymentCommand),
    /// What happened: one line of JSON for each event.
    #[command(after_help = EVENTS_HELP)]
    Events(EventsArgs),
    /// Wait until a code is paid or has expired. Exits with 0 for paid, 3 for expired, 4 when the time is over.
    #[command(after_help = WAIT_HELP)]
    Wait(WaitArgs),
}

/// `payment …`
#[derive(Debug, Subcommand)]
pub(crate) enum PaymentCommand {
    /// The latest payments in and out, newest first.
    #[command(after_help = PAYMENTS_HELP)]
    List {
        /// How many of them.
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: u32,
        /// As comma separated values, for a spreadsheet.
        #[arg(long, conflicts_with = "json")]
        csv: bool,
    },
    /// One payment.
    #[command(
        after_help = "JSON: as one of the payments of `payment list`\n\nExample:\n  payjoind payment show 7"
    )]
    Show {
        /// Its number, as `payment list` shows it.
        payment: u64,
    },
}

/// Arguments of `events`.
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Go on with those that come, through restarts of the daemon.
    #[arg(long)]
    pub(crate) follow: bool,
    /// Only those after this one: the `id` of the last one that was read. Default: all that are kept, and with --follow those
    /// that come.
    #[arg(long, value_name = "ID")]
    pub(crate) since: Option<u64>,
}

/// Arguments of `wait`.
#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// The code: `invoice` in the answer of `receive`.
    #[arg(value_name = "CODE")]
    pub(crate) invoice: String,
    /// When it counts as paid.
    #[arg(long, value_enum, default_value_t = Until::Confirmed)]
    pub(crate) until: Until,
    /// Give up after so long: 90s, 30m. Default: when the code expires.
    #[arg(long, value_name = "TIME")]
    pub(crate) timeout: Option<Lifetime>,
}

/// When a code counts as paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Until {
    /// The payer's plain payment is here, or his payment is in the mempool.
    Seen,
    /// It is in a block.
    Confirmed,
    /// It is buried.
    Settled,
}

impl From<Until> for requests::Until {
    fn from(until: Until) -> Self {
        match until {
            Until::Seen => Self::Seen,
            Until::Confirmed => Self::Confirmed,
            Until::Settled => Self::Settled,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::Cli;

    fn refused(args: &[&str]) -> String {
        Cli::try_parse_from([&["payjoind"], args].concat()).map_or_else(|e| e.to_string(), |_| "good".into())
    }

    #[test]
    fn what_cannot_be_asked_for_is_refused_at_once() {
        for (args, told) in [
            (&["payment", "list", "--csv"][..], "good"),
            (&["payment", "list", "--csv", "--json"], "cannot be used with"),
            (&["payment", "show"], "required"),
            (&["events", "--follow", "--since", "7"], "good"),
            (&["events", "--since", "now"], "invalid"),
            (&["wait", "abc", "--until", "seen", "--timeout", "15m"], "good"),
            (&["wait", "abc", "--until", "soon"], "possible values"),
            (&["wait", "abc", "--timeout", "0s"], "a second at least"),
        ] {
            assert!(refused(args).contains(told), "{args:?}: {}", refused(args));
        }
    }
}

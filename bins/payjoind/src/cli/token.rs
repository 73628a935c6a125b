//! `token …`

use clap::Subcommand;
use payjoin_node::Right;
use payjoin_node::requests::{AddTokenArgs, RevokeTokenArgs, TokenRequest};

use crate::help::{TOKEN_ADD_HELP, TOKENS_HELP};

/// Who may ask over the network: docs/api.md.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token. It is shown this once.
    #[command(after_help = TOKEN_ADD_HELP)]
    Add {
        /// What it is called.
        name: String,
        /// What it allows: read, receive or spend. None of them holds another.
        #[arg(long = "right", value_name = "RIGHT", required = true)]
        rights: Vec<Right>,
    },
    /// Every token, by name.
    #[command(after_help = TOKENS_HELP)]
    List,
    /// End a token, from the next call on.
    #[command(after_help = "JSON: name, revoked\n\nExample:\n  payjoind token revoke shop")]
    Revoke {
        /// Its name, as `token list` shows it.
        name: String,
    },
}

impl TokenCommand {
    pub(crate) fn request(self) -> TokenRequest {
        match self {
            Self::Add { name, rights } => TokenRequest::Add(AddTokenArgs { name, rights }),
            Self::List => TokenRequest::List,
            Self::Revoke { name } => TokenRequest::Revoke(RevokeTokenArgs { name }),
        }
    }
}

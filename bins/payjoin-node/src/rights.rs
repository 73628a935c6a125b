//! What may be asked with a token, and what on the control socket alone.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a token allows. None of them holds another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    /// To look at everything but secrets.
    Read,
    /// To be paid: codes, invoices and addresses.
    Receive,
    /// To spend, and to bind coins: payments, channels, peers.
    Spend,
}

impl Right {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Read, Self::Receive, Self::Spend];

    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Receive => "receive",
            Self::Spend => "spend",
        }
    }
}

impl FromStr for Right {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|right| right.name() == text);
        known.ok_or_else(|| format!("{text:?} is no right: there are read, receive and spend"))
    }
}

/// Who may ask for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Whoever has a token with this right, and the control socket.
    Token(Right),
    /// The control socket.
    Socket,
}

pub(crate) const READ: Access = Access::Token(Right::Read);
pub(crate) const RECEIVE: Access = Access::Token(Right::Receive);
pub(crate) const SPEND: Access = Access::Token(Right::Spend);

/// A request that takes something.
pub(crate) trait Guarded {
    /// Who may ask for it.
    const ACCESS: Access;

    /// Who may ask for it with these values, where that depends on them. It is never less.
    fn access(&self) -> Access {
        Self::ACCESS
    }
}

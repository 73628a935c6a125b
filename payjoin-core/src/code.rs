//! Codes that somebody gives us to pay. BIP 21, BIP 321; as people type them and QR scanners hand them over.

use bitcoin::address::{Address, NetworkUnchecked};
use bitcoin::{Amount, Denomination, Network, TxOut};

use crate::with_causes;

/// A code that was read: what it wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// To whom.
    pub address: Address,
    /// How much, unless it leaves that to the payer.
    pub amount: Option<Amount>,
    /// Why its offer of a payjoin cannot be used, if it makes one. It is paid plainly then.
    pub unusable: Option<String>,
    /// `pj` and `pjos`, as they stand in the code.
    payjoin: Option<(String, Option<String>)>,
}

/// Why a code cannot be paid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// No code and no address.
    #[error("not a payment request: give a code (bitcoin:…) or an address")]
    Unreadable,
    /// It can be paid over Lightning only.
    #[error("a Lightning invoice, which is not paid on chain: use `pay`")]
    Lightning,
    /// Money sent there would not arrive.
    #[error("the address is for {theirs}, and this node is on {ours}")]
    Network {
        /// Where the address belongs to.
        theirs: &'static str,
        /// Where we are.
        ours: Network,
    },
    /// No number, or none that can be paid.
    #[error("{0:?} is no amount in BTC")]
    Amount(String),
    /// A code that leaves the amount to the payer, who named none.
    #[error("the payment request names no amount")]
    NoAmount,
    /// The payer names another amount than the code.
    #[error("the payment request asks for {code}, not for {payer}")]
    OtherAmount {
        /// By the code.
        code: Amount,
        /// By the payer.
        payer: Amount,
    },
    /// Which of them counts would be a guess.
    #[error("the payment request names {0:?} twice")]
    Twice(String),
    /// BIP 21, "Forward compatibility": what is required and not understood makes the code invalid.
    #[error("the payment request requires {0:?}, which this node does not know")]
    Required(String),
    /// The receiver insists on a payjoin (`req-pj`).
    #[error("the payment request requires a payjoin that cannot be made: {0}")]
    Payjoin(String),
}

/// Beginnings of BOLT 11 invoices and BOLT 12 offers, and their scheme.
const LIGHTNING: [&str; 6] = ["lightning:", "lnbc", "lntb", "lntbs", "lnbcrt", "lno1"];

impl Code {
    /// Reads a code, or a bare address.
    ///
    /// # Errors
    /// All of [`CodeError`] but those of [`Code::paying`] and [`Code::output`].
    pub fn read(text: &str, network: Network) -> Result<Self, CodeError> {
        let text = text.trim();
        let lower = text.to_ascii_lowercase();
        if LIGHTNING.iter().any(|start| lower.starts_with(start)) {
            return Err(CodeError::Lightning);
        }
        let text = if lower.starts_with("bitcoin:") { &text["bitcoin:".len()..] } else { text };
        let (address, query) = text.split_once('?').unwrap_or((text, ""));
        let Query { amount, pj, pj_required, pjos, lightning } = Query::read(query)?;
        if address.is_empty() && lightning {
            return Err(CodeError::Lightning);
        }
        let address = for_network(address, network)?;
        let mut code = Self { address, amount, unusable: None, payjoin: pj.map(|pj| (pj, pjos)) };
        if code.payjoin.is_some() {
            code.unusable = payjoin::Uri::try_from(code.uri()).err().map(|error| with_causes(&error));
        }
        match code.unusable {
            Some(why) if pj_required => Err(CodeError::Payjoin(why)),
            _ => Ok(code),
        }
    }

    /// The same code with the amount that the payer names, if he names one.
    ///
    /// # Errors
    /// [`CodeError::OtherAmount`].
    pub fn paying(self, amount: Option<Amount>) -> Result<Self, CodeError> {
        match (self.amount, amount) {
            (Some(code), Some(payer)) if code != payer => Err(CodeError::OtherAmount { code, payer }),
            (code, payer) => Ok(Self { amount: code.or(payer), ..self }),
        }
    }

    /// The output that pays it.
    ///
    /// # Errors
    /// [`CodeError::NoAmount`].
    pub fn output(&self) -> Result<TxOut, CodeError> {
        let value = self.amount.ok_or(CodeError::NoAmount)?;
        Ok(TxOut { value, script_pubkey: self.address.script_pubkey() })
    }

    /// The code in the one spelling that all its spellings have in common: `bitcoin:ADDRESS`, then `amount` in BTC, `pj` and
    /// `pjos` where it has them.
    #[must_use]
    pub fn uri(&self) -> String {
        let amount =
            self.amount.map(|amount| format!("amount={}", amount.to_string_in(Denomination::Bitcoin)));
        let (pj, pjos) = self.payjoin.as_ref().map(|(pj, pjos)| (pj, pjos.as_ref())).unzip();
        let pjos = pjos.flatten().map(|pjos| format!("pjos={pjos}"));
        let query: Vec<_> = [amount, pj.map(|pj| format!("pj={pj}")), pjos].into_iter().flatten().collect();
        let mark = if query.is_empty() { "" } else { "?" };
        format!("bitcoin:{}{mark}{}", self.address, query.join("&"))
    }
}

/// The parameters of a code that matter to us. Names are read in any case.
#[derive(Default)]
struct Query {
    amount: Option<Amount>,
    pj: Option<String>,
    pj_required: bool,
    pjos: Option<String>,
    lightning: bool,
}

impl Query {
    fn read(text: &str) -> Result<Self, CodeError> {
        let mut query = Self::default();
        let mut seen = Vec::new();
        for parameter in text.split('&').map(str::trim).filter(|parameter| !parameter.is_empty()) {
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let key = key.to_ascii_lowercase();
            let (required, name) = key.strip_prefix("req-").map_or((false, &*key), |name| (true, name));
            if seen.iter().any(|seen| seen == name) {
                return Err(CodeError::Twice(name.to_owned()));
            }
            seen.push(name.to_owned());
            match name {
                "amount" => query.amount = Some(btc(value)?),
                "pj" => (query.pj, query.pj_required) = (Some(endpoint(value)), required),
                "pjos" => query.pjos = Some(value.to_owned()),
                "label" | "message" => {}
                _ if required => return Err(CodeError::Required(name.to_owned())),
                "lightning" => query.lightning = true,
                _ => {}
            }
        }
        Ok(query)
    }
}

/// BIP 21, "Transfer amount/size": decimal BTC. Zeros behind the eighth place change nothing.
fn btc(text: &str) -> Result<Amount, CodeError> {
    let digits = if text.contains('.') { text.trim_end_matches('0') } else { text };
    match Amount::from_str_in(digits.trim_end_matches('.'), Denomination::Bitcoin) {
        Ok(amount) if amount > Amount::ZERO => Ok(amount),
        _ => Err(CodeError::Amount(text.to_owned())),
    }
}

/// The endpoint with scheme and host in small letters, which is how the `payjoin` crate knows an onion host.
fn endpoint(raw: &str) -> String {
    let plain = raw.replace("%3A", ":").replace("%3a", ":").replace("%2F", "/").replace("%2f", "/");
    let origin = plain.match_indices('/').nth(2).map_or(plain.len(), |(end, _)| end);
    let (origin, path) = plain.split_at(origin);
    origin.to_ascii_lowercase() + path
}

fn for_network(text: &str, ours: Network) -> Result<Address, CodeError> {
    let address: Address<NetworkUnchecked> = text.parse().map_err(|_| CodeError::Unreadable)?;
    let theirs = [
        (Network::Bitcoin, "mainnet"),
        (Network::Testnet, "testnet or signet"),
        (Network::Regtest, "regtest"),
    ];
    let theirs = theirs.into_iter().find(|(network, _)| address.is_valid_for_network(*network));
    let theirs = theirs.map_or("another network", |(_, name)| name);
    address.require_network(ours).map_err(|_| CodeError::Network { theirs, ours })
}

#[cfg(test)]
mod tests;

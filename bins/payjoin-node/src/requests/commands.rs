//! Every command that is asked for with a token, by its words: what it takes, what it answers and which right it needs.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::Value;

use super::{
    Address, Balance, Bolt11, BumpArgs, Bumped, CancelArgs, Cancelled, Channels, CloseArgs, Closing, Code,
    Coins, ConnectArgs, Connected, EventPage, EventsArgs, Exchanges, ExchangesArgs, InvoiceArgs, OpenArgs,
    Opened, PaidInvoice, PayArgs, Payment, PaymentList, PaymentRow, PaymentsArgs, Peers, QueueArgs, Queued,
    ReceiveArgs, Request, SendArgs, Session, SessionArgs, SessionCancelled, Sessions, ShowExchangeArgs,
    ShowPaymentArgs, Standing, Status, WaitArgs, balance, channels, coins, connect, sessions, status,
};
use crate::rights::{Access, Guarded};

/// Describes a type.
type Describe = fn(&mut SchemaGenerator) -> Schema;

/// A command.
pub(crate) struct Command {
    /// As on the command line.
    pub(crate) words: &'static [&'static str],
    /// Who may ask for it; for some values it needs more.
    pub(crate) access: Access,
    /// What it takes; `None`: nothing.
    pub(crate) args: Option<Describe>,
    /// What it answers.
    pub(crate) answer: Describe,
}

fn describe<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

const fn taking<A: Guarded + JsonSchema, T: JsonSchema>(words: &'static [&'static str]) -> Command {
    Command { words, access: A::ACCESS, args: Some(describe::<A>), answer: describe::<T> }
}

const fn plain<T: JsonSchema>(words: &'static [&'static str], access: Access) -> Command {
    Command { words, access, args: None, answer: describe::<T> }
}

/// All but those that the control socket alone is asked for. A test compares it with [`Request`].
pub(crate) const COMMANDS: &[Command] = &[
    taking::<ReceiveArgs, Code>(&["receive"]),
    taking::<SendArgs, Payment>(&["send"]),
    taking::<QueueArgs, Queued>(&["channel", "queue"]),
    taking::<OpenArgs, Opened>(&["channel", "open"]),
    plain::<Channels>(&["channel", "list"], channels::LIST),
    plain::<Channels>(&["channel", "all"], channels::LIST),
    taking::<CancelArgs, Cancelled>(&["channel", "cancel"]),
    taking::<CloseArgs, Closing>(&["channel", "close"]),
    plain::<Address>(&["wallet", "address"], balance::ADDRESS),
    plain::<Balance>(&["wallet", "balance"], balance::BALANCE),
    plain::<Coins>(&["wallet", "coins"], coins::LIST),
    taking::<ConnectArgs, Connected>(&["peer", "connect"]),
    plain::<Peers>(&["peer", "list"], connect::LIST),
    taking::<InvoiceArgs, Bolt11>(&["invoice"]),
    taking::<PayArgs, PaidInvoice>(&["pay"]),
    taking::<PaymentsArgs, PaymentList>(&["payment", "list"]),
    taking::<ShowPaymentArgs, PaymentRow>(&["payment", "show"]),
    taking::<EventsArgs, EventPage>(&["events"]),
    taking::<WaitArgs, Standing>(&["wait"]),
    taking::<ExchangesArgs, Exchanges>(&["exchange", "list"]),
    taking::<BumpArgs, Bumped>(&["exchange", "bump"]),
    taking::<ShowExchangeArgs, payjoin_core::ExchangeRecord>(&["exchange", "show"]),
    plain::<Sessions>(&["session", "list"], sessions::LIST),
    taking::<SessionArgs, Session>(&["session", "show"]),
    Command { access: sessions::CANCEL, ..taking::<SessionArgs, SessionCancelled>(&["session", "cancel"]) },
    plain::<Status>(&["status"], status::STATUS),
];

impl Command {
    /// The command at this path, without the version before it.
    pub(crate) fn at(path: &str) -> Option<&'static Self> {
        COMMANDS.iter().find(|command| command.words.iter().copied().eq(path.split('/')))
    }

    /// Its path, without the version before it.
    pub(crate) fn path(&self) -> String {
        self.words.join("/")
    }

    /// The request that these arguments make.
    ///
    /// # Errors
    /// Says what is wrong with them.
    pub(crate) fn request(&self, args: Value) -> Result<Request, String> {
        let mut words = self.words.iter().rev();
        let innermost = words.next().copied().unwrap_or_default();
        let begin = match self.args {
            Some(_) => wrapped(innermost, args),
            None if args.as_object().is_some_and(serde_json::Map::is_empty) => Value::from(innermost),
            None => return Err(format!("{} takes nothing: send {{}}", self.words.join(" "))),
        };
        let request = words.fold(begin, |inner, word| wrapped(word, inner));
        serde_json::from_value(request).map_err(|error| error.to_string())
    }
}

fn wrapped(word: &str, inner: Value) -> Value {
    Value::Object([(word.to_owned(), inner)].into_iter().collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::rights::{READ, SPEND};

    /// The words of every request in this schema, with the requests below it.
    fn words_in(schema: &Value, all: &Value, before: &str, found: &mut BTreeSet<String>) {
        let schema = match schema.get("$ref").and_then(Value::as_str) {
            Some(name) => &all["$defs"][name.trim_start_matches("#/$defs/")],
            None => schema,
        };
        for variant in schema["oneOf"].as_array().into_iter().flatten() {
            if let Some(name) = variant["const"].as_str() {
                found.insert(format!("{before}{name}"));
            }
            for (name, inner) in variant["properties"].as_object().into_iter().flatten() {
                let mut below = BTreeSet::new();
                words_in(inner, all, &format!("{before}{name} "), &mut below);
                match below.is_empty() {
                    true => drop(found.insert(format!("{before}{name}"))),
                    false => found.extend(below),
                }
            }
        }
    }

    #[test]
    fn every_request_is_a_command_but_those_of_the_control_socket() {
        let all = serde_json::to_value(schemars::schema_for!(Request)).unwrap();
        let mut found = BTreeSet::new();
        words_in(&all, &all, "", &mut found);
        let socket = ["token add", "token list", "token revoke"].map(str::to_owned);
        let listed = COMMANDS.iter().map(|command| command.words.join(" "));
        assert_eq!(found, listed.chain(socket).collect());
    }

    fn request(path: &str, args: &str) -> Result<Request, String> {
        Command::at(path).unwrap().request(serde_json::from_str(args).unwrap())
    }

    #[test]
    fn a_path_and_its_arguments_are_a_request_with_the_right_of_its_file() {
        for command in COMMANDS.iter().filter(|command| command.args.is_none()) {
            let request = request(&command.path(), "{}").unwrap();
            assert_eq!(request.access(), command.access, "{}", command.path());
        }
        assert_eq!(request("status", "{}"), Ok(Request::Status));
        let show = request("exchange/show", r#"{"exchange":7}"#).unwrap();
        assert_eq!(serde_json::to_string(&show).unwrap(), r#"{"exchange":{"show":{"exchange":7}}}"#);
        assert_eq!(show.access(), READ);
        assert!(request("status", "[]").is_err() && request("exchange/show", "{}").is_err());
        for unknown in ["", "token/list", "stop", "status/", "channel", "wallet/balance/x", "Status"] {
            assert!(Command::at(unknown).is_none(), "{unknown}");
        }
    }

    #[test]
    fn whoever_says_that_he_is_the_payer_needs_the_right_to_spend() {
        let mine =
            |word: &str| request("receive", &format!(r#"{{"expires":60,"payer_is_me":{word}}}"#)).unwrap();
        assert_eq!(mine("true").access(), SPEND);
        assert_eq!(mine("false").access(), ReceiveArgs::ACCESS);
    }
}

//! lightningd's commands that are ours, as requests.

use payjoin_lightning::cln::plugin::{self, CallId, ManifestMethod};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::asked::Asked;
use crate::requests::{ChannelRequest, QueueArgs, ReceiveArgs, Request};
use crate::values::Lifetime;

/// A command.
pub(super) struct Command {
    name: &'static str,
    about: &'static str,
    /// In the order of an array; those that may be left out with what they are then.
    parameters: &'static [(&'static str, Option<Default>)],
    request: fn(Value) -> serde_json::Result<Request>,
}

/// What a parameter is that was left out.
#[derive(Clone, Copy)]
enum Default {
    None,
    No,
    Sat(u64),
    Text(&'static str),
}

impl From<Default> for Value {
    fn from(default: Default) -> Self {
        match default {
            Default::None => Self::Null,
            Default::No => Self::Bool(false),
            Default::Sat(sat) => sat.into(),
            Default::Text(text) => text.into(),
        }
    }
}

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "payjoin-receive",
        about: "Make a BIP 21 code. Without an amount it asks for what the queued channels need.",
        parameters: &[
            ("amount", Some(Default::None)),
            ("expires", Some(Default::Text("24h"))),
            ("via", Some(Default::None)),
            ("payer_is_me", Some(Default::No)),
            ("top_up", Some(Default::No)),
            ("label", Some(Default::None)),
            ("own_id", Some(Default::None)),
        ],
        request: receive,
    },
    Command {
        name: "payjoin-queue",
        about: "Queue a channel; the next payment that can fund it opens it.",
        parameters: &[
            ("peer", None),
            ("amount", None),
            ("push", Some(Default::Sat(0))),
            ("private", Some(Default::No)),
            ("unchecked", Some(Default::No)),
        ],
        request: queue,
    },
    Command {
        name: "payjoin-list",
        about: "Channels that were asked for, and channels that exist.",
        parameters: &[],
        request: |_| Ok(Request::Channel(ChannelRequest::List)),
    },
    Command {
        name: "payjoin-status",
        about: "What payjoind is doing.",
        parameters: &[],
        request: |_| Ok(Request::Status),
    },
];

#[derive(Deserialize)]
struct Receive {
    expires: String,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

fn receive(parameters: Value) -> serde_json::Result<Request> {
    use serde::de::Error as _;
    let Receive { expires, mut rest } = serde_json::from_value(parameters)?;
    let expires: Lifetime = expires.parse().map_err(serde_json::Error::custom)?;
    rest.insert("expires".to_owned(), expires.seconds().into());
    let args: ReceiveArgs = serde_json::from_value(rest.into())?;
    Ok(Request::Receive(args))
}

/// Amounts of channels are texts, because one may be `rest`; lightning-cli makes a number of what looks like one.
fn queue(mut parameters: Value) -> serde_json::Result<Request> {
    if let Some(amount) = parameters.get_mut("amount").filter(|amount| amount.is_number()) {
        *amount = amount.to_string().into();
    }
    let args: QueueArgs = serde_json::from_value(parameters)?;
    Ok(Request::Channel(ChannelRequest::Queue(args)))
}

impl Command {
    pub(super) fn method(&self) -> ManifestMethod {
        let usage = self.parameters.iter().map(|(name, default)| match default {
            None => (*name).to_owned(),
            Some(_) => format!("[{name}]"),
        });
        ManifestMethod {
            name: self.name,
            usage: usage.collect::<Vec<_>>().join(" "),
            description: self.about,
        }
    }

    /// Each parameter by its name, those that were left out with what they are then.
    fn named(&self, params: Value) -> Result<Map<String, Value>, String> {
        let mut given = match params {
            Value::Object(given) => given,
            Value::Array(given) if given.len() > self.parameters.len() => {
                return Err(format!("{} takes at most {} parameters", self.name, self.parameters.len()));
            }
            Value::Array(given) => {
                self.parameters.iter().map(|(name, _)| (*name).to_owned()).zip(given).collect()
            }
            _ => Map::new(),
        };
        if let Some(unknown) =
            given.keys().find(|name| !self.parameters.iter().any(|(known, _)| known == name))
        {
            return Err(format!("{} has no parameter `{unknown}`", self.name));
        }
        for (name, default) in self.parameters {
            match default {
                Some(default) if given.get(*name).is_none_or(Value::is_null) => {
                    given.insert((*name).to_owned(), (*default).into());
                }
                None if !given.contains_key(*name) => return Err(format!("{} needs `{name}`", self.name)),
                _ => {}
            }
        }
        Ok(given)
    }

    fn request(&self, params: Value) -> Result<Request, String> {
        (self.request)(self.named(params)?.into()).map_err(|error| format!("{}: {error}", self.name))
    }
}

/// The answer to a call, as lightningd hands it on.
pub(super) async fn answer(id: &CallId, method: &str, params: Value, asked: &Asked) -> String {
    let command = COMMANDS.iter().find(|command| command.name == method);
    let request =
        command.ok_or_else(|| format!("payjoind knows no {method}")).and_then(|it| it.request(params));
    let answered = match request {
        Ok(request) => asked.request(request).await.map_err(|error| error.to_string()),
        Err(why) => Err(why),
    };
    let value =
        answered.and_then(|response| serde_json::to_value(response).map_err(|error| error.to_string()));
    match value {
        Ok(value) => plugin::answer(id, &value),
        Err(why) => plugin::refusal(id, &why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798@[::1]:9735";

    fn request(method: &str, params: &str) -> Result<String, String> {
        let command = COMMANDS.iter().find(|command| command.name == method).unwrap();
        let request = command.request(serde_json::from_str(params).unwrap())?;
        Ok(serde_json::to_string(&request).unwrap())
    }

    #[test]
    fn a_command_of_lightningd_becomes_the_request_of_the_command_line() {
        let queue = |amount: &str, push: u64| {
            format!(
                r#"{{"channel":{{"queue":{{"peer":"{PEER}","amount":"{amount}","push":{push},"private":false,"unchecked":false}}}}}}"#
            )
        };
        for (method, params, expected) in [
            (
                "payjoin-receive",
                "[]",
                r#"{"receive":{"amount":null,"expires":86400,"via":null,"payer_is_me":false,"lightning":false,"top_up":false,"label":null,"own_id":null}}"#
                    .to_owned(),
            ),
            (
                "payjoin-receive",
                r#"{"amount":5,"expires":"1m","via":"directory"}"#,
                r#"{"receive":{"amount":5,"expires":60,"via":"directory","payer_is_me":false,"lightning":false,"top_up":false,"label":null,"own_id":null}}"#
                    .to_owned(),
            ),
            ("payjoin-queue", &format!(r#"["{PEER}",500000]"#), queue("500000", 0)),
            ("payjoin-queue", &format!(r#"{{"peer":"{PEER}","amount":"rest","push":7}}"#), queue("rest", 7)),
            ("payjoin-list", "[]", r#"{"channel":"list"}"#.to_owned()),
            ("payjoin-status", "null", r#""status""#.to_owned()),
        ] {
            assert_eq!(request(method, params), Ok(expected), "{method} {params}");
        }
    }

    #[test]
    fn what_is_no_parameter_is_named() {
        for (method, params, word) in [
            ("payjoin-queue", "[]", "needs `peer`"),
            ("payjoin-queue", r#"["nobody",5]"#, "no @"),
            ("payjoin-list", "[1]", "takes at most 0 parameters"),
            ("payjoin-receive", r#"{"amuont":5}"#, "no parameter `amuont`"),
            ("payjoin-receive", r#"{"expires":"soon"}"#, "payjoin-receive: "),
            ("payjoin-receive", r#"{"amount":"much"}"#, "payjoin-receive: "),
        ] {
            let refusal = request(method, params).unwrap_err();
            assert!(refusal.contains(word), "{method} {params}: {refusal}");
        }
    }
}

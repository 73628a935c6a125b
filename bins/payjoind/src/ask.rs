//! Commands as requests.

use bitcoin::Amount;
use payjoin_node::requests::*;
use payjoin_node::{AmountOrRest, ExchangeId, IntentId, InvoiceId, PeerAddress};

use crate::cli::{self, Asked, ChannelCommand, ExchangeCommand, PeerCommand, SessionCommand, WalletCommand};

impl Asked {
    /// What the node is to be asked; the error is for the operator.
    pub(crate) fn request(self) -> Result<Request, String> {
        Ok(match self {
            Self::Receive(args) => Request::Receive(ReceiveArgs {
                amount: args.amount.map(Amount::from_sat),
                expires: args.expires,
                via: args.via.map(Into::into),
                payer_is_me: args.payer_is_me,
                lightning: args.lightning,
                top_up: args.top_up,
                label: args.label,
                own_id: args.own_id,
            }),
            Self::Send(args) => Request::Send(SendArgs {
                uri: args.uri,
                amount: args.amount.map(Amount::from_sat),
                again: args.again,
                fee_rate: args.fee_rate,
                wait: args.wait,
            }),
            Self::Channel(command) => Request::Channel(command.request()?),
            Self::Wallet(WalletCommand::Address) => Request::Wallet(WalletRequest::Address),
            Self::Wallet(WalletCommand::Balance) => Request::Wallet(WalletRequest::Balance),
            Self::Wallet(WalletCommand::Coins) => Request::Wallet(WalletRequest::Coins),
            Self::Peer(PeerCommand::Connect { peer }) => {
                Request::Peer(PeerRequest::Connect(ConnectArgs { peer: address(&peer)? }))
            }
            Self::Peer(PeerCommand::List) => Request::Peer(PeerRequest::List),
            Self::Invoice(args) => Request::Invoice(InvoiceArgs {
                amount: Amount::from_sat(args.amount),
                description: args.description,
            }),
            Self::Pay { bolt11, amount } => {
                Request::Pay(PayArgs { bolt11, amount: amount.map(Amount::from_sat) })
            }
            Self::Exchange(command) => Request::Exchange(command.request()),
            Self::Session(command) => Request::Session(command.request()),
            Self::Status => Request::Status,
            Self::Token(command) => Request::Token(command.request()),
        })
    }
}

/// What `rest --absorb` asks for.
fn amount(text: &str, absorb: bool) -> Result<AmountOrRest, String> {
    match (text, absorb) {
        ("rest", true) => "absorb".parse(),
        (_, true) => {
            Err("--absorb goes with `rest`: how much there is nobody knows before the payment".to_owned())
        }
        (text, false) => text.parse(),
    }
}

impl ChannelCommand {
    fn request(self) -> Result<ChannelRequest, String> {
        Ok(match self {
            Self::Queue(args) => ChannelRequest::Queue(QueueArgs {
                peer: address(&args.peer)?,
                amount: amount(&args.amount, args.absorb)?,
                push: Amount::from_sat(args.kind.push),
                private: args.kind.private,
                unchecked: args.unchecked,
                within: args.within,
            }),
            Self::Open(args) => ChannelRequest::Open(OpenArgs {
                peer: address(&args.peer)?,
                amount: Amount::from_sat(args.amount),
                push: Amount::from_sat(args.kind.push),
                private: args.kind.private,
                unchecked: args.unchecked,
                fee_rate: args.fee_rate,
            }),
            Self::List { all: false } => ChannelRequest::List,
            Self::List { all: true } => ChannelRequest::All,
            Self::Cancel { intent } => ChannelRequest::Cancel(CancelArgs { intent: IntentId(intent) }),
            Self::Close { channel, force } => ChannelRequest::Close(CloseArgs { channel, force }),
        })
    }
}

impl ExchangeCommand {
    fn request(self) -> ExchangeRequest {
        match self {
            Self::List { limit } => ExchangeRequest::List(ExchangesArgs { limit, before: None }),
            Self::Bump { exchange, fee_rate } => {
                ExchangeRequest::Bump(BumpArgs { exchange: ExchangeId(exchange), fee_rate })
            }
            Self::Show { exchange } => {
                ExchangeRequest::Show(ShowExchangeArgs { exchange: ExchangeId(exchange) })
            }
        }
    }
}

impl SessionCommand {
    fn request(self) -> SessionRequest {
        match self {
            Self::List => SessionRequest::List,
            Self::Show { invoice } => SessionRequest::Show(SessionArgs { invoice: InvoiceId(invoice) }),
            Self::Cancel { invoice } => SessionRequest::Cancel(SessionArgs { invoice: InvoiceId(invoice) }),
        }
    }
}

impl From<cli::Via> for Via {
    fn from(via: cli::Via) -> Self {
        match via {
            cli::Via::Directory => Self::Directory,
            cli::Via::Https => Self::Https,
            cli::Via::Onion => Self::Onion,
        }
    }
}

fn address(peer: &str) -> Result<PeerAddress, String> {
    peer.parse().map_err(|error: <PeerAddress as std::str::FromStr>::Err| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::{Cli, Command};

    const PEER: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798@[::1]:9735";

    /// What a command line sends over the control socket.
    fn sent(args: &[&str]) -> Result<String, String> {
        match Cli::try_parse_from([&["payjoind"], args].concat()).unwrap().command {
            Command::Ask(asked) => Ok(serde_json::to_string(&asked.request()?).unwrap()),
            command => panic!("{command:?}"),
        }
    }

    #[test]
    fn a_command_becomes_the_request_of_its_name() {
        let queue = format!(
            r#"{{"channel":{{"queue":{{"peer":"{PEER}","amount":"rest","push":0,"private":true,"unchecked":false}}}}}}"#
        );
        for (args, request) in [
            (
                &["receive"][..],
                r#"{"receive":{"amount":null,"expires":86400,"via":null,"payer_is_me":false,"lightning":false,"top_up":false,"label":null,"own_id":null}}"#,
            ),
            (
                &[
                    "receive",
                    "--amount",
                    "5",
                    "--expires",
                    "1m",
                    "--via",
                    "onion",
                    "--payer-is-me",
                    "--lightning",
                    "--top-up",
                    "--label",
                    "tea",
                    "--id",
                    "17",
                ],
                r#"{"receive":{"amount":5,"expires":60,"via":"onion","payer_is_me":true,"lightning":true,"top_up":true,"label":"tea","own_id":"17"}}"#,
            ),
            (
                &["send", "bitcoin:x", "--fee-rate", "5"],
                r#"{"send":{"uri":"bitcoin:x","amount":null,"again":false,"fee_rate":5,"wait":60}}"#,
            ),
            (&["channel", "queue", PEER, "rest", "--private"], &queue),
            (&["channel", "queue", PEER, "rest", "--private", "--absorb"], &queue.replace("rest", "absorb")),
            (
                &["channel", "queue", PEER, "rest", "--private", "--within", "2d"],
                &queue.replace("false}", r#"false,"within":172800}"#),
            ),
            (
                &["channel", "open", PEER, "500000", "--fee-rate", "3"],
                &format!(
                    r#"{{"channel":{{"open":{{"peer":"{PEER}","amount":500000,"push":0,"private":false,"unchecked":false,"fee_rate":3}}}}}}"#
                ),
            ),
            (&["channel", "list"], r#"{"channel":"list"}"#),
            (&["channel", "list", "--all"], r#"{"channel":"all"}"#),
            (&["channel", "cancel", "3"], r#"{"channel":{"cancel":{"intent":3}}}"#),
            (&["channel", "close", "ab"], r#"{"channel":{"close":{"channel":"ab","force":false}}}"#),
            (&["wallet", "balance"], r#"{"wallet":"balance"}"#),
            (&["peer", "connect", PEER], &format!(r#"{{"peer":{{"connect":{{"peer":"{PEER}"}}}}}}"#)),
            (&["invoice", "7"], r#"{"invoice":{"amount":7,"description":""}}"#),
            (&["pay", "lnbc1"], r#"{"pay":{"bolt11":"lnbc1","amount":null}}"#),
            (&["pay", "lnbc1", "--amount", "5"], r#"{"pay":{"bolt11":"lnbc1","amount":5}}"#),
            (&["exchange", "list"], r#"{"exchange":{"list":{"limit":100}}}"#),
            (&["exchange", "show", "7"], r#"{"exchange":{"show":{"exchange":7}}}"#),
            (
                &["exchange", "bump", "7", "--fee-rate", "9"],
                r#"{"exchange":{"bump":{"exchange":7,"fee_rate":9}}}"#,
            ),
            (&["session", "show", "abc"], r#"{"session":{"show":{"invoice":"abc"}}}"#),
            (&["session", "cancel", "abc"], r#"{"session":{"cancel":{"invoice":"abc"}}}"#),
            (&["status"], r#""status""#),
            (
                &["token", "add", "shop", "--right", "read", "--right", "spend"],
                r#"{"token":{"add":{"name":"shop","rights":["read","spend"]}}}"#,
            ),
            (&["token", "list"], r#"{"token":"list"}"#),
            (&["token", "revoke", "shop"], r#"{"token":{"revoke":{"name":"shop"}}}"#),
        ] {
            assert_eq!(sent(args).unwrap(), request, "{args:?}");
        }
    }

    #[test]
    fn what_is_no_peer_or_no_amount_is_told_before_anybody_is_asked() {
        assert!(sent(&["channel", "queue", PEER, "five"]).unwrap_err().contains("nor `rest`"));
        assert!(sent(&["channel", "queue", "nobody", "5"]).unwrap_err().contains("no @"));
        assert!(sent(&["peer", "connect", "ab@host"]).unwrap_err().contains("66 hex digits"));
    }
}

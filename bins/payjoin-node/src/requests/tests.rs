use bitcoin::{Amount, OutPoint, Txid};
use payjoin_core::{ChannelAmount, ExchangeId, IntentId, InvoiceId, Timestamp};
use serde_json::Value;

use super::*;
use crate::values::{AmountOrRest, Lifetime};

const PEER: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798@[::1]:9735";

/// The JSON that scripts send, and the request it is.
#[track_caller]
fn reads(json: &str, request: Request) {
    assert_eq!(serde_json::from_str::<Request>(json).unwrap(), request);
    let (written, given): (Value, Value) =
        (serde_json::to_value(&request).unwrap(), serde_json::from_str(json).unwrap());
    assert_eq!(written, given);
}

/// The JSON that scripts read.
#[track_caller]
fn writes(response: Response, json: &str) {
    assert_eq!(serde_json::to_string(&response).unwrap(), json);
}

fn txid(byte: &str) -> Txid {
    byte.repeat(32).parse().unwrap()
}

#[test]
fn amounts_in_requests_are_whole_satoshis() {
    reads(
        r#"{"receive":{"amount":250000,"expires":3600,"via":"directory","payer_is_me":true,"lightning":true,"top_up":true,"label":"tea","own_id":"17"}}"#,
        Request::Receive(ReceiveArgs {
            amount: Some(Amount::from_sat(250_000)),
            expires: Lifetime::try_from(3600).unwrap(),
            via: Some(Via::Directory),
            payer_is_me: true,
            lightning: true,
            top_up: true,
            label: "tea".parse().ok(),
            own_id: "17".parse().ok(),
        }),
    );
    reads(
        r#"{"invoice":{"amount":7,"description":"coffee"}}"#,
        Request::Invoice(InvoiceArgs { amount: Amount::from_sat(7), description: "coffee".into() }),
    );
    let queue = |amount: ChannelAmount, text: &str| {
        let args = QueueArgs {
            peer: PEER.parse().unwrap(),
            amount: AmountOrRest::from(amount),
            push: Amount::from_sat(9),
            private: true,
            unchecked: false,
            within: None,
        };
        let json = format!(
            r#"{{"channel":{{"queue":{{"peer":"{PEER}","amount":"{text}","push":9,"private":true,"unchecked":false}}}}}}"#
        );
        reads(&json, Request::Channel(ChannelRequest::Queue(args)));
    };
    queue(ChannelAmount::Exact(Amount::from_sat(500_000)), "500000");
    queue(ChannelAmount::Rest, "rest");
    let (peer, amount) = (PEER.parse().unwrap(), Amount::from_sat(500_000));
    let fee_rate = Some(3.0.try_into().unwrap());
    let open = OpenArgs { peer, amount, push: Amount::ZERO, private: false, unchecked: true, fee_rate };
    reads(
        &format!(
            r#"{{"channel":{{"open":{{"peer":"{PEER}","amount":500000,"push":0,"private":false,"unchecked":true,"fee_rate":3}}}}}}"#
        ),
        Request::Channel(ChannelRequest::Open(open)),
    );
}

#[test]
fn numbers_and_names_are_written_bare() {
    reads(
        r#"{"channel":{"cancel":{"intent":3}}}"#,
        Request::Channel(ChannelRequest::Cancel(CancelArgs { intent: IntentId(3) })),
    );
    reads(
        r#"{"exchange":{"bump":{"exchange":7,"fee_rate":30}}}"#,
        Request::Exchange(ExchangeRequest::Bump(BumpArgs {
            exchange: ExchangeId(7),
            fee_rate: 30.0.try_into().unwrap(),
        })),
    );
    reads(
        r#"{"session":{"cancel":{"invoice":"abc"}}}"#,
        Request::Session(SessionRequest::Cancel(SessionArgs { invoice: InvoiceId("abc".into()) })),
    );
    reads(r#"{"wallet":"coins"}"#, Request::Wallet(WalletRequest::Coins));
    reads(r#"{"peer":"list"}"#, Request::Peer(PeerRequest::List));
    reads(r#""status""#, Request::Status);
}

#[test]
fn what_may_be_left_out_of_a_request_may_be_left_out() {
    let request: Request = serde_json::from_str(r#"{"receive":{"expires":60}}"#).unwrap();
    let expires = Lifetime::try_from(60).unwrap();
    assert_eq!(
        request,
        Request::Receive(ReceiveArgs {
            amount: None,
            expires,
            via: None,
            payer_is_me: false,
            lightning: false,
            top_up: false,
            label: None,
            own_id: None,
        })
    );
    let request: Request = serde_json::from_str(r#"{"send":{"uri":"bitcoin:x","wait":1}}"#).unwrap();
    assert_eq!(
        request,
        Request::Send(SendArgs {
            uri: "bitcoin:x".into(),
            amount: None,
            again: false,
            fee_rate: None,
            wait: 1
        })
    );
}

#[test]
fn what_is_out_of_bounds_is_no_request() {
    for bad in [
        r#"{"receive":{"expires":0}}"#,
        r#"{"receive":{"expires":31622401}}"#,
        r#"{"receive":{"amount":-1,"expires":60}}"#,
        r#"{"receive":{"amount":1.5,"expires":60}}"#,
        r#"{"send":{"uri":"bitcoin:x","fee_rate":0,"wait":1}}"#,
        r#"{"exchange":{"bump":{"exchange":7,"fee_rate":1001}}}"#,
        r#"{"peer":{"connect":{"peer":"nobody"}}}"#,
        r#"{"channel":{"queue":{"peer":"nobody","amount":"rest","push":0,"private":true}}}"#,
        r#"{"receive":{"expires":60,"label":"a\nb"}}"#,
        r#"{"wait":{"invoice":"abc","until":"soon"}}"#,
        r#""run""#,
        r#""stop""#,
    ] {
        assert!(serde_json::from_str::<Request>(bad).is_err(), "{bad}");
    }
}

#[test]
fn an_answer_has_every_field_in_its_order_and_null_where_nothing_is_known() {
    let address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
    let checked = address.parse::<bitcoin::Address<_>>().unwrap().assume_checked();
    writes(
        Response::Code(Box::new(Code {
            uri: "bitcoin:x".into(),
            address: checked,
            invoice: InvoiceId("abc".into()),
            amount: None,
            via: Via::Https,
            endpoint: "https://a/abc".into(),
            expires: Timestamp(60),
            alternatives: vec![Alternative {
                via: Via::Onion,
                uri: "bitcoin:y".into(),
                endpoint: "z".into(),
            }],
            lightning: None,
            terms: Terms {
                text: "opens nothing".into(),
                channels: Vec::new(),
                reserve: Amount::ZERO,
                fees: Amount::from_sat(9),
                from_wallet: Amount::ZERO,
            },
            label: "tea".parse().ok(),
            own_id: None,
            observer: "nothing",
            note: None,
        })),
        &format!(
            r#"{{"uri":"bitcoin:x","address":"{address}","invoice":"abc","amount_sat":null,"via":"https","endpoint":"https://a/abc","expires":60,"alternatives":[{{"via":"onion","uri":"bitcoin:y","endpoint":"z"}}],"lightning":null,"terms":{{"text":"opens nothing","channels":[],"reserve_sat":0,"fees_up_to_sat":9,"from_wallet_sat":0}},"label":"tea","own_id":null,"observer":"nothing","note":null}}"#
        ),
    );
    writes(
        Response::Payment(Payment {
            status: PaymentStatus::Payjoin,
            txid: Some(txid("aa")),
            fee: Some(Amount::from_sat(141)),
            reason: None,
            earlier: false,
        }),
        &format!(
            r#"{{"status":"payjoin","txid":"{}","fee_sat":141,"reason":null,"earlier":false}}"#,
            txid("aa")
        ),
    );
    writes(
        Response::Payment(Payment {
            status: PaymentStatus::Pending,
            txid: None,
            fee: None,
            reason: Some("later".into()),
            earlier: true,
        }),
        r#"{"status":"pending","txid":null,"fee_sat":null,"reason":"later","earlier":true}"#,
    );
    writes(
        Response::Bumped(Bumped { txid: txid("bb"), fee: Amount::from_sat(5) }),
        &format!(r#"{{"txid":"{}","fee_sat":5}}"#, txid("bb")),
    );
    writes(
        Response::PaidInvoice(PaidInvoice { preimage: "cc".into(), fee_msat: 3, status: "succeeded" }),
        r#"{"preimage":"cc","fee_msat":3,"status":"succeeded"}"#,
    );
}

#[test]
fn the_wallet_is_told_in_satoshis() {
    let sat = Amount::from_sat;
    writes(
        Response::Balance(Balance {
            confirmed: sat(5),
            unconfirmed: sat(4),
            immature: sat(7),
            locked: sat(3),
            reserve: sat(2),
            reserve_closing: sat(8),
            channels: 9,
            closable: 10,
            closing: sat(6),
            spendable: sat(1),
        }),
        r#"{"confirmed_sat":5,"unconfirmed_sat":4,"immature_sat":7,"locked_sat":3,"reserve_sat":2,"reserve_closing_sat":8,"channels":9,"closable":10,"closing_sat":6,"spendable_sat":1}"#,
    );
    let coin = Coin {
        outpoint: OutPoint { txid: txid("dd"), vout: 1 },
        amount: sat(7),
        address: "bcrt1q".into(),
        confirmations: 6,
        locked: false,
    };
    writes(
        Response::Coins(Coins { coins: vec![coin] }),
        &format!(
            r#"{{"coins":[{{"outpoint":"{}:1","amount_sat":7,"address":"bcrt1q","confirmations":6,"locked":false}}]}}"#,
            txid("dd")
        ),
    );
}

#[test]
fn a_channel_that_was_asked_for_is_told_with_where_it_stands() {
    let intent = |amount, state, funding: Option<(Txid, u32)>| {
        let (txid, vout) = funding.unzip();
        let peer = PEER.parse().unwrap();
        let (reason, said, waits, open_by, closing_txid, how, ended) =
            (None, None, None, None, None, None, None);
        let id = IntentId(1);
        let intents = vec![Intent {
            id,
            peer,
            amount,
            state,
            reason,
            said,
            waits,
            open_by,
            txid,
            vout,
            closing_txid,
            how,
            ended,
        }];
        Response::Channels(Channels { intents, channels: Vec::new(), closing: Vec::new(), slots: Vec::new() })
    };
    writes(
        intent(ChannelAmount::Rest, IntentStage::Queued, None),
        &format!(
            r#"{{"intents":[{{"id":1,"peer":"{PEER}","amount":"rest","state":"queued","reason":null,"said":null,"waits":null,"open_by":null,"txid":null,"vout":null,"closing_txid":null,"how":null,"ended":null}}],"channels":[],"closing":[],"slots":[]}}"#
        ),
    );
    writes(
        intent(ChannelAmount::Exact(Amount::from_sat(9)), IntentStage::Released, Some((txid("ee"), 2))),
        &format!(
            r#"{{"intents":[{{"id":1,"peer":"{PEER}","amount":9,"state":"released","reason":null,"said":null,"waits":null,"open_by":null,"txid":"{}","vout":2,"closing_txid":null,"how":null,"ended":null}}],"channels":[],"closing":[],"slots":[]}}"#,
            txid("ee")
        ),
    );
    writes(
        Response::Cancelled(Cancelled { intent: IntentId(3), state: IntentStage::Cancelled }),
        r#"{"intent":3,"state":"cancelled"}"#,
    );
}

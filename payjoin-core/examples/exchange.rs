//! One exchange against a scripted host: the Original is the test vector of BIP 78, the wallet is empty, and nothing
//! is queued. The payer gets a plain proposal.

use std::error::Error;

use bitcoin::{FeeRate, Psbt};
use payjoin_core::{
    Acceptance, Answer, Delivery, Exchange, ExchangeId, Inspection, Invoice, InvoiceId, Output, Policy,
    Question, Request, Resources, Timestamp,
};

const ORIGINAL: &str = "cHNidP8BAHMCAAAAAY8nutGgJdyYGXWiBEb45Hoe9lWGbkxh/6bNiOJdCDuDAAAAAAD+////AtyVuAUAAAAAF6kUHe\
    hJ8GnSdBUOOv6ujXLrWmsJRDCHgIQeAAAAAAAXqRR3QJbbz0hnQ8IvQ0fptGn+votneofTAAAAAAEBIKgb1wUAAAAAF6kU3k4ekGHKWRNbA1rV5tR\
    5kEVDVNCHAQcXFgAUx4pFclNVgo1WWAdN1SYNX8tphTABCGsCRzBEAiB8Q+A6dep+Rz92vhy26lT0AjZn4PRLi8Bf9qoB/CMk0wIgP/Rj2PWZ3gEj\
    UkTlhDRNAQ0gXwTO7t9n+V14pZ6oljUBIQMVmsAaoNWHVMS02LfTSe0e388LNitPa1UQZyOihY+FFgABABYAFEb2Giu6c4KO5YW0pfw3lGp9jMUUAAA=";

fn main() -> Result<(), Box<dyn Error>> {
    let original: Psbt = ORIGINAL.parse()?;
    let now = Timestamp(1_700_000_000);
    let request = Request {
        query: "v=1&maxadditionalfeecontribution=182&additionalfeeoutputindex=0".into(),
        content_type: Some("text/plain".into()),
        content_length: Some(ORIGINAL.len().to_string()),
        body: ORIGINAL.into(),
        authenticated: true,
        delivery: Delivery::Http,
    };
    let script = original.unsigned_tx.output.last().ok_or("the vector has outputs")?.script_pubkey.clone();
    let invoice = Invoice {
        id: InvoiceId("2qzsyqx4tvd5eay6cvd2hk27bd".into()),
        script,
        amount: None,
        created: now,
        expires: now.plus(3600),
        payer_is_me: false,
        top_up: false,
        label: None,
        own_id: None,
    };

    let mut exchange = Exchange::new(now, invoice, request, Policy::default());
    let reply = loop {
        match exchange.poll_output() {
            Output::Done(reply) => break reply,
            Output::Ask(question) => {
                println!("asked: {}", name(&question));
                exchange.handle_input(now, answer(question, &original)?)?;
            }
        }
    };
    println!("{} {}\n{}", reply.status(), reply.content_type(), reply.body());
    Ok(())
}

/// A real host asks its node, its wallet and its store here.
fn answer(question: Question, original: &Psbt) -> Result<Answer, Box<dyn Error>> {
    Ok(match question {
        Question::Recall(_) => Answer::Recalled(None),
        Question::Inspect(_) => {
            let prevouts = original.iter_funding_utxos().map(|utxo| utxo.ok().cloned()).collect();
            Answer::Inspected(Inspection {
                acceptable: Acceptance::Yes,
                prevouts,
                floor: FeeRate::BROADCAST_MIN,
            })
        }
        Question::Owns(scripts) => Answer::Owned(vec![false; scripts.len()]),
        Question::Resources(_) => Answer::Resources(Resources::default()),
        Question::Admit(_) => Answer::Admitted(ExchangeId(1)),
        Question::Sign(proposal) => Answer::Signed(Box::new(proposal.psbt().clone())),
        Question::Release(..) | Question::Offer(..) => Answer::Released,
        Question::Scripts(_) | Question::OpenChannels(_) | Question::Fund(..) | Question::Abandon(_) => {
            return Err("no channel was queued".into());
        }
    })
}

fn name(question: &Question) -> &'static str {
    match question {
        Question::Recall(_) => "Recall: was this Original answered before?",
        Question::Inspect(_) => "Inspect: what do its inputs really spend, and would the mempool take it?",
        Question::Owns(_) => "Owns: is one of them ours?",
        Question::Resources(_) => "Resources: which coins and intents may be used?",
        Question::Admit(_) => "Admit: record it durably",
        Question::Scripts(_) => "Scripts",
        Question::OpenChannels(_) => "OpenChannels",
        Question::Fund(..) => "Fund",
        Question::Abandon(_) => "Abandon",
        Question::Sign(_) => "Sign our inputs",
        Question::Release(..) => "Release: store the proposal durably",
        Question::Offer(..) => "Offer: keep the Original and the proposal durably, in one write",
    }
}

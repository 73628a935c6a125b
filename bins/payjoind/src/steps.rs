//! Shows the steps of each payment on standard output.

use payjoin_node::{Event, EventStream, Heard, Output, Step};
use serde_json::{Map, Value};
use tokio::sync::watch;

/// How far the daemon has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It cannot be asked yet, so nobody is told that it is ready.
    Starting,
    /// It can be asked.
    Open,
    /// Nothing more will come.
    Over,
}

/// Shows every event, until the daemon is over. `json` prints one JSON object a step instead of a line of text.
pub(crate) async fn show(
    mut events: EventStream,
    out: Output,
    json: bool,
    mut phase: watch::Receiver<Phase>,
) {
    loop {
        let heard = tokio::select! {
            biased;
            heard = events.next() => heard,
            _ = phase.wait_for(|phase| *phase == Phase::Over) => events.try_next(),
        };
        let event = match heard {
            Some(Heard::Event(event)) => event,
            Some(Heard::Missed(missed)) => {
                tracing::warn!(missed, "steps were not shown: there were too many at once");
                continue;
            }
            None => return,
        };
        if matches!(event.step, Step::Ready { .. }) {
            let _ = phase.wait_for(|phase| *phase != Phase::Starting).await;
        }
        out.tell(text(&event, json));
    }
}

fn text(event: &Event, json: bool) -> String {
    let Ok(Value::Object(mut fields)) = serde_json::to_value(&event.step) else { return String::new() };
    // What the step names itself stays where it is.
    let of = [
        ("invoice", event.invoice.as_ref().map(|invoice| Value::from(invoice.to_string()))),
        ("exchange", event.exchange.map(|exchange| Value::from(exchange.0))),
        ("time", json.then(|| Value::from(event.time.0))),
    ];
    for (name, value) in of {
        if let Some(value) = value {
            fields.entry(name).or_insert(value);
        }
    }
    match json {
        true => format!("{}\n", Value::Object(fields)),
        false => format!("{}\n", line(&fields)),
    }
}

fn line(fields: &Map<String, Value>) -> String {
    let show = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    let details: Vec<_> = fields
        .iter()
        .filter(|(name, _)| *name != "step")
        .map(|(name, value)| format!("{name}={}", show(value)))
        .collect();
    format!("{:18} {}", fields.get("step").map(show).unwrap_or_default(), details.join(" "))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc::{Sender, channel};
    use std::time::Duration;

    use payjoin_node::{ExchangeId, InvoiceId, Timestamp};

    use super::*;

    #[test]
    fn a_step_is_one_line_for_people_and_one_object_for_programs() {
        let id = "aa".repeat(32);
        let txid = Some(id.parse().unwrap());
        let event =
            Event::new(Timestamp(1), Step::Proposal { txid, channels: 2, reason: Some("late".into()) });
        let shown = format!("Proposal PSBT      txid={id} channels=2 reason=late\n");
        assert_eq!(text(&event, false), shown);
        let shown = format!(
            "{{\"step\":\"Proposal PSBT\",\"txid\":\"{id}\",\"channels\":2,\"reason\":\"late\",\"time\":1}}\n"
        );
        assert_eq!(text(&event, true), shown);
    }

    #[test]
    fn a_step_tells_what_it_belongs_to_and_programs_when_it_was() {
        let step = Step::Proposal { txid: None, channels: 0, reason: None };
        let event = Event { invoice: Some(InvoiceId("a".into())), ..Event::new(Timestamp(5), step) };
        let event = event.of(ExchangeId(7));
        assert_eq!(text(&event, false), "Proposal PSBT      channels=0 invoice=a exchange=7\n");
        assert_eq!(
            text(&event, true),
            "{\"step\":\"Proposal PSBT\",\"channels\":0,\"invoice\":\"a\",\"exchange\":7,\"time\":5}\n"
        );
        // What the step names itself is there once.
        let code = Step::Code { invoice: InvoiceId("b".into()), amount: None, uri: "bitcoin:x".into() };
        let shown = text(&Event::new(Timestamp(5), code), false);
        assert_eq!(shown, "BIP 21             invoice=b uri=bitcoin:x\n");
    }

    fn told() -> (tokio::sync::broadcast::Sender<Event>, EventStream) {
        let (sender, receiver) = tokio::sync::broadcast::channel(8);
        (sender, EventStream::from(receiver))
    }

    fn ready() -> Event {
        let node_id = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798".parse().unwrap();
        Event::new(Timestamp(1), Step::Ready { node_id, height: 7 })
    }

    #[tokio::test]
    async fn nobody_is_told_that_the_daemon_is_ready_before_it_can_be_asked() {
        let ((sender, events), (phase, phases)) = (told(), watch::channel(Phase::Starting));
        let (taken, read) = channel();
        let out = Output::to(Taker(taken), |_| None);
        sender.send(ready()).unwrap();
        let showing = tokio::spawn(show(events, out.clone(), false, phases));
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        out.flush(Duration::from_secs(10));
        assert!(read.try_recv().is_err());
        phase.send_replace(Phase::Over);
        showing.await.unwrap();
        out.flush(Duration::from_secs(10));
        assert!(read.try_recv().unwrap().starts_with(b"ready"));
    }

    struct Taker(Sender<Vec<u8>>);

    impl io::Write for Taker {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}

//! Shows the steps of each payment on standard output.

use payjoin_node::{Event, EventStream, Heard, Step};
use serde_json::{Map, Value};
use tokio::io::{AsyncWrite, AsyncWriteExt};
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
    mut out: impl AsyncWrite + Unpin,
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
                tracing::warn!(missed, "steps were not shown: whoever reads them is too slow");
                continue;
            }
            None => return,
        };
        if matches!(event.step, Step::Ready { .. }) {
            let _ = phase.wait_for(|phase| *phase != Phase::Starting).await;
        }
        // On a full disk, or when whoever read it is gone, the step is not shown. Nothing else may come of that.
        let _ = out.write_all(text(&event, json).as_bytes()).await;
        let _ = out.flush().await;
    }
}

fn text(event: &Event, json: bool) -> String {
    match serde_json::to_value(&event.step) {
        Ok(Value::Object(fields)) if !json => format!("{}\n", line(&fields)),
        Ok(step) => format!("{step}\n"),
        Err(_) => String::new(),
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
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use payjoin_node::Timestamp;

    use super::*;

    #[test]
    fn a_step_is_one_line_for_people_and_one_object_for_programs() {
        let id = "aa".repeat(32);
        let txid = Some(id.parse().unwrap());
        let event =
            Event::new(Timestamp(1), Step::Proposal { txid, channels: 2, reason: Some("late".into()) });
        let shown = format!("Proposal PSBT      txid={id} channels=2 reason=late\n");
        assert_eq!(text(&event, false), shown);
        let shown =
            format!("{{\"step\":\"Proposal PSBT\",\"txid\":\"{id}\",\"channels\":2,\"reason\":\"late\"}}\n");
        assert_eq!(text(&event, true), shown);
    }

    struct FullDisk;

    impl AsyncWrite for FullDisk {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::Error::other("no space left")))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::Error::other("no space left")))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
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
    async fn a_step_that_cannot_be_shown_disturbs_nobody() {
        let (sender, events) = told();
        sender.send(ready()).unwrap();
        show(events, FullDisk, true, watch::channel(Phase::Over).1).await;
    }

    #[tokio::test]
    async fn nobody_is_told_that_the_daemon_is_ready_before_it_can_be_asked() {
        let ((sender, events), (phase, phases)) = (told(), watch::channel(Phase::Starting));
        let (out, mut read) = tokio::io::duplex(1024);
        sender.send(ready()).unwrap();
        let showing = tokio::spawn(show(events, out, false, phases));
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let mut shown = [0; 5];
        let reading = tokio::io::AsyncReadExt::read_exact(&mut read, &mut shown);
        assert!(tokio::time::timeout(std::time::Duration::from_millis(20), reading).await.is_err());
        phase.send_replace(Phase::Open);
        tokio::io::AsyncReadExt::read_exact(&mut read, &mut shown).await.unwrap();
        assert_eq!(&shown, b"ready");
        phase.send_replace(Phase::Over);
        showing.await.unwrap();
    }
}

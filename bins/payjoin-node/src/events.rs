//! Events: told by every part, read by whoever likes, in his own time.

use std::sync::Arc;

use payjoin_core::{Event, Step};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::broadcast::{self, Receiver, Sender};

use crate::clock::now;
use crate::counts::Counts;

/// How far a reader may be behind before he misses events.
const KEPT: usize = 1024;

/// Where the parts of a node tell what happens. None of them waits for a reader.
#[derive(Clone, Debug)]
pub(crate) struct Events(Sender<Event>, Arc<Counts>);

impl Events {
    pub(crate) fn new() -> Self {
        Self(broadcast::channel(KEPT).0, Arc::default())
    }

    pub(crate) fn tell(&self, step: Step) {
        // Nobody may be listening.
        let _ = self.0.send(Event::new(now(), step));
    }

    /// For the parts that are in other crates.
    pub(crate) fn sender(&self) -> Sender<Event> {
        self.0.clone()
    }

    /// Whether nobody listens.
    #[cfg(test)]
    pub(crate) fn is_unheard(&self) -> bool {
        self.0.receiver_count() == 0
    }

    /// What was told and answered, counted.
    pub(crate) fn counts(&self) -> &Arc<Counts> {
        &self.1
    }

    pub(crate) fn subscribe(&self) -> EventStream {
        EventStream(self.0.subscribe())
    }
}

/// The events of a node since this was made, in order. A reader who is slow misses some and hears how many; the node
/// never waits for him.
#[derive(Debug)]
pub struct EventStream(Receiver<Event>);

/// What a reader of events hears next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// An event.
    Event(Event),
    /// So many were told before the next one, and are gone.
    Missed(u64),
}

impl From<Receiver<Event>> for EventStream {
    fn from(receiver: Receiver<Event>) -> Self {
        Self(receiver)
    }
}

impl EventStream {
    /// Waits for the next one; `None` once the node is gone and everything was heard.
    pub async fn next(&mut self) -> Option<Heard> {
        match self.0.recv().await {
            Ok(event) => Some(Heard::Event(event)),
            Err(RecvError::Lagged(missed)) => Some(Heard::Missed(missed)),
            Err(RecvError::Closed) => None,
        }
    }

    /// The next one, if it was told already.
    pub fn try_next(&mut self) -> Option<Heard> {
        match self.0.try_recv() {
            Ok(event) => Some(Heard::Event(event)),
            Err(TryRecvError::Lagged(missed)) => Some(Heard::Missed(missed)),
            Err(TryRecvError::Empty | TryRecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn height(heard: Option<Heard>) -> Option<u32> {
        match heard? {
            Heard::Event(Event { step: Step::Confirmed { height, .. }, .. }) => Some(height),
            heard => panic!("{heard:?}"),
        }
    }

    fn confirmed(height: u32) -> Step {
        Step::Confirmed { txid: bitcoin::hashes::Hash::all_zeros(), height }
    }

    #[tokio::test]
    async fn every_reader_hears_all_events_in_order_and_then_the_end() {
        let events = Events::new();
        let mut readers = [events.subscribe(), events.subscribe()];
        (0..3).for_each(|n| events.tell(confirmed(n)));
        drop(events);
        for reader in &mut readers {
            for n in 0..3 {
                assert_eq!(height(reader.next().await), Some(n));
            }
            assert_eq!(reader.next().await, None);
        }
    }

    #[tokio::test]
    async fn a_reader_who_does_not_read_holds_nobody_up_and_is_told_what_he_missed() {
        let (events, extra) = (Events::new(), 10);
        let (mut slow, kept) = (events.subscribe(), KEPT as u32);
        (0..kept + extra).for_each(|n| events.tell(confirmed(n)));
        assert_eq!(slow.try_next(), Some(Heard::Missed(extra.into())));
        for n in extra..kept + extra {
            assert_eq!(height(slow.try_next()), Some(n));
        }
        assert_eq!(slow.try_next(), None);
    }

    #[test]
    fn an_event_that_nobody_listens_to_is_told_in_vain() {
        Events::new().tell(confirmed(1));
    }
}

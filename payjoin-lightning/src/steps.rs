//! The steps of an opening, told to whoever listens.

use std::time::{SystemTime, UNIX_EPOCH};

use payjoin_core::{Event, Step, Timestamp};
use tokio::sync::broadcast;

use crate::ChannelKey;

/// Where the steps of openings are told. Nobody is waited for: whoever listens too slowly misses some.
#[derive(Clone, Debug, Default)]
pub(crate) struct Steps(pub(crate) Option<broadcast::Sender<Event>>);

impl Steps {
    pub(crate) fn tell(&self, key: Option<ChannelKey>, step: Step) {
        // An opening that nobody funds is no step of a payment.
        let Some(events) = self.0.as_ref().filter(|_| !key.is_some_and(ChannelKey::is_probe)) else {
            return;
        };
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let event = Event::new(Timestamp(since.as_secs()), step);
        // Nobody may be listening.
        let _ = events.send(Event { exchange: key.map(|key| key.exchange), ..event });
    }
}

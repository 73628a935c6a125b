//! A build without Tor.

use std::sync::Arc;

use payjoin_io::{HttpClient, HttpError, Listener};
use payjoin_lightning::node::Dialer;
use tokio::sync::watch;

use super::TorState;
use crate::events::Events;
use crate::settings::Settings;

/// Why Tor did not start.
#[derive(Debug, thiserror::Error)]
#[error(
    "this payjoind was built without Tor: build it with its default features to use [tor] enabled = true"
)]
pub struct TorError;

/// There is none.
pub(crate) enum Tor {}

impl Tor {
    pub(crate) async fn start(_: &Settings, _: &Events) -> Result<Self, TorError> {
        Err(TorError)
    }

    pub(crate) fn listener(&self) -> Arc<dyn Listener> {
        match *self {}
    }

    pub(crate) fn state(&self) -> watch::Receiver<TorState> {
        match *self {}
    }

    pub(crate) fn http(&self, _: Option<Vec<u8>>) -> Result<Arc<dyn HttpClient>, HttpError> {
        match *self {}
    }

    pub(crate) fn dialer(&self, _: bool) -> Arc<dyn Dialer> {
        match *self {}
    }

    pub(crate) async fn stop(self) {
        match self {}
    }
}

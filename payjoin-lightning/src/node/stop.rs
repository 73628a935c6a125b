//! One switch that ends all tasks of the node.

use tokio::sync::watch;

/// Thrown once.
pub(super) struct Switch(watch::Sender<bool>);

/// What a task holds.
#[derive(Clone)]
pub(super) struct Stop(watch::Receiver<bool>);

impl Switch {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    pub(super) fn throw(&self) {
        self.0.send_replace(true);
    }

    pub(super) fn stop(&self) -> Stop {
        Stop(self.0.subscribe())
    }
}

impl Stop {
    /// Returns when the switch was thrown or is gone.
    pub(super) async fn wait(&mut self) {
        let _ = self.0.wait_for(|thrown| *thrown).await;
    }
}

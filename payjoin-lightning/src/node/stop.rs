//! One switch that ends all tasks of the node.

use std::sync::OnceLock;

use tokio::sync::watch;

/// Thrown once.
pub(super) struct Switch {
    thrown: watch::Sender<bool>,
    broken: OnceLock<String>,
}

/// What a task holds.
#[derive(Clone)]
pub(super) struct Stop(watch::Receiver<bool>);

impl Switch {
    pub(super) fn new() -> Self {
        Self { thrown: watch::Sender::new(false), broken: OnceLock::new() }
    }

    pub(super) fn throw(&self) {
        self.thrown.send_replace(true);
    }

    /// Something panicked and left LDK's locks poisoned: nothing of it may be used any more, not even to save it.
    pub(super) fn break_down(&self, reason: String) {
        let _ = self.broken.set(reason);
        self.throw();
    }

    /// The first reason of [`Switch::break_down`].
    pub(super) fn broken(&self) -> Option<&str> {
        self.broken.get().map(String::as_str)
    }

    pub(super) fn stop(&self) -> Stop {
        Stop(self.thrown.subscribe())
    }
}

impl Stop {
    /// Returns when the switch was thrown or is gone.
    pub(super) async fn wait(&mut self) {
        let _ = self.0.wait_for(|thrown| *thrown).await;
    }
}

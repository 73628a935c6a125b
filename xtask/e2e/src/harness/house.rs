//! What an operator does with a daemon besides commands: other settings, signals, output that nobody reads.

use std::fs;
use std::process::{ChildStderr, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use xtask_programs::process::Server;

use super::daemon::{Daemon, lock};
use super::wait;

impl Daemon {
    /// Starts it again, with everything to tell, and reads nothing of it. The rest of what it writes on stderr is returned.
    pub(crate) fn restart_unread(&self) -> Result<ChildStderr> {
        let mut command = self.command();
        command.arg("run").env("PAYJOIND_LOG", "trace").stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut server = Server::start(&mut command)?;
        let stderr = server.stderr().context("no pipe to the daemon")?;
        self.await_answer(server)?;
        Ok(stderr)
    }

    /// Waits until it has ended after SIGTERM, and says how long that took.
    pub(crate) fn terminate(&self) -> Result<Duration> {
        let begun = Instant::now();
        self.signal("TERM")?;
        wait::until(&format!("{} ends", self.name), Duration::from_secs(60), || {
            let mut server = lock(&self.shared.server);
            server.as_mut().context("it does not run")?.ended()
        })?;
        self.kill();
        Ok(begun.elapsed())
    }

    /// Changes its settings, for the next start or SIGHUP.
    pub(crate) fn change_settings(&self, change: impl FnOnce(String) -> String) -> Result<()> {
        let path = self.folder().join("payjoind.toml");
        Ok(fs::write(&path, change(fs::read_to_string(&path)?))?)
    }
}

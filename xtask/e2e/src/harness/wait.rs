//! Waiting for something to become true.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Asks again and again until `ready` gives a value. An error of `ready` ends the wait.
pub(crate) fn until<T>(
    what: &str,
    within: Duration,
    mut ready: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = ready()? {
            return Ok(value);
        }
        if start.elapsed() > within {
            bail!("waited {} s in vain: {what}", within.as_secs());
        }
        sleep(Duration::from_millis(50));
    }
}

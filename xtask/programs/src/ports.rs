//! Loopback ports for programs that are told where to listen.

use std::env;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result};

/// Below the range from which the system takes ports for outgoing connections, so that none is lost between asking
/// and using.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

static NEXT: AtomicU16 = AtomicU16::new(0);
/// A lock for each port that this process has given out, until the process ends.
static TAKEN: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A port that nothing listens on, and that no other run on this machine is given as long as this one lasts: what is
/// to listen there may take its time to start.
pub fn free() -> Result<u16> {
    let folder = env::temp_dir().join("xtask-ports");
    fs::create_dir_all(&folder)?;
    // Runs side by side begin at different places.
    let start = u16::try_from(std::process::id().wrapping_mul(97) % u32::from(COUNT))?;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (start + step % COUNT) % COUNT;
        let lock = File::create(folder.join(port.to_string()))?;
        if lock.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            TAKEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(lock);
            return Ok(port);
        }
    }
    None.context("no free loopback port")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_port_is_given_out_once_though_nothing_listens_there() {
        let ports: BTreeSet<_> = (0..100).map(|_| free().unwrap()).collect();
        assert_eq!(ports.len(), 100);
        for port in ports {
            let lock = File::create(env::temp_dir().join("xtask-ports").join(port.to_string())).unwrap();
            assert!(lock.try_lock().is_err(), "another run could be given {port}");
        }
    }
}

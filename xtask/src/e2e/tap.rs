//! A port before another one that remembers who came.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

pub(crate) struct Tap {
    address: SocketAddr,
    seen: Arc<Mutex<BTreeSet<IpAddr>>>,
    // Dropped with it: no connection is carried any more.
    _carriers: Runtime,
}

impl Tap {
    /// Carries every connection to `target`.
    pub(crate) fn new(target: SocketAddr) -> Result<Self> {
        let carriers = Runtime::new()?;
        let port = carriers.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let (address, seen) = (port.local_addr()?, Arc::new(Mutex::new(BTreeSet::new())));
        let notes = Arc::clone(&seen);
        carriers.spawn(async move {
            while let Ok((mut here, from)) = port.accept().await {
                notes.lock().unwrap_or_else(PoisonError::into_inner).insert(from.ip());
                tokio::spawn(async move {
                    let mut there = TcpStream::connect(target).await?;
                    copy_bidirectional(&mut here, &mut there).await
                });
            }
        });
        Ok(Self { address, seen, _carriers: carriers })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where connections came from.
    pub(crate) fn seen(&self) -> BTreeSet<IpAddr> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

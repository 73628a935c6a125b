//! What comes over a connection: heads, lengths, bodies, and whatever is none of these.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bitcoin::{Amount, OutPoint, Psbt, ScriptBuf, Transaction};
use payjoin_core::{
    Broadcast, Chain, ChainError, CheckedProposal, Coin, Exchanges, Holder, Inspection, NoChannels, Policy,
    Reserve, ResourceRequest, Wallet, WalletError,
};
use payjoin_io::{Host, Limits, Memory, MemoryLedger, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use crate::kit::{NOW, invoice};

/// Longer than any limit of time below.
const HANGS: Duration = Duration::from_secs(20);

/// Runs to the end in this thread.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    thread_local!(static RUNTIME: Runtime = Builder::new_current_thread().enable_time().build().expect("a runtime"));
    RUNTIME.with(|runtime| runtime.block_on(work))
}

/// Bytes to the server, and then the end. It answers in HTTP, or closes without a word, and it is still there.
pub fn request(data: &[u8]) {
    block_on(async {
        let ledger = Arc::new(MemoryLedger::default());
        ledger.insert_invoice(&invoice()).await.expect("a new invoice");
        let (away, nobody) = (Arc::new(Away), Arc::new(NoChannels));
        let (host, _owed) = Host::new(away.clone(), away, nobody, ledger, Policy::default(), || NOW);
        let (listener, connector) = Memory::new(true);
        let time = Duration::from_millis(200);
        let limits = Limits { header_time: time, body_time: time, exchange_time: time, ..Limits::default() };
        let server = Server::new(host, limits);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = server.run(&listener, async { drop(stopped.await) });
        let paying = async {
            let mut stream = connector.connect().await.expect("it listens");
            // The server may close before it has read everything.
            drop(stream.write_all(&data[..data.len().min(60_000)]).await);
            drop(stream.shutdown().await);
            let mut answer = Vec::new();
            timeout(HANGS, stream.read_to_end(&mut answer)).await.expect("it hangs").ok();
            check(&answer);
            drop(stop);
        };
        tokio::join!(serving, paying);
    });
}

fn check(answer: &[u8]) {
    if answer.is_empty() {
        return;
    }
    let text = std::str::from_utf8(answer).expect("an answer is text");
    let status: u16 = text["HTTP/1.1 ".len()..][..3].parse().expect("a status");
    assert!([200, 204, 400, 404, 405, 408, 411, 413, 415, 429, 431, 503].contains(&status), "{text}");
    assert!(!text.to_ascii_lowercase().contains("server:"), "{text}");
}

/// A chain and a wallet that are away.
struct Away;

fn away<T>() -> Result<T, ChainError> {
    Err(ChainError::Away("it is off".into()))
}

fn refused<T>() -> Result<T, WalletError> {
    Err(WalletError::Refused("it is off".into()))
}

#[async_trait]
impl Chain for Away {
    async fn inspect(&self, _: &Transaction) -> Result<Inspection, ChainError> {
        away()
    }
    async fn broadcast(&self, _: &Transaction) -> Result<Broadcast, ChainError> {
        away()
    }
    async fn submit_package(&self, _: &[Transaction]) -> Result<Broadcast, ChainError> {
        away()
    }
}

#[async_trait]
impl Wallet for Away {
    async fn owns(&self, _: &[ScriptBuf]) -> Result<Vec<bool>, WalletError> {
        refused()
    }
    async fn reserve(
        &self,
        _: Holder,
        _: &ResourceRequest,
        _: &[OutPoint],
    ) -> Result<(Vec<Coin>, Reserve), WalletError> {
        refused()
    }
    async fn hold(&self, _: Holder, _: &[OutPoint]) -> Result<(), WalletError> {
        refused()
    }
    async fn sign(&self, _: &CheckedProposal) -> Result<Psbt, WalletError> {
        refused()
    }
    async fn child(&self, _: &Transaction, _: u32, _: Amount) -> Result<Transaction, WalletError> {
        refused()
    }
}

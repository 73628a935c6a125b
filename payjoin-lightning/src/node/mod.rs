//! The embedded default node: LDK, a BDK wallet, bitcoind.

mod rpc;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use rpc::{Inspected, Rpc, RpcAuth, RpcError};

/// Locks a mutex. Every guarded section leaves its data whole, so a panic elsewhere does not make it unusable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

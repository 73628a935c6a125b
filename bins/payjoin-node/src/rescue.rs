//! What is owed to payers, from a database that cannot be used any more.

use std::path::{Path, PathBuf};

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Transaction, Txid};
use payjoin_core::ExchangeId;
use payjoin_io::StoreError;
use serde::Serialize;

use crate::keep::database;

/// What a damaged database still says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rescued {
    /// Payments that may not have been broadcast.
    pub originals: Vec<Owed>,
    /// Exchanges on damaged pages.
    pub unreadable: Vec<ExchangeId>,
}

/// A payment to us, signed by its payer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Owed {
    /// The exchange it began.
    pub exchange: ExchangeId,
    /// Its transaction's id.
    pub txid: Txid,
    /// The transaction, ready to be broadcast.
    pub hex: String,
}

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
pub enum RescueError {
    /// No node was ever there.
    #[error("there is no {}: is --datadir right?", .0.display())]
    NoDatabase(PathBuf),
    /// Nothing in it can be read.
    #[error("{}: {error}", path.display())]
    Store {
        /// The database.
        path: PathBuf,
        /// What is wrong with it.
        error: StoreError,
    },
}

/// Reads the payments that are still owed, page by page where it must. Needs no node and changes nothing.
pub fn rescue(datadir: &Path) -> Result<Rescued, RescueError> {
    let path = database(datadir);
    if !path.exists() {
        return Err(RescueError::NoDatabase(path));
    }
    let rescued = payjoin_io::rescue(&path).map_err(|error| RescueError::Store { path, error })?;
    Ok(Rescued { originals: rescued.originals.iter().map(owed).collect(), unreadable: rescued.unreadable })
}

fn owed((exchange, original): &(ExchangeId, Transaction)) -> Owed {
    Owed { exchange: *exchange, txid: original.compute_txid(), hex: serialize_hex(original) }
}

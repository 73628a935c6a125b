//! Running other programs, for build tasks and tests. Knows no crate of ours.

pub mod bitcoind;
pub mod cln;
pub mod lnd;
pub mod ports;
pub mod process;
pub mod workspace;

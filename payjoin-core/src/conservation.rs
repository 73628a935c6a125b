//! The check that stands before every signature (money rule 2).

use bitcoin::{Psbt, Transaction, TxOut};

/// A proposal whose transaction id cannot change before it is broadcast (money rule 4) and that the payer cannot
/// replace by one of another id (money rule 5). Only [`Conservation`] makes one.
#[derive(Clone, Debug)]
pub struct StableProposal {
    transaction: Transaction,
    funding: Vec<(crate::PlannedChannel, u32)>,
}

impl StableProposal {
    /// The unsigned payjoin; its id is final.
    #[must_use]
    pub fn transaction(&self) -> &Transaction {
        &self.transaction
    }

    /// Each channel with the index of its funding output, in the order the scripts were asked for.
    #[must_use]
    pub fn funding(&self) -> &[(crate::PlannedChannel, u32)] {
        &self.funding
    }
}

/// A proposal that passed [`Conservation`] and may be signed.
#[derive(Clone, Debug)]
pub struct CheckedProposal {
    psbt: Psbt,
    ours: Vec<usize>,
}

impl CheckedProposal {
    /// The proposal to sign, every input of ours with its `witness_utxo`.
    #[must_use]
    pub fn psbt(&self) -> &Psbt {
        &self.psbt
    }

    /// Indexes of our inputs: sign these and no others.
    #[must_use]
    pub fn our_inputs(&self) -> &[usize] {
        &self.ours
    }
}

/// What a proposal must satisfy.
#[derive(Clone, Debug)]
pub struct Conservation {
    /// Real prevouts, in the order of the proposal's inputs.
    pub prevouts: Vec<TxOut>,
}

/// Why a proposal may not be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConservationError {
    /// Inputs and outputs plus fee differ.
    #[error("value is not conserved")]
    Value,
}

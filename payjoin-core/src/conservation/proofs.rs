//! What [`Conservation`](super::Conservation) proves of a proposal, as types that nobody else makes.

use bitcoin::{Psbt, Transaction};

use crate::PlannedChannel;

/// A proposal whose transaction id cannot change before it is broadcast (money rule 4) and that the payer cannot
/// replace by one of another id (money rule 5). Only [`Conservation`](super::Conservation) makes one.
#[derive(Clone, Debug)]
pub struct StableProposal {
    pub(super) psbt: Box<Psbt>,
    pub(super) funding: Vec<(PlannedChannel, u32)>,
}

impl StableProposal {
    /// The unsigned payjoin; its id is final.
    #[must_use]
    pub fn transaction(&self) -> &Transaction {
        &self.psbt.unsigned_tx
    }

    /// The unsigned payjoin, each input with the `witness_utxo` that the chain knows, and nothing else.
    #[must_use]
    pub fn psbt(&self) -> &Psbt {
        &self.psbt
    }

    /// Each channel with the index of its funding output, in the order the scripts were asked for.
    #[must_use]
    pub fn funding(&self) -> &[(PlannedChannel, u32)] {
        &self.funding
    }
}

/// A proposal that passed [`Conservation`](super::Conservation) and may be signed.
#[derive(Clone, Debug)]
pub struct CheckedProposal {
    pub(super) psbt: Psbt,
    pub(super) ours: Vec<usize>,
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

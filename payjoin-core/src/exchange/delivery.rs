//! What the way of the reply demands of a Proposal PSBT.

use bitcoin::Psbt;
use bitcoin::psbt::Input;

/// The way of the reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// In an HTTP answer: UTXO data only for inputs of ours, of any size. BIP 78, "Receiver's payjoin proposal".
    #[default]
    Http,
    /// To a v2 payer's mailbox: complete UTXO data, padded to a fixed size. BIP 77, "Receiver Proposal PSBT Messaging".
    Mailbox,
    /// To a v1 payer who waits at a BIP 77 directory: as over HTTP, in one OHTTP message.
    DirectoryV1,
}

/// What our signature adds to an input, in bytes: a P2WPKH witness of 108 and the key of its field.
const SIGNATURE: usize = 112;

impl Delivery {
    /// Greatest size of a Proposal PSBT, in bytes and not in base64.
    fn limit(self) -> usize {
        match self {
            Self::Http => usize::MAX,
            // 7,168 of the message, less 64 of the key's encoding and 16 of the tag.
            Self::Mailbox => 7_088,
            // 8,104 in the OHTTP message, less 160 for its request line and framing, in base64.
            Self::DirectoryV1 => (8_104 - 160) / 4 * 3,
        }
    }

    /// Whether the proposal can be delivered once these inputs are signed.
    pub(super) fn carries(self, unsigned: &Psbt, ours: &[usize]) -> bool {
        let mut psbt = unsigned.clone();
        self.dress(&mut psbt, ours);
        psbt.serialize().len() + ours.len() * SIGNATURE <= self.limit()
    }

    /// Whether a signed proposal is such as goes this way.
    pub(super) fn has_dressed(self, proposal: &Psbt, ours: &[usize]) -> bool {
        let mut dressed = proposal.clone();
        self.dress(&mut dressed, ours);
        let told = |input: &Input| input.witness_utxo.is_some() || input.non_witness_utxo.is_some();
        let complete = self != Self::Mailbox || proposal.inputs.iter().all(told);
        dressed == *proposal && complete && proposal.serialize().len() <= self.limit()
    }

    /// Leaves in the proposal what the payer is to see.
    pub(super) fn dress(self, psbt: &mut Psbt, ours: &[usize]) {
        for (index, input) in psbt.inputs.iter_mut().enumerate() {
            if ours.contains(&index) {
                // A wallet may finalize with an empty scriptSig, which is none.
                input.final_script_sig = None;
            } else if self != Self::Mailbox {
                *input = Input::default();
            }
        }
    }
}

//! What strangers can do to a daemon that anybody may reach, and what honest payers send that looks like it.

mod fees;
mod flood;
mod heads;
mod large;
mod repeat;

use crate::cases::Case;

pub(super) const CASES: &[Case] = &[
    Case {
        name: "gossip-flood",
        about: "a stranger announces 100,000 channels that do not exist: they cost nothing; what a peer with a channel says counts",
        run: flood::gossip,
    },
    Case {
        name: "slow-heads",
        about: "hundreds of connections from a dozen addresses say nothing, or half of it, at each listener: payers get past them",
        run: heads::slow,
    },
    Case {
        name: "same-original-anew",
        about: "the same payment in other bytes gets the same answer or an error, another one of that code no other coin",
        run: repeat::anew,
    },
    Case {
        name: "big-original",
        about: "an Original of 12 inputs with all of what they spend is served; bodies that do not end take little memory",
        run: large::original,
    },
    Case {
        name: "sub-sat-fees",
        about: "bitcoind relays from 0.1 sat/vB on: payments in and out at 0.5, a channel with one, a minimum of 0.7",
        run: fees::below_one,
    },
];

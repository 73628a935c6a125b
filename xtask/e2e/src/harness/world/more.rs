//! What only some cases ask of their world.

use anyhow::Result;
use bitcoin::Amount;

use super::{HOLD, PAYER_COINS, Sent, World};
use crate::harness::{Mailroom, Wallet};

impl World<'_> {
    /// One more payer, whose coins are all P2TR.
    pub(crate) fn taproot_payer(&self) -> Result<Wallet<'_>> {
        const NAME: &str = "taproot";
        let wallet = self.chain.wallet(NAME)?;
        self.wallets.borrow_mut().push(NAME);
        self.fund(&[(wallet.address("bech32m")?, Amount::from_sat(PAYER_COINS[0]))])?;
        Ok(wallet)
    }

    /// A daemon has paid this, asked by somebody else than [`World::send`].
    pub(crate) fn note_sent(&self, sent: Sent) {
        self.sent.borrow_mut().push(sent);
    }

    /// Did the payer of this invoice cheat?
    pub(crate) fn is_double_spent(&self, invoice: &str) -> bool {
        self.double_spent.borrow().iter().any(|id| id == invoice)
    }

    /// Two of each of the services of BIP 77.
    pub(crate) fn mailrooms(&self) -> Result<[Mailroom; 2]> {
        let [relay, directory] = [self.mailroom("mailroom-a")?, self.mailroom("mailroom-b")?];
        relay.meet(&directory)?;
        Ok([relay, directory])
    }

    /// One more.
    pub(crate) fn mailroom(&self, name: &str) -> Result<Mailroom> {
        Mailroom::start(&self.programs.mailroom, self.dir, name, HOLD)
    }
}

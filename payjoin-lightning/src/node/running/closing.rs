//! Channels that are closing on chain: what is still ours there.

use std::collections::{HashMap, HashSet};

use bitcoin::{Amount, OutPoint};
use lightning::chain::channelmonitor::{Balance, BalanceSource};
use lightning::io;
use lightning::ln::types::ChannelId;
use lightning::sign::SpendableOutputDescriptor;
use lightning::util::sweep::OutputSpendStatus;
use payjoin_core::ChannelEnd;

use super::Node;
use crate::ClosingChannel;

impl Node {
    /// Channels of ours that closed, by funding output, with the reason; until [`Node::forget_closed`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn closed(&self) -> Result<Vec<(OutPoint, ChannelEnd)>, io::Error> {
        self.closed.list()
    }

    /// Whoever keeps the history has heard of this one.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn forget_closed(&self, funding: &OutPoint) -> Result<(), io::Error> {
        self.closed.forget(funding)
    }

    /// Closed channels, until the last output of each is in the wallet, or in a transaction of the mempool that pays it
    /// there.
    pub fn closing_channels(&self) -> Vec<ClosingChannel> {
        let open: HashSet<_> =
            self.manager.list_channels().iter().map(|channel| channel.channel_id).collect();
        let sweeps = self.unswept();
        let closed = self.chain_monitor.list_monitors().into_iter().filter(|id| !open.contains(id));
        closed.filter_map(|id| self.closing_channel(id, sweeps.get(&id).copied().unwrap_or(0))).collect()
    }

    fn closing_channel(&self, id: ChannelId, unswept: u64) -> Option<ClosingChannel> {
        let monitor = self.chain_monitor.get_monitor(id).ok()?;
        let funding = monitor.get_funding_txo().into_bitcoin_outpoint();
        let balances = monitor.get_claimable_balances();
        let is_out = |balance: &&Balance| match balance {
            // Without a transaction of ours the funding was never mined; one that pays the wallet itself counts there.
            Balance::ClaimableOnChannelClose { .. } => {
                self.broadcaster.spender(&funding).is_some_and(|txid| !self.wallet.awaits(&txid))
            }
            Balance::ClaimableAwaitingConfirmations { source, .. } => *source != BalanceSource::CoopClose,
            _ => true,
        };
        let claimable: u64 = balances.iter().filter(is_out).map(Balance::claimable_amount_satoshis).sum();
        let sat = claimable + unswept;
        (sat > 0).then(|| ClosingChannel {
            channel_id: id.to_string(),
            peer: monitor.get_counterparty_node_id(),
            funding,
            sat,
            needs_sat: self.closing.needs(&id).map(Amount::to_sat),
        })
    }

    /// Outputs that are ours alone, and in no transaction yet that the wallet knows, by channel.
    fn unswept(&self) -> HashMap<ChannelId, u64> {
        let mut unswept = HashMap::new();
        for output in self.sweeper.tracked_spendable_outputs() {
            let waits = match &output.status {
                OutputSpendStatus::PendingInitialBroadcast { .. } => true,
                OutputSpendStatus::PendingFirstConfirmation { latest_spending_tx, .. } => {
                    !self.wallet.awaits(&latest_spending_tx.compute_txid())
                }
                OutputSpendStatus::PendingThresholdConfirmations { .. } => false,
            };
            let value = match &output.descriptor {
                SpendableOutputDescriptor::StaticOutput { output, .. } => output.value,
                SpendableOutputDescriptor::DelayedPaymentOutput(descriptor) => descriptor.output.value,
                SpendableOutputDescriptor::StaticPaymentOutput(descriptor) => descriptor.output.value,
            };
            if let Some(id) = output.channel_id.filter(|_| waits) {
                *unswept.entry(id).or_default() += value.to_sat();
            }
        }
        unswept
    }
}

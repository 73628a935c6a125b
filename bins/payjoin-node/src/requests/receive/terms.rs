//! The terms of a code: what its payment will do, said before anybody pays.

use bitcoin::Amount;
use bitcoin::amount::serde::as_sat;
use payjoin_core::{ChannelAmount, ChannelWish, IntentId, PeerAddress, Reserve};
use schemars::JsonSchema;
use serde::Serialize;

use crate::values::sat_or_rest;

/// What a payment of the code will do, as far as it is known now: peers may refuse, and the payer chooses the fee rate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Terms {
    /// All of it in one sentence.
    pub text: String,
    /// The channels that it opens.
    pub channels: Vec<OfferedChannel>,
    /// What stays in the wallet so that these channels can be closed.
    #[serde(rename = "reserve_sat", with = "as_sat")]
    #[schemars(with = "u64")]
    pub reserve: Amount,
    /// What we pay the miners at most.
    #[serde(rename = "fees_up_to_sat", with = "as_sat")]
    #[schemars(with = "u64")]
    pub fees: Amount,
    /// What of the channels coins of ours pay for, beyond fees: nothing without `--top-up` and `[policy] top_up`.
    #[serde(rename = "from_wallet_sat", with = "as_sat")]
    #[schemars(with = "u64")]
    pub from_wallet: Amount,
}

/// A channel that a payment will open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct OfferedChannel {
    /// Its intent.
    pub intent: IntentId,
    /// With whom.
    pub peer: PeerAddress,
    /// Its value, `"rest"` or `"absorb"`.
    #[serde(rename = "amount_sat", serialize_with = "sat_or_rest")]
    #[schemars(schema_with = "crate::values::schema::sat_or_rest")]
    pub amount: ChannelAmount,
}

/// What terms are made of.
pub(super) struct Offer<'a> {
    /// What is asked for; without one no channel is queued.
    pub(super) payment: Amount,
    /// Queued channels that may open now, with their peers.
    pub(super) wishes: &'a [(ChannelWish, PeerAddress)],
    /// Coins of ours may make up for what the payment lacks.
    pub(super) top_up: bool,
    /// What the wallet has and needs.
    pub(super) reserve: Reserve,
    /// Our part of the fees by the number of channels, at most.
    pub(super) fees: &'a dyn Fn(usize) -> Amount,
    /// Why no channel can open, whatever is paid.
    pub(super) obstacle: Option<String>,
}

impl Offer<'_> {
    /// The channels in their order, each that fits: as [`plan`](payjoin_core::plan) chooses.
    pub(super) fn terms(self) -> Terms {
        let (mut chosen, mut lacking) = (Vec::new(), None);
        for wish in self.wishes.iter().filter(|_| self.obstacle.is_none()) {
            chosen.push(wish);
            if let Err(why) = self.fits(&chosen) {
                chosen.pop();
                lacking = lacking.or(Some((wish.0.id, why)));
            }
        }
        let channels: Vec<_> = chosen
            .iter()
            .map(|(wish, peer)| OfferedChannel { intent: wish.id, peer: peer.clone(), amount: wish.amount })
            .collect();
        let from_wallet = sum(&chosen).checked_sub(self.payment).unwrap_or_default();
        let fees = (self.fees)(channels.len());
        let reserve =
            self.reserve.per_channel.checked_mul(channels.len() as u64).unwrap_or(Amount::MAX_MONEY);
        let text = match channels.is_empty() {
            true => self.nothing(lacking),
            false => told(&channels, (reserve, fees, from_wallet), lacking),
        };
        Terms { text, channels, reserve, fees, from_wallet }
    }

    /// Whether these channels can be paid for. What they lack, else: of the payment, or of everything.
    fn fits(&self, chosen: &[&(ChannelWish, PeerAddress)]) -> Result<(), Lacking> {
        let count = chosen.len();
        let after = self.reserve.per_channel.checked_mul(count as u64);
        let after = after.and_then(|after| after.checked_add(self.reserve.existing));
        let spent = sum(chosen);
        let all = after.and_then(|after| after.checked_add(spent)?.checked_add((self.fees)(count)));
        let funds = self.reserve.balance.checked_add(self.payment).unwrap_or(Amount::MAX_MONEY);
        match (all, spent.checked_sub(self.payment)) {
            (None, _) => Err(Lacking::Funds(Amount::MAX_MONEY)),
            (Some(all), _) if all > funds => Err(Lacking::Funds(all.checked_sub(funds).unwrap_or_default())),
            (_, Some(more)) if more > Amount::ZERO && !self.top_up => Err(Lacking::Payment(more)),
            _ => Ok(()),
        }
    }

    /// Why no channel opens, and what happens instead.
    fn nothing(&self, lacking: Option<(IntentId, Lacking)>) -> String {
        let why = match (&self.obstacle, lacking) {
            (Some(obstacle), _) => return format!("opens no channel: {obstacle}"),
            (None, Some((intent, lacking))) => format!("intent {} {lacking}", intent.0),
            (None, None) => "none is queued (`channel queue`)".to_owned(),
        };
        format!("opens no channel: {why}; the payment arrives on chain")
    }
}

/// What a channel lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lacking {
    /// Of the payment: our coins could make up for it.
    Payment(Amount),
    /// Of payment and wallet together.
    Funds(Amount),
}

impl std::fmt::Display for Lacking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Payment(more) => write!(
                f,
                "needs {} sat more than the payment: ask for more, or take them from the wallet with --top-up",
                more.to_sat()
            ),
            Self::Funds(more) => {
                write!(f, "needs {} sat more than payment and wallet have", more.to_sat())
            }
        }
    }
}

/// What channels take at least.
fn sum(chosen: &[&(ChannelWish, PeerAddress)]) -> Amount {
    let least = chosen.iter().map(|(wish, _)| wish.least());
    least.fold(Amount::ZERO, |sum, amount| sum.checked_add(amount).unwrap_or(Amount::MAX_MONEY))
}

fn told(
    channels: &[OfferedChannel],
    (reserve, fees, from_wallet): (Amount, Amount, Amount),
    lacking: Option<(IntentId, Lacking)>,
) -> String {
    let named = channels.iter().map(|channel| {
        let peer = channel.peer.to_string();
        match channel.amount {
            ChannelAmount::Exact(amount) => format!("{} sat with {peer}", amount.to_sat()),
            ChannelAmount::Rest => format!("what is left of the payment with {peer}"),
            ChannelAmount::Absorb => format!("the payment and coins of ours, whole, with {peer}"),
        }
    });
    let named = named.collect::<Vec<_>>().join(", ");
    let (reserve, fees, from_wallet) = (reserve.to_sat(), fees.to_sat(), from_wallet.to_sat());
    let rest = lacking.map(|(intent, why)| format!("; not intent {}: it {why}", intent.0));
    format!(
        "opens {named}; reserve {reserve} sat, our fees up to {fees} sat, from the wallet {from_wallet} sat{}",
        rest.unwrap_or_default()
    )
}

/// See [`Code::observer`](super::Code::observer); `exchange show` counts afterwards.
pub(super) fn observer(wishes: &[ChannelWish]) -> &'static str {
    match wishes.iter().map(|wish| wish.amount).next() {
        None => "the payment and a coin of ours become one output: it looks like the payment of one wallet",
        Some(ChannelAmount::Absorb) => {
            "the channel takes payment and coin whole: it looks like the payment of one wallet, where the payer's wallet and \
             our reserve allow it"
        }
        Some(_) => {
            "a coin of ours comes back beside the channel: the amounts may show which inputs and outputs are ours"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798@127.0.0.1:9735";

    fn wish(id: u64, amount: ChannelAmount) -> (ChannelWish, PeerAddress) {
        let (min, max) = (Amount::from_sat(20_000), Amount::from_sat(1_000_000));
        (ChannelWish { id: IntentId(id), amount, min, max }, PEER.parse().unwrap())
    }

    fn exact(sat: u64) -> ChannelAmount {
        ChannelAmount::Exact(Amount::from_sat(sat))
    }

    fn offer(payment: u64, balance: u64, top_up: bool, wishes: &[(ChannelWish, PeerAddress)]) -> Terms {
        let sat = Amount::from_sat;
        let (existing, per_channel) = (Amount::ZERO, sat(10_000));
        let reserve = Reserve { balance: sat(balance), existing, per_channel, stock: None };
        let (payment, fees, obstacle) = (sat(payment), &|count| sat(1_000 * count as u64), None);
        Offer { payment, wishes, top_up, reserve, fees, obstacle }.terms()
    }

    fn opened(terms: &Terms) -> Vec<u64> {
        terms.channels.iter().map(|channel| channel.intent.0).collect()
    }

    #[test]
    fn money_rule_13_no_code_says_that_coins_of_ours_go_into_channels_unless_it_may() {
        let wishes = [wish(1, exact(500_000))];
        let without = offer(10_000, 800_000, false, &wishes);
        assert_eq!((opened(&without), without.from_wallet), (vec![], Amount::ZERO));
        assert!(without.text.contains("needs 490000 sat more than the payment"), "{}", without.text);
        assert!(without.text.contains("--top-up") && without.text.contains("arrives on chain"));
        let with = offer(10_000, 800_000, true, &wishes);
        assert_eq!((opened(&with), with.from_wallet.to_sat()), (vec![1], 490_000));
        assert!(with.text.contains("from the wallet 490000 sat"), "{}", with.text);
    }

    #[test]
    fn what_a_payment_opens_is_told_with_what_it_costs() {
        let wishes = [wish(1, exact(100_000)), wish(2, exact(900_000)), wish(3, ChannelAmount::Rest)];
        let terms = offer(200_000, 50_000, false, &wishes);
        assert_eq!(opened(&terms), [1, 3]);
        assert_eq!(
            (terms.reserve.to_sat(), terms.fees.to_sat(), terms.from_wallet.to_sat()),
            (20_000, 2_000, 0)
        );
        let text = format!(
            "opens 100000 sat with {PEER}, what is left of the payment with {PEER}; reserve 20000 sat, our fees up to \
             2000 sat, from the wallet 0 sat; not intent 2: it needs 772000 sat more than payment and wallet have"
        );
        assert_eq!(terms.text, text);
    }

    #[test]
    fn where_no_channel_opens_it_says_why_and_what_happens() {
        assert_eq!(
            offer(9_000, 0, false, &[]).text,
            "opens no channel: none is queued (`channel queue`); the payment arrives on chain"
        );
        let poor = offer(100_000, 0, true, &[wish(7, exact(95_000))]);
        assert!(
            poor.text.contains("intent 7 needs 6000 sat more than payment and wallet have"),
            "{}",
            poor.text
        );
    }
}

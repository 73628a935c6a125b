//! What peers say when they refuse a channel, read as a reason that tells the operator what to do.
//!
//! BOLT 1 leaves the text of an `error` free. These are the texts of LDK 0.2, Core Lightning 26.06, LND 0.21 and Eclair;
//! of LDK also those that our own node gives when it does not like the peer's terms.

use bitcoin::{Amount, Denomination};
use payjoin_core::FailureKind;

/// A text that tells of a refusal, and what it means.
struct Known {
    /// All of them are in the text.
    words: &'static [&'static str],
    kind: FailureKind,
    reason: Reason,
}

enum Reason {
    Text(&'static str),
    /// With the amount that follows these words, where there is one.
    Bound {
        words: &'static [&'static str],
        begin: &'static str,
        end: &'static str,
    },
}

use FailureKind::{Full, Refused};
use Reason::{Bound, Text};

const fn known(words: &'static [&'static str], kind: FailureKind, reason: Reason) -> Known {
    Known { words, kind, reason }
}

const SMALL: &str = "the peer wants a larger channel";
const LARGE: &str = "the peer wants a smaller channel";
const OTHER_SIZE: &str = ": cancel this one and queue another";
const FULL: Reason = Text(
    "the peer takes no further channel whose funding is not confirmed: wait, or ask its operator to allow more",
);
const MANY_AT_ONCE: Reason = Text("the peer opens one channel at a time");
const RATE: Reason =
    Text("the two nodes disagree about the fee rate for the commitment: see that both have fee estimates");
const SYNC: Reason = Text("the peer has not caught up with the chain: it is tried again");
const DELAY: Reason = Text(
    "the peer asks for a longer delay after a forced close than we accept: ask its operator for a shorter one",
);
const RESERVE: Reason =
    Text("the channel is too small for the reserve that the two nodes ask for: queue a larger one");
const FEATURE: Reason = Text("the peer does not support this kind of channel: it may be too old");

/// The first that fits counts.
const KNOWN: &[Known] = &[
    known(&["pending channels exceed maximum"], Full, FULL),
    known(&["Refusing more than", "unfunded channels"], Full, FULL),
    known(&["many peers with unfunded channels"], Full, FULL),
    known(&["rate limit reached"], Full, FULL),
    known(&["too many pending channels"], Full, FULL),
    known(&["Multiple simultaneous opens not supported"], Refused, MANY_AT_ONCE),
    known(&["Multiple channels unsupported"], Refused, MANY_AT_ONCE),
    known(
        &["below min chan size"],
        Refused,
        Bound { words: &["min chan size of "], begin: SMALL, end: OTHER_SIZE },
    ),
    known(
        &["Funding satoshis", "less than the user specified limit"],
        Refused,
        Bound { words: &["user specified limit ("], begin: SMALL, end: OTHER_SIZE },
    ),
    known(
        &["channel capacity is", "which is below"],
        Refused,
        Bound {
            words: &["which is below "],
            begin: "the peer wants more to be usable of the channel",
            end: OTHER_SIZE,
        },
    ),
    known(&["invalid funding_", "min="], Refused, Bound { words: &["min="], begin: SMALL, end: OTHER_SIZE }),
    known(&["too small for chosen parameters"], Refused, Bound { words: &[], begin: SMALL, end: OTHER_SIZE }),
    known(&["smaller than", "channel value"], Refused, Bound { words: &[], begin: SMALL, end: OTHER_SIZE }),
    known(
        &["exceeds maximum chan size"],
        Refused,
        Bound { words: &["maximum chan size of "], begin: LARGE, end: OTHER_SIZE },
    ),
    known(&["channel too large"], Refused, Bound { words: &[], begin: LARGE, end: OTHER_SIZE }),
    known(
        &["funding must be at most"],
        Refused,
        Bound { words: &["at most "], begin: LARGE, end: OTHER_SIZE },
    ),
    known(
        &["funding_satoshis must be <"],
        Refused,
        Bound { words: &["must be < "], begin: LARGE, end: OTHER_SIZE },
    ),
    known(&["funding_satoshis", "too large"], Refused, Bound { words: &[], begin: LARGE, end: OTHER_SIZE }),
    known(&["Synchronizing blockchain"], Refused, SYNC),
    known(&["not synced"], Refused, SYNC),
    known(&["still syncing"], Refused, SYNC),
    known(&["feerate"], Refused, RATE),
    known(&["fee rate"], Refused, RATE),
    known(
        &["CSV delay too large"],
        Refused,
        Text("the peer takes no delay as long as ours after a forced close"),
    ),
    known(&["needlessly long period"], Refused, DELAY),
    known(&["to_self_delay"], Refused, DELAY),
    known(
        &["minimum depth", "unreasonably large"],
        Refused,
        Text("the peer asks for more confirmations than we accept"),
    ),
    known(
        &["push amounts are disabled"],
        Refused,
        Text("the peer takes no gift: queue the channel without `--push`"),
    ),
    known(&["reserve"], Refused, RESERVE),
    known(&["hannel type"], Refused, FEATURE),
    known(&["channel_type"], Refused, FEATURE),
    known(&["feature"], Refused, FEATURE),
    known(
        &["internal error"],
        Refused,
        Text(
            "the peer does not say why; an LND that has not caught up with the chain says no more: ask its operator",
        ),
    ),
    known(&["not accepted"], Refused, Text(UNWANTED)),
    known(&["rejected"], Refused, Text(UNWANTED)),
    known(&["not accepting"], Refused, Text(UNWANTED)),
];

const UNWANTED: &str =
    "the peer's operator does not want this channel: ask him, or queue one with another peer";

/// What the peer's words mean. Words that nobody knows are given as they are.
pub(crate) fn read(said: &str) -> (FailureKind, String) {
    let found = KNOWN.iter().find(|known| known.words.iter().all(|word| said.contains(word)));
    match found {
        Some(Known { kind, reason: Text(text), .. }) => (*kind, (*text).to_owned()),
        Some(Known { kind, reason: Bound { words, begin, end }, .. }) => {
            let bound = words.iter().find_map(|words| amount_after(said, words));
            let bound = bound.map(|amount| format!(" ({} sat)", amount.to_sat())).unwrap_or_default();
            (*kind, format!("{begin}{bound}{end}"))
        }
        None => (Refused, format!("the peer refuses: {said}")),
    }
}

/// The amount behind these words: a number with `BTC`, `msat`, `sat` or, for satoshis, nothing behind it.
fn amount_after(text: &str, words: &str) -> Option<Amount> {
    let (_, rest) = text.split_once(words)?;
    let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (number, unit) = rest.split_at(digits);
    let (number, unit) = (number.trim_end_matches('.'), unit.trim_start());
    if unit.starts_with("BTC") {
        Amount::from_str_in(number, Denomination::Bitcoin).ok()
    } else if unit.starts_with("msat") {
        Some(Amount::from_sat(number.parse::<u64>().ok()?.div_ceil(1_000)))
    } else {
        Some(Amount::from_sat(number.parse().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_projects_refusals_are_read() {
        let small = |sat: u64| format!("{SMALL} ({sat} sat){OTHER_SIZE}");
        let large = |sat: u64| format!("{LARGE} ({sat} sat){OTHER_SIZE}");
        for (said, reason) in [
            ("chan size of 0.0002 BTC is below min chan size of 0.0005 BTC", small(50_000)),
            ("Funding satoshis (50000) is less than the user specified limit (100000)", small(100_000)),
            ("invalid funding_amount=20000 sat (min=100000 sat max=16777215 sat)", small(100_000)),
            (
                "You gave bad parameters: channel capacity with funding 20000sat, reserves 0msat/0msat, \
                 max_htlc_value_in_flight_msat is 9msat, channel capacity is 9msat, which is below 10000000msat",
                format!("the peer wants more to be usable of the channel (10000 sat){OTHER_SIZE}"),
            ),
            ("chan size of 0.2 BTC exceeds maximum chan size of 0.16777215 BTC", large(16_777_215)),
            ("Per our config, funding must be at most 16777216. It was 20000000", large(16_777_216)),
            ("funding_satoshis must be < 16777216sat, not 20000000sat", large(16_777_216)),
            ("channel too large", format!("{LARGE}{OTHER_SIZE}")),
        ] {
            assert_eq!(read(said), (Refused, reason), "{said}");
        }
    }

    #[test]
    fn a_peer_without_a_free_slot_is_known_by_its_words() {
        for said in [
            "Number of pending channels exceed maximum",
            "Refusing more than 4 unfunded channels.",
            "Have too many peers with unfunded channels, not accepting new ones",
            "rate limit reached",
        ] {
            assert_eq!(read(said).0, Full, "{said}");
        }
    }

    #[test]
    fn what_a_reason_says_is_what_the_words_mean() {
        for (said, part) in [
            ("Multiple simultaneous opens not supported", "one channel at a time"),
            ("funding failed due to internal error", "caught up with the chain"),
            ("Peer's feerate much too low. Actual: 253. Our expected lower limit: 1000", "fee rate"),
            ("feerate_per_kw 253 below minimum 1000", "fee rate"),
            ("local/remote feerates are too different: remoteFeeratePerKw=1 localFeeratePerKw=9", "fee rate"),
            (
                "They wanted our payments to be delayed by a needlessly long period. Upper limit: 2016. Actual: 9999",
                "longer delay",
            ),
            ("non-zero push amounts are disabled", "--push"),
            ("Did not support channel_type static_remotekey", "too old"),
            ("channel not accepted", "does not want"),
            ("open channel request rejected", "does not want"),
            ("Go away", "the peer refuses: Go away"),
        ] {
            let (kind, reason) = read(said);
            assert_eq!(kind, Refused, "{said}");
            assert!(reason.contains(part), "{said}: {reason}");
        }
    }

    #[test]
    fn an_amount_is_read_in_each_unit_or_not_at_all() {
        let sat = |sat| Some(Amount::from_sat(sat));
        for (text, amount) in [
            ("of 0.0005 BTC", sat(50_000)),
            ("of 50000 sat", sat(50_000)),
            ("of 50001msat", sat(51)),
            ("of 50000)", sat(50_000)),
            ("of 99999999999999999999 sat", None),
            ("of 1.2.3 BTC", None),
            ("of course", None),
            ("nothing", None),
        ] {
            assert_eq!(amount_after(text, "of "), amount, "{text}");
        }
    }
}

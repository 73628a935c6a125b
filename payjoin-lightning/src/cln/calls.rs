//! Every call that is made of lightningd: the rune is made from this list.

/// Name, and what it is for: what receiving needs, and then what single commands need.
const METHODS: [(&str, &str); 19] = [
    ("getinfo", "whose node it is, and whether it has caught up with the chain"),
    ("listconfigs", "what lightningd keeps back to close channels"),
    ("listaddresses", "which scripts are lightningd's"),
    ("listfunds", "the coins that may be offered"),
    ("listpeerchannels", "the channels, and what a crash left of them"),
    ("listclosedchannels", "how a channel of ours ended"),
    ("listpeers", "who is connected"),
    ("connect", "reaches the peers of queued channels"),
    ("disconnect", "ends an opening that cannot be cancelled otherwise"),
    ("fundchannel_start", "opens a channel that the payjoin funds"),
    ("fundchannel_complete", "gives an opening its transaction"),
    ("fundchannel_cancel", "cancels an opening"),
    ("reserveinputs", "locks the coins that are offered"),
    ("unreserveinputs", "unlocks the coins of a payment that is over"),
    ("signpsbt", "signs the coins that are offered"),
    ("newaddr", "the addresses of codes"),
    ("invoice", "`payjoind invoice`"),
    ("pay", "`payjoind pay`"),
    ("close", "`payjoind channel close`"),
];

/// The methods that the rune needs, each with what it is for.
#[must_use]
pub fn methods() -> &'static [(&'static str, &'static str)] {
    &METHODS
}

/// The line that makes the smallest rune.
#[must_use]
pub fn rune_line() -> String {
    let methods: Vec<_> = METHODS.iter().map(|(method, _)| format!("\"method={method}\"")).collect();
    format!("lightning-cli createrune restrictions='[[{}]]'", methods.join(","))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_method_that_is_called_is_in_the_rune_and_no_other_one() {
        let sources = [
            include_str!("../cln.rs"),
            include_str!("funder.rs"),
            include_str!("lightning.rs"),
            include_str!("wallet.rs"),
        ];
        let named = sources.iter().flat_map(|source| {
            let constants = source.split("METHOD: &str = \"").skip(1);
            let more = ["FUNDS: &str = \"", "ADDRESSES: &str = \""];
            let more = more.into_iter().flat_map(|begin| source.split(begin).skip(1));
            let calls = ["rpc.call(\"", "rpc.ask(\""];
            let calls = calls.into_iter().flat_map(|begin| source.split(begin).skip(1));
            constants.chain(more).chain(calls).filter_map(|rest| rest.split('"').next())
        });
        let called: BTreeSet<_> = named.collect();
        assert_eq!(called, METHODS.iter().map(|(method, _)| *method).collect());
    }

    #[test]
    fn the_page_of_the_operator_has_the_line_that_makes_the_rune() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/core-lightning.md");
        let page = std::fs::read_to_string(page).unwrap();
        assert!(page.contains(&rune_line()), "{}", rune_line());
        for (method, purpose) in methods() {
            assert!(page.contains(&format!("| `{method}` | {purpose} |")), "{method}");
        }
    }
}

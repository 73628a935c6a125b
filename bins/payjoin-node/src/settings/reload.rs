//! What a running node takes over from settings that were changed.

use payjoin_core::Policy;
use serde_json::Value;

use super::Settings;

/// Those that need no restart: limits that are looked at for each payment.
const TAKEN: [&str; 6] = [
    "[policy] `min_fee_rate`",
    "[policy] `max_fee_rate`",
    "[policy] `max_fee`",
    "[policy] `top_up`",
    "[policy] `offers_per_invoice`",
    "[policy] `wasted_a_day`",
];

impl Settings {
    /// The settings that a running node takes over, by section and name; all others need a restart.
    #[must_use]
    pub fn taken_while_running() -> &'static [&'static str] {
        &TAKEN
    }

    /// What is set otherwise there: what is taken over, and what needs a restart.
    pub(crate) fn changes(&self, other: &Self) -> (Vec<String>, Vec<String>) {
        let (ours, theirs) = (serde_json::to_value(self), serde_json::to_value(other));
        let (Ok(ours), Ok(theirs)) = (ours, theirs) else { return (Vec::new(), Vec::new()) };
        let mut changed = Vec::new();
        for (name, value) in ours.as_object().into_iter().flatten() {
            match (value, theirs.get(name)) {
                (Value::Object(section), Some(Value::Object(others))) => {
                    let differs = section.iter().filter(|(name, value)| others.get(*name) != Some(value));
                    changed.extend(differs.map(|(setting, _)| format!("[{name}] `{setting}`")));
                }
                (value, other) if other != Some(value) => changed.push(format!("`{name}`")),
                _ => {}
            }
        }
        changed.into_iter().partition(|name| TAKEN.contains(&name.as_str()))
    }

    /// The policy of these settings as far as a running node takes it over, and otherwise that of `running`.
    pub(crate) fn policy_over(&self, running: Policy) -> Policy {
        let Policy { min_fee_rate, max_fee_rate, max_fee, top_up, offers_per_invoice, wasted_a_day, .. } =
            self.policy();
        Policy { min_fee_rate, max_fee_rate, max_fee, top_up, offers_per_invoice, wasted_a_day, ..running }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_changed_is_named_and_only_what_is_looked_at_for_each_payment_is_taken_over() {
        let (running, mut new) = (Settings::default(), Settings::default());
        assert_eq!(running.changes(&new), (vec![], vec![]));
        new.network = bitcoin::Network::Regtest;
        (new.policy.max_fee, new.policy.burial, new.policy.top_up) = (7, 9, true);
        new.bitcoind.password = Some("secret".into());
        new.payjoin.directories = vec!["https://directory.example".into()];
        let (taken, restart) = running.changes(&new);
        assert_eq!(taken, ["[policy] `max_fee`", "[policy] `top_up`"]);
        assert_eq!(
            restart,
            ["`network`", "[bitcoind] `password`", "[payjoin] `directories`", "[policy] `burial`"]
        );
        let policy = new.policy_over(running.policy());
        assert_eq!((policy.max_fee.to_sat(), policy.top_up), (7, true));
        assert_eq!(policy.burial, running.policy().burial);
    }
}

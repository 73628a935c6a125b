//! `payjoind.toml`.

use payjoin_node::Settings;

/// A file that is read is checked, and what follows from it is there.
pub fn settings(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(settings) = toml::from_str::<Settings>(text) else { return };
    if settings.check().is_ok() {
        let policy = settings.policy();
        assert!(policy.burial > 0, "{policy:?}");
        assert!(settings.bitcoind_url().starts_with("http"), "{}", settings.bitcoind_url());
    }
}

//! Programs of other projects, at pinned versions, built by cargo into the target folder.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::Value;

use xtask_programs::{process, workspace};

struct Tool {
    name: &'static str,
    version: &'static str,
    features: &'static [&'static str],
}

/// The reference sender, and the receiver that the bench compares with.
const PAYJOIN_CLI: Tool = Tool { name: "payjoin-cli", version: "1.0.0", features: &["v1", "_manual-tls"] };

/// The reference sender of 2025, with its own rules for proposals. It trusts the roots that SSL_CERT_FILE names.
const PAYJOIN_CLI_OLD: Tool =
    Tool { name: "payjoin-cli", version: "0.2.0", features: &["v1", "native-certs"] };

/// The reference relay and directory of BIP 77.
const MAILROOM: Tool = Tool { name: "payjoin-mailroom", version: "0.1.3", features: &[] };

/// Makes packages for Debian out of what a Cargo.toml says.
const CARGO_DEB: Tool = Tool { name: "cargo-deb", version: "3.8.0", features: &[] };

/// The reference payjoin wallet, in a debug build.
pub(crate) fn payjoin_cli() -> Result<PathBuf> {
    PAYJOIN_CLI.provide(&debug(), &["--debug"])
}

/// The reference payjoin wallet, in a release build.
pub(crate) fn payjoin_cli_release() -> Result<PathBuf> {
    PAYJOIN_CLI.provide(&release(), &[])
}

/// The reference payjoin wallet of 2025, in a debug build.
pub(crate) fn payjoin_cli_old() -> Result<PathBuf> {
    PAYJOIN_CLI_OLD.provide(&workspace::target().join("tools-old"), &["--debug"])
}

/// The reference relay and directory, in a debug build.
pub(crate) fn mailroom() -> Result<PathBuf> {
    MAILROOM.provide(&debug(), &["--debug"])
}

/// The reference relay and directory, in a release build.
pub(crate) fn mailroom_release() -> Result<PathBuf> {
    MAILROOM.provide(&release(), &[])
}

/// cargo-deb, in a debug build.
pub(crate) fn cargo_deb() -> Result<PathBuf> {
    CARGO_DEB.provide(&workspace::target().join("tools-deb"), &["--debug"])
}

fn release() -> PathBuf {
    workspace::target().join("tools-release")
}

fn debug() -> PathBuf {
    workspace::target().join("tools")
}

impl Tool {
    fn provide(&self, root: &Path, profile: &[&str]) -> Result<PathBuf> {
        let _lock = process::lock(&root.join("lock"))?;
        let program = root.join("bin").join(self.name);
        let record = fs::read_to_string(root.join(".crates2.json")).unwrap_or_default();
        if !(program.is_file() && self.is_recorded(&record)) {
            eprintln!("building {} {} (a minute or two, once)", self.name, self.version);
            self.install(root, profile)?;
        }
        Ok(program)
    }

    fn install(&self, root: &Path, profile: &[&str]) -> Result<()> {
        process::run(
            workspace::cargo()
                .args(["install", "--locked", "--force", "--root"])
                .arg(root)
                .args(profile)
                .arg(format!("--features={}", self.features.join(",")))
                .arg(format!("{}@{}", self.name, self.version)),
        )
    }

    /// Does cargo's own record of installed programs name this version with these features?
    fn is_recorded(&self, record: &str) -> bool {
        let record: Value = serde_json::from_str(record).unwrap_or_default();
        let prefix = format!("{} {} ", self.name, self.version);
        let installs = record["installs"].as_object();
        let entry = installs.and_then(|all| all.iter().find(|(key, _)| key.starts_with(&prefix)));
        entry.is_some_and(|(_, entry)| {
            let features = entry["features"].as_array().into_iter().flatten().filter_map(Value::as_str);
            features.collect::<BTreeSet<_>>() == self.features.iter().copied().collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, features: &str) -> String {
        format!(r#"{{"installs":{{"{name} (registry+x)":{{"features":{features},"profile":"dev"}}}}}}"#)
    }

    #[test]
    fn only_the_pinned_version_with_exactly_its_features_counts_as_installed() {
        assert!(PAYJOIN_CLI.is_recorded(&record("payjoin-cli 1.0.0", r#"["_manual-tls","v1"]"#)));
        assert!(!PAYJOIN_CLI.is_recorded(&record("payjoin-cli 1.0.1", r#"["_manual-tls","v1"]"#)));
        assert!(!PAYJOIN_CLI.is_recorded(&record("payjoin-cli 1.0.0", r#"["v1"]"#)));
        assert!(!PAYJOIN_CLI.is_recorded(""));
        assert!(MAILROOM.is_recorded(&record("payjoin-mailroom 0.1.3", "[]")));
    }
}

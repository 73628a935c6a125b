//! Licences, sources and duplicate versions of everything that we build on, by the rules of `deny.toml`.
//!
//! cargo-deny reads the same file and knows advisories, too; where it is installed, it is run as well. It is not
//! required: it takes minutes to build, and its advisories come over the network.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use xtask_programs::{process, workspace};

use crate::metadata;

pub(super) fn check() -> Result<()> {
    let rules: toml::Table = fs::read_to_string(workspace::root().join("deny.toml"))?.parse()?;
    let metadata = metadata::read(true)?;
    let packages = metadata["packages"].as_array().context("metadata without packages")?;
    let verdict = judge(&rules, packages)?;
    for warning in &verdict.warnings {
        eprintln!("warning: {warning}");
    }
    for error in &verdict.errors {
        eprintln!("error: {error}");
    }
    if !verdict.errors.is_empty() {
        bail!("{} broken rules of deny.toml", verdict.errors.len());
    }
    if process::output(Command::new("cargo-deny").arg("--version")).is_ok() {
        process::run(workspace::cargo().args(["deny", "check"]))?;
    }
    Ok(())
}

#[derive(Debug, Default)]
struct Verdict {
    errors: Vec<String>,
    warnings: Vec<String>,
}

fn judge(rules: &toml::Table, packages: &[Value]) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    let licenses = &rules["licenses"];
    let allowed = names(licenses, "allow");
    let exceptions = licenses.get("exceptions").and_then(toml::Value::as_array).into_iter().flatten();
    let exceptions: BTreeMap<_, _> = exceptions
        .filter_map(|exception| Some((exception["crate"].as_str()?, names(exception, "allow"))))
        .collect();
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in packages {
        let text = |field: &str| package[field].as_str().unwrap_or_default();
        let (name, version, license) = (text("name"), text("version"), text("license"));
        let excepted = exceptions.get(name).is_some_and(|allowed| permits(license, allowed));
        if !excepted && !permits(license, &allowed) {
            verdict.errors.push(format!("{name} {version}: licence `{license}` is not allowed"));
        }
        if text("source").starts_with("git+") {
            verdict.errors.push(format!("{name} {version} comes from a git repository"));
        }
        versions.entry(name).or_default().push(version);
    }
    judge_versions(rules, &versions, &mut verdict);
    Ok(verdict)
}

fn names<'a>(table: &'a toml::Value, list: &str) -> BTreeSet<&'a str> {
    let list = table.get(list).and_then(toml::Value::as_array).into_iter().flatten();
    list.filter_map(toml::Value::as_str).collect()
}

fn judge_versions(rules: &toml::Table, versions: &BTreeMap<&str, Vec<&str>>, verdict: &mut Verdict) {
    let banned = rules["bans"]["deny"].as_array().into_iter().flatten();
    let banned: BTreeMap<&str, bool> = banned
        .filter_map(|ban| {
            let duplicates = ban.get("deny-multiple-versions").and_then(toml::Value::as_bool);
            Some((ban["crate"].as_str()?, duplicates.unwrap_or(false)))
        })
        .collect();
    for (name, found) in versions {
        match banned.get(name) {
            Some(false) => verdict.errors.push(format!("{name} is banned")),
            Some(true) if found.len() > 1 => {
                verdict.errors.push(format!("{name} is there more than once: {}", found.join(", ")));
            }
            None if found.len() > 1 => verdict.warnings.push(format!("{name}: {}", found.join(", "))),
            _ => {}
        }
    }
}

/// Does an SPDX expression leave us a choice of allowed licences? Reads `OR`, `AND`, parentheses and the old `/`;
/// a `WITH` exception only ever permits more.
fn permits(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    let permitted = any(&mut words, allowed);
    permitted && words.peek().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any(words: &mut Words<'_>, allowed: &BTreeSet<&str>) -> bool {
    let mut permitted = all(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        permitted |= all(words, allowed);
    }
    permitted
}

fn all(words: &mut Words<'_>, allowed: &BTreeSet<&str>) -> bool {
    let mut permitted = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        permitted &= one(words, allowed);
    }
    permitted
}

fn one(words: &mut Words<'_>, allowed: &BTreeSet<&str>) -> bool {
    if words.next_if_eq(&"(").is_some() {
        let permitted = any(words, allowed);
        return words.next() == Some(")") && permitted;
    }
    let permitted = words.next().is_some_and(|license| allowed.contains(license));
    if words.next_if_eq(&"WITH").is_some() {
        return words.next().is_some() && permitted;
    }
    permitted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_permits_when_a_choice_of_allowed_licences_exists() {
        let allowed = BTreeSet::from(["MIT", "Apache-2.0", "Unicode-3.0"]);
        for good in [
            "MIT",
            "MIT/GPL-3.0",
            "GPL-3.0 OR MIT",
            "(MIT OR GPL-3.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception",
            "Apache-2.0 WITH LLVM-exception OR GPL-3.0",
        ] {
            assert!(permits(good, &allowed), "{good}");
        }
        for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT", "MIT MIT", "MIT)"] {
            assert!(!permits(bad, &allowed), "{bad}");
        }
    }

    fn verdict(packages: &[(&str, &str, &str, &str)]) -> Verdict {
        let rules = "[licenses]\nallow = ['MIT']\nexceptions = [{ crate = 'odd', allow = ['LGPL-3.0'] }]\n\
                     [bans]\ndeny = [{ crate = 'bitcoin', deny-multiple-versions = true }, \
                     { crate = 'openssl-sys' }]\n";
        let packages: Vec<_> = packages
            .iter()
            .map(|(name, version, license, source)| {
                serde_json::json!({ "name": name, "version": version, "license": license, "source": source })
            })
            .collect();
        judge(&rules.parse().unwrap(), &packages).unwrap()
    }

    #[test]
    fn each_broken_rule_is_an_error_and_a_harmless_duplicate_a_warning() {
        let good = verdict(&[("a", "1.0.0", "MIT", "registry"), ("a", "2.0.0", "MIT", "registry")]);
        assert_eq!((good.errors.len(), good.warnings.len()), (0, 1));
        assert!(verdict(&[("odd", "1.0.0", "LGPL-3.0", "registry")]).errors.is_empty());
        for bad in [
            &[("a", "1.0.0", "LGPL-3.0", "registry")][..],
            &[("a", "1.0.0", "MIT", "git+https://example.com")],
            &[("openssl-sys", "1.0.0", "MIT", "registry")],
            &[("bitcoin", "0.31.0", "MIT", "registry"), ("bitcoin", "0.32.0", "MIT", "registry")],
        ] {
            assert_eq!(verdict(bad).errors.len(), 1, "{bad:?}");
        }
    }
}
